//! Archive files the journal knows nothing of: left by a crash, or proof of a rollback.

use std::path::Path;
use std::process::Command;

use crate::line::Log;

/// Copies what is the log's own state, without the archive.
fn keep(log: &Log, name: &str) {
    let copy = log.path(name);
    std::fs::create_dir_all(&copy).unwrap();
    for part in ["data/journal", "heads", "keyring"] {
        copy_to(&log.path(part), &copy.join(part.replace('/', "-")));
    }
}

fn put_back(log: &Log, name: &str) {
    for part in ["data/journal", "heads", "keyring"] {
        std::fs::remove_dir_all(log.path(part)).unwrap();
        copy_to(&log.path(name).join(part.replace('/', "-")), &log.path(part));
    }
}

fn copy_to(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn archive(log: &Log) -> Vec<String> {
    let names = std::fs::read_dir(log.path("data/archive")).unwrap();
    let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_cut_sealing_left_is_made_anew() {
    let log = Log::new();
    log.ok(&["ingest", &log.events("one.ndjson", 30)]);
    log.ok(&["seal"]);
    log.ok(&["ingest", &log.events("two.ndjson", 20)]);
    keep(&log, "before");
    log.ok(&["seal"]);
    assert_eq!(archive(&log).len(), 4);
    // A crash just before commit point 2: the files are there, the journal's row is not.
    put_back(&log, "before");
    std::fs::write(log.path("data/archive/000001.proof.tmp"), b"half").unwrap();
    assert_eq!(log.ok(&["status"])["sealed"]["segments"], 1);
    assert_eq!(archive(&log), ["000000.payload.car", "000000.proof.car"]);
    log.ok(&["seal"]);
    assert_eq!(archive(&log).len(), 4);
    let (exit, report) = log.verify(&log.path("data/archive"));
    assert_eq!((exit, report["segments"].as_u64()), (10, Some(2)));
}

#[test]
fn an_archive_that_is_further_than_the_journal_halts_and_stays_as_it_is() {
    let log = Log::new();
    log.ok(&["ingest", &log.events("one.ndjson", 30)]);
    keep(&log, "before");
    log.ok(&["ingest", &log.events("two.ndjson", 20)]);
    log.ok(&["seal"]);
    // The whole state went back, heads and all; only the archive remembers.
    put_back(&log, "before");
    let kept = archive(&log);
    let (exit, answer) = log.answer(&["status"]);
    assert_eq!((exit, archive(&log)), (4, kept.clone()), "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("000000.proof.car") && message.contains("34 entries"), "{message}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("pinfold rebuild"), "{answer}");
    // The same where another segment follows it.
    copy_to(&log.path("data/archive/000000.proof.car"), &log.path("data/archive/000001.proof.car"));
    let (exit, answer) = log.answer(&["status"]);
    assert_eq!(exit, 4, "{answer}");
    assert_eq!(archive(&log).len(), kept.len() + 1);
}
