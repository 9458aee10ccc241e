//! `verify --fleet` with the real binary: logs of members made here, each fault planted once.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use pinfold::core::car::Limits;
use pinfold::core::decode::Format;
use pinfold::core::record::Record;
use pinfold::core::segment::read::Proof;
use pinfold::core::seq::Seq;
use pinfold::core::time::Timestamp;
use pinfold::ingest::{Arrival, Arrived, GapWhy, Standing, Topic};
use pinfold::sidecar::{Sidecar, TopicRule, Which};
use serde_json::Value;

use crate::adopt::Place;
use crate::binary::{Answer, answer};
use crate::embedded::{self, Embedded};
use crate::line::codes;

const START: Timestamp = Timestamp(1_767_225_600_000_000);

/// What a member did with offsets of partition 0.
#[derive(Clone, Copy)]
enum Did {
    /// Folded them.
    Fold(u64, u64),
    /// Said that another member has them.
    Point(u64, u64),
}
use Did::{Fold, Point};

/// The logs of a fleet.
struct Fleet {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

fn topic() -> Arc<Topic> {
    Arc::new(Topic { shared: true, ..embedded::topic("consent", "cluster", 1) })
}

fn arrivals(did: &[Did]) -> Vec<Arrival> {
    let (topic, partition) = (topic(), 0);
    let one = |did: &Did| match *did {
        Fold(first, last) => {
            let record = |offset| Record { value: Some(format!("record {offset}").into_bytes()), ..Record::default() };
            let records = (first..=last).map(|offset| Arrived { offset, record: record(offset), cut: None }).collect();
            Arrival::Records { topic: topic.clone(), partition, records, state: Vec::new() }
        }
        Point(first, last) => Arrival::Gap { topic: topic.clone(), partition, first, last, why: GapWhy::OtherMember },
    };
    let assigned = Arrival::Assigned { topic: topic.clone(), partition, held: None };
    [assigned].into_iter().chain(did.iter().map(one)).collect()
}

impl Fleet {
    fn new() -> Fleet {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        Fleet { dir: tempfile::tempdir().unwrap(), runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A member's log with two segments: the broker's word before the seals is `standing`.
    fn member(&self, name: &str, standing: Standing, did: &[Did]) {
        let dir = self.path(name);
        let origin = format!("example.com/fleet/{name}");
        let writer = embedded::log(&dir, &origin, START);
        std::fs::write(self.path(&format!("{name}.vkey")), embedded::key(&origin).vkey().to_string()).unwrap();
        let settings = embedded::settings(&dir.join("archive"));
        let mut sidecar = Sidecar::new(writer, Vec::new(), Vec::new(), settings, self.runtime.handle()).unwrap();
        let rules: Arc<[TopicRule]> = Arc::from([embedded::rule(Which::All, "", Format::Auto)]);
        let half = did.len() / 2;
        for part in [&did[..half], &did[half..]] {
            let mut source = Embedded::new(arrivals(part));
            source.standing = standing;
            sidecar.attach(Box::new(source), Arc::clone(&rules));
            while !sidecar.is_read() {
                sidecar.step(START).unwrap();
            }
            sidecar.seal_now(START).unwrap();
        }
        sidecar.close().unwrap();
        let newest = std::fs::File::open(self.file(name, 1)).unwrap();
        let head = Proof::open(newest, Limits::default()).unwrap().seal().checkpoint.clone();
        std::fs::write(self.path(&format!("{name}.head")), head).unwrap();
    }

    /// The proof file of a member's segment.
    fn file(&self, name: &str, segment: u64) -> PathBuf {
        self.path(name).join(format!("archive/{segment:06}.proof.car"))
    }

    /// `verify --fleet` of these members, with more arguments.
    fn verify(&self, members: &[&str], more: &[&str]) -> Answer {
        let mut args = vec!["verify".to_owned(), "--fleet".to_owned()];
        args.extend(members.iter().map(|name| self.path(name).join("archive").display().to_string()));
        for name in members {
            args.extend(["--vkey".to_owned(), self.path(&format!("{name}.vkey")).display().to_string()]);
        }
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args.push("--json".to_owned());
        let output = Command::new(env!("CARGO_BIN_EXE_pinfold")).args(&args).output().unwrap();
        answer(&["verify", "--fleet"], &output)
    }
}

/// Three members that handed the partition over twice.
fn three() -> Fleet {
    let fleet = Fleet::new();
    fleet.member("a", Standing::Held, &[Fold(0, 9), Point(10, 19), Fold(20, 24)]);
    fleet.member("b", Standing::Held, &[Point(0, 9), Fold(10, 19)]);
    fleet.member("c", Standing::Held, &[Point(0, 24), Fold(25, 29)]);
    fleet
}

fn places<'a>(report: &'a Value, code: &str) -> Vec<&'a str> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["code"] == code);
    findings.map(|finding| finding["place"].as_str().unwrap()).collect()
}

fn fleet_check(report: &Value) -> &Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "fleet").unwrap()
}

#[test]
fn members_that_hold_everything_once_are_valid_together() {
    let fleet = three();
    let (exit, report) = fleet.verify(&["a", "b", "c"], &[]);
    assert_eq!((exit, &report["verdict"], codes(&report)), (10, &"valid".into(), vec![]), "{report}");
    let [row] = report["partitions"].as_array().unwrap().as_slice() else { panic!("{report}") };
    let numbers =
        ["next_offset", "entries", "logs", "overlapping", "contested"].map(|name| row[name].as_u64().unwrap());
    assert_eq!((numbers, &row["topic"]), ([30, 30, 3, 0, 0], &"consent".into()));
    let origins: Vec<&Value> = report["members"].as_array().unwrap().iter().map(|member| &member["origin"]).collect();
    assert_eq!(origins, ["example.com/fleet/a", "example.com/fleet/b", "example.com/fleet/c"]);
    assert_eq!(fleet_check(&report)["status"], "ok");
    // Each member's head, known from elsewhere, confirms the fleet; one that is missing does not.
    let heads: Vec<String> =
        ["a", "b", "c"].iter().map(|name| fleet.path(name).display().to_string() + ".head").collect();
    let known =
        |heads: &[String]| heads.iter().flat_map(|head| ["--known-head".to_owned(), head.clone()]).collect::<Vec<_>>();
    let verify = |members: &[&str], heads: &[String]| {
        let args = known(heads);
        fleet.verify(members, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(verify(&["a", "b", "c"], &heads).0, 0);
    assert_eq!(verify(&["a", "b", "c"], &heads[..2]).0, 10);
    assert_eq!(fleet.verify(&["a", "b", "c"], &["--allow-unanchored"]).0, 0);
    assert_eq!(verify(&["a", "b"], &heads).0, 2, "a head of no member is a wrong call");
    assert_eq!(fleet.verify(&["a", "b", "a"], &[]).0, 2, "a log does not vouch for itself");
}

#[test]
fn a_member_that_is_missing_leaves_a_hole() {
    let fleet = three();
    let (exit, report) = fleet.verify(&["a", "c"], &[]);
    assert_eq!(
        (exit, &report["verdict"], codes(&report)),
        (20, &"incomplete".into(), vec!["offset-gap"; 2]),
        "{report}"
    );
    let place = "topic consent of cluster cluster, partition 0, offsets 10 to 19";
    assert_eq!(places(&report, "offset-gap"), [place, place]);
    let finding = &report["findings"][0];
    assert_eq!(finding["found"], "only the word of example.com/fleet/a (other member)");
    assert!(finding["hint"].as_str().unwrap().contains("every member"), "{finding}");
    assert_eq!(fleet_check(&report)["status"], "failed");
}

#[test]
fn a_hole_that_all_members_point_away_from_is_found() {
    let fleet = Fleet::new();
    fleet.member("a", Standing::Held, &[Fold(0, 9), Point(10, 14), Fold(15, 19)]);
    fleet.member("b", Standing::Held, &[Point(0, 11), Fold(12, 14), Point(15, 17), Point(18, 25), Fold(26, 26)]);
    let (exit, report) = fleet.verify(&["a", "b"], &[]);
    assert_eq!(exit, 20, "{report}");
    let offsets = |place: &&str| place.split_once("offsets ").unwrap().1.to_owned();
    let found: Vec<String> = places(&report, "offset-gap").iter().map(offsets).collect();
    assert_eq!(found, ["10 to 11", "10 to 11", "20 to 25"]);
}

#[test]
fn an_overlap_is_tampering_unless_it_is_declared() {
    let (folded, other) = ([Fold(0, 4), Fold(5, 9)], [Point(0, 6), Fold(7, 14)]);
    let fleet = Fleet::new();
    fleet.member("a", Standing::Held, &folded);
    fleet.member("b", Standing::Held, &other);
    let (exit, report) = fleet.verify(&["a", "b"], &[]);
    assert_eq!(
        (exit, &report["verdict"], codes(&report)),
        (40, &"tampered".into(), vec!["offset-overlap"]),
        "{report}"
    );
    assert_eq!(places(&report, "offset-overlap"), ["topic consent of cluster cluster, partition 0, offsets 7 to 9"]);
    // The same with a broker that said before the seals that the partition was no longer this member's.
    let fleet = Fleet::new();
    fleet.member("a", Standing::Contested, &folded);
    fleet.member("b", Standing::Held, &other);
    let (exit, report) = fleet.verify(&["a", "b"], &[]);
    assert_eq!((exit, codes(&report)), (10, vec![]), "{report}");
    let row = &report["partitions"][0];
    assert_eq!((&row["overlapping"], &row["contested"]), (&3.into(), &10.into()));
}

#[test]
fn each_member_is_audited_and_the_worst_verdict_counts() {
    let fleet = three();
    let no_vkey = |member: &str| std::fs::write(fleet.path(&format!("{member}.vkey")), "").unwrap();
    no_vkey("b");
    let (exit, report) = fleet.verify(&["a", "b", "c"], &[]);
    assert_eq!((exit, &report["verdict"]), (50, &"cannot check".into()), "{report}");
    assert_eq!(fleet.verify(&["a", "b"], &[]).0, 50);
    assert_eq!(fleet.verify(&["b", "c"], &[]).0, 20, "incomplete comes before what could not be checked");
    let path = fleet.file("a", 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (exit, report) = fleet.verify(&["a", "b", "c"], &[]);
    assert_eq!((exit, &report["members"][0]["verdict"]), (40, &"tampered".into()), "{report}");
    assert!(places(&report, "block-hash")[0].starts_with("example.com/fleet/a: "), "{report}");
    // What the damaged segment held is not shown by anybody.
    assert!(codes(&report).contains(&"offset-gap"), "{report}");
}

#[test]
fn what_a_killed_member_left_open_is_declared_at_its_next_start() {
    let place = Place::new();
    // One life of the member; gives how many overlaps its log has declared by the end.
    let life = |did: &[Did], ends_in_order: bool| {
        let mut sidecar = place.open();
        let rules: Arc<[TopicRule]> = Arc::from([embedded::rule(Which::All, "", Format::Auto)]);
        sidecar.attach(Box::new(Embedded::new(arrivals(did))), rules);
        while !sidecar.is_read() {
            sidecar.step(START).unwrap();
        }
        if ends_in_order {
            sidecar.settle().unwrap();
        }
        let declared = sidecar.status(START, true).entries.get("overlap").copied().unwrap_or(0);
        // Nothing is asked of the broker here: what is durable is what a kill leaves.
        sidecar.close().unwrap();
        declared
    };
    assert_eq!(life(&[Point(0, 2), Fold(3, 9)], false), 0);
    assert_eq!(life(&[Fold(10, 12)], true), 1, "the broker never said that 3 to 9 are ours");
    assert_eq!(life(&[Fold(13, 13)], false), 1, "it said so of 10 to 12");
    assert_eq!(life(&[], false), 2);
    let sidecar = place.open();
    let entries = (0..sidecar.size().0).map(|seq| sidecar.show(Seq(seq)).unwrap().unwrap());
    let overlaps = entries.filter(|entry| entry["kind"] == "overlap");
    let ranges: Vec<(Value, Value)> =
        overlaps.map(|entry| (entry["clear"]["first"].clone(), entry["clear"]["last"].clone())).collect();
    assert_eq!(ranges, [(3.into(), 9.into()), (13.into(), 13.into())]);
}
