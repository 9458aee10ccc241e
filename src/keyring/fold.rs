//! Fold: the rows of the write-ahead file go into the shards, full shards split, and a new manifest commits it all.
//!
//! Everything new is written and synced beside the old, the manifest is replaced (the commit point), then what nothing
//! refers to any more is removed and its KEK epochs destroyed. A crash before the commit leaves the old keyring and some
//! files to remove, a crash after it the new one and some files to remove: `sweep` at open does either.
//! Spec: docs/keyring.md, Fold.

use std::collections::BTreeSet;

use crate::core::hash::Hash;
use crate::core::seq::Size;

use super::KeyringError;
use super::disk::SHARDS;
use super::manifest::Entry;
use super::shard::{self, Dek, SHARD_KEYS_MAX, ShardNo, Tables, file_name};
use super::store::{Slot, Store};
use super::wal::{self, Wal};

/// What one fold does to one slot.
struct Rewrite {
    at: usize,
    /// The shards it splits into; empty: it stays one, under its KEK epoch.
    into: Vec<ShardNo>,
}

impl Store {
    /// Puts all recent rows into shard files. The counts are those of the first `counted_to` entries of the log
    /// `counts_of`. Durable on return.
    pub(super) fn fold(&mut self, counts_of: Hash, counted_to: Size) -> Result<(), KeyringError> {
        let mark = self.sync()?;
        let generation = self.manifest.generation + 1;
        let rewrites = self.plan()?;
        let mut slots = Vec::new();
        let epochs = self.make_epochs(&rewrites)?;
        let mut epoch = epochs.start;
        for rewrite in &rewrites {
            if self.load(rewrite.at)? {
                self.merge(rewrite.at);
            }
            if rewrite.into.is_empty() {
                slots.push((rewrite.at, self.rewrite(rewrite.at, generation)?));
            }
            for shard in &rewrite.into {
                slots.push((rewrite.at, self.split_off(rewrite.at, *shard, generation, epoch)?));
                epoch += 1;
            }
            if !rewrite.into.is_empty() {
                self.drop_base(rewrite.at);
            }
        }
        self.disk.sync_dir(SHARDS)?;
        self.commit(slots, generation, |manifest| {
            (manifest.mark, manifest.next_epoch) = (mark, epochs.end);
            (manifest.counts_of, manifest.counted_to) = (counts_of, counted_to);
        })
    }

    /// Which slots have something to write, and which of them split.
    fn plan(&mut self) -> Result<Vec<Rewrite>, KeyringError> {
        let mut rewrites = Vec::new();
        for at in 0..self.slots.len() {
            let slot = self.slot(at);
            if slot.recent.is_empty() {
                continue;
            }
            let (shard, mut into) = (slot.entry.shard, Vec::new());
            self.load(at)?;
            self.merge(at);
            if let Some(merged) = self.slot(at).base.as_ref().filter(|_| shard != ShardNo::ROOT) {
                split(merged, shard, &mut into);
            }
            rewrites.push(Rewrite { at, into });
        }
        Ok(rewrites)
    }

    /// Makes the KEK epochs of the shards that come of splits, durably and in one write.
    fn make_epochs(&mut self, rewrites: &[Rewrite]) -> Result<std::ops::Range<u64>, KeyringError> {
        let count: usize = rewrites.iter().map(|rewrite| rewrite.into.len()).sum();
        let first = self.manifest.next_epoch;
        let epochs = first..first + count as u64;
        if !epochs.is_empty() {
            let numbers: Vec<u64> = epochs.clone().collect();
            self.epochs.create(&self.disk, &mut self.random, &numbers)?;
        }
        Ok(epochs)
    }

    /// Adds a slot's recent rows to those of its file. The recent rows stay until the commit: until then the file is
    /// still the old one and may be read again.
    fn merge(&mut self, at: usize) {
        let slot = self.slot_mut(at);
        if let Some(base) = &mut slot.base {
            base.absorb(&mut slot.recent);
        }
    }

    /// Writes a slot's rows as its next file. The slot as it will be, without rows.
    fn rewrite(&mut self, at: usize, generation: u64) -> Result<Slot, KeyringError> {
        self.ready_dek(at)?;
        let (keyring, series) = (self.manifest.keyring, self.series);
        let slot = self.slots.get_mut(at).ok_or(KeyringError::Poisoned)?;
        let (dek, base) = slot.dek.as_ref().zip(slot.base.as_mut()).ok_or(KeyringError::Poisoned)?;
        let shard = slot.entry.shard;
        let bytes = shard::encode(&mut self.random, keyring, shard, generation, dek, series, base)?;
        self.disk.write_new(&file_name(shard, generation), &bytes)?;
        let entry = Entry { generation, len: bytes.len() as u64, ..slot.entry.clone() };
        Ok(Slot::new(entry, None, None))
    }

    /// Writes the rows of a slot that belong in `shard` as a shard of its own, under a KEK epoch and a key of its own.
    /// The new slot is without rows: where every shard splits in one fold, all of them would be in memory twice.
    fn split_off(&mut self, at: usize, shard: ShardNo, generation: u64, epoch: u64) -> Result<Slot, KeyringError> {
        let (keyring, series) = (self.manifest.keyring, self.series);
        let (dek, wrapped) = Dek::generate(&self.epochs, &mut self.random, keyring, shard, epoch)?;
        let mut tables = self.slot_mut(at).base.as_mut().map(|base| base.of_shard(shard)).unwrap_or_else(Tables::new);
        let bytes = shard::encode(&mut self.random, keyring, shard, generation, &dek, series, &mut tables)?;
        self.disk.write_new(&file_name(shard, generation), &bytes)?;
        let entry = Entry { shard, generation, len: bytes.len() as u64, epoch, wrapped };
        Ok(Slot::new(entry, Some(dek), None))
    }

    /// Makes the written shards the keyring: a fresh write-ahead file, the manifest, then the old is removed.
    fn commit(
        &mut self,
        written: Vec<(usize, Slot)>,
        generation: u64,
        change: impl FnOnce(&mut super::manifest::Manifest),
    ) -> Result<(), KeyringError> {
        let mut manifest = self.manifest.clone();
        (manifest.generation, manifest.series) = (generation, self.series);
        change(&mut manifest);
        let replaced: BTreeSet<usize> = written.iter().map(|(at, _)| *at).collect();
        let kept = self.slots.iter().enumerate().filter(|(at, _)| !replaced.contains(at));
        let entries = kept.map(|(_, slot)| &slot.entry).chain(written.iter().map(|(_, slot)| &slot.entry));
        manifest.shards = entries.cloned().collect();
        manifest.shards.sort_by_key(|entry| entry.shard);

        self.ready_dek(0)?;
        let root = self.slots.first().and_then(|slot| slot.dek.as_ref()).ok_or(KeyringError::Poisoned)?;
        let wal = Wal::create(&self.disk, manifest.keyring, generation, root, manifest.mark)?;
        self.disk.sync_dir("")?;
        // Commit point. If it fails we do not know which manifest is on disk: nothing more may be written.
        self.is_poisoned = true;
        manifest.write(&self.disk, root)?;
        self.is_poisoned = false;

        manifest.shards.clear();
        (self.manifest, self.wal) = (manifest, wal);
        self.take_over(written);
        self.sweep()
    }

    /// The memory follows the disk.
    fn take_over(&mut self, written: Vec<(usize, Slot)>) {
        let mut slots: Vec<Option<Slot>> = std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        let mut new = Vec::with_capacity(written.len());
        for (at, mut slot) in written {
            let old = slots.get_mut(at).and_then(Option::take);
            if let Some(old) = old.filter(|old| old.entry.shard == slot.entry.shard) {
                // Rewritten in place: what was merged is what the file holds now.
                (slot.dek, slot.base) = (old.dek, old.base);
            }
            new.push(slot);
        }
        self.slots = slots.into_iter().flatten().chain(new).collect();
        self.slots.sort_by_key(|slot| slot.entry.shard);
        self.forget_wal_keys();
        self.point();
        self.recount_memory();
    }

    /// Removes every file of ours that the manifest does not name and destroys every KEK epoch no shard is under.
    /// Only after the manifest and all it names were found whole: an older manifest put back by hand never gets here,
    /// for the files it names are gone.
    pub(super) fn sweep(&mut self) -> Result<(), KeyringError> {
        let entries = self.slots.iter().map(|slot| &slot.entry).filter(|entry| entry.len != 0);
        let named: BTreeSet<String> = entries.map(|entry| file_name(entry.shard, entry.generation)).collect();
        let shards = self.disk.list(SHARDS)?.into_iter().map(|name| format!("{SHARDS}/{name}"));
        let stray: Vec<String> = shards.filter(|name| !named.contains(name)).collect();
        for name in &stray {
            self.disk.remove(name)?;
        }
        if !stray.is_empty() {
            self.disk.sync_dir(SHARDS)?;
        }
        let current = wal::file_name(self.manifest.generation);
        let is_stray = |name: &String| (name.starts_with("wal.") && *name != current) || name.ends_with(".tmp");
        let stray: Vec<String> = self.disk.list("")?.into_iter().filter(is_stray).collect();
        for name in &stray {
            self.disk.remove(name)?;
        }
        if !stray.is_empty() {
            self.disk.sync_dir("")?;
        }
        let in_use: BTreeSet<u64> = self.slots.iter().map(|slot| slot.entry.epoch).collect();
        let unused: Vec<u64> = self.epochs.all().filter(|epoch| !in_use.contains(epoch)).collect();
        if !unused.is_empty() {
            self.epochs.destroy(&self.disk, &mut self.random, &unused)?;
        }
        Ok(())
    }
}

/// The shards that `shard`'s rows have to be spread over so that none is too large; none if it need not split.
fn split(rows: &Tables, shard: ShardNo, into: &mut Vec<ShardNo>) {
    if rows.weight_of(shard) <= SHARD_KEYS_MAX {
        return;
    }
    let Some(halves) = shard.halves() else { return };
    for half in halves {
        let before = into.len();
        split(rows, half, into);
        if into.len() == before {
            into.push(half);
        }
    }
}
