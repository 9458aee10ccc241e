//! What can stop a step, and which of three fates it has: tried again, halted, or the caller's to mend.

use std::io;
use std::path::Path;

use super::handover::HandoverError;
use crate::anchor::AnchorError;
use crate::archive::PinError;
use crate::core::finding::Refused;
use crate::core::rules::Fault;
use crate::core::segment::build::BuildError;
use crate::ingest::SourceError;
use crate::journal::{Fate, Halt, JournalError};
use crate::keyring::KeyringError;
use crate::registry::RegistryError;

use crate::core::time::Timestamp;

/// Why a step of the log did not happen.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A source ended.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A pin target.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A witness or time-stamp authority.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// A segment was not built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The audit would refuse what we were about to write.
    #[error("an entry was about to break a rule of the log: {0}")]
    Unsound(#[from] Fault),
    /// Bytes of our own that do not read.
    #[error("{doing}: {refused}")]
    Own {
        /// What was being read or written.
        doing: &'static str,
        /// What is wrong with it.
        refused: Refused,
    },
    /// The broker's last archived record is another one than it was, or gone from a topic that is not compacted.
    #[error("topic {topic}, partition {partition}: the record that was archived from offset {offset} is {found}")]
    Rewritten {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u64,
        /// The offset.
        offset: u64,
        /// What is there now.
        found: &'static str,
    },
    /// The same topic name at another cluster.
    #[error("topic {topic}: declared at cluster {expected}, found at cluster {found}")]
    OtherCluster {
        /// The topic.
        topic: String,
        /// The cluster declared.
        expected: String,
        /// The cluster found.
        found: String,
    },
    /// The key file is not the log's key.
    #[error("key mismatch: the log's key is {expected}, the key file holds {found}")]
    OtherKey {
        /// The log's vkey.
        expected: String,
        /// The vkey of the file.
        found: String,
    },
    /// The log is not handed over to another key.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The log was closed by its last entry.
    #[error("log {0} is closed: nothing follows its last entry")]
    Closed(String),
    /// A key that should be there is not.
    #[error("{0}: its key is gone")]
    KeyGone(String),
    /// A file of our own could not be used.
    #[error("{doing} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operating system gave no thread.
    #[error("the operating system gives no thread: {0}")]
    Thread(#[source] io::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandom,
}

impl SidecarError {
    /// Says of an error of the system what was being done to which file.
    pub(super) fn file<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SidecarError + Copy + 'a {
        move |source| SidecarError::File { doing, path: path.to_path_buf(), source }
    }

    /// Whether our own state is in doubt: then everything stops until a person decides.
    pub fn is_halt(&self) -> bool {
        match self {
            SidecarError::Journal(error) => error.fate() != Fate::Retry,
            SidecarError::Keyring(error) => !error.is_retryable(),
            SidecarError::Source(error) => error.is_halt(),
            SidecarError::Pin(error) => error.halts(),
            SidecarError::Registry(error) => error.is_halt(),
            SidecarError::Anchor(error) => error.halts(),
            SidecarError::Build(error) => matches!(error, BuildError::Unsound(_)),
            SidecarError::File { .. }
            | SidecarError::Thread(_)
            | SidecarError::NoRandom
            | SidecarError::Handover(_) => false,
            SidecarError::Unsound(_)
            | SidecarError::Own { .. }
            | SidecarError::Rewritten { .. }
            | SidecarError::OtherCluster { .. }
            | SidecarError::OtherKey { .. }
            | SidecarError::Closed(_)
            | SidecarError::KeyGone(_) => true,
        }
    }

    /// A short word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            SidecarError::Journal(JournalError::Halted(_)) => "halted",
            SidecarError::Journal(JournalError::Missing(_)) => "no-journal",
            SidecarError::Journal(JournalError::InUse(_)) | SidecarError::Keyring(KeyringError::Busy { .. }) => {
                "in-use"
            }
            SidecarError::Journal(_) => "journal",
            SidecarError::Keyring(_) => "keyring",
            SidecarError::Source(SourceError::Rewritten { .. }) => "rewritten-history",
            SidecarError::Source(_) => "source",
            SidecarError::Pin(_) => "pin",
            SidecarError::Registry(_) => "registry",
            SidecarError::Anchor(_) => "anchor",
            SidecarError::Build(_) => "seal",
            SidecarError::Unsound(_) | SidecarError::Own { .. } => "unsound",
            SidecarError::Rewritten { .. } => "rewritten-history",
            SidecarError::OtherCluster { .. } => "cluster-changed",
            SidecarError::OtherKey { .. } => "other-key",
            SidecarError::Handover(_) => "handover",
            SidecarError::Closed(_) => "closed",
            SidecarError::KeyGone(_) => "key-gone",
            SidecarError::File { .. } => "file",
            SidecarError::Thread(_) => "no-thread",
            SidecarError::NoRandom => "no-random",
        }
    }

    /// What a person does next.
    pub fn hint(&self) -> String {
        match self {
            SidecarError::Journal(error) => error.hint(),
            SidecarError::Keyring(error) => error.hint().to_owned(),
            SidecarError::Source(error) => error.hint().unwrap_or_default().to_owned(),
            SidecarError::Pin(error) => error.hint().to_owned(),
            SidecarError::Registry(error) => registry_hint(error).to_owned(),
            SidecarError::Anchor(error) => error.hint(),
            SidecarError::Build(BuildError::Io(_)) | SidecarError::File { .. } => {
                "check the disk and the permissions of the data directory".to_owned()
            }
            SidecarError::Rewritten { .. } | SidecarError::OtherCluster { .. } => {
                "nothing was folded; if this history is to be taken as new: `pinfold topic adopt`".to_owned()
            }
            SidecarError::OtherKey { .. } => {
                "correct log.key_file; the key changes only by `pinfold key rotate` and `pinfold key revoke`".to_owned()
            }
            SidecarError::Handover(error) => error.hint().to_owned(),
            SidecarError::Closed(_) => "make a successor: `pinfold init --origin NAME`".to_owned(),
            SidecarError::KeyGone(_) => "restore the keyring directory; then start again".to_owned(),
            SidecarError::Build(_) | SidecarError::Unsound(_) | SidecarError::Own { .. } => {
                "nothing was written; check the log with `pinfold verify` and report this".to_owned()
            }
            SidecarError::Thread(_) | SidecarError::NoRandom => "start again".to_owned(),
        }
    }

    /// The durable record of this halt.
    pub(super) fn to_halt(&self, since: Timestamp) -> Halt {
        Halt { code: self.code().to_owned(), message: self.to_string(), hint: self.hint(), since }
    }
}

/// What a person does about a registry.
pub(super) fn registry_hint(error: &RegistryError) -> &'static str {
    match error {
        RegistryError::Auth { .. } => "check the key and the user of the registry",
        RegistryError::Schema { .. } => "make or migrate its tables: `pinfold registry init`",
        RegistryError::Differs { .. } | RegistryError::Fork { .. } => {
            "nothing was changed; compare with `pinfold verify --registry`"
        }
        _ => "it is tried again by itself; `pinfold doctor` looks at it",
    }
}
