//! `export` with the real binary: a bundle of a running log, opened parts, times, and a checker that has nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pinfold::core::proof::tar;
use serde_json::{Value, json};

use crate::binary::Log;

const CHECK_PY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/core/proof/bundle/check.py");

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A log of two segments under two keys; entries 3 to 12 are the events of the first file.
fn log() -> Log {
    let log = Log::new("example.com/test/export");
    log.pin_to_folder();
    for name in ["first", "second"] {
        log.ingest_events(name, 10);
        log.ok(&["run", "--until-idle"]);
        if name == "first" {
            log.ok(&["key", "rotate"]);
        }
    }
    log
}

fn export(log: &Log, name: &str, args: &[&str]) -> (PathBuf, Value) {
    let path = log.dir.path().join(name);
    let answer = log.ok(&[&["export", "-o", text(&path)], args].concat());
    (path, answer)
}

/// The file with nothing but it, a vkey, Python and openssl; without the network where the system lets a test do that.
fn check_py(bundle: &Path, vkey: &Path) -> (i32, String) {
    let can_unshare = Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success());
    let mut command = Command::new(if can_unshare { "unshare" } else { "python3" });
    if can_unshare {
        command.args(["-rn", "python3"]);
    } else {
        eprintln!("SKIPPED network cut off: unshare -rn is not permitted");
    }
    let dir = tempfile::tempdir().unwrap();
    command.arg(CHECK_PY).arg(bundle).arg("--vkey").arg(vkey).current_dir(dir.path());
    let output = command.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_bundle_of_a_running_log_is_checked_by_a_stranger_and_lacks_nothing_unseen() {
    let log = log();
    let mut running = log.start();
    let (path, answer) = export(&log, "a.evidence.tar", &["--range", "5..20"]);
    assert_eq!((&answer["entries"], &answer["disclosed"]), (&json!(15), &json!(0)), "{answer}");
    let (again, _) = export(&log, "b.evidence.tar", &["--range", "5..20"]);
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap(), "the same bytes");
    assert!(running.terminate().success(), "{}", running.said());
    let all = fs::read_to_string(log.path("keys/log.vkey")).unwrap();
    for vkey in all.lines() {
        let file = log.dir.path().join("one.vkey");
        fs::write(&file, format!("{vkey}\n")).unwrap();
        let (exit, report) = log.answer(&["check", text(&path), "--vkey", text(&file)]);
        assert_eq!((exit, report["proven"].as_array().unwrap().len() >= 15), (10, true), "{report}");
        let (exit, said) = check_py(&path, &file);
        assert_eq!(exit, 10, "{said}");
    }
    // A checkpoint kept apart anchors it.
    let files = tar::read(&fs::read(&path).unwrap()).unwrap();
    let head = log.dir.path().join("kept");
    fs::write(&head, &files.iter().find(|file| file.name == "checkpoint").unwrap().bytes).unwrap();
    let vkey = log.path("keys/log.vkey");
    let args = ["check", text(&path), "--vkey", text(&vkey), "--known-head", text(&head)];
    assert_eq!(log.answer(&args).0, 0);
    // Without openssl it cannot check, and says so.
    let mut bare = Command::new("/usr/bin/python3");
    bare.arg(CHECK_PY).arg(&path).arg("--vkey").arg(&vkey).env_clear().env("PATH", "/nowhere");
    assert_eq!(bare.output().unwrap().status.code(), Some(50));
    // One record less.
    let less: Vec<_> = files.iter().filter(|file| file.name != "7.tlog-proof").cloned().collect();
    fs::write(&again, tar::write(&less).unwrap()).unwrap();
    assert_eq!(log.answer(&["check", text(&again), "--vkey", text(&vkey)]).0, 20);
    assert_eq!(check_py(&again, &vkey).0, 20);
    // It prints, and loads nothing.
    let report = files.iter().find(|file| file.name == "report.html").unwrap();
    let report = String::from_utf8(report.bytes.clone()).unwrap();
    assert!(!report.contains("<script") && !report.contains("src=") && !report.contains("http"), "{report}");
    assert!(report.contains("first.ndjson") && report.contains("@media print"));
    assert!(!report.contains("p3@example.org"), "nothing was disclosed");
    let completeness = files.iter().find(|file| file.name == "completeness.json").unwrap();
    let rows: Value = serde_json::from_slice(&completeness.bytes).unwrap();
    assert_eq!((&rows[0]["next"], rows[0]["declared"].as_array().unwrap().len()), (&json!(10), 0), "{rows}");
}

#[test]
fn what_is_disclosed_is_opened_and_leaves_an_entry_and_the_rest_stays_closed() {
    let log = log();
    let reason = log.dir.path().join("reason");
    fs::write(&reason, "asked for by the authority").unwrap();
    let before = log.status()["size"].as_u64().unwrap();
    let args = ["--range", "3..8", "--disclose", "1", "--reason-file", text(&reason)];
    let (path, answer) = export(&log, "open.evidence.tar", &args);
    let disclosed = answer["disclosed"].as_u64().unwrap();
    assert!(disclosed >= 4, "{answer}");
    let after = log.status();
    assert_eq!(after["entries"]["access"], disclosed, "an entry each: {after}");
    assert!(after["size"].as_u64().unwrap() >= before + disclosed);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "it holds content");
    let vkey = log.path("keys/log.vkey");
    let (exit, report) = log.answer(&["check", text(&path), "--vkey", text(&vkey)]);
    assert_eq!((exit, check_py(&path, &vkey).0), (10, 10), "{report}");
    let files = tar::read(&fs::read(&path).unwrap()).unwrap();
    let read = |name: &str| {
        let file = files.iter().find(|file| file.name == name).unwrap();
        String::from_utf8(file.bytes.clone()).unwrap()
    };
    assert!(read("report.html").contains("p1@example.org") && !read("report.html").contains("p9@example.org"));
    let closed = read("undisclosed.txt");
    assert!(closed.lines().all(|line| line.ends_with(" 0 not-asked") || line.contains(" 0 ")), "{closed}");
    assert_eq!(
        log.answer(&["export", "--range", "3..8", "--disclose", "1", "-o", text(&path)]).0,
        2,
        "without a reason"
    );
}

#[test]
fn a_time_finds_its_entries_and_what_is_not_released_is_not_exported() {
    let log = log();
    let to = log.dir.path().join("t.evidence.tar");
    let (_, all) = export(&log, "t.evidence.tar", &["--from", "2020-01-01T00:00:00Z", "--to", "2999-01-01T00:00:00Z"]);
    assert_eq!((&all["first"], &all["next"]), (&json!(0), &all["size"]), "{all}");
    let vkey = log.path("keys/log.vkey");
    assert_eq!((log.answer(&["check", text(&to), "--vkey", text(&vkey)]).0, check_py(&to, &vkey).0), (10, 10));
    // Between the two files: behind what the first segment states, until the second is sealed.
    let db = rusqlite::Connection::open(log.path("data/registry.sqlite")).unwrap();
    let at: String =
        db.query_row("SELECT recorded_at FROM entries WHERE event_id = 'second-0'", [], |row| row.get(0)).unwrap();
    let (_, part) = export(&log, "u.evidence.tar", &["--from", &at, "--to", "2999-01-01T00:00:00Z"]);
    let (first, next) = (part["first"].as_u64().unwrap(), part["next"].as_u64().unwrap());
    let seq: u64 = db.query_row("SELECT seq FROM entries WHERE event_id = 'second-0'", [], |row| row.get(0)).unwrap();
    assert!((13..=seq).contains(&first) && next > seq + 9, "{part}, {seq}");
    let path = text(&to);
    for (args, exit) in [
        (&["--range", "5..5000"][..], 1),
        (&["--range", "5..5"], 1),
        (&["--range", "5"], 2),
        (&["--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z"], 0),
        (&["--from", "yesterday", "--to", "2020-01-02T00:00:00Z"], 2),
        (&["--from", "2020-01-01T00:00:00Z"], 2),
        (&[], 2),
    ] {
        let (found, answer) = log.answer(&[&["export", "-o", path], args].concat());
        assert_eq!(found, exit, "{args:?}: {answer}");
    }
}
