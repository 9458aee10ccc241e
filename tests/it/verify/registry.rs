//! Every column of every row of a SQLite registry, changed with SQL behind the registrar's back.

use std::collections::BTreeSet;

use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::Value;

use super::{check, errors, log_of_three};
use crate::line::{Log, codes};

/// The audited tables of the schema that a log of files fills.
const TABLES: [&str; 6] = ["segments", "segment_sources", "segment_pins", "entries", "quarantined", "signing_keys"];

/// A log whose registry can be put back as it was.
struct Registry {
    log: Log,
    saved: Vec<u8>,
}

impl Registry {
    fn new() -> Registry {
        let log = log_of_three();
        let saved = std::fs::read(log.path("data/registry.sqlite")).unwrap();
        Registry { log, saved }
    }

    /// Puts the registry back and gives a connection to it.
    fn fresh(&self) -> Connection {
        let path = self.log.path("data/registry.sqlite");
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{beside}", path.display()));
        }
        std::fs::write(&path, &self.saved).unwrap();
        Connection::open(path).unwrap()
    }

    fn after(&self, sql: &str) -> (i32, Value) {
        self.fresh().execute_batch(sql).unwrap();
        self.log.answer(&["verify"])
    }
}

/// A row by its place in the file, and one of its columns.
struct Edit {
    table: &'static str,
    row: i64,
    column: String,
    is_key: bool,
    is_time: bool,
}

/// Each column of each row that the log can speak for: of the newest segment no entry states times and pins yet.
fn edits(connection: &Connection) -> Vec<Edit> {
    let mut edits = Vec::new();
    for table in TABLES {
        let of_old = match table {
            "segments" => "WHERE segment_no < 2",
            "segment_pins" => "WHERE seal_cid IN (SELECT seal_cid FROM segments WHERE segment_no < 2)",
            "entries" => "WHERE seq BETWEEN 10 AND 40",
            _ => "",
        };
        let mut rows = connection.prepare(&format!("SELECT rowid FROM {table} {of_old}")).unwrap();
        let rows: Vec<i64> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut columns = connection.prepare(&format!("SELECT name, pk FROM pragma_table_info('{table}')")).unwrap();
        let columns = columns.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
        for (at, column) in columns.enumerate() {
            let (column, pk) = column.unwrap();
            let is_time = column.ends_with("_at") || column.ends_with("_time");
            // The log and the number of a segment are what it is looked up by.
            let is_key = pk > 0 || ["origin", "segment_no"].contains(&&*column);
            edits.push(Edit { table, row: rows[at % rows.len()], column, is_key, is_time });
        }
    }
    edits
}

impl Edit {
    fn apply(&self, connection: &Connection) {
        let Edit { table, row, column, is_time, .. } = self;
        let select = format!("SELECT {column} FROM {table} WHERE rowid = {row}");
        let changed = match connection.query_row(&select, [], |row| row.get::<_, Cell>(0)).unwrap() {
            _ if *is_time => Cell::Text("2020-01-01T00:00:00.000000Z".to_owned()),
            Cell::Integer(n) => Cell::Integer(n + 100_000),
            Cell::Text(text) => Cell::Text(format!("{text}x")),
            _ => Cell::Integer(7),
        };
        connection.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE rowid = {row}"), [changed]).unwrap();
    }

    /// A changed key is a row that is missing; any other column is named.
    fn is_found(&self, report: &Value) -> bool {
        let table = format!("registry local: {}", self.table);
        let column = format!("{table}.{} of ", self.column);
        let is_it = |finding: &&Value| {
            let place = finding["place"].as_str().unwrap();
            place.starts_with(&column) || (self.is_key && finding["code"] == "registry-missing" && place == table)
        };
        errors(report).iter().any(is_it)
    }
}

#[test]
fn no_column_of_a_row_can_be_changed_unseen() {
    let registry = Registry::new();
    let (exit, report) = registry.log.answer(&["verify"]);
    assert_eq!((exit, errors(&report).len()), (10, 0), "untouched: {report}");

    let mut left = edits(&registry.fresh());
    assert!(left.len() > 60, "{}", left.len());
    while !left.is_empty() {
        // One change a row: of a row only its first difference is named. What follows from the events of other rows is
        // only compared where those are sound, so it comes alone.
        let (connection, mut rows, mut later, mut now) = (registry.fresh(), BTreeSet::new(), Vec::new(), Vec::new());
        let is_last = left.len() == 1;
        for edit in left {
            let is_now = (is_last || edit.column != "duplicate_of") && rows.insert((edit.table, edit.row));
            if is_now { now.push(edit) } else { later.push(edit) }
        }
        now.iter().for_each(|edit| edit.apply(&connection));
        drop(connection);
        let (exit, report) = registry.log.answer(&["verify"]);
        assert_eq!(exit, 30, "{report}");
        for edit in &now {
            assert!(edit.is_found(&report), "{}.{} of row {}: {report}", edit.table, edit.column, edit.row);
        }
        left = later;
    }
}

#[test]
fn an_edited_row_is_named_with_its_table_seq_segment_and_column_and_no_content() {
    let registry = Registry::new();
    let (exit, report) = registry.after("UPDATE entries SET event_id = 'alice@example.org' WHERE seq = 50");
    let [finding] = errors(&report)[..] else { panic!("{report}") };
    assert_eq!((exit, &finding["code"]), (30, &"registry-differs".into()));
    assert_eq!((&finding["seq"], &finding["segment"], &report["first_bad_seq"]), (&50.into(), &1.into(), &50.into()));
    let place = "registry local: entries.event_id of origin=example.com/test/line seq=50";
    assert_eq!(finding["place"], place);
    assert!(!report.to_string().contains("alice"), "{report}");
    assert_eq!(check(&report, "registry local")["status"], "failed");
}

#[test]
fn rows_that_are_missing_extra_or_double_are_found() {
    let registry = Registry::new();
    let size = registry.log.answer(&["verify"]).1["size"].as_u64().unwrap();
    let beyond = format!(
        "INSERT INTO entries (origin, seq, seal_cid, leaf_hash, kind, recorded_at) \
         SELECT origin, {size}, seal_cid, leaf_hash, kind, recorded_at FROM entries WHERE seq = 5"
    );
    let twice = |table: &str| {
        format!(
            "CREATE TABLE copy AS SELECT * FROM {table}; INSERT INTO copy SELECT * FROM copy LIMIT 1; \
             PRAGMA legacy_alter_table = ON; DROP TABLE {table}; ALTER TABLE copy RENAME TO {table}"
        )
    };
    let extra = |table: &str, change: &str| {
        format!(
            "CREATE TABLE one AS SELECT * FROM {table} LIMIT 1; UPDATE one SET {change}; INSERT INTO {table} SELECT * FROM one; DROP TABLE one"
        )
    };
    for (sql, code, table) in [
        ("DELETE FROM entries WHERE seq = 40".to_owned(), "registry-missing", "entries"),
        ("DELETE FROM segments WHERE segment_no = 1".to_owned(), "registry-missing", "segments"),
        ("DELETE FROM segment_sources".to_owned(), "registry-missing", "segment_sources"),
        ("DELETE FROM segment_pins".to_owned(), "registry-missing", "segment_pins"),
        ("DELETE FROM quarantined".to_owned(), "registry-missing", "quarantined"),
        ("DELETE FROM signing_keys".to_owned(), "registry-missing", "signing_keys"),
        ("DELETE FROM registration_hwm".to_owned(), "registry-missing", "registration_hwm.size"),
        ("UPDATE registration_hwm SET size = 1".to_owned(), "registry-differs", "registration_hwm.size"),
        ("UPDATE registration_hwm SET size = size + 5".to_owned(), "tail-missing", "registration_hwm.size"),
        (format!("UPDATE registration_hwm SET root = '{}'", "0".repeat(64)), "forked", "registration_hwm.root"),
        (beyond, "registry-extra", "entries"),
        (extra("entries", "seq = -7"), "registry-extra", "entries"),
        (extra("segments", "seal_cid = 'x'"), "registry-extra", "segments"),
        (extra("segments", "seal_cid = 'x', segment_no = 9"), "registry-extra", "segments"),
        (extra("segment_sources", "seal_cid = 'x'"), "registry-extra", "segment_sources"),
        (extra("segment_sources", "first_offset = 9999"), "registry-extra", "segment_sources"),
        (extra("segment_pins", "target = 'elsewhere', verified_at = pinned_at"), "registry-extra", "segment_pins"),
        (extra("quarantined", "seq = 4"), "registry-extra", "quarantined"),
        (extra("signing_keys", "key_id = 'ffffffff'"), "registry-extra", "signing_keys"),
        ("INSERT INTO gaps SELECT origin, 5, cluster_id, topic, topic_id, partition_no, 1, 2, 'compaction' FROM segment_sources LIMIT 1".to_owned(), "registry-extra", "gaps"),
        ("INSERT INTO contested_ranges SELECT origin, 5, cluster_id, topic, topic_id, partition_no, 1, 2 FROM segment_sources LIMIT 1".to_owned(), "registry-extra", "contested_ranges"),
        (twice("entries"), "registry-double", "entries"),
        (twice("segments"), "registry-double", "segments"),
        (twice("signing_keys"), "registry-double", "signing_keys"),
    ] {
        let (exit, report) = registry.after(&sql);
        assert_eq!(exit, 30, "{sql}: {report}");
        let is_it = |finding: &&Value| {
            finding["code"] == code && finding["place"].as_str().unwrap().starts_with(&format!("registry local: {table}"))
        };
        assert!(errors(&report).iter().any(is_it), "{sql}: {report}");
    }
}

#[test]
fn a_segment_that_is_sealed_and_not_yet_registered_is_no_finding() {
    let registry = Registry::new();
    let log = &registry.log;
    log.ok(&["ingest", &log.events("more.ndjson", 20)]);
    log.ok(&["seal"]);
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, &report["segments"], errors(&report).len()), (10, &4.into(), 0), "{report}");
    // Nor are rows of it that are there already, before the fence has moved; but they are compared.
    let path = log.path("data/registry.sqlite");
    let fence = |connection: &Connection| -> (i64, String) {
        connection
            .query_row("SELECT size, root FROM registration_hwm", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    let before = fence(&Connection::open(&path).unwrap());
    log.ok(&["run", "--until-idle"]);
    let connection = Connection::open(&path).unwrap();
    assert!(fence(&connection).0 > before.0);
    connection.execute("UPDATE registration_hwm SET size = ?1, root = ?2", before).unwrap();
    let (dir, vkey) = (log.path("data/archive"), log.path("keys/log.vkey"));
    let args = ["verify", dir.to_str().unwrap(), "--vkey", vkey.to_str().unwrap(), "--registry", "local"];
    let (exit, report) = log.answer(&args);
    assert_eq!((exit, errors(&report).len()), (10, 0), "{report}");
    let last = report["size"].as_u64().unwrap() - 1;
    connection.execute("DELETE FROM entries WHERE seq = ?1", [last - 1]).unwrap();
    assert_eq!(log.answer(&args).0, 10, "half registered");
    connection.execute("UPDATE entries SET kind = 'gap' WHERE seq = ?1", [last]).unwrap();
    let (exit, report) = log.answer(&args);
    assert_eq!((exit, &errors(&report)[0]["seq"]), (30, &last.into()), "{report}");
    // The journal remembers that the registry had it all.
    let (_, report) = log.answer(&["verify"]);
    assert!(codes(&report).contains(&"registry-missing"), "{report}");
}

#[test]
fn an_auditor_without_the_keyring_compares_what_he_can() {
    let registry = Registry::new();
    std::fs::rename(registry.log.path("keyring"), registry.log.path("keyring.away")).unwrap();
    let (exit, report) = registry.log.answer(&["verify"]);
    assert_eq!((exit, errors(&report).len()), (10, 0), "{report}");
    let sealed = check(&report, "registry local, sealed columns");
    assert_eq!((&sealed["status"], &check(&report, "registry local")["status"]), (&"skipped".into(), &"ok".into()));
    assert!(sealed["detail"].as_str().unwrap().contains("93 entries"), "{report}");
    let (exit, report) = registry.after("UPDATE entries SET event_type = 'x' WHERE seq = 50");
    assert_eq!((exit, errors(&report)), (10, vec![]), "that column is from inside a part");
    let (exit, report) = registry.after("UPDATE entries SET record_offset = 77 WHERE seq = 40");
    assert_eq!((exit, &errors(&report)[0]["seq"]), (30, &40.into()), "{report}");
}

#[test]
fn rows_are_compared_up_to_the_first_segment_that_cannot_be_read_and_the_rest_is_not_accused() {
    let registry = Registry::new();
    registry.fresh().execute_batch("DELETE FROM entries WHERE seq = 5; DELETE FROM entries WHERE seq = 80").unwrap();
    for file in ["000001.proof.car", "000001.payload.car"] {
        std::fs::remove_file(registry.log.path("data/archive").join(file)).unwrap();
    }
    let (exit, report) = registry.log.answer(&["verify"]);
    let found: BTreeSet<&str> = codes(&report).into_iter().collect();
    assert_eq!(
        (exit, found),
        (30, BTreeSet::from(["registry-missing", "segment-missing", "unsealed-tail"])),
        "{report}"
    );
    assert_eq!(report["first_bad_seq"], 5);
    assert!(
        check(&report, "registry local")["detail"].as_str().unwrap().contains("segments from 1 on were not compared")
    );
}

#[test]
fn a_registry_nobody_configured_is_a_wrong_call() {
    let log = Log::new();
    let (exit, answer) = log.answer(&["verify", "--registry", "hub"]);
    assert_eq!((exit, &answer["error"]["code"]), (2, &"usage".into()), "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("local"));
}
