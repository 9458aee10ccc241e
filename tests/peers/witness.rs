//! The table of requests put to litewitness: our reading of the protocol against one by others, status by status.
//! Ours answers the same table in the offline tests (`tests/it/witness.rs`). And our log, which it witnesses.

use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{self, copy_tree};
use crate::peer::litewitness::Litewitness;
use crate::witness_table::{self as table, Log};

#[test]
fn litewitness_answers_the_table_as_it_says_also_after_a_kill() {
    let logs = Log::all();
    let list: Vec<_> = logs.iter().map(|log| (log.origin.as_str(), log.key.vkey().to_string())).collect();
    let mut witness = Litewitness::start(&list);
    for row in table::first_half() {
        row.check(&witness.address(), witness.vkey(), false);
    }
    witness.kill();
    witness.up();
    for row in table::second_half(13) {
        row.check(&witness.address(), witness.vkey(), false);
    }
}

/// A log of files that shows its checkpoints to litewitness.
struct Shown {
    log: binary::Log,
    witness: Litewitness,
}

impl Shown {
    fn new() -> Shown {
        let log = binary::Log::new("example.com/shown");
        log.pin_to_folder();
        let vkey = std::fs::read_to_string(log.path("keys/log.vkey")).unwrap().trim().to_owned();
        let witness = Litewitness::start(&[("example.com/shown", vkey)]);
        let policy = format!("witness lite {} http://{}\nquorum lite\n", witness.vkey(), witness.address());
        std::fs::write(log.path("policy"), policy).unwrap();
        log.add("[witness]\npolicy_file = \"policy\"\nmode = \"fail-closed\"\ntimeout = \"5s\"\n");
        Shown { log, witness }
    }

    /// Folds some events and seals them.
    fn segment(&self, n: usize) {
        let event = |i: usize| {
            format!(
                r#"{{"specversion":"1.0","id":"e{n}-{i}","source":"urn:test","type":"com.example.x","time":"2026-01-01T00:00:00Z","data":{{}}}}"#
            ) + "\n"
        };
        let path = self.log.dir.path().join(format!("events-{n}.ndjson"));
        std::fs::write(&path, (0..10 + 3 * n).map(event).collect::<String>()).unwrap();
        self.log.ok(&["ingest", path.to_str().unwrap()]);
        self.log.ok(&["seal"]);
    }

    fn verify(&self, dir: &Path) -> (i32, Value) {
        let (vkey, policy) = (self.log.path("keys/log.vkey"), self.log.path("policy"));
        let (dir, vkey, policy) = (dir.to_str().unwrap(), vkey.to_str().unwrap(), policy.to_str().unwrap());
        self.log.answer(&["verify", dir, "--vkey", vkey, "--witness-policy", policy])
    }
}

#[test]
fn our_log_is_witnessed_by_litewitness_and_a_rollback_is_refused() {
    let mut shown = Shown::new();
    for n in 0..3 {
        shown.segment(n);
        shown.log.ok(&["run", "--until-idle"]);
        let status = shown.log.status();
        assert_eq!((&status["witnessed"]["segments"], &status["registered"]["local"]), (&json!(n + 1), &json!(n + 1)));
        if n == 1 {
            for name in PARTS {
                copy_tree(&shown.log.path(name), &shown.log.dir.path().join("yesterday").join(name));
            }
        }
    }
    let (exit, report) = shown.verify(&shown.log.path("vault"));
    assert_eq!((exit, &report["fresh"]), (0, &json!({ "source": "witness", "size": report["size"] })), "{report}");
    assert_eq!(report["anchors"].as_array().unwrap().len(), 3, "{report}");
    // Killed while a segment waits for it: nothing is registered, nothing is lost, and it goes on where it was.
    shown.witness.kill();
    shown.segment(3);
    let (exit, answer) = shown.log.answer(&["run", "--until-idle", "--timeout", "3s"]);
    assert_eq!(exit, 3, "{answer}");
    assert_eq!(shown.log.status()["registered"]["local"], 3);
    assert_eq!(shown.verify(&shown.log.path("vault")).0, 50);
    shown.witness.up();
    shown.log.ok(&["run", "--until-idle"]);
    assert_eq!(shown.log.status()["registered"]["local"], 4);
    assert_eq!(shown.verify(&shown.log.path("vault")).0, 0);
    // Yesterday's archive, and then yesterday's log: another third segment is never signed.
    let (exit, report) = shown.verify(&shown.log.dir.path().join("yesterday/vault"));
    assert_eq!((exit, &report["findings"][0]["code"]), (30, &json!("rolled-back")), "{report}");
    for name in PARTS {
        std::fs::remove_dir_all(shown.log.path(name)).unwrap();
        copy_tree(&shown.log.dir.path().join("yesterday").join(name), &shown.log.path(name));
    }
    shown.segment(7);
    let (exit, answer) = shown.log.answer(&["run", "--until-idle"]);
    assert_eq!((exit, &answer["error"]["code"]), (4, &json!("anchor")), "{answer}");
}

const PARTS: [&str; 4] = ["data", "heads", "keyring", "vault"];
