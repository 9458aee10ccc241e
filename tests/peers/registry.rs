//! The Snowflake registrar against its peer, and beside SQLite: the same rows, the same answers, and each fault of the
//! service survived without a double or a missing row.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use pinfold::core::hash::Hash;
use pinfold::core::rows::{SegmentRows, compare, pin_row};
use pinfold::core::seq::{Seq, Size};
use pinfold::registry::sqlite::Sqlite;
use pinfold::registry::{Fence, Query, Registrar, RegistryError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::peer::front::{Fault, UserKey};
use crate::peer::snowflake::Warehouse;

#[allow(dead_code, reason = "the unit tests of the library use the rest")]
#[path = "../../src/core/rows/sample.rs"]
mod sample;

use sample::{DAY, Log, first_segment, origin, second_segment};

/// The tables whose rows are the same everywhere, each with its key.
pub(crate) const TABLES: [(&str, &str); 8] = [
    ("segments", "seal_cid"),
    ("segment_sources", "seal_cid, topic, partition_no, first_offset"),
    ("segment_pins", "seal_cid, target"),
    ("entries", "origin, seq"),
    ("gaps", "origin, seq"),
    ("contested_ranges", "origin, seq"),
    ("quarantined", "origin, seq"),
    ("signing_keys", "origin, key_id"),
];

fn two_segments(events: u64) -> [SegmentRows; 2] {
    let mut log = Log::new();
    let first = first_segment(&mut log, events);
    let second = second_segment(&mut log, &first);
    [first, second]
}

/// An embedded registry, and the directory it is in.
fn sqlite() -> (tempfile::TempDir, Sqlite) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Sqlite::open("local", &dir.path().join("registry.sqlite")).unwrap();
    registry.init().unwrap();
    (dir, registry)
}

/// The answer to a question, as text.
fn ask(registry: &dyn Registrar, name: &str, params: &[(&str, &str)]) -> Vec<Vec<String>> {
    let query = Query::named(name).unwrap();
    let filters = query.filters(params.iter().copied()).unwrap();
    let mut rows = Vec::new();
    let mut each = |row: &[pinfold::core::rows::Value]| {
        rows.push(row.iter().map(ToString::to_string).collect());
        ControlFlow::Continue(())
    };
    registry.query(&query, &filters, None, &mut each).unwrap();
    rows
}

/// Asserts that the registry holds exactly these segments.
fn check(registry: &dyn Registrar, segments: &[SegmentRows]) {
    for rows in segments {
        let (first, last) = (Seq(rows.segment.first_seq), Seq(rows.segment.last_seq));
        let found = registry.rows_of(&origin(), &rows.segment.seal_cid, first, last).unwrap();
        assert_eq!(compare(rows, &found), []);
    }
    assert_eq!(registry.seals(&origin()).unwrap().len(), segments.len());
}

#[test]
fn snowflake_holds_the_rows_of_sqlite_as_the_official_connector_reads_them() {
    let warehouse = Warehouse::start();
    let (dir, sqlite) = sqlite();
    let snowflake = warehouse.registrar();
    snowflake.init().unwrap();
    snowflake.init().unwrap();
    let segments = two_segments(250);
    let pins = [pin_row(origin().as_str(), segments[1].segment.seal_cid, "vault", 9, Some(8), DAY)];
    let registrars: [&dyn Registrar; 2] = [&sqlite, &snowflake];
    for registrar in registrars {
        for rows in &segments {
            registrar.register(rows, Uuid::new_v4()).unwrap();
        }
        registrar.register_pins(&pins, Uuid::new_v4()).unwrap();
        check(registrar, &segments);
    }

    let read = warehouse.read(&TABLES);
    assert_eq!(read.len(), rows_of_sqlite(dir.path()).len());
    for (theirs, ours) in read.iter().zip(rows_of_sqlite(dir.path())) {
        assert_eq!(*theirs, ours);
    }
    for query in Query::all().iter().filter(|query| query.name != "v_now") {
        assert_eq!(ask(&snowflake, query.name, &[]), ask(&sqlite, query.name, &[]), "{}", query.name);
    }
    let params = [("event_source", "urn:shop"), ("event_id", "e-0 \"ü\" ?")];
    let answer = ask(&snowflake, "provenance", &params);
    assert_eq!(answer, ask(&sqlite, "provenance", &params));
    assert_eq!(answer.len(), 2);
    assert_eq!(warehouse.front.violations(), Vec::<String>::new());
}

/// The rows as any program reads them from the file.
pub(crate) fn rows_of_sqlite(dir: &std::path::Path) -> Vec<Value> {
    let connection = rusqlite::Connection::open(dir.join("registry.sqlite")).unwrap();
    let mut all = Vec::new();
    for (table, keys) in TABLES {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY {keys}")).unwrap();
        let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let mut object = json!({"table": table});
            for (at, name) in names.iter().enumerate() {
                object[name] = match row.get_unwrap::<_, rusqlite::types::Value>(at) {
                    rusqlite::types::Value::Null => Value::Null,
                    rusqlite::types::Value::Integer(n) => json!(n),
                    rusqlite::types::Value::Text(text) => json!(text),
                    other => panic!("{table}.{name}: {other:?}"),
                };
            }
            all.push(object);
        }
    }
    all
}

#[test]
fn each_fault_of_the_service_leaves_every_row_once() {
    let warehouse = Warehouse::start();
    let front = &warehouse.front;
    let snowflake = warehouse.registrar_with(|options| options.answer_timeout = Duration::from_secs(3));
    snowflake.init().unwrap();
    let segments = two_segments(5);
    for fault in [
        Fault::Runs(3),
        Fault::TooMany,
        Fault::ServerError,
        Fault::ErrorAfterExecute,
        Fault::Silent,
        Fault::DropAfterExecute,
        Fault::AcknowledgeOnly,
    ] {
        front.fail("MERGE INTO entries", fault);
        let request = Uuid::new_v4();
        snowflake.register(&segments[0], request).unwrap();
        // A crash after the answer: the same again, with the same request.
        snowflake.register(&segments[0], request).unwrap();
        assert_eq!(front.unmet(), 0, "{fault:?} was not met");
        check(&snowflake, &segments[..1]);
    }
    assert_eq!(front.violations(), Vec::<String>::new());
    // Sent again under the same id, and executed once.
    let merges = front.asked("MERGE INTO entries t USING (SELECT CAST");
    let dropped = merges.iter().filter(|asked| merges.iter().filter(|m| m.request_id == asked.request_id).count() > 2);
    assert!(dropped.count() > 0);
    for asked in &merges {
        let executed = merges.iter().filter(|m| m.request_id == asked.request_id && m.is_executed).count();
        assert!(executed <= 1, "executed {executed} times: {}", asked.request_id);
    }
}

#[test]
fn a_segment_cut_between_two_windows_is_registered_whole_by_the_same_request() {
    let warehouse = Warehouse::start();
    let (front, snowflake) = (&warehouse.front, warehouse.registrar());
    snowflake.init().unwrap();
    for rows in &two_segments(5) {
        let request = Uuid::new_v4();
        for windows in [0, 2, usize::MAX] {
            snowflake.begin_segment(&rows.segment, request).unwrap();
            for window in rows.entries.chunks(3).take(windows) {
                snowflake.register_entries(window, request).unwrap();
            }
        }
        snowflake.end_segment(rows, request).unwrap();
    }
    check(&snowflake, &two_segments(5));
    assert_eq!(front.violations(), Vec::<String>::new());
    // What was sent again has the id it had, so it is executed once.
    let asked = front.asked("MERGE INTO entries t USING (SELECT CAST").into_iter();
    let windows: BTreeSet<String> = asked.map(|asked| asked.request_id).collect();
    let expected: usize = two_segments(5).iter().map(|rows| rows.entries.len().div_ceil(3)).sum();
    assert_eq!(windows.len(), expected);
}

#[test]
fn a_statement_that_is_never_answered_is_a_retry_and_a_wrong_one_a_refusal() {
    let warehouse = Warehouse::start();
    let snowflake = warehouse.registrar();
    for _ in 0..6 {
        warehouse.front.fail("MERGE INTO logs", Fault::ServerError);
    }
    let log = pinfold::core::rows::LogRow {
        origin: origin().as_str().into(),
        tenant: None,
        keyring_id: "k".into(),
        format_version: 1,
        copies_min: 2,
        verify_max_age_s: 86_400,
        reported_size: 9,
        reported_root: Hash::of(b"root"),
        reported_segments: 1,
        reported_at: DAY,
        silent_after: DAY.plus(1),
        software: None,
    };
    let error = snowflake.heartbeat(&log, Uuid::new_v4()).unwrap_err();
    assert!(!error.is_halt() && matches!(error, RegistryError::Retry { .. }), "{error}");
    let error = snowflake.heartbeat(&log, Uuid::new_v4()).unwrap_err();
    assert!(!error.is_halt() && matches!(error, RegistryError::Refused { .. }), "{error}");
    snowflake.init().unwrap();
    snowflake.heartbeat(&log, Uuid::new_v4()).unwrap();
    let later = pinfold::core::rows::LogRow { reported_size: 10, ..log };
    snowflake.heartbeat(&later, Uuid::new_v4()).unwrap();
    assert_eq!(ask(&snowflake, "logs", &[("reported_size", "10")]).len(), 1);
    // It reported one segment and registered none.
    assert_eq!(ask(&snowflake, "v_missing_segments", &[]), [["example.com/audit/main", "0", "0", "tail"]]);
}

#[test]
fn the_key_of_somebody_else_is_not_permitted() {
    let warehouse = Warehouse::start();
    let stranger = warehouse.registrar_with(|options| options.private_key_pem = UserKey::generate().pem().into());
    let error = stranger.init().unwrap_err();
    assert!(!error.is_halt() && matches!(error, RegistryError::Auth { .. }), "{error}");
    let other_user = warehouse.registrar_with(|options| options.user = "someone".to_owned());
    assert!(matches!(other_user.init(), Err(RegistryError::Auth { .. })));
}

#[test]
fn ddl_by_hand_is_checked_and_never_executed() {
    let warehouse = Warehouse::start();
    let by_hand = warehouse.registrar_with(|options| options.is_ddl_manual = true);
    let error = by_hand.init().unwrap_err();
    assert!(matches!(&error, RegistryError::Schema { found, .. } if found == "none"), "{error}");
    assert!(warehouse.front.asked("CREATE").is_empty());
    warehouse.registrar().init().unwrap();
    by_hand.init().unwrap();
}

#[test]
fn the_fence_moves_only_from_where_it_is_even_when_nothing_is_said() {
    let warehouse = Warehouse::start();
    let snowflake = warehouse.registrar();
    snowflake.init().unwrap();
    let fence = |size: u64, root: &[u8]| Fence { size: Size(size), root: Hash::of(root) };
    let advance = |from, to| snowflake.advance(&origin(), from, to, DAY, Uuid::new_v4());
    assert_eq!(snowflake.head(&origin()).unwrap(), None);
    assert_eq!(advance(None, fence(5, b"5")).unwrap(), fence(5, b"5"));
    warehouse.front.fail("MERGE INTO registration_hwm", Fault::DropAfterExecute);
    assert_eq!(advance(Some(fence(5, b"5")), fence(9, b"9")).unwrap(), fence(9, b"9"));
    assert_eq!(advance(Some(fence(5, b"5")), fence(9, b"9")).unwrap(), fence(9, b"9"));
    assert_eq!(advance(None, fence(3, b"3")).unwrap(), fence(9, b"9"), "a wiped journal does not move it back");
    for fork in [advance(Some(fence(5, b"5")), fence(9, b"other")), advance(Some(fence(9, b"x")), fence(12, b"12"))] {
        let error = fork.unwrap_err();
        assert!(error.is_halt() && matches!(error, RegistryError::Fork { size: Size(9), .. }), "{error}");
    }
    assert_eq!(snowflake.head(&origin()).unwrap(), Some(fence(9, b"9")));
}

#[test]
fn another_fact_under_a_key_halts_and_the_fork_is_seen() {
    let warehouse = Warehouse::start();
    let snowflake = warehouse.registrar();
    snowflake.init().unwrap();
    let [first, _] = two_segments(5);
    snowflake.register(&first, Uuid::new_v4()).unwrap();
    let mut other = first_segment(&mut Log::new(), 6);
    other.sources.clear();
    let error = snowflake.register(&other, Uuid::new_v4()).unwrap_err();
    assert!(error.is_halt() && matches!(error, RegistryError::Differs { table: "entries", .. }), "{error}");
    assert_eq!(ask(&snowflake, "v_broken_links", &[("reason", "fork")]).len(), 2);
    assert_eq!(ask(&snowflake, "entries", &[]).len(), first.entries.len());
}
