//! Commit point 1: keys durable first, then leaves, frames, positions and the live head in one transaction, then the
//! journal's own fdatasync.
//!
//! A writer that failed to commit is dropped; what was not committed is polled again.

use std::collections::BTreeMap;

use super::*;
use crate::core::checkpoint::{Head, sign_live};
use crate::journal::{Advance, Fate, Live};

/// What the next commit holds.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) entries: Vec<Entry>,
    pub(super) leaf_bytes: usize,
    pub(super) frame_bytes: usize,
    pub(super) positions: BTreeMap<Partition, PositionRow>,
    pub(super) rows: BTreeMap<String, Option<Vec<u8>>>,
    pub(super) outbox: Vec<OutboxChange>,
}

/// Room left in a commit for entries that come with others: started, clock-step, epoch-opened, declarations.
const ENTRIES_SPARE: usize = 16;
const LEAF_SPARE: usize = 64 * 1024;
/// Frame bytes after which a commit is made: a bound on memory, well below the journal's own.
const COMMIT_FRAME_BYTES: usize = 16 << 20;

impl Writer {
    /// Whether the next commit is as large as one may be.
    pub(in crate::sidecar) fn is_commit_due(&self) -> bool {
        let pending = &self.pending;
        pending.entries.len() + ENTRIES_SPARE > journal::COMMIT_ENTRIES_MAX
            || pending.leaf_bytes + LEAF_SPARE > journal::COMMIT_LEAF_BYTES_MAX
            || pending.frame_bytes > COMMIT_FRAME_BYTES
            || pending.rows.len() + pending.positions.len() + pending.outbox.len() > journal::COMMIT_ROWS_MAX / 2
    }

    /// Commit point 1. On return everything pushed so far is durable.
    ///
    /// # Errors
    /// Those of keyring and journal. The writer is then to be dropped: what it holds in memory is ahead of the disk.
    pub(in crate::sidecar) fn commit(&mut self) -> Result<(), SidecarError> {
        self.commit_with(None)
    }

    /// Tries again what a full disk left unwritten, if anything.
    ///
    /// # Errors
    /// As `commit`.
    pub(in crate::sidecar) fn commit_again(&mut self) -> Result<(), SidecarError> {
        match self.unsent.take() {
            Some(unsent) => self.send(unsent),
            None => Ok(()),
        }
    }

    /// The same with a seal (commit point 2).
    pub(in crate::sidecar) fn commit_with(&mut self, seal: Option<journal::Seal>) -> Result<(), SidecarError> {
        self.commit_again()?;
        let pending = std::mem::take(&mut self.pending);
        let mark = self.keyring.sync()?;
        let mut commit = Commit { seal, outbox: pending.outbox, ..Commit::default() };
        commit.rows = pending.rows.into_iter().collect();
        if !pending.entries.is_empty() {
            let head = Head { origin: self.origin.clone(), size: self.tree.size(), root: self.tree.root() };
            commit.live = Some(Live { tree: self.tree.clone(), note: sign_live(&head, &self.key) });
            commit.entries = pending.entries;
            commit.rules = Some(self.rules.to_bytes());
            commit.recorded_at = Some(self.recorded_at);
            commit.rows.push((ROW_COUNTS.to_owned(), serde_json::to_vec(&self.counts).ok()));
            commit.rows.push((ROW_KEYRING.to_owned(), Some(mark.0.to_be_bytes().to_vec())));
        }
        for (partition, row) in &pending.positions {
            let expected = lock(&self.known).positions.get(partition).map(|row| row.next_offset);
            commit.positions.push(Advance { partition: *partition, expected, row: row.clone() });
        }
        self.send(Box::new(commit))
    }

    /// Appends a commit; one that found no room is kept, and nothing goes before it.
    fn send(&mut self, commit: Box<Commit>) -> Result<(), SidecarError> {
        match self.journal.append(&commit) {
            Ok(_) => {
                let mut known = lock(&self.known);
                known.positions.extend(commit.positions.into_iter().map(|advance| (advance.partition, advance.row)));
                known.topics = self.topics.clone();
                Ok(())
            }
            Err(error) => {
                if error.fate() == Fate::Retry {
                    self.unsent = Some(commit);
                }
                Err(error.into())
            }
        }
    }
}
