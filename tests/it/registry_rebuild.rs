//! `registry rebuild` with the real binary: rows that people changed come out as the log has them.

use std::collections::BTreeMap;
use std::fs;

use rusqlite::{Connection, types::Value};
use serde_json::json;

use crate::line::{Log, codes};

const TABLES: [&str; 8] = [
    "segments",
    "segment_sources",
    "segment_pins",
    "entries",
    "gaps",
    "contested_ranges",
    "quarantined",
    "signing_keys",
];

/// Every row of the log's tables, each as text, in some fixed order.
fn rows(path: &std::path::Path, without: &[&str]) -> BTreeMap<&'static str, Vec<String>> {
    let connection = Connection::open(path).unwrap();
    let table = |table: &'static str| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
        let mut found = statement.query([]).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = found.next().unwrap() {
            let cells = names.iter().enumerate().filter(|(_, name)| !without.contains(&name.as_str()));
            rows.push(format!("{:?}", cells.map(|(at, _)| row.get::<_, Value>(at).unwrap()).collect::<Vec<_>>()));
        }
        rows.sort();
        (table, rows)
    };
    TABLES.into_iter().map(table).collect()
}

fn log() -> Log {
    let log = Log::new();
    let mixed = log.dir.path().join("mixed.ndjson");
    let sound = fs::read_to_string(log.events("sound.ndjson", 3)).unwrap();
    fs::write(&mixed, format!("not json\n{sound}")).unwrap();
    for file in [&log.events("a.ndjson", 30), mixed.to_str().unwrap(), &log.events("b.ndjson", 30)] {
        log.ok(&["ingest", file]);
        log.ok(&["run", "--until-idle"]);
    }
    log
}

#[test]
fn rows_changed_by_hand_come_out_as_they_were_and_those_of_other_logs_stay() {
    let log = log();
    let path = log.path("data/registry.sqlite");
    let other = "INSERT INTO quarantined SELECT 'example.com/other', seq, reason, cluster_id, topic, partition_no, \
                 record_offset, recorded_at, resolved_seq FROM quarantined";
    Connection::open(&path).unwrap().execute_batch(other).unwrap();
    let before = rows(&path, &[]);
    assert!(TABLES.iter().filter(|table| before[**table].is_empty()).count() <= 2, "{before:?}");
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "UPDATE entries SET event_id = 'other', leaf_hash = 'x' WHERE seq = 5 AND origin LIKE '%line';
             DELETE FROM segments WHERE segment_no = 1;
             UPDATE segment_pins SET target = 'nowhere';
             INSERT INTO gaps SELECT origin, 5, cluster_id, topic, topic_id, partition_no, 1, 2, 'compaction'
               FROM segment_sources LIMIT 1;
             DELETE FROM signing_keys;
             UPDATE logs SET reported_segments = 99;",
        )
        .unwrap();
    assert_ne!(rows(&path, &[]), before, "the edits took");
    let (exit, answer) = log.answer(&["registry", "rebuild", "local"]);
    assert_eq!(exit, 2, "off a terminal it asks for --yes: {answer}");
    let size = log.ok(&["status"])["size"].clone();
    let answer = log.ok(&["registry", "rebuild", "local", "--yes"]);
    assert_eq!(answer, json!({ "rebuilt": ["local"], "registered": { "local": 3 } }));
    assert_eq!(rows(&path, &[]), before);
    assert_eq!(log.ok(&["status"])["size"], size, "what is stated already is not stated again");
    assert_eq!(log.ok(&["query", "v_missing_segments"]), serde_json::Value::Null);
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, codes(&report)), (10, vec!["unsealed-tail"]), "{report}");
    log.ok(&["registry", "rebuild", "--yes"]);
    assert_eq!(rows(&path, &[]), before, "twice is once");
}

#[test]
fn a_registry_that_comes_later_gets_the_rows_the_first_one_has() {
    let log = log();
    let config = fs::read_to_string(log.path("pinfold.toml")).unwrap();
    let more = "\n[registry.late]\nkind = \"sqlite\"\npath = \"late.sqlite\"\n";
    fs::write(log.path("pinfold.toml"), config + more).unwrap();
    log.ok(&["run", "--until-idle"]);
    // When a registry had a segment is stated of each registry by itself.
    let rows = |name: &str| rows(&log.path(name), &["registered_at"]);
    assert_eq!(rows("late.sqlite"), rows("data/registry.sqlite"));
}

#[test]
fn init_makes_tables_and_names_registries_that_are_not_there() {
    let log = Log::new();
    assert_eq!(log.ok(&["registry", "init"]), json!({ "initialised": ["local"], "to_apply": {} }));
    let (exit, answer) = log.answer(&["registry", "rebuild", "hub", "--yes"]);
    assert_eq!(exit, 2, "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("local"), "{answer}");
}
