//! The write-ahead file: new rows, durable with one sync per commit group, until a fold puts them into shards.
//!
//! One group per sync; in it one record per shard touched, sealed under that shard's key, so that destroying the shard's
//! KEK epoch destroys its records here too. Only the last group can be half written: it was never reported durable, so it
//! is cut. A damaged group with a whole one behind it is corruption and refused. A damaged *last* group cannot be told
//! from a torn one by this file alone: the journal keeps the mark of what it saw durable, see `Keyring::require`.
//! Spec: docs/keyring.md, `wal`.

use std::fs::File;
use std::ops::Range;

use aws_lc_rs::hmac;

use super::bytes::{Reader, be32};
use super::crypt::{MAC_LEN, mac, mac_is};
use super::disk::Disk;
use super::shard::{Dek, ShardNo};
use super::{KeyringError, Mark};

const MAGIC: &[u8; 8] = b"PFKRwal\0";
const VERSION: u32 = 1;
const GROUP: &[u8; 4] = b"KGRP";
const HEAD_LEN: usize = 8 + 4 + 16 + 8 + MAC_LEN;
const GROUP_HEAD_LEN: usize = 4 + 8 + 4;

/// The open write-ahead file of one generation.
pub(super) struct Wal {
    name: String,
    file: File,
    key: hmac::Key,
    /// End of the last whole group.
    len: u64,
    /// Number of the last whole group, over all generations.
    mark: Mark,
    /// There are bytes behind `len` to cut before the next group.
    is_torn: bool,
    /// A sync failed: what is on disk is unknown.
    is_poisoned: bool,
}

/// One record found in a write-ahead file: a shard's sealed rows.
pub(super) struct Record {
    pub(super) shard: ShardNo,
    pub(super) aad: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

impl Wal {
    /// Starts the file of a generation. Its content is durable on return; nothing refers to it yet.
    pub(super) fn create(
        disk: &Disk,
        keyring: [u8; 16],
        generation: u64,
        root: &Dek,
        mark: Mark,
    ) -> Result<Wal, KeyringError> {
        let (name, key) = (file_name(generation), mac_key(root, generation));
        let mut bytes = [&MAGIC[..], &be32(1), &keyring, &generation.to_be_bytes()].concat();
        bytes.extend_from_slice(&mac(&key, &[&bytes]));
        let file = disk.write_new(&name, &bytes)?;
        let len = bytes.len() as u64;
        Ok(Wal { name, file, key, len, mark, is_torn: false, is_poisoned: false })
    }

    /// Reads the file of a generation: every whole group, in order. Changes nothing; a torn end is cut by the next
    /// `append`.
    pub(super) fn open(
        disk: &Disk,
        keyring: [u8; 16],
        generation: u64,
        root: &Dek,
        mark: Mark,
    ) -> Result<(Wal, Vec<Record>), KeyringError> {
        let (name, key) = (file_name(generation), mac_key(root, generation));
        let bytes = disk.read(&name)?;
        check_head(&name, &bytes, keyring, generation, &key)?;
        let (mut at, mut mark, mut records) = (HEAD_LEN, mark, Vec::new());
        while let Some(group) = Group::at(&bytes, at, &key) {
            mark = mark.next();
            if group.number != mark.0 {
                return Err(KeyringError::damaged(&name, "its groups are not in order"));
            }
            group
                .read(&bytes, &mut records)
                .ok_or_else(|| KeyringError::damaged(&name, "a group is not well-formed"))?;
            at = group.end;
        }
        let is_torn = at < bytes.len();
        if is_torn && (at + 1..bytes.len()).any(|later| Group::at(&bytes, later, &key).is_some()) {
            return Err(KeyringError::damaged(&name, "a group is damaged and later ones are whole"));
        }
        let file = disk.appender(&name)?;
        Ok((Wal { name, file, key, len: at as u64, mark, is_torn, is_poisoned: false }, records))
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The number of the last durable group.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Bytes of whole groups.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where the next group's records are bound to: shard and group number.
    pub(super) fn aad(&self, keyring: [u8; 16], shard: ShardNo) -> Vec<u8> {
        record_aad(keyring, shard, self.mark.next().0)
    }

    /// Writes a group of records (`shard be32 || be32 length || sealed`, one after the other) and makes it durable: one
    /// write, one fdatasync.
    pub(super) fn append(&mut self, disk: &Disk, records: &[u8]) -> Result<Mark, KeyringError> {
        if self.is_poisoned {
            return Err(KeyringError::Poisoned);
        }
        if self.is_torn {
            self.is_poisoned = true;
            disk.cut(&self.file, &self.name, self.len)?;
            disk.sync_data(&self.file, &self.name)?;
            (self.is_torn, self.is_poisoned) = (false, false);
        }
        let number = self.mark.next();
        let mut group = Vec::with_capacity(GROUP_HEAD_LEN + records.len() + MAC_LEN);
        group.extend_from_slice(GROUP);
        group.extend_from_slice(&number.0.to_be_bytes());
        group.extend_from_slice(&be32(records.len()));
        group.extend_from_slice(records);
        let tag = mac(&self.key, &[&group]);
        group.extend_from_slice(&tag);
        // A write that failed, the disk being full, may be repeated over a clean end. A sync that failed may not: the
        // system may have dropped the pages and would call the next one good.
        self.is_torn = true;
        disk.write_at(&self.file, &self.name, self.len, &group)?;
        self.is_poisoned = true;
        disk.sync_data(&self.file, &self.name)?;
        (self.is_torn, self.is_poisoned) = (false, false);
        self.len += group.len() as u64;
        self.mark = number;
        Ok(number)
    }
}

/// A group whose MAC is right.
struct Group {
    number: u64,
    records: Range<usize>,
    end: usize,
}

impl Group {
    /// The whole group that starts at `at`, if one does.
    fn at(bytes: &[u8], at: usize, key: &hmac::Key) -> Option<Group> {
        let mut reader = Reader(bytes.get(at..)?);
        if reader.array() != Some(*GROUP) {
            return None;
        }
        let number = reader.u64()?;
        let records = at + GROUP_HEAD_LEN..at + GROUP_HEAD_LEN + reader.counted()?.len();
        let found = reader.take(MAC_LEN)?;
        mac_is(key, &[bytes.get(at..records.end)?], found).then_some(Group {
            number,
            end: records.end + MAC_LEN,
            records,
        })
    }

    fn read(&self, bytes: &[u8], records: &mut Vec<Record>) -> Option<()> {
        let mut reader = Reader(bytes.get(self.records.clone())?);
        while !reader.is_empty() {
            let shard = ShardNo(reader.u32()?);
            let keyring = bytes.get(12..28)?.try_into().ok()?;
            records.push(Record {
                shard,
                aad: record_aad(keyring, shard, self.number),
                sealed: reader.counted()?.to_vec(),
            });
        }
        Some(())
    }
}

/// The name of a generation's file.
pub(super) fn file_name(generation: u64) -> String {
    format!("wal.{generation:016x}")
}

fn mac_key(root: &Dek, generation: u64) -> hmac::Key {
    root.mac_key(b"pinfold/keyring/v1/wal-mac\0", generation)
}

fn record_aad(keyring: [u8; 16], shard: ShardNo, group: u64) -> Vec<u8> {
    [&b"pinfold/keyring/v1/record\0"[..], &keyring, &shard.0.to_be_bytes(), &group.to_be_bytes()].concat()
}

fn check_head(
    name: &str,
    bytes: &[u8],
    keyring: [u8; 16],
    generation: u64,
    key: &hmac::Key,
) -> Result<(), KeyringError> {
    let mut reader = Reader(bytes);
    if reader.array() != Some(*MAGIC) {
        return Err(KeyringError::damaged(name, "it does not start as a write-ahead file"));
    }
    match reader.u32() {
        Some(VERSION) => {}
        version => return Err(KeyringError::Version { file: name.to_owned(), version: version.unwrap_or(0) }),
    }
    let is_ours = reader.array() == Some(keyring) && reader.u64() == Some(generation);
    let signed = bytes.get(..HEAD_LEN - MAC_LEN).unwrap_or_default();
    if !is_ours || !mac_is(key, &[signed], reader.take(MAC_LEN).unwrap_or_default()) {
        return Err(KeyringError::damaged(name, "its head does not authenticate"));
    }
    Ok(())
}
