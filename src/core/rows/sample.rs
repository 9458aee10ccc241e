//! A log of two segments for tests: every kind that makes rows, with parts as the fold opens them.
//!
//! Used by the unit tests here and, by path, by the tests against real peers; hence `pinfold::`, never `crate::`.

use std::collections::BTreeMap;

use pinfold::core::checkpoint::{Head, sign_checkpoint};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::completeness::Source;
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{
    Body, GapRange, GapReason, KeyStep, Leaf, Opened, PartRef, QuarantineReason, Topic, TopicSource, TopicWhy,
};
use pinfold::core::note::{Skey, sign_note};
use pinfold::core::origin::Origin;
use pinfold::core::position::Partition;
use pinfold::core::rows::{Fold, Sealed, SegmentRows};
use pinfold::core::segment::Seal;
use pinfold::core::seq::{Seq, Size};
use pinfold::core::time::Timestamp;
use pinfold::proto::v1::{Envelope, OperatorPart, PartKey, RawRecord, SubjectPart};
use prost::Message;

/// 2026-01-01T00:00:00Z.
pub(crate) const DAY: Timestamp = Timestamp(1_767_225_600_000_000);
const PARTITION: Partition = Partition { topic_no: 0, partition: 3 };

/// The log's name.
pub(crate) fn origin() -> Origin {
    Origin::new("example.com/audit/main").unwrap()
}

/// A log being written: leaves of the open segment, and the bodies of all parts.
pub(crate) struct Log {
    pub(crate) fold: Fold,
    leaves: Vec<Vec<u8>>,
    bodies: BTreeMap<(u64, u32), Vec<u8>>,
    seals: Vec<(Seal, Cid)>,
    /// The leaves of each.
    sealed_leaves: Vec<Vec<Vec<u8>>>,
    seq: u64,
    prev: Hash,
    next: u64,
    next_before: u64,
    events: u64,
    key: Skey,
    at: Timestamp,
}

impl Log {
    pub(crate) fn new() -> Log {
        Log {
            fold: Fold::new(&origin()),
            leaves: Vec::new(),
            bodies: BTreeMap::new(),
            seals: Vec::new(),
            sealed_leaves: Vec::new(),
            seq: 0,
            prev: Hash::ZERO,
            next: 0,
            next_before: 0,
            events: 0,
            key: Skey::from_seed(origin().as_str(), &[1; 32]).unwrap(),
            at: DAY,
        }
    }

    /// Appends an entry with these part bodies; `None` is a part whose key is gone. Gives its seq.
    pub(crate) fn append(&mut self, body: Body, parts: &[Option<Vec<u8>>]) -> u64 {
        let seq = self.seq;
        let is_record = matches!(body, Body::Event | Body::Quarantined { .. });
        let src = is_record.then(|| PARTITION.at(self.next));
        if is_record {
            self.next += 1;
            self.events += 1;
        }
        for (part, body) in (0..).zip(parts) {
            self.bodies.extend(body.clone().map(|body| ((seq, part), body)));
        }
        let part = PartRef { commitment: Hash::of(b"commitment"), digest: Hash::of(&seq.to_be_bytes()) };
        let leaf = Leaf { seq: Seq(seq), src, prev: self.prev, body, parts: vec![part; parts.len()] };
        let leaf = leaf.encode().unwrap();
        self.prev = Hash::leaf(&leaf);
        self.leaves.push(leaf);
        self.seq += 1;
        seq
    }

    /// The operator part of a record with `people` other parts; each record comes a millisecond after the last.
    pub(crate) fn operator(&mut self, people: usize, event: Option<&Envelope>) -> Option<Vec<u8>> {
        self.at = self.at.plus(1_000);
        let key = PartKey { subject_ref: vec![7; 16], class: 2 };
        let event = event.map(Message::encode_to_vec).unwrap_or_default();
        let part = OperatorPart { recorded_at: self.at.0, keys: vec![key; people], event, ..OperatorPart::default() };
        Some(part.encode_to_vec())
    }

    /// An event about one person.
    pub(crate) fn event(&mut self, id: &str) -> u64 {
        let subject = SubjectPart { event: envelope(id).encode_to_vec(), ..SubjectPart::default() };
        let parts = [self.operator(1, None), Some(subject.encode_to_vec())];
        self.append(Body::Event, &parts)
    }

    /// A declared gap of `len` offsets.
    pub(crate) fn gap(&mut self, len: u64, reason: GapReason) -> u64 {
        let range = GapRange { partition: PARTITION, first: self.next, last: self.next + len - 1, reason };
        self.next += len;
        self.append(Body::Gap(vec![range]), &[])
    }

    /// Seals what is open and gives its rows.
    pub(crate) fn seal(&mut self) -> SegmentRows {
        let leaves = std::mem::take(&mut self.leaves);
        let count = u64::try_from(leaves.len()).unwrap();
        let head = Head { origin: origin(), size: Size(self.seq), root: Hash::of(&self.seq.to_be_bytes()) };
        let source = Source { partition: PARTITION, first: self.next_before, next: self.next, entries: self.events };
        let seal = Seal {
            skip: None,
            count,
            first: Size(self.seq - count),
            peaks: Vec::new(),
            leaves: Cid::of(Codec::DagCbor, b"index"),
            origin: origin(),
            payload: Some(Cid::of(Codec::DagCbor, &self.seq.to_be_bytes())),
            segment: u64::try_from(self.seals.len()).unwrap(),
            sources: vec![source],
            prev_seal: self.seals.last().map(|(_, cid)| *cid),
            checkpoint: sign_checkpoint(&head, &self.key),
        };
        (self.next_before, self.events) = (self.next, 0);
        let cid = Cid::of(Codec::DagCbor, &seal.encode());
        let sealed = Sealed {
            cid,
            seal: &seal,
            proof_bytes: 1000 + count,
            payload_bytes: Some(2000 + count),
            sealed_at: Some(self.at.plus(1)),
            registered_at: Some(self.at.plus(2)),
        };
        let bodies = &self.bodies;
        let rows = self.fold.segment(&sealed, leaves.iter().map(Vec::as_slice), |wanted| {
            assert_eq!(wanted.key.is_some(), wanted.part > 0);
            Ok::<_, std::convert::Infallible>(bodies.get(&(wanted.seq.0, wanted.part)))
        });
        self.seals.push((seal.clone(), cid));
        self.sealed_leaves.push(leaves);
        rows.unwrap()
    }

    /// Begins the fold again and passes every sealed segment. Gives how many parts that opened.
    pub(crate) fn pass_all(&mut self) -> usize {
        self.fold = Fold::new(&origin());
        for ((seal, cid), leaves) in self.seals.iter().zip(&self.sealed_leaves) {
            let (payload_bytes, sealed_at, registered_at) = (None, None, None);
            let sealed = Sealed { cid: *cid, seal, proof_bytes: 0, payload_bytes, sealed_at, registered_at };
            self.fold.pass::<std::convert::Infallible>(&sealed, leaves.iter().map(Vec::as_slice)).unwrap();
        }
        let (bodies, mut opened) = (&self.bodies, 0);
        for leaves in self.sealed_leaves.iter().rev() {
            let told = self.fold.tell_time(leaves.iter().map(Vec::as_slice), |wanted| {
                assert_eq!((wanted.key.is_none(), wanted.part), (true, 0));
                opened += 1;
                Ok::<_, std::convert::Infallible>(bodies.get(&(wanted.seq.0, wanted.part)))
            });
            if told.unwrap() {
                break;
            }
        }
        opened
    }

    /// Rotates the log's key.
    pub(crate) fn rotate(&mut self, seed: u8) -> u64 {
        let new = Skey::from_seed(origin().as_str(), &[seed; 32]).unwrap();
        let text = format!("pinfold/v1/rotate\n{}\n{}\n{}\n{}\n", origin(), self.seq, self.key.vkey(), new.vkey());
        let note = sign_note(&text, &[&self.key, &new]);
        self.key = new;
        self.append(Body::KeyChanged { note, step: KeyStep::Rotated }, &[])
    }
}

/// The envelope of an event.
pub(crate) fn envelope(id: &str) -> Envelope {
    Envelope {
        id: id.to_owned(),
        source: "urn:shop".to_owned(),
        r#type: "com.maily.consent.v1".to_owned(),
        tenant_id: "t1".to_owned(),
        time: Some(prost_types::Timestamp { seconds: 1_767_225_599, nanos: 123_456_789 }),
        ..Envelope::default()
    }
}

/// The first segment: the opening, a gap before the log, `events` events, and one record of each awkward sort.
pub(crate) fn first_segment(log: &mut Log, events: u64) -> SegmentRows {
    let opened = Opened {
        vkey: log.key.vkey().to_string(),
        origin: origin(),
        recovery: Skey::from_seed("example.com/audit/main/recovery", &[9; 32]).unwrap().vkey().to_string(),
        continues: None,
    };
    log.append(Body::LogOpened(Box::new(opened)), &[]);
    let classes = ["operator", "quarantine", "operational"].map(str::to_owned).to_vec();
    log.append(Body::EpochOpened { epoch: 0, classes }, &[]);
    let topic = Topic {
        why: TopicWhy::New,
        name: "consent".to_owned(),
        shared: false,
        source: TopicSource::Kafka,
        cluster: "cluster-1".to_owned(),
        replaces: None,
        topic_id: "topic-1".to_owned(),
        topic_no: 0,
        partitions: 4,
    };
    log.append(Body::TopicDeclared(Box::new(topic)), &[]);
    log.gap(10, GapReason::BeforeThisLog);
    for n in 0..events {
        log.event(&format!("e-{n} \"ü\" ?"));
    }
    // The same event once more; one about nobody; one of a person erased since; filler; a record that is no event.
    log.event("e-0 \"ü\" ?");
    let parts = [log.operator(0, Some(&envelope("nobody")))];
    log.append(Body::Event, &parts);
    let parts = [log.operator(1, None), None];
    log.append(Body::Event, &parts);
    let raw = RawRecord { timestamp_ms: 1_767_225_598_765, timestamp_type: 1, ..RawRecord::default() };
    let parts = [log.operator(1, None), Some(raw.encode_to_vec())];
    log.append(Body::Quarantined { reason: QuarantineReason::Undecodable }, &parts);
    log.gap(2, GapReason::RetentionLoss);
    log.event("last");
    log.seal()
}

/// The second segment: what the log says of the first, an overlap, a new key and some events.
pub(crate) fn second_segment(log: &mut Log, first: &SegmentRows) -> SegmentRows {
    let (seal, payload) = (first.segment.seal_cid, first.segment.payload_cid);
    let (sealed_at, registered_at) = (first.segment.sealed_at.unwrap(), first.segment.registered_at.unwrap());
    log.append(Body::SegmentSealed { at: sealed_at, seal, payload, segment: 0 }, &[]);
    for (cid, bytes) in [(Some(seal), 100), (payload, 200)] {
        let target = "vault".to_owned();
        log.append(Body::Pinned { at: sealed_at, cid: cid.unwrap(), bytes, target }, &[]);
    }
    let (receipt, registrar) = ("1 entry".to_owned(), "local".to_owned());
    log.append(Body::Registered { at: registered_at, seal, receipt, registrar }, &[]);
    log.append(Body::Overlap { first: 12, last: 14, origin: None, partition: PARTITION }, &[]);
    log.rotate(2);
    log.event("after");
    log.seal()
}
