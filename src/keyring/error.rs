//! What can go wrong in the keyring, by what the caller can do about it.
//!
//! No text names a person: files are named by shard number and generation, never by anything looked up.

use std::io;

use super::Mark;

/// A refusal of the keyring. All but `Conflict`, `NoIdentifiers` and those that `is_retryable` names leave our own
/// state in doubt or show a wrong set-up: the loop halts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// `create` was pointed at a directory that holds something.
    #[error("keyring {dir}: there is something in it already")]
    Exists {
        /// The directory.
        dir: String,
    },
    /// `open` found no keyring.
    #[error("keyring {dir}: no keyring here")]
    Missing {
        /// The directory.
        dir: String,
    },
    /// Another process owns the directory.
    #[error("keyring {dir}: another process has it open")]
    Busy {
        /// The directory.
        dir: String,
    },
    /// The key-encryption key is not the one this keyring was made with.
    #[error("keyring: the key-encryption key is another one than this keyring's")]
    WrongKek,
    /// The file of the key-encryption key is not one, or others may read it.
    #[error("key-encryption key {path}: {what}")]
    Kek {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file of the keyring is not what the keyring wrote. Never repaired: restore the whole directory.
    #[error("keyring file {file}: {what}")]
    Damaged {
        /// The file within the keyring's directory.
        file: String,
        /// What was found.
        what: &'static str,
    },
    /// A file is of a version this binary does not know.
    #[error("keyring file {file}: version {version} is not known to this binary")]
    Version {
        /// The file within the keyring's directory.
        file: String,
        /// The version it states.
        version: u32,
    },
    /// The keyring lacks groups that the journal saw synced: it was rolled back, or its last group is damaged.
    #[error("keyring is behind the journal: expected at least mark {expected}, found {found}")]
    Behind {
        /// The mark the journal holds.
        expected: Mark,
        /// The mark of this keyring.
        found: Mark,
    },
    /// The identifiers name two known persons: the record is quarantined, never merged silently.
    #[error("identifiers of two known persons")]
    Conflict,
    /// A person without an identifier cannot be looked up.
    #[error("no identifiers")]
    NoIdentifiers,
    /// The log's list of retention classes does not continue the keyring's.
    #[error("retention class {class} has another name in this keyring")]
    OtherClass {
        /// The index of the first class that differs.
        class: u32,
    },
    /// A record is counted at an earlier place than one already counted for the same person.
    #[error("a person's records are counted up to seq {counted}, not again at seq {at}")]
    CountedAlready {
        /// The place of the last one counted.
        counted: u64,
        /// The place asked for.
        at: u64,
    },
    /// An earlier write or sync failed; nothing more is written by this owner.
    #[error("keyring: an earlier write failed and its outcome is unknown")]
    Poisoned,
    /// The operating system gave no random bytes.
    #[error("keyring: the operating system gave no random bytes")]
    NoRandom,
    /// The file system refused.
    #[error("keyring file {file}: {doing}")]
    Io {
        /// The file within the keyring's directory, or the directory.
        file: String,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl KeyringError {
    /// Whether the same call may succeed later with nothing lost: the disk is full and nothing was half done.
    /// Everything else is a person's record to quarantine (`Conflict`, `NoIdentifiers`) or a halt.
    pub fn is_retryable(&self) -> bool {
        // A sync that fails for want of space has lost track of what is on disk, like any other.
        matches!(self, KeyringError::Io { doing, source, .. } if !doing.starts_with("sync")
            && matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// What a person can do next.
    pub fn hint(&self) -> &'static str {
        match self {
            KeyringError::Exists { .. } => {
                "point [keyring] path at an empty directory, or keep the keyring that is there"
            }
            KeyringError::Missing { .. } => "check [keyring] path and that its volume is mounted",
            KeyringError::Busy { .. } => "stop the other process, or ask it over its control socket",
            KeyringError::WrongKek => "check [keyring] kek: each keyring opens only with the key it was made with",
            KeyringError::Kek { .. } => "the file holds 64 hex digits and is not readable by others (chmod o-rwx)",
            KeyringError::Damaged { .. } => {
                "restore the whole keyring directory from a backup; no file of it can be repaired alone"
            }
            KeyringError::Version { .. } => "use the newer binary that wrote it",
            KeyringError::Behind { .. } => {
                "restore the newest copy of the keyring directory; entries were sealed with keys this copy lacks"
            }
            KeyringError::OtherClass { .. } => "retention classes are only ever added at the end of the list",
            KeyringError::Conflict | KeyringError::NoIdentifiers => "the record belongs in quarantine",
            KeyringError::CountedAlready { .. } => "recount the person's records from the journal or the archive",
            KeyringError::Poisoned | KeyringError::NoRandom => "restart; the keyring is checked when it opens",
            KeyringError::Io { .. } => "check the volume of the keyring: space, permissions, health",
        }
    }
}
