//! A shard: the part of the keyring that is sealed, rewritten and destroyed as one.
//!
//! Rows stand in the shard that the first bits of their key name; keys are random or keyed hashes, so shards fill evenly.
//! Shard numbers are those of a binary heap: 256..511 at first, shard n splits into 2n and 2n+1, the bits after the
//! leading one are the prefix. Shard 0 is apart: peppers, epoch keys, what the keyring knows about its logs.
//! Spec: docs/keyring.md, `shards/`.

use zeroize::Zeroizing;

use super::KeyringError;
use super::bytes::{Reader, be32};
use super::crypt::{Random, SEALED_OVERHEAD, SealKey, derive};
use super::disk::{Disk, SHARDS};
use super::kek::Epochs;
use super::rows::{Rows, TABLES, Table};

const MAGIC: &[u8; 8] = b"PFKRshrd";
const VERSION: u32 = 1;
const HEAD_LEN: usize = 8 + 4 + 16 + 4 + 8;

/// Weighed rows a shard file holds at most: what an erasure has to rewrite for one person.
#[cfg(not(test))]
pub(super) const SHARD_KEYS_MAX: usize = 4096;
/// The same for tests, which split long before 4,096.
#[cfg(test)]
pub(super) const SHARD_KEYS_MAX: usize = 8;

/// A shard's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct ShardNo(pub(super) u32);

impl ShardNo {
    /// The shard of peppers and epoch keys.
    pub(super) const ROOT: ShardNo = ShardNo(0);
    /// The first shards of people and look-ups.
    pub(super) const FIRST: std::ops::Range<u32> = 256..512;
    /// The deepest one: 2^23 shards are 17 G keys.
    const DEPTH_MAX: u32 = 23;

    /// Bits of its prefix.
    pub(super) fn depth(self) -> u32 {
        self.0.checked_ilog2().unwrap_or(0)
    }

    /// The places of a directory of `depth` bits that are this shard's.
    pub(super) fn places(self, depth: u32) -> std::ops::Range<u32> {
        let (prefix, shift) = (self.0 - (1 << self.depth()), depth - self.depth());
        prefix << shift..(prefix + 1) << shift
    }

    /// The two halves, or `None` where it is as deep as shards go.
    pub(super) fn halves(self) -> Option<[ShardNo; 2]> {
        (self.depth() < ShardNo::DEPTH_MAX).then_some([ShardNo(self.0 * 2), ShardNo(self.0 * 2 + 1)])
    }

    /// Whether the shard is this one or came of it, for an address.
    pub(super) fn holds(self, address: &[u8]) -> bool {
        self.places(32 - 1).contains(&(top(address) >> 1))
    }

    /// Whether it is a shard of people and look-ups, of a depth that exists.
    pub(super) fn is_of_people(self) -> bool {
        self.0 >= ShardNo::FIRST.start && self.depth() <= ShardNo::DEPTH_MAX
    }
}

/// The first 32 bits of a row's key.
pub(super) fn top(address: &[u8]) -> u32 {
    address.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// The rows of a shard, table by table.
pub(super) struct Tables([Rows; TABLES.len()]);

impl Tables {
    pub(super) fn new() -> Tables {
        Tables(TABLES.map(Rows::new))
    }

    #[expect(clippy::indexing_slicing, reason = "a table's index is its place in an array as long as TABLES")]
    pub(super) fn of(&self, table: Table) -> &Rows {
        &self.0[table.index()]
    }

    #[expect(clippy::indexing_slicing, reason = "a table's index is its place in an array as long as TABLES")]
    pub(super) fn of_mut(&mut self, table: Table) -> &mut Rows {
        &mut self.0[table.index()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Rows::is_empty)
    }

    /// Bytes held in memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(Rows::bytes).sum()
    }

    /// Rows of `shard` that count against its limit.
    pub(super) fn weight_of(&self, shard: ShardNo) -> usize {
        let weighed = TABLES.into_iter().filter(|table| table.is_weighed());
        weighed.flat_map(|table| self.of(table).iter()).filter(|row| shard.holds(row)).count()
    }

    /// Adds the rows of `newer`, which win.
    pub(super) fn absorb(&mut self, newer: &mut Tables) {
        for (rows, newer) in self.0.iter_mut().zip(&mut newer.0) {
            rows.absorb(newer);
        }
    }

    /// The rows that belong in `shard`.
    pub(super) fn of_shard(&mut self, shard: ShardNo) -> Tables {
        Tables(TABLES.map(|table| {
            let rows = self.of_mut(table);
            rows.settle();
            rows.filtered(table, |row| shard.holds(row))
        }))
    }
}

/// A shard's data-encryption key, in clear only in memory, wrapped under the shard's KEK epoch in the manifest.
pub(super) struct Dek(Zeroizing<[u8; 32]>);

impl Dek {
    /// A fresh one and its wrapped form.
    pub(super) fn generate(
        epochs: &Epochs,
        random: &mut Random,
        keyring: [u8; 16],
        shard: ShardNo,
        epoch: u64,
    ) -> Result<(Dek, Vec<u8>), KeyringError> {
        let dek = Dek(Zeroizing::new(random.bytes()?));
        let wrapped = epochs.wrap(random, epoch, &Dek::context(keyring, shard, epoch), &dek.0)?;
        Ok((dek, wrapped))
    }

    /// The wrapped one.
    pub(super) fn unwrap(
        epochs: &Epochs,
        keyring: [u8; 16],
        shard: ShardNo,
        epoch: u64,
        wrapped: &[u8],
    ) -> Result<Dek, KeyringError> {
        let context = Dek::context(keyring, shard, epoch);
        epochs
            .unwrap(epoch, &context, wrapped)
            .map(Dek)
            .ok_or_else(|| KeyringError::damaged("manifest", "the key of a shard does not open under its KEK epoch"))
    }

    /// What a wrapped key is bound to.
    fn context(keyring: [u8; 16], shard: ShardNo, epoch: u64) -> Vec<u8> {
        [&b"pinfold/keyring/v1/dek\0"[..], &keyring, &shard.0.to_be_bytes(), &epoch.to_be_bytes()].concat()
    }

    /// The key of the shard's files.
    pub(super) fn file_key(&self) -> SealKey {
        SealKey::new(&derive(&self.0, b"pinfold/keyring/v1/shard\0", &[]))
    }

    /// The key of the shard's records in one write-ahead file: another for each, so that random nonces stay far from
    /// colliding.
    pub(super) fn wal_key(&self, generation: u64) -> SealKey {
        SealKey::new(&derive(&self.0, b"pinfold/keyring/v1/wal\0", &generation.to_be_bytes()))
    }

    /// Of shard 0 only: the key that authenticates the manifest or a write-ahead file.
    pub(super) fn mac_key(&self, label: &[u8], generation: u64) -> aws_lc_rs::hmac::Key {
        super::crypt::mac_key(&self.0, label, &generation.to_be_bytes())
    }
}

/// The name of a shard's file.
pub(super) fn file_name(shard: ShardNo, generation: u64) -> String {
    format!("{SHARDS}/{:08x}.{generation:016x}", shard.0)
}

/// A shard file's bytes. `series` is the count series its counts belong to.
pub(super) fn encode(
    random: &mut Random,
    keyring: [u8; 16],
    shard: ShardNo,
    generation: u64,
    dek: &Dek,
    series: u32,
    tables: &mut Tables,
) -> Result<Vec<u8>, KeyringError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(tables.bytes() + 64));
    plain.extend_from_slice(&series.to_be_bytes());
    for table in TABLES {
        let rows = tables.of_mut(table);
        rows.settle();
        plain.extend_from_slice(&be32(rows.as_bytes().len()));
        plain.extend_from_slice(rows.as_bytes());
    }
    let head = head(keyring, shard, generation);
    let mut bytes = Vec::with_capacity(head.len() + plain.len() + SEALED_OVERHEAD);
    bytes.extend_from_slice(&head);
    dek.file_key().seal_to(&mut bytes, random, &head, &plain)?;
    Ok(bytes)
}

/// Reads a shard's file: the count series and the rows.
pub(super) fn read(
    disk: &Disk,
    keyring: [u8; 16],
    shard: ShardNo,
    generation: u64,
    dek: &Dek,
) -> Result<(u32, Tables), KeyringError> {
    let name = file_name(shard, generation);
    let damaged = |what| move || KeyringError::damaged(&file_name(shard, generation), what);
    let bytes = disk.read(&name)?;
    let (found, sealed) = bytes.split_at_checked(HEAD_LEN).ok_or_else(damaged("it is cut"))?;
    let mut reader = Reader(found);
    if reader.array() != Some(*MAGIC) {
        return Err(damaged("it does not start as a shard")());
    }
    match reader.u32() {
        Some(VERSION) => {}
        version => return Err(KeyringError::Version { file: name, version: version.unwrap_or(0) }),
    }
    let head = head(keyring, shard, generation);
    if found != head.as_slice() {
        return Err(damaged("it is another shard's, or of another generation")());
    }
    let plain = dek.file_key().open(&head, sealed).ok_or_else(damaged("its content does not authenticate"))?;
    decode(&plain, shard).ok_or_else(damaged("its rows are not well-formed"))
}

fn decode(plain: &[u8], shard: ShardNo) -> Option<(u32, Tables)> {
    let mut reader = Reader(plain);
    let series = reader.u32()?;
    let mut tables = Tables::new();
    for table in TABLES {
        let rows = Rows::read(table, reader.counted()?)?;
        let is_root = shard == ShardNo::ROOT;
        let in_place = rows.is_empty()
            || (table.is_of_root() && is_root)
            || (!table.is_of_root() && !is_root && rows.iter().all(|row| shard.holds(row)));
        if !in_place {
            return None;
        }
        *tables.of_mut(table) = rows;
    }
    reader.is_empty().then_some((series, tables))
}

fn head(keyring: [u8; 16], shard: ShardNo, generation: u64) -> Vec<u8> {
    [&MAGIC[..], &be32(1), &keyring, &shard.0.to_be_bytes(), &generation.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_in_one_half_of_its_shard() {
        let shard = ShardNo(0x13f);
        assert_eq!((shard.depth(), shard.places(8), shard.places(10)), (8, 0x3f..0x40, 0xfc..0x100));
        let [left, right] = shard.halves().unwrap();
        for second in 0..=255u8 {
            let address = [0x3f, second, 0, 0];
            assert!(shard.holds(&address));
            assert_eq!((left.holds(&address), right.holds(&address)), (second < 128, second >= 128));
            assert!(!ShardNo(0x140).holds(&address));
        }
        assert!(ShardNo(511).holds(&[0xff; 16]) && !ShardNo(510).holds(&[0xff; 16]));
        assert!(!ShardNo(255).is_of_people() && ShardNo(256).is_of_people() && ShardNo(1 << 23).is_of_people());
        assert!(!ShardNo(1 << 24).is_of_people() && !ShardNo::ROOT.is_of_people());
    }
}
