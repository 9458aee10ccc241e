//! Where an archive may be: moved, copied, in part, one file at a time, and under a sidecar that goes on.

use std::process::{Command, Stdio};

use pinfold::core::audit::File;
use serde_json::Value;

use super::{Running, check, errors, log_of_three};
use crate::binary::copy_tree;
use crate::line::{Log, codes};
use crate::memory::name;

fn vkey(log: &Log) -> String {
    log.path("keys/log.vkey").to_str().unwrap().to_owned()
}

/// The files of these segments, one by one.
fn files(log: &Log, segments: impl IntoIterator<Item = u64>) -> Vec<String> {
    let names = |segment| [File::Proof, File::Payload].map(|file| name(segment, file));
    let paths = segments.into_iter().flat_map(names).map(|name| log.path("data/archive").join(name));
    paths.map(|path| path.to_str().unwrap().to_owned()).collect()
}

fn verify(log: &Log, what: &[String], more: &[&str]) -> (i32, Value) {
    let (what, vkey): (Vec<&str>, _) = (what.iter().map(String::as_str).collect(), vkey(log));
    log.answer(&[&["verify", "--vkey", &vkey], &what[..], more].concat())
}

#[test]
fn an_archive_is_the_same_wherever_it_lies() {
    let log = log_of_three();
    let (_, expected) = log.verify(&log.path("data/archive"));
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("a copy");
    copy_tree(&log.path(""), &copy);
    // A moved log, its archive folder, a link to it, and its files one by one.
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(copy.join("data/archive"), &link).unwrap();
    let places = [copy.clone(), copy.join("data/archive"), link].map(|path| vec![path.to_str().unwrap().to_owned()]);
    for place in places.into_iter().chain([files(&log, 0..3)]) {
        let (exit, report) = verify(&log, &place, &[]);
        assert_eq!((exit, codes(&report)), (10, vec![]), "{place:?}: {report}");
        for what in ["origin", "size", "root", "segments", "checks", "unproven"] {
            assert_eq!(report[what], expected[what], "{place:?}: {what}");
        }
    }
}

#[test]
fn a_part_of_an_archive_is_proven_as_far_as_it_goes_and_the_rest_is_named() {
    let log = log_of_three();
    let (_, whole) = log.verify(&log.path("data/archive"));
    let (exit, report) = verify(&log, &files(&log, [1, 2]), &[]);
    assert_eq!((exit, codes(&report)), (20, vec!["segment-missing"]), "{report}");
    assert_eq!((&report["size"], &report["root"]), (&whole["size"], &whole["root"]), "its own peaks lead to the root");
    let [missing] = &report["unproven"].as_array().unwrap()[..] else { panic!("{report}") };
    let missing = missing.as_str().unwrap();
    assert!(missing.starts_with("segment 0, entries 0 to ") && missing.contains("nothing is shown"), "{missing}");
    assert_eq!(check(&report, "joins")["status"], "failed");
    for sound in ["blocks", "chain", "payload"] {
        assert_eq!(check(&report, sound)["status"], "ok", "{sound}: {report}");
    }
    // One alone, and one proof alone; a change in them is found as ever.
    assert_eq!(verify(&log, &files(&log, [1]), &[]).0, 20);
    let proof = files(&log, [1])[..1].to_vec();
    assert_eq!(verify(&log, &proof, &[]).0, 20);
    let mut bytes = std::fs::read(&proof[0]).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    std::fs::write(&proof[0], bytes).unwrap();
    assert_eq!(verify(&log, &proof, &[]).0, 40);
}

#[test]
fn a_part_signed_by_a_key_that_nobody_vouches_for_says_so() {
    let log = log_of_three();
    let stranger = Log::new();
    let (exit, report) = log.answer(
        &[
            &["verify", "--vkey", &vkey(&stranger)],
            &files(&log, [1, 2]).iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat(),
    );
    assert_eq!((exit, codes(&report)), (20, vec!["segment-missing"]), "{report}");
    let unproven = report["unproven"].as_array().unwrap();
    let is_it = |line: &Value| line.as_str().unwrap().starts_with("checkpoints of segments 1 to 2: signed by a key");
    assert!(unproven.iter().any(is_it), "{report}");
    // With the first segment the key is the log's own, and the verifier's is not.
    assert_eq!(codes(&log.answer(&["verify", "--vkey", &vkey(&stranger)]).1), ["unknown-key"]);
}

#[test]
fn files_that_are_none_of_an_archive_or_one_twice_are_a_wrong_call() {
    let log = log_of_three();
    let copy = log.dir.path().join("copy");
    copy_tree(&log.path("data/archive"), &copy);
    let twice = [files(&log, [0]), vec![copy.join("000000.proof.car").to_str().unwrap().to_owned()]].concat();
    let pipe = log.dir.path().join("000000.proof.car");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (what, words) in [
        (twice, "both are 000000.proof.car"),
        (vec![pipe.to_str().unwrap().to_owned()], "not a regular file"),
        (vec![log.path("pinfold.toml").to_str().unwrap().to_owned()], "no file with the name of an archive"),
        (vec!["nowhere/000000.proof.car".to_owned()], "nowhere"),
    ] {
        let (exit, answer) = verify(&log, &what, &[]);
        assert_eq!(exit, 2, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
}

#[test]
fn a_log_that_goes_on_is_audited_as_it_was_when_the_audit_began() {
    let log = Log::new();
    let config = std::fs::read_to_string(log.path("pinfold.toml")).unwrap();
    std::fs::write(log.path("pinfold.toml"), config.replace("entries_max = 65536", "entries_max = 100")).unwrap();
    let big = log.events("big.ndjson", 40_000);
    let run = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .args(["run", "--config"])
        .arg(log.path("pinfold.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _running = Running::up(run.unwrap(), &log);
    let mut feeding = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .args(["ingest", &big, "--json", "--config"])
        .arg(log.path("pinfold.toml"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut sizes, mut last) = (std::collections::BTreeSet::new(), 0);
    while sizes.len() < 5 && feeding.try_wait().unwrap().is_none() {
        for args in [&["verify"][..], &["verify", log.path("vault").to_str().unwrap(), "--vkey", &vkey(&log)]] {
            let (exit, report) = log.answer(args);
            let segments = report["segments"].as_u64().unwrap();
            // Before the first seal there is nothing to check, which is said.
            let expected = if segments == 0 { (50, false) } else { (10, true) };
            assert_eq!((exit, errors(&report).is_empty()), expected, "{report}");
            if args.len() == 1 {
                assert!(segments >= last, "{segments} after {last}");
                sizes.insert(segments);
                last = segments;
            }
        }
    }
    let _ = feeding.kill();
    feeding.wait().unwrap();
    assert!(sizes.len() > 2, "it grew while it was verified: {sizes:?}");
}

/// Runs a command on a terminal of its own, and gives what it drew there.
fn on_a_terminal(log: &Log, args: &[&str]) -> String {
    let call = [&[env!("CARGO_BIN_EXE_pinfold")], args].concat().join(" ");
    let call = format!("{call} --config {}", log.path("pinfold.toml").display());
    let output = Command::new("script").args(["-qec", &call, "/dev/null"]).env("TERM", "xterm").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn progress_is_for_a_terminal_alone() {
    let log = log_of_three();
    let drawn = on_a_terminal(&log, &["verify"]);
    assert!(drawn.contains("/3 segments") && drawn.contains("left"), "{drawn:?}");
    for quiet in [&["verify", "--json"][..], &["verify", "-q"]] {
        assert!(!on_a_terminal(&log, quiet).contains("/3 segments"), "{quiet:?}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .args(["verify", "--config"])
        .arg(log.path("pinfold.toml"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "off a terminal");
}
