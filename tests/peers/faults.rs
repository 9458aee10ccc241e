//! The running sidecar while its peers and its disk fail: it says who is missing, goes on with what it can, and recovers
//! by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binary::{Log, Running, Tmpfs, copy_tree};
use crate::campaign;
use crate::peer::feed::Feed;
use crate::peer::front::Fault;
use crate::peer::kafka::{self, Kafka};
use crate::peer::kubo::Node;
use crate::peer::snowflake::Warehouse;
use crate::shim;

/// The source of a log with one topic.
fn source(brokers: &str, topic: &str) -> String {
    format!(
        "[source.redpanda]\nkind = \"kafka\"\nbrokers = [\"{brokers}\"]\nassignment = \"static\"\n\
         librdkafka = {{ \"reconnect.backoff.max.ms\" = \"1000\", \"topic.metadata.refresh.interval.ms\" = \"1000\" }}\n\
         [[source.redpanda.topic]]\nname = \"{topic}\"\n"
    )
}

/// Seals within a second, so that every stage is at work.
fn seals_often(log: &Log) {
    log.set("age_max = \"10m\"", "age_max = \"1s\"");
    log.set("entries_min = 256", "entries_min = 1");
}

/// A consent event.
fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "urn:test", "type": "com.maily.consent.v1",
        "data": {
            "receiptId": id,
            "subject": { "identifiers": [{ "type": "email", "value": format!("{id}@example.org") }] },
            "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
        },
    })
}

fn events(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| event(&format!("{prefix}-{i}")).to_string()).collect()
}

fn wait_events(log: &Log, running: &mut Running, count: u64) -> Value {
    log.wait(running, "the events", |status| status["entries"]["event"].as_u64().unwrap_or(0) >= count)
}

#[test]
fn a_broker_that_is_down_or_lacks_the_topic_is_named_and_waited_for() {
    let mut broker = Kafka::prepare();
    let log = Log::new("example.com/test/broker");
    log.add(&source(&broker.brokers(), "late").replace("static", "group"));
    log.set("stop_within = \"20s\"", "stop_within = \"4s\"");
    log.pin_to_folder();
    let mut running = log.start();
    running.wait_ready(Some("source redpanda"));
    let (status, text) = running.get("/livez");
    assert_eq!(status, 200, "{text}");

    broker.restart();
    // It answers, and has no such topic.
    let text = running.wait_ready(Some("source redpanda"));
    assert!(running.is_running(), "{text}");
    broker.create_topic("late", 2);
    broker.produce("late", 0, &events("one", 20));
    wait_events(&log, &mut running, 20);
    running.wait_ready(None);

    broker.stop();
    running.wait_ready(Some("source redpanda"));
    let during = log.status();
    assert_eq!((&during["state"], &during["entries"]["event"]), (&"running".into(), &20.into()), "{during}");
    broker.restart();
    broker.produce("late", 1, &events("two", 20));
    wait_events(&log, &mut running, 40);
    running.wait_ready(None);
    assert_eq!(running.terminate().code(), Some(0), "{}", running.said());
    let idle = log.ok(&["run", "--until-idle", "--timeout", "60s"]);
    assert_eq!((&idle["accepted"], &idle["gaps"]), (&0.into(), &0.into()), "{idle}");

    // A broker that takes connections and answers nothing.
    for (signals, codes) in [(&[Signal::TERM][..], &[0][..]), (&[Signal::TERM, Signal::TERM], &[0, 130])] {
        let mut running = log.start();
        running.wait_ready(None);
        broker.signal(Signal::STOP);
        let within = Duration::from_secs(if signals.len() == 1 { 6 } else { 2 });
        assert_ends(&mut running, signals, codes, within);
        broker.signal(Signal::CONT);
    }
}

#[test]
fn a_node_that_is_down_or_hangs_is_named_and_intake_goes_on() {
    let broker = kafka::shared();
    broker.create_topic("node", 1);
    let mut node = Node::start();
    let log = Log::new("example.com/test/node");
    seals_often(&log);
    log.add(&source(&broker.brokers(), "node"));
    let (user, password) = Node::credentials();
    std::fs::write(log.path("keys/kubo"), password).unwrap();
    log.add(&format!(
        "[pin.kubo]\nkind = \"kubo\"\nurl = \"{}\"\nuser = \"{user}\"\npassword_file = \"keys/kubo\"\ntimeout = \"2s\"\n",
        node.url()
    ));
    let mut running = log.start();
    let is_pinned =
        |status: &Value| status["sealed"]["segments"] != 0 && status["pinned"]["kubo"] == status["sealed"]["segments"];
    broker.produce("node", 0, &events("up", 20));
    wait_events(&log, &mut running, 20);
    log.wait(&mut running, "the first pin", is_pinned);

    node.stop();
    broker.produce("node", 0, &events("down", 20));
    wait_events(&log, &mut running, 40);
    running.wait_ready(Some("pin kubo"));
    broker.produce("node", 0, &events("still-down", 20));
    wait_events(&log, &mut running, 60);
    node.up();
    running.wait_ready(None);
    log.wait(&mut running, "the backlog", is_pinned);

    // It takes connections and answers nothing.
    node.signal(Signal::STOP);
    broker.produce("node", 0, &events("slow", 20));
    running.wait_ready(Some("pin kubo"));
    broker.produce("node", 0, &events("still-slow", 20));
    let status = wait_events(&log, &mut running, 100);
    assert!(!is_pinned(&status), "{status}");
    node.signal(Signal::CONT);
    running.wait_ready(None);
    log.wait(&mut running, "the backlog", is_pinned);
    assert_eq!(running.terminate().code(), Some(0), "{}", running.said());
    let idle = log.ok(&["run", "--until-idle", "--timeout", "60s"]);
    assert_eq!((&idle["accepted"], &idle["pinned"]), (&0.into(), &idle["sealed"]), "{idle}");
}

/// A record: what it is, its value and headers, and the reason it is quarantined for; none where it is an event.
type Sent = (&'static str, Option<Vec<u8>>, Option<OwnedHeaders>, &'static str);

#[test]
fn no_record_is_too_bad_to_be_archived_and_the_stream_goes_on() {
    let broker = kafka::shared();
    broker.create_topic("bad", 1);
    let mut people = event("many");
    people["type"] = json!("com.maily.data.v1");
    let subject = |n: usize| json!({ "identifiers": [{ "type": "email", "value": format!("m{n}@example.org") }] });
    let about = |count: usize| json!({ "action": "DATA_ACTION_EXPORTED", "subjects": (0..count).map(subject).collect::<Vec<_>>() });
    people["data"] = about(300);
    let mut several = people.clone();
    several["id"] = json!("several");
    several["data"] = about(199);
    let mut future = event("future");
    future["time"] = json!("9999-01-01T00:00:00Z");
    let mut unknown = event("unknown");
    unknown["type"] = json!("com.example.nobody.v9");
    let mut large = event("large");
    large["data"]["pageUrl"] = json!("x".repeat((1 << 20) - 700));
    let mut oversize = event("oversize");
    oversize["data"]["pageUrl"] = json!("x".repeat(2 << 20));
    let twice = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("a") })
        .insert(Header { key: "trace", value: Some("b") })
        .insert(Header { key: "nothing", value: None::<&str> });
    let torn = OwnedHeaders::new()
        .insert(Header { key: "ce_specversion", value: Some("1.0") })
        .insert(Header { key: "ce_specversion", value: Some("1.0") })
        .insert(Header { key: "ce_id", value: Some("x") });
    let text = |value: &Value| Some(value.to_string().into_bytes());
    let records: Vec<Sent> = vec![
        ("first", text(&event("first")), None, ""),
        ("undecodable", Some(b"\x00\xff\x00 no event".to_vec()), None, "undecodable"),
        ("not UTF-8", Some(b"{\"id\":\"\xff\xfe\"}".to_vec()), None, "undecodable"),
        ("empty", Some(Vec::new()), None, "undecodable"),
        ("null value", None, None, "undecodable"),
        ("duplicate headers", text(&event("headers")), Some(twice), ""),
        ("duplicate ce_ headers", text(&event("torn")), Some(torn), "invalid value"),
        ("unknown type", text(&unknown), None, "unknown type"),
        ("future", text(&future), None, ""),
        ("1 MiB of JSON", text(&large), None, ""),
        ("oversize", text(&oversize), None, "too large"),
        ("300 people", text(&people), None, "too many subjects"),
        ("199 people", text(&several), None, ""),
        ("last", text(&event("last")), None, ""),
    ];
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker.brokers()).set("message.max.bytes", "8000000").set("log_level", "2");
    broker.set_topic("bad", "max.message.bytes", "8000000");
    let producer: ThreadedProducer<DefaultProducerContext> = client.create().unwrap();
    for (name, value, headers, _) in &records {
        let mut record = BaseRecord::<str, [u8]>::to("bad").partition(0);
        // A record without a key, too.
        record = if *name == "empty" { record } else { record.key(name) };
        record = if let Some(value) = value { record.payload(value) } else { record };
        record = if let Some(headers) = headers { record.headers(headers.clone()) } else { record };
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();

    let log = Log::new("example.com/test/bad");
    log.add(&source(&broker.brokers(), "bad"));
    log.pin_to_folder();
    let idle = log.ok(&["run", "--until-idle", "--timeout", "60s"]);
    let rows = log.lines(&["query", "v_provenance"]);
    let quarantined = log.lines(&["query", "quarantined"]);
    let reasons: BTreeMap<u64, &str> = quarantined
        .iter()
        .map(|row| (row["record_offset"].as_u64().unwrap(), row["reason"].as_str().unwrap()))
        .collect();
    let rows: BTreeMap<u64, &Value> =
        rows.iter().filter_map(|row| Some((row["record_offset"].as_u64()?, row))).collect();
    for (offset, (name, _, _, reason)) in (0..).zip(&records) {
        let row = rows.get(&offset).unwrap_or_else(|| panic!("{name} is nowhere"));
        assert_eq!(reasons.get(&offset).copied().unwrap_or_default(), *reason, "{name}: {row}");
        assert_eq!(row["kind"], if reason.is_empty() { "event" } else { "quarantined" }, "{name}: {row}");
    }
    assert_eq!((rows.len(), &idle["gaps"]), (records.len(), &0.into()), "{idle}");
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, &report["first_bad_seq"]), (10, &Value::Null), "{report}");
}

#[test]
fn a_full_disk_pauses_intake_and_room_resumes_it() {
    let broker = kafka::shared();
    let log = Log::new("example.com/test/disk");
    broker.create_topic("disk", 1);
    let saved = log.dir.path().join("saved");
    std::fs::rename(log.path("data"), &saved).unwrap();
    let Some(_disk) = Tmpfs::mount(&log.path("data"), 96) else { return };
    copy_tree(&saved, &log.path("data"));
    log.set("disk_free_min = \"1GiB\"", "disk_free_min = \"32MiB\"");
    seals_often(&log);
    log.add(&source(&broker.brokers(), "disk"));
    log.pin_to_folder();
    let mut running = log.start();
    broker.produce("disk", 0, &events("before", 20));
    wait_events(&log, &mut running, 20);
    running.wait_ready(None);
    assert!(running.get("/metrics").1.contains("\npinfold_paused 0\n"));

    let ballast = log.path("data/ballast");
    // Under the limit, and more than the journal asks for: what is on its way is still committed.
    let disk = rustix::fs::statvfs(log.path("data")).unwrap();
    let room = disk.f_bavail * disk.f_frsize - (24 << 20);
    std::fs::write(&ballast, vec![0; usize::try_from(room).unwrap()]).unwrap();
    running.wait_ready(Some("paused: disk"));
    let (_, metrics) = running.get("/metrics");
    assert!(metrics.contains("\npinfold_paused 1\n"), "{metrics}");
    broker.produce("disk", 0, &events("during", 20));
    // What was already on its way when intake paused may still be folded; what comes later is not.
    let paused = log.wait(&mut running, "the pause", |status| status["state"] == "paused");
    assert_eq!(paused["entries"]["event"], 20, "{paused}");
    std::fs::remove_file(&ballast).unwrap();
    wait_events(&log, &mut running, 40);
    running.wait_ready(None);
    assert!(running.get("/metrics").1.contains("\npinfold_paused 0\n"));
    assert_eq!(running.terminate().code(), Some(0), "{}", running.said());
    let idle = log.ok(&["run", "--until-idle", "--timeout", "60s"]);
    assert_eq!((&idle["accepted"], &idle["gaps"]), (&0.into(), &0.into()), "{idle}");
    assert_eq!(log.verify(&log.path("data/archive")).0, 10);
}

/// Sends the signals and asserts that it ends in time, with one of these codes.
fn assert_ends(running: &mut Running, signals: &[Signal], codes: &[i32], within: Duration) {
    let begun = Instant::now();
    for signal in signals {
        if running.is_running() {
            running.signal(*signal);
        }
    }
    let code = running.end().code().unwrap();
    assert!(codes.contains(&code), "{code}: {}", running.said());
    assert!(begun.elapsed() < within, "{:?}: {}", begun.elapsed(), running.said());
}

#[test]
fn a_signal_ends_it_in_time_while_it_folds_and_while_a_registry_hangs() {
    let broker = kafka::shared();
    let feed = Feed::new(broker, "signals", 1, 100);
    let warehouse = Warehouse::start();
    let log = Log::new("example.com/test/signals");
    seals_often(&log);
    log.set("stop_within = \"20s\"", "stop_within = \"4s\"");
    log.add(&feed.source(broker, "static"));
    log.pin_to_folder();
    log.add(&warehouse.config(&log.path("keys")).replace("timeout = \"2s\"", "timeout = \"100s\""));
    log.ok(&["registry", "init"]);

    // Nothing hangs: it ends at once, also while it folds.
    feed.send(500);
    let mut running = log.start();
    log.wait(&mut running, "a first entry", |status| status["size"].as_u64().unwrap() > 100);
    assert_ends(&mut running, &[Signal::TERM], &[0], Duration::from_secs(4));

    // A registry hangs in the middle of a call, and a broker: it ends within `stop_within`.
    warehouse.front.fail("MERGE INTO segments", Fault::Silent);
    feed.send(50);
    let mut running = log.start();
    let begun = Instant::now();
    while warehouse.front.unmet() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is registered: {}", running.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ends(&mut running, &[Signal::TERM], &[0], Duration::from_secs(6));
    campaign::finish(&log, &feed, &["vault"], &["local", "hub"]);
}

/// The first signal waits for what is being made durable, the second does not.
#[test]
fn a_second_signal_ends_it_at_once_while_the_disk_hangs() {
    let feed = Feed::new(kafka::shared(), "hang", 1, 10);
    let log = Log::new("example.com/test/hang");
    log.add(&feed.source(kafka::shared(), "static"));
    log.pin_to_folder();
    let (root, shadow, hang) = (log.path(""), log.dir.path().join("shadow"), log.dir.path().join("hang"));
    let shim = shim::build(log.dir.path());
    shim::begin(&shadow);
    let mut running = log.launch_with(&[
        ("LD_PRELOAD", &shim),
        ("PINFOLD_SHIM_ROOT", &root),
        ("PINFOLD_SHIM_SHADOW", &shadow),
        ("PINFOLD_SHIM_HANG", &hang),
    ]);
    running.address();
    feed.send(50);
    log.wait(&mut running, "the records", |status| {
        status["sources"].as_array().unwrap().iter().map(|row| row["next_offset"].as_u64().unwrap()).sum::<u64>() == 100
    });
    std::fs::write(&hang, "").unwrap();
    feed.send(50);
    running.signal(Signal::TERM);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(running.is_running(), "it did not wait for its disk: {}", running.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ends(&mut running, &[Signal::TERM], &[130], Duration::from_secs(2));
    std::fs::remove_file(&hang).unwrap();
    campaign::finish(&log, &feed, &["vault"], &["local"]);
}
