//! What sources may know of the log: the declared topics and the committed positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::topics::Topics;
use crate::core::position::Partition;
use crate::journal::PositionRow;

/// What sources may know of the log; they ask from their own threads.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The declared topics.
    pub(super) topics: Topics,
    /// The committed positions.
    pub(super) positions: BTreeMap<Partition, PositionRow>,
    /// Shared partitions that go on from our position, whatever the group has committed.
    pub(super) alone: BTreeSet<Partition>,
}

/// Shared between the writer, which changes it at commits, and the sources.
pub(super) type SharedKnown = Arc<Mutex<Known>>;

/// A lock is poisoned only if a thread panicked while holding it; what is inside is then still whole, because it is
/// changed by single inserts.
pub(super) fn lock(known: &SharedKnown) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
