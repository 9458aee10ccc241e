//! Every class of missing offsets on real brokers, with the real binary: what is written, or why it halts.
//!
//! What the logs say is counted again from the bytes of their archives, in the plainest way: every offset from 0 up to
//! where the partition stands is an entry or lies in one declared range. `docs/completeness.md` is the table of these.

use std::collections::{BTreeMap, BTreeSet};

use pinfold::core::car::Limits;
use pinfold::core::leaf::{Body, LeafView};
use pinfold::core::position::Partition;
use pinfold::core::segment::read::Proof;
use rustix::process::Signal;
use serde_json::Value;

use crate::binary::{Log, Running};
use crate::line::event;
use crate::peer::cluster::Cluster;
use crate::peer::kafka::{self, Kafka};

/// A log of these topics.
fn log(name: &str, brokers: &[String], topics: &[&str]) -> Log {
    let log = Log::new(&format!("example.com/test/gaps/{name}"));
    log.set("entries_max = 65536", "entries_max = 100");
    let topics = topics.iter().map(|name| format!("[[source.redpanda.topic]]\nname = \"{name}\"\n"));
    log.add(&format!(
        "[source.redpanda]\nkind = \"kafka\"\nbrokers = {brokers:?}\nassignment = \"static\"\n\
         librdkafka = {{ \"topic.metadata.refresh.interval.ms\" = \"500\", \"reconnect.backoff.max.ms\" = \"500\" }}\n{}",
        topics.collect::<String>()
    ));
    log
}

fn events(topic: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| event(topic, number)).collect()
}

/// A range of offsets without entries: first, last and reason.
type Gap = (u64, u64, &'static str);

/// One partition of one topic number, as the archive has it.
#[derive(Default, Debug)]
struct Account {
    topic: String,
    why: &'static str,
    entries: Vec<u64>,
    gaps: Vec<Gap>,
    /// The end the broker had when it was observed last.
    end: Option<u64>,
}

impl Account {
    /// The next offset, after every offset before it was found exactly once.
    fn next(&self) -> u64 {
        let gaps = self.gaps.iter().flat_map(|(first, last, _)| *first..=*last);
        let mut seen = BTreeSet::new();
        for offset in self.entries.iter().copied().chain(gaps) {
            assert!(seen.insert(offset), "offset {offset} twice: {self:?}");
        }
        let next = seen.last().map_or(0, |last| last + 1);
        assert_eq!(seen.len() as u64, next, "not every offset: {self:?}");
        next
    }
}

/// All partitions of an archive that `verify` finds whole.
fn accounts(log: &Log) -> BTreeMap<(u64, u64), Account> {
    let (exit, report) = log.verify(&log.path("data/archive"));
    assert_eq!((exit, &report["findings_total"]), (10, &0.into()), "{report}");
    let (mut accounts, mut topics) = (BTreeMap::<(u64, u64), Account>::new(), BTreeMap::new());
    for segment in 0..report["segments"].as_u64().unwrap() {
        let file = std::fs::File::open(log.path(&format!("data/archive/{segment:06}.proof.car"))).unwrap();
        let mut proof = Proof::open(file, Limits::default()).unwrap();
        let before: BTreeMap<_, _> = accounts.iter().map(|(place, account)| (*place, account.next())).collect();
        while let Some(page) = proof.page().unwrap() {
            let mut rest = page.bytes;
            for _ in 0..page.count {
                let (leaf, after) = LeafView::decode_prefix(rest).unwrap();
                rest = after;
                add(&mut accounts, &mut topics, &leaf);
            }
        }
        // What the seal says of its sources is what its leaves say.
        let moved =
            accounts.iter().map(|(place, account)| (*place, before.get(place).copied().unwrap_or(0), account.next()));
        let moved: Vec<_> = moved.filter(|(_, first, next)| first != next).collect();
        let sources = proof.seal().sources.iter();
        let sources: Vec<_> =
            sources.map(|row| ((row.partition.topic_no, row.partition.partition), row.first, row.next)).collect();
        assert_eq!(sources, moved, "segment {segment}");
    }
    for ((topic_no, _), account) in &mut accounts {
        (account.topic, account.why) = topics[topic_no].clone();
    }
    accounts
}

fn add(
    accounts: &mut BTreeMap<(u64, u64), Account>,
    topics: &mut BTreeMap<u64, (String, &'static str)>,
    leaf: &LeafView<'_>,
) {
    let mut say = |partition: Partition, say: &mut dyn FnMut(&mut Account)| {
        assert!(topics.contains_key(&partition.topic_no), "declared before");
        say(accounts.entry((partition.topic_no, partition.partition)).or_default());
    };
    match (leaf.src, leaf.body().unwrap()) {
        (Some(src), _) => say(src.partition(), &mut |account| account.entries.push(src.offset)),
        (None, Body::TopicDeclared(topic)) => {
            topics.insert(topic.topic_no, (topic.name, topic.why.as_str()));
        }
        (None, Body::Gap(ranges)) => {
            for range in ranges {
                let gap = (range.first, range.last, range.reason.as_str());
                say(range.partition, &mut |account| account.gaps.push(gap));
            }
        }
        (None, Body::Observed { ends, .. }) => {
            ends.into_iter().for_each(|end| say(end.partition, &mut |account| account.end = Some(end.end)));
        }
        _ => {}
    }
}

/// The accounts of a topic, by topic number and partition: what it was declared for, next offset, entries and gaps.
fn of(accounts: &BTreeMap<(u64, u64), Account>, topic: &str) -> Vec<(&'static str, u64, usize, Vec<Gap>)> {
    let its = accounts.values().filter(|account| account.topic == topic);
    its.map(|account| {
        let next = account.next();
        if let Some(end) = account.end {
            assert!(next >= end, "{topic}: complete to the tail that was observed");
        }
        (account.why, next, account.entries.len(), account.gaps.clone())
    })
    .collect()
}

/// Runs until everything is read, sealed and registered.
fn read_all(log: &Log) {
    log.ok(&["run", "--until-idle", "--timeout", "100s"]);
}

/// It ends by a halt that every start repeats, and the hint names `topic adopt`.
fn assert_halts(log: &Log, ended: Option<Running>, code: &str, messages: &[&str]) {
    if let Some(mut running) = ended {
        assert_eq!(running.end().code(), Some(4), "{}", running.said());
    }
    let is_said = |said: &str| messages.iter().any(|message| said.contains(message));
    for command in [&["run", "--until-idle", "--timeout", "60s"][..], &["run"]] {
        let (exit, answer) = log.answer(command);
        let error = &answer["error"];
        assert_eq!(exit, 4, "{answer}");
        assert!(error["hint"].as_str().unwrap().contains("topic adopt"), "{answer}");
    }
    let (exit, status) = log.answer(&["status"]);
    let halted = &status["halted"];
    assert_eq!(exit, 4, "{status}");
    assert_eq!(halted["code"], code, "{halted}");
    assert!(is_said(halted["message"].as_str().unwrap()), "{halted}");
}

/// Adopts the one topic that diverged; gives its new number and why.
fn adopt(log: &Log) -> Value {
    let answer = log.ok(&["topic", "adopt"]);
    let adopted = answer["adopted"].as_array().unwrap();
    assert_eq!(adopted.len(), 1, "{answer}");
    adopted[0].clone()
}

/// The rows of `gaps` and of `v_offset_gaps`.
fn rows(log: &Log, select: &str) -> Vec<(String, u64, u64, u64, String)> {
    let connection = rusqlite::Connection::open(log.path("data/registry.sqlite")).unwrap();
    let mut statement = connection.prepare(select).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_a_broker_does_to_offsets_becomes_the_entry_that_says_so() {
    let broker = kafka::shared();
    let topics = ["gaps-tx", "gaps-retention", "gaps-anew", "gaps-grown"];
    topics.iter().for_each(|topic| broker.create_topic(topic, 1));
    let log = log("classes", &[broker.brokers()], &topics);
    broker.transaction("gaps-tx", 0, &events("gaps-tx", 0..3), true);
    broker.transaction("gaps-tx", 0, &events("gaps-tx", 3..6), false);
    broker.transaction("gaps-tx", 0, &events("gaps-tx", 6..9), true);
    broker.produce("gaps-retention", 0, &events("gaps-retention", 0..10));
    broker.delete_records("gaps-retention", 0, 2);
    broker.produce("gaps-anew", 0, &events("gaps-anew", 0..5));
    broker.produce("gaps-grown", 0, &events("gaps-grown", 0..4));
    read_all(&log);
    let found = accounts(&log);
    assert_eq!(of(&found, "gaps-tx"), [("new", 12, 6, vec![(3, 7, "unattributed"), (11, 11, "unattributed")])]);
    assert_eq!(of(&found, "gaps-retention"), [("new", 10, 8, vec![(0, 1, "before this log")])]);
    assert_eq!(of(&found, "gaps-anew"), [("new", 5, 5, vec![])]);

    // Nothing of the log runs: the topic is deleted, made again, and longer than our position. No client sees that.
    broker.delete_topic("gaps-anew");
    broker.create_topic("gaps-anew", 1);
    broker.produce("gaps-anew", 0, &events("gaps-anew", 5..14));
    broker.produce("gaps-retention", 0, &events("gaps-retention", 10..20));
    broker.delete_records("gaps-retention", 0, 15);
    broker.grow_topic("gaps-grown", 3);
    broker.produce("gaps-grown", 2, &events("gaps-grown", 4..6));
    read_all(&log);
    let found = accounts(&log);
    let lost = vec![(0, 1, "before this log"), (10, 14, "retention loss")];
    assert_eq!(of(&found, "gaps-retention"), [("new", 20, 13, lost)]);
    assert_eq!(of(&found, "gaps-anew"), [("new", 5, 5, vec![]), ("re-created", 9, 9, vec![])]);
    let grown = of(&found, "gaps-grown");
    assert_eq!((grown[0].0, grown[0].2, grown.last().unwrap().2), ("more partitions", 4, 2), "{grown:?}");

    // The same in SQL: one row a gap, and nothing that is unaccounted for.
    let gaps = rows(
        &log,
        "SELECT topic, partition_no, first_offset, last_offset, reason FROM gaps ORDER BY topic, first_offset",
    );
    let reasons: Vec<&str> = gaps.iter().map(|gap| gap.4.as_str()).collect();
    assert_eq!(reasons, ["before this log", "retention loss", "unattributed", "unattributed"], "{gaps:?}");
    assert_eq!(rows(&log, "SELECT topic, partition_no, first_offset, last_offset, place FROM v_offset_gaps"), []);
}

#[test]
fn a_compacted_topic_is_named_at_start_and_what_it_lost_is_a_gap() {
    let broker = kafka::shared();
    broker.create_topic("gaps-compacted", 1);
    // All of one key: compaction leaves the last record of what it may touch.
    broker.produce("gaps-compacted", 0, &events("gaps-compacted", 0..20));
    let options = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.001")];
    broker.set_topic_options("gaps-compacted", &options);
    broker.wait_compacted("gaps-compacted", || broker.produce("gaps-compacted", 0, &events("gaps-compacted", 20..21)));
    let log = log("compacted", &[broker.brokers()], &["gaps-compacted"]);
    let mut running = log.start();
    log.wait(&mut running, "all of it", |status| status["sources"][0]["lag"] == 0);
    let said = running.said();
    assert!(said.contains("the topic is compacted") && said.contains("gaps-compacted"), "{said}");
    assert_eq!(running.terminate().code(), Some(0));
    read_all(&log);
    let found = accounts(&log);
    let [(_, next, entries, gaps)] = &of(&found, "gaps-compacted")[..] else { panic!("{found:?}") };
    assert!(*entries > 0 && (*entries as u64) < *next, "{found:?}");
    // What vanished before the first record that is left came before this log; what vanished later has no reason.
    assert!(gaps.iter().all(|(_, _, reason)| ["before this log", "unattributed"].contains(reason)), "{gaps:?}");
}

#[test]
fn the_same_topic_at_another_cluster_halts_and_is_adopted() {
    let (first, other) = (kafka::shared(), Kafka::start());
    for (broker, count) in [(first, 3), (&other, 4)] {
        broker.create_topic("gaps-moved", 1);
        broker.produce("gaps-moved", 0, &events("gaps-moved", 0..count));
    }
    let log = log("moved", &[first.brokers()], &["gaps-moved"]);
    read_all(&log);
    log.set(&first.brokers(), &other.brokers());
    assert_halts(&log, None, "cluster-changed", &["declared at cluster"]);
    assert_eq!(adopt(&log)["why"], "cluster changed");
    read_all(&log);
    let found = accounts(&log);
    assert_eq!(of(&found, "gaps-moved"), [("new", 3, 3, vec![]), ("cluster changed", 4, 4, vec![])]);
}

#[test]
fn a_history_cut_by_an_unclean_election_is_met_live_and_at_the_next_start() {
    let cluster = Cluster::start();
    // One log reads on while the history is cut, the other one is not running then.
    let topics = ["cut-live", "cut-stopped"];
    topics.iter().for_each(|topic| cluster.create_unclean_topic(topic, &[1, 2]));
    let [live, stopped] = topics.map(|topic| log(topic, &cluster.brokers(), &[topic]));
    // And one reads a topic whose leader goes the same way, but leaves all of it behind.
    cluster.create_unclean_topic("kept", &[1, 3]);
    let kept = log("kept", &cluster.brokers(), &["kept"]);
    cluster.produce("kept", &events("kept", 0..100));
    cluster.wait_leader("kept", 1, &[1, 3]);
    let mut keeping = kept.start();
    kept.wait(&mut keeping, "what the first leader took", |status| status["sources"][0]["next_offset"] == 100);
    topics.iter().for_each(|topic| cluster.produce(topic, &events(topic, 0..100)));
    topics.iter().for_each(|topic| cluster.wait_leader(topic, 1, &[1, 2]));
    // The follower hangs; what the leader takes now is on no other node.
    cluster.signal(2, Signal::STOP);
    topics.iter().for_each(|topic| cluster.wait_leader(topic, 1, &[1]));
    topics.iter().for_each(|topic| cluster.produce(topic, &events(topic, 100..150)));
    read_all(&stopped);
    let mut running = live.start();
    live.wait(&mut running, "what only the leader has", |status| status["sources"][0]["next_offset"] == 150);
    // The leader is gone, and the follower leads, without the last fifty; it goes on from a hundred, and further.
    cluster.signal(1, Signal::STOP);
    cluster.signal(2, Signal::CONT);
    topics.iter().for_each(|topic| cluster.wait_leader(topic, 2, &[2]));
    topics.iter().for_each(|topic| cluster.produce(topic, &events(topic, 1_000..1_080)));
    cluster.wait_leader("kept", 3, &[3]);
    cluster.produce("kept", &events("kept", 100..180));
    cluster.signal(1, Signal::CONT);

    // The client says so, or the last record read again from the new leader.
    let another = "the record that was archived from offset 149 is another one";
    assert_halts(&live, Some(running), "rewritten-history", &["we are at offset 150", another]);
    assert_halts(&stopped, None, "rewritten-history", &[another]);
    // A leader that has all of it is asked for the last record too, and goes on.
    kept.wait(&mut keeping, "what the next leader took", |status| status["sources"][0]["next_offset"] == 180);
    assert!(keeping.said().contains("another leader"), "{}", keeping.said());
    assert_eq!(keeping.terminate().code(), Some(0), "{}", keeping.said());
    read_all(&kept);
    assert_eq!(of(&accounts(&kept), "kept"), [("new", 180, 180, vec![])]);
    for log in [&live, &stopped] {
        assert_eq!(adopt(log)["why"], "truncated");
        read_all(log);
    }
    for (log, topic) in [(&live, "cut-live"), (&stopped, "cut-stopped")] {
        let found = accounts(log);
        assert_eq!(of(&found, topic), [("new", 150, 150, vec![]), ("truncated", 180, 180, vec![])]);
    }
}
