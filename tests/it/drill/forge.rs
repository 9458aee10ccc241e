//! A log made by hand, so that it can be made wrong by hand.
//!
//! The builder of the product refuses whatever the audit would find, so a forger needs a pen of his own: it cuts pages,
//! links blocks and signs as format.md says, and asks nobody whether what it writes is true. An honest log written with
//! it is sound in the audit's eyes, which every drill begins with. Everything is a function of constants.

use pinfold::core::audit::File;
use pinfold::core::car;
use pinfold::core::checkpoint::{Head, Statement, sign_checkpoint};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::codec::{self, Link};
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, GapRange, GapReason, Leaf, Opened, PartRef, Topic, TopicSource, TopicWhy};
use pinfold::core::merkle::Tree;
use pinfold::core::note::{Cosigner, Skey};
use pinfold::core::origin::Origin;
use pinfold::core::part::{self, Key, Place, SealingKey};
use pinfold::core::position::{Partition, Position};
use pinfold::core::rules::LogRules;
use pinfold::core::segment::{Anchor, Payload, Seal, skip_of};
use pinfold::core::seq::Seq;
use pinfold::core::time::Timestamp;
use pinfold::proto::v1::{Envelope, OperatorPart, PartKey, SubjectPart};
use prost::Message as _;
use serde_bytes::Bytes;

use crate::memory::{Memory, name};

pub(super) const ORIGIN: &str = "example.com/audit/drill";
/// 2026-01-01T00:00:00Z.
pub(super) const DAY: Timestamp = Timestamp(1_767_225_600_000_000);
const PARTITIONS: u64 = 2;
static EPOCH_KEY: Key = Key([0xe0; 32]);
static SUBJECT_KEY: Key = Key([0x5b; 32]);

pub(super) fn origin() -> Origin {
    Origin::new(ORIGIN).unwrap()
}

/// The log's own key; others are a thief's, a stranger's, a successor's.
pub(super) fn key(n: u8) -> Skey {
    Skey::from_seed(ORIGIN, &[n; 32]).unwrap()
}

pub(super) fn recovery() -> Skey {
    Skey::from_seed(&format!("{ORIGIN}/recovery"), &[9; 32]).unwrap()
}

/// An entry without its place: what the pen needs to write it anywhere.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) src: Option<Position>,
    pub(super) says: Says,
    pub(super) parts: Vec<PartRef>,
    pub(super) frames: Vec<Vec<u8>>,
    /// What is done to the bytes of the leaf when they are written.
    pub(super) bend: Option<fn(&mut Vec<u8>)>,
}

/// What an entry says in clear.
#[derive(Clone)]
pub(super) enum Says {
    This(Body),
    /// Kind 5 of the segment before the one it is written in.
    SealBefore,
}

impl Entry {
    pub(super) fn own(body: Body) -> Entry {
        Entry { src: None, says: Says::This(body), parts: Vec::new(), frames: Vec::new(), bend: None }
    }

    /// The event at `seq`, its two parts sealed with keys and randomness that everybody knows.
    fn event(seq: u64, position: Position) -> Entry {
        let bodies = bodies(seq, position);
        let seal = |(at, body): (u32, &Vec<u8>)| {
            let place = Place { oid: origin().oid(), seq: Seq(seq), part: at };
            let subject = (at > 0).then_some(&SUBJECT_KEY);
            part::seal(&place, &SealingKey::new(&EPOCH_KEY, subject), None, body, &random(seq, at)).unwrap()
        };
        let sealed: Vec<_> = (0..).zip(&bodies).map(seal).collect();
        Entry {
            src: Some(position),
            says: Says::This(Body::Event),
            parts: sealed.iter().map(|sealed| sealed.part).collect(),
            frames: sealed.into_iter().map(|sealed| sealed.frame).collect(),
            bend: None,
        }
    }
}

/// The 32 bytes that hide a body and its nonce; no two parts share them.
pub(super) fn random(seq: u64, part: u32) -> [u8; 44] {
    let mut random = [0; 44];
    random[..32].copy_from_slice(&Hash::of_all(&[&seq.to_be_bytes(), &part.to_be_bytes()]).0);
    random
}

/// What the parts of the event at `seq` hold.
pub(super) fn bodies(seq: u64, position: Position) -> Vec<Vec<u8>> {
    let envelope = Envelope {
        id: format!("event-{}-{}", position.partition, position.offset),
        source: "urn:drill".to_owned(),
        r#type: "com.maily.consent.v1".to_owned(),
        time: Some(prost_types::Timestamp { seconds: 1_767_225_599, nanos: 0 }),
        ..Envelope::default()
    };
    let key = PartKey { subject_ref: vec![7; 16], class: 2 };
    let operator = OperatorPart {
        recorded_at: DAY.plus(seq).0,
        source: "kafka".to_owned(),
        keys: vec![key],
        ..OperatorPart::default()
    };
    let subject = SubjectPart { event: envelope.encode_to_vec(), ..SubjectPart::default() };
    vec![operator.encode_to_vec(), subject.encode_to_vec()]
}

/// The entries of a log by segment: each begins with the kind 5 of the one before; segment 9 declares a gap.
pub(super) type Entries = Vec<Vec<Entry>>;

/// The honest log.
pub(super) fn entries(segments: usize, events: usize) -> Entries {
    let (mut log, mut seq, mut offsets) = (Entries::new(), 0, [0; PARTITIONS as usize]);
    for segment in 0..segments {
        let mut entries = if segment == 0 {
            vec![opened(&key(1)), epoch(), topic()]
        } else {
            vec![Entry { says: Says::SealBefore, ..Entry::own(Body::Hold) }]
        };
        if segment == 9 {
            entries.push(gap(&mut offsets[1], 3));
        }
        for at in 0..events {
            let partition = at as u64 % PARTITIONS;
            let offset = &mut offsets[at % PARTITIONS as usize];
            let place = Partition { topic_no: 0, partition }.at(*offset);
            entries.push(Entry::event(seq + entries.len() as u64, place));
            *offset += 1;
        }
        seq += entries.len() as u64;
        log.push(entries);
    }
    log
}

pub(super) fn opened(key: &Skey) -> Entry {
    let (vkey, recovery) = (key.vkey().to_string(), recovery().vkey().to_string());
    Entry::own(Body::LogOpened(Box::new(Opened { vkey, origin: origin(), recovery, continues: None })))
}

fn epoch() -> Entry {
    let classes = ["operator", "quarantine", "consent_proof"].map(str::to_owned).to_vec();
    Entry::own(Body::EpochOpened { epoch: 0, classes })
}

fn topic() -> Entry {
    Entry::own(Body::TopicDeclared(Box::new(Topic {
        why: TopicWhy::New,
        name: "consent".to_owned(),
        shared: false,
        source: TopicSource::Kafka,
        cluster: "cluster".to_owned(),
        replaces: None,
        topic_id: "topic".to_owned(),
        topic_no: 0,
        partitions: PARTITIONS,
    })))
}

fn gap(next: &mut u64, len: u64) -> Entry {
    let partition = Partition { topic_no: 0, partition: 1 };
    let range = GapRange { partition, first: *next, last: *next + len - 1, reason: GapReason::Compaction };
    *next += len;
    Entry::own(Body::Gap(vec![range]))
}

/// Gives every event the next offset of its partition and takes declared gaps away: nothing is missing any more.
pub(super) fn renumber(log: &mut Entries) {
    let mut offsets = [0; PARTITIONS as usize];
    for entries in log {
        entries.retain(|entry| !matches!(entry.says, Says::This(Body::Gap(_))));
        for position in entries.iter_mut().filter_map(|entry| entry.src.as_mut()) {
            let next = &mut offsets[usize::try_from(position.partition).unwrap()];
            position.offset = *next;
            *next += 1;
        }
    }
}

/// Declares every offset without an event, in the segment of the next one: the signed lie.
pub(super) fn declare_gaps(log: &mut Entries) {
    let mut offsets = [0; PARTITIONS as usize];
    for entries in log {
        let mut ranges = Vec::new();
        for entry in &mut *entries {
            if let Says::This(Body::Gap(declared)) = &entry.says {
                declared.iter().for_each(|range| offsets[1] = offsets[1].max(range.last + 1));
            }
            let Some(position) = entry.src else { continue };
            let next = &mut offsets[usize::try_from(position.partition).unwrap()];
            if position.offset > *next {
                let reason = GapReason::RetentionLoss;
                let partition = position.partition();
                ranges.push(GapRange { partition, first: *next, last: position.offset - 1, reason });
            }
            *next = position.offset + 1;
        }
        if !ranges.is_empty() {
            entries.insert(1, Entry::own(Body::Gap(ranges)));
        }
    }
}

/// A log as it was written.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) archive: Memory,
    pub(super) seals: Vec<(Cid, Seal)>,
    /// The leaves of all segments.
    pub(super) leaves: Vec<Vec<u8>>,
}

impl Written {
    /// The checkpoint of a segment.
    pub(super) fn checkpoint(&self, segment: usize) -> &str {
        &self.seals[segment].1.checkpoint
    }

    pub(super) fn newest(&self) -> &str {
        self.checkpoint(self.seals.len() - 1)
    }

    /// The segment and seq of the first entry of a segment.
    pub(super) fn first_of(&self, segment: usize) -> u64 {
        self.seals[segment].1.first.0
    }
}

/// Writes `log`, whatever it says; `sign` gives the checkpoint of a segment, given what it should say.
pub(super) fn write(log: &[Vec<Entry>], sign: &dyn Fn(usize, &Head) -> String) -> Written {
    let mut written = Written { archive: Memory::default(), seals: Vec::new(), leaves: Vec::new() };
    let (mut rules, mut tree, mut prev) = (LogRules::new(), Tree::new(), Hash::ZERO);
    for (segment, entries) in log.iter().enumerate() {
        let (first, peaks) = (tree.size(), tree.peaks().to_vec());
        let (mut page, mut items) = (Vec::new(), Vec::new());
        rules.begin_segment(first, &[]);
        for entry in entries {
            let seq = tree.size().next_seq();
            let body = match &entry.says {
                Says::This(body) => body.clone(),
                Says::SealBefore => seal_before(&written),
            };
            rules.apply(seq, entry.src, &body, &mut Vec::new());
            let mut leaf = codec::encode(&Leaf { seq, src: entry.src, prev, body, parts: entry.parts.clone() });
            entry.bend.into_iter().for_each(|bend| bend(&mut leaf));
            prev = Hash::leaf(&leaf);
            tree.append(prev);
            for (part, frame) in (0u64..).zip(&entry.frames) {
                items.push(codec::encode(&(seq.0, part, Bytes::new(frame))));
            }
            page.push(leaf.clone());
            written.leaves.push(leaf);
        }
        let number = segment as u64;
        let payload = payload_car(number, &items);
        let sources = rules.end_segment(&mut Vec::new()).unwrap_or_default();
        let page = array(&page);
        let index = codec::encode(&[(first.0, Link(cid(&page)))]);
        let link = |n: u64| written.seals.get(usize::try_from(n).unwrap()).map(|(cid, _)| *cid);
        let seal = Seal {
            skip: (number > 0).then(|| skip_of(number)).and_then(link),
            count: entries.len() as u64,
            first,
            peaks,
            leaves: cid(&index),
            origin: origin(),
            payload: payload.as_ref().map(|(cid, _)| *cid),
            segment: number,
            sources,
            prev_seal: number.checked_sub(1).and_then(link),
            checkpoint: sign(segment, &Head { origin: origin(), size: tree.size(), root: tree.root() }),
        };
        let block = seal.encode();
        written.archive.files.insert(name(number, File::Proof), car(&[&block, &index, &page]));
        written.archive.files.extend(payload.map(|(_, car)| (name(number, File::Payload), car)));
        written.seals.push((cid(&block), seal));
    }
    written
}

/// Signs everything with one key.
pub(super) fn by(key: &Skey) -> impl Fn(usize, &Head) -> String {
    move |_, head| sign_checkpoint(head, key)
}

fn seal_before(written: &Written) -> Body {
    let (seal, before) = written.seals.last().unwrap();
    let (at, payload, segment) = (DAY.plus(before.segment), before.payload, before.segment);
    Body::SegmentSealed { at, seal: *seal, payload, segment }
}

/// The payload file of these items: one frame page, for they are few.
pub(super) fn payload_car(segment: u64, items: &[Vec<u8>]) -> Option<(Cid, Vec<u8>)> {
    let first: (u64, u64, &Bytes) = serde_cbor::from_slice(items.first()?).unwrap();
    let page = array(items);
    let index = codec::encode(&[(first.0, first.1, Link(cid(&page)))]);
    let block = Payload { frames: cid(&index), origin: origin(), segment }.encode();
    Some((cid(&block), car(&[&block, &index, &page])))
}

/// An anchor file of these lines, whatever they are worth.
pub(super) fn anchor(seal: Cid, checkpoint: &str, cosignature: &str) -> Vec<u8> {
    Anchor { tsa: Vec::new(), seal, checkpoint: format!("{checkpoint}{cosignature}") }.to_car()
}

/// The witness of the tests.
pub(super) fn witness() -> Cosigner {
    Cosigner::from_seed("witness.example.com/drill", &[0x77; 32]).unwrap()
}

/// Its line over a checkpoint, seen at `DAY`.
pub(super) fn cosigned_line(checkpoint: &str) -> String {
    witness().cosign(Statement::parse(checkpoint).unwrap().note.text, DAY)
}

fn cid(block: &[u8]) -> Cid {
    Cid::of(Codec::DagCbor, block)
}

/// An array of items that are bytes already.
fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let mut head = codec::encode(&vec![(); items.len()]);
    head.truncate(head.len() - items.len());
    [head, items.concat()].concat()
}

/// A CAR of these blocks, the first its root.
fn car(blocks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = car::header(cid(blocks[0]));
    for block in blocks {
        bytes.extend(car::block_head(cid(block), block.len()));
        bytes.extend_from_slice(block);
    }
    bytes
}
