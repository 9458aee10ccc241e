//! The sled database of one generation of the journal: two trees, atomic writes, and the sync sled leaves out.
//!
//! `Db::flush` ends in `sync_file_range`, which is no promise after a power cut; every commit here ends in our own
//! `fdatasync` of its file. What the keys mean is in `state` and `block`. Layout: docs/journal.md.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};
use sled::{Db, IVec, Tree};

use super::block::{BLOCK_BYTES_MAX, Block};
use super::error::JournalError;
use super::files;
use super::state::{PositionRow, decode_position};
use crate::core::position::Partition;
use crate::core::seq::Seq;

/// Values must stay below a quarter of it, or sled writes them to files that it never syncs.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
/// Pages of the store held in memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Keys of one write, at most: larger ones stall the store.
pub(super) const WRITE_KEYS_MAX: usize = 1024;

/// One generation of the database.
pub(super) struct Store {
    db: Db,
    log: Tree,
    state: Tree,
    /// The file `db`, opened by us, for our own sync.
    file: File,
    dir: PathBuf,
}

/// What one atomic write changes.
#[derive(Default)]
pub(super) struct Write {
    /// Blocks by first seq; `None` removes.
    pub(super) log: Vec<(Seq, Option<Vec<u8>>)>,
    /// Rows by key; `None` removes.
    pub(super) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The next offsets the write was made for: compared inside the transaction.
    pub(super) expected: Vec<(Partition, Option<u64>)>,
}

/// Why a write did not happen.
pub(super) enum WriteError {
    /// A position was elsewhere; nothing was written.
    Refused(JournalError),
    /// The store failed: what is on the disk is unknown.
    Unknown(String),
}

/// The keys of the tree of rows. The first byte says what a row is.
pub(super) mod key {
    use crate::core::position::Partition;

    pub(in super::super) const STATE: &[u8] = b"s";
    pub(in super::super) const HALT: &[u8] = b"h";
    pub(in super::super) const POSITIONS: &[u8] = b"p";
    pub(in super::super) const RULES: &[u8] = b"r";
    pub(in super::super) const SEALS: &[u8] = b"g";
    pub(in super::super) const PEAKS: &[u8] = b"q";
    pub(in super::super) const OUTBOX: &[u8] = b"o";
    pub(in super::super) const ROWS: &[u8] = b"k";

    pub(in super::super) fn position(partition: Partition) -> Vec<u8> {
        [POSITIONS, &partition.topic_no.to_be_bytes(), &partition.partition.to_be_bytes()].concat()
    }

    pub(in super::super) fn rules(chunk: usize) -> Vec<u8> {
        [RULES, &(chunk as u64).to_be_bytes()].concat()
    }

    pub(in super::super) fn seal(segment: u64) -> Vec<u8> {
        [SEALS, &segment.to_be_bytes()].concat()
    }

    pub(in super::super) fn peaks(segment: u64) -> Vec<u8> {
        [PEAKS, &segment.to_be_bytes()].concat()
    }

    pub(in super::super) fn outbox(segment: u64, name: &str) -> Vec<u8> {
        [OUTBOX, &segment.to_be_bytes(), name.as_bytes()].concat()
    }

    pub(in super::super) fn row(name: &str) -> Vec<u8> {
        [ROWS, name.as_bytes()].concat()
    }
}

impl Store {
    /// Makes a new, empty database in `dir`, durably.
    pub(super) fn create(dir: &Path) -> Result<Store, JournalError> {
        files::make_dir(dir)?;
        let store = Store::start(dir)?;
        store.sync().map_err(|e| JournalError::io("syncing", dir, io::Error::other(e)))?;
        store.file.sync_all().map_err(|e| JournalError::io("syncing", dir, e))?;
        files::sync_dir(dir)?;
        Ok(store)
    }

    /// Opens the database in `dir`, which must be there.
    pub(super) fn open(dir: &Path) -> Result<Store, JournalError> {
        let path = dir.join("db");
        // After a kill the page cache may hold what the disk does not. sled writes down what it reads now, so the disk
        // must have it first.
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::damaged(path.display().to_string(), "a database", "none"));
            }
            other => other.and_then(|file| file.sync_all()).map_err(|e| JournalError::io("syncing", &path, e))?,
        }
        let store = Store::start(dir)?;
        files::sync_dir(dir)?;
        Ok(store)
    }

    fn start(dir: &Path) -> Result<Store, JournalError> {
        let config = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        // On bytes it did not write sled may panic rather than fail; for us both mean damaged.
        let open = || -> Result<(Db, Tree, Tree), sled::Error> {
            let db = open_freed(&config)?;
            let (log, state) = (db.open_tree("log")?, db.open_tree("state")?);
            Ok((db, log, state))
        };
        let Ok(opened) = catch_unwind(AssertUnwindSafe(open)) else {
            return Err(JournalError::damaged(
                dir.display().to_string(),
                "a readable store",
                "one that sled panics on",
            ));
        };
        let (db, log, state) = opened.map_err(failed)?;
        let file = File::open(dir.join("db")).map_err(|e| JournalError::io("opening", &dir.join("db"), e))?;
        Ok(Store { db, log, state, file, dir: dir.to_owned() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes all of `write` or nothing, and makes it durable.
    pub(super) fn commit(&self, write: Write) -> Result<(), WriteError> {
        let keys = write.log.len() + write.rows.len();
        assert!(keys <= WRITE_KEYS_MAX, "a write of {keys} keys");
        self.apply(write)?;
        self.sync().map_err(WriteError::Unknown)
    }

    /// Writes all of `write` or nothing. Durable only after [`Store::sync`].
    pub(super) fn apply(&self, write: Write) -> Result<(), WriteError> {
        let ivec = |value: Option<Vec<u8>>| value.map(IVec::from);
        let log: Vec<_> = write.log.into_iter().map(|(seq, value)| (seq.0.to_be_bytes(), ivec(value))).collect();
        let rows: Vec<_> = write.rows.into_iter().map(|(key, value)| (key, ivec(value))).collect();
        let large = |value: &Option<IVec>| value.as_ref().is_some_and(|value| value.len() > BLOCK_BYTES_MAX);
        assert!(!log.iter().any(|(_, value)| large(value)), "a block above {BLOCK_BYTES_MAX} bytes");
        assert!(!rows.iter().any(|(_, value)| large(value)), "a row above {BLOCK_BYTES_MAX} bytes");
        let done = (&self.log, &self.state).transaction(|(log_tree, row_tree)| {
            for (partition, expected) in &write.expected {
                let found = match row_tree.get(key::position(*partition))? {
                    None => None,
                    Some(row) => Some(decode_position(&row).map_err(ConflictableTransactionError::Abort)?.next_offset),
                };
                if found != *expected {
                    let moved = JournalError::Moved { partition: *partition, expected: *expected, found };
                    return Err(ConflictableTransactionError::Abort(moved));
                }
            }
            for (seq, value) in &log {
                match value {
                    Some(value) => log_tree.insert(seq, value.clone())?,
                    None => log_tree.remove(seq)?,
                };
            }
            for (key, value) in &rows {
                match value {
                    Some(value) => row_tree.insert(&key[..], value.clone())?,
                    None => row_tree.remove(&key[..])?,
                };
            }
            Ok(())
        });
        match done {
            Ok(()) => Ok(()),
            Err(TransactionError::Abort(refused)) => Err(WriteError::Refused(refused)),
            Err(TransactionError::Storage(e)) => Err(WriteError::Unknown(format!("writing the store: {e}"))),
        }
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<(), String> {
        self.db.flush().map_err(|e| format!("flushing the store: {e}"))?;
        self.file.sync_data().map_err(|e| format!("syncing the store: {e}"))
    }

    /// Whether no value became a file of its own, which would not be synced.
    pub(super) fn has_no_blobs(&self) -> Result<bool, JournalError> {
        let dir = self.dir.join("blobs");
        match std::fs::read_dir(&dir) {
            Ok(mut list) => Ok(list.next().is_none()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(JournalError::io("reading", &dir, e)),
        }
    }

    /// The row under `key`.
    pub(super) fn row(&self, key: &[u8]) -> Result<Option<IVec>, JournalError> {
        self.state.get(key).map_err(failed)
    }

    /// All rows whose keys start with `prefix`, by key.
    pub(super) fn rows(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(IVec, IVec), JournalError>> + use<> {
        self.state.scan_prefix(prefix).map(|row| row.map_err(failed))
    }

    /// The stored position of `partition`.
    pub(super) fn position(&self, partition: Partition) -> Result<Option<PositionRow>, JournalError> {
        self.row(&key::position(partition))?.map(|row| decode_position(&row)).transpose()
    }

    /// The block that holds `seq`, or the next one behind it, and all later ones.
    pub(super) fn blocks(&self, seq: Seq) -> Result<Blocks, JournalError> {
        let before = self.log.get_lt((seq.0 + 1).to_be_bytes()).map_err(failed)?;
        let from = match before {
            None => seq,
            Some((key, value)) => {
                let block = read_block((key, value))?;
                if block.end_seq() > seq { block.first } else { seq }
            }
        };
        Ok(Blocks(self.log.range(from.0.to_be_bytes()..)))
    }

    /// The last block.
    pub(super) fn last_block(&self) -> Result<Option<Block>, JournalError> {
        self.log.last().map_err(failed)?.map(read_block).transpose()
    }
}

/// Opens the database, which nobody else can own: we hold the journal's own lock. But after a handle of this process
/// is dropped sled's threads keep the file locked for a moment.
fn open_freed(config: &sled::Config) -> Result<Db, sled::Error> {
    let mut waits = 500;
    loop {
        match config.open() {
            Err(sled::Error::Io(e)) if waits > 0 && e.to_string().contains("could not acquire lock") => {
                waits -= 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// Blocks in order.
pub(super) struct Blocks(sled::Iter);

impl Iterator for Blocks {
    type Item = Result<Block, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(failed).and_then(read_block))
    }
}

fn read_block((key, value): (IVec, IVec)) -> Result<Block, JournalError> {
    let Ok(first) = <[u8; 8]>::try_from(&key[..]) else {
        return Err(JournalError::damaged("log block", "a key of 8 bytes", hex::encode(&key)));
    };
    Block::read(Seq(u64::from_be_bytes(first)), value)
}

fn failed(error: sled::Error) -> JournalError {
    match error {
        sled::Error::Io(e) => JournalError::io("reading", Path::new("the store"), e),
        other => JournalError::damaged("the store", "readable pages", other.to_string()),
    }
}
