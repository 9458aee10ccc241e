//! The local durable log: entries, frames, broker positions and the outbox, in one commit.
//!
//! A working copy: the archived segments are the durable truth, so nothing in here is ever repaired, and keys never
//! come here. sled lies behind it and nowhere else. What must hold: `append` returns only when everything given is
//! on the disk; a failing sync ends the use of the journal; what is opened was recomputed and is a continuation of
//! the last head known outside. Layout, sync rules and trust statement: docs/journal.md.

mod block;
mod commit;
mod error;
mod files;
mod frames;
mod head;
mod marks;
mod open;
mod prune;
mod read;
mod rebuild;
mod recover;
mod state;
mod store;

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crate::core::hash::Hash;
use crate::core::position::Partition;
use crate::core::seq::{Seq, Size};

pub use commit::{
    Advance, COMMIT_ENTRIES_MAX, COMMIT_FRAME_BYTES_MAX, COMMIT_LEAF_BYTES_MAX, COMMIT_ROWS_MAX, Commit, Entry, Live,
    MEMO_BYTES_MAX, NAME_BYTES_MAX, OutboxChange, ROW_BYTES_MAX, RULES_BYTES_MAX, Seal,
};
pub use error::{Fate, JournalError, Owned};
pub use files::{LAYOUT, Places};
pub use prune::Compacted;
pub use read::{Entries, StoredEntry};
pub use rebuild::Restored;
pub use state::{Halt, PositionRow, SealRow, Sealed, State};

use block::Filling;
use frames::{Frames, Reading};
use head::Heads;
use marks::Marks;
use store::{Store, Write, WriteError, key};

/// The rules are stored in chunks, and only changed ones are written.
const RULES_CHUNK_BYTES: usize = 16 * 1024;
/// Kept free beside what a commit needs: the store allocates whole segments.
const DISK_RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// The journal, owned by this process. Appends and reads may run on several threads; one append at a time.
pub struct Journal {
    places: Places,
    writer: Mutex<Writer>,
    state: RwLock<Arc<State>>,
    store: RwLock<Arc<Store>>,
    /// Why nothing may be done any more in this process.
    poison: OnceLock<String>,
}

/// What only the one who commits touches.
struct Writer {
    frames: Frames,
    heads: Heads,
    /// The saved rules as stored.
    rules: Vec<u8>,
    marks: Marks,
    /// The owner's lock.
    _lock: File,
}

/// A row of the outbox.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OutboxRow {
    /// The segment.
    pub segment: u64,
    /// Which step or target.
    pub name: String,
    /// The caller's value.
    pub value: Vec<u8>,
}

impl Journal {
    /// The journal after its last commit. Cheap.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Commits everything in `commit` or nothing. On return it is durable, and only then may anybody see its live head.
    ///
    /// # Errors
    /// `Unfit`, `Moved`, `Halted`, `Full`, and `Io` where frames could not be written: nothing was committed and the
    /// journal stays usable. `Poisoned` where the store or a sync failed: nothing works any more until it is reopened.
    pub fn append(&self, commit: &Commit) -> Result<Arc<State>, JournalError> {
        let mut writer = self.writer()?;
        let (state, store) = (self.state(), self.store());
        let mut next = commit.check(&state)?;
        self.check_room(commit)?;
        let mut write = Write::default();
        if let Some(seal) = &commit.seal {
            next.sealed.prev = self.check_seal(&store, &state, seal, &writer.marks)?;
            write.rows.push((key::seal(seal.row.segment), Some(state::encode_seal(&seal.row))));
            let peaks = state::join(state.sealed.tree.peaks()).into_vec();
            write.rows.push((key::peaks(seal.row.segment), Some(peaks)));
        }
        if !commit.entries.is_empty() {
            self.write_entries(&mut writer.frames, &commit.entries, &state, &mut next, &mut write)?;
        }
        let rules = collect_rows(commit, &writer.rules, &mut write);
        let rules_bytes = rules.as_ref().unwrap_or(&writer.rules).len() as u64;
        write.rows.push((key::STATE.to_vec(), Some(state::encode_state(&next, rules_bytes))));
        // Commit point 1: before this a crash loses all of it, after it nothing.
        self.commit(&store, write)?;
        if let Some(rules) = rules {
            writer.rules = rules;
        }
        writer.marks.note(&next);
        let (sealed, next) = (commit.seal.is_some(), Arc::new(next));
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        if let Some(live) = next.live.as_ref().filter(|_| sealed || commit.live.is_some()) {
            writer.heads.write(live, sealed).map_err(|e| self.poisoned(e.to_string()))?;
        }
        Ok(next)
    }

    /// Makes a halt durable: every start repeats it and every commit is refused, until one says `resume`.
    ///
    /// # Errors
    /// `Poisoned` where it could not be written.
    pub fn halt(&self, halt: Halt) -> Result<(), JournalError> {
        let _writer = self.writer()?;
        let row = (key::HALT.to_vec(), Some(state::encode_halt(&halt)));
        self.commit(&self.store(), Write { rows: vec![row], ..Write::default() })?;
        let next = State { halted: Some(halt), ..(*self.state()).clone() };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    /// Leaves and frames of entries `from..to`, in order, checked against each other.
    ///
    /// # Errors
    /// `NotHeld` where some are pruned or do not exist yet.
    pub fn entries(&self, from: Seq, to: Size) -> Result<Entries, JournalError> {
        let frames = Reading::new(Frames::new(&self.places.journal()).dir().to_owned());
        self.read(Some(frames), from, to)
    }

    /// Only the leaves of entries `from..to`.
    ///
    /// # Errors
    /// `NotHeld` where some are pruned or do not exist yet.
    pub fn leaves(&self, from: Seq, to: Size) -> Result<Entries, JournalError> {
        self.read(None, from, to)
    }

    /// Where `partition` stands; `None` where nothing of it was folded.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn position(&self, partition: Partition) -> Result<Option<PositionRow>, JournalError> {
        self.usable()?;
        self.store().position(partition)
    }

    /// All positions, by topic number and partition.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn positions(&self) -> Result<Vec<(Partition, PositionRow)>, JournalError> {
        self.usable()?;
        let damaged = |key: &[u8]| JournalError::damaged("position row", "a key of two numbers", hex::encode(key));
        let read = |(key, row): (sled::IVec, sled::IVec)| {
            let mut numbers = block::Reader(key.get(1..).unwrap_or_default());
            let (topic_no, partition) = numbers.take().zip(numbers.take()).ok_or_else(|| damaged(&key))?;
            let (topic_no, partition) = (u64::from_be_bytes(topic_no), u64::from_be_bytes(partition));
            Ok((Partition { topic_no, partition }, state::decode_position(&row)?))
        };
        self.store().rows(key::POSITIONS).map(|row| row.and_then(read)).collect()
    }

    /// The saved rules, as last committed; empty before.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn rules(&self) -> Result<Vec<u8>, JournalError> {
        Ok(self.writer()?.rules.clone())
    }

    /// All rows of the outbox, by segment and name. Rows of finished segments should be removed, so this stays cheap.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn outbox(&self) -> Result<Vec<OutboxRow>, JournalError> {
        self.usable()?;
        let read = |(key, value): (sled::IVec, sled::IVec)| {
            let mut rest = block::Reader(key.get(1..).unwrap_or_default());
            let segment = rest.take().map(u64::from_be_bytes);
            let name = std::str::from_utf8(rest.0).ok().map(str::to_owned);
            let (segment, name) = segment
                .zip(name)
                .ok_or_else(|| JournalError::damaged("outbox row", "segment and name", hex::encode(&key)))?;
            Ok(OutboxRow { segment, name, value: value.to_vec() })
        };
        self.store().rows(key::OUTBOX).map(|row| row.and_then(read)).collect()
    }

    /// The caller's row `name`.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn row(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        self.usable()?;
        Ok(self.store().row(&key::row(name))?.map(|value| value.to_vec()))
    }

    /// All rows of the caller whose names start with `prefix`, by name.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn rows(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        self.usable()?;
        let read = |(key, value): (sled::IVec, sled::IVec)| match std::str::from_utf8(key.get(1..).unwrap_or_default())
        {
            Ok(name) => Ok((name.to_owned(), value.to_vec())),
            Err(_) => Err(JournalError::damaged("row", "a name", hex::encode(&key))),
        };
        self.store().rows(&key::row(prefix)).map(|row| row.and_then(read)).collect()
    }

    /// A sealed segment; all of them are kept.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn seal(&self, segment: u64) -> Result<Option<SealRow>, JournalError> {
        self.usable()?;
        recover::seal_row(&self.store(), segment)
    }

    /// The first sealed segment that ends at or behind `size`: the one that holds the entry before it. `None` beyond the
    /// last seal.
    ///
    /// # Errors
    /// `Damaged`, `Poisoned`.
    pub fn segment_to(&self, size: Size) -> Result<Option<SealRow>, JournalError> {
        self.usable()?;
        recover::segment_to(&self.store(), self.state().sealed.segments, size)
    }

    /// Bytes of the journal on the disk.
    ///
    /// # Errors
    /// `Io`.
    pub fn disk_bytes(&self) -> Result<u64, JournalError> {
        files::bytes_under(&self.places.journal())
    }

    /// Whether nothing works any more until the journal is reopened, and why.
    pub fn poison(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    /// Brings the head file up to the last commit and lets go of the journal. Without it (a kill) nothing is lost.
    ///
    /// # Errors
    /// `Io` where the head file could not be written.
    pub fn close(self) -> Result<(), JournalError> {
        self.writer()?.heads.sync()
    }

    fn read(&self, frames: Option<Reading>, from: Seq, to: Size) -> Result<Entries, JournalError> {
        self.usable()?;
        let (store, state) = (self.store(), self.state());
        if from < state.kept_from || to > state.size() || from.0 > to.0 {
            let (kept_from, size) = (state.kept_from.0, state.size().0);
            return Err(JournalError::NotHeld { from: from.0, to: to.0, kept_from, size });
        }
        let prev = (from.0 == state.sealed.tree.size().0).then_some(state.sealed.prev);
        Entries::new(store, frames, from, Seq(to.0), prev)
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn usable(&self) -> Result<(), JournalError> {
        match self.poison.get() {
            None => Ok(()),
            Some(why) => Err(JournalError::Poisoned(why.clone())),
        }
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, JournalError> {
        self.usable()?;
        self.writer.lock().map_err(|_| self.poisoned("a commit panicked".to_owned()))
    }

    fn poisoned(&self, why: String) -> JournalError {
        JournalError::Poisoned(self.poison.get_or_init(|| why).clone())
    }

    fn commit(&self, store: &Store, write: Write) -> Result<(), JournalError> {
        store.commit(write).map_err(|e| match e {
            WriteError::Refused(refused) => refused,
            WriteError::Unknown(why) => self.poisoned(why),
        })
    }

    /// A full disk under sled poisons it, so room is looked for before.
    fn check_room(&self, commit: &Commit) -> Result<(), JournalError> {
        let path = self.places.journal();
        let disk = rustix::fs::statvfs(&path).map_err(|e| JournalError::io("measuring", &path, e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        // The store writes a block again when its page is rewritten.
        let needed = (commit.frame_bytes() + 4 * commit.leaf_bytes()) as u64 + DISK_RESERVE_BYTES;
        if free < needed { Err(JournalError::Full { path, free, needed }) } else { Ok(()) }
    }

    /// Cuts the entries into blocks and makes their frames durable, so that the store may name them.
    fn write_entries(
        &self,
        frames: &mut Frames,
        entries: &[Entry],
        state: &State,
        next: &mut State,
        write: &mut Write,
    ) -> Result<(), JournalError> {
        let mut writing = frames.begin(state.frames_end)?;
        let mut block = Filling::new(Seq(state.size().0), writing.place());
        for (seq, entry) in (state.size().0..).zip(entries) {
            if !block.has_room(entry.leaf.len()) {
                let full = std::mem::replace(&mut block, Filling::new(Seq(seq), writing.place()));
                let (first, bytes) = full.finish();
                write.log.push((first, Some(bytes)));
            }
            block.push(&entry.leaf, u8::try_from(entry.frames.len()).unwrap_or(u8::MAX));
            for frame in &entry.frames {
                writing.push(frame)?;
            }
        }
        let (first, bytes) = block.finish();
        write.log.push((first, Some(bytes)));
        next.frames_end = writing.finish()?;
        if entries.iter().any(|entry| !entry.frames.is_empty()) {
            writing.sync().map_err(|e| self.poisoned(e.to_string()))?;
        }
        Ok(())
    }

    /// The seal's tree, continued with the entries behind the segment, must be the tree of a head we committed. Gives the
    /// leaf hash of the segment's last entry.
    fn check_seal(&self, store: &Arc<Store>, state: &State, seal: &Seal, marks: &Marks) -> Result<Hash, JournalError> {
        if !store.has_no_blobs()? {
            return Err(self.poisoned("the store wrote a value to a file of its own, which is never synced".to_owned()));
        }
        let end = seal.row.end();
        let mut tree = seal.tree.clone();
        let (size, root) = marks.at_or_behind(end, state);
        let mut prev = None;
        for entry in Entries::new(Arc::clone(store), None, Seq(end.0 - 1), Seq(size.0), None)? {
            let hash = entry?.leaf_hash;
            match prev {
                None => prev = Some(hash),
                Some(_) => tree.append(hash),
            }
        }
        match prev {
            Some(prev) if tree.root() == root => Ok(prev),
            _ => Err(JournalError::Unfit {
                what: "tree of the segment, continued to a head of the log",
                expected: format!("{root} at size {size}"),
                found: tree.root().to_string(),
            }),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.poison.get().is_some() {
            // sled syncs in its destructor and panics where that fails. A store that failed is left as it is.
            std::mem::forget(self.store());
        }
    }
}

/// Puts positions, rules, outbox and rows of `commit` into `write`. Gives the new rules where they change.
fn collect_rows(commit: &Commit, old_rules: &[u8], write: &mut Write) -> Option<Vec<u8>> {
    for advance in &commit.positions {
        write.expected.push((advance.partition, advance.expected));
        write.rows.push((key::position(advance.partition), Some(state::encode_position(&advance.row))));
    }
    for change in &commit.outbox {
        write.rows.push((key::outbox(change.segment, &change.name), change.value.clone()));
    }
    for (name, value) in &commit.rows {
        write.rows.push((key::row(name), value.clone()));
    }
    if commit.resume {
        write.rows.push((key::HALT.to_vec(), None));
    }
    let rules = commit.rules.clone().filter(|rules| rules != old_rules)?;
    let chunks = |rules: &[u8]| rules.len().div_ceil(RULES_CHUNK_BYTES);
    let chunk = |rules: &[u8], n: usize| -> Option<Vec<u8>> { Some(rules.chunks(RULES_CHUNK_BYTES).nth(n)?.to_vec()) };
    for n in 0..chunks(&rules).max(chunks(old_rules)) {
        let value = chunk(&rules, n);
        if value != chunk(old_rules, n) {
            write.rows.push((key::rules(n), value));
        }
    }
    Some(rules)
}
