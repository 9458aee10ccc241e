//! A fleet on a real broker: three sidecars of one group, each with its log, under load.
//!
//! The group is rebalanced, one member is killed, one is frozen until the others have its partitions and then thawed.
//! Together the logs must have every record, and declare what two of them have: by `verify --fleet`, and by a count of
//! our own over the rows of their registries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::binary::{Answer, Log, PATIENCE, Running};
use crate::peer::feed::{Feed, Place};
use crate::peer::kafka;

const PARTITIONS: i32 = 3;
/// Of both topics.
const PLACES: usize = 6;

/// A log that folds both topics of the feed in its group.
fn member(feed: &Feed, name: &str) -> Log {
    let log = Log::new(&format!("example.com/test/fleet/{name}"));
    log.set("entries_max = 65536", "entries_max = 2000");
    log.set("age_max = \"10m\"", "age_max = \"1s\"");
    log.set("entries_min = 256", "entries_min = 1");
    let source = feed.source(kafka::shared(), "group");
    let source = source.replace("name = \"fleet-", "shared = true\nname = \"fleet-");
    log.add(&source.replace("\"6000\" }", "\"6000\", \"heartbeat.interval.ms\" = \"500\" }"));
    log
}

/// The partitions a member has now.
fn owned(status: &Value) -> usize {
    status["sources"].as_array().unwrap().iter().filter(|row| !row["lag"].is_null()).count()
}

fn entries(status: &Value, kind: &str) -> u64 {
    status["entries"][kind].as_u64().unwrap_or(0)
}

/// Waits until the members are as wanted; each is given its status.
fn wait(members: &mut [(&Log, &mut Running)], what: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let statuses: Vec<Value> = members.iter().map(|(log, _)| log.status()).collect();
        if is_so(&statuses) {
            return statuses;
        }
        for (_, running) in members.iter_mut() {
            assert!(running.is_running(), "{what}: a member ended: {}", running.said());
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not in time: {statuses:?}");
        // The pace of looking.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn all_owned(statuses: &[Value]) -> bool {
    statuses.iter().map(owned).sum::<usize>() == PLACES && statuses.iter().all(|status| owned(status) > 0)
}

/// Freezes `zombie` in the middle of its work, until `other` has everything; thaws it, until it is a member again.
fn freeze((zombie, running): (&Log, &mut Running), (other, others): (&Log, &mut Running), feed: &Feed) {
    {
        let _hold = feed.hold();
        let before = entries(&zombie.status(), "event");
        // It finds these all at once, and is frozen again with most of them before it.
        running.signal(Signal::STOP);
        feed.send(3_000);
        running.signal(Signal::CONT);
        zombie.wait(running, "some of many", |status| entries(status, "event") > before + 20 || owned(status) == 0);
        running.signal(Signal::STOP);
    }
    wait(&mut [(other, others)], "the frozen member's partitions", |statuses| owned(&statuses[0]) == PLACES);
    running.signal(Signal::CONT);
    wait(&mut [(other, others), (zombie, running)], "the thawed member", all_owned);
}

#[test]
fn killed_and_frozen_members_lose_nothing_and_declare_what_two_have() {
    let begun = Instant::now();
    let feed = Feed::new(kafka::shared(), "fleet", PARTITIONS, 500);
    let [a, b, c] = ["a", "b", "c"].map(|name| member(&feed, name));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| feed.keep_sending(&stop));
        let _stop = StopAtEnd(&stop);
        let (mut run_a, mut run_b) = (a.start(), b.start());
        wait(&mut [(&a, &mut run_a), (&b, &mut run_b)], "two members", all_owned);
        let mut run_c = c.start();
        let three = wait(&mut [(&a, &mut run_a), (&b, &mut run_b), (&c, &mut run_c)], "three members", all_owned);
        eprintln!(
            "fleet: three members after {:.1} s: {:?}",
            begun.elapsed().as_secs_f64(),
            three.iter().map(owned).collect::<Vec<_>>()
        );
        c.wait(&mut run_c, "folding", |status| entries(status, "event") > 100);
        assert!(run_c.kill());
        wait(&mut [(&a, &mut run_a), (&b, &mut run_b)], "the killed member's partitions", all_owned);
        eprintln!("fleet: killed and taken over after {:.1} s", begun.elapsed().as_secs_f64());
        let mut rounds = 0;
        while entries(&b.status(), "overlap") == 0 {
            rounds += 1;
            assert!(rounds <= 4, "a member that was frozen at work four times has nothing to declare");
            freeze((&b, &mut run_b), (&a, &mut run_a), &feed);
        }
        eprintln!("fleet: frozen and thawed ({rounds}) after {:.1} s", begun.elapsed().as_secs_f64());
        stop.store(true, Ordering::SeqCst);
        let mut run_c = c.start();
        let _hold = feed.hold();
        wait(&mut [(&a, &mut run_a), (&b, &mut run_b), (&c, &mut run_c)], "everything read", |statuses| {
            let lag = |row: &Value| row["lag"].as_u64().unwrap_or(0);
            all_owned(statuses)
                && statuses.iter().all(|status| status["sources"].as_array().unwrap().iter().all(|row| lag(row) == 0))
        });
        for running in [&mut run_a, &mut run_b, &mut run_c] {
            assert_eq!(running.terminate().code(), Some(0), "{}", running.said());
        }
    });
    for log in [&a, &b, &c] {
        for stage in ["seal", "register"] {
            log.ok(&[stage]);
        }
    }
    let overlapping = assert_whole(&feed, &[&a, &b, &c]);
    eprintln!("fleet: {overlapping} offsets in two logs, all declared; {:.1} s", begun.elapsed().as_secs_f64());
}

/// `verify --fleet` of these logs.
fn verify(logs: &[&Log]) -> Answer {
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let mut args = vec!["verify".to_owned(), "--fleet".to_owned()];
    args.extend(logs.iter().map(|log| text(log.path("data/archive"))));
    for log in logs {
        args.extend(["--vkey".to_owned(), text(log.path("keys/log.vkey"))]);
    }
    logs[0].answer(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Asserts that nothing is lost and every overlap declared; gives how many offsets two logs have.
fn assert_whole(feed: &Feed, logs: &[&Log]) -> u64 {
    let (exit, report) = verify(logs);
    assert_eq!((exit, &report["findings_total"]), (10, &0.into()), "{report}");
    let held = feed.held();
    let counted = Counted::of(logs);
    assert_eq!(counted.faults(&held), Vec::<String>::new());
    let mut overlapping = 0;
    for row in report["partitions"].as_array().unwrap() {
        let place =
            (row["topic"].as_str().unwrap().to_owned(), i32::try_from(row["partition"].as_u64().unwrap()).unwrap());
        let expected = (held[&place], held[&place], counted.in_two(&place));
        let found = ["next_offset", "entries", "overlapping"].map(|name| row[name].as_u64().unwrap());
        assert_eq!((found[0], found[1], found[2]), expected, "{place:?}: {row}");
        overlapping += found[2];
    }
    // The count sees what it must see, and so does the command: without one of the logs something is missing.
    // A log whose own offsets are all at the end of their partitions is missed by nobody else's word: those are then 10.
    let mut exits = Vec::new();
    for missing in 0..logs.len() {
        let left: Vec<&Log> = (0..).zip(logs).filter(|(number, _)| *number != missing).map(|(_, log)| *log).collect();
        assert!(!Counted::of(&left).faults(&held).is_empty(), "log {missing} holds nothing of its own");
        exits.push(verify(&left).0);
    }
    assert!(exits.contains(&20) && exits.iter().all(|exit| [10, 20].contains(exit)), "{exits:?}");
    let mut undeclared = Counted::of(logs);
    undeclared.contested.clear();
    assert_eq!(undeclared.faults(&held).is_empty(), overlapping == 0);
    overlapping
}

/// What registries say, by partition.
#[derive(Default)]
struct Counted {
    /// The logs that have each offset.
    logs_of: BTreeMap<Place, BTreeMap<u64, BTreeSet<usize>>>,
    contested: BTreeMap<Place, BTreeSet<u64>>,
}

impl Counted {
    fn of(logs: &[&Log]) -> Counted {
        let mut counted = Counted::default();
        for (number, log) in logs.iter().enumerate() {
            counted.add(number, &log.path("data/registry.sqlite"));
        }
        counted
    }

    fn add(&mut self, log: usize, registry: &Path) {
        let connection = rusqlite::Connection::open(registry).unwrap();
        let rows = |select: &str| -> Vec<(Place, u64, u64)> {
            let mut statement = connection.prepare(select).unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?), row.get(2)?, row.get(3)?));
            statement.query_map([], row).unwrap().map(Result::unwrap).collect()
        };
        let entries =
            "SELECT topic, partition_no, record_offset, record_offset FROM entries WHERE record_offset IS NOT NULL";
        for (place, offset, _) in rows(entries) {
            let is_new = self.logs_of.entry(place).or_default().entry(offset).or_default().insert(log);
            assert!(is_new, "log {log} has offset {offset} twice");
        }
        for (place, first, last) in rows("SELECT topic, partition_no, first_offset, last_offset FROM contested_ranges")
        {
            self.contested.entry(place).or_default().extend(first..=last);
        }
    }

    /// The offsets that several logs have.
    fn in_two(&self, place: &Place) -> u64 {
        self.logs_of.get(place).map_or(0, |offsets| offsets.values().filter(|logs| logs.len() > 1).count() as u64)
    }

    fn faults(&self, held: &BTreeMap<Place, u64>) -> Vec<String> {
        let mut faults = Vec::new();
        for (place, count) in held {
            let (nothing, none) = (BTreeMap::new(), BTreeSet::new());
            let offsets = self.logs_of.get(place).unwrap_or(&nothing);
            let contested = self.contested.get(place).unwrap_or(&none);
            let lost: Vec<u64> = (0..*count).filter(|offset| !offsets.contains_key(offset)).collect();
            if !lost.is_empty() {
                faults.push(format!("{place:?}: {} records lost, the first {}", lost.len(), lost[0]));
            }
            if offsets.keys().any(|offset| offset >= count) {
                faults.push(format!("{place:?}: more than {count} records"));
            }
            let hidden = offsets.iter().filter(|(offset, logs)| logs.len() > 1 && !contested.contains(offset)).count();
            if hidden > 0 {
                faults.push(format!("{place:?}: {hidden} records in two logs and not declared"));
            }
        }
        faults
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
