//! The sealing rules on a clock of our own: what makes a segment, and what never does.

use std::path::Path;
use std::sync::Arc;

use pinfold::archive::{Contents, Folder};
use pinfold::core::decode::Format;
use pinfold::core::seq::Seq;
use pinfold::core::synthetic::{Encoding, Generator};
use pinfold::core::time::Timestamp;
use pinfold::ingest::replay::Replay;
use pinfold::ingest::{Arrival, End};
use pinfold::registry::sqlite::Sqlite;
use pinfold::sidecar::{Settings, Sidecar, TopicRule, Which};

use serde_json::json;

use crate::embedded::{self, Embedded};

const START: Timestamp = Timestamp(1_767_225_600_000_000);
const AGE_MAX: u64 = 600_000_000;
const AGE_LIMIT: u64 = 144 * AGE_MAX;
const ENTRIES_MIN: u64 = 20;

/// A log with a folder and a registry, driven by hand.
struct Driven {
    dir: tempfile::TempDir,
    sidecar: Sidecar,
    runtime: tokio::runtime::Runtime,
    now: Timestamp,
    files: u64,
}

impl Driven {
    fn new() -> Driven {
        let dir = tempfile::tempdir().unwrap();
        let writer = embedded::log(dir.path(), "example.com/idle", START);
        let vault = dir.path().join("vault");
        std::fs::create_dir(&vault).unwrap();
        let folder = Folder::new("vault", vault, Contents::ProofAndPayload);
        let sqlite = Sqlite::open("local", &dir.path().join("registry.sqlite")).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let sidecar = Sidecar::new(
            writer,
            vec![(true, Arc::new(folder))],
            vec![(true, Arc::new(sqlite))],
            settings(dir.path()),
            runtime.handle(),
        )
        .unwrap();
        Driven { dir, sidecar, runtime, now: START, files: 0 }
    }

    /// Folds so many events, now.
    fn events(&mut self, count: u64) {
        self.files += 1;
        let mut generator = Generator::new(self.files, 10, self.now);
        let lines: Vec<Vec<u8>> =
            (0..count).map(|_| generator.record(Encoding::CloudEventsJson).value.unwrap()).collect();
        let name = format!("events-{}.ndjson", self.files);
        let path = self.dir.path().join(&name);
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        let rules: Arc<[TopicRule]> = Arc::from([embedded::rule(Which::All, &name, Format::Auto)]);
        let source = Replay::open("file", &name, &path, None, &self.sidecar.positions(&rules)).unwrap();
        let now = self.now;
        let totals = self.sidecar.ingest(Box::new(source), rules, || now, u64::MAX).unwrap().unwrap();
        assert_eq!(totals.folded.accepted, count);
    }

    /// Lets so much time pass, then does everything that can be done. Gives the number of segments.
    fn after(&mut self, micros: u64) -> u64 {
        self.now = self.now.plus(micros);
        loop {
            self.sidecar.step(self.now).unwrap();
            if !self.sidecar.is_sealing() && self.sidecar.open_tasks() == 0 {
                break;
            }
        }
        self.sidecar.status(self.now, true).sealed.segments
    }

    fn close(self) {
        self.sidecar.close().unwrap();
        drop(self.runtime);
    }
}

fn settings(dir: &Path) -> Settings {
    Settings {
        entries_max: 1_000,
        age_max: AGE_MAX,
        entries_min: ENTRIES_MIN,
        age_limit: AGE_LIMIT,
        observe_every: AGE_MAX,
        threads: 2,
        ..embedded::settings(&dir.join("data/archive"))
    }
}

#[test]
fn an_idle_log_makes_no_segment_for_fifty_age_max() {
    let mut log = Driven::new();
    log.events(ENTRIES_MIN);
    let sealed = log.after(AGE_MAX);
    assert_eq!(sealed, 1);
    // The kinds 5, 6 and 7 of that segment wait now, and more often than fifty times the clock strikes.
    let size = log.sidecar.size();
    for half in 1..=100 {
        assert_eq!(log.after(AGE_MAX / 2), sealed, "after {half} halves of age_max");
    }
    assert_eq!(log.sidecar.size(), size, "an idle log writes nothing");
    assert!(log.sidecar.is_idle());
    // Nor does the clock forget: one event is sealed when it is as old as the limit says, with what had waited.
    log.events(1);
    assert_eq!(log.after(AGE_LIMIT - 1), sealed);
    assert_eq!(log.after(1), sealed + 1);
    log.close();
}

#[test]
fn the_brokers_ends_are_written_down_regularly_and_before_each_seal_and_never_cause_one() {
    let mut log = Driven::new();
    let topic = Arc::new(embedded::topic("consent", "cluster", 1));
    let mut broker = Embedded::new([Arrival::Assigned { topic: Arc::clone(&topic), partition: 0, held: None }]);
    broker.ends = vec![End { topic, partition: 0, next: 0, low: 3, end: 9 }];
    log.sidecar.attach(Box::new(broker), Arc::from([embedded::rule(Which::All, "", Format::Auto)]));
    let observed = |log: &Driven| log.sidecar.status(log.now, true).entries.get("observed").copied().unwrap_or(0);
    log.after(0);
    assert_eq!((log.after(AGE_MAX - 1), observed(&log)), (0, 0));
    assert_eq!((log.after(1), observed(&log)), (0, 1));
    // The declared topic is no entry of our own: its clock is stopped by a seal, which has its own look.
    log.after(AGE_LIMIT);
    let (sealed, seen) = (log.sidecar.status(log.now, true).sealed.segments, observed(&log));
    assert_eq!(sealed, 1);
    for look in 1..=20 {
        assert_eq!((log.after(AGE_MAX), observed(&log)), (sealed, seen + look), "no look makes a segment");
    }
    let newest = log.sidecar.show(Seq(log.sidecar.size().0 - 1)).unwrap().unwrap();
    assert_eq!((&newest["kind"], &newest["clear"]["ends"]), (&"observed".into(), &json!([[0, 0, 3, 9]])), "{newest}");
    log.close();
}

#[test]
fn few_events_wait_for_the_limit_and_enough_for_the_age() {
    let mut log = Driven::new();
    log.events(ENTRIES_MIN / 2);
    assert_eq!(log.after(10 * AGE_MAX), 0, "fewer than entries_min wait");
    log.events(ENTRIES_MIN);
    assert_eq!(log.after(0), 1, "now there are enough, and the oldest is old");
    log.events(2_500);
    assert!(log.after(0) >= 3, "two full segments need no age");
    log.close();
}

#[test]
fn what_is_recorded_while_a_segment_is_cut_belongs_to_the_next() {
    let mut log = Driven::new();
    log.events(ENTRIES_MIN);
    log.now = log.now.plus(AGE_MAX);
    log.sidecar.step(log.now).unwrap();
    assert!(log.sidecar.is_sealing());
    let range = log.sidecar.size();
    log.events(500);
    assert!(!log.sidecar.is_sealing(), "a segment that was begun is ended with the file");
    let sealed = log.sidecar.status(log.now, true).sealed;
    assert_eq!((sealed.segments, sealed.size), (1, range.0));
    // They are as young as they were recorded, whatever the segment before them waited for.
    assert_eq!(log.after(AGE_MAX - 1), 1);
    assert_eq!(log.after(1), 2);
    log.close();
}
