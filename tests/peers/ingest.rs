//! The Kafka source against a real broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pinfold::ingest::kafka::{Assignment, Kafka as Source_, Options, Start, TopicFilter, probe};
use pinfold::ingest::{
    Again, Arrival, Budget, GapWhy, Held, Positions, Reached, Source, SourceError, Standing, Topic, TroubleKind,
};

use crate::peer::kafka::{self, Kafka, values};

const PATIENCE: Duration = Duration::from_secs(90);

/// The journal's side of the port: holds positions, and every rule the port promises.
#[derive(Default)]
struct Log(Mutex<State>);

#[derive(Default)]
struct State {
    partitions: BTreeMap<(String, String, u32), Partition>,
    revoked: Vec<(String, u32)>,
    grown: Vec<(String, u32)>,
    assigned: usize,
}

/// One partition of one very topic: each offset is a value or a reason.
#[derive(Default, Clone)]
struct Partition {
    next: u64,
    last: Option<u64>,
    values: BTreeMap<u64, String>,
    gaps: Vec<(u64, u64, GapWhy)>,
    again: Vec<(u64, Option<String>)>,
    /// What stood for a last record that was not there.
    missing: Vec<Again>,
}

impl Positions for Log {
    fn held(&self, topic: &Topic, partition: u32) -> Option<Held> {
        let state = self.0.lock().unwrap();
        let key = (topic.name.clone(), topic.topic_id.clone(), partition);
        let found = state.partitions.get(&key).filter(|found| found.next > 0)?;
        Some(Held { next: found.next, last: found.last, state: Vec::new() })
    }
}

impl Log {
    fn take(&self, arrival: Arrival) {
        let mut state = self.0.lock().unwrap();
        match arrival {
            Arrival::Assigned { topic, partition, held } => {
                assert!(!topic.topic_id.is_empty() && !topic.cluster.is_empty(), "{topic:?}");
                let found = state.partition(&topic, partition);
                assert_eq!(held.map_or(0, |held| held.next), found.next, "our position was asked");
                state.assigned += 1;
            }
            Arrival::Revoked { topic, partition, .. } => state.revoked.push((topic.name.clone(), partition)),
            Arrival::Contested { first, last, .. } => assert!(first <= last),
            Arrival::Grown { topic } => state.grown.push((topic.name.clone(), topic.partitions)),
            Arrival::Last { topic, partition, offset, again } => {
                let found = state.partition(&topic, partition);
                assert_eq!(found.last, Some(offset));
                let value = match again {
                    Again::Record(record) => Some(text(record.value)),
                    missing => {
                        found.missing.push(missing);
                        None
                    }
                };
                found.again.push((offset, value));
            }
            Arrival::Gap { topic, partition, first, last, why } => {
                let found = state.partition(&topic, partition);
                assert_eq!(first, found.next, "a gap begins where we are");
                found.gaps.push((first, last, why));
                found.next = last + 1;
            }
            Arrival::Records { topic, partition, records, .. } => {
                let found = state.partition(&topic, partition);
                for arrived in records {
                    assert_eq!(arrived.offset, found.next, "no record twice, no silent hole");
                    found.values.insert(arrived.offset, text(arrived.record.value));
                    (found.next, found.last) = (arrived.offset + 1, Some(arrived.offset));
                }
            }
        }
    }

    fn reached(&self) -> Vec<Reached> {
        let state = self.0.lock().unwrap();
        let reached = |((topic, _, partition), found): (&(String, String, u32), &Partition)| Reached {
            topic: topic.clone(),
            partition: *partition,
            next: found.next,
        };
        state.partitions.iter().map(reached).collect()
    }

    /// All values of a topic, whatever its partition and id.
    fn values(&self, topic: &str) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let of = state.partitions.iter().filter(|((name, _, _), _)| name == topic);
        of.flat_map(|(_, found)| found.values.values().cloned()).collect()
    }

    fn partitions(&self, topic: &str) -> Vec<Partition> {
        let state = self.0.lock().unwrap();
        state.partitions.iter().filter(|((name, _, _), _)| name == topic).map(|(_, found)| found.clone()).collect()
    }

    /// The one partition of the one topic of this name.
    fn only(&self, topic: &str) -> Partition {
        let mut found = self.partitions(topic);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }
}

impl State {
    fn partition(&mut self, topic: &Topic, partition: u32) -> &mut Partition {
        self.partitions.entry((topic.name.clone(), topic.topic_id.clone(), partition)).or_default()
    }
}

fn text(value: Option<Vec<u8>>) -> String {
    String::from_utf8(value.expect("a value")).unwrap()
}

/// A member: a log and its source.
struct Member {
    log: Arc<Log>,
    source: Source_,
}

impl Member {
    fn start(log: &Arc<Log>, options: Options) -> Member {
        let source = Source_::start(options, Arc::clone(log) as Arc<dyn Positions>).expect("a source");
        Member { log: Arc::clone(log), source }
    }

    /// One poll: what arrives is durable before the next.
    fn poll(&mut self, records_max: usize) -> Result<usize, SourceError> {
        let budget = Budget { records_max, bytes_max: 1 << 20, wait: Duration::from_millis(50) };
        let arrivals = self.source.poll(budget)?;
        let count = arrivals.len();
        arrivals.into_iter().for_each(|arrival| self.log.take(arrival));
        if count > 0 {
            self.source.committed(&self.log.reached())?;
        }
        Ok(count)
    }

    fn until(&mut self, what: &str, mut is_met: impl FnMut(&Member) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_met(self) {
            self.poll(1000).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(Instant::now() < deadline, "{what}: not in time; trouble: {:?}", self.source.trouble());
        }
    }

    fn until_idle(&mut self) {
        self.until("idle", |member| member.source.is_idle());
    }

    fn until_error(&mut self) -> SourceError {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Err(error) = self.poll(1000) {
                return error;
            }
            assert!(Instant::now() < deadline, "no error; trouble: {:?}", self.source.trouble());
        }
    }
}

fn options(broker: &Kafka, topic: &str) -> Options {
    let librdkafka = [
        ("session.timeout.ms", "3000"),
        ("heartbeat.interval.ms", "300"),
        ("reconnect.backoff.max.ms", "500"),
        ("topic.metadata.refresh.interval.ms", "500"),
    ];
    Options {
        name: "redpanda".to_owned(),
        brokers: vec![broker.brokers()],
        assignment: Assignment::Group { group: format!("group-{topic}"), instance: format!("{topic}-1") },
        topics: vec![TopicFilter::Name(topic.to_owned())],
        start: Start::Earliest,
        is_shared: false,
        librdkafka: librdkafka.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    }
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

#[test]
fn every_record_once_over_restarts() {
    let broker = kafka::shared();
    broker.create_topic("restarts", 4);
    let mut expected = Vec::new();
    for partition in 0..4 {
        let produced = values(&format!("p{partition}"), 500);
        broker.produce("restarts", partition, &produced);
        expected.extend(produced);
    }
    let log = Arc::new(Log::default());
    // Each life takes a few records and ends with more in its buffer.
    for life in 1..=5 {
        let mut member = Member::start(&log, options(broker, "restarts"));
        let wanted = life * 150;
        member.until("some records", |member| member.log.values("restarts").len() >= wanted);
        drop(member);
        assert!(log.values("restarts").len() < 2000);
    }
    let mut member = Member::start(&log, options(broker, "restarts"));
    member.until_idle();
    assert_eq!(sorted(log.values("restarts")), sorted(expected));
    for (number, partition) in log.partitions("restarts").iter().enumerate() {
        assert!(partition.gaps.is_empty());
        for (offset, value) in &partition.again {
            assert_eq!(value.as_ref(), Some(&format!("p{number}-{offset}")), "the last record was read again");
        }
    }
    let ends = member.source.ends();
    assert_eq!(ends.len(), 4);
    assert!(ends.iter().all(|end| end.end == 500 && end.next == 500 && end.lag() == 0), "{ends:?}");
}

#[test]
fn two_members_share_and_hand_over_without_loss_or_double() {
    let broker = kafka::shared();
    broker.create_topic("members", 4);
    let shared = |instance: &str| {
        let group = "group-members".to_owned();
        let assignment = Assignment::Group { group, instance: instance.to_owned() };
        Options { assignment, is_shared: true, ..options(broker, "members") }
    };
    let produce = |prefix: &str| -> Vec<String> {
        let produced = (0..4).map(|partition| (partition, values(&format!("{prefix}{partition}"), 100)));
        let produced: Vec<(i32, Vec<String>)> = produced.collect();
        produced.iter().for_each(|(partition, values)| broker.produce("members", *partition, values));
        produced.into_iter().flat_map(|(_, values)| values).collect()
    };
    let mut expected = produce("before");
    let mut first = Member::start(&Arc::new(Log::default()), shared("members-1"));
    first.until("four partitions", |member| member.source.ends().len() == 4);
    first.until_idle();
    let mut second = Member::start(&Arc::new(Log::default()), shared("members-2"));
    let deadline = Instant::now() + PATIENCE;
    while first.source.ends().len() != 2 || second.source.ends().len() != 2 {
        first.poll(1000).unwrap();
        second.poll(1000).unwrap();
        assert!(Instant::now() < deadline);
    }
    assert_eq!(first.log.0.lock().unwrap().revoked.len(), 2, "only what moved was revoked");
    expected.extend(produce("after"));
    let count = |member: &Member| member.log.values("members").len();
    while count(&first) + count(&second) < expected.len() {
        first.poll(1000).unwrap();
        second.poll(1000).unwrap();
        assert!(Instant::now() < deadline);
    }
    // The members' logs are one whole: no value in both, none in neither, and each says what the other has.
    let mut union = first.log.values("members");
    union.extend(second.log.values("members"));
    assert_eq!(sorted(union), sorted(expected));
    let taken_over: Vec<Partition> = second.log.partitions("members");
    assert_eq!(taken_over.len(), 2);
    assert!(taken_over.iter().all(|one| one.gaps == [(0, 99, GapWhy::OtherMember)]), "{:?}", taken_over[0].gaps);

    // The second goes; when its session ends the first takes over what it left, and says what it did not read.
    drop(second);
    produce("last");
    first.until("the second's partitions", |member| {
        let ends = member.source.ends();
        ends.len() == 4 && ends.iter().all(|end| end.next == 300)
    });
    let given_back = |one: &&Partition| one.gaps == [(100, 199, GapWhy::OtherMember)];
    assert_eq!(first.log.partitions("members").iter().filter(given_back).count(), 2);
}

#[test]
fn markers_and_aborted_records_are_gaps_also_at_the_end() {
    let broker = kafka::shared();
    broker.create_topic("transactions", 1);
    broker.transaction("transactions", 0, &values("a", 3), true);
    broker.transaction("transactions", 0, &values("aborted", 3), false);
    broker.transaction("transactions", 0, &values("b", 3), true);
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(broker, "transactions"));
    member.until_idle();
    let found = log.only("transactions");
    assert_eq!(found.values.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 8, 9, 10]);
    assert_eq!(found.gaps, [(3, 7, GapWhy::Unattributed), (11, 11, GapWhy::Unattributed)]);
    let end = member.source.ends().remove(0);
    assert_eq!((end.next, end.end, end.lag()), (12, 12, 0), "complete to the last stable offset");

    // The gap at the end is not said again, and the last record lies before it.
    drop(member);
    broker.produce("transactions", 0, &values("c", 1));
    Member::start(&log, options(broker, "transactions")).until_idle();
    let found = log.only("transactions");
    assert_eq!((found.next, found.gaps.len(), &found.values[&12]), (13, 2, &"c-0".to_owned()));
    assert_eq!(found.again, [(10, Some("b-2".to_owned()))]);
}

#[test]
fn a_last_record_that_is_gone_is_explained_only_by_compaction() {
    let broker = kafka::shared();
    let found = [("gone", "delete", true), ("gone-at-end", "delete", false), ("compacted", "compact,delete", true)];
    let found = found.map(|(topic, policy, goes_on)| {
        broker.create_topic(topic, 1);
        broker.set_topic(topic, "cleanup.policy", policy);
        broker.transaction(topic, 0, &values("a", 3), true);
        let log = Arc::new(Log::default());
        Member::start(&log, options(broker, topic)).until_idle();
        assert_eq!(log.only(topic).next, 4);
        // The marker at 3 stands where, before a leader that lacked it took over, a record had been archived from.
        log.0.lock().unwrap().partitions.values_mut().for_each(|partition| partition.last = Some(3));
        broker.produce(topic, 0, &values("b", usize::from(goes_on)));
        Member::start(&log, options(broker, topic)).until_idle();
        assert_eq!(log.only(topic).again, [(3, None)]);
        log.only(topic).missing
    });
    assert_eq!(found, [[Again::Absent], [Again::Absent], [Again::Compacted]]);
}

#[test]
fn what_retention_took_is_said_at_start_and_in_mid_run() {
    let broker = kafka::shared();
    broker.create_topic("retention", 1);
    broker.produce("retention", 0, &values("r", 10));
    let log = Arc::new(Log::default());
    broker.delete_records("retention", 0, 2);
    Member::start(&log, options(broker, "retention")).until_idle();
    assert_eq!(log.only("retention").gaps, [(0, 1, GapWhy::BeforeThisLog)]);

    broker.produce("retention", 0, &values("s", 10));
    broker.delete_records("retention", 0, 15);
    let mut member = Member::start(&log, options(broker, "retention"));
    member.until_idle();
    let found = log.only("retention");
    assert_eq!(found.gaps[1..], [(10, 14, GapWhy::RetentionLoss)]);
    assert_eq!(found.again, [(9, None)], "retention took the last record too");

    // Nothing is taken while paused, so the broker can be ahead of us: the records go before they are fetched.
    member.source.pause();
    member.until("nothing more", |member| member.source.is_idle());
    broker.produce("retention", 0, &values("t", 10));
    broker.delete_records("retention", 0, 25);
    member.source.resume();
    member.until("the rest", |member| member.log.only("retention").next == 30);
    let found = log.only("retention");
    // What had been fetched before the pause took hold may have come: it is a record or a loss, never neither.
    let lost: u64 = found.gaps.iter().skip(2).map(|(first, last, _)| last - first + 1).sum();
    assert!(found.gaps.iter().skip(2).all(|gap| gap.2 == GapWhy::RetentionLoss), "{:?}", found.gaps);
    assert_eq!(found.values.keys().filter(|offset| **offset >= 20).count() as u64 + lost, 10);
}

#[test]
fn a_topic_made_anew_is_another_topic_also_when_it_is_longer() {
    let broker = kafka::shared();
    let log = Arc::new(Log::default());
    for (topic, first, then) in [("anew-shorter", 5, 2), ("anew-longer", 5, 9)] {
        broker.create_topic(topic, 1);
        broker.produce(topic, 0, &values("old", first));
        Member::start(&log, options(broker, topic)).until_idle();
        broker.delete_topic(topic);
        broker.create_topic(topic, 1);
        broker.produce(topic, 0, &values("new", then));
        Member::start(&log, options(broker, topic)).until_idle();
        let found = log.partitions(topic);
        assert_eq!(found.len(), 2, "two topics of one name");
        assert_eq!(sorted(log.values(topic)), sorted([values("old", first), values("new", then)].concat()));
        assert!(found.iter().all(|one| one.gaps.is_empty()));
    }
}

#[test]
fn a_topic_made_anew_in_mid_run_is_taken_up_from_its_beginning() {
    let broker = kafka::shared();
    broker.create_topic("anew-live", 1);
    broker.produce("anew-live", 0, &values("old", 20));
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(broker, "anew-live"));
    member.until_idle();
    broker.delete_topic("anew-live");
    broker.create_topic("anew-live", 1);
    broker.produce("anew-live", 0, &values("new", 3));
    member.until("the new topic", |member| member.log.partitions("anew-live").len() == 2);
    member.until_idle();
    assert_eq!(sorted(log.values("anew-live")), sorted([values("old", 20), values("new", 3)].concat()));
}

#[test]
fn a_topic_made_anew_unseen_is_never_continued_in_silence() {
    let broker = kafka::shared();
    broker.create_topic("anew-unseen", 1);
    broker.produce("anew-unseen", 0, &values("old", 5));
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(broker, "anew-unseen"));
    member.until_idle();
    // The client fetches nothing while the topic is replaced by a longer one, so that no fetch can fail.
    member.source.pause();
    broker.delete_topic("anew-unseen");
    broker.create_topic("anew-unseen", 1);
    broker.produce("anew-unseen", 0, &values("new", 50));
    member.source.resume();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        match member.poll(1000) {
            Err(error) => break Some(error),
            Ok(_) if log.partitions("anew-unseen").len() == 2 && member.source.is_idle() => break None,
            Ok(_) => assert!(Instant::now() < deadline, "a new topic was read as the old one"),
        }
    };
    // Either it was seen in time, and all is there under the new topic; or it may be mixed, and is refused.
    match error {
        None => assert_eq!(sorted(log.values("anew-unseen")), sorted([values("old", 5), values("new", 50)].concat())),
        Some(error) => assert!(error.is_halt() && error.to_string().contains("made anew"), "{error}"),
    }
}

#[test]
fn a_history_that_ends_before_us_is_refused() {
    let broker = kafka::shared();
    broker.create_topic("ahead", 1);
    broker.produce("ahead", 0, &values("a", 3));
    let log = Arc::new(Log::default());
    Member::start(&log, options(broker, "ahead")).until_idle();
    // Our position beyond the broker's end under the same topic id: what a lost disk leaves behind.
    log.0.lock().unwrap().partitions.values_mut().next().unwrap().next = 50;
    let error = Member::start(&log, options(broker, "ahead")).until_error();
    assert!(error.is_halt() && error.hint().unwrap().contains("topic adopt"), "{error}");
    let message = "source redpanda: topic ahead, partition 0: we are at offset 50, but the broker's history ends at 3";
    assert_eq!(error.to_string(), message);
}

#[test]
fn an_absent_broker_is_trouble_at_start_and_in_mid_run() {
    let mut broker = Kafka::prepare();
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(&broker, "outage"));
    member.until("trouble", |member| member.source.trouble().is_some());
    let trouble = member.source.trouble().unwrap();
    assert_eq!(trouble.kind, TroubleKind::Unreachable);
    assert!(trouble.message.contains(&broker.brokers()), "{trouble}");
    assert!(!member.source.is_idle());

    broker.restart();
    member.until("a missing topic", |member| {
        member.source.trouble().is_some_and(|trouble| trouble.kind == TroubleKind::Topic)
    });
    assert!(member.source.trouble().unwrap().message.contains("no topic `outage`"));
    broker.create_topic("outage", 1);
    broker.produce("outage", 0, &values("a", 10));
    member.until("the first records", |member| member.log.values("outage").len() == 10);
    member.until_idle();

    broker.stop();
    member.until("trouble after a stop", |member| member.source.trouble().is_some());
    broker.restart();
    member.until_idle();

    broker.kill();
    member.until("trouble again", |member| member.source.trouble().is_some());
    assert!(!member.source.is_idle(), "what cannot be reached is not read to its end");
    broker.restart();
    broker.produce("outage", 0, &values("b", 10));
    member.until("the rest", |member| member.log.values("outage").len() == 20);
    member.until_idle();
    assert_eq!(sorted(log.values("outage")), sorted([values("a", 10), values("b", 10)].concat()));
    assert!(log.only("outage").gaps.is_empty());
}

#[test]
fn tls_and_scram_let_in_who_knows_the_password() {
    let broker = kafka::shared();
    broker.create_topic("tls", 1);
    broker.produce("tls", 0, &values("a", 3));
    let dir = tempfile::tempdir().unwrap();
    let secured = |password: &str| {
        let file = dir.path().join("password");
        std::fs::write(&file, format!("{password}\n")).unwrap();
        let mut options = Options { brokers: vec![broker.tls_brokers()], ..options(broker, "tls") };
        for (option, value) in [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", "SCRAM-SHA-256"),
            ("sasl.username", kafka::USER),
            ("sasl.password_file", &file.display().to_string()),
            ("ssl.ca.location", &broker.ca_file().display().to_string()),
        ] {
            options.librdkafka.insert(option.to_owned(), value.to_owned());
        }
        options
    };
    let log = Arc::new(Log::default());
    Member::start(&log, secured(kafka::PASSWORD)).until_idle();
    assert_eq!(log.values("tls"), values("a", 3));

    let mut member = Member::start(&Arc::new(Log::default()), secured("wrong"));
    let is_refused =
        |member: &Member| member.source.trouble().is_some_and(|trouble| trouble.kind == TroubleKind::Authentication);
    member.until("the refusal", is_refused);
    assert!(member.source.trouble().unwrap().message.contains("invalid credentials"), "{:?}", member.source.trouble());

    // The file is corrected, and the source told to read it again.
    std::fs::write(dir.path().join("password"), kafka::PASSWORD).unwrap();
    member.source.reconnect();
    member.until_idle();
    assert_eq!(member.log.values("tls"), values("a", 3));
}

#[test]
fn connecting_anew_loses_and_doubles_nothing() {
    let broker = kafka::shared();
    for assignment in ["group", "static"] {
        let topic = format!("anew.{assignment}");
        broker.create_topic(&topic, 2);
        let mut options = options(broker, &topic);
        if assignment == "static" {
            options.assignment = Assignment::Static;
        }
        let log = Arc::new(Log::default());
        let mut member = Member::start(&log, options);
        let mut sent = Vec::new();
        for round in ["a", "b", "c"] {
            for partition in 0..2 {
                let values = values(&format!("{round}{partition}"), 200);
                broker.produce(&topic, partition, &values);
                sent.extend(values);
            }
            // Not idle: some of it is under way when the connection goes.
            member.until("some", |member| member.log.values(&topic).len() > sent.len() - 300);
            member.source.reconnect();
        }
        member.until("all", |member| member.log.values(&topic).len() >= sent.len());
        member.until_idle();
        assert_eq!(sorted(log.values(&topic)), sorted(sent), "{assignment}");
        assert!(log.partitions(&topic).iter().all(|partition| partition.gaps.is_empty()), "{assignment}");
    }
}

#[test]
fn a_look_at_the_cluster_tells_what_is_there_and_what_is_not() {
    let broker = kafka::shared();
    broker.create_topic("looked", 3);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // The group's own topic is compacted; it is there once a group has committed.
    let log = Arc::new(Log::default());
    broker.produce("looked", 0, &values("a", 1));
    Member::start(&log, options(broker, "looked")).until_idle();
    let mut options = options(broker, "looked");
    for name in ["__consumer_offsets", "no-such-topic"] {
        options.topics.push(TopicFilter::Name(name.to_owned()));
    }
    let (seen, missing) = probe::look(&options, runtime.handle()).unwrap();
    let seen: Vec<_> = seen.iter().map(|one| (one.name.as_str(), one.cleanup_policy.as_deref())).collect();
    assert_eq!(seen, [("__consumer_offsets", Some("compact")), ("looked", Some("delete"))]);
    assert!(missing.unwrap().message.contains("`no-such-topic`"));

    options.brokers = vec!["127.0.0.1:1".to_owned()];
    let Err(probe::Unseen::Trouble(trouble)) = probe::look(&options, runtime.handle()) else {
        panic!("nobody is there")
    };
    assert_eq!(trouble.kind, TroubleKind::Unreachable);
}

#[test]
fn topics_by_pattern_and_new_partitions_are_noticed() {
    let broker = kafka::shared();
    for assignment in ["group", "static"] {
        let name = |suffix: &str| format!("pattern.{assignment}.{suffix}");
        broker.create_topic(&name("a"), 1);
        broker.produce(&name("a"), 0, &values("a", 3));
        let pattern = regex::Regex::new(&format!("^pattern\\.{assignment}\\.")).unwrap();
        let mut options = options(broker, &name("group"));
        options.topics = vec![TopicFilter::Pattern(pattern)];
        if assignment == "static" {
            options.assignment = Assignment::Static;
        }
        let log = Arc::new(Log::default());
        let mut member = Member::start(&log, options);
        member.until("the first topic", |member| member.log.values(&name("a")).len() == 3);
        broker.create_topic(&name("b"), 1);
        broker.produce(&name("b"), 0, &values("b", 3));
        member.until("the second topic", |member| member.log.values(&name("b")).len() == 3);
        broker.grow_topic(&name("a"), 3);
        broker.produce(&name("a"), 2, &values("a2", 3));
        member.until("the new partition", |member| member.log.values(&name("a")).len() == 6);
        assert_eq!(log.0.lock().unwrap().grown, [(name("a"), 3)]);
        member.until_idle();
    }
}

#[test]
fn a_paused_member_stays_a_member() {
    let broker = kafka::shared();
    broker.create_topic("paused", 2);
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(broker, "paused"));
    member.until_idle();
    member.source.pause();
    for partition in 0..2 {
        broker.produce("paused", partition, &values("p", 100));
    }
    // Three sessions long nothing is taken up, and nothing is taken away.
    let until = Instant::now() + Duration::from_secs(9);
    member.until("a long pause", |_| Instant::now() > until);
    let before = log.values("paused").len();
    member.source.resume();
    member.until("all records", |member| member.log.values("paused").len() == 200);
    assert!(before < 200, "the pause took hold");
    let state = log.0.lock().unwrap();
    assert_eq!((state.assigned, state.revoked.len()), (2, 0));
}

#[test]
fn a_full_buffer_stops_the_fetching_and_loses_nothing() {
    let broker = kafka::shared();
    broker.create_topic("full", 1);
    let large: Vec<String> = (0..60).map(|number| format!("{number:03}{}", "x".repeat(500_000))).collect();
    broker.produce("full", 0, &large);
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(broker, "full"));
    // One record at a time, then none for longer than the buffer waits before it pauses the partitions.
    member.until("the first", |member| !member.log.values("full").is_empty());
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    member.until("all", |member| member.log.values("full").len() == 60);
    assert_eq!(log.values("full"), large);
}

#[test]
fn a_new_partition_begins_where_it_is_told() {
    let broker = kafka::shared();
    broker.create_topic("starts", 1);
    broker.produce("starts", 0, &values("a", 5));
    let begin = |start: Start| {
        let log = Arc::new(Log::default());
        Member::start(&log, Options { start, ..options(broker, "starts") }).until_idle();
        let found = log.only("starts");
        (found.gaps, found.next)
    };
    assert_eq!(begin(Start::Earliest), (vec![], 5));
    assert_eq!(begin(Start::Latest), (vec![(0, 4, GapWhy::BeforeThisLog)], 5));
    assert_eq!(begin(Start::At(0)), (vec![], 5));
    assert_eq!(begin(Start::At(i64::from(u32::MAX) * 1000)), (vec![(0, 4, GapWhy::BeforeThisLog)], 5));
}

#[test]
fn of_two_processes_with_one_name_one_gives_up() {
    let broker = kafka::shared();
    broker.create_topic("fenced", 1);
    broker.produce("fenced", 0, &values("a", 3));
    let start = || Member::start(&Arc::new(Log::default()), options(broker, "fenced"));
    let mut first = start();
    first.until_idle();
    let mut second = start();
    // A fence alone may be an outage's echo and is survived; that it goes on is the sign of two.
    let deadline = Instant::now() + PATIENCE;
    let (error, mut winner) = loop {
        if let Err(error) = first.poll(1000) {
            break (error, second);
        }
        if let Err(error) = second.poll(1000) {
            break (error, first);
        }
        assert!(Instant::now() < deadline);
    };
    assert!(matches!(&error, SourceError::Fenced { instance, .. } if instance == "fenced-1"), "{error}");
    winner.until_idle();
    assert_eq!(winner.log.values("fenced"), values("a", 3));
}

#[test]
fn the_broker_says_before_a_seal_whether_the_partitions_are_ours() {
    let broker = kafka::shared();
    broker.create_topic("standing", 1);
    broker.produce("standing", 0, &values("a", 3));
    let log = Arc::new(Log::default());
    let mut member = Member::start(&log, options(broker, "standing"));
    member.until_idle();
    let standing = member.source.committed_before_seal(&log.reached(), PATIENCE).unwrap();
    assert_eq!(standing, Standing::Held);
}

#[test]
fn keys_headers_nulls_and_times_arrive_as_they_were_sent() {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    let broker = kafka::shared();
    broker.create_topic("fidelity", 1);
    let producer: BaseProducer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", broker.brokers()).create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "h", value: Some("1") })
        .insert(Header { key: "h", value: None::<&str> })
        .insert(Header { key: "", value: Some("") });
    producer.send(BaseRecord::<str, str>::to("fidelity").key("").headers(headers).timestamp(1234)).unwrap();
    producer.send(BaseRecord::<str, str>::to("fidelity").payload("").timestamp(-1)).unwrap();
    producer.flush(PATIENCE).unwrap();
    let log = Arc::new(Log::default());
    let source = Source_::start(options(broker, "fidelity"), Arc::clone(&log) as Arc<dyn Positions>);
    let mut source = source.unwrap();
    let mut records = Vec::new();
    while records.len() < 2 {
        let budget = Budget { records_max: 9, bytes_max: 1 << 20, wait: Duration::from_millis(100) };
        for arrival in source.poll(budget).unwrap() {
            if let Arrival::Records { records: arrived, .. } = arrival {
                records.extend(arrived.into_iter().map(|arrived| arrived.record));
            }
        }
    }
    let first = &records[0];
    assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b""[..]), None));
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        first.headers.iter().map(|header| (&header.name[..], header.value.as_deref())).collect();
    assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (b"h", None), (b"", Some(b""))]);
    assert_eq!((first.timestamp_ms, first.timestamp_type), (1234, 0));
    assert_eq!((records[1].key.as_deref(), records[1].value.as_deref()), (None, Some(&b""[..])));
}
