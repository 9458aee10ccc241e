//! Reading entries back, block by block and frame by frame, checked on the way.
//!
//! Every leaf must have its seq and follow the one before it, every frame must be the one its leaf names.
//! Readers run beside appends; what a range holds never changes.

use std::iter::FusedIterator;
use std::sync::Arc;

use super::block::Block;
use super::error::JournalError;
use super::frames::Reading;
use super::store::{Blocks, Store};
use crate::core::hash::Hash;
use crate::core::leaf::LeafView;
use crate::core::seq::Seq;

/// An entry read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEntry {
    /// Its place.
    pub seq: Seq,
    /// The leaf bytes.
    pub leaf: Vec<u8>,
    /// Their hash.
    pub leaf_hash: Hash,
    /// The frames in order of the parts; empty when only leaves are read.
    pub frames: Vec<Vec<u8>>,
}

/// Entries of a range, in order. After an error it ends.
pub struct Entries {
    /// Held so that a compaction does not take the generation away.
    _store: Arc<Store>,
    blocks: Blocks,
    frames: Option<Reading>,
    block: Option<Block>,
    next: Seq,
    end: Seq,
    /// The leaf hash of the entry before `next`, once known.
    prev: Option<Hash>,
}

impl Entries {
    /// Entries `from..end`, which the store holds. `frames` reads them too; `prev` is checked against the first.
    pub(super) fn new(
        store: Arc<Store>,
        frames: Option<Reading>,
        from: Seq,
        end: Seq,
        prev: Option<Hash>,
    ) -> Result<Entries, JournalError> {
        let blocks = store.blocks(from)?;
        Ok(Entries { _store: store, blocks, frames, block: None, next: from, end, prev })
    }

    fn read(&mut self) -> Result<StoredEntry, JournalError> {
        if self.block.as_ref().is_none_or(|block| self.next >= block.end_seq()) {
            self.enter_block()?;
        }
        let missing = || JournalError::damaged(format!("entry {}", self.next), "a leaf", "none");
        let block = self.block.as_ref().ok_or_else(missing)?;
        let index = index(block, self.next);
        let (leaf, count) = block.leaf(index).zip(block.frames_of(index)).ok_or_else(missing)?;
        let view = self.check_leaf(leaf, count)?;
        let (seq, leaf_hash) = (self.next, Hash::leaf(leaf));
        let mut frames = Vec::new();
        if let Some(reading) = &mut self.frames {
            for part in view.parts() {
                let frame = reading.next()?;
                let digest = Hash::of(&frame);
                if digest != part.digest {
                    return Err(damaged(self.next, &format!("a frame with digest {}", part.digest), digest));
                }
                frames.push(frame);
            }
        }
        let leaf = leaf.to_vec();
        self.next = seq.next();
        self.prev = Some(leaf_hash);
        Ok(StoredEntry { seq, leaf, leaf_hash, frames })
    }

    fn enter_block(&mut self) -> Result<(), JournalError> {
        let block = match self.blocks.next() {
            Some(block) => block?,
            None => return Err(damaged(self.next, "an entry", "the end")),
        };
        if block.first > self.next || block.end_seq() <= self.next {
            return Err(damaged(self.next, "its log block", format!("one of {}..{}", block.first, block.end_seq())));
        }
        if let Some(reading) = &mut self.frames {
            let passed: u32 = (0..index(&block, self.next)).filter_map(|i| block.frames_of(i)).map(u32::from).sum();
            let count: u32 = (0..block.count()).filter_map(|i| block.frames_of(i)).map(u32::from).sum();
            // A block without frames may name a place that was never written.
            if count > 0 {
                reading.seek(block.frames)?;
                (0..passed).try_for_each(|_| reading.skip())?;
            }
        }
        self.block = Some(block);
        Ok(())
    }

    fn check_leaf<'l>(&self, leaf: &'l [u8], frames: u8) -> Result<LeafView<'l>, JournalError> {
        let view = LeafView::decode(leaf).map_err(|refused| damaged(self.next, "a leaf", refused))?;
        if view.seq != self.next {
            return Err(damaged(self.next, "its leaf", format!("that of {}", view.seq)));
        }
        if let Some(prev) = self.prev.filter(|prev| *prev != view.prev) {
            return Err(damaged(self.next, &format!("prev {prev}"), view.prev));
        }
        let parts = view.parts().count();
        if parts != usize::from(frames) {
            return Err(damaged(self.next, &format!("{parts} frames"), frames));
        }
        Ok(view)
    }
}

impl Iterator for Entries {
    type Item = Result<StoredEntry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.end = self.next;
        }
        Some(entry)
    }
}

impl FusedIterator for Entries {}

fn index(block: &Block, seq: Seq) -> usize {
    usize::try_from(seq.0.saturating_sub(block.first.0)).unwrap_or(usize::MAX)
}

fn damaged(seq: Seq, expected: &str, found: impl ToString) -> JournalError {
    JournalError::damaged(format!("entry {seq}"), expected, found.to_string())
}
