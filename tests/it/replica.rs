//! Audits of replicas: on a schedule and by command, what they find, write down and put back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinfold::archive::{Contents, Folder, Pinner};
use pinfold::core::decode::Format;
use pinfold::core::synthetic::{Encoding, Generator};
use pinfold::core::time::Timestamp;
use pinfold::ingest::replay::Replay;
use pinfold::sidecar::{ReplicaStatus, Schedule, Settings, Sidecar, TopicRule, Wanted, Which};
use serde_json::Value;

use crate::binary::Log;
use crate::embedded;

const START: Timestamp = Timestamp(1_767_225_600_000_000);
const DAY: u64 = 86_400_000_000;

/// A log of three segments on two folders, driven by hand.
struct Driven {
    dir: tempfile::TempDir,
    sidecar: Sidecar,
    runtime: tokio::runtime::Runtime,
    now: Timestamp,
}

impl Driven {
    fn new(wanted: Wanted) -> Driven {
        let dir = tempfile::tempdir().unwrap();
        let writer = embedded::log(dir.path(), "example.com/replica", START);
        let folder = |name: &str| -> (bool, Arc<dyn Pinner>) {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            (true, Arc::new(Folder::new(name, dir.path().join(name), Contents::ProofAndPayload)))
        };
        let targets = vec![folder("shelf"), folder("vault")];
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let settings =
            Settings { audits: Schedule { every: DAY, wanted }, ..embedded::settings(&dir.path().join("archive")) };
        let sidecar = Sidecar::new(writer, targets, Vec::new(), settings, runtime.handle()).unwrap();
        let mut driven = Driven { dir, sidecar, runtime, now: START };
        (0..3).for_each(|n| driven.segment(n));
        driven
    }

    /// Folds some events, seals them and pins the segment.
    fn segment(&mut self, n: u64) {
        let mut generator = Generator::new(n, 10, self.now);
        let lines: Vec<Vec<u8>> = (0..40).map(|_| generator.record(Encoding::CloudEventsJson).value.unwrap()).collect();
        let (name, path) = (format!("{n}.ndjson"), self.dir.path().join(format!("{n}.ndjson")));
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        let rules: Arc<[TopicRule]> = Arc::from([embedded::rule(Which::All, &name, Format::Auto)]);
        let source = Replay::open("file", &name, &path, None, &self.sidecar.positions(&rules)).unwrap();
        let now = self.now;
        self.sidecar.ingest(Box::new(source), rules, || now, u64::MAX).unwrap().unwrap();
        assert!(self.sidecar.seal_now(now).unwrap());
        while self.sidecar.open_tasks() > 0 {
            self.sidecar.step(now).unwrap();
        }
    }

    /// Lets so much time pass, and steps until every target was audited then.
    fn audited_after(&mut self, micros: u64) -> Vec<(String, ReplicaStatus)> {
        self.now = self.now.plus(micros);
        let now = self.now;
        while self.sidecar.replicas().any(|(_, last)| last.at < now) {
            self.sidecar.step(now).unwrap();
        }
        self.sidecar.replicas().map(|(name, last)| (name, last.clone())).collect()
    }

    fn entries(&self, kind: &str) -> u64 {
        self.sidecar.status(self.now, true).entries.get(kind).copied().unwrap_or(0)
    }

    fn file(&self, target: &str, name: &str) -> PathBuf {
        self.dir.path().join(target).join(name)
    }

    fn close(self) {
        self.sidecar.close().unwrap();
        drop(self.runtime);
    }
}

/// Flips the last bit of the file, which is in its last block.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn replicas_are_audited_on_a_schedule_and_damage_is_put_back_and_stated() {
    let mut log = Driven::new(Wanted { blocks: Some(1_000), repairs: true });
    let pinned = log.entries("pinned");
    for _ in 0..20 {
        log.sidecar.step(log.now.plus(DAY - 1)).unwrap();
    }
    assert_eq!(log.entries("replication-audit"), 0, "not before its time");

    let audited = log.audited_after(DAY);
    assert!(audited.iter().all(|(_, last)| last.found.sampled > 6 && last.found.failed == 0), "{audited:?}");
    assert_eq!((log.entries("replication-audit"), log.entries("pinned")), (2, pinned));

    let (lost, damaged) = (log.file("vault", "000001.payload.car"), log.file("vault", "000002.proof.car"));
    let sound = [&lost, &damaged].map(|path| std::fs::read(path).unwrap());
    std::fs::remove_file(&lost).unwrap();
    damage(&damaged);
    let audited = log.audited_after(DAY);
    let [(_, shelf), (_, vault)] = audited.as_slice() else { panic!("{audited:?}") };
    assert_eq!((shelf.found.failed, shelf.found.damaged_files), (0, 0));
    assert_eq!((vault.found.damaged_files, vault.found.repaired_files), (2, 2), "{vault:?}");
    assert!(vault.found.failed >= 2 && !vault.found.is_damaged());
    assert_eq!([&lost, &damaged].map(|path| std::fs::read(path).unwrap()), sound);
    assert!(log.file("vault", "000002.proof.car.damaged-1").exists(), "what differs is kept");
    assert_eq!((log.entries("replication-audit"), log.entries("pinned")), (4, pinned + 2), "each is stated again");

    let audited = log.audited_after(DAY);
    assert!(audited.iter().all(|(_, last)| last.found.failed == 0), "{audited:?}");
    log.close();
}

#[test]
fn without_repairs_damage_stays_and_is_told() {
    let mut log = Driven::new(Wanted { blocks: Some(1_000), repairs: false });
    damage(&log.file("vault", "000000.proof.car"));
    let audited = log.audited_after(DAY);
    assert!(audited.iter().any(|(name, last)| name == "vault" && last.found.failed == 1 && last.found.is_damaged()));
    let trouble = log.sidecar.waiting_for();
    assert_eq!(trouble.keys().collect::<Vec<_>>(), ["replica vault"], "{trouble:?}");
    log.close();
}

#[test]
fn the_schedule_outlives_a_target_that_is_away_and_a_sample_costs_no_more_than_it_says() {
    let mut log = Driven::new(Wanted { blocks: Some(3), repairs: true });
    let away = log.dir.path().join("away");
    std::fs::rename(log.dir.path().join("vault"), &away).unwrap();
    let now = log.now.plus(DAY);
    while !log.sidecar.waiting_for().contains_key("replica vault") {
        log.sidecar.step(now).unwrap();
    }
    assert!(log.sidecar.replicas().any(|(name, last)| name == "vault" && last.found.sampled == 0), "nothing was shown");
    std::fs::rename(&away, log.dir.path().join("vault")).unwrap();
    let audited = log.audited_after(2 * DAY);
    assert!(audited.iter().all(|(_, last)| last.found.sampled == 3), "{audited:?}");
    log.close();
}

/// A log with some segments in a folder and the embedded registry.
fn pinned_log() -> Log {
    let log = Log::new("example.com/replica");
    std::fs::create_dir(log.path("vault")).unwrap();
    log.pin_to_folder();
    (0..2).for_each(|n| segment(&log, n));
    log
}

/// One more segment, pinned and registered.
fn segment(log: &Log, n: u64) {
    let mut generator = Generator::new(n, 10, START);
    let lines: Vec<Vec<u8>> = (0..30).map(|_| generator.record(Encoding::CloudEventsJson).value.unwrap()).collect();
    let path = log.dir.path().join(format!("{n}.ndjson"));
    std::fs::write(&path, lines.join(&b'\n')).unwrap();
    log.ok(&["ingest", path.to_str().unwrap()]);
    for stage in ["seal", "pin", "register"] {
        log.ok(&[stage]);
    }
}

/// `verify` of the whole configured log finds nothing wrong.
fn is_sound(log: &Log) {
    let (exit, report) = log.answer(&["verify"]);
    let faults = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "info");
    assert_eq!((exit, faults.count()), (10, 0), "{report}");
}

fn vault(answer: &Value) -> &Value {
    &answer["replicas"]["vault"]
}

#[test]
fn the_commands_find_damage_and_put_it_back_and_the_registry_follows() {
    let log = pinned_log();
    let clean = log.ok(&["pin", "--audit"]);
    assert!(vault(&clean)["sampled"].as_u64().unwrap() > 4 && vault(&clean)["failed"] == 0, "{clean}");
    damage(&log.path("vault/000000.payload.car"));
    let (exit, found) = log.answer(&["pin", "--audit", "--sample", "1000"]);
    assert_eq!((exit, &vault(&found)["failed"]), (1, &Value::from(1)), "{found}");
    assert_eq!(log.status()["replicas"]["vault"]["damaged_files"], 1);
    assert_eq!(log.verify(&log.path("vault")).0, 40);

    let repaired = log.ok(&["pin", "--audit", "--sample", "1000", "--repair"]);
    assert_eq!(vault(&repaired)["repaired_files"], 1, "{repaired}");
    assert_eq!(log.verify(&log.path("vault")).0, 10);

    let verified = |log: &Log| {
        let db = rusqlite::Connection::open(log.path("data/registry.sqlite")).unwrap();
        let question = "SELECT verified_at > pinned_at FROM segment_pins p JOIN segments s ON s.seal_cid = p.seal_cid
                        WHERE s.segment_no = 0 AND target = 'vault' AND status = 'verified'";
        db.query_row(question, [], |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(!verified(&log), "the registry has it from sealed entries");
    segment(&log, 2);
    assert!(verified(&log));
    is_sound(&log);
}

#[test]
fn a_damaged_or_lost_file_of_our_own_archive_comes_back_from_a_target() {
    let log = pinned_log();
    let (damaged, lost) = (log.path("data/archive/000000.proof.car"), log.path("data/archive/000001.payload.car"));
    damage(&damaged);
    std::fs::remove_file(&lost).unwrap();
    assert_eq!(log.answer(&["verify"]).0, 40);
    let running = log.start();
    let answer = log.ok(&["pin", "--repair"]);
    assert_eq!(vault(&answer)["restored_files"], 2, "{answer}");
    drop(running);
    is_sound(&log);
}

#[test]
fn a_sample_that_meets_a_damaged_file_of_ours_halts() {
    let log = pinned_log();
    for name in ["000000.proof.car", "000000.payload.car", "000001.proof.car", "000001.payload.car"] {
        damage(&log.path(&format!("data/archive/{name}")));
    }
    let (exit, answer) = log.answer(&["pin", "--audit"]);
    assert_eq!(exit, 4, "{answer}");
}
