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
use crate::core::rows::{EntryRow, Kind, LogRow, PinRow, Role, Row, SegmentRow, SegmentRows, Table, Value};
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
            put::rows(&self.name, transaction, &rows.pins)
        })
    }

    fn register_pins(&self, pins: &[PinRow], _request: Uuid) -> Result<(), RegistryError> {
        self.transaction("registering pins", |transaction| put::rows(&self.name, transaction, pins))
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
mod tests {
    use super::*;
    use crate::core::rows::sample::{self, Log};
    use crate::core::rows::{compare, compare_pins, pin_row};

    struct Place {
        dir: tempfile::TempDir,
        registry: Sqlite,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let registry = Sqlite::open("local", &dir.path().join("registry.sqlite")).unwrap();
            registry.init().unwrap();
            Place { dir, registry }
        }

        fn ask(&self, name: &str, params: &[(&str, &str)]) -> Vec<Vec<String>> {
            let query = Query::named(name).unwrap();
            let filters = query.filters(params.iter().copied()).unwrap();
            let mut rows = Vec::new();
            let mut each = |row: &[Value]| {
                rows.push(row.iter().map(Value::to_string).collect());
                ControlFlow::Continue(())
            };
            self.registry.query(&query, &filters, None, &mut each).unwrap();
            rows
        }

        fn execute(&self, sql: &str) {
            self.registry.connection().execute_batch(sql).unwrap();
        }

        fn found(&self, rows: &SegmentRows) -> crate::core::rows::FoundRows {
            let segment = &rows.segment;
            let (first, last) = (crate::core::seq::Seq(segment.first_seq), crate::core::seq::Seq(segment.last_seq));
            self.registry.rows_of(&sample::origin(), &segment.seal_cid, first, last).unwrap()
        }
    }

    fn two_segments() -> (Log, SegmentRows, SegmentRows) {
        let mut log = Log::new();
        let first = sample::first_segment(&mut log, 5);
        let second = sample::second_segment(&mut log, &first);
        (log, first, second)
    }

    #[test]
    fn registering_twice_changes_nothing_and_every_row_reads_back_as_it_was_made() {
        let place = Place::new();
        let (log, first, second) = two_segments();
        for rows in [&first, &second, &first, &second] {
            place.registry.register(rows, Uuid::nil()).unwrap();
        }
        for rows in [&first, &second] {
            assert_eq!(compare(rows, &place.found(rows)), []);
        }
        let seal = first.segment.seal_cid;
        let sealed_at = log.fold.sealed_at().unwrap();
        assert_eq!(
            compare_pins(&log.fold.pins_of(seal), &place.found(&first).tables["segment_pins"], sealed_at, sealed_at),
            []
        );
        for view in ["v_missing_segments", "v_broken_links", "v_offset_gaps", "v_bad_keys", "v_under_replicated"] {
            assert_eq!(place.ask(view, &[]), Vec::<Vec<String>>::new(), "{view}");
        }
    }

    /// A crash between any two windows, and the same again: every row once, as if the segment had been given whole.
    #[test]
    fn a_segment_in_windows_reads_as_one_given_whole_wherever_it_was_cut() {
        let (whole, (_, first, second)) = (Place::new(), two_segments());
        for rows in [&first, &second] {
            whole.registry.register(rows, Uuid::nil()).unwrap();
        }
        let entries = |place: &Place| place.ask("entries", &[]);
        for (size, cut) in (1..4).flat_map(|size| (0..5).map(move |cut| (size, cut))) {
            let place = Place::new();
            for rows in [&first, &second] {
                for windows in [cut, usize::MAX] {
                    place.registry.begin_segment(&rows.segment, Uuid::nil()).unwrap();
                    for window in rows.entries.chunks(size).take(windows) {
                        place.registry.register_entries(window, Uuid::nil()).unwrap();
                    }
                }
                place.registry.end_segment(rows, Uuid::nil()).unwrap();
                assert_eq!(compare(rows, &place.found(rows)), []);
            }
            assert_eq!(entries(&place), entries(&whole), "windows of {size}, cut after {cut}");
        }
    }

    /// The halves of a fork do not mix, even where the first entries of one are not there yet.
    #[test]
    fn of_a_fork_no_window_is_written() {
        let place = Place::new();
        let (_, first, _) = two_segments();
        place.registry.begin_segment(&first.segment, Uuid::nil()).unwrap();
        place.registry.register_entries(&first.entries[3..], Uuid::nil()).unwrap();
        let other = sample::first_segment(&mut Log::new(), 6);
        let error = place.registry.begin_segment(&other.segment, Uuid::nil()).unwrap_err();
        assert!(matches!(error, RegistryError::Differs { table: "entries", column: "seal_cid", .. }), "{error}");
        assert_eq!(place.ask("entries", &[]).len(), first.entries.len() - 3);
        assert_eq!(place.ask("v_broken_links", &[("reason", "fork")]).len(), 2);
    }

    #[test]
    fn provenance_leads_from_an_event_to_its_pins_and_its_first_record() {
        let place = Place::new();
        let (_, first, second) = two_segments();
        place.registry.register(&first, Uuid::nil()).unwrap();
        let pin = pin_row("example.com/audit/main", first.segment.seal_cid, "vault", 1, None, sample::DAY);
        place.registry.register_pins(&[pin], Uuid::nil()).unwrap();
        place.registry.register(&second, Uuid::nil()).unwrap();
        let rows = place.ask("provenance", &[("event_id", "e-0 \"ü\" ?"), ("event_source", "urn:shop")]);
        let columns = Query::named("provenance").unwrap().columns;
        let column =
            |row: &[String], name: &str| row[columns.iter().position(|(column, _)| *column == name).unwrap()].clone();
        let [one, again] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((column(one, "seq"), column(one, "duplicate_of")), ("4".to_owned(), String::new()));
        assert_eq!((column(again, "seq"), column(again, "duplicate_of")), ("9".to_owned(), "4".to_owned()));
        assert_eq!(column(one, "seal_cid"), first.segment.seal_cid.to_string());
        assert_eq!((column(one, "topic"), column(one, "record_offset")), ("consent".to_owned(), "10".to_owned()));
        assert_eq!((column(one, "verified_copies"), column(one, "anchors")), ("1".to_owned(), "0".to_owned()));
        assert_eq!(column(one, "event_time"), "2025-12-31T23:59:59.123456Z");
    }

    #[test]
    fn another_fact_under_a_key_is_refused_and_both_halves_of_a_fork_are_seen() {
        let place = Place::new();
        let (_, first, _) = two_segments();
        place.registry.register(&first, Uuid::nil()).unwrap();
        let mut other = sample::first_segment(&mut Log::new(), 6);
        other.sources.clear();
        let error = place.registry.register(&other, Uuid::nil()).unwrap_err();
        assert!(error.is_halt() && matches!(error, RegistryError::Differs { table: "entries", .. }), "{error}");
        let forks = place.ask("v_broken_links", &[("reason", "fork")]);
        assert_eq!(forks.len(), 2);
        assert_eq!(place.ask("entries", &[]).len(), first.entries.len());
    }

    #[test]
    fn each_edit_of_a_row_is_a_finding() {
        let (_, first, _) = two_segments();
        for (sql, expected) in [
            ("UPDATE entries SET event_id = 'other' WHERE seq = 5", "registry-differs entries event_id"),
            ("UPDATE entries SET recorded_at = '2026-01-01' WHERE seq = 5", "registry-differs entries recorded_at"),
            ("UPDATE segments SET proof_bytes = 1", "registry-differs segments proof_bytes"),
            ("UPDATE gaps SET reason = 'compaction' WHERE seq = 3", "registry-differs gaps reason"),
            ("DELETE FROM quarantined", "registry-missing quarantined "),
            ("UPDATE segment_sources SET record_count = 0", "registry-differs segment_sources record_count"),
            (
                "INSERT INTO gaps SELECT origin, 5, cluster_id, topic, topic_id, partition_no, 1, 2, reason FROM gaps LIMIT 1",
                "registry-extra gaps ",
            ),
            ("UPDATE signing_keys SET vkey = 'x'", "registry-differs signing_keys vkey"),
            ("UPDATE entries SET leaf_hash = 'x', seal_cid = 'y' WHERE seq = 0", "registry-differs entries seal_cid"),
        ] {
            let place = Place::new();
            place.registry.register(&first, Uuid::nil()).unwrap();
            place.execute(sql);
            let found = compare(&first, &place.found(&first));
            let found = found.iter().map(|d| format!("{} {} {}", d.code, d.table, d.column.unwrap_or_default()));
            assert_eq!(found.collect::<Vec<_>>(), [expected], "{sql}");
        }
    }

    #[test]
    fn a_pin_nobody_stated_is_a_finding_unless_its_entry_waits_for_a_seal() {
        let place = Place::new();
        let (log, first, second) = two_segments();
        let sealed_at = log.fold.sealed_at().unwrap();
        place.registry.register(&second, Uuid::nil()).unwrap();
        let now = sealed_at.plus(1_000);
        for (target, at) in [("claimed", Timestamp(sealed_at.0 - 1)), ("young", sealed_at), ("to come", now.plus(1))] {
            let pin = pin_row("example.com/audit/main", first.segment.seal_cid, target, 1, None, at);
            place.registry.register_pins(&[pin], Uuid::nil()).unwrap();
        }
        let stated = log.fold.pins_of(first.segment.seal_cid);
        let found = compare_pins(&stated, &place.found(&first).tables["segment_pins"], sealed_at, now);
        let [claimed, to_come] = found.as_slice() else { panic!("{found:?}") };
        assert!(claimed.code == crate::core::finding::Code::RegistryExtra && claimed.key.ends_with("target=claimed"));
        assert!(to_come.key.ends_with("target=to come"));
    }

    #[test]
    fn the_fence_moves_only_from_where_it_is() {
        let place = Place::new();
        let registry = &place.registry;
        let fence = |size, root: &[u8]| Fence { size: Size(size), root: Hash::of(root) };
        let advance = |from, to| registry.advance(&sample::origin(), from, to, sample::DAY, Uuid::nil());
        assert_eq!(registry.head(&sample::origin()).unwrap(), None);
        assert_eq!(advance(None, fence(5, b"5")).unwrap(), fence(5, b"5"));
        assert_eq!(advance(Some(fence(5, b"5")), fence(9, b"9")).unwrap(), fence(9, b"9"));
        // Applied before, or somebody is ahead: the answer says where it is.
        assert_eq!(advance(Some(fence(5, b"5")), fence(9, b"9")).unwrap(), fence(9, b"9"));
        assert_eq!(advance(Some(fence(5, b"5")), fence(7, b"7")).unwrap(), fence(9, b"9"));
        for fork in [advance(Some(fence(5, b"5")), fence(9, b"other")), advance(Some(fence(9, b"x")), fence(12, b"12"))]
        {
            let error = fork.unwrap_err();
            assert!(error.is_halt() && matches!(error, RegistryError::Fork { size: Size(9), .. }), "{error}");
        }
        assert_eq!(registry.head(&sample::origin()).unwrap(), Some(fence(9, b"9")));
        place.execute("UPDATE registration_hwm SET root = 'x'");
        assert!(registry.head(&sample::origin()).unwrap_err().is_halt());
    }

    #[test]
    fn a_schema_of_another_version_is_not_touched() {
        let place = Place::new();
        place.execute("UPDATE schema_version SET version = 2");
        assert!(matches!(place.registry.init(), Err(RegistryError::Schema { found, .. }) if found == "2"));
    }

    #[test]
    fn every_question_is_answered_with_its_columns_and_the_tables_are_the_declared_ones() {
        let place = Place::new();
        for query in Query::all() {
            let sql = format!("SELECT name FROM pragma_table_info('{}')", query.from());
            let connection = place.registry.connection();
            let mut statement = connection.prepare(&sql).unwrap();
            let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<Vec<_>, _>>();
            let columns: Vec<_> = query.columns.iter().map(|(column, _)| (*column).to_owned()).collect();
            assert_eq!(names.unwrap(), columns, "{}", query.name);
        }
    }

    #[test]
    fn others_read_while_we_write_and_a_closed_directory_is_read_as_it_stands() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new();
        let (_, first, _) = two_segments();
        let path = place.dir.path().join("registry.sqlite");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let reader = Sqlite::open_read("local", &path).unwrap();
        place.registry.register(&first, Uuid::nil()).unwrap();
        let seals = vec![(0, first.segment.seal_cid.to_string())];
        assert_eq!(reader.seals(&sample::origin()).unwrap(), seals);
        assert!(reader.register(&first, Uuid::nil()).is_err(), "a reader does not write");

        let copy = tempfile::tempdir().unwrap();
        place.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        let path = copy.path().join("registry.sqlite");
        std::fs::copy(place.dir.path().join("registry.sqlite"), &path).unwrap();
        let uri = format!("file:{}?immutable=1", path.display());
        assert!(
            Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).is_ok()
        );
        std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(Sqlite::open_read("local", &path).unwrap().seals(&sample::origin()).unwrap(), seals);
        std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Sqlite::open_read("local", &copy.path().join("none.sqlite")).is_err());
    }
}
