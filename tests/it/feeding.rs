//! Files that are fed to a running sidecar: beside its other work, and without a say in whether it goes on.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::binary::{Answer, Log, answer};
use crate::faults::{events, file};

/// `ingest` of a file, under way.
fn begin(log: &Log, path: &str) -> Child {
    log.command(&["ingest", path]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(ingest: Child) -> Answer {
    answer(&["ingest"], &ingest.wait_with_output().unwrap())
}

/// Records of a large file: several steps of the loop.
const COUNT: usize = 40_000;

fn events_of(status: &Value) -> u64 {
    status["entries"]["event"].as_u64().unwrap_or(0)
}

#[test]
fn a_running_sidecar_answers_while_it_is_fed() {
    let log = Log::new("example.com/test/feeding");
    let path = events(&log, "large.ndjson", COUNT);
    let mut running = log.start();
    let ingest = begin(&log, &path);
    // The order of events shows it: some answer is given after the first record and before the last.
    let status = log.wait(&mut running, "the first records", |status| events_of(status) > 0);
    assert!(events_of(&status) < COUNT as u64, "asked when the file was begun, answered when it was done: {status}");
    let (exit, answer) = end(ingest);
    assert_eq!((exit, &answer["accepted"], &answer["duplicates"]), (0, &COUNT.into(), &0.into()), "{answer}");
    assert_eq!(events_of(&log.status()), COUNT as u64);
    assert!(running.terminate().success());
}

#[test]
fn a_file_that_nobody_waits_for_any_more_is_let_go_of_and_gone_on_with_later() {
    let log = Log::new("example.com/test/feeding");
    let path = events(&log, "large.ndjson", COUNT);
    let mut running = log.start();
    let mut ingest = begin(&log, &path);
    log.wait(&mut running, "the first records", |status| events_of(status) > 0);
    ingest.kill().unwrap();
    ingest.wait().unwrap();
    // Another file has its turn when the first has none: it must not wait for all of it.
    assert_eq!(log.ok(&["ingest", &events(&log, "few.ndjson", 10)])["accepted"], 10);
    let kept = events_of(&log.status()) - 10;
    assert!(kept < COUNT as u64, "{kept}");
    let rest = log.ok(&["ingest", &path]);
    assert_eq!((&rest["accepted"], &rest["duplicates"]), (&(COUNT as u64 - kept).into(), &kept.into()), "{rest}");
    assert!(running.terminate().success());
}

#[test]
fn one_file_fed_twice_at_once_is_folded_once_and_a_bad_one_ends_only_its_own_command() {
    let log = Log::new("example.com/test/feeding");
    let path = events(&log, "same.ndjson", 3_000);
    let bad = file(&log, "bad.json", b"[{}, {}, 3");
    let mut running = log.start();
    let fed = [begin(&log, &path), begin(&log, &bad), begin(&log, &path)].map(end);
    let [(first, a), (refused, bad), (second, b)] = &fed;
    assert_eq!((first, refused, second), (&0, &3, &0), "{fed:?}");
    let sum = |name: &str| a[name].as_u64().unwrap() + b[name].as_u64().unwrap();
    assert_eq!((sum("accepted"), sum("duplicates")), (3_000, 3_000), "{fed:?}");
    assert!(bad["error"]["message"].as_str().unwrap().contains("record 3"), "{bad}");
    let status = log.status();
    assert_eq!((&status["state"], &status["entries"]["event"]), (&"running".into(), &3_000.into()), "{status}");
    assert!(running.terminate().success());
}
