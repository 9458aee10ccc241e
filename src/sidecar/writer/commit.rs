//! Commit point 1: keys durable first, then leaves, frames, positions and the live head in one transaction, then the
//! journal's own fdatasync.
//!
//! A commit may be under way on the committer's thread while the next entries are being made; never two. What a full
//! disk refused is kept and sent again before anything else. After any other failure the writer is dropped, and what
//! was not committed is polled again.

use std::collections::BTreeMap;

use super::*;
use crate::core::checkpoint::{Head, sign_live};
use crate::journal::{Advance, Fate, JournalError, Live};

/// What the next commit holds.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) entries: Vec<Entry>,
    pub(super) leaf_bytes: usize,
    pub(super) frame_bytes: usize,
    pub(super) positions: BTreeMap<Partition, PositionRow>,
    pub(super) rows: BTreeMap<String, Option<Vec<u8>>>,
    pub(super) outbox: Vec<OutboxChange>,
    pub(super) seal: Option<journal::Seal>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.positions.is_empty()
            && self.rows.is_empty()
            && self.outbox.is_empty()
            && self.seal.is_none()
    }
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

    /// Commits go to `append` instead of the journal, and nothing of them can be read back: for the bench that measures
    /// what the journal costs.
    ///
    /// # Errors
    /// Those of `commit`; `Thread`.
    #[doc(hidden)]
    pub fn commit_to(
        &mut self,
        append: impl Fn(&Commit) -> Result<(), JournalError> + Send + 'static,
    ) -> Result<(), SidecarError> {
        self.commit()?;
        self.committer = Committer::start(append)?;
        Ok(())
    }

    /// Commit point 1. On return everything pushed so far is durable.
    ///
    /// # Errors
    /// Those of keyring and journal. After one that is tried again, `commit_again` goes on where this stopped; after
    /// any other the writer is to be dropped: what it holds in memory is ahead of the disk.
    pub(in crate::sidecar) fn commit(&mut self) -> Result<(), SidecarError> {
        self.commit_again()?;
        self.begin()?;
        self.finish()
    }

    /// Begins the commit of everything pushed so far, and returns while it is under way. The one before is durable.
    ///
    /// # Errors
    /// As `commit`; those of this commit come from whatever waits for it.
    pub(in crate::sidecar) fn commit_behind(&mut self) -> Result<(), SidecarError> {
        self.commit_again()?;
        self.begin()
    }

    /// Waits for the commit under way, and sends again what a full disk left unwritten.
    ///
    /// # Errors
    /// As `commit`.
    pub(in crate::sidecar) fn commit_again(&mut self) -> Result<(), SidecarError> {
        self.finish()?;
        if let Some(unsent) = self.unsent.take() {
            self.committer.begin(unsent);
            self.finish()?;
        }
        Ok(())
    }

    /// The number of the commit that takes what is pushed now. Numbers begin at 1 with the process.
    pub(in crate::sidecar) fn commit_to_come(&self) -> u64 {
        self.commits_begun + 1
    }

    /// How many commits are durable: those up to this number.
    pub(in crate::sidecar) fn commits_durable(&self) -> u64 {
        self.commits_durable
    }

    /// Whether everything pushed so far is durable.
    pub(in crate::sidecar) fn is_settled(&self) -> bool {
        self.commits_begun == self.commits_durable && self.pending.is_empty()
    }

    fn begin(&mut self) -> Result<(), SidecarError> {
        // Keys first: no leaf is durable whose key is not. If this fails, what is pending stays.
        let mark = self.keyring.sync()?;
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let mut commit = Commit { seal: pending.seal, outbox: pending.outbox, ..Commit::default() };
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
        self.under_way = pending.positions;
        self.committer.begin(Box::new(commit));
        self.commits_begun += 1;
        Ok(())
    }

    /// Takes the outcome of the commit under way. One that found no room is kept, and nothing goes before it.
    fn finish(&mut self) -> Result<(), SidecarError> {
        let Some((commit, outcome)) = self.committer.finish() else { return Ok(()) };
        match outcome {
            Ok(()) => {
                self.commits_durable += 1;
                let mut known = lock(&self.known);
                known.positions.append(&mut self.under_way);
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
