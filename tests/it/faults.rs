//! Bad input and a bad disk under the real binary: nothing is dropped, nothing is silently wrong, and each refusal names
//! the next command (the harness asserts the hint).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::binary::{Log, Tmpfs, copy_tree};

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "urn:test", "type": "com.maily.consent.v1",
        "data": {
            "receiptId": id,
            "subject": { "identifiers": [{ "type": "email", "value": format!("{id}@example.org") }] },
            "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
        },
    })
}

/// A file of so many events.
pub(crate) fn events(log: &Log, name: &str, count: usize) -> String {
    let lines: Vec<String> = (0..count).map(|i| event(&format!("{name}-{i}")).to_string()).collect();
    file(log, name, lines.join("\n").as_bytes())
}

pub(crate) fn file(log: &Log, name: &str, bytes: &[u8]) -> String {
    let path = log.dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A log with a vault, and 50 events that are sealed, pinned and registered.
fn sound() -> Log {
    let log = Log::new("example.com/test/faults");
    log.pin_to_folder();
    log.ok(&["ingest", &events(&log, "sound.ndjson", 50)]);
    log.ok(&["run", "--until-idle"]);
    log
}

/// A refusal: an exit code of these with a code and a hint, no answer.
fn refused(log: &Log, args: &[&str], exits: &[i32]) -> Value {
    let (exit, value) = log.answer(args);
    assert!(exits.contains(&exit) && !value["error"].is_null(), "{args:?} {exit}: {value}");
    value["error"].clone()
}

#[test]
fn no_record_of_a_file_is_too_bad_to_be_archived() {
    let log = Log::new("example.com/test/faults");
    log.pin_to_folder();
    let subject = |n: usize| json!({ "identifiers": [{ "type": "email", "value": format!("m{n}@example.org") }] });
    let data = |count: usize| {
        let mut event = event(&format!("people-{count}"));
        event["type"] = json!("com.maily.data.v1");
        let subjects: Vec<Value> = (0..count).map(subject).collect();
        event["data"] = json!({ "action": "DATA_ACTION_EXPORTED", "subjects": subjects });
        event.to_string()
    };
    let with = |id: &str, field: &str, value: Value| {
        let mut event = event(id);
        event[field] = value;
        event.to_string()
    };
    let padded = |id: &str, bytes: usize| {
        let mut event = event(id);
        event["data"]["pageUrl"] = json!("x".repeat(bytes));
        event.to_string()
    };
    let records = [
        ("no JSON", "this is no event".to_owned(), "undecodable"),
        ("cut JSON", "{\"specversion\":\"1.0\",".to_owned(), "undecodable"),
        ("null", "null".to_owned(), "undecodable"),
        ("a number", "7".to_owned(), "undecodable"),
        ("an empty object", "{}".to_owned(), "undecodable"),
        ("unknown type", with("unknown", "type", json!("com.example.nobody.v9")), "unknown type"),
        ("future", with("future", "time", json!("9999-01-01T00:00:00Z")), ""),
        ("1 MiB", padded("large", (1 << 20) - 600), ""),
        ("oversize", padded("oversize", 2 << 20), "too large"),
        ("larger than memory allows", padded("huge", 40 << 20), "too large"),
        ("300 people", data(300), "too many subjects"),
        ("199 people", data(199), ""),
        ("the last", event("last").to_string(), ""),
    ];
    let text: Vec<&str> = records.iter().map(|(_, text, _)| text.as_str()).collect();
    let path = file(&log, "bad.ndjson", text.join("\n").as_bytes());
    let answer = log.ok(&["ingest", &path]);
    let accepted = records.iter().filter(|(_, _, reason)| reason.is_empty()).count();
    assert_eq!((&answer["accepted"], &answer["quarantined"]), (&accepted.into(), &(records.len() - accepted).into()));
    log.ok(&["run", "--until-idle"]);
    let quarantined = log.lines(&["query", "quarantined"]);
    let rows = log.lines(&["query", "v_provenance"]);
    for (offset, (name, _, reason)) in records.iter().enumerate() {
        let at = |row: &&Value| row["record_offset"] == offset;
        assert_eq!(rows.iter().filter(at).count(), 1, "{name}");
        let found = quarantined.iter().find(at).map_or("", |row| row["reason"].as_str().unwrap());
        assert_eq!(found, *reason, "{name}");
    }
    assert_eq!(log.verify(&log.path("data/archive")).0, 10);

    // Length-delimited: an empty record, one of rubbish, and an envelope.
    let path = file(&log, "bad.pb", &[&[0][..], &[3, 0xff, 0xff, 0xff], &[0]].concat());
    let answer = log.ok(&["ingest", &path]);
    assert_eq!((&answer["accepted"], &answer["quarantined"]), (&0.into(), &3.into()), "{answer}");
    // The last record ends before its length does: what came before it is folded, and the end is named.
    let path = file(&log, "cut.pb", &[1, 0xff, 9, 1, 2]);
    let (exit, answer) = log.answer(&["ingest", &path]);
    let status = log.status();
    assert!(exit == 0 || !answer["error"].is_null(), "{answer}");
    let cut = status["sources"].as_array().unwrap().iter().find(|row| row["topic"] == "cut.pb").unwrap();
    assert_eq!(cut["next_offset"], if exit == 0 { 2 } else { 1 }, "{answer}");
}

#[test]
fn a_key_file_of_another_log_is_refused() {
    let (log, other) = (sound(), sound());
    for (name, exits) in [("keys/log.key", &[4][..]), ("keys/kek", &[4]), ("keys/log.vkey", &[0, 4])] {
        let ours = std::fs::read(log.path(name)).unwrap();
        std::fs::copy(other.path(name), log.path(name)).unwrap();
        for args in [&["status"][..], &["ingest", &events(&log, "more.ndjson", 3)], &["run", "--until-idle"]] {
            if exits.contains(&0) {
                log.ok(args);
            } else {
                refused(&log, args, exits);
            }
        }
        std::fs::write(log.path(name), ours).unwrap();
    }
    std::fs::write(log.path("keys/log.key"), "no key").unwrap();
    refused(&log, &["run", "--until-idle"], &[2, 4]);
}

/// Files below a directory, largest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).unwrap().len()));
    found
}

/// Every place of the journal, flipped: the log refuses to open, or it is as it was. Nothing wrong is ever sealed.
#[test]
fn a_corrupted_journal_halts_or_changes_nothing() {
    let log = sound();
    log.ok(&["ingest", &events(&log, "unsealed.ndjson", 200)]);
    let before = log.status();
    let saved = log.dir.path().join("saved");
    copy_tree(&log.path(""), &saved);
    let (mut halted, mut unhurt) = (0, 0);
    for path in files(&log.path("data/journal")) {
        let bytes = std::fs::read(&path).unwrap();
        // What is not zero: the rest of sled's file is room.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for part in 0..6 {
            let Some(at) = (used > 0).then(|| (used - 1) * part / 5) else { continue };
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let (exit, status) = log.answer(&["status"]);
            if exit == 0 {
                assert_eq!((&status["size"], &status["root"]), (&before["size"], &before["root"]), "{path:?} at {at}");
                let (exit, idle) = log.answer(&["run", "--until-idle", "--timeout", "20s"]);
                assert!(exit == 0 || exit == 4, "{path:?} at {at}: {exit} {idle}");
                let (verdict, report) = log.verify(&log.path("data/archive"));
                assert_eq!(verdict, 10, "{path:?} at {at}: sealed what is wrong: {report}");
                if exit == 0 { unhurt += 1 } else { halted += 1 }
            } else {
                assert_eq!(exit, 4, "{path:?} at {at}: {status}");
                halted += 1;
            }
            std::fs::remove_dir_all(log.path("")).unwrap();
            copy_tree(&saved, &log.path(""));
        }
    }
    assert!(halted > 5, "{halted} halted, {unhurt} unhurt");
}

#[test]
fn a_truncated_car_is_never_pinned_and_verify_names_it() {
    let log = Log::new("example.com/test/faults");
    log.ok(&["ingest", &events(&log, "one.ndjson", 50)]);
    log.ok(&["run", "--until-idle"]);
    for kind in ["proof", "payload"] {
        let path = log.path(&format!("data/archive/000000.{kind}.car"));
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 1, 58, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (exit, report) = log.verify(&log.path("data/archive"));
            assert!([40, 20].contains(&exit), "{kind} of {length} bytes: {exit} {report}");
            assert_eq!(report["findings"][0]["segment"], 0, "{report}");
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        // A target that comes now must not get it.
        let config = std::fs::read(log.path("pinfold.toml")).unwrap();
        log.add(&format!("[pin.{kind}]\nkind = \"folder\"\npath = \"{kind}\"\n"));
        refused(&log, &["run", "--until-idle", "--timeout", "10s"], &[3, 4]);
        assert!(!log.path(&format!("{kind}/000000.{kind}.car")).exists(), "{kind}: half of it is pinned");
        std::fs::write(&path, whole).unwrap();
        log.ok(&["resume", "--yes"]);
        let idle = log.ok(&["run", "--until-idle", "--timeout", "60s"]);
        assert_eq!(idle["pinned"], idle["sealed"], "{idle}");
        std::fs::write(log.path("pinfold.toml"), config).unwrap();
    }
    assert_eq!(log.verify(&log.path("data/archive")).0, 10);
}

#[test]
fn a_read_only_data_directory_is_refused_and_taken_up_again() {
    let log = sound();
    let Some(disk) = on_small_disk(&log, 32) else { return };
    let before = log.status();
    disk.set_read_only(true);
    for args in [&["ingest", &events(&log, "more.ndjson", 3)][..], &["run", "--until-idle"], &["seal"]] {
        refused(&log, args, &[3, 4]);
    }
    // What needs no write access does not mind.
    assert_eq!(log.verify(&log.path("data/archive")).0, 10);
    disk.set_read_only(false);
    let after = log.status();
    assert_eq!((&after["root"], &after["halted"]), (&before["root"], &Value::Null), "{after}");
    assert_eq!(log.ok(&["ingest", &events(&log, "more.ndjson", 3)])["accepted"], 3);
}

/// A disk that is full to the last byte while records are folded.
#[test]
fn a_disk_without_a_byte_left_loses_nothing_and_goes_on_when_there_is_room() {
    let log = sound();
    let Some(_disk) = on_small_disk(&log, 24) else { return };
    let path = events(&log, "many.ndjson", 60_000);
    let ballast = log.path("data/ballast");
    fill(&ballast, 6 << 20);
    let (exit, answer) = log.answer(&["ingest", &path, "--timeout", "30s"]);
    assert!([3, 4].contains(&exit), "{exit}: {answer}");
    std::fs::remove_file(&ballast).unwrap();
    let status = log.status();
    assert_eq!(status["halted"], Value::Null, "{status}");
    let held = status["size"].as_u64().unwrap();
    let (exit, report) = log.verify(&log.path("data/archive"));
    assert_eq!(exit, 10, "{held} entries: {report}");
    let again = log.ok(&["ingest", &events(&log, "few.ndjson", 10)]);
    assert_eq!(again["accepted"], 10, "{again}");
}

/// Writes until so many bytes are left.
fn fill(path: &Path, left: u64) {
    let disk = rustix::fs::statvfs(path.parent().unwrap()).unwrap();
    let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(left);
    std::fs::write(path, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
}

/// Moves the data directory onto a file system of its own.
fn on_small_disk(log: &Log, mib: u32) -> Option<Tmpfs> {
    let saved = log.dir.path().join("moved");
    std::fs::rename(log.path("data"), &saved).unwrap();
    let disk = Tmpfs::mount(&log.path("data"), mib)?;
    log.set("disk_free_min = \"1GiB\"", "disk_free_min = \"0B\"");
    copy_tree(&saved, &log.path("data"));
    Some(disk)
}
