//! One commit: what the caller wants to become durable together, and the checks before anything is written.
//!
//! The checks are those that cost nothing per entry. That every leaf is what the audit will accept is the caller's
//! assertion (`core::audit`); that the stored bytes are those of the signed tree is recomputed at open and at each seal.

use super::error::JournalError;
use super::frames::FRAME_BYTES_MAX;
use super::state::{PositionRow, SealRow, Sealed, State};
use crate::core::checkpoint::{Form, Statement};
use crate::core::hash::Hash;
use crate::core::leaf::{LEAF_BYTES_MAX, LeafView, PARTS_MAX};
use crate::core::merkle::Tree;
use crate::core::position::Partition;
use crate::core::time::Timestamp;

/// Entries of a commit, at most.
pub const COMMIT_ENTRIES_MAX: usize = 4096;
/// Leaf bytes of a commit, at most: with the entries, this bounds the keys of the store's transaction.
pub const COMMIT_LEAF_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Frame bytes of a commit, at most; one entry may have 64 MiB.
pub const COMMIT_FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Positions, outbox changes and rows of a commit, together at most.
pub const COMMIT_ROWS_MAX: usize = 512;
/// Bytes of one outbox value or row, at most.
pub const ROW_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a name of an outbox row or row, at most.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of the rules, at most.
pub const RULES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a position's memo, at most.
pub const MEMO_BYTES_MAX: usize = 1024;

/// An entry to append.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// The leaf bytes, at most 16,384.
    pub leaf: Vec<u8>,
    /// The frames of its parts, in order.
    pub frames: Vec<Vec<u8>>,
}

/// The tree after the entries, and its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    /// The tree over all entries, those of this commit included.
    pub tree: Tree,
    /// The live head of that tree, signed.
    pub note: String,
}

/// A move of one partition's position: compare, then set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// The `next_offset` the entries were made for; `None` where there is no row yet.
    pub expected: Option<u64>,
    /// The row from now on.
    pub row: PositionRow,
}

/// A seal that is durable in its CAR files and becomes part of the journal (commit point 2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// Segment, range, CIDs.
    pub row: SealRow,
    /// The tree at the segment's end.
    pub tree: Tree,
}

/// One change of the outbox: small opaque values of the caller, by segment and name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutboxChange {
    /// The segment.
    pub segment: u64,
    /// Which step or target, at most 256 bytes.
    pub name: String,
    /// The value from now on; `None` removes the row.
    pub value: Option<Vec<u8>>,
}

/// What becomes durable together, or not at all. Everything may be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Commit {
    /// The next entries, in order.
    pub entries: Vec<Entry>,
    /// Given exactly when there are entries.
    pub live: Option<Live>,
    /// Positions that move.
    pub positions: Vec<Advance>,
    /// The saved rules after the entries, opaque; `None` keeps what is stored.
    pub rules: Option<Vec<u8>>,
    /// The newest `recorded_at` of the entries; never falls.
    pub recorded_at: Option<Timestamp>,
    /// A segment of entries that were in the journal before this commit.
    pub seal: Option<Seal>,
    /// Changes of the outbox.
    pub outbox: Vec<OutboxChange>,
    /// Other small rows of the caller: name, value (`None` removes).
    pub rows: Vec<(String, Option<Vec<u8>>)>,
    /// Ends a standing halt; without it a halted journal refuses.
    pub resume: bool,
}

impl Commit {
    /// Checks the commit against `state`, and gives the state after it (frame places aside).
    pub(super) fn check(&self, state: &State) -> Result<State, JournalError> {
        let mut next = state.clone();
        self.check_limits()?;
        if let Some(halt) = &state.halted {
            if !self.resume {
                return Err(JournalError::Halted(halt.clone()));
            }
            next.halted = None;
        }
        if let Some(at) = self.recorded_at {
            let fits = at >= state.recorded_at;
            require(fits, "recorded_at never falls", || (format!("{} or later", state.recorded_at), at.to_string()))?;
            next.recorded_at = at;
        }
        self.check_entries(state, &mut next)?;
        if let Some(seal) = &self.seal {
            next.sealed = check_seal(seal, state)?;
        }
        Ok(next)
    }

    fn check_limits(&self) -> Result<(), JournalError> {
        let at_most =
            |what, max: usize, found: usize| require(found <= max, what, || (format!("<= {max}"), found.to_string()));
        at_most("entries", COMMIT_ENTRIES_MAX, self.entries.len())?;
        at_most("leaf bytes", COMMIT_LEAF_BYTES_MAX, self.entries.iter().map(|entry| entry.leaf.len()).sum())?;
        at_most("frame bytes", COMMIT_FRAME_BYTES_MAX, self.frame_bytes())?;
        for entry in &self.entries {
            at_most("bytes of a leaf", LEAF_BYTES_MAX, entry.leaf.len())?;
            at_most("frames of an entry", PARTS_MAX, entry.frames.len())?;
            at_most("frame bytes of an entry", FRAME_BYTES_MAX, entry.frames.iter().map(Vec::len).sum())?;
            require(!entry.leaf.is_empty(), "a leaf", || ("bytes".to_owned(), "none".to_owned()))?;
        }
        at_most("rows", COMMIT_ROWS_MAX, self.positions.len() + self.outbox.len() + self.rows.len())?;
        at_most("bytes of the rules", RULES_BYTES_MAX, self.rules.as_ref().map_or(0, Vec::len))?;
        for advance in &self.positions {
            at_most("bytes of a memo", MEMO_BYTES_MAX, advance.row.memo.len())?;
        }
        let outbox = self.outbox.iter().map(|change| (&change.name, &change.value));
        for (name, value) in outbox.chain(self.rows.iter().map(|(name, value)| (name, value))) {
            at_most("bytes of a name", NAME_BYTES_MAX, name.len())?;
            at_most("bytes of a row", ROW_BYTES_MAX, value.as_ref().map_or(0, Vec::len))?;
        }
        Ok(())
    }

    fn check_entries(&self, state: &State, next: &mut State) -> Result<(), JournalError> {
        let (Some(first), Some(last), Some(live)) = (self.entries.first(), self.entries.last(), &self.live) else {
            let both_or_neither = self.entries.is_empty() && self.live.is_none();
            return require(both_or_neither, "entries and their live head", || {
                ("both or neither".to_owned(), format!("{} entries", self.entries.len()))
            });
        };
        let size = state.size().0 + self.entries.len() as u64;
        let seq_and_prev = |entry: &Entry| match LeafView::decode(&entry.leaf) {
            Ok(leaf) => Ok((leaf.seq.0, leaf.prev)),
            Err(refused) => Err(unfit("leaf", "a leaf of the format", refused)),
        };
        let (seq, prev) = seq_and_prev(first)?;
        require(seq == state.size().0, "seq of the first entry", || (state.size().to_string(), seq.to_string()))?;
        require(prev == state.prev, "prev of the first entry", || (state.prev.to_string(), prev.to_string()))?;
        let (seq, _) = seq_and_prev(last)?;
        require(seq == size - 1, "seq of the last entry", || ((size - 1).to_string(), seq.to_string()))?;
        let found = live.tree.size();
        require(found.0 == size, "size of the tree", || (size.to_string(), found.to_string()))?;
        check_note(live, state)?;
        next.tree = live.tree.clone();
        next.prev = Hash::leaf(&last.leaf);
        next.live = Some(live.note.clone());
        Ok(())
    }

    pub(super) fn frame_bytes(&self) -> usize {
        self.entries.iter().flat_map(|entry| &entry.frames).map(|frame| frame.len() + 4).sum()
    }

    pub(super) fn leaf_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.leaf.len()).sum()
    }
}

/// The note must say of the tree what the tree is. Its signature is verified at open.
fn check_note(live: &Live, state: &State) -> Result<(), JournalError> {
    let statement = Statement::parse(&live.note).map_err(|refused| unfit("live head", "a live head", refused))?;
    let (head, root) = (&statement.head, live.tree.root());
    require(statement.form == Form::Live, "form of the head", || ("live head".to_owned(), "checkpoint".to_owned()))?;
    let origin = &state.origin;
    require(head.origin == *origin, "origin of the head", || (origin.to_string(), head.origin.to_string()))?;
    let size = live.tree.size();
    require(head.size == size, "size of the head", || (size.to_string(), head.size.to_string()))?;
    require(head.root == root, "root of the head", || (root.to_string(), head.root.to_string()))
}

fn check_seal(seal: &Seal, state: &State) -> Result<Sealed, JournalError> {
    let (row, sealed) = (&seal.row, &state.sealed);
    let segment = (sealed.segments, row.segment);
    require(segment.0 == segment.1, "number of the segment", || (segment.0.to_string(), segment.1.to_string()))?;
    let first = (sealed.tree.size().0, row.first.0);
    require(first.0 == first.1, "first of the segment", || (first.0.to_string(), first.1.to_string()))?;
    let (end, size) = (row.end(), state.size());
    require(row.count > 0 && end <= size, "end of the segment", || (format!("<= {size}"), end.to_string()))?;
    let root = seal.tree.root();
    let fits = seal.tree.size() == end && root == row.root;
    require(fits, "tree of the segment", || (format!("{end} {}", row.root), format!("{} {root}", seal.tree.size())))?;
    Ok(Sealed { segments: row.segment + 1, tree: seal.tree.clone(), prev: Hash::ZERO })
}

fn require(fits: bool, what: &'static str, values: impl FnOnce() -> (String, String)) -> Result<(), JournalError> {
    if fits {
        return Ok(());
    }
    let (expected, found) = values();
    Err(JournalError::Unfit { what, expected, found })
}

fn unfit(what: &'static str, expected: &str, found: impl ToString) -> JournalError {
    JournalError::Unfit { what, expected: expected.to_owned(), found: found.to_string() }
}
