//! `prove`, `check` and `tiles export` with the real binary: what a stranger gets, and what he can tell from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinfold::core::proof::{Extra, Proof};
use prost::Message as _;
use serde_json::Value;

use crate::line::{Log, codes};
use crate::verify::{check, log_of_three};

/// `check` as a stranger calls it: in an empty directory, with a vkey and without a configuration.
fn stranger(args: &[&str]) -> (i32, Value) {
    let nowhere = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .args(args)
        .arg("--json")
        .current_dir(nowhere.path())
        .env_clear()
        .output()
        .unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), value)
}

fn checked(file: &Path, vkey: &Path, more: &[&str]) -> (i32, Value) {
    stranger(&[&["check", file.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()][..], more].concat())
}

fn out(log: &Log, name: &str) -> PathBuf {
    log.dir.path().join(name)
}

#[test]
fn a_proof_convinces_who_holds_the_vkey_and_nothing_else() {
    let log = log_of_three();
    let (file, vkey) = (out(&log, "5.tlog-proof"), log.path("keys/log.vkey"));
    let proven = log.ok(&["prove", "5", "-o", file.to_str().unwrap()]);
    assert_eq!((&proven["seq"], &proven["format"]), (&5.into(), &"tlog-proof".into()), "{proven}");

    let (exit, report) = checked(&file, &vkey, &[]);
    assert_eq!((exit, &report["verdict"], &report["exit"]), (10, &"valid".into(), &10.into()), "{report}");
    assert_eq!((&report["origin"], &report["size"]), (&"example.com/test/line".into(), &proven["size"]));
    assert_eq!((&report["root"], &report["findings_total"]), (&proven["root"], &0.into()));
    assert_eq!(report["proven"][0]["seq"], 5);
    assert_eq!(check(&report, "proof")["status"], "ok");
    assert_eq!(checked(&file, &vkey, &["--allow-unanchored"]).0, 0);
    // `verify F` says the same of it.
    let verified = stranger(&["verify", file.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()]);
    assert_eq!((verified.0, &verified.1["proven"]), (10, &report["proven"]));

    // The checkpoint the file has, kept elsewhere.
    let text = std::fs::read_to_string(&file).unwrap();
    let head = out(&log, "head");
    std::fs::write(&head, Proof::parse(&text).unwrap().checkpoint).unwrap();
    let (exit, report) = checked(&file, &vkey, &["--known-head", head.to_str().unwrap()]);
    assert_eq!((exit, &report["fresh"]["source"]), (0, &"known-head".into()), "{report}");

    // Without a vkey nothing can be said; with another log's the file is another log's.
    let (exit, report) = stranger(&["check", file.to_str().unwrap()]);
    assert_eq!((exit, codes(&report)), (50, vec!["unreachable"]), "{report}");
    let other = Log::new();
    let (exit, report) = checked(&file, &other.path("keys/log.vkey"), &[]);
    assert_eq!((exit, codes(&report)), (40, vec!["unknown-key"]), "{report}");

    // One hash of the proof changed.
    let lines: Vec<&str> = text.lines().collect();
    let hash = lines[3];
    let changed = if hash.starts_with('A') { hash.replacen('A', "B", 1) } else { format!("A{}", &hash[1..]) };
    std::fs::write(&file, text.replace(hash, &changed)).unwrap();
    let (exit, report) = checked(&file, &vkey, &[]);
    assert_eq!((exit, codes(&report)), (40, vec!["leaf-hash"]), "{report}");
    assert_eq!(check(&report, "proof")["status"], "failed");
    std::fs::write(&file, b"nothing").unwrap();
    assert_eq!(codes(&checked(&file, &vkey, &[]).1), ["non-canonical"]);
}

#[test]
fn an_entry_that_is_not_released_is_not_proven_and_no_file_appears() {
    let log = log_of_three();
    let size = log.ok(&["status"])["size"].as_u64().unwrap();
    let file = out(&log, "none");
    for seq in [size - 1, size, u64::MAX >> 12] {
        let (exit, value) = log.answer(&["prove", &seq.to_string(), "-o", file.to_str().unwrap()]);
        assert_eq!((exit, &value["error"]["code"]), (1, &"not-released".into()), "{value}");
    }
    assert!(!file.exists());
    let empty = Log::new();
    let (exit, value) = empty.answer(&["prove", "0"]);
    assert_eq!((exit, &value["error"]["code"]), (1, &"not-released".into()), "{value}");
    let made = empty.ok(&["tiles", "export", out(&empty, "tiles").to_str().unwrap()]);
    assert_eq!((&made["size"], out(&empty, "tiles").exists()), (&0.into(), false));
}

#[test]
fn one_checkpoint_is_shown_to_continue_another() {
    let log = log_of_three();
    let segments = String::from_utf8(log.run(&["query", "segments"]).stdout).unwrap();
    let mut sizes: Vec<u64> = segments
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| row["first_seq"].as_u64().unwrap() + row["entry_count"].as_u64().unwrap())
        .collect();
    // A table has no order.
    sizes.sort_unstable();
    let (file, vkey) = (out(&log, "consistency"), log.path("keys/log.vkey"));
    let range = format!("{}..{}", sizes[0], sizes[2]);
    let proven = log.ok(&["prove", "--consistency", &range, "-o", file.to_str().unwrap()]);
    assert_eq!((&proven["old"], &proven["size"]), (&sizes[0].into(), &sizes[2].into()));
    assert_eq!(proven["signers"].as_array().unwrap().len(), 1);
    let (exit, report) = checked(&file, &vkey, &[]);
    assert_eq!((exit, &report["size"]), (10, &sizes[2].into()), "{report}");
    for (range, exit) in [("1..2", 1), ("5", 2), ("9..3", 2), ("0..3", 2), ("a..b", 2)] {
        let (found, value) = log.answer(&["prove", "--consistency", range]);
        assert_eq!(found, exit, "{range}: {value}");
    }
}

#[test]
fn a_disclosure_opens_one_part_and_leaves_an_entry_that_says_so() {
    let log = log_of_three();
    let (file, vkey, reason) = (out(&log, "d"), log.path("keys/log.vkey"), out(&log, "reason"));
    std::fs::write(&reason, "asked for by the court\n").unwrap();
    let event = (0..40u64).find(|seq| log.ok(&["show", &seq.to_string()])["kind"] == "event").unwrap();
    let before = log.ok(&["status"])["entries"]["access"].as_u64().unwrap_or(0);
    let seq = event.to_string();
    let disclose = |part: &str| {
        let args = ["prove", &seq, "-o", file.to_str().unwrap(), "--disclose", part];
        log.answer(&[&args[..], &["--reason-file", reason.to_str().unwrap()]].concat())
    };
    let (exit, value) = disclose("1");
    assert_eq!((exit, &value["disclosed"]), (0, &1.into()), "{value}");
    assert_eq!(log.ok(&["status"])["entries"]["access"], before + 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "content is for its owner alone");

    let (exit, report) = checked(&file, &vkey, &[]);
    assert_eq!(exit, 10, "{report}");
    let body = STANDARD.decode(report["proven"][0]["disclosed"]["body"].as_str().unwrap()).unwrap();
    let part = pinfold::proto::v1::SubjectPart::decode(&*body).unwrap();
    assert_eq!(part.subject_seq, 1);
    assert!(!part.event.is_empty() || part.raw.is_some());

    // That part and nothing else: no other part's opening or frame is in the file.
    let proof = Proof::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let Extra::Disclosure(disclosure) = &proof.extra else { panic!("{proof:?}") };
    assert_eq!((disclosure.part, &disclosure.body), (1, &body));
    let (exit, value) = disclose("0");
    assert_eq!((exit, &value["disclosed"]), (0, &0.into()));
    let operator = Proof::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let Extra::Disclosure(other) = &operator.extra else { panic!("{operator:?}") };
    assert_ne!(other.r, disclosure.r, "knowing one part's r tells nothing of another's");

    // A part there is none of leaves no entry, and no reason no disclosure.
    let (exit, value) = disclose("7");
    assert_eq!((exit, &value["error"]["code"]), (1, &"no-part".into()), "{value}");
    assert_eq!(log.ok(&["status"])["entries"]["access"], before + 2);
    assert_eq!(log.answer(&["prove", &seq, "--disclose", "1"]).0, 2);
    std::fs::write(&reason, " \n").unwrap();
    assert_eq!(disclose("1").0, 2);
    // The reads are entries like any other: the audit holds.
    log.ok(&["seal"]);
    assert_eq!(log.answer(&["verify"]).0, 10);
}

#[test]
fn an_export_is_taken_up_where_it_ended_and_opens_with_the_vkey() {
    let log = log_of_three();
    let dir = out(&log, "tiles");
    let first = log.ok(&["tiles", "export", dir.to_str().unwrap()]);
    assert_eq!((&first["added"]["segments"], &first["segments"]), (&3.into(), &3.into()), "{first}");
    let note = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
    let vkey = std::fs::read_to_string(log.path("keys/log.vkey")).unwrap().trim().parse().unwrap();
    let head = pinfold::core::checkpoint::open_cosigned(&note, &vkey).unwrap();
    assert_eq!(Value::from(head.size.0), first["size"]);
    let again = log.ok(&["tiles", "export", dir.to_str().unwrap()]);
    assert_eq!((&again["added"]["entries"], &again["size"]), (&0.into(), &first["size"]));
    let file = log.events("more.ndjson", 40);
    log.ok(&["ingest", &file, "--as", "more"]);
    log.ok(&["run", "--until-idle"]);
    let grown = log.ok(&["tiles", "export", dir.to_str().unwrap()]);
    assert_eq!(grown["added"]["segments"], 1, "{grown}");

    // Another log's directory is left alone.
    let other = Log::new();
    other.ok(&["ingest", &other.events("events.ndjson", 30)]);
    other.ok(&["run", "--until-idle"]);
    let (exit, value) = other.answer(&["tiles", "export", dir.to_str().unwrap()]);
    assert_eq!((exit, &value["error"]["code"]), (4, &"tiles".into()), "{value}");
}
