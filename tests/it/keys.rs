//! The life of the log's key with the real binary: rotated, lost on the way, stolen, revoked; and what each verifier says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::binary::{Log, copy_tree};
use crate::line::codes;

const ORIGIN: &str = "example.com/test/keys";

/// A log with a folder as its pin target, and one segment done everywhere.
fn log() -> Log {
    let log = Log::new(ORIGIN);
    log.pin_to_folder();
    grow(&log, "first");
    log
}

/// Folds ten events of a file of this name, and has them sealed, pinned and registered.
fn grow(log: &Log, name: &str) {
    log.ingest_events(name, 10);
    log.ok(&["run", "--until-idle"]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file with these lines beside the log.
fn file(log: &Log, name: &str, lines: &[&str]) -> PathBuf {
    let path = log.dir.path().join(name);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

/// `verify` of an archive with these vkeys and notes: exit code and finding codes.
fn verify(log: &Log, archive: &Path, vkeys: &[&Path], notes: &[&Path]) -> (i32, Vec<String>) {
    let mut args = vec!["verify", text(archive)];
    vkeys.iter().for_each(|vkey| args.extend(["--vkey", text(vkey)]));
    notes.iter().for_each(|note| args.extend(["--revoked", text(note)]));
    let (exit, report) = log.answer(&args);
    let mut found: Vec<String> = codes(&report).into_iter().map(str::to_owned).collect();
    found.dedup();
    (exit, found)
}

fn sound() -> (i32, Vec<String>) {
    (10, vec![])
}

fn found(exit: i32, code: &str) -> (i32, Vec<String>) {
    (exit, vec![code.to_owned()])
}

fn vkeys(log: &Log) -> Vec<String> {
    let text = fs::read_to_string(log.path("keys/log.vkey")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The files of the key directory that hold private keys of the log.
fn key_files(log: &Log) -> Vec<String> {
    let names = fs::read_dir(log.path("keys")).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("log.key"));
    names.sort();
    names
}

#[test]
fn a_log_rotated_twice_under_a_running_sidecar_verifies_from_its_first_and_its_newest_key() {
    let log = log();
    let first = fs::read(log.path("keys/log.key")).unwrap();
    let mut running = log.start();
    for name in ["second", "third"] {
        let segments = log.status()["sealed"]["segments"].as_u64().unwrap();
        let rotated = log.ok(&["key", "rotate"]);
        assert_eq!(rotated["step"], "rotated", "{rotated}");
        log.wait(&mut running, "the pin of the change", |status| status["pinned"]["vault"].as_u64() > Some(segments));
        log.ingest_events(name, 10);
        log.ok(&["seal"]);
        log.ok(&["register"]);
    }
    assert!(running.terminate().success(), "{}", running.said());
    grow(&log, "fourth");
    assert_ne!(fs::read(log.path("keys/log.key")).unwrap(), first);
    assert_eq!(key_files(&log), ["log.key"], "the old ones are wiped once a pin target holds the change");
    let all = vkeys(&log);
    let each: Vec<PathBuf> = (0..3).map(|n| file(&log, &format!("{n}.vkey"), &[&all[n]])).collect();
    for archive in ["data/archive", "vault"] {
        let archive = log.path(archive);
        assert_eq!(verify(&log, &archive, &[&each[0]], &[]), sound(), "from the first key");
        assert_eq!(verify(&log, &archive, &[&each[2]], &[]), sound(), "from the newest key");
        assert_eq!(verify(&log, &archive, &[&each[1]], &[]), found(40, "unknown-key"), "one in the middle is neither");
        assert_eq!(verify(&log, &archive, &[&log.path("keys/log.vkey")], &[]), sound(), "from all of them");
    }
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, codes(&report)), (10, vec!["unsealed-tail"]), "{report}");
    assert!(log.lines(&["query", "v_bad_keys"]).is_empty());
    let keys = log.lines(&["key", "list"]);
    let of = |name: &str| keys.iter().map(|key| key[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("role"), ["log", "log", "log", "recovery"]);
    assert_eq!(of("reason"), [json!("rotated"), json!("rotated"), Value::Null, Value::Null]);
    assert_eq!(of("vkey")[..3], all);
    assert_eq!(of("is_held"), [false, false, true, false]);
    assert_eq!(keys[1]["from_seq"].as_i64().unwrap() - 1, keys[0]["not_after_seq"].as_i64().unwrap());
    let doctor = log.answer(&["doctor"]).1;
    assert!(!doctor.to_string().contains("key mismatch"), "{doctor}");
}

#[test]
fn killed_at_any_moment_of_a_rotation_the_log_opens_with_one_key_or_the_other() {
    let log = log();
    // As long as one takes that nobody disturbs, cut into pieces; the last round lets it end.
    let begun = Instant::now();
    log.ok(&["key", "rotate"]);
    let (piece, mut changes) = (begun.elapsed() / 25, Vec::new());
    for round in 0..30u32 {
        let mut rotating = log.command(&["key", "rotate"]);
        let kill_at = Instant::now() + piece * round;
        let mut child = rotating.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while Instant::now() < kill_at && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let status = log.status();
        assert_eq!(status["halted"], Value::Null, "round {round}: {status}");
        let keys = log.lines(&["key", "list"]);
        let now = keys.iter().rev().find(|key| key["role"] == "log").unwrap();
        assert_eq!((&now["key_id"], &now["is_held"]), (&status["key_id"], &json!(true)), "round {round}");
        assert_eq!(vkeys(&log).last(), now["vkey"].as_str().map(str::to_owned).as_ref(), "round {round}");
        changes.push(keys.len() - 2);
    }
    let (first, last) = (changes.first(), changes.last());
    assert!(first < last, "some rounds come to the change and some do not: {changes:?}");
    grow(&log, "after");
    let first = file(&log, "first.vkey", &[&vkeys(&log)[0]]);
    assert_eq!(verify(&log, &log.path("vault"), &[&first], &[]), sound());
}

#[test]
fn a_rebuild_goes_on_with_the_key_its_archive_ends_under() {
    let log = log();
    log.ok(&["key", "rotate"]);
    grow(&log, "second");
    fs::remove_dir_all(log.path("data")).unwrap();
    let vault = log.path("vault");
    log.ok(&["rebuild", "--from", text(&vault), "--accept-lost-tail", "--yes"]);
    grow(&log, "third");
    assert_eq!(vkeys(&log).len(), 2);
    // A target that takes nothing: the change is sealed here and nowhere else, so both keys stay.
    let aside = log.path("aside");
    fs::rename(&vault, &aside).unwrap();
    fs::write(&vault, "no directory").unwrap();
    let lost = log.ok(&["key", "rotate"]);
    assert_eq!(lost["holds_old"], true, "{lost}");
    assert_eq!(key_files(&log).len(), 2);
    log.ok(&["status"]);
    assert_eq!(key_files(&log).len(), 2, "another start wipes nothing either");
    // The volume goes, and with it the change of key: what is left ends under the key before.
    fs::remove_file(&vault).unwrap();
    fs::rename(&aside, &vault).unwrap();
    for gone in ["data", "heads"] {
        fs::remove_dir_all(log.path(gone)).unwrap();
    }
    log.ok(&["rebuild", "--from", text(&vault), "--accept-lost-tail", "--yes"]);
    assert_eq!(log.status()["key_id"], log.lines(&["key", "list"])[1]["key_id"]);
    grow(&log, "fourth");
    // The key that was never seen outside is the next one.
    assert_eq!(log.ok(&["key", "rotate"])["new"], lost["new"]);
    grow(&log, "fifth");
    assert_eq!(key_files(&log), ["log.key"]);
    assert_eq!(verify(&log, &vault, &[&file(&log, "first.vkey", &[&vkeys(&log)[0]])], &[]), sound());
}

/// The log as a thief has it who copied the machine: he goes on with the stolen key.
fn stolen(log: &Log, name: &str) -> Log {
    let thief = Log { dir: tempfile::tempdir().unwrap() };
    copy_tree(&log.path(""), &thief.path(""));
    thief.ingest_events(name, 10);
    thief.ok(&["seal"]);
    thief
}

#[test]
fn what_a_thief_signs_is_refused_by_who_has_the_note_and_taken_by_who_has_not() {
    let log = log();
    let early = stolen(&log, "early");
    grow(&log, "second");
    let late = stolen(&log, "late");
    // He may give the log to a key of his own before he signs anything else.
    let quick = Log { dir: tempfile::tempdir().unwrap() };
    copy_tree(&log.path(""), &quick.path(""));
    quick.ok(&["key", "rotate"]);
    grow(&quick, "quick");
    let note = log.dir.path().join("published.note");
    let recovery_key = log.path("keys/recovery.key");
    let revoked = log.ok(&["key", "revoke", "--recovery-key", text(&recovery_key), "-o", text(&note)]);
    assert_eq!((&revoked["step"], &revoked["published"]), (&json!("revoked"), &json!(note)), "{revoked}");
    assert_eq!(revoked["note"].as_str().unwrap(), fs::read_to_string(&note).unwrap());
    grow(&log, "third");
    let (first, newest) = (file(&log, "1.vkey", &[&vkeys(&log)[0]]), file(&log, "2.vkey", &[&vkeys(&log)[1]]));
    let recovery = log.path("keys/recovery.vkey");
    let own = log.path("data/archive");
    for vkeys in [&[&*first][..], &[&newest], &[&first, &recovery], &[&newest, &recovery]] {
        assert_eq!(verify(&log, &own, vkeys, &[]), sound(), "{vkeys:?}");
    }
    assert_eq!(verify(&log, &own, &[&first, &recovery], &[&note]), sound());
    // Without the recovery vkey the note is nobody's word.
    assert_eq!(verify(&log, &own, &[&first], &[&note]), found(50, "unreachable"));
    for thief in [&early, &late, &quick] {
        let fork = thief.path("data/archive");
        assert_eq!(verify(&log, &fork, &[&first], &[]), sound(), "what docs/keys.md says a thief can do");
        assert_eq!(verify(&log, &fork, &[&first, &recovery], &[]), sound(), "he leaves the note out");
        assert_eq!(verify(&log, &fork, &[&newest], &[]), found(40, "unknown-key"), "the newest key needs no note");
    }
    for thief in [&early, &late] {
        let fork = thief.path("data/archive");
        assert_eq!(verify(&log, &fork, &[&first, &recovery], &[&note]), found(40, "revoked-key"));
    }
    // An owner who rotated and revoked the old key later leaves the same entries as who rotates first: it is said, no more.
    let held = [&*first, &recovery].map(|vkey| ["--vkey", text(vkey)]).concat();
    let fork = quick.path("data/archive");
    let (exit, report) = log.answer(&[&["verify", text(&fork), "--revoked", text(&note)], &held[..]].concat());
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
    let unproven = report["unproven"].as_array().unwrap();
    assert!(unproven.iter().any(|line| line.as_str().unwrap().contains("gave the log to")), "{report}");
    // Before the size vouched for the honest history stands, and an archive too small to show it says so.
    let cut = log.dir.path().join("cut");
    copy_tree(&own, &cut);
    for entry in fs::read_dir(&cut).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with("000000") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert_eq!(verify(&log, &cut, &[&first, &recovery], &[&note]), found(50, "unreachable"));
    // Beyond it, in its own archive, the stolen key is refused in the registry too.
    assert!(log.lines(&["query", "v_bad_keys"]).is_empty());
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, codes(&report)), (10, vec!["unsealed-tail"]), "{report}");
    let keys = log.lines(&["key", "list"]);
    assert_eq!((&keys[0]["reason"], &keys[0]["is_held"]), (&json!("revoked"), &json!(false)));
}

#[test]
fn v_bad_keys_names_a_segment_signed_by_a_revoked_key() {
    let log = log();
    let recovery_key = log.path("keys/recovery.key");
    log.ok(&["key", "revoke", "--recovery-key", text(&recovery_key)]);
    grow(&log, "second");
    let keys = log.lines(&["key", "list"]);
    let (old, last) = (keys[0]["key_id"].as_str().unwrap(), keys[0]["not_after_seq"].as_i64().unwrap());
    let db = rusqlite::Connection::open(log.path("data/registry.sqlite")).unwrap();
    let row: (String, i64, i64, String) = db
        .query_row("SELECT key_id, from_seq, not_after_seq, reason FROM signing_keys WHERE key_id = ?1", [old], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(row, (old.to_owned(), 0, last, "revoked".to_owned()));
    // A row as a thief who reached the registry would add it.
    db.execute("UPDATE segments SET key_id = ?1 WHERE segment_no = 2", [old]).unwrap();
    let bad = log.lines(&["query", "v_bad_keys"]);
    assert_eq!((bad.len(), &bad[0]["segment_no"], &bad[0]["reason"]), (1, &json!(2), &json!("revoked")), "{bad:?}");
}

#[test]
fn a_careful_operator_signs_the_revocation_where_the_recovery_key_is() {
    let log = log();
    let offline = tempfile::tempdir().unwrap();
    fs::rename(log.path("keys/recovery.key"), offline.path().join("recovery.key")).unwrap();
    let (request, signed) = (log.dir.path().join("revoke.txt"), offline.path().join("signed.note"));
    let mut running = log.start();
    let prepared = log.ok(&["key", "revoke", "--prepare", text(&request)]);
    assert_eq!(prepared["prepared"].as_str().unwrap(), fs::read_to_string(&request).unwrap());
    log.wait(&mut running, "the pause", |status| status["paused"] == "revocation");
    // Nothing more is signed with the old key, now and after a restart; a second question gives the same text.
    assert!(running.terminate().success(), "{}", running.said());
    for args in [&["ingest", text(&log.dir.path().join("first.ndjson"))][..], &["key", "rotate"]] {
        let (exit, answer) = log.answer(args);
        assert_eq!((exit, &answer["error"]["code"]), (1, &json!("handover")), "{answer}");
    }
    let again = log.ok(&["key", "revoke", "--prepare", text(&log.dir.path().join("again.txt"))]);
    assert_eq!(again["prepared"], prepared["prepared"]);
    // Offline: the key, the text, the binary, and nothing else.
    let sign = |key: &str, request: &Path, to: &Path| {
        Command::new(env!("CARGO_BIN_EXE_pinfold"))
            .args(["key", "revoke", "--sign", text(request), "--recovery-key", key, "-o", text(to)])
            .current_dir(offline.path())
            .output()
            .unwrap()
    };
    assert!(sign("recovery.key", &request, &signed).status.success());
    // What is not the recovery key's, or is of another text, changes nothing.
    let (forged, other) = (offline.path().join("forged.note"), offline.path().join("other.note"));
    assert!(sign(text(&log.path("keys/log.key")), &request, &forged).status.success());
    let moved = fs::read_to_string(&request).unwrap();
    let size = moved.lines().nth(2).unwrap().to_owned();
    let moved = file(&log, "moved.txt", &[moved.replacen(&format!("\n{size}\n"), "\n1\n", 1).trim_end()]);
    assert!(sign("recovery.key", &moved, &other).status.success());
    for bad in [&forged, &other, &request] {
        let (exit, answer) = log.answer(&["key", "revoke", "--note", text(bad)]);
        assert_eq!((exit, &answer["error"]["code"]), (1, &json!("handover")), "{bad:?}: {answer}");
    }
    let revoked = log.ok(&["key", "revoke", "--note", text(&signed)]);
    let note = log.path(&format!("keys/revocation-{}.note", revoked["seq"]));
    assert_eq!(revoked["published"], json!(note), "{revoked}");
    grow(&log, "second");
    let (first, recovery) = (file(&log, "1.vkey", &[&vkeys(&log)[0]]), log.path("keys/recovery.vkey"));
    assert_eq!(verify(&log, &log.path("vault"), &[&first, &recovery], &[&note]), sound());
    assert_eq!(log.answer(&["key", "revoke", "--note", text(&signed)]).0, 1, "it counts once");
}

#[test]
fn a_prepared_revocation_can_be_given_up() {
    let log = log();
    let request = log.dir.path().join("revoke.txt");
    log.ok(&["key", "revoke", "--prepare", text(&request)]);
    assert_eq!(log.ok(&["key", "revoke", "--abandon"])["abandoned"], true);
    grow(&log, "second");
    assert_eq!(log.ok(&["key", "revoke", "--abandon"])["abandoned"], false);
    assert_eq!(log.ok(&["key", "rotate"])["step"], "rotated");
    assert_eq!(log.answer(&["key", "revoke"]).0, 2);
    // A call that cannot come to its end pauses nothing.
    for args in [
        &["--recovery-key", text(&log.path("keys/log.key"))][..],
        &["--recovery-key", "/nonexistent"],
        &["--prepare", text(&request)],
        &["--note", "/nonexistent"],
    ] {
        let (exit, answer) = log.answer(&[&["key", "revoke"], args].concat());
        assert_eq!(exit, 2, "{args:?}: {answer}");
    }
    assert_eq!(log.ok(&["key", "revoke", "--abandon"])["abandoned"], false);
}
