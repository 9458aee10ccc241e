//! The fold: records of one partition become entries.
//!
//! Three steps: decoding and sealing are the costly ones and can be done in any order, by worker threads; knowing people
//! is one thread's work, because order is what the log is about, so it does nothing but that. `pipe` runs them; the
//! writer chains what comes out. A record never vanishes: what is no event of ours becomes a quarantined entry with its
//! reason.

use prost::Message;
use zeroize::Zeroizing;

use super::error::SidecarError;
use super::writer::{QUARANTINE, Writer};
use crate::core::decode::{self, Format};
use crate::core::event::{Event, Slice};
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::identity::Rules as Identity;
use crate::core::leaf::{Body, QuarantineReason};
use crate::core::part::{self, EpochKey, Key, Place, RANDOM_BYTES, RecordMacKey, Sealed, SealingKey, Zstd};
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
    event: Result<Said, QuarantineReason>,
}

/// What an event says, ready to be sealed.
struct Said {
    decoder: &'static str,
    people: Vec<Person>,
    /// The serialised Envelope of an event about nobody; else empty.
    nobody: Vec<u8>,
}

/// What an event says about one person.
struct Person {
    /// As the keyring looks them up; the refusal is that of the whole record.
    identifiers: Result<Vec<String>, QuarantineReason>,
    /// The body of the part but for `subject_seq`, its last field, for which there is room.
    body: Zeroizing<Vec<u8>>,
}

/// What an entry takes of keyring and randomness.
pub(super) struct Draft {
    /// Set where the record belongs into quarantine.
    quarantined: Option<QuarantineReason>,
    /// Of part 0.
    random: [u8; RANDOM_BYTES],
    /// The keys of the parts after it, in order.
    people: Vec<Known>,
}

/// A person, or a quarantined record, as the keyring knows them.
struct Known {
    subject: SubjectRef,
    key: Key,
    subject_seq: u64,
    random: [u8; RANDOM_BYTES],
}

/// What the entries of a batch have in common.
pub(super) struct Batch {
    oid: Hash,
    first: Seq,
    partition: Partition,
    recorded_at: Timestamp,
    source: String,
    class: u32,
    operator: SealingKey,
    class_key: EpochKey,
    quarantine_key: EpochKey,
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

impl Batch {
    /// Records of `partition` whose first entry will stand at `first`.
    ///
    /// # Errors
    /// `KeyGone`.
    pub(super) fn new(
        writer: &Writer,
        way: &Way,
        partition: Partition,
        first: Seq,
        recorded_at: Timestamp,
    ) -> Result<Batch, SidecarError> {
        Ok(Batch {
            oid: writer.oid(),
            first,
            partition,
            recorded_at,
            source: way.source.clone(),
            class: way.class,
            operator: writer.epoch().operator.clone(),
            class_key: EpochKey::new(&writer.class_key(way.class)?),
            quarantine_key: EpochKey::new(&writer.class_key(QUARANTINE)?),
        })
    }
}

/// First step, in any order: decodes records, computes their MACs, and writes what the parts of people hold.
pub(super) fn read_all(mac_key: &RecordMacKey, way: &Way, records: &[Arrived]) -> Vec<Read> {
    let read = |arrived: &Arrived| Read {
        mac: mac_key.record_mac(&arrived.record),
        event: match arrived.cut {
            Some(_) => Err(QuarantineReason::TooLarge),
            None => decode::decode(&arrived.record, way.format, &way.limits).map(|event| Said::of(event, way.identity)),
        },
    };
    records.iter().map(read).collect()
}

impl Said {
    fn of(event: Event, identity: Identity) -> Said {
        let person = |slice: Slice| {
            let normal = slice.identifiers.iter().map(|identifier| identity.normal(identifier));
            let identifiers = normal.collect();
            let part = v1::SubjectPart { event: slice.envelope, raw: slice.raw, subject_seq: 0 };
            let mut body = Zeroizing::new(Vec::with_capacity(part.encoded_len() + SUBJECT_SEQ_BYTES_MAX));
            encode_onto(&mut body, &part);
            Person { identifiers, body }
        };
        let people = event.slices.into_iter().map(person).collect();
        Said { decoder: event.decoder, people, nobody: event.nobody.unwrap_or_default() }
    }
}

/// Tag and value of `subject_seq`, at most.
const SUBJECT_SEQ_BYTES_MAX: usize = 1 + 10;

/// Fields written one after the other are one message: what is left of a part goes behind what was written before.
#[expect(clippy::expect_used, reason = "encoding fails only where a buffer cannot grow, and a Vec can")]
fn encode_onto(bytes: &mut Vec<u8>, part: &impl Message) {
    part.encode(bytes).expect("a Vec has room");
}

/// Second step, in the order of the log: knows the people. The first entry will stand at `first`.
///
/// # Errors
/// Those of the keyring. The step may be repeated from the same place.
pub(super) fn draft_all(
    writer: &mut Writer,
    way: &Way,
    first: Seq,
    reads: &[Read],
) -> Result<Vec<Draft>, SidecarError> {
    let mut seq = first;
    let mut drafts = Vec::with_capacity(reads.len());
    for read in reads {
        drafts.push(draft(writer, way, seq, read)?);
        seq = seq.next();
    }
    Ok(drafts)
}

/// Knows the people of a record.
fn draft(writer: &mut Writer, way: &Way, seq: Seq, read: &Read) -> Result<Draft, SidecarError> {
    let known = match &read.event {
        Ok(said) => know(writer, way, seq, &said.people)?,
        Err(reason) => Err(*reason),
    };
    let random = writer.random()?;
    Ok(match known {
        Ok(people) => Draft { quarantined: None, random, people },
        Err(reason) => Draft { quarantined: Some(reason), random, people: vec![quarantine(writer)?] },
    })
}

/// Finds or makes the surrogate of every person of an event. A reason where the record belongs into quarantine after
/// all.
fn know(
    writer: &mut Writer,
    way: &Way,
    seq: Seq,
    people: &[Person],
) -> Result<Result<Vec<Known>, QuarantineReason>, SidecarError> {
    let mut subjects = Vec::with_capacity(people.len());
    // All people first: a conflict in the last of them must leave no count behind for the others.
    for person in people {
        let identifiers = match &person.identifiers {
            Ok(identifiers) => identifiers,
            Err(reason) => return Ok(Err(*reason)),
        };
        if identifiers.is_empty() {
            // A record nobody could read is personal until proven otherwise: a person of its own, found by no look-up.
            subjects.push(SubjectRef(writer.random()?));
            continue;
        }
        match writer.keyring.subject(identifiers) {
            Ok(subject) => subjects.push(subject.reference),
            Err(KeyringError::Conflict) => return Ok(Err(QuarantineReason::SubjectConflict)),
            Err(KeyringError::NoIdentifiers) => return Ok(Err(QuarantineReason::NoSubject)),
            Err(error) => return Err(error.into()),
        }
    }
    let mut known = Vec::with_capacity(subjects.len());
    for subject in subjects {
        known.push(Known {
            subject,
            key: writer.keyring.subject_key(subject, way.class)?,
            subject_seq: writer.keyring.count(subject, seq)?,
            random: writer.random()?,
        });
    }
    Ok(Ok(known))
}

/// A surrogate and key of its own for the raw record: it can be destroyed alone.
fn quarantine(writer: &mut Writer) -> Result<Known, SidecarError> {
    let (subject, key) = writer.keyring.quarantine()?;
    Ok(Known { subject, key, subject_seq: 0, random: writer.random()? })
}

/// Third step, in any order: writes what is left of the parts, and seals them.
pub(super) fn seal_all(
    batch: &Batch,
    zstd: &mut Zstd,
    records: &[Arrived],
    reads: Vec<Read>,
    drafts: Vec<Draft>,
) -> Vec<Whole> {
    // One for all entries, filled anew for each, so that its fields keep their room.
    let mut operator = v1::OperatorPart {
        recorded_at: batch.recorded_at.0,
        source: batch.source.clone(),
        ..v1::OperatorPart::default()
    };
    let mut wholes = Vec::with_capacity(records.len());
    let mut seq = batch.first;
    for (arrived, (read, draft)) in records.iter().zip(reads.into_iter().zip(drafts)) {
        let (mac, position) = (read.mac, batch.partition.at(arrived.offset));
        let (body, said, class, class_key) = match (draft.quarantined, read.event) {
            (None, Ok(said)) => (Body::Event, said, batch.class, &batch.class_key),
            (Some(reason), _) | (None, Err(reason)) => {
                (Body::Quarantined { reason }, Said::raw(&arrived.record), QUARANTINE, &batch.quarantine_key)
            }
        };
        fill(&mut operator, &said, mac, class, &draft.people);
        let parts = seal(batch, seq, zstd, &operator, class_key, said.people, &draft);
        wholes.push(Whole { position, mac, body, parts });
        seq = seq.next();
    }
    wholes
}

impl Said {
    /// Of a record that is no event of ours: the raw record.
    fn raw(record: &Record) -> Said {
        let body = Zeroizing::new(redact::record(record).encode_to_vec());
        let person = Person { identifiers: Ok(Vec::new()), body };
        Said { decoder: "none", people: vec![person], nobody: Vec::new() }
    }
}

/// What the operator part says of one entry.
fn fill(operator: &mut v1::OperatorPart, said: &Said, mac: Hash, class: u32, people: &[Known]) {
    said.decoder.clone_into(&mut operator.decoder);
    said.nobody.clone_into(&mut operator.event);
    mac.0.as_slice().clone_into(&mut operator.record_mac);
    operator.keys.resize_with(people.len(), v1::PartKey::default);
    for (key, known) in operator.keys.iter_mut().zip(people) {
        known.subject.0.as_slice().clone_into(&mut key.subject_ref);
        key.class = class;
    }
}

/// Seals the parts of the entry at `seq`.
fn seal(
    batch: &Batch,
    seq: Seq,
    zstd: &mut Zstd,
    operator: &v1::OperatorPart,
    class_key: &EpochKey,
    people: Vec<Person>,
    draft: &Draft,
) -> Result<Vec<Sealed>, Refused> {
    let place = |part| Place { oid: batch.oid, seq, part };
    let body = Zeroizing::new(operator.encode_to_vec());
    // Part 0 is small and fits its padding as it is; compression would buy nothing.
    let needs_zstd = body.len() > 92;
    let mut parts = Vec::with_capacity(1 + people.len());
    parts.push(part::seal(&place(0), &batch.operator, needs_zstd.then_some(&mut *zstd), &body, &draft.random)?);
    for (part, (Person { mut body, .. }, known)) in (1..).zip(people.into_iter().zip(&draft.people)) {
        encode_onto(&mut body, &v1::SubjectPart { subject_seq: known.subject_seq, ..v1::SubjectPart::default() });
        let key = class_key.sealing_key(Some(&known.key));
        parts.push(part::seal(&place(part), &key, Some(&mut *zstd), &body, &known.random)?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::decode::Limits;
    use crate::core::synthetic::{ENCODINGS, Generator};

    proptest! {
        #[test]
        fn a_part_written_in_two_steps_is_the_message_and_its_bytes_never_move(
            seed in any::<u64>(), encoding in 0usize..3, subject_seq in any::<u64>()
        ) {
            let record = Generator::new(seed, 9, Timestamp(1)).record(ENCODINGS[encoding]);
            let event = decode::decode(&record, Format::Auto, &Limits::default()).expect("an event");
            let said = Said::of(event.clone(), Identity::default());
            prop_assert_eq!(said.people.len(), event.slices.len());
            for (mut person, slice) in said.people.into_iter().zip(event.slices) {
                let room = person.body.as_ptr();
                encode_onto(&mut person.body, &v1::SubjectPart { subject_seq, ..v1::SubjectPart::default() });
                prop_assert_eq!(room, person.body.as_ptr());
                let whole = v1::SubjectPart { event: slice.envelope, raw: slice.raw, subject_seq };
                prop_assert_eq!(&*person.body, &whole.encode_to_vec());
            }
        }
    }

    #[test]
    fn an_operator_part_filled_again_keeps_nothing_of_the_entry_before() {
        let said = |decoder, nobody: &[u8]| Said { decoder, people: Vec::new(), nobody: nobody.to_vec() };
        let known =
            |byte| Known { subject: SubjectRef([byte; 16]), key: Key([0; 32]), subject_seq: 1, random: [0; 44] };
        let filled = |operator: &mut v1::OperatorPart, entry: &(Said, Hash, u32, Vec<Known>)| {
            fill(operator, &entry.0, entry.1, entry.2, &entry.3);
            operator.encode_to_vec()
        };
        let entries = [
            (said("cloudevents", b"about nobody"), Hash([1; 32]), 2, vec![known(1), known(2)]),
            (said("none", b""), Hash([2; 32]), 1, vec![known(3)]),
            (said("protobuf", b""), Hash([3; 32]), 2, Vec::new()),
            (said("protobuf", b""), Hash([4; 32]), 3, vec![known(4), known(5), known(6)]),
        ];
        let mut operator = v1::OperatorPart::default();
        for entry in entries.iter().chain(entries.iter().rev()) {
            assert_eq!(filled(&mut operator, entry), filled(&mut v1::OperatorPart::default(), entry));
        }
    }
}
