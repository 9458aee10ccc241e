//! What a witness remembers: of each log the last checkpoint it cosigned, as the note it was, with its own line.
//!
//! SQLite and not a file for each log: a state that is lost in parts makes a witness that cosigns a fork, and one file is
//! lost or restored as a whole. The commit is durable when `put` returns (WAL, `synchronous=FULL`: every commit syncs the
//! log file; a rollback journal would need `EXTRA` for that). The file is locked by the process that has it open.
//! What it cannot notice: an older copy of the whole file put in its place. See docs/witness-server.md.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::core::note::{Note, WitnessVkey};
use crate::core::witness::{Tree, TreeHead};

/// The layout of the file, kept in `user_version`.
const LAYOUT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE witness (vkey TEXT NOT NULL) STRICT;
    CREATE TABLE log (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, note TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE fork (origin TEXT PRIMARY KEY, cosigned TEXT NOT NULL, other TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/// Why the state cannot be made, opened, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is a file already: a new state would forget what the old one promised.
    #[error("witness state {path}: exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no file. It is never made by the way: a witness that forgot would cosign a fork.
    #[error("witness state {path}: does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("witness state {path}: in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is of another key or another layout.
    #[error("witness state {path}: of {found}, expected {expected}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What is expected.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A row is not what was written: its note does not carry this witness's cosignature, or says something else.
    #[error("witness state {path}: the row of {origin:?} is not what this witness wrote: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The log.
        origin: String,
        /// What is wrong.
        what: String,
    },
    /// The disk or the database failed.
    #[error("witness state {path}: {doing}: {source}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file could not be made.
    #[error("witness state {path}: making the file: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The open state. One owner, one statement at a time.
pub(super) struct State {
    path: PathBuf,
    vkey: WitnessVkey,
    connection: Connection,
}

impl State {
    /// Makes the file, mode 0600, for the witness of this key. It and its name are durable on return.
    ///
    /// # Errors
    /// `Exists`, `File`, `Storage`.
    pub(super) fn create(path: &Path, vkey: &WitnessVkey) -> Result<(), StateError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => StateError::Exists { path: path.to_owned() },
            _ => StateError::File { path: path.to_owned(), source },
        };
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let made = connect(path).and_then(|mut connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(TABLES)?;
            transaction.execute("INSERT INTO witness VALUES (?1)", [vkey.to_string()])?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
            transaction.commit()?;
            connection.close().map_err(|(_, error)| error)
        });
        made.map_err(|source| StateError::Storage { path: path.to_owned(), doing: "making the tables", source })?;
        let absolute = std::path::absolute(path).map_err(failed)?;
        let dir = absolute.parent().unwrap_or(&absolute);
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Opens the file, locks it, and verifies every row.
    ///
    /// # Errors
    /// Every variant but `Exists` and `File`.
    pub(super) fn open(path: &Path, vkey: &WitnessVkey) -> Result<State, StateError> {
        let own_path = || path.to_owned();
        if !path.exists() {
            return Err(StateError::Missing { path: own_path() });
        }
        let failed = |doing: &'static str| {
            move |source: rusqlite::Error| match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StateError::InUse { path: own_path() },
                _ => StateError::Storage { path: own_path(), doing, source },
            }
        };
        let connection = connect(path).map_err(failed("opening the file"))?;
        let layout = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        let layout = layout.map_err(failed("reading the layout"))?;
        if layout != LAYOUT {
            let (expected, found) = (format!("layout {LAYOUT}"), format!("layout {layout}"));
            return Err(StateError::Other { path: own_path(), expected, found });
        }
        let check: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed("checking the file"))?;
        let found: String = connection
            .query_row("SELECT vkey FROM witness", [], |row| row.get(0))
            .map_err(failed("reading the key"))?;
        let expected = vkey.to_string();
        if check != "ok" || found != expected {
            let found = if check == "ok" { found } else { format!("a damaged file: {check}") };
            return Err(StateError::Other { path: own_path(), expected, found });
        }
        let state = State { path: own_path(), vkey: vkey.clone(), connection };
        state.verify()?;
        Ok(state)
    }

    fn verify(&self) -> Result<(), StateError> {
        let failed = |source| self.storage("reading all rows", source);
        let mut rows = self.connection.prepare("SELECT origin, size, note FROM log").map_err(failed)?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(failed)?;
        for row in rows {
            let (origin, size, note): (String, i64, String) = row.map_err(failed)?;
            self.tree_of(&origin, size, &note)?;
        }
        Ok(())
    }

    /// The last tree cosigned of this log; the empty one where there was none.
    ///
    /// # Errors
    /// `Damaged`, `Storage`.
    pub(super) fn last(&self, origin: &str) -> Result<Tree, StateError> {
        let row =
            self.connection.prepare_cached("SELECT size, note FROM log WHERE origin = ?1").and_then(|mut query| {
                query.query_row([origin], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).optional()
            });
        match row.map_err(|source| self.storage("reading a row", source))? {
            Some((size, note)) => self.tree_of(origin, size, &note),
            None => Ok(Tree::EMPTY),
        }
    }

    /// Stores the cosigned note of the log in the place of one of size `old`. Durable on return; where it fails, a
    /// restart may find the old note or this one, and nobody was told of this one.
    ///
    /// # Errors
    /// `Storage`; `Damaged` where the row is not of size `old`.
    pub(super) fn put(&mut self, origin: &str, old: Tree, new: Tree, note: &str) -> Result<(), StateError> {
        let path = &self.path;
        let failed = |source| StateError::Storage { path: path.clone(), doing: "storing a checkpoint", source };
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(failed)?;
        // The comparison again: what was judged is what is replaced, whoever calls this and however.
        let changed = transaction
            .prepare_cached(
                "INSERT INTO log VALUES (?1, ?3, ?4) ON CONFLICT (origin) DO UPDATE SET size = ?3, note = ?4 \
                 WHERE size = ?2",
            )
            .and_then(|mut put| put.execute((origin, sql(old), sql(new), note)))
            .map_err(failed)?;
        if changed != 1 {
            let what = "not of the size that was judged".to_owned();
            return Err(StateError::Damaged { path: path.clone(), origin: origin.to_owned(), what });
        }
        transaction.commit().map_err(failed)
    }

    /// Keeps the proof that a log forked: two notes it signed for one size. The first one is kept, for ever.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) fn keep_fork(&self, origin: &str, other: &str) -> Result<(), StateError> {
        let kept = self
            .connection
            .execute("INSERT OR IGNORE INTO fork SELECT origin, note, ?2 FROM log WHERE origin = ?1", (origin, other));
        kept.map(drop).map_err(|source| self.storage("keeping the proof of a fork", source))
    }

    /// What a row says, after its cosignature: whoever changes the file cannot make this witness believe it.
    fn tree_of(&self, origin: &str, size: i64, note: &str) -> Result<Tree, StateError> {
        let damaged = |what: &str| {
            let (path, origin) = (self.path.clone(), origin.to_owned());
            StateError::Damaged { path, origin, what: what.to_owned() }
        };
        let note = Note::parse(note).map_err(|e| damaged(&e.what))?;
        let head = TreeHead::parse(note.text).map_err(|e| damaged(&e.what))?;
        let tree = Tree { size: head.size, root: head.root };
        if head.origin != origin || sql(tree) != size {
            return Err(damaged("the note is of another log or size"));
        }
        match self.vkey.verify(&note) {
            Ok(times) if !times.is_empty() => Ok(tree),
            Ok(_) => Err(damaged("no cosignature")),
            Err(refused) => Err(damaged(&refused.what)),
        }
    }

    fn storage(&self, doing: &'static str, source: rusqlite::Error) -> StateError {
        StateError::Storage { path: self.path.clone(), doing, source }
    }
}

/// Sizes are `uint`s, so nothing is cut.
fn sql(tree: Tree) -> i64 {
    i64::try_from(tree.size.0).unwrap_or(i64::MAX)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Before anything is read: then the lock is taken with the first look, and kept.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}
