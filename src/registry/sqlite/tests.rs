//! The embedded registry as the port promises it, on files of its own.

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
    for fork in [advance(Some(fence(5, b"5")), fence(9, b"other")), advance(Some(fence(9, b"x")), fence(12, b"12"))] {
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
    assert!(Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).is_ok());
    std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(Sqlite::open_read("local", &path).unwrap().seals(&sample::origin()).unwrap(), seals);
    std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(Sqlite::open_read("local", &copy.path().join("none.sqlite")).is_err());
}
