//! The straight line on real input: Kafka in, Kubo and SQLite out, and an audit from bytes, all with the real binary.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::peer::{kafka, kubo};

/// The value of a record: a consent event about one of `count / 10` people.
pub(crate) fn event(topic: &str, i: usize) -> String {
    serde_json::json!({
        "specversion": "1.0", "id": format!("{topic}-{i}"), "source": "urn:test", "type": "com.maily.consent.v1",
        "data": {
            "receiptId": format!("r{i}"),
            "subject": { "identifiers": [{ "type": "email", "value": format!("p{}@example.org", i / 10) }] },
            "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
        },
    })
    .to_string()
}

/// A log of two topics, pinned to a node.
pub(crate) struct Log {
    dir: TempDir,
}

impl Log {
    pub(crate) fn new(brokers: &str, topics: &[&str], node: &kubo::Node) -> Log {
        let log = Log { dir: tempfile::tempdir().unwrap() };
        let made = log.run(&["init", log.path("").to_str().unwrap(), "--origin", "example.com/test/peers"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (user, password) = kubo::Node::credentials();
        std::fs::write(log.path("keys/kubo"), password).unwrap();
        let topics: String =
            topics.iter().map(|name| format!("[[source.redpanda.topic]]\nname = \"{name}\"\n")).collect();
        let more = format!(
            "[source.redpanda]\nkind = \"kafka\"\nbrokers = [\"{brokers}\"]\nassignment = \"static\"\n{topics}\
             [pin.kubo]\nkind = \"kubo\"\nurl = \"{}\"\nuser = \"{user}\"\npassword_file = \"keys/kubo\"\n",
            node.url()
        );
        let config = std::fs::read_to_string(log.path("pinfold.toml")).unwrap();
        let config = config.replace("listen = \"127.0.0.1:7410\"", "listen = \"\"");
        std::fs::write(log.path("pinfold.toml"), format!("{config}\n{more}")).unwrap();
        log
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(args).arg("--json");
        if args[0] != "init" {
            command.arg("--config").arg(self.path("pinfold.toml"));
        }
        command.output().unwrap()
    }

    pub(crate) fn lines(&self, args: &[&str], exit: i32) -> Vec<Value> {
        let output = self.run(args);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {stdout}{stderr}");
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn records_of_a_broker_end_up_pinned_registered_and_verified_exactly_once() {
    let broker = kafka::shared();
    let node = kubo::Node::start();
    let topics = ["line-consent", "line-data"];
    for topic in topics {
        broker.create_topic(topic, 2);
        for partition in 0..2 {
            let values: Vec<String> = (0..300).map(|i| event(&format!("{topic}-{partition}"), i)).collect();
            broker.produce(topic, partition, &values);
        }
    }
    let log = Log::new(&broker.brokers(), &topics, &node);
    let idle = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!((&idle["accepted"], &idle["quarantined"], &idle["gaps"]), (&1200.into(), &0.into(), &0.into()));
    assert_eq!((&idle["sealed"], &idle["pinned"], &idle["registered"]), (&1.into(), &1.into(), &1.into()), "{idle}");
    let again = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!((&again["accepted"], &again["size"], &again["root"]), (&0.into(), &idle["size"], &idle["root"]));

    // Later records go on where the log stands.
    let more: Vec<String> = (300..400).map(|i| event("line-consent-0", i)).collect();
    broker.produce("line-consent", 0, &more);
    let later = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!(
        (&later["accepted"], &later["sealed"], &later["pinned"]),
        (&100.into(), &2.into(), &2.into()),
        "{later}"
    );

    let segments = log.lines(&["query", "segments"], 0);
    let newest = segments.iter().max_by_key(|row| row["segment_no"].as_u64()).unwrap();
    let seal = newest["seal_cid"].as_str().unwrap();
    let exported = node.ipfs(&["dag", "export", seal]);
    assert_eq!(exported.stdout, std::fs::read(log.path("data/archive/000001.proof.car")).unwrap());

    let vkey = log.path("keys/log.vkey");
    let archive = log.path("data/archive");
    let (archive, vkey) = (archive.to_str().unwrap(), vkey.to_str().unwrap());
    let report = log.lines(&["verify", archive, "--vkey", vkey], 10).pop().unwrap();
    assert_eq!((&report["findings_total"], &report["segments"]), (&0.into(), &2.into()), "{report}");
    let row = log.lines(&["query", "provenance", "--param", "event_id=line-consent-0-399"], 0).pop().unwrap();
    assert_eq!((&row["topic"], &row["record_offset"]), (&"line-consent".into(), &399.into()), "{row}");
    for view in ["v_missing_segments", "v_broken_links", "v_offset_gaps", "v_bad_keys"] {
        assert_eq!(log.lines(&["query", view], 0), Vec::<Value>::new(), "{view}");
    }
}

#[test]
fn a_node_that_is_down_stops_nothing_and_the_backlog_drains_when_it_is_back() {
    let broker = kafka::shared();
    let mut node = kubo::Node::start();
    broker.create_topic("line-down", 1);
    broker.produce("line-down", 0, &(0..50).map(|i| event("line-down", i)).collect::<Vec<_>>());
    let log = Log::new(&broker.brokers(), &["line-down"], &node);
    node.stop();
    log.lines(&["run", "--until-idle", "--timeout", "10s"], 3);
    let status = log.lines(&["status"], 0).pop().unwrap();
    assert_eq!((&status["sealed"]["segments"], &status["pinned"]["kubo"]), (&1.into(), &0.into()), "{status}");
    node.up();
    let idle = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!((&idle["accepted"], &idle["pinned"], &idle["registered"]), (&0.into(), &1.into(), &1.into()), "{idle}");
}
