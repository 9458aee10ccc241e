//! The fold: records of one partition become entries.
//!
//! Three steps: decoding and sealing are the costly ones and can be done in any order, by worker threads; knowing people
//! is one thread's work, because order is what the log is about. `pipe` runs them; the writer chains what comes out.
//! A record never vanishes: what is no event of ours becomes a quarantined entry with its reason.

use prost::Message;
use zeroize::Zeroizing;

use super::error::SidecarError;
use super::writer::{QUARANTINE, Writer};
use crate::core::decode::{self, Format};
use crate::core::event::Event;
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::identity::Rules as Identity;
use crate::core::leaf::{Body, QuarantineReason};
use crate::core::part::{self, Key, Place, RANDOM_BYTES, RecordMacKey, Sealed, SealingKey, Zstd};
use crate::core::position::{Partition, Position};
use crate::core::record::Record;
use crate::core::redact;
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::ingest::Arrived;
use crate::keyring::{KeyringError, SubjectRef};
use crate::proto::v1;

/// How the records of a topic are folded.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The configured name of the source, as the operator part has it.
    pub(super) source: String,
    /// How they are read.
    pub(super) format: Format,
    /// Their retention class.
    pub(super) class_name: String,
    /// Its index in the newest epoch.
    pub(super) class: u32,
    /// How identifiers are normalised.
    pub(super) identity: Identity,
    /// The limits of reading.
    pub(super) limits: decode::Limits,
}

/// What a batch added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Folded {
    /// Events.
    pub accepted: u64,
    /// Records that are no event of ours, by reason.
    pub quarantined: [u64; QuarantineReason::ALL.len()],
}

/// What a record is, before it is known whom it is about.
pub(super) struct Read {
    mac: Hash,
    event: Result<Event, QuarantineReason>,
}

/// An entry that lacks only its ciphertext.
pub(super) struct Draft {
    position: Position,
    mac: Hash,
    body: Body,
    parts: Vec<Plain>,
}

/// A part before sealing.
struct Plain {
    key: PlainKey,
    body: Zeroizing<Vec<u8>>,
    random: [u8; RANDOM_BYTES],
}

/// What its key comes from: extracting it is left to whoever seals.
enum PlainKey {
    Extracted(SealingKey),
    OfSubject { epoch: Key, subject: Key },
}

/// An entry that lacks only its place in the chain.
pub(super) struct Whole {
    /// Where its record stands.
    pub(super) position: Position,
    /// The MAC of its record.
    pub(super) mac: Hash,
    /// Event or quarantined.
    pub(super) body: Body,
    /// Its parts, in order.
    pub(super) parts: Result<Vec<Sealed>, Refused>,
}

impl Folded {
    /// Counts an entry.
    pub(super) fn count(&mut self, body: &Body) {
        let Body::Quarantined { reason } = body else {
            self.accepted += 1;
            return;
        };
        let index = usize::try_from(reason.code()).unwrap_or(usize::MAX);
        if let Some(count) = self.quarantined.get_mut(index) {
            *count += 1;
        }
    }

    /// All records that are no event of ours.
    pub fn quarantined_total(&self) -> u64 {
        self.quarantined.iter().sum()
    }

    /// Adds another batch.
    pub fn add(&mut self, other: Folded) {
        self.accepted += other.accepted;
        for (sum, count) in self.quarantined.iter_mut().zip(other.quarantined) {
            *sum += count;
        }
    }
}

/// First step, in any order: decodes records and computes their MACs.
pub(super) fn read_all(
    mac_key: &RecordMacKey,
    format: Format,
    limits: &decode::Limits,
    records: &[Arrived],
) -> Vec<Read> {
    let read = |arrived: &Arrived| Read {
        mac: mac_key.record_mac(&arrived.record),
        event: match arrived.cut {
            Some(_) => Err(QuarantineReason::TooLarge),
            None => decode::decode(&arrived.record, format, limits),
        },
    };
    records.iter().map(read).collect()
}

/// Second step, in the order of the log: knows the people, and writes the bodies of the parts. The first entry will
/// stand at `first`.
///
/// # Errors
/// Those of the keyring. The step may be repeated from the same place.
pub(super) fn draft_all(
    writer: &mut Writer,
    way: &Way,
    partition: Partition,
    first: Seq,
    recorded_at: Timestamp,
    records: &[Arrived],
    reads: &[Read],
) -> Result<Vec<Draft>, SidecarError> {
    let mut seq = first;
    let mut drafts = Vec::with_capacity(records.len());
    for (arrived, read) in records.iter().zip(reads) {
        let position = partition.at(arrived.offset);
        drafts.push(draft(writer, way, seq, position, recorded_at, &arrived.record, read)?);
        seq = seq.next();
    }
    Ok(drafts)
}

/// Third step, in any order: seals the parts of entries whose first stands at `first`.
pub(super) fn seal_all(oid: Hash, first: Seq, zstd: &mut Zstd, drafts: Vec<Draft>) -> Vec<Whole> {
    let seal = |(seq, draft): (u64, Draft)| {
        let Draft { position, mac, body, parts } = draft;
        let sealed = (0u32..).zip(&parts).map(|(part, plain)| {
            let place = Place { oid, seq: Seq(seq), part };
            // Part 0 is small and fits its padding as it is; compression would buy nothing.
            let zstd = if part == 0 && plain.body.len() <= 92 { None } else { Some(&mut *zstd) };
            let key = match &plain.key {
                PlainKey::Extracted(key) => key,
                PlainKey::OfSubject { epoch, subject } => &SealingKey::new(epoch, Some(subject)),
            };
            part::seal(&place, key, zstd, &plain.body, &plain.random)
        });
        Whole { position, mac, body, parts: sealed.collect() }
    };
    (first.0..).zip(drafts).map(seal).collect()
}

/// Knows the people of a record and writes the bodies of its parts.
fn draft(
    writer: &mut Writer,
    way: &Way,
    seq: Seq,
    position: Position,
    recorded_at: Timestamp,
    record: &Record,
    read: &Read,
) -> Result<Draft, SidecarError> {
    let mut operator = v1::OperatorPart {
        recorded_at: recorded_at.0,
        source: way.source.clone(),
        record_mac: read.mac.0.to_vec(),
        ..v1::OperatorPart::default()
    };
    let mut people = Vec::new();
    let body = match &read.event {
        Ok(event) => match know(writer, way, seq, event, &mut operator, &mut people)? {
            None => Body::Event,
            Some(reason) => Body::Quarantined { reason },
        },
        Err(reason) => Body::Quarantined { reason: *reason },
    };
    if let Body::Quarantined { .. } = body {
        operator.keys.clear();
        operator.event.clear();
        operator.decoder = "none".to_owned();
        people = vec![quarantine(writer, record, &mut operator)?];
    }
    let key = PlainKey::Extracted(writer.epoch().operator.clone());
    let mut parts = vec![Plain { key, body: Zeroizing::new(operator.encode_to_vec()), random: writer.random()? }];
    parts.append(&mut people);
    Ok(Draft { position, mac: read.mac, body, parts })
}

/// Finds or makes the surrogate of every person of an event, and the body of their part. A reason where the record
/// belongs into quarantine after all.
fn know(
    writer: &mut Writer,
    way: &Way,
    seq: Seq,
    event: &Event,
    operator: &mut v1::OperatorPart,
    people: &mut Vec<Plain>,
) -> Result<Option<QuarantineReason>, SidecarError> {
    event.decoder.clone_into(&mut operator.decoder);
    operator.event = event.nobody.clone().unwrap_or_default();
    let mut subjects = Vec::with_capacity(event.slices.len());
    // All people first: a conflict in the last of them must leave no count behind for the others.
    for slice in &event.slices {
        let normal = slice.identifiers.iter().map(|identifier| way.identity.normal(identifier));
        let identifiers = match normal.collect::<Result<Vec<_>, _>>() {
            Ok(identifiers) => identifiers,
            Err(reason) => return Ok(Some(reason)),
        };
        if identifiers.is_empty() {
            // A record nobody could read is personal until proven otherwise: a person of its own, found by no look-up.
            subjects.push(SubjectRef(writer.random()?));
            continue;
        }
        match writer.keyring.subject(&identifiers) {
            Ok(subject) => subjects.push(subject.reference),
            Err(KeyringError::Conflict) => return Ok(Some(QuarantineReason::SubjectConflict)),
            Err(KeyringError::NoIdentifiers) => return Ok(Some(QuarantineReason::NoSubject)),
            Err(error) => return Err(error.into()),
        }
    }
    for (slice, subject) in event.slices.iter().zip(subjects) {
        let subject_key = writer.keyring.subject_key(subject, way.class)?;
        let part = v1::SubjectPart {
            event: slice.envelope.clone(),
            raw: slice.raw.clone(),
            subject_seq: writer.keyring.count(subject, seq)?,
        };
        operator.keys.push(v1::PartKey { subject_ref: subject.0.to_vec(), class: way.class });
        people.push(Plain {
            key: PlainKey::OfSubject { epoch: writer.class_key(way.class)?, subject: subject_key },
            body: Zeroizing::new(part.encode_to_vec()),
            random: writer.random()?,
        });
    }
    Ok(None)
}

/// The raw record under a surrogate and key of its own: it can be destroyed alone.
fn quarantine(writer: &mut Writer, record: &Record, operator: &mut v1::OperatorPart) -> Result<Plain, SidecarError> {
    let (subject, key) = writer.keyring.quarantine()?;
    operator.keys.push(v1::PartKey { subject_ref: subject.0.to_vec(), class: QUARANTINE });
    Ok(Plain {
        key: PlainKey::OfSubject { epoch: writer.class_key(QUARANTINE)?, subject: key },
        body: Zeroizing::new(redact::record(record).encode_to_vec()),
        random: writer.random()?,
    })
}
