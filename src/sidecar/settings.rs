//! What the loop keeps to.

use std::path::PathBuf;

use super::auditing::Schedule;
use crate::core::decode::Limits;
use crate::core::identity::Rules as Identity;

/// What the loop keeps to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Entries of a segment, at most.
    pub entries_max: u64,
    /// Frame bytes of a segment before it is sealed.
    pub bytes_max: u64,
    /// Microseconds after which `entries_min` entries are sealed.
    pub age_max: u64,
    /// Entries that make an aged segment worth sealing.
    pub entries_min: u64,
    /// Microseconds after which any entry is sealed.
    pub age_limit: u64,
    /// Microseconds between two looks at the broker's ends; one comes before each seal besides.
    pub observe_every: u64,
    /// Free bytes of the data directory under which intake pauses.
    pub disk_free_min: u64,
    /// Bytes sealed and not yet done above which intake pauses.
    pub backlog_max: u64,
    /// Copies a segment must have.
    pub copies_min: u64,
    /// When and how the copies on the pin targets are audited.
    pub audits: Schedule,
    /// The tenant of the log.
    pub tenant: String,
    /// Entries done everywhere stay this long, in microseconds; `None` for ever.
    pub keep_journal: Option<u64>,
    /// The archive folder.
    pub archive: PathBuf,
    /// How identifiers are normalised.
    pub identity: Identity,
    /// The limits of reading.
    pub limits: Limits,
    /// Threads that decode and seal.
    pub threads: usize,
}
