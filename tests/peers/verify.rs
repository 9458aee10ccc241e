//! `verify` over the same log in a directory, on a Kubo node, in SQLite and in the Snowflake peer: one answer, and each
//! damage told from the others.

use std::path::PathBuf;
use std::process::Command;

use pinfold::core::cid::Cid;
use pinfold::core::rows::pin_row;
use pinfold::core::time::Timestamp;
use pinfold::registry::Registrar;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::peer::kubo::Node;
use crate::peer::snowflake::Warehouse;

const ORIGIN: &str = "example.com/test/verify";

struct Log {
    dir: TempDir,
}

impl Log {
    /// A log of files with `more` in its configuration.
    fn new(more: &str) -> Log {
        let log = Log { dir: tempfile::tempdir().unwrap() };
        log.ok(&["init", log.path("").to_str().unwrap(), "--origin", ORIGIN]);
        let config = std::fs::read_to_string(log.path("pinfold.toml")).unwrap();
        let config = config.replace("listen = \"127.0.0.1:7410\"", "listen = \"\"");
        std::fs::write(log.path("pinfold.toml"), format!("{config}\n{more}")).unwrap();
        log
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn answer(&self, args: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(args).arg("--json");
        if args[0] != "init" {
            command.arg("--config").arg(self.path("pinfold.toml"));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = text.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
        (output.status.code().unwrap(), value)
    }

    fn ok(&self, args: &[&str]) -> Value {
        let (exit, value) = self.answer(args);
        assert_eq!(exit, 0, "{args:?}: {value}");
        value
    }

    /// Folds, seals, pins and registers a file of events; gives the seal.
    fn segment(&self, n: usize) -> Cid {
        let event = |i: usize| {
            serde_json::json!({
                "specversion": "1.0", "id": format!("{n}-{i}"), "source": "urn:test", "type": "com.maily.consent.v1",
                "data": {
                    "receiptId": format!("r{i}"),
                    "subject": { "identifiers": [{ "type": "email", "value": format!("p{i}@example.org") }] },
                    "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
                },
            })
            .to_string()
        };
        let file = self.dir.path().join(format!("events{n}.ndjson"));
        std::fs::write(&file, (0..20).map(event).collect::<Vec<_>>().join("\n")).unwrap();
        self.ok(&["ingest", file.to_str().unwrap()]);
        self.ok(&["run", "--until-idle", "--timeout", "120s"]);
        let row = self.ok(&["query", "segments", "--registry", "local", "--param", &format!("segment_no={n}")]);
        row["seal_cid"].as_str().unwrap().parse().unwrap()
    }
}

fn errors(report: &Value) -> Vec<(&str, Option<u64>)> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "info");
    findings.map(|finding| (finding["code"].as_str().unwrap(), finding["segment"].as_u64())).collect()
}

#[test]
fn a_directory_a_node_and_a_registry_agree_and_a_damaged_node_is_told_from_a_silent_one() {
    let mut node = Node::start();
    let (user, password) = Node::credentials();
    let log = Log::new(&format!(
        "[pin.kubo]\nkind = \"kubo\"\nurl = \"{}\"\nuser = \"{user}\"\npassword_file = \"keys/kubo\"\n",
        node.url()
    ));
    std::fs::write(log.path("keys/kubo"), password).unwrap();
    let seals: Vec<Cid> = (0..3).map(|n| log.segment(n)).collect();
    let (dir, vkey, newest) = (log.path("data/archive"), log.path("keys/log.vkey"), seals[2].to_string());
    let (dir, vkey, url) = (dir.to_str().unwrap(), vkey.to_str().unwrap(), node.url());
    let remote = ["verify", "--from-ipfs", &url, "--cid", &newest, "--vkey", vkey, "--timeout", "60s"];

    let (exit, expected) = log.answer(&["verify", dir, "--vkey", vkey]);
    assert_eq!((exit, errors(&expected)), (10, vec![]), "{expected}");
    for args in [&remote[..], &[&remote[..], &["--registry", "local"]].concat(), &["verify"]] {
        let (exit, report) = log.answer(args);
        assert_eq!((exit, errors(&report)), (10, vec![]), "{args:?}: {report}");
        for what in ["origin", "size", "root", "segments"] {
            assert_eq!(report[what], expected[what], "{args:?}: {what}");
        }
        let payload = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "payload").unwrap();
        assert_eq!(payload["status"], "ok", "{args:?}: the frames were read too");
    }

    // The seal in the middle: what is before it is still found, over `skip`.
    let file = node.block_file(seals[1]);
    let sound = std::fs::read(&file).unwrap();
    let mut damaged = sound.clone();
    damaged[40] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let (exit, report) = log.answer(&remote);
    assert_eq!((exit, errors(&report)), (40, vec![("block-hash", Some(1))]), "{report}");
    assert_eq!((&report["size"], &report["segments"]), (&expected["size"], &expected["segments"]));
    std::fs::remove_file(&file).unwrap();
    let (exit, report) = log.answer(&remote);
    assert_eq!((exit, errors(&report)), (20, vec![("block-missing", Some(1))]), "{report}");
    std::fs::write(&file, sound).unwrap();
    node.stop();
    node.up();
    assert_eq!(log.answer(&remote).0, 10, "the node remembered that the block was missing");

    node.stop();
    let (exit, report) = log.answer(&remote);
    assert_eq!(exit, 50, "{report}");
    assert!(errors(&report).iter().all(|(code, _)| *code == "unreachable"), "{report}");
}

#[test]
fn a_registry_in_other_hands_confirms_the_newest_head_and_its_rows_are_compared() {
    let warehouse = Warehouse::start();
    let keys = tempfile::tempdir().unwrap();
    let log = Log::new(&warehouse.config(keys.path()));
    let seals: Vec<Cid> = (0..3).map(|n| log.segment(n)).collect();
    let (exit, report) = log.answer(&["verify"]);
    assert_eq!((exit, errors(&report)), (0, vec![]), "{report}");
    assert_eq!((&report["fresh"]["source"], &report["fresh"]["size"]), (&"registry".into(), &report["size"]));

    // A pin that no entry states, from before the newest one that could.
    let claimed = pin_row(ORIGIN, seals[0], "elsewhere", 1, None, Timestamp(1_767_225_600_000_000));
    warehouse.registrar().register_pins(&[claimed], Uuid::new_v4()).unwrap();
    let (exit, report) = log.answer(&["verify", "--registry", "hub"]);
    assert_eq!((exit, errors(&report)), (30, vec![("registry-extra", Some(0))]), "{report}");
    assert_eq!(report["findings"].as_array().unwrap().last().unwrap()["place"], "registry hub: segment_pins");
    let (exit, report) = log.answer(&["verify", "--registry", "local"]);
    assert_eq!((exit, errors(&report)), (10, vec![]), "the other registry is as it was: {report}");
}
