//! `verify` with the real binary: what each store beside the archive can show, and that nothing untouched is accused.

mod hostile;
mod page;
mod places;
mod registry;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::binary::copy_tree;
use crate::line::{Log, codes};

/// A log of three segments; pins and registrations of the first two are stated by the entries of the third.
pub(crate) fn log_of_three() -> Log {
    let log = Log::new();
    for n in 0..3 {
        // The later files repeat events of the first.
        let file = log.events(&format!("events{n}.ndjson"), 30);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + "not json\n").unwrap();
        log.ok(&["ingest", &file]);
        log.ok(&["run", "--until-idle"]);
    }
    log
}

pub(crate) fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

/// Findings that say something is wrong.
pub(crate) fn errors(report: &Value) -> Vec<&Value> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().filter(|finding| finding["severity"] != "info").collect()
}

fn flip(path: PathBuf, from_end: usize) {
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The newest checkpoint, as someone outside might have kept it.
fn checkpoint(log: &Log, segment: u64) -> PathBuf {
    let output = log.run(&["query", "segments", "--param", &format!("segment_no={segment}")]);
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = log.dir.path().join(format!("checkpoint{segment}"));
    std::fs::write(&path, row["checkpoint"].as_str().unwrap()).unwrap();
    path
}

#[test]
fn an_untouched_log_has_no_finding_and_a_known_head_confirms_it() {
    let log = log_of_three();
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, codes(&report), &report["segments"]), (10, vec!["unsealed-tail"], &3.into()), "{report}");
    assert_eq!((&report["fresh"], &report["first_bad_seq"]), (&Value::Null, &Value::Null));
    for name in ["journal", "registry local", "payload"] {
        assert_eq!(check(&report, name)["status"], "ok", "{report}");
    }
    assert_eq!(log.answer(&["verify", "--allow-unanchored"]).0, 0);

    let head = checkpoint(&log, 2);
    let (exit, report) = log.answer(&["verify", "--known-head", head.to_str().unwrap()]);
    assert_eq!(
        (exit, &report["fresh"]["source"], &report["fresh"]["size"]),
        (0, &"known-head".into(), &report["size"])
    );

    // An older head is of this tree and confirms nothing.
    let old = checkpoint(&log, 1);
    let (exit, report) = log.answer(&["verify", "--known-head", old.to_str().unwrap()]);
    assert_eq!((exit, &report["fresh"]), (10, &Value::Null), "{report}");

    // An archive without its end is whole in itself; only who knows the head can tell.
    let cut = log.dir.path().join("cut");
    copy_tree(&log.path("data/archive"), &cut);
    for file in ["000002.proof.car", "000002.payload.car"] {
        std::fs::remove_file(cut.join(file)).unwrap();
    }
    assert_eq!(log.verify(&cut).0, 10);
    let (cut, vkey) = (cut.to_str().unwrap().to_owned(), log.path("keys/log.vkey"));
    let args = ["verify", &cut, "--vkey", vkey.to_str().unwrap()];
    let (exit, report) = log.answer(&[&args[..], &["--known-head", head.to_str().unwrap()]].concat());
    assert_eq!((exit, codes(&report)), (30, vec!["rolled-back"]), "{report}");
    let (exit, report) = log.answer(&[&args[..], &["--registry", "local"]].concat());
    assert_eq!((exit, codes(&report)), (30, vec!["tail-missing"]), "{report}");
    assert_eq!(check(&report, "registry local")["status"], "failed");
}

#[test]
fn a_rolled_back_journal_is_named_by_its_head_file() {
    let log = log_of_three();
    let saved = log.dir.path().join("saved");
    copy_tree(&log.path("data"), &saved);
    log.ok(&["ingest", &log.events("more.ndjson", 20)]);
    log.ok(&["run", "--until-idle"]);
    std::fs::remove_dir_all(log.path("data")).unwrap();
    copy_tree(&saved, &log.path("data"));
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, codes(&report), &report["verdict"]), (30, vec!["rolled-back"], &"diverged".into()), "{report}");
    assert_eq!(
        (&report["findings"][0]["place"], &check(&report, "journal")["status"]),
        (&"journal".into(), &"failed".into())
    );
    for command in ["status", "run"] {
        assert_eq!(log.answer(&[command]).0, 4, "{command}");
    }
    // A journal that is gone leaves the head file to speak.
    std::fs::remove_dir_all(log.path("data/journal")).unwrap();
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, codes(&report)), (30, vec!["tail-missing"]), "{report}");
}

#[test]
fn a_head_file_that_is_none_is_a_finding() {
    let log = log_of_three();
    std::fs::write(log.path("heads/head"), "nothing signed\n").unwrap();
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, codes(&report)), (40, vec!["non-canonical"]), "{report}");
    assert_eq!(
        (&report["findings"][0]["place"], &check(&report, "journal")["status"]),
        (&"head file".into(), &"failed".into())
    );
}

#[test]
fn tampered_and_unreachable_is_tampered() {
    let log = log_of_three();
    std::fs::write(log.path("data/registry.sqlite"), "not a database, and long enough to be looked at").unwrap();
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, &report["verdict"]), (50, &"cannot check".into()), "{report}");
    let [unreachable] = errors(&report)[..] else { panic!("{report}") };
    assert_eq!((&unreachable["code"], &unreachable["place"]), (&"unreachable".into(), &"registry local".into()));
    std::fs::remove_file(log.path("data/archive/000001.payload.car")).unwrap();
    assert_eq!(log.answer(&["verify"]).0, 20, "incomplete comes before what could not be checked");
    flip(log.path("data/archive/000002.proof.car"), 40);
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, &report["verdict"]), (40, &"tampered".into()), "{report}");
    for code in ["unreachable", "block-missing", "block-hash"] {
        assert!(codes(&report).contains(&code), "{code}: {report}");
    }
}

#[test]
fn a_sample_reads_some_payloads_and_says_that_it_shows_nothing_about_the_others() {
    let log = log_of_three();
    flip(log.path("data/archive/000001.payload.car"), 40);
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, &report["findings"][0]["segment"]), (40, &1.into()), "{report}");
    let sampled = |seed: u64| log.answer(&["verify", "--sample", "1", "--seed", &seed.to_string()]);
    let answers: Vec<_> = (0..8).map(sampled).collect();
    assert!(answers.iter().any(|(exit, _)| *exit == 40), "some seed chooses the damaged payload");
    let (exit, report) = answers.iter().find(|(exit, _)| *exit == 10).unwrap();
    assert_eq!((*exit, codes(report)), (10, vec!["unsealed-tail"]));
    let payload = check(report, "payload");
    assert_eq!(payload["status"], "skipped");
    assert!(payload["detail"].as_str().unwrap().starts_with("the payloads of 1 of 3 segments were read (--seed "));
    // What was not read opens no column.
    assert_eq!(check(report, "registry local, sealed columns")["status"], "skipped", "{report}");
    assert_eq!(sampled(3).1["findings"], sampled(3).1["findings"]);
}

#[test]
fn a_node_that_does_not_answer_cannot_be_checked() {
    let log = Log::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let cid = "bafyreie2r7jhmx3qj46edlv2gecemaor6hv6suadw3qkvclhff3odmsdlq";
    let vkey = log.path("keys/log.vkey");
    let args = ["verify", "--from-ipfs", &url, "--cid", cid, "--vkey", vkey.to_str().unwrap(), "--timeout", "5s"];
    let (exit, report) = log.answer(&args);
    assert_eq!((exit, &report["verdict"]), (50, &"cannot check".into()), "{report}");
    assert!(codes(&report).iter().all(|code| *code == "unreachable"), "{report}");
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["place"].as_str().unwrap().contains(cid)));
}

/// A running sidecar; ended by its own signal at the end.
pub(crate) struct Running(Child);

impl Running {
    /// Waits until it answers.
    pub(crate) fn up(child: Child, log: &Log) -> Running {
        let running = Running(child);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(log.path("data/control.sock")).is_err() {
            assert!(std::time::Instant::now() < end, "run did not come up");
            std::thread::yield_now();
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn while_run_lives_the_journal_answers_over_its_socket_and_columns_stay_closed() {
    let log = log_of_three();
    let child = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .args(["run", "--config"])
        .arg(log.path("pinfold.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running::up(child, &log);
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, errors(&report).len()), (10, 0), "{report}");
    assert_eq!(check(&report, "journal")["status"], "ok", "{report}");
    assert_eq!(check(&report, "registry local")["status"], "ok", "{report}");
    assert_eq!(check(&report, "registry local, sealed columns")["status"], "skipped", "{report}");
}
