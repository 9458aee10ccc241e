//! The keys of operator epochs and people, and who is who: a store of its own outside the journal.
//!
//! A person is a random surrogate. What leads to it (keyed hashes of identifiers) and what opens its parts (a key per
//! class) stands in sealed shards, so that an erasure rewrites few of them and destroys the key of what they were.
//! Not in here: sealing of parts (`core::part`), consent state, anything of the journal. One owner, one thread; callers
//! that seal on several threads resolve a batch here first and work on copies of the keys.
//! Law: privacy.md. Format: docs/keyring.md.

mod bytes;
mod crypt;
mod disk;
mod error;
mod fold;
mod kek;
mod manifest;
mod rows;
mod shard;
mod store;
mod wal;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use hkdf::hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::core::hash::Hash;
use crate::core::part::Key;
use crate::core::seq::{Seq, Size};

pub use error::KeyringError;
pub use kek::Kek;

use rows::Table;
use store::Store;

/// Bytes of shards kept in memory beside what is new, if the caller does not say. About 850,000 people.
pub const CACHE_BYTES: usize = 128 << 20;

/// Bytes of that a person takes, with its keys of a class and its look-up: `CACHE_BYTES` over those 850,000.
pub const CACHED_SUBJECT_BYTES: usize = 158;

/// A fold is due at this size of the write-ahead file, or an eighth of the shards where that is more.
const WAL_BYTES: u64 = 16 << 20;

/// A fold is due at this number of rows in memory since the last: new ones and changed counts, about 40 bytes each.
const RECENT_ROWS: usize = 2_000_000;

/// And at this number of entries counted since the last, or one for every 64 bytes of shards where that is more: what a
/// crash leaves to be counted again takes some seconds, and the folds stay a small part of the work.
const UNCOUNTED_ENTRIES: u64 = 1 << 20;

/// The class of quarantined records in every log (format.md, kind 18).
const CLASS_QUARANTINE: u32 = 1;

/// The row of the look-up pepper, and of the one reserved for tombstones.
const PEPPER_LOOKUP: [u8; 4] = [0, 0, 0, 1];
const PEPPER_TOMBSTONE: [u8; 4] = [0, 0, 0, 2];

/// A person, or a quarantined record, in this keyring: 16 random bytes that mean nothing elsewhere.
/// `Debug` does not show it; `to_hex` is for SQL and for answers that leave an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectRef(pub [u8; 16]);

impl SubjectRef {
    /// 32 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectRef(..)")
    }
}

/// How many groups a keyring has made durable, ever. The journal keeps the mark of each commit and hands it to
/// `Keyring::require` when it opens: a keyring behind it has lost keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mark(pub u64);

impl Mark {
    fn next(self) -> Mark {
        Mark(self.0 + 1)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An open keyring, used by one log at a time: epoch keys and counts are per log, people are the keyring's.
pub struct Keyring {
    store: Store,
    pepper: Hmac<Sha256>,
    /// The log's number in this keyring, be32 in rows.
    log: u32,
    oid: Hash,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.keyring_id())
    }
}

impl Keyring {
    /// Makes a keyring in a directory that is empty or does not exist, for a log whose origin hashes to `oid`.
    /// Durable on return.
    ///
    /// # Errors
    /// `Exists`, `Busy`, `Io`, `NoRandom`.
    pub fn create(dir: &Path, kek: &Kek, oid: Hash) -> Result<Keyring, KeyringError> {
        let mut store = Store::create(dir, kek, oid)?;
        for pepper in [PEPPER_LOOKUP, PEPPER_TOMBSTONE] {
            let secret = Zeroizing::new(store.random.bytes::<32>()?);
            store.put(Table::Peppers, &pepper, &*secret);
        }
        let mut keyring = Keyring::of(store, oid)?;
        keyring.fold(Size(0))?;
        Ok(keyring)
    }

    /// Opens a keyring for the log whose origin hashes to `oid`. Unless it has just served the same log its counts are
    /// void and `counted_to` is 0. Call `require` with the journal's mark before anything else.
    ///
    /// # Errors
    /// `Missing`, `Busy`, `WrongKek`, `Damaged`, `Version`, `Io`.
    pub fn open(dir: &Path, kek: &Kek, oid: Hash) -> Result<Keyring, KeyringError> {
        Keyring::of(Store::open(dir, kek)?, oid)
    }

    fn of(mut store: Store, oid: Hash) -> Result<Keyring, KeyringError> {
        let damaged = || KeyringError::damaged("manifest", "the keyring has no pepper");
        let pepper = match store.get::<32>(Table::Peppers, &PEPPER_LOOKUP)? {
            Some(pepper) => Hmac::new_from_slice(&*pepper).map_err(|_| damaged())?,
            None => return Err(damaged()),
        };
        let mut log = 0u32;
        loop {
            match store.get::<32>(Table::Logs, &log.to_be_bytes())? {
                Some(known) if *known == oid.0 => break,
                Some(_) => log += 1,
                None => {
                    store.put(Table::Logs, &log.to_be_bytes(), &oid.0);
                    break;
                }
            }
        }
        if store.manifest.counts_of != oid {
            store.begin_series();
        }
        Ok(Keyring { store, pepper, log, oid })
    }

    /// Bounds the memory that shards read back from files may take. What is new since the last fold comes on top.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes_max: usize) -> Keyring {
        self.store.cache_bytes_max = bytes_max;
        self
    }

    /// The keyring's id, 32 hex digits, for the registry: surrogates are the same in all logs of one keyring.
    pub fn keyring_id(&self) -> String {
        hex::encode(self.store.manifest.keyring)
    }

    /// The mark of the last durable group.
    pub fn mark(&self) -> Mark {
        self.store.wal.mark()
    }

    /// Refuses a keyring that lacks groups the journal saw durable: an old copy put back, or a damaged last group.
    ///
    /// # Errors
    /// `Behind`.
    pub fn require(&self, expected: Mark) -> Result<(), KeyringError> {
        let found = self.mark();
        if found < expected { Err(KeyringError::Behind { expected, found }) } else { Ok(()) }
    }

    /// The person these identifiers name (each normalised, `type:value`), made if none does. Identifiers that were not
    /// known yet lead to the person from now on.
    ///
    /// # Errors
    /// `NoIdentifiers`; `Conflict` where they name two known persons, and then nothing changes; `Damaged`, `Io`.
    pub fn subject<I: AsRef<str>>(&mut self, identifiers: &[I]) -> Result<Subject, KeyringError> {
        let (known, unknown) = self.look_up(identifiers)?;
        let reference = match known {
            Some(reference) => reference,
            None => SubjectRef(self.store.random.bytes()?),
        };
        for tag in unknown {
            self.store.put(Table::Lookups, &tag, &reference.0);
            let mut key = [0; 32];
            key[..16].copy_from_slice(&reference.0);
            key[16..].copy_from_slice(&tag);
            self.store.put(Table::Tags, &key, &[]);
        }
        Ok(Subject { reference, is_new: known.is_none() })
    }

    /// The person these identifiers name, if one is known. Changes nothing.
    ///
    /// # Errors
    /// As `subject`.
    pub fn find<I: AsRef<str>>(&mut self, identifiers: &[I]) -> Result<Option<SubjectRef>, KeyringError> {
        Ok(self.look_up(identifiers)?.0)
    }

    /// The one known person among the identifiers, and the tags nobody has.
    fn look_up<I: AsRef<str>>(
        &mut self,
        identifiers: &[I],
    ) -> Result<(Option<SubjectRef>, Vec<[u8; 16]>), KeyringError> {
        if identifiers.is_empty() {
            return Err(KeyringError::NoIdentifiers);
        }
        let (mut known, mut unknown) = (None, Vec::new());
        for identifier in identifiers {
            let tag = self.tag(identifier.as_ref());
            match self.store.get(Table::Lookups, &tag)?.map(|found| SubjectRef(*found)) {
                Some(found) if known.is_some_and(|known| known != found) => return Err(KeyringError::Conflict),
                Some(found) => known = Some(found),
                None if unknown.contains(&tag) => {}
                None => unknown.push(tag),
            }
        }
        Ok((known, unknown))
    }

    /// HMAC-SHA256 under the look-up pepper, its first 16 bytes.
    fn tag(&self, identifier: &str) -> [u8; 16] {
        let mac = self.pepper.clone().chain_update(identifier.as_bytes()).finalize().into_bytes();
        let mut tag = [0; 16];
        tag.iter_mut().zip(mac).for_each(|(byte, of_mac)| *byte = of_mac);
        tag
    }

    /// The key of a person's parts of a class, made if there is none.
    ///
    /// # Errors
    /// `NoRandom`, `Damaged`, `Io`.
    pub fn subject_key(&mut self, subject: SubjectRef, class: u32) -> Result<Key, KeyringError> {
        if let Some(key) = self.key_of(subject, class)? {
            return Ok(key);
        }
        let key = Key(self.store.random.bytes()?);
        self.store.put(Table::Keys, &class_key(subject, class), &key.0);
        Ok(key)
    }

    /// The key of a subject's parts of a class, for opening them; absent: erased, or never made.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn key_of(&mut self, subject: SubjectRef, class: u32) -> Result<Option<Key>, KeyringError> {
        Ok(self.store.get(Table::Keys, &class_key(subject, class))?.map(|key| Key(*key)))
    }

    /// A surrogate and a key of its own for one quarantined record: it can be destroyed alone.
    ///
    /// # Errors
    /// `NoRandom`, `Damaged`, `Io`.
    pub fn quarantine(&mut self) -> Result<(SubjectRef, Key), KeyringError> {
        let subject = SubjectRef(self.store.random.bytes()?);
        Ok((subject, self.subject_key(subject, CLASS_QUARANTINE)?))
    }

    /// Makes the keys of an epoch of this log, one per class of `classes`; those that exist stay, so it may be repeated.
    /// Class numbers mean the same in every log of a keyring: the list must continue the one known.
    ///
    /// # Errors
    /// `OtherClass`, and then nothing changes; `NoRandom`, `Damaged`, `Io`.
    pub fn open_epoch<C: AsRef<str>>(&mut self, epoch: u64, classes: &[C]) -> Result<(), KeyringError> {
        for (name, class) in classes.iter().zip(0u32..) {
            let known = self.store.get::<32>(Table::Classes, &class.to_be_bytes())?;
            if known.is_some_and(|known| *known != Hash::of(name.as_ref().as_bytes()).0) {
                return Err(KeyringError::OtherClass { class });
            }
        }
        for (name, class) in classes.iter().zip(0u32..) {
            if self.store.get::<32>(Table::Classes, &class.to_be_bytes())?.is_none() {
                self.store.put(Table::Classes, &class.to_be_bytes(), &Hash::of(name.as_ref().as_bytes()).0);
            }
            if self.epoch_key(class, epoch)?.is_none() {
                let key = Zeroizing::new(self.store.random.bytes::<32>()?);
                self.store.put(Table::EpochKeys, &self.epoch_row(class, epoch), &*key);
            }
        }
        Ok(())
    }

    /// The key of a class in an epoch of this log; absent: expired, or never opened.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn epoch_key(&mut self, class: u32, epoch: u64) -> Result<Option<Key>, KeyringError> {
        let row = self.epoch_row(class, epoch);
        Ok(self.store.get(Table::EpochKeys, &row)?.map(|key| Key(*key)))
    }

    fn epoch_row(&self, class: u32, epoch: u64) -> [u8; 16] {
        let mut row = [0; 16];
        row[..4].copy_from_slice(&self.log.to_be_bytes());
        row[4..8].copy_from_slice(&class.to_be_bytes());
        row[8..].copy_from_slice(&epoch.to_be_bytes());
        row
    }

    /// Counts the record at `seq` as one of the person's: its `subject_seq`, from 1. The same record again gets the same
    /// number, so that its parts of several classes share it and a replay may start anywhere up to `counted_to`.
    ///
    /// # Errors
    /// `CountedAlready` where a later record of the person is counted, `Damaged`, `Io`.
    pub fn count(&mut self, subject: SubjectRef, seq: Seq) -> Result<u64, KeyringError> {
        let (count, last) = match self.store.get::<16>(Table::Counts, &subject.0)? {
            Some(value) => {
                let value = u128::from_be_bytes(*value);
                // The value is two be64 side by side.
                (u64::try_from(value >> 64).unwrap_or(0), u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0))
            }
            None => (0, 0),
        };
        if count > 0 && seq.0 < last {
            return Err(KeyringError::CountedAlready { counted: last, at: seq.0 });
        }
        if count > 0 && seq.0 == last {
            return Ok(count);
        }
        let value = (u128::from(count + 1) << 64) | u128::from(seq.0);
        self.store.put_count(&subject.0, &value.to_be_bytes());
        Ok(count + 1)
    }

    /// The counts that a crash leaves: those of the records of the log's first so many entries. At open the caller calls
    /// `count` for every record from there to the journal's end; beyond the journal's size: `recount`.
    pub fn counted_to(&self) -> Size {
        if self.store.series == self.store.manifest.series { self.store.manifest.counted_to } else { Size(0) }
    }

    /// Makes all counts void: after the journal lost entries that were counted. Then count again from seq 0.
    pub fn recount(&mut self) {
        self.store.begin_series();
    }

    /// Makes every new person, key and epoch durable: one fdatasync, none where nothing is new. Called once per commit
    /// group, before the journal commits the entries that use them. Keep the mark in that commit.
    ///
    /// # Errors
    /// `Io`; unless it `is_retryable`, this owner writes nothing more.
    pub fn sync(&mut self) -> Result<Mark, KeyringError> {
        self.store.sync()
    }

    /// Whether a fold pays. It takes about 0.1 s at 100,000 people, 0.6 s at a million. `journal_size` bounds what the
    /// next open has to count again.
    pub fn fold_is_due(&self, journal_size: Size) -> bool {
        self.store.fold_is_due() || self.store.is_far_behind(journal_size.0.saturating_sub(self.counted_to().0))
    }

    /// Puts what is new into the shards. Only between commit groups: every record counted so far must be in the journal,
    /// durable, and `journal_size` is its size. Do it before the journal drops entries from `counted_to` on.
    ///
    /// # Errors
    /// `Io`, `Damaged`. Where it `is_retryable` nothing has changed.
    pub fn fold(&mut self, journal_size: Size) -> Result<(), KeyringError> {
        self.store.fold(self.oid, journal_size)
    }

    /// Reads and authenticates every shard. For `doctor` and after a restore: `open` reads shards only when needed.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`.
    pub fn check(&mut self) -> Result<(), KeyringError> {
        for at in 0..self.store.slots.len() {
            self.store.load(at)?;
        }
        Ok(())
    }
}

/// What `subject` found or made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The person's surrogate.
    pub reference: SubjectRef,
    /// Whether it was made just now.
    pub is_new: bool,
}

/// The row of a person's key.
fn class_key(subject: SubjectRef, class: u32) -> [u8; 20] {
    let mut row = [0; 20];
    row[..16].copy_from_slice(&subject.0);
    row[16..].copy_from_slice(&class.to_be_bytes());
    row
}
