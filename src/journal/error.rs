//! Why the journal did not do what was asked, and what follows from that for the caller.
//!
//! Nothing here is ever repaired silently: where our own state is in doubt the error names both values and
//! the command a person runs.

use std::io;
use std::path::{Path, PathBuf};

use super::state::Halt;
use crate::core::hash::Hash;
use crate::core::position::Partition;
use crate::core::seq::Size;

/// What the caller does with a [`JournalError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing was written; the same call may succeed later (a full disk, another owner).
    Retry,
    /// The caller asked for something that does not fit what is stored; nothing was written.
    Caller,
    /// Our own state is in doubt. Stop, say so, wait for a person.
    Halt,
}

/// Why the journal refused. Displayed texts name places and values, never content of entries.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process, or another handle of this one, owns the journal.
    #[error("journal {}: another process owns it{}", .0.journal.display(), .0.pid_text())]
    InUse(Owned),
    /// There is none at this place.
    #[error("journal {}: does not exist", .0.display())]
    Missing(PathBuf),
    /// `create` found one.
    #[error("journal {}: exists already", .0.display())]
    Exists(PathBuf),
    /// `create` found a head file: a log was here, and a wiped volume is no new log.
    #[error("journal: not created: head file {} knows a log at size {size}", .path.display())]
    HeadKnown {
        /// The head file.
        path: PathBuf,
        /// What it says.
        size: Size,
    },
    /// Written in a layout this program does not read.
    #[error("journal {}: layout {found}, this program knows layout {known}", .path.display())]
    Layout {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What we know.
        known: u32,
    },
    /// The journal, or the head file, is of another log.
    #[error("{place}: origin mismatch: configured {expected}, found {found}")]
    WrongOrigin {
        /// Journal or head file.
        place: String,
        /// The configured origin.
        expected: String,
        /// The one found.
        found: String,
    },
    /// What is stored is not what was committed.
    #[error("{place}: expected {expected}, found {found}")]
    Damaged {
        /// Which block, row or file.
        place: String,
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// The journal ends before the last head known outside: it was rolled back, or lost its tail.
    #[error(
        "journal: size {size} root {root}, but head file {} is at size {head_size} root {head_root}",
        .path.display()
    )]
    Behind {
        /// The head file.
        path: PathBuf,
        /// Ours.
        size: Size,
        /// Ours.
        root: Hash,
        /// The head file's.
        head_size: Size,
        /// The head file's.
        head_root: Hash,
    },
    /// The head known outside is of another tree.
    #[error("journal: at size {size} the root is {root}, head file {} says {head_root}", .path.display())]
    Forked {
        /// The head file.
        path: PathBuf,
        /// The size both speak of.
        size: Size,
        /// Ours.
        root: Hash,
        /// The head file's.
        head_root: Hash,
    },
    /// The head file is older than what the journal still holds, so neither can vouch for the other.
    #[error(
        "journal: holds entries from seq {kept_from} on, head file {} is at size {head_size} root {head_root}",
        .path.display()
    )]
    HeadTooOld {
        /// The head file.
        path: PathBuf,
        /// The first entry held.
        kept_from: u64,
        /// The head file's.
        head_size: Size,
        /// The head file's.
        head_root: Hash,
    },
    /// A durable halt record stands; only `resume` ends it.
    #[error("halted since {}: {}: {}", .0.since, .0.code, .0.message)]
    Halted(Halt),
    /// A sync or a write of the store failed earlier in this process: what is on the disk is unknown.
    #[error("journal: unusable until reopened: {0}")]
    Poisoned(String),
    /// A position is not where the caller thought: nothing was written.
    #[error("partition {partition}: next offset mismatch: expected {expected:?}, found {found:?}")]
    Moved {
        /// The partition.
        partition: Partition,
        /// What the commit was made for.
        expected: Option<u64>,
        /// What is stored.
        found: Option<u64>,
    },
    /// A commit that must not be written: nothing was.
    #[error("commit refused: {what}: expected {expected}, found {found}")]
    Unfit {
        /// Which rule.
        what: &'static str,
        /// What the rule asks for.
        expected: String,
        /// What the commit has.
        found: String,
    },
    /// Entries that are not, or no longer, in the journal.
    #[error("entries {from}..{to}: the journal holds {kept_from}..{size}")]
    NotHeld {
        /// First asked for.
        from: u64,
        /// End asked for.
        to: u64,
        /// First held.
        kept_from: u64,
        /// End held.
        size: u64,
    },
    /// The disk has no room for the commit: nothing was written.
    #[error("disk of {}: {free} bytes free, the commit needs {needed}", .path.display())]
    Full {
        /// A directory of the disk.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes wanted, with reserve.
        needed: u64,
    },
    /// A file or directory could not be used; nothing was committed.
    #[error("{doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A journal that another process owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owned {
    /// The journal.
    pub journal: PathBuf,
    /// The owner, as its lock file says.
    pub pid: Option<u32>,
}

impl Owned {
    fn pid_text(&self) -> String {
        self.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    }

    fn hint(&self) -> String {
        let socket = self.journal.with_file_name("control.sock");
        format!(
            "`pinfold status` asks it over {}; SIGTERM to{} ends it",
            socket.display(),
            match self.pid {
                Some(pid) => format!(" {pid}"),
                None => " it".to_owned(),
            }
        )
    }
}

impl JournalError {
    /// What the caller does now.
    pub fn fate(&self) -> Fate {
        match self {
            JournalError::InUse(_) | JournalError::Full { .. } | JournalError::Io { .. } => Fate::Retry,
            JournalError::Missing(_)
            | JournalError::Exists(_)
            | JournalError::HeadKnown { .. }
            | JournalError::Unfit { .. }
            | JournalError::NotHeld { .. } => Fate::Caller,
            JournalError::Layout { .. }
            | JournalError::WrongOrigin { .. }
            | JournalError::Damaged { .. }
            | JournalError::Behind { .. }
            | JournalError::Forked { .. }
            | JournalError::HeadTooOld { .. }
            | JournalError::Halted(_)
            | JournalError::Poisoned(_)
            | JournalError::Moved { .. } => Fate::Halt,
        }
    }

    /// The next command, for the `hint:` line.
    pub fn hint(&self) -> String {
        let text = match self {
            JournalError::InUse(owned) => return owned.hint(),
            JournalError::Missing(_) => "`pinfold init` makes a log; after a loss: `pinfold rebuild`",
            JournalError::Exists(_) => "`pinfold run` continues it",
            JournalError::HeadKnown { .. } => "a log was here: `pinfold rebuild` restores it from its archive",
            JournalError::Layout { .. } => "use the release of Pinfold that wrote it, or a newer one",
            JournalError::WrongOrigin { .. } => "correct `log.origin`, `log.data` or `log.heads`",
            JournalError::Damaged { .. } | JournalError::Behind { .. } | JournalError::Forked { .. } => {
                "nothing was changed; `pinfold rebuild` restores the journal from the archive"
            }
            JournalError::HeadTooOld { .. } => {
                "check the archive: `pinfold verify --known-head FILE`; if it is valid, move the head file aside"
            }
            JournalError::Halted(halt) => return halt.hint.clone(),
            JournalError::Poisoned(_) => "check the disk, then start again: the journal is checked at open",
            JournalError::Moved { .. } => "another writer moved the position: start again",
            JournalError::Unfit { .. } | JournalError::NotHeld { .. } => "this is a bug in Pinfold; please report it",
            JournalError::Full { .. } => "make room; intake resumes alone",
            JournalError::Io { .. } => "check the path, its permissions and the disk",
        };
        text.to_owned()
    }

    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> JournalError {
        JournalError::Io { doing, path: path.to_owned(), source }
    }

    pub(super) fn damaged(
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> JournalError {
        JournalError::Damaged { place: place.into(), expected: expected.into(), found: found.into() }
    }
}
