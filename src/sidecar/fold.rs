//! The fold: records of one partition become entries.
//!
//! Decoding and sealing are the costly parts and run on several threads; knowing people and giving places is one
//! thread's work, because order is what the log is about. Nothing is durable before the writer commits.
//! A record never vanishes: what is no event of ours becomes a quarantined entry with its reason.

use std::num::NonZero;

use prost::Message;
use zeroize::Zeroizing;

use super::error::SidecarError;
use super::memo::Memo;
use super::writer::{QUARANTINE, Writer, own};
use crate::core::decode::{self, Format};
use crate::core::event::Event;
use crate::core::hash::Hash;
use crate::core::identity::Rules as Identity;
use crate::core::leaf::{Body, QuarantineReason};
use crate::core::part::{self, Place, RANDOM_BYTES, Sealed, SealingKey, Zstd};
use crate::core::position::{Partition, Position};
use crate::core::record::Record;
use crate::core::redact;
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::ingest::Arrived;
use crate::journal::PositionRow;
use crate::keyring::{KeyringError, SubjectRef};
use crate::proto::v1;

/// How the records of a topic are folded.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The configured name of the source, as the operator part has it.
    pub(super) source: String,
    /// How they are read.
    pub(super) format: Format,
    /// The index of their retention class.
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

/// A record after the first parallel step.
struct Read {
    mac: Hash,
    event: Result<Event, QuarantineReason>,
}

/// An entry that lacks only its ciphertext.
struct Draft {
    position: Position,
    body: Body,
    parts: Vec<Plain>,
}

/// A part before sealing.
struct Plain {
    key: SealingKey,
    body: Zeroizing<Vec<u8>>,
    random: [u8; RANDOM_BYTES],
}

/// Folds `records` of `partition`, which follow its position without a hole. `state` is kept with the position.
///
/// # Errors
/// Those of writer and keyring; then nothing of the batch may be committed.
pub(super) fn fold(
    writer: &mut Writer,
    zstds: &mut [Zstd],
    way: &Way,
    partition: Partition,
    records: &[Arrived],
    state: &[u8],
    now: Timestamp,
) -> Result<Folded, SidecarError> {
    let (Some(last), false) = (records.last(), zstds.is_empty()) else { return Ok(Folded::default()) };
    let recorded_at = writer.record_time(now)?;
    let reads = read_all(writer, zstds.len(), way, records);
    let mac = reads.last().map(|read| read.mac);
    let mut folded = Folded::default();
    let mut drafts = Vec::with_capacity(records.len());
    let first = writer.begin_entries()?;
    let mut seq = first;
    for (arrived, read) in records.iter().zip(reads) {
        let position = partition.at(arrived.offset);
        let draft = draft(writer, way, seq, position, recorded_at, &arrived.record, read)?;
        match draft.body {
            Body::Quarantined { reason } => folded.count(reason),
            _ => folded.accepted += 1,
        }
        drafts.push(draft);
        seq = seq.next();
    }
    let sealed = seal_all(writer.oid(), first, zstds, &drafts);
    for (draft, parts) in drafts.into_iter().zip(sealed) {
        writer.push(draft.body, Some(draft.position), own("a part about to be sealed", parts)?)?;
    }
    let memo = Memo { last: Some(last.offset), epoch: writer.epoch().number, state: state.to_vec() }.encode();
    writer.set_position(partition, PositionRow { next_offset: last.offset + 1, record_mac: mac, memo });
    Ok(folded)
}

impl Folded {
    fn count(&mut self, reason: QuarantineReason) {
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

/// How many items one of `threads` gets.
fn share(items: usize, threads: usize) -> NonZero<usize> {
    NonZero::new(items.div_ceil(threads.max(1))).unwrap_or(NonZero::<usize>::MIN)
}

/// Decodes and recognises the records, in order.
fn read_all(writer: &Writer, threads: usize, way: &Way, records: &[Arrived]) -> Vec<Read> {
    let mac_key = &writer.epoch().record_mac;
    let read = |arrived: &Arrived| Read {
        mac: mac_key.record_mac(&arrived.record),
        event: match arrived.cut {
            Some(_) => Err(QuarantineReason::TooLarge),
            None => decode::decode(&arrived.record, way.format, &way.limits),
        },
    };
    let share = share(records.len(), threads);
    if share.get() >= records.len() {
        return records.iter().map(read).collect();
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = records
            .chunks(share.get())
            .map(|chunk| scope.spawn(move || chunk.iter().map(read).collect::<Vec<_>>()))
            .collect();
        running.into_iter().flat_map(join).collect()
    })
}

/// A panic of a worker is a bug: it goes on in the thread that waits, and nothing is committed.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Knows the people of a record and writes the bodies of its parts.
fn draft(
    writer: &mut Writer,
    way: &Way,
    seq: Seq,
    position: Position,
    recorded_at: Timestamp,
    record: &Record,
    read: Read,
) -> Result<Draft, SidecarError> {
    let mut operator = v1::OperatorPart {
        recorded_at: recorded_at.0,
        source: way.source.clone(),
        record_mac: read.mac.0.to_vec(),
        ..v1::OperatorPart::default()
    };
    let mut people = Vec::new();
    let body = match read.event {
        Ok(event) => match know(writer, way, seq, &event, &mut operator, &mut people)? {
            None => Body::Event,
            Some(reason) => Body::Quarantined { reason },
        },
        Err(reason) => Body::Quarantined { reason },
    };
    if let Body::Quarantined { .. } = body {
        operator.keys.clear();
        operator.event.clear();
        operator.decoder = "none".to_owned();
        people = vec![quarantine(writer, record, &mut operator)?];
    }
    let key = writer.epoch().operator.clone();
    let mut parts = vec![Plain { key, body: Zeroizing::new(operator.encode_to_vec()), random: writer.random()? }];
    parts.append(&mut people);
    Ok(Draft { position, body, parts })
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
            key: writer.sealing_key(way.class, Some(&subject_key))?,
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
        key: writer.sealing_key(QUARANTINE, Some(&key))?,
        body: Zeroizing::new(redact::record(record).encode_to_vec()),
        random: writer.random()?,
    })
}

/// Seals the parts of all drafts, in order; the first stands at `first`.
fn seal_all(
    oid: Hash,
    first: Seq,
    zstds: &mut [Zstd],
    drafts: &[Draft],
) -> Vec<Result<Vec<Sealed>, crate::core::finding::Refused>> {
    let seal = |zstd: &mut Zstd, at: usize, draft: &Draft| {
        let seq = Seq(first.0 + u64::try_from(at).unwrap_or(u64::MAX));
        let parts = (0u32..).zip(&draft.parts);
        let sealed = parts.map(|(part, plain)| {
            let place = Place { oid, seq, part };
            // Part 0 is small and fits its padding as it is; compression would buy nothing.
            let zstd = if part == 0 && plain.body.len() <= 92 { None } else { Some(&mut *zstd) };
            part::seal(&place, &plain.key, zstd, &plain.body, &plain.random)
        });
        sealed.collect::<Result<Vec<_>, _>>()
    };
    let share = share(drafts.len(), zstds.len()).get();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for ((n, chunk), zstd) in drafts.chunks(share).enumerate().zip(zstds) {
            running.push(scope.spawn(move || {
                let seal = |(i, draft)| seal(zstd, n * share + i, draft);
                chunk.iter().enumerate().map(seal).collect::<Vec<_>>()
            }));
        }
        running.into_iter().flat_map(join).collect()
    })
}
