//! `rebuild` with the real binary: from the archive, a pin target, after every kind of loss; and what it refuses.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::binary::copy_tree;
use crate::line::{Log, codes};

/// A log of three segments, done everywhere, with an unsealed tail of its own entries; and the files it was fed.
fn log() -> (Log, Vec<String>) {
    let log = Log::new();
    let files: Vec<String> = (0..3).map(|n| log.events(&format!("events{n}.ndjson"), 40)).collect();
    for file in &files {
        log.ok(&["ingest", file]);
        log.ok(&["seal"]);
    }
    log.ok(&["run", "--until-idle"]);
    (log, files)
}

/// The rebuilt log goes on: what it was fed adds nothing, new records do, and the archive verifies.
fn check(log: &Log, files: &[String]) {
    for file in files {
        let again = log.ok(&["ingest", file]);
        assert_eq!((&again["accepted"], &again["duplicates"]), (&0.into(), &40.into()), "{again}");
    }
    assert_eq!(log.ok(&["ingest", &log.events("after.ndjson", 30)])["accepted"], 30);
    log.ok(&["run", "--until-idle"]);
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, codes(&report)), (10, vec!["unsealed-tail"]), "{report}");
    let (exit, report) = log.verify(&log.path("vault"));
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
    for view in ["v_missing_segments", "v_broken_links", "v_offset_gaps", "v_bad_keys", "v_under_replicated"] {
        let rows = log.ok(&["query", view]);
        // One folder is less than copies_min asks for, before and after.
        assert!(rows == Value::Null || view == "v_under_replicated", "{view}: {rows}");
    }
}

fn error(answer: &Value) -> (&str, &str, &str) {
    let error = |name: &str| answer["error"][name].as_str().unwrap_or_default();
    (error("code"), error("message"), error("hint"))
}

#[test]
fn a_lost_journal_comes_back_from_the_local_archive_and_the_lost_head_is_an_entry() {
    let (log, files) = log();
    let before = log.ok(&["status"]);
    fs::remove_dir_all(log.path("data/journal")).unwrap();
    let (exit, answer) = log.answer(&["rebuild", "--yes"]);
    assert_eq!((exit, error(&answer).0), (4, "head-beyond"), "{answer}");
    for value in [&before["root"], &before["size"]] {
        assert!(error(&answer).1.contains(value.to_string().trim_matches('"')), "{answer}");
    }
    assert!(error(&answer).2.contains("--accept-lost-tail"), "{answer}");
    let dry = log.ok(&["rebuild", "--accept-lost-tail", "--dry-run"]);
    assert_eq!((&dry["lost"]["size"], &dry["segments"]), (&before["size"], &3.into()), "{dry}");
    assert!(!log.path("data/journal").exists(), "a dry run changes nothing");
    let (exit, answer) = log.answer(&["rebuild", "--accept-lost-tail"]);
    assert_eq!((exit, error(&answer).0), (2, "usage"), "off a terminal it asks for --yes: {answer}");
    let rebuilt = log.ok(&["rebuild", "--accept-lost-tail", "--yes"]);
    let at = rebuilt["size"].as_u64().unwrap();
    let entry = log.ok(&["show", &(at + 1).to_string()]);
    assert_eq!((&entry["kind"], &entry["clear"]["size"]), (&"restored".into(), &before["size"]), "{entry}");
    assert_eq!(entry["clear"]["root"], before["root"]);
    check(&log, &files);
}

#[test]
fn a_damaged_journal_is_kept_aside_and_rebuilt() {
    let (log, files) = log();
    let store = log.path("data/journal/sled-000001/db");
    let mut bytes = fs::read(&store).unwrap();
    let end = bytes.len() / 2;
    bytes[..end].fill(0x5a);
    fs::write(&store, &bytes).unwrap();
    assert_eq!(log.answer(&["status"]).0, 4);
    log.ok(&["rebuild", "--accept-lost-tail", "--yes"]);
    assert_eq!(fs::read(log.path("data/journal.old-1/sled-000001/db")).unwrap(), bytes, "the old one, as it was");
    check(&log, &files);
}

#[test]
fn a_lost_data_volume_comes_back_whole_from_a_pin_target() {
    let (log, files) = log();
    let sizes = |dir: &Path| {
        let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap()).collect();
        files.sort_by_key(fs::DirEntry::file_name);
        files.iter().map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect::<Vec<_>>()
    };
    let archive = sizes(&log.path("data/archive"));
    fs::remove_dir_all(log.path("data")).unwrap();
    let (exit, answer) = log.answer(&["rebuild", "--accept-lost-tail", "--yes"]);
    assert_eq!((exit, error(&answer).0), (4, "no-archive"), "{answer}");
    let vault = log.path("vault");
    log.ok(&["rebuild", "--from", vault.to_str().unwrap(), "--accept-lost-tail", "--yes"]);
    assert!(sizes(&log.path("data/archive")) == archive, "the archive folder is refilled byte for byte");
    check(&log, &files);
}

#[test]
fn a_released_head_is_never_contradicted() {
    let (log, _) = log();
    for name in ["000002.proof.car", "000002.payload.car"] {
        fs::remove_file(log.path("data/archive").join(name)).unwrap();
    }
    fs::remove_dir_all(log.path("data/journal")).unwrap();
    let refused = |who: &str, hint: &str| {
        let (exit, answer) = log.answer(&["rebuild", "--accept-lost-tail", "--yes"]);
        assert_eq!((exit, error(&answer).0), (4, "head-beyond"), "{answer}");
        assert!(error(&answer).1.contains(who) && error(&answer).2.contains(hint), "{answer}");
        assert!(!log.path("data/journal").exists());
    };
    refused("pin target vault", "pinfold rebuild --from");
    fs::rename(log.path("vault"), log.path("vault.gone")).unwrap();
    refused("registry local", "successor");
    // With neither left to contradict it, the flag is enough.
    fs::remove_file(log.path("data/registry.sqlite")).unwrap();
    let (exit, answer) = log.answer(&["rebuild", "--yes"]);
    assert_eq!((exit, error(&answer).0), (4, "head-beyond"), "{answer}");
    assert_eq!(log.ok(&["rebuild", "--accept-lost-tail", "--yes"])["segments"], 2);
}

#[test]
fn a_rolled_back_journal_is_rebuilt_and_a_sound_one_beyond_the_archive_is_not_given_up_unasked() {
    let log = Log::new();
    let file = log.events("one.ndjson", 20);
    log.ok(&["ingest", &file]);
    log.ok(&["seal"]);
    let saved = log.dir.path().join("saved");
    copy_tree(&log.path("data/journal"), &saved);
    log.ok(&["ingest", &log.events("two.ndjson", 20)]);
    let (exit, answer) = log.answer(&["rebuild", "--yes"]);
    assert_eq!(exit, 4, "{answer}");
    assert!(error(&answer).2.contains("pinfold run"), "{answer}");
    fs::remove_dir_all(log.path("data/journal")).unwrap();
    copy_tree(&saved, &log.path("data/journal"));
    assert_eq!(log.answer(&["status"]).0, 4);
    log.ok(&["rebuild", "--accept-lost-tail", "--yes"]);
    assert_eq!(log.ok(&["ingest", &file])["duplicates"], 20);
    assert_eq!(log.ok(&["ingest", &log.events("two.ndjson", 20)])["accepted"], 20, "folded again");
}

#[test]
fn a_tampered_archive_and_a_lost_keyring_are_refused_and_nothing_changes() {
    let (log, _) = log();
    let keyring = log.path("keyring");
    fs::rename(&keyring, log.path("keyring.gone")).unwrap();
    let (exit, answer) = log.answer(&["rebuild", "--accept-lost-tail", "--yes"]);
    assert_eq!((exit, error(&answer).0), (4, "keyring"), "{answer}");
    assert!(error(&answer).2.contains("restore the keyring"), "{answer}");
    fs::rename(log.path("keyring.gone"), &keyring).unwrap();
    let car = log.path("data/archive/000001.payload.car");
    let mut bytes = fs::read(&car).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&car, &bytes).unwrap();
    let (exit, answer) = log.answer(&["rebuild", "--accept-lost-tail", "--yes"]);
    assert_eq!((exit, error(&answer).0), (4, "archive"), "{answer}");
    assert!(error(&answer).1.contains("segment 1"), "{answer}");
    assert!(!log.path("data/journal.old-1").exists());
    // From the pinned copy it works, and the damaged file is kept as evidence.
    log.ok(&["rebuild", "--from", log.path("vault").to_str().unwrap(), "--accept-lost-tail", "--yes"]);
    assert_eq!(fs::read(log.path("data/archive/000001.payload.car.old-1")).unwrap(), bytes);
    let (exit, report) = log.verify(&log.path("data/archive"));
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
}

#[test]
fn a_file_that_changed_is_still_refused_by_its_last_record() {
    let log = Log::new();
    let file = log.events("events.ndjson", 20);
    log.ok(&["ingest", &file]);
    log.ok(&["seal"]);
    log.ok(&["rebuild", "--accept-lost-tail", "--yes"]);
    let sound = fs::read_to_string(&file).unwrap();
    fs::write(&file, sound.replacen("\"e19\"", "\"e91\"", 1)).unwrap();
    let (exit, answer) = log.answer(&["ingest", &file]);
    assert_eq!(exit, 4, "{answer}");
    fs::write(&file, sound).unwrap();
    assert_eq!(log.ok(&["ingest", &file])["duplicates"], 20);
}

#[test]
fn killed_at_any_moment_it_leaves_the_old_journal_or_the_new_one() {
    let (log, files) = log();
    fs::remove_file(log.path("data/journal/CURRENT")).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // Each round lets it live a little longer; the last one lets it end.
    for micros in (0u64..).step_by(4_000) {
        assert!(std::time::Instant::now() < end, "it never ends");
        let mut rebuild = std::process::Command::new(env!("CARGO_BIN_EXE_pinfold"))
            .args(["rebuild", "--accept-lost-tail", "--yes", "--config", log.path("pinfold.toml").to_str().unwrap()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let kill_at = std::time::Instant::now() + std::time::Duration::from_micros(micros);
        let mut ended = None;
        while ended.is_none() && std::time::Instant::now() < kill_at {
            ended = rebuild.try_wait().unwrap();
            std::thread::yield_now();
        }
        if let Some(status) = ended {
            assert!(status.success(), "after {micros} us");
            break;
        }
        rebuild.kill().unwrap();
        rebuild.wait().unwrap();
        assert!(log.path("data/journal").is_dir(), "a journal is always there");
        let (exit, answer) = log.answer(&["status"]);
        assert!(exit == 0 || error(&answer).2.contains("pinfold rebuild"), "after {micros} us: {answer}");
    }
    check(&log, &files);
}
