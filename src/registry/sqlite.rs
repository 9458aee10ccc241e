//! The embedded registry: one SQLite file beside the journal, the default.
//!
//! Not evidence: whoever writes the journal can write this file, so it can convict (its rows contradict the archive)
//! and never vouch. Other processes may read it while `run` writes: WAL, and nothing is locked longer than a commit.
//! Personal content is in it (event ids), so deleted cells are overwritten (`secure_delete`).

use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ToSql, Transaction, TransactionBehavior};
use uuid::Uuid;

use super::sql::{self, Dialect};
use super::{Fence, Filter, Query, Receipt, Registrar, RegistryError, SCHEMA_VERSION, TABLES, judge};
use crate::core::hash::Hash;
use crate::core::origin::Origin;
use crate::core::rows::{AnchorRow, EntryRow, Kind, LogRow, PinRow, Role, Row, SegmentRow, SegmentRows, Table, Value};
use crate::core::seq::Size;
use crate::core::time::Timestamp;

mod put;

/// How long a statement waits for another process's commit.
const BUSY: Duration = Duration::from_secs(10);

/// A registry in one SQLite file.
pub struct Sqlite {
    name: String,
    /// One connection, one statement at a time. A panic in between rolls its transaction back, so a poisoned lock
    /// still guards a sound connection.
    connection: Mutex<Connection>,
}

impl Sqlite {
    /// Opens the file for writing, and makes it, with mode 0600, where it is missing. `init` makes the schema.
    ///
    /// # Errors
    /// `Retry` where the file cannot be opened, `Refused` where it is no database.
    pub fn open(name: &str, path: &Path) -> Result<Sqlite, RegistryError> {
        let doing = "opening the file";
        let created = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        created.map_err(|error| RegistryError::Retry {
            registry: name.to_owned(),
            doing: doing.to_owned(),
            what: error.to_string(),
        })?;
        let opened =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                .and_then(|connection| {
                    connection.busy_timeout(BUSY)?;
                    connection.pragma_update(None, "journal_mode", "WAL")?;
                    connection.pragma_update(None, "synchronous", "FULL")?;
                    connection.pragma_update(None, "secure_delete", "ON")?;
                    Ok(connection)
                });
        let connection = opened.map_err(|error| failure(name, doing, &error))?;
        Ok(Sqlite { name: name.to_owned(), connection: Mutex::new(connection) })
    }

    /// Opens the file for reading only; from a directory nobody may write, as it stands.
    ///
    /// # Errors
    /// `Retry` where the file cannot be opened, `Refused` where it is no database.
    pub fn open_read(name: &str, path: &Path) -> Result<Sqlite, RegistryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let probe = |connection: &Connection| {
            connection.busy_timeout(BUSY)?;
            connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        };
        let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
            probe(&connection)?;
            Ok(connection)
        });
        // WAL wants to make its index file. Where the directory refuses, there can be no writer either, so the file may
        // be read as immutable; a WAL that still holds commits would be overlooked, and is refused.
        let opened = opened.or_else(|error| {
            let mut wal = path.as_os_str().to_owned();
            wal.push("-wal");
            if std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0) || !path.exists() {
                return Err(error);
            }
            let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            let uri = format!("file:{path}?immutable=1");
            let connection = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
            probe(&connection)?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| failure(name, "opening the file", &error))?;
        Ok(Sqlite { name: name.to_owned(), connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` in one transaction that is durable when this returns `Ok`, and is not there otherwise.
    fn transaction<T>(
        &self,
        doing: &str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut connection = self.connection();
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(|error| failure(&self.name, doing, &error))?;
        let value = body(&transaction)?;
        transaction.commit().map_err(|error| failure(&self.name, doing, &error))?;
        Ok(value)
    }
}

impl Registrar for Sqlite {
    fn name(&self) -> &str {
        &self.name
    }

    fn init(&self) -> Result<(), RegistryError> {
        self.transaction("making the schema", |transaction| {
            let failed = |error: rusqlite::Error| failure(&self.name, "making the schema", &error);
            let is_made = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'schema_version'";
            let is_made: i64 = transaction.query_row(is_made, [], |row| row.get(0)).map_err(failed)?;
            if is_made > 0 {
                let version = "SELECT MAX(version) FROM schema_version";
                let version: Option<i64> = transaction.query_row(version, [], |row| row.get(0)).map_err(failed)?;
                if version.is_some_and(|version| version != SCHEMA_VERSION) {
                    let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
                    return Err(RegistryError::Schema { registry: self.name.clone(), found });
                }
            }
            for statement in sql::ddl(Dialect::Sqlite) {
                transaction.execute_batch(&statement).map_err(failed)?;
            }
            // `provenance` by event id, and the look-up of duplicates.
            let index = "CREATE INDEX IF NOT EXISTS entries_by_event ON entries (event_id, event_source, origin, seq)";
            transaction.execute_batch(index).map_err(failed)?;
            let version = "INSERT INTO schema_version SELECT ?1, now_at FROM v_now WHERE NOT EXISTS (SELECT 1 FROM schema_version)";
            transaction.execute(version, [SCHEMA_VERSION]).map_err(failed)?;
            Ok(())
        })
    }

    fn check(&self) -> Result<(), RegistryError> {
        let connection = self.connection();
        let failed = |error: rusqlite::Error| failure(&self.name, "reading the schema version", &error);
        let is_made = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'schema_version'";
        let is_made: i64 = connection.query_row(is_made, [], |row| row.get(0)).map_err(failed)?;
        let version = "SELECT MAX(version) FROM schema_version";
        let found: Option<i64> =
            if is_made > 0 { connection.query_row(version, [], |row| row.get(0)).map_err(failed)? } else { None };
        if found == Some(SCHEMA_VERSION) {
            return Ok(());
        }
        let found = found.map_or_else(|| "none".to_owned(), |version| version.to_string());
        Err(RegistryError::Schema { registry: self.name.clone(), found })
    }

    fn begin_segment(&self, segment: &SegmentRow, _request: Uuid) -> Result<Receipt, RegistryError> {
        let doing = format!("registering segment {}", segment.segment_no);
        // Alone and first: if an entry differs below, this half of the fork is still seen.
        self.transaction(&doing, |transaction| put::rows(&self.name, transaction, std::slice::from_ref(segment)))?;
        put::refuse_fork(&self.name, &self.connection(), segment)?;
        Ok(Receipt { text: format!("{} entries", segment.entry_count) })
    }

    fn register_entries(&self, entries: &[EntryRow], _request: Uuid) -> Result<(), RegistryError> {
        self.transaction("registering entries", |transaction| {
            put::rows(&self.name, transaction, entries)?;
            put::duplicates(&self.name, transaction, entries)
        })
    }

    fn end_segment(&self, rows: &SegmentRows, _request: Uuid) -> Result<(), RegistryError> {
        self.transaction(&format!("registering segment {}", rows.segment.segment_no), |transaction| {
            put::rows(&self.name, transaction, &rows.sources)?;
            put::rows(&self.name, transaction, &rows.gaps)?;
            put::rows(&self.name, transaction, &rows.contested)?;
            put::rows(&self.name, transaction, &rows.quarantined)?;
            put::rows(&self.name, transaction, &rows.keys)?;
            put::rows(&self.name, transaction, &rows.pins)?;
            put::rows(&self.name, transaction, &rows.anchors)
        })
    }

    fn register_pins(&self, pins: &[PinRow], _request: Uuid) -> Result<(), RegistryError> {
        self.transaction("registering pins", |transaction| put::rows(&self.name, transaction, pins))
    }

    fn register_anchors(&self, anchors: &[AnchorRow], _request: Uuid) -> Result<(), RegistryError> {
        self.transaction("registering anchors", |transaction| put::rows(&self.name, transaction, anchors))
    }

    fn heartbeat(&self, log: &LogRow, _request: Uuid) -> Result<(), RegistryError> {
        let log = std::slice::from_ref(log);
        self.transaction("the heartbeat", |transaction| put::rows(&self.name, transaction, log))
    }

    fn forget(&self, origin: &Origin, _request: Uuid) -> Result<(), RegistryError> {
        self.transaction("dropping the log's rows", |transaction| {
            for table in TABLES {
                let gone = transaction.execute(&format!("DELETE FROM {table} WHERE origin = ?1"), [origin.as_str()]);
                gone.map_err(|error| failure(&self.name, &format!("dropping rows of {table}"), &error))?;
            }
            Ok(())
        })
    }

    fn head(&self, origin: &Origin) -> Result<Option<Fence>, RegistryError> {
        fence(&self.name, &self.connection(), origin)
    }

    fn advance(
        &self,
        origin: &Origin,
        from: Option<Fence>,
        to: Fence,
        at: Timestamp,
        _request: Uuid,
    ) -> Result<Fence, RegistryError> {
        self.transaction("moving the fence", |transaction| {
            let found = fence(&self.name, transaction, origin)?;
            if found != from {
                // Not there yet, while we thought it was: somebody emptied the table. The caller starts from nothing.
                return found.map_or_else(|| Ok(Fence { size: Size(0), root: Hash::EMPTY_ROOT }), |found| {
                    judge(&self.name, origin, from, to, found)
                });
            }
            let moved = "INSERT INTO registration_hwm (origin, size, root, updated_at) VALUES (?1, ?2, ?3, ?4) \
                         ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root, updated_at = excluded.updated_at";
            let size = i64::try_from(to.size.0).unwrap_or(i64::MAX);
            let values = (origin.as_str(), size, to.root.to_string(), at.to_string());
            transaction.execute(moved, values).map_err(|error| failure(&self.name, "moving the fence", &error))?;
            Ok(to)
        })
    }

    fn query(
        &self,
        query: &Query,
        filters: &[Filter],
        limit: Option<u64>,
        each: &mut dyn FnMut(&[Value]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let connection = self.connection();
        let failed = |error: rusqlite::Error| failure(&self.name, query.name, &error);
        let sql = query.select(filters, limit, |_| "?".to_owned());
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let values = rusqlite::params_from_iter(filters.iter().map(|filter| &filter.value));
        let mut rows = statement.query(values).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let cells = query.columns.iter().enumerate();
            let cells = cells.map(|(at, (_, kind))| Ok(cell(*kind, row.get_ref(at)?)));
            let cells = cells.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            if each(&cells).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The fence as it stands.
fn fence(registry: &str, connection: &Connection, origin: &Origin) -> Result<Option<Fence>, RegistryError> {
    let doing = "reading the fence";
    let found = connection
        .query_row("SELECT size, root FROM registration_hwm WHERE origin = ?1", [origin.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()
        .map_err(|error| failure(registry, doing, &error))?;
    found.map(|(size, root)| super::fence_of(registry, origin, size, &root)).transpose()
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Int(n) => ToSqlOutput::Borrowed(ValueRef::Integer(*n)),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Time(at) => ToSqlOutput::from(at.to_string()),
        })
    }
}

/// A cell as read. SQLite holds any type in any column: what is not of the column's type stays what it is, so that an
/// audit sees it.
fn cell(kind: Kind, value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Int(n),
        ValueRef::Real(x) => Value::Text(x.to_string().into()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            match Timestamp::parse_rfc3339(&text) {
                // Only the fixed width that we write compares as time does.
                Some(at) if kind == Kind::Time && at.to_string() == text => Value::Time(at),
                _ => Value::Text(text.into()),
            }
        }
    }
}

/// What a failure of SQLite means: another process or the disk may recover, anything else needs a person.
fn failure(registry: &str, doing: &str, error: &rusqlite::Error) -> RegistryError {
    let (registry, doing, what) = (registry.to_owned(), doing.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory,
        ) => RegistryError::Retry { registry, doing, what },
        code => RegistryError::Refused {
            registry,
            doing,
            code: code.map_or_else(|| "sqlite".to_owned(), |code| format!("{code:?}")),
            what,
        },
    }
}

#[cfg(test)]
mod tests;
