//! Power lost while the real binary is at work: of its whole directory only what was synced is left.
//!
//! Every session ends with the power going: in the middle, at a sync chosen by chance, or right after the command said
//! that it was done. Then the log must open with all that was said, its archive, vault and registry must prove it, and
//! the same command must bring it to its end. The checker is first shown to see a disk that does not keep its promises.
//!
//! `PINFOLD_CAMPAIGN_ROUNDS` and `PINFOLD_CAMPAIGN_SEED` make the campaign longer and another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::binary::{Answer, Log, answer};
use crate::shim;

/// A log on a disk that loses its power.
struct Machine {
    log: Log,
    shim: PathBuf,
    /// What was said to be done, and is to be there ever after.
    said: Said,
}

/// What a user was told.
#[derive(Default, Debug)]
struct Said {
    size: u64,
    sealed: u64,
    pinned: u64,
    registered: u64,
    /// Records of each file that was ingested to its end.
    files: BTreeMap<String, u64>,
}

/// How a session ends, and what its disk does.
#[derive(Default)]
struct Session<'a> {
    cut_after: Option<u64>,
    blind: Option<&'a str>,
}

impl Machine {
    fn new() -> Machine {
        let log = Log::new("example.com/test/powercut");
        log.set("entries_max = 65536", "entries_max = 200");
        log.set("listen = \"127.0.0.1:0\"", "listen = \"\"");
        log.pin_to_folder();
        let shim = shim::build(log.dir.path());
        Machine { log, shim, said: Said::default() }
    }

    /// Runs a command until its end or the power's, and gives its answer if it had one. Then the power is gone.
    fn run(&mut self, args: &[&str], session: &Session<'_>) -> Option<Answer> {
        let (root, shadow) = (self.log.path(""), self.log.dir.path().join("shadow"));
        shim::begin(&shadow);
        let mut command = self.log.command(args);
        command.env("LD_PRELOAD", &self.shim).env("PINFOLD_SHIM_ROOT", &root).env("PINFOLD_SHIM_SHADOW", &shadow);
        session.cut_after.map(|syncs| command.env("PINFOLD_SHIM_CUT_AFTER", syncs.to_string()));
        session.blind.map(|files| command.env("PINFOLD_SHIM_BLIND", files));
        let output = command.output().unwrap();
        shim::restore(&root, &shadow);
        output.status.code().map(|_| answer(args, &output))
    }

    /// A file of events, which is none of the disk's business.
    fn file(&self, number: u64, records: u64) -> String {
        let event = |i: u64| {
            let data = json!({
                "receiptId": format!("r{i}"),
                "subject": { "identifiers": [{ "type": "email", "value": format!("p{number}-{}@example.org", i / 3) }] },
                "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
            });
            json!({ "specversion": "1.0", "id": format!("{number}-{i}"), "source": "urn:test",
                    "type": "com.maily.consent.v1", "data": data })
            .to_string()
        };
        let path = self.log.dir.path().join(format!("events{number}.ndjson"));
        std::fs::write(&path, (0..records).map(event).collect::<Vec<_>>().join("\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Remembers what an answer said.
    fn hear(&mut self, args: &[&str], answer: &Value, records: u64) {
        let number = |path: &str| answer.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.said.size = self.said.size.max(number("/size"));
        match args[0] {
            "ingest" => drop(self.said.files.insert(args[1].to_owned(), records)),
            "seal" => self.said.sealed = self.said.sealed.max(number("/segments")),
            "run" => {
                self.said.sealed = self.said.sealed.max(number("/sealed"));
                self.said.pinned = self.said.pinned.max(number("/pinned"));
                self.said.registered = self.said.registered.max(number("/registered"));
            }
            _ => {
                self.said.pinned = self.said.pinned.max(number("/pinned/vault"));
                self.said.registered = self.said.registered.max(number("/registered/local"));
            }
        }
    }

    /// Everything that is not as it was said to be.
    fn faults(&self) -> Vec<String> {
        let (exit, status) = self.log.answer(&["status"]);
        if exit != 0 {
            return vec![format!("status {exit}: {status}")];
        }
        let mut faults = Vec::new();
        let number = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let stages = [
            ("/size", self.said.size),
            ("/sealed/segments", self.said.sealed),
            ("/pinned/vault", self.said.pinned),
            ("/registered/local", self.said.registered),
        ];
        for (path, said) in stages {
            if number(path) < said {
                faults.push(format!("{path}: said {said}, found {}", number(path)));
            }
        }
        for (stage, dir) in [("/sealed/segments", "data/archive"), ("/pinned/vault", "vault")] {
            if number(stage) > 0 {
                let (exit, report) = self.log.verify(&self.log.path(dir));
                if exit != 10 || report["segments"].as_u64().unwrap() < number(stage) {
                    faults.push(format!("verify {dir} {exit}: {report}"));
                }
            }
        }
        if number("/registered/local") > 0 {
            let rows = self.log.lines(&["query", "segments"]).len() as u64;
            if rows < number("/registered/local") {
                faults.push(format!("{rows} rows of segments: {status}"));
            }
            faults.extend(self.log.lines(&["query", "v_broken_links"]).iter().map(|row| format!("link: {row}")));
        }
        faults
    }

    /// Every record of every finished file is found once, by its place.
    fn assert_all_found(&self) {
        self.log.ok(&["run", "--until-idle"]);
        let (exit, report) = self.log.answer(&["verify", "--registry"]);
        assert_eq!((exit, &report["first_bad_seq"]), (10, &Value::Null), "{report}");
        let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for row in self.log.lines(&["query", "v_provenance"]) {
            if let (Some(topic), Some(offset)) = (row["topic"].as_str(), row["record_offset"].as_u64()) {
                found.entry(topic.to_owned()).or_default().push(offset);
            }
        }
        for (file, records) in &self.said.files {
            let topic = file.rsplit('/').next().unwrap();
            let all: Vec<u64> = (0..*records).collect();
            assert!(found.get(topic) == Some(&all), "{topic}: {records} records, {:?}", found.get(topic).map(Vec::len));
        }
        assert_eq!(found.len(), self.said.files.len());
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_power_cut_at_any_sync_of_the_binary_loses_nothing_it_said() {
    let rounds = number("PINFOLD_CAMPAIGN_ROUNDS", 10);
    let seed = number("PINFOLD_CAMPAIGN_SEED", 1);
    let mut chance = StdRng::seed_from_u64(seed);
    let mut machine = Machine::new();
    let mut cuts = 0;
    for round in 0..rounds {
        let (file, records) = (machine.file(round, 400), 400);
        let args: &[&str] = match chance.random_range(0..6) {
            0..3 => &["ingest", &file],
            3 => &["seal"],
            4 => &["register"],
            _ => &["run", "--until-idle"],
        };
        // Small numbers as likely as large ones: the first syncs of a command are the delicate ones.
        let reach = 1 << chance.random_range(1..6);
        let cut_after = (chance.random_range(0..4) > 0).then(|| chance.random_range(0..reach));
        match machine.run(args, &Session { cut_after, blind: None }) {
            Some((exit, answer)) => {
                assert_eq!(exit, 0, "round {round}: {args:?}: {answer}");
                machine.hear(args, &answer, records);
            }
            None => cuts += 1,
        }
        assert_eq!(machine.faults(), Vec::<String>::new(), "round {round}, seed {seed}: {args:?} {cut_after:?}");
        // What was cut is done again, and does the rest.
        let answer = machine.log.ok(args);
        if args[0] == "ingest" {
            let both = answer["accepted"].as_u64().unwrap() + answer["duplicates"].as_u64().unwrap();
            assert_eq!(both, records, "round {round}: {answer}");
        }
        machine.hear(args, &answer, records);
        assert_eq!(machine.faults(), Vec::<String>::new(), "round {round}, seed {seed}: after it was done again");
    }
    machine.assert_all_found();
    assert!(cuts * 4 >= rounds, "{cuts} cuts in {rounds} rounds");
    eprintln!("powercut: {rounds} rounds, {cuts} cuts within a command, seed {seed}, nothing lost");
}

/// The planted faults: a disk that does not keep what was synced, file by file. Each must be seen.
#[test]
fn the_checker_sees_every_file_that_is_not_synced() {
    for files in ["db", "*.frames", "wal.*", "*.car*", "registry.sqlite*"] {
        let mut machine = Machine::new();
        let file = machine.file(0, 300);
        machine.log.ok(&["ingest", &machine.file(1, 50)]);
        for args in [&["ingest", file.as_str()][..], &["run", "--until-idle"]] {
            if let Some((0, answer)) = machine.run(args, &Session { cut_after: None, blind: Some(files) }) {
                machine.hear(args, &answer, 300);
            }
        }
        assert_ne!(machine.faults(), Vec::<String>::new(), "{files}: not synced, and nothing was missed");
    }
}

/// A log is made whole, or the same command makes it.
#[test]
fn a_power_cut_while_a_log_is_made_leaves_it_or_nothing() {
    let mut made = 0;
    let tools = tempfile::tempdir().unwrap();
    let shim = shim::build(tools.path());
    for cut_after in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (root, shadow) = (dir.path().join("log"), dir.path().join("shadow"));
        std::fs::create_dir(&root).unwrap();
        shim::begin(&shadow);
        let binary = || std::process::Command::new(env!("CARGO_BIN_EXE_pinfold"));
        let init = |command: &mut std::process::Command| {
            command
                .args(["init", root.to_str().unwrap(), "--origin", "example.com/test/cut", "--json"])
                .output()
                .unwrap()
        };
        let mut command = binary();
        command.env("LD_PRELOAD", &shim).env("PINFOLD_SHIM_ROOT", &root).env("PINFOLD_SHIM_SHADOW", &shadow);
        let first = init(command.env("PINFOLD_SHIM_CUT_AFTER", cut_after.to_string()));
        shim::restore(&root, &shadow);
        let config = root.join("pinfold.toml");
        let status = || binary().args(["status", "--json", "--config"]).arg(&config).output().unwrap();
        if first.status.success() {
            let (exit, value) = answer(&["status"], &status());
            assert_eq!(exit, 0, "made after {cut_after} syncs, and gone: {value}");
            break;
        }
        made += 1;
        assert_eq!(first.status.code(), None, "{cut_after}");
        let is_there = config.exists();
        let (exit, value) = answer(&["init"], &init(&mut binary()));
        assert_eq!(exit, if is_there { 2 } else { 0 }, "{cut_after}: {value}");
        let (exit, status) = answer(&["status"], &status());
        assert_eq!(exit, 0, "{cut_after}: {status}");
    }
    assert!(made > 5, "{made} syncs");
}
