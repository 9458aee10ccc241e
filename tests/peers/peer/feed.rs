//! A producer whose every record follows from its place: the checker needs only to know how many there are.
//!
//! Two topics, one of protobuf envelopes and one of CloudEvents in JSON; about one record in twenty is no event of ours.
//! Events are short, about 300 bytes, unless they are asked for with the context a consent comes with: then about 600.
//! It is the only writer of its topics and idempotent, so the n-th record of a partition has offset n.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pinfold::core::hash::Hash;
use pinfold::proto::v1;
use prost::Message;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::kafka::Kafka;

/// A partition: its topic and its number.
pub(crate) type Place = (String, i32);

/// What the log must say of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// An event with this id.
    Event(String),
    /// A quarantined record, for this reason.
    Quarantined(&'static str),
}

/// A record and what becomes of it.
pub(crate) struct Made {
    pub(crate) value: Vec<u8>,
    pub(crate) expected: Expected,
}

/// The producer.
pub(crate) struct Feed {
    producer: ThreadedProducer<DefaultProducerContext>,
    watcher: BaseConsumer,
    name: String,
    partitions: i32,
    people: u64,
    has_context: bool,
    is_protobuf: bool,
    sent: Mutex<BTreeMap<Place, u64>>,
    /// Who has it sends, or keeps the others from sending.
    turn: Mutex<()>,
}

impl Feed {
    /// Makes the topics `NAME-pb` and `NAME-ce`. Events are about `people` people.
    pub(crate) fn new(broker: &Kafka, name: &str, partitions: i32, people: u64) -> Feed {
        let client = |key: &str, value: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", broker.brokers()).set("log_level", "2").set(key, value);
            config
        };
        let producer = client("enable.idempotence", "true").create().unwrap();
        let watcher = client("group.id", "watcher").create().unwrap();
        let feed = Feed {
            producer,
            watcher,
            name: name.to_owned(),
            partitions,
            people,
            has_context: false,
            is_protobuf: false,
            sent: Mutex::default(),
            turn: Mutex::default(),
        };
        feed.topics().iter().for_each(|topic| broker.create_topic(topic, partitions));
        feed
    }

    /// The same with consents that say more: several purposes, the notice that was shown, where and how it was given.
    pub(crate) fn with_context(self) -> Feed {
        Feed { has_context: true, ..self }
    }

    /// The same with protobuf in both topics.
    pub(crate) fn in_protobuf(self) -> Feed {
        Feed { is_protobuf: true, ..self }
    }

    pub(crate) fn topics(&self) -> [String; 2] {
        ["pb", "ce"].map(|kind| format!("{}-{kind}", self.name))
    }

    /// The `[source]` of a log that folds both.
    pub(crate) fn source(&self, broker: &Kafka, assignment: &str) -> String {
        let [pb, ce] = self.topics();
        format!(
            "[source.redpanda]\nkind = \"kafka\"\nbrokers = [\"{}\"]\nassignment = \"{assignment}\"\n\
             group = \"{}\"\nlibrdkafka = {{ \"session.timeout.ms\" = \"6000\" }}\n\
             [[source.redpanda.topic]]\nname = \"{pb}\"\ndecode = \"protobuf\"\n\
             [[source.redpanda.topic]]\nname = \"{ce}\"\n",
            broker.brokers(),
            self.name
        )
    }

    /// Adds `count` records to every partition, acknowledged.
    pub(crate) fn send(&self, count: u64) {
        for topic in self.topics() {
            for partition in 0..self.partitions {
                let place = (topic.clone(), partition);
                let first = self.sent.lock().unwrap().get(&place).copied().unwrap_or(0);
                for offset in first..first + count {
                    let made = self.record(&place, offset);
                    let mut record = BaseRecord::<str, [u8]>::to(&topic).partition(partition).key("k");
                    record = record.payload(&made.value);
                    while let Err((_, back)) = self.producer.send(record) {
                        record = back;
                        self.producer.poll(Duration::from_millis(10));
                    }
                }
                self.sent.lock().unwrap().insert(place, first + count);
            }
        }
        self.producer.flush(Duration::from_secs(120)).unwrap();
    }

    /// Goes on sending at a steady pace until told to stop.
    pub(crate) fn keep_sending(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let turn = self.turn.lock().unwrap();
            self.send(10);
            drop(turn);
            // The pace, not a wait for anything.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Nothing is sent while this lives.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap()
    }

    /// How many records each partition holds: as sent, and as the broker says. Nobody sends meanwhile.
    pub(crate) fn held(&self) -> BTreeMap<Place, u64> {
        let sent = self.sent.lock().unwrap().clone();
        for ((topic, partition), count) in &sent {
            let marks = self.watcher.fetch_watermarks(topic, *partition, Duration::from_secs(30)).unwrap();
            assert_eq!(marks, (0, i64::try_from(*count).unwrap()), "{topic} {partition}");
        }
        sent
    }

    /// The record at a place.
    pub(crate) fn record(&self, place: &Place, offset: u64) -> Made {
        let id = format!("{}-{}-{offset}", place.0, place.1);
        // splitmix64, so that neighbours differ.
        let mut mixed = (offset << 8 | u64::try_from(place.1).unwrap()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let person = mixed % self.people;
        let of = Of { id, mixed: mixed >> 32, person, has_context: self.has_context };
        if self.is_protobuf || place.0.ends_with("-pb") { protobuf(&of) } else { cloudevent(&of) }
    }
}

fn subject(person: u64) -> v1::Subject {
    let value = format!("person{person}@example.org");
    v1::Subject { identifiers: vec![v1::Identifier { r#type: "email".to_owned(), value }] }
}

/// What a record follows from.
struct Of {
    id: String,
    mixed: u64,
    person: u64,
    has_context: bool,
}

fn protobuf(of: &Of) -> Made {
    let Of { id, mixed, person, .. } = of;
    if mixed.is_multiple_of(20) {
        return Made { value: vec![0xff; 40], expected: Expected::Quarantined("undecodable") };
    }
    let (event_type, body) = match mixed % 20 {
        1 => {
            let body = v1::DataEvent {
                action: v1::DataAction::Exported.into(),
                subjects: (0..3).map(|n| subject(person + n)).collect(),
                purpose_id: "newsletter".to_owned(),
                ..v1::DataEvent::default()
            };
            ("com.maily.data.v1", v1::envelope::Body::Data(body))
        }
        2 => {
            let body = v1::DsrEvent {
                dsr_id: format!("dsr-{person}"),
                kind: v1::DsrKind::Access.into(),
                subject: Some(subject(*person)),
                ..v1::DsrEvent::default()
            };
            ("com.maily.dsr.v1", v1::envelope::Body::Dsr(body))
        }
        _ => ("com.maily.consent.v1", v1::envelope::Body::Consent(consent(of))),
    };
    let envelope = v1::Envelope {
        id: id.clone(),
        source: "urn:feed".to_owned(),
        r#type: event_type.to_owned(),
        body: Some(body),
        ..v1::Envelope::default()
    };
    Made { value: envelope.encode_to_vec(), expected: Expected::Event(id.clone()) }
}

fn consent(of: &Of) -> v1::ConsentEvent {
    let given = v1::Decision::Given.into();
    let purpose_id = "newsletter".to_owned();
    let body = v1::ConsentEvent {
        receipt_id: of.id.clone(),
        subject: Some(subject(of.person)),
        purposes: vec![v1::PurposeDecision { purpose_id, decision: given, ..v1::PurposeDecision::default() }],
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)".to_owned(),
        page_url: format!("https://example.org/preferences/{}", of.mixed),
        collection_point_id: "preference-centre".to_owned(),
        interaction_type: "button save".to_owned(),
        jurisdiction: "GDPR".to_owned(),
        ..v1::ConsentEvent::default()
    };
    if !of.has_context {
        return body;
    }
    v1::ConsentEvent {
        purposes: PURPOSES.iter().map(|(purpose, code)| decided(of, purpose, code)).collect(),
        transaction_id: format!("{:032x}", u128::from(of.mixed) << 64 | u128::from(of.person)),
        collection_point_version: "2026-03".to_owned(),
        collection_method: "web-form".to_owned(),
        double_opt_in: true,
        country: "DE".to_owned(),
        language: "de-DE".to_owned(),
        source_ip_truncated: format!("203.0.{}.0", of.mixed % 250),
        ..body
    }
}

/// Each with the code its vendor has for it.
const PURPOSES: [(&str, &str); 3] = [("newsletter", "OPT_IN"), ("analytics", "HARD_OPT_OUT"), ("profiling", "NOTICE")];

fn decided(of: &Of, purpose: &str, code: &str) -> v1::PurposeDecision {
    let decision = if of.mixed.is_multiple_of(3) { v1::Decision::Refused } else { v1::Decision::Given };
    v1::PurposeDecision {
        purpose_id: purpose.to_owned(),
        purpose_version: "7".to_owned(),
        decision: decision.into(),
        basis: v1::LawfulBasis::Consent.into(),
        source_code: code.to_owned(),
        notice: Some(v1::NoticeRef {
            notice_id: format!("notice-of-{purpose}"),
            version: "2026-03".to_owned(),
            language: "de-DE".to_owned(),
            text_sha256: Hash::of(purpose.as_bytes()).0.to_vec(),
            ..v1::NoticeRef::default()
        }),
        ..v1::PurposeDecision::default()
    }
}

fn cloudevent(of: &Of) -> Made {
    let Of { id, mixed, person, has_context } = of;
    let identifiers = serde_json::json!([{ "type": "email", "value": format!("person{person}@example.org") }]);
    let (event_type, expected) = match mixed % 20 {
        0 => {
            let value = format!("{{ this is no JSON: {id}").into_bytes();
            return Made { value, expected: Expected::Quarantined("undecodable") };
        }
        1 => ("com.example.other.v1", Expected::Quarantined("unknown type")),
        _ => ("com.maily.consent.v1", Expected::Event(id.clone())),
    };
    let mut value = serde_json::json!({
        "specversion": "1.0", "id": id, "source": "urn:feed", "type": event_type, "time": "2026-01-01T00:00:00Z",
        "data": {
            "receiptId": id,
            "subject": { "identifiers": identifiers },
            "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
            "pageUrl": format!("https://example.org/preferences/{mixed}"),
        },
    });
    if *has_context {
        let data = &mut value["data"];
        data["purposes"][0]["basis"] = "LAWFUL_BASIS_CONSENT".into();
        data["purposes"][0]["notice"] = serde_json::json!({ "noticeId": "notice-of-newsletter", "version": "2026-03" });
        data["collectionPointId"] = "preference-centre".into();
        data["collectionMethod"] = "web-form".into();
        data["jurisdiction"] = "GDPR".into();
        data["userAgent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)".into();
    }
    Made { value: value.to_string().into_bytes(), expected }
}

#[test]
fn events_with_context_are_as_long_as_those_the_figures_speak_of() {
    let of = |n: u64| Of { id: format!("bench-pb-1-{n}"), mixed: n * 0x9e37_79b9, person: n, has_context: true };
    let mean = |make: fn(&Of) -> Made| (0..200).map(|n| make(&of(n)).value.len()).sum::<usize>() / 200;
    let (protobuf, json) = (mean(protobuf), mean(cloudevent));
    assert!((550..=650).contains(&protobuf) && (550..=650).contains(&json), "{protobuf} and {json} bytes");
}
