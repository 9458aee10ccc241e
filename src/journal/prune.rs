//! Giving disk back: entries that the archive holds are dropped, and the store is rebuilt smaller.
//!
//! sled's file never shrinks, so compaction copies what is still needed into a new generation beside the old one and
//! makes that the current one in one atomic step. Frame files are deleted whole.

use std::sync::{Arc, PoisonError};

use super::error::JournalError;
use super::state::{self, State};
use super::store::{Store, Write, key};
use super::{Journal, Writer, files, open};
use crate::core::seq::{Seq, Size};

/// Keys of one copying or removing write: few enough that the store does not stall.
const STEP_KEYS: usize = 64;
/// A store below this is never worth rebuilding.
const COMPACT_BYTES_MIN: u64 = 24 * 1024 * 1024;

/// What [`Journal::compact`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compacted {
    /// The store was rebuilt.
    Done {
        /// Bytes of the store before.
        before: u64,
        /// Bytes of the store now.
        after: u64,
    },
    /// A reader still uses the store: call again later.
    Busy,
}

impl Journal {
    /// Drops leaves and frames of entries before `below`. The caller knows that the archive holds them.
    ///
    /// # Errors
    /// `Unfit` where they are not sealed; `Poisoned`.
    pub fn prune(&self, below: Size) -> Result<Arc<State>, JournalError> {
        let mut writer = self.writer()?;
        let state = self.state();
        if below > state.sealed.tree.size() {
            return Err(JournalError::Unfit {
                what: "end of the pruned entries",
                expected: format!("<= {}, which is sealed", state.sealed.tree.size()),
                found: below.to_string(),
            });
        }
        if below.0 <= state.kept_from.0 {
            return Ok(state);
        }
        // First nobody may read them any more, then they go. A crash between leaves blocks that the next pruning removes.
        let next = self.save(&mut writer, State { kept_from: Seq(below.0), ..(*state).clone() })?;
        let store = self.store();
        self.remove_blocks(&store, below)?;
        self.remove_peaks(&store, below)?;
        let first = match store.blocks(next.kept_from)?.next() {
            Some(block) => block?.frames.file,
            None => next.frames_end.file,
        };
        let next = self.save(&mut writer, State { frames_first: first, ..(*next).clone() })?;
        writer.frames.drop_before(first, state.frames_first)?;
        Ok(next)
    }

    /// Whether the store holds so much garbage that rebuilding it pays.
    ///
    /// # Errors
    /// `Io`.
    pub fn is_compaction_due(&self) -> Result<bool, JournalError> {
        let store = self.store();
        let bytes = files::bytes_under(store.dir())?;
        let state = self.state();
        // About 300 bytes a leaf, stored up to twice: a guess is enough, it only says when to look.
        let needed = (state.size().0 - state.kept_from.0).saturating_mul(600);
        Ok(bytes > COMPACT_BYTES_MIN.max(needed.saturating_mul(2)))
    }

    /// Rebuilds the store without garbage. Commits wait meanwhile; the time grows with what is still held.
    ///
    /// # Errors
    /// `Io` where the new store could not be built: the old one stands. `Poisoned` where it could not be put in place.
    pub fn compact(&self) -> Result<Compacted, JournalError> {
        let writer = self.writer()?;
        let mut current = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&current) > 1 {
            return Ok(Compacted::Busy);
        }
        let before = files::bytes_under(current.dir())?;
        let journal = self.places.journal();
        let number = open::current(&journal)? + 1;
        let dir = open::generation(&journal, number);
        files::remove_dir(&dir)?;
        let new = Store::create(&dir)?;
        copy(&current, &new, &self.state())?;
        // From here on the new generation counts, whatever happens.
        open::set_current(&journal, number).map_err(|e| self.poisoned(e.to_string()))?;
        *current = Arc::new(new);
        open::remove_other_generations(&journal, number)?;
        let after = files::bytes_under(current.dir())?;
        drop(writer);
        Ok(Compacted::Done { before, after })
    }

    fn save(&self, writer: &mut Writer, next: State) -> Result<Arc<State>, JournalError> {
        let row = (key::STATE.to_vec(), Some(state::encode_state(&next, writer.rules.len() as u64)));
        self.commit(&self.store(), Write { rows: vec![row], ..Write::default() })?;
        let next = Arc::new(next);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(next)
    }

    fn remove_blocks(&self, store: &Store, below: Size) -> Result<(), JournalError> {
        let mut write = Write::default();
        for block in store.blocks(Seq(0))? {
            let block = block?;
            if block.end_seq().0 > below.0 {
                break;
            }
            write.log.push((block.first, None));
            if write.log.len() == STEP_KEYS {
                self.commit(store, std::mem::take(&mut write))?;
            }
        }
        self.commit(store, write)
    }

    /// The peaks at the start of a segment are needed while its entries are there to be added.
    fn remove_peaks(&self, store: &Store, below: Size) -> Result<(), JournalError> {
        let mut write = Write::default();
        for row in store.rows(key::PEAKS) {
            let (key, _) = row?;
            let segment = super::block::Reader(key.get(1..).unwrap_or_default()).take().map(u64::from_be_bytes);
            let seal = super::recover::seal_row(store, segment.unwrap_or(u64::MAX))?;
            if seal.is_some_and(|seal| seal.first.0 >= below.0) {
                break;
            }
            write.rows.push((key.to_vec(), None));
            if write.rows.len() == STEP_KEYS {
                self.commit(store, std::mem::take(&mut write))?;
            }
        }
        self.commit(store, write)
    }
}

/// Copies every row and every block that is still needed, durably.
fn copy(old: &Store, new: &Store, state: &State) -> Result<(), JournalError> {
    let apply = |write: Write| {
        new.apply(write)
            .map_err(|_| JournalError::io("writing", new.dir(), std::io::Error::other("the new store refused a write")))
    };
    let mut write = Write::default();
    for block in old.blocks(state.kept_from)? {
        let block = block?;
        write.log.push((block.first, Some(block.bytes().to_vec())));
        if write.log.len() == STEP_KEYS {
            apply(std::mem::take(&mut write))?;
        }
    }
    for row in old.rows(&[]) {
        let (key, value) = row?;
        write.rows.push((key.to_vec(), Some(value.to_vec())));
        if write.rows.len() == STEP_KEYS {
            apply(std::mem::take(&mut write))?;
        }
    }
    apply(write)?;
    new.sync().map_err(|why| JournalError::io("syncing", new.dir(), std::io::Error::other(why)))
}
