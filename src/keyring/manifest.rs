//! The manifest: which files are the keyring, of one generation. Replacing it commits a fold, a split or an erasure.
//!
//! It names everything and holds no secret: shard keys stand in it wrapped. Authenticated by a key of shard 0.
//! Spec: docs/keyring.md, `manifest`.

use crate::core::hash::Hash;
use crate::core::seq::Size;

use super::bytes::{Reader, be32};
use super::crypt::{MAC_LEN, mac, mac_is};
use super::disk::Disk;
use super::kek::Epochs;
use super::shard::{Dek, ShardNo};
use super::{KeyringError, Mark};

/// The file's name.
pub(super) const MANIFEST: &str = "manifest";
const MAGIC: &[u8; 8] = b"PFKRmani";
const VERSION: u32 = 1;

/// What the manifest says.
#[derive(Clone)]
pub(super) struct Manifest {
    /// Random; made once.
    pub(super) keyring: [u8; 16],
    /// Counts the manifests; also of the write-ahead file in use.
    pub(super) generation: u64,
    /// Groups before the write-ahead file in use.
    pub(super) mark: Mark,
    /// The next KEK epoch to make. Numbers are never used again.
    pub(super) next_epoch: u64,
    /// Counts of another series are void.
    pub(super) series: u32,
    /// The log the series counts for: SHA-256 of its origin.
    pub(super) counts_of: Hash,
    /// The counts of the shard files are those of this log's first entries.
    pub(super) counted_to: Size,
    /// Every shard, by number, shard 0 first.
    pub(super) shards: Vec<Entry>,
}

/// A shard as the manifest names it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) shard: ShardNo,
    /// Of its file.
    pub(super) generation: u64,
    /// Bytes of its file; 0: no file, nothing in it yet.
    pub(super) len: u64,
    /// The KEK epoch its key is wrapped under.
    pub(super) epoch: u64,
    /// Its key, wrapped.
    pub(super) wrapped: Vec<u8>,
}

impl Manifest {
    /// Replaces the manifest. This is the commit point of every change of the keyring but a group.
    pub(super) fn write(&self, disk: &Disk, root: &Dek) -> Result<(), KeyringError> {
        let mut bytes = self.encode();
        let tag = mac(&mac_key(root, self.generation), &[&bytes]);
        bytes.extend_from_slice(&tag);
        disk.replace(MANIFEST, &bytes)
    }

    /// Reads and authenticates it. `bytes` are those of the file.
    pub(super) fn read(bytes: &[u8], epochs: &Epochs) -> Result<(Manifest, Dek), KeyringError> {
        let damaged = |what| move || KeyringError::damaged(MANIFEST, what);
        let (signed, tag) = bytes.split_last_chunk::<MAC_LEN>().ok_or_else(damaged("it is cut"))?;
        Manifest::keyring_of(bytes)?;
        let manifest = Manifest::decode(signed).ok_or_else(damaged("it is not well-formed"))?;
        let root = manifest.shards.first().ok_or_else(damaged("it names no shards"))?;
        let root = Dek::unwrap(epochs, manifest.keyring, root.shard, root.epoch, &root.wrapped)?;
        if !mac_is(&mac_key(&root, manifest.generation), &[signed], tag) {
            return Err(damaged("its content does not authenticate")());
        }
        Ok((manifest, root))
    }

    /// The keyring's id, before anything is authenticated: needed to open the epochs.
    pub(super) fn keyring_of(bytes: &[u8]) -> Result<[u8; 16], KeyringError> {
        let mut reader = Reader(bytes);
        if reader.array() != Some(*MAGIC) {
            return Err(KeyringError::damaged(MANIFEST, "it does not start as one"));
        }
        match reader.u32() {
            Some(VERSION) => {}
            version => {
                return Err(KeyringError::Version { file: MANIFEST.to_owned(), version: version.unwrap_or(0) });
            }
        }
        reader.array().ok_or_else(|| KeyringError::damaged(MANIFEST, "it is cut"))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = [&MAGIC[..], &be32(1), &self.keyring, &self.generation.to_be_bytes()].concat();
        out.extend_from_slice(&self.mark.0.to_be_bytes());
        out.extend_from_slice(&self.next_epoch.to_be_bytes());
        out.extend_from_slice(&self.series.to_be_bytes());
        out.extend_from_slice(&self.counts_of.0);
        out.extend_from_slice(&self.counted_to.0.to_be_bytes());
        for entry in &self.shards {
            out.extend_from_slice(&entry.shard.0.to_be_bytes());
            out.extend_from_slice(&entry.generation.to_be_bytes());
            out.extend_from_slice(&entry.len.to_be_bytes());
            out.extend_from_slice(&entry.epoch.to_be_bytes());
            out.extend_from_slice(&be32(entry.wrapped.len()));
            out.extend_from_slice(&entry.wrapped);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Manifest> {
        let mut reader = Reader(bytes);
        reader.take(MAGIC.len() + 4)?;
        let mut manifest = Manifest {
            keyring: reader.array()?,
            generation: reader.u64()?,
            mark: Mark(reader.u64()?),
            next_epoch: reader.u64()?,
            series: reader.u32()?,
            counts_of: Hash(reader.array()?),
            counted_to: Size(reader.u64()?),
            shards: Vec::new(),
        };
        while !reader.is_empty() {
            manifest.shards.push(Entry {
                shard: ShardNo(reader.u32()?),
                generation: reader.u64()?,
                len: reader.u64()?,
                epoch: reader.u64()?,
                wrapped: reader.counted()?.to_vec(),
            });
        }
        manifest.is_whole().then_some(manifest)
    }

    /// Whether the shards are shard 0 and, each once, shards that together hold every address.
    fn is_whole(&self) -> bool {
        let Some((root, rest)) = self.shards.split_first() else { return false };
        let mut covered: Vec<_> = rest.iter().filter(|entry| entry.shard.is_of_people()).collect();
        covered.sort_by_key(|entry| entry.shard.places(31).start);
        let mut next = 0;
        for entry in &covered {
            let places = entry.shard.places(31);
            if places.start != next {
                return false;
            }
            next = places.end;
        }
        root.shard == ShardNo::ROOT && covered.len() == rest.len() && next == 1 << 31
    }
}

fn mac_key(root: &Dek, generation: u64) -> aws_lc_rs::hmac::Key {
    root.mac_key(b"pinfold/keyring/v1/manifest\0", generation)
}
