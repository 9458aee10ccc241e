//! Rows that outlive a crash, spread over sealed shards: what stands between the keyring's meaning and its files.
//!
//! It knows tables and keys, not people. A slot is a shard in memory: `base` is what its file holds and can be dropped
//! and read again, `recent` is what has come since the last fold and stays.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use crate::core::hash::Hash;
use crate::core::seq::Size;

use super::bytes::{Reader, be32};
use super::crypt::{Random, SealKey};
use super::disk::Disk;
use super::kek::{Epochs, Kek};
use super::manifest::{Entry, MANIFEST, Manifest};
use super::rows::{Rows, Table};
use super::shard::{self, Dek, ShardNo, Tables, file_name, top};
use super::wal::{Record, Wal};
use super::{KeyringError, Mark};

/// The files and the memory of a keyring.
pub(super) struct Store {
    pub(super) disk: Disk,
    pub(super) epochs: Epochs,
    pub(super) random: Random,
    /// As on disk, but for `shards`, which the slots hold.
    pub(super) manifest: Manifest,
    /// The count series in use; another one than the manifest's until the next fold if it is new.
    pub(super) series: u32,
    pub(super) wal: Wal,
    pub(super) slots: Vec<Slot>,
    /// For each prefix of `directory_depth` bits the slot that holds it.
    directory: Vec<usize>,
    directory_depth: u32,
    /// Slots with rows for the next group.
    touched: Vec<usize>,
    /// Rows since the last fold.
    recent_rows: usize,
    cached_bytes: usize,
    /// Of shards read back from files; the least recently used go first.
    pub(super) cache_bytes_max: usize,
    clock: u64,
    /// A commit failed halfway: only a new open knows what is on disk.
    pub(super) is_poisoned: bool,
}

/// A shard in memory.
pub(super) struct Slot {
    pub(super) entry: Entry,
    pub(super) dek: Option<Dek>,
    wal_key: Option<SealKey>,
    /// The rows of its file, if they are in memory.
    pub(super) base: Option<Tables>,
    /// The rows since the last fold: those of the write-ahead file, those still to be synced, and counts.
    pub(super) recent: Tables,
    /// Rows for the next group: table number, row.
    pending: Zeroizing<Vec<u8>>,
    used: u64,
}

impl Slot {
    pub(super) fn new(entry: Entry, dek: Option<Dek>, base: Option<Tables>) -> Slot {
        let (recent, pending) = (Tables::new(), Zeroizing::default());
        Slot { entry, dek, wal_key: None, base, recent, pending, used: 0 }
    }
}

impl Store {
    /// Makes an empty keyring directory. It is a keyring once the first `fold` has written a manifest.
    pub(super) fn create(dir: &Path, kek: &Kek, counts_of: Hash) -> Result<Store, KeyringError> {
        let disk = Disk::create(dir)?;
        let mut random = Random::new();
        let keyring = random.bytes()?;
        let mut epochs = Epochs::new(keyring, kek);
        let numbers: Vec<ShardNo> = [ShardNo::ROOT].into_iter().chain(ShardNo::FIRST.map(ShardNo)).collect();
        let next_epoch = numbers.len() as u64;
        epochs.create(&disk, &mut random, &(0..next_epoch).collect::<Vec<_>>())?;
        let mut slots = Vec::new();
        for (shard, epoch) in numbers.into_iter().zip(0..) {
            let (dek, wrapped) = Dek::generate(&epochs, &mut random, keyring, shard, epoch)?;
            slots.push(Slot::new(Entry { shard, generation: 0, len: 0, epoch, wrapped }, Some(dek), None));
        }
        let root = slots.first().and_then(|slot| slot.dek.as_ref()).ok_or(KeyringError::Poisoned)?;
        let mark = Mark(0);
        let wal = Wal::create(&disk, keyring, 0, root, mark)?;
        let (series, counted_to) = (0, Size(0));
        let shards = Vec::new();
        let manifest = Manifest { keyring, generation: 0, mark, next_epoch, series, counts_of, counted_to, shards };
        Ok(Store::with(disk, epochs, random, manifest, wal, slots))
    }

    /// Opens a keyring directory: authenticates the manifest and every whole group, looks at every file it names, and
    /// removes what a crash left over. Shards are authenticated when they are first needed.
    pub(super) fn open(dir: &Path, kek: &Kek) -> Result<Store, KeyringError> {
        let disk = Disk::open(dir)?;
        let bytes = disk.read(MANIFEST)?;
        let epochs = Epochs::read(&disk, Manifest::keyring_of(&bytes)?, kek)?;
        let (mut manifest, root) = Manifest::read(&bytes, &epochs)?;
        let (wal, records) = Wal::open(&disk, manifest.keyring, manifest.generation, &root, manifest.mark)?;
        let mut slots = Vec::new();
        for entry in std::mem::take(&mut manifest.shards) {
            let name = file_name(entry.shard, entry.generation);
            if entry.len != 0 && disk.len(&name)? != entry.len {
                return Err(KeyringError::damaged(&name, "it has another length than it was written with"));
            }
            slots.push(Slot::new(entry, None, None));
        }
        let mut store = Store::with(disk, epochs, Random::new(), manifest, wal, slots);
        store.replay(&records)?;
        store.sweep()?;
        Ok(store)
    }

    fn with(disk: Disk, epochs: Epochs, random: Random, mut manifest: Manifest, wal: Wal, slots: Vec<Slot>) -> Store {
        manifest.shards.clear();
        let series = manifest.series;
        let mut store = Store {
            disk,
            epochs,
            random,
            manifest,
            series,
            wal,
            slots,
            directory: Vec::new(),
            directory_depth: 0,
            touched: Vec::new(),
            recent_rows: 0,
            cached_bytes: 0,
            cache_bytes_max: super::CACHE_BYTES,
            clock: 0,
            is_poisoned: false,
        };
        store.point();
        store
    }

    /// Rebuilds the directory after the slots changed.
    pub(super) fn point(&mut self) {
        let people = |slot: &&Slot| slot.entry.shard != ShardNo::ROOT;
        self.directory_depth = self.slots.iter().filter(people).map(|slot| slot.entry.shard.depth()).max().unwrap_or(0);
        self.directory = vec![0; 1 << self.directory_depth];
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| people(slot)) {
            for place in slot.entry.shard.places(self.directory_depth) {
                if let Some(place) = self.directory.get_mut(place as usize) {
                    *place = at;
                }
            }
        }
    }

    /// Puts the rows of the write-ahead file where they belong.
    fn replay(&mut self, records: &[Record]) -> Result<(), KeyringError> {
        let by_number: BTreeMap<ShardNo, usize> =
            self.slots.iter().enumerate().map(|(at, slot)| (slot.entry.shard, at)).collect();
        let name = self.wal.name().to_owned();
        let damaged = || KeyringError::damaged(&name, "a record does not open under its shard's key");
        for record in records {
            let at = *by_number.get(&record.shard).ok_or_else(damaged)?;
            self.ready_wal_key(at)?;
            let key = self.slot(at).wal_key.as_ref().ok_or(KeyringError::Poisoned)?;
            let plain = key.open(&record.aad, &record.sealed).ok_or_else(damaged)?;
            let mut reader = Reader(&plain);
            while !reader.is_empty() {
                let (table, row) = take_row(&mut reader).ok_or_else(damaged)?;
                let key_len = table.widths().0;
                let (key, value) = row.split_at_checked(key_len).ok_or_else(damaged)?;
                if self.place(table, key) != at {
                    return Err(damaged());
                }
                self.recent_rows += 1;
                self.slot_mut(at).recent.of_mut(table).put(key, value);
            }
        }
        Ok(())
    }

    /// The value of a key, `N` bytes.
    pub(super) fn get<const N: usize>(
        &mut self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Zeroizing<[u8; N]>>, KeyringError> {
        let at = self.place(table, key);
        self.clock += 1;
        let clock = self.clock;
        let slot = self.slot_mut(at);
        slot.used = clock;
        if let Some(value) = slot.recent.of(table).get(key) {
            return Ok(value.try_into().ok().map(Zeroizing::new));
        }
        self.load(at)?;
        let base = self.slot(at).base.as_ref();
        let value = base.and_then(|base| base.of(table).get(key)).and_then(|value| value.try_into().ok());
        Ok(value.map(Zeroizing::new))
    }

    /// Sets the value of a key. Durable after `sync`.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let at = self.place(table, key);
        let slot = self.slot_mut(at);
        let is_first = slot.pending.is_empty();
        let is_new = slot.recent.of_mut(table).put(key, value);
        push_wiped(&mut slot.pending, &[&[table as u8], key, value]);
        if is_first {
            self.touched.push(at);
        }
        self.recent_rows += usize::from(is_new);
    }

    /// Sets a person's count. Durable after `fold`.
    pub(super) fn put_count(&mut self, subject: &[u8; 16], value: &[u8]) {
        let at = self.place(Table::Counts, subject);
        let is_new = self.slot_mut(at).recent.of_mut(Table::Counts).put(subject, value);
        self.recent_rows += usize::from(is_new);
    }

    /// Makes all puts durable: one group, one fdatasync; none where there is nothing new.
    pub(super) fn sync(&mut self) -> Result<Mark, KeyringError> {
        if self.is_poisoned {
            return Err(KeyringError::Poisoned);
        }
        if self.touched.is_empty() {
            return Ok(self.wal.mark());
        }
        let mut records = Vec::new();
        for index in 0..self.touched.len() {
            let Some(at) = self.touched.get(index).copied() else { break };
            self.ready_wal_key(at)?;
            let slot = self.slots.get(at).ok_or(KeyringError::Poisoned)?;
            let key = slot.wal_key.as_ref().ok_or(KeyringError::Poisoned)?;
            let aad = self.wal.aad(self.manifest.keyring, slot.entry.shard);
            records.extend_from_slice(&slot.entry.shard.0.to_be_bytes());
            records.extend_from_slice(&be32(slot.pending.len() + super::crypt::SEALED_OVERHEAD));
            key.seal_to(&mut records, &mut self.random, &aad, &slot.pending)?;
        }
        let mark = self.wal.append(&self.disk, &records)?;
        for at in std::mem::take(&mut self.touched) {
            let pending = &mut self.slot_mut(at).pending;
            pending.as_mut_slice().zeroize();
            pending.clear();
        }
        Ok(mark)
    }

    /// Whether a fold pays: the write-ahead file is large beside the shards, or much is held in memory.
    pub(super) fn fold_is_due(&self) -> bool {
        self.wal.len() >= super::WAL_BYTES.max(self.stored_bytes() / 8) || self.recent_rows >= super::RECENT_ROWS
    }

    /// Whether a fold pays because so many entries are counted in memory alone.
    pub(super) fn is_far_behind(&self, entries: u64) -> bool {
        entries >= super::UNCOUNTED_ENTRIES.max(self.stored_bytes() / 64)
    }

    fn stored_bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.entry.len).sum()
    }

    /// Begins a new count series: every count so far is void.
    pub(super) fn begin_series(&mut self) {
        self.series = self.manifest.series.wrapping_add(1).max(self.series.wrapping_add(1));
        for slot in &mut self.slots {
            *slot.recent.of_mut(Table::Counts) = Rows::new(Table::Counts);
            if let Some(base) = &mut slot.base {
                *base.of_mut(Table::Counts) = Rows::new(Table::Counts);
            }
        }
    }

    /// Reads a slot's file if it is not in memory, and lets others go if there is too much. Whether it was read.
    pub(super) fn load(&mut self, at: usize) -> Result<bool, KeyringError> {
        if self.slot(at).base.is_some() {
            return Ok(false);
        }
        let tables = if self.slot(at).entry.len == 0 {
            Tables::new()
        } else {
            self.ready_dek(at)?;
            let slot = self.slot(at);
            let dek = slot.dek.as_ref().ok_or(KeyringError::Poisoned)?;
            let (keyring, entry) = (self.manifest.keyring, &slot.entry);
            let (series, mut tables) = shard::read(&self.disk, keyring, entry.shard, entry.generation, dek)?;
            if series != self.series {
                *tables.of_mut(Table::Counts) = Rows::new(Table::Counts);
            }
            tables
        };
        self.cached_bytes += tables.bytes();
        self.slot_mut(at).base = Some(tables);
        self.evict(at);
        Ok(true)
    }

    /// Drops the least recently used files' rows, but not those of `keep`, until the cache fits.
    fn evict(&mut self, keep: usize) {
        while self.cached_bytes > self.cache_bytes_max {
            let loaded = self.slots.iter().enumerate().filter(|(at, slot)| {
                *at != keep && slot.entry.shard != ShardNo::ROOT && slot.entry.len != 0 && slot.base.is_some()
            });
            let Some((oldest, _)) = loaded.min_by_key(|(_, slot)| slot.used) else { return };
            self.drop_base(oldest);
        }
    }

    /// Lets go of what a slot's file holds: it can be read again.
    pub(super) fn drop_base(&mut self, at: usize) {
        let dropped = self.slot_mut(at).base.take().map_or(0, |base| base.bytes());
        self.cached_bytes = self.cached_bytes.saturating_sub(dropped);
    }

    /// After a fold: what the cache holds now.
    pub(super) fn recount_memory(&mut self) {
        self.recent_rows = 0;
        self.cached_bytes = self.slots.iter().filter_map(|slot| slot.base.as_ref()).map(Tables::bytes).sum();
        self.evict(0);
    }

    /// Unwraps a slot's key if that has not been done.
    pub(super) fn ready_dek(&mut self, at: usize) -> Result<(), KeyringError> {
        if self.slot(at).dek.is_none() {
            let entry = &self.slot(at).entry;
            let dek = Dek::unwrap(&self.epochs, self.manifest.keyring, entry.shard, entry.epoch, &entry.wrapped)?;
            self.slot_mut(at).dek = Some(dek);
        }
        Ok(())
    }

    fn ready_wal_key(&mut self, at: usize) -> Result<(), KeyringError> {
        if self.slot(at).wal_key.is_none() {
            self.ready_dek(at)?;
            let generation = self.manifest.generation;
            let slot = self.slot_mut(at);
            slot.wal_key = slot.dek.as_ref().map(|dek| dek.wal_key(generation));
        }
        Ok(())
    }

    /// Forgets the keys of the write-ahead file that a fold ended.
    pub(super) fn forget_wal_keys(&mut self) {
        for slot in &mut self.slots {
            slot.wal_key = None;
        }
    }

    /// The slot where a row stands.
    fn place(&self, table: Table, key: &[u8]) -> usize {
        if table.is_of_root() {
            return 0;
        }
        let prefix = u64::from(top(key)) >> (32 - self.directory_depth);
        usize::try_from(prefix).ok().and_then(|prefix| self.directory.get(prefix)).copied().unwrap_or(0)
    }

    #[expect(clippy::indexing_slicing, reason = "places come from the directory, which holds indexes of slots alone")]
    pub(super) fn slot(&self, at: usize) -> &Slot {
        &self.slots[at]
    }

    #[expect(clippy::indexing_slicing, reason = "places come from the directory, which holds indexes of slots alone")]
    pub(super) fn slot_mut(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }
}

fn take_row<'a>(reader: &mut Reader<'a>) -> Option<(Table, &'a [u8])> {
    let [number] = reader.array()?;
    let table = Table::of(number)?;
    Some((table, reader.take(table.widths().1)?))
}

/// Appends without ever growing in place, which would leave a copy behind.
fn push_wiped(bytes: &mut Zeroizing<Vec<u8>>, chunks: &[&[u8]]) {
    let more: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    if bytes.capacity() - bytes.len() < more {
        let mut larger = Vec::with_capacity((2 * bytes.capacity()).max(bytes.len() + more).max(256));
        larger.extend_from_slice(bytes);
        *bytes = Zeroizing::new(larger);
    }
    for chunk in chunks {
        bytes.extend_from_slice(chunk);
    }
}
