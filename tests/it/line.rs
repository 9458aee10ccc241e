//! The straight line with the real binary on embedded parts: files in, journal, segment, folder, SQLite, audit.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::copy_tree;

/// A log made by `init`, with a folder as its pin target.
pub(crate) struct Log {
    pub(crate) dir: TempDir,
}

impl Log {
    pub(crate) fn new() -> Log {
        let log = Log { dir: tempfile::tempdir().unwrap() };
        log.ok(&["init", log.path("").to_str().unwrap(), "--origin", "example.com/test/line"]);
        let config = log.path("pinfold.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("listen = \"127.0.0.1:7410\"", "listen = \"\"");
        std::fs::write(&config, text + "\n[pin.vault]\nkind = \"folder\"\npath = \"vault\"\n").unwrap();
        log
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let config = self.path("pinfold.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(args).arg("--json");
        if args[0] != "init" {
            command.arg("--config").arg(config);
        }
        command.output().unwrap()
    }

    /// Runs a command that must succeed, and gives its last JSON line.
    pub(crate) fn ok(&self, args: &[&str]) -> Value {
        let (code, value) = self.answer(args);
        assert_eq!(code, 0, "{args:?}: {value}");
        value
    }

    pub(crate) fn answer(&self, args: &[&str]) -> (i32, Value) {
        let output = self.run(args);
        let text = String::from_utf8(output.stdout).unwrap();
        let value = text.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
        let code = output.status.code().unwrap();
        assert!(code != 70 && code != 101, "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        (code, value)
    }

    /// An NDJSON file of `count` consent events about a tenth as many people.
    pub(crate) fn events(&self, name: &str, count: usize) -> String {
        let event = |i: usize| {
            serde_json::json!({
                "specversion": "1.0", "id": format!("e{i}"), "source": "urn:test", "type": "com.maily.consent.v1",
                "time": "2026-01-01T00:00:00Z",
                "data": {
                    "receiptId": format!("r{i}"),
                    "subject": { "identifiers": [{ "type": "email", "value": format!("p{}@example.org", i / 10) }] },
                    "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
                    "jurisdiction": "GDPR",
                },
            })
            .to_string()
        };
        let path = self.dir.path().join(name);
        std::fs::write(&path, (0..count).map(event).collect::<Vec<_>>().join("\n") + "\n").unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `verify` of an archive directory with the log's own vkey.
    pub(crate) fn verify(&self, dir: &Path) -> (i32, Value) {
        let vkey = self.path("keys/log.vkey");
        self.answer(&["verify", dir.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()])
    }
}

pub(crate) fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn events_of_a_file_end_up_verified_pinned_and_registered_exactly_once() {
    let log = Log::new();
    let file = log.events("events.ndjson", 500);
    let first = log.ok(&["ingest", &file]);
    assert_eq!((&first["accepted"], &first["quarantined"]), (&500.into(), &0.into()));
    let again = log.ok(&["ingest", &file]);
    assert_eq!((&again["accepted"], &again["duplicates"], &again["size"]), (&0.into(), &500.into(), &first["size"]));
    let idle = log.ok(&["run", "--until-idle"]);
    assert_eq!((&idle["sealed"], &idle["pinned"], &idle["registered"]), (&1.into(), &1.into(), &1.into()));
    let second = log.ok(&["run", "--until-idle"]);
    assert_eq!((&second["size"], &second["root"]), (&idle["size"], &idle["root"]), "a second run changes nothing");
    let (exit, report) = log.verify(&log.path("data/archive"));
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
    let (exit, report) = log.verify(&log.path("vault"));
    assert_eq!((exit, codes(&report)), (10, vec![]), "the pinned copy: {report}");
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, codes(&report)), (10, vec!["unsealed-tail"]), "{report}");
    for (id, offset) in [("e0", 0), ("e499", 499)] {
        let row =
            log.ok(&["query", "provenance", "--param", "event_source=urn:test", "--param", &format!("event_id={id}")]);
        assert_eq!((&row["topic"], &row["record_offset"]), (&"events.ndjson".into(), &offset.into()));
        assert_eq!(row["verified_copies"], 1, "{row}");
    }
    for view in ["v_missing_segments", "v_broken_links", "v_offset_gaps", "v_bad_keys"] {
        assert_eq!(log.ok(&["query", view]), Value::Null, "{view}");
    }
}

#[test]
fn what_does_not_decode_is_quarantined_and_the_stream_goes_on() {
    let log = Log::new();
    let path = log.dir.path().join("mixed.ndjson");
    let sound = std::fs::read_to_string(log.events("sound.ndjson", 1)).unwrap();
    let long = format!("{{\"pad\":\"{}\"}}", "x".repeat(2 << 20));
    std::fs::write(&path, format!("not json\n{{}}\n{long}\n{sound}")).unwrap();
    let answer = log.ok(&["ingest", path.to_str().unwrap()]);
    assert_eq!((&answer["accepted"], &answer["quarantined"]), (&1.into(), &3.into()), "{answer}");
    log.ok(&["run", "--until-idle"]);
    let (exit, report) = log.verify(&log.path("data/archive"));
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
}

#[test]
fn a_changed_archive_row_or_journal_is_found_and_named() {
    let log = Log::new();
    for n in 0..3 {
        log.ok(&["ingest", &log.events(&format!("events{n}.ndjson"), 20)]);
        log.ok(&["seal"]);
    }
    log.ok(&["run", "--until-idle"]);
    let copy = |name: &str| {
        let dir = log.dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        for entry in std::fs::read_dir(log.path("data/archive")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
        dir
    };
    let flipped = copy("flipped");
    let file = flipped.join("000001.proof.car");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (exit, report) = log.verify(&flipped);
    assert_eq!(exit, 40, "{report}");
    assert_eq!(report["findings"][0]["segment"], 1, "{report}");
    let cut = copy("cut");
    std::fs::remove_file(cut.join("000001.proof.car")).unwrap();
    std::fs::remove_file(cut.join("000001.payload.car")).unwrap();
    let (exit, report) = log.verify(&cut);
    assert_eq!((exit, codes(&report)), (20, vec!["segment-missing"]), "{report}");
}

#[test]
fn a_journal_rolled_back_behind_its_head_file_does_not_open() {
    let log = Log::new();
    log.ok(&["ingest", &log.events("one.ndjson", 20)]);
    let saved = log.dir.path().join("saved");
    copy_tree(&log.path("data"), &saved);
    log.ok(&["ingest", &log.events("two.ndjson", 20)]);
    log.ok(&["seal"]);
    std::fs::remove_dir_all(log.path("data")).unwrap();
    copy_tree(&saved, &log.path("data"));
    let (exit, answer) = log.answer(&["status"]);
    assert_eq!((exit, &answer["error"]["code"]), (4, &"journal".into()), "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("pinfold rebuild"), "{answer}");
}

#[test]
fn a_changed_file_is_refused_and_the_log_goes_on() {
    let log = Log::new();
    let file = log.events("events.ndjson", 20);
    log.ok(&["ingest", &file]);
    let text = std::fs::read_to_string(&file).unwrap().replacen("\"e3\"", "\"e4\"", 1);
    std::fs::write(&file, text).unwrap();
    let (exit, answer) = log.answer(&["ingest", &file]);
    assert_eq!(exit, 4, "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("--as"), "{answer}");
    assert_eq!(log.ok(&["ingest", &log.events("more.ndjson", 5)])["accepted"], 5);
}

#[test]
fn init_overwrites_nothing_and_says_what_to_do() {
    let log = Log::new();
    let dir = log.path("");
    let (exit, answer) = log.answer(&["init", dir.to_str().unwrap()]);
    assert_eq!(exit, 2, "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("--if-absent"));
    log.ok(&["init", dir.to_str().unwrap(), "--if-absent"]);
}
