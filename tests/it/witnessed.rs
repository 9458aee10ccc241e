//! Witnesses with the real binary: a log that shows them its checkpoints, and a verifier who asks them.

use std::path::{Path, PathBuf};

use pinfold::core::hash::Hash;
use pinfold::core::note::Vkey;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::binary::{Answer, Log, copy_tree};
use crate::stub_witness::{Mood, StubWitness};
use crate::witness::Witness;

const ORIGIN: &str = "example.com/witnessed";

/// A log of three segments, each signed by two witnesses, with a copy of its archive after the second.
struct Witnessed {
    log: Log,
    witnesses: Vec<StubWitness>,
    yesterday: PathBuf,
}

impl Witnessed {
    fn new(mode: &str) -> Witnessed {
        let log = Log::new(ORIGIN);
        log.pin_to_folder();
        let vkey: Vkey = std::fs::read_to_string(log.path("keys/log.vkey")).unwrap().trim().parse().unwrap();
        let witness = |n: u8| StubWitness::new(&format!("witness.example/{n}"), 20 + n, &vkey);
        let witnesses = vec![witness(1), witness(2)];
        let yesterday = log.dir.path().join("yesterday");
        let witnessed = Witnessed { log, witnesses, yesterday };
        let policy = witnessed.policy("both", true, "log.policy");
        witnessed.log.add(&format!("[witness]\npolicy_file = \"{}\"\nmode = \"{mode}\"\n", policy.display()));
        witnessed
    }

    fn of_three() -> Witnessed {
        let witnessed = Witnessed::new("fail-closed");
        for n in 0..3 {
            if n == 2 {
                copy_tree(&witnessed.log.path("data/archive"), &witnessed.yesterday);
            }
            witnessed.segment(n);
        }
        witnessed
    }

    fn segment(&self, n: usize) {
        ingest(&self.log, n);
    }

    /// A policy file in which the named quorum of the two must sign.
    fn policy(&self, quorum: &str, with_urls: bool, name: &str) -> PathBuf {
        let line = |(n, stub): (usize, &StubWitness)| match with_urls {
            true => stub.line(&format!("w{n}")),
            false => format!("witness w{n} {}\n", stub.vkey),
        };
        let lines: String = self.witnesses.iter().enumerate().map(line).collect();
        let quorum = match quorum {
            "both" => "group both all w0 w1\nquorum both\n",
            "any" => "group any any w0 w1\nquorum any\n",
            _ => "quorum none\n",
        };
        let path = self.log.dir.path().join(name);
        std::fs::write(&path, format!("# who must sign\n{lines}{quorum}")).unwrap();
        path
    }

    fn verify(&self, dir: &Path, policy: &Path) -> Answer {
        let vkey = self.log.path("keys/log.vkey");
        let (dir, policy, vkey) = (dir.to_str().unwrap(), policy.to_str().unwrap(), vkey.to_str().unwrap());
        self.log.answer(&["verify", dir, "--vkey", vkey, "--witness-policy", policy])
    }
}

/// A segment of some events, everywhere.
fn ingest(log: &Log, n: usize) {
    seal(log, n);
    log.ok(&["run", "--until-idle"]);
}

/// A segment of some events.
fn seal(log: &Log, n: usize) {
    let event = |i: usize| {
        json!({ "specversion": "1.0", "id": format!("e{n}-{i}"), "source": "urn:test", "type": "com.example.x",
                "time": "2026-01-01T00:00:00Z", "data": {} })
        .to_string()
    };
    let path = log.dir.path().join(format!("events-{n}.ndjson"));
    std::fs::write(&path, (0..20 + n).map(event).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    log.ok(&["ingest", path.to_str().unwrap()]);
    log.ok(&["seal"]);
}

fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn a_live_quorum_confirms_and_anchors_alone_do_not() {
    let witnessed = Witnessed::of_three();
    let status = witnessed.log.status();
    assert_eq!(status["witnessed"], json!({ "segments": 3, "mode": "fail-closed" }));
    assert_eq!(status["registered"]["local"], 3);
    // The configured log: its own policy, its own witnesses.
    let (exit, report) = witnessed.log.answer(&["verify"]);
    assert_eq!((exit, codes(&report)), (0, vec!["unsealed-tail"]), "{report}");
    assert_eq!(report["fresh"], json!({ "source": "witness", "size": report["size"] }));
    // An auditor with a copy: without addresses the cosignatures are verified, and time is all they prove.
    let vault = witnessed.log.path("vault");
    let (exit, report) = witnessed.verify(&vault, &witnessed.policy("both", false, "offline.policy"));
    assert_eq!((exit, codes(&report), &report["fresh"]), (10, vec![], &Value::Null), "{report}");
    let anchors = report["anchors"].as_array().unwrap();
    assert_eq!(anchors.len(), 6, "{report}");
    assert!(anchors.iter().all(|anchor| anchor["kind"] == "witness" && anchor["time"].is_string()));
    let live = witnessed.policy("both", true, "live.policy");
    let (exit, report) = witnessed.verify(&vault, &live);
    assert_eq!((exit, &report["fresh"]["source"]), (0, &json!("witness")), "{report}");
    // `quorum none` asks for nothing, and nothing confirms.
    assert_eq!(witnessed.verify(&vault, &witnessed.policy("none", true, "none.policy")).0, 10);
    // Asking moved nobody.
    assert_eq!(json!(witnessed.witnesses[0].size()), report["size"]);
}

#[test]
fn a_witness_that_saw_more_or_another_tree_convicts() {
    let witnessed = Witnessed::of_three();
    let live = witnessed.policy("any", true, "live.policy");
    let (exit, report) = witnessed.verify(&witnessed.yesterday, &live);
    assert_eq!((exit, codes(&report)), (30, vec!["rolled-back", "rolled-back"]), "{report}");
    assert_eq!(report["findings"][0]["expected"], format!("size {}", witnessed.witnesses[0].size()));
    // The log itself, rolled back with everything beside it, halts before it signs a second history.
    let size = witnessed.witnesses[1].size();
    witnessed.witnesses[1].hold(size, Hash::of(b"another tree"));
    let (exit, report) = witnessed.verify(&witnessed.log.path("vault"), &live);
    assert_eq!((exit, codes(&report)), (30, vec!["forked"]), "one confirms, one convicts: {report}");
}

#[test]
fn who_does_not_answer_is_missed_only_for_the_quorum() {
    let witnessed = Witnessed::of_three();
    let vault = witnessed.log.path("vault");
    witnessed.witnesses[1].is(Mood::Down);
    let (exit, report) = witnessed.verify(&vault, &witnessed.policy("any", true, "any.policy"));
    assert_eq!((exit, codes(&report)), (0, vec![]), "{report}");
    let both = witnessed.policy("both", true, "both.policy");
    let (exit, report) = witnessed.verify(&vault, &both);
    assert_eq!((exit, codes(&report)), (50, vec!["unreachable"]), "{report}");
    // One that is behind, or does not know the log, says nothing either way.
    witnessed.witnesses[1].is(Mood::Sound);
    witnessed.witnesses[1].hold(1, Hash::of(b"old"));
    let (exit, report) = witnessed.verify(&vault, &both);
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
}

#[test]
fn a_missing_quorum_is_alarmed_while_the_log_goes_on() {
    let witnessed = Witnessed::new("fail-open");
    witnessed.witnesses[1].is(Mood::Down);
    seal(&witnessed.log, 0);
    let mut running = witnessed.log.start();
    let told = running.wait_ready(Some("witness witness.example/2"));
    assert!(told.contains("1 segments lack the quorum") && told.contains("503"), "{told}");
    assert!(!told.contains("witness.example/1"), "who answers is not named: {told}");
    let is_registered = |status: &Value| status["registered"]["local"] == 1;
    witnessed.log.wait(&mut running, "registration without the quorum", is_registered);
    let metric = |running: &mut crate::binary::Running, line: &str| {
        let (_, text) = running.get("/metrics");
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    };
    metric(&mut running, "pinfold_unwitnessed_segments 1");
    metric(&mut running, "pinfold_backlog_segments{stage=\"anchor\",target=\"witness.example/2+");
    witnessed.witnesses[1].is(Mood::Sound);
    running.wait_ready(None);
    let is_witnessed = |status: &Value| status["witnessed"] == json!({ "segments": 1, "mode": "fail-open" });
    witnessed.log.wait(&mut running, "the quorum", is_witnessed);
    assert!(running.terminate().success());
}

#[test]
fn a_changed_anchor_is_found_and_a_missing_one_proves_less() {
    let witnessed = Witnessed::of_three();
    let policy = witnessed.policy("both", false, "offline.policy");
    let copy = witnessed.log.dir.path().join("copy");
    copy_tree(&witnessed.log.path("vault"), &copy);
    let file = copy.join("000001.anchor.car");
    let sound = std::fs::read(&file).unwrap();
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(witnessed.verify(&copy, &policy).0, 40, "byte {at}");
    }
    std::fs::copy(copy.join("000000.anchor.car"), &file).unwrap();
    let (exit, report) = witnessed.verify(&copy, &policy);
    assert_eq!((exit, codes(&report)), (40, vec!["seal-link"]), "{report}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(witnessed.verify(&copy, &policy).0, 10);
}

#[test]
fn rows_of_anchors_are_compared_with_the_files() {
    let witnessed = Witnessed::of_three();
    let path = witnessed.log.path("data/registry.sqlite");
    let after = |sql: &str| {
        let saved = std::fs::read(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let (exit, report) = witnessed.log.answer(&["verify", "--registry"]);
        std::fs::write(&path, saved).unwrap();
        let codes = codes(&report).into_iter().filter(|code| *code != "unsealed-tail").map(str::to_owned);
        (exit, codes.collect::<Vec<_>>())
    };
    let first = "seal_cid = (SELECT seal_cid FROM segments WHERE segment_no = 0) AND authority LIKE '%1'";
    assert_eq!(after("SELECT 1"), (0, vec![]));
    for (sql, code) in [
        (format!("DELETE FROM anchors WHERE {first}"), "registry-missing"),
        (format!("UPDATE anchors SET anchored_at = '2020-01-01T00:00:00.000000Z' WHERE {first}"), "registry-differs"),
        (format!("UPDATE anchors SET size = size + 1 WHERE {first}"), "registry-differs"),
        (format!("UPDATE anchors SET anchor_cid = seal_cid WHERE {first}"), "registry-differs"),
        (
            format!(
                "INSERT INTO anchors SELECT seal_cid, kind, 'w.example/x', origin, size, anchor_cid, anchored_at FROM anchors WHERE {first}"
            ),
            "registry-extra",
        ),
        (
            format!(
                "INSERT INTO anchors SELECT 'bafyx', kind, authority, origin, size, anchor_cid, anchored_at FROM anchors WHERE {first}"
            ),
            "registry-extra",
        ),
    ] {
        assert_eq!(after(&sql), (30, vec![code.to_owned()]), "{sql}");
    }
    // Written anew from the archive, they are the same.
    let rows = || witnessed.log.lines(&["query", "anchors"]);
    let before = rows();
    assert_eq!(before.len(), 6);
    witnessed.log.ok(&["registry", "rebuild", "--yes"]);
    witnessed.log.ok(&["run", "--until-idle"]);
    assert_eq!(rows(), before);
}

#[test]
fn a_policy_that_cannot_work_is_refused_before_anything_runs() {
    let witnessed = Witnessed::new("fail-closed");
    let path = witnessed.log.dir.path().join("log.policy");
    let line = witnessed.witnesses[0].line("w0");
    let without = format!("witness w1 {}\n", witnessed.witnesses[1].vkey);
    let other = "log example.com/other+00000000+AQ== \n";
    for (policy, word) in [
        (format!("{line}{without}group both all w0 w1\nquorum both\n"), "do not make the quorum"),
        (format!("{line}quorum w1\n"), "`w1` is defined"),
        (format!("{other}{line}quorum w0\n"), "line 1"),
        (format!("{line}quorum w0"), "last line"),
        (line.replace("http", "gopher") + "quorum w0\n", "http(s)"),
    ] {
        std::fs::write(&path, &policy).unwrap();
        for command in [&["run", "--until-idle"][..], &["config", "check", "--offline"]] {
            let (exit, answer) = witnessed.log.answer(command);
            assert_eq!(exit, 2, "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{word}: {answer}");
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(witnessed.log.answer(&["run", "--until-idle"]).0, 2);
}

#[test]
fn a_wiped_volume_is_not_a_new_log_where_a_witness_knows_it() {
    let witnessed = Witnessed::new("fail-open");
    witnessed.log.set("create = false", "create = true");
    witnessed.segment(0);
    let size = witnessed.witnesses[0].size();
    for name in ["data", "vault", "heads"] {
        std::fs::remove_dir_all(witnessed.log.path(name)).unwrap();
    }
    let (exit, answer) = witnessed.log.answer(&["run", "--until-idle"]);
    assert_eq!((exit, &answer["error"]["code"]), (4, &json!("known-origin")), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(&format!("size {size}")), "{answer}");
    witnessed.witnesses[1].is(Mood::Down);
    assert_eq!(witnessed.log.answer(&["run", "--until-idle"]).0, 4, "one that knows it is enough");
    for witness in &witnessed.witnesses {
        witness.forget();
    }
    let (exit, answer) = witnessed.log.answer(&["run", "--until-idle"]);
    assert_eq!((exit, &answer["error"]["code"]), (3, &json!("anchor")), "who does not answer might know it: {answer}");
    witnessed.witnesses[1].is(Mood::Sound);
    witnessed.log.ok(&["run", "--until-idle"]);
    witnessed.segment(1);
    let status = witnessed.log.status();
    assert_eq!(status["witnessed"]["segments"], status["sealed"]["segments"], "{status}");
}

/// Our log and our witness: killed between two segments, it goes on from its state.
#[test]
fn our_own_witness_serves_our_own_log() {
    let log = Log::new(ORIGIN);
    log.pin_to_folder();
    let witness = Witness::new();
    let vkey = std::fs::read_to_string(log.path("keys/log.vkey")).unwrap();
    std::fs::write(witness.path("logs"), format!("logs/v0\n\nvkey {}\n", vkey.trim())).unwrap();
    let policy = log.path("policy");
    log.add("[witness]\npolicy_file = \"policy\"\nmode = \"fail-closed\"\n");
    for n in 0..3 {
        let serving = witness.serve();
        let line = format!("witness ours {} http://{}\nquorum ours\n", witness.vkey(), serving.address);
        std::fs::write(&policy, line).unwrap();
        ingest(&log, n);
        assert_eq!(log.status()["witnessed"]["segments"], n + 1);
        let (exit, report) = log.answer(&["verify"]);
        assert_eq!((exit, &report["fresh"]["source"]), (0, &json!("witness")), "{report}");
    }
    assert_eq!(log.answer(&["verify"]).0, 50, "gone, it is missed");
}
