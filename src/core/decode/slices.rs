//! From an Envelope to an event: one slice per person, none with a word about another.
//!
//! Not a look-up: two slices may turn out to be the same person. Spec: `proto/README.md`, What a record becomes;
//! privacy: what is about several people, or about nobody, keeps no bytes that we do not understand.

use prost::Message;

use super::event_type::EventType;
use super::{Limits, QuarantineReason, validate};
use crate::core::event::{Event, Identifier, Slice};
use crate::core::record::Record;
use crate::core::redact;
use crate::core::time::Timestamp;
use crate::proto::v1::envelope::Body;
use crate::proto::v1::{Envelope, Subject};

/// The bytes of all slices of one record. Their frames must stay within the 64 MiB of an entry; padding adds less than
/// 64 KiB to each of at most 200.
const SLICES_BYTES_MAX: usize = 48 << 20;

/// What the Envelope was read from.
#[derive(Clone, Copy)]
pub(super) enum Received<'a> {
    /// These bytes were the Envelope.
    Envelope(&'a [u8]),
    /// This record was a CloudEvent, and nothing else.
    CloudEvent(&'a Record),
    /// One of the events of a batch: the record is about more than this one.
    Batched,
}

/// Checks an Envelope and slices it.
pub(super) fn event(
    mut envelope: Envelope,
    received: Received<'_>,
    limits: &Limits,
) -> Result<Event, QuarantineReason> {
    let (kind, time) = validate::envelope(&envelope)?;
    let is_changed = redact::envelope(&mut envelope);
    match people(&envelope)? {
        People::Nobody => Ok(about_nobody(envelope, received, is_changed, time)),
        People::One => about_one(envelope, received, is_changed, kind, time),
        People::Several(count) if count > limits.subjects_max => Err(QuarantineReason::TooManySubjects),
        People::Several(_) => about_several(envelope, received, time),
    }
}

/// Refuses slices that no entry could hold.
pub(super) fn within_frames(sizes: impl IntoIterator<Item = usize>) -> Result<(), QuarantineReason> {
    let total = sizes.into_iter().fold(0, usize::saturating_add);
    if total > SLICES_BYTES_MAX { Err(QuarantineReason::TooLarge) } else { Ok(()) }
}

enum People {
    Nobody,
    One,
    Several(usize),
}

/// Who an event is about. The CloudEvents `subject` names the person only where the body does not: many producers put
/// the name of a thing there, and one name for many people would tie them together in the keyring.
fn people(envelope: &Envelope) -> Result<People, QuarantineReason> {
    match &envelope.body {
        Some(Body::Data(data)) if data.subjects.len() > 1 => {
            if data.subjects.iter().any(|subject| subject.identifiers.is_empty()) {
                return Err(QuarantineReason::NoSubject);
            }
            return Ok(People::Several(data.subjects.len()));
        }
        Some(Body::Data(data)) if data.subjects.is_empty() && envelope.subject.is_empty() => {
            return Ok(People::Nobody);
        }
        _ => {}
    }
    let is_named = the_one(envelope).is_some_and(|subject| !subject.identifiers.is_empty());
    match (is_named, envelope.subject.is_empty()) {
        (true, _) => Ok(People::One),
        (false, false) => validate::person(&envelope.subject).map(|()| People::One),
        (false, true) => Err(QuarantineReason::NoSubject),
    }
}

/// The subject of a body that is about one person at most.
fn the_one(envelope: &Envelope) -> Option<&Subject> {
    match &envelope.body {
        Some(Body::Data(data)) => data.subjects.first(),
        Some(Body::Consent(consent)) => consent.subject.as_ref(),
        Some(Body::Dsr(dsr)) => dsr.subject.as_ref(),
        None => None,
    }
}

/// The identifiers of `the_one`, else the attribute, moved out of an Envelope that must have been written before.
fn take_identifiers(envelope: &mut Envelope) -> Vec<Identifier> {
    let subject = match &mut envelope.body {
        Some(Body::Data(data)) => data.subjects.first_mut(),
        Some(Body::Consent(consent)) => consent.subject.as_mut(),
        Some(Body::Dsr(dsr)) => dsr.subject.as_mut(),
        None => None,
    };
    let named = subject.map(std::mem::take).map(identifiers).unwrap_or_default();
    if !named.is_empty() {
        return named;
    }
    vec![Identifier { kind: "external".to_owned(), value: std::mem::take(&mut envelope.subject) }]
}

fn identifiers(subject: Subject) -> Vec<Identifier> {
    let identifier = |i: crate::proto::v1::Identifier| Identifier { kind: i.r#type, value: i.value };
    subject.identifiers.into_iter().map(identifier).collect()
}

/// An event without slices; the strings are moved out of the Envelope, which must have been written before.
fn head(envelope: Envelope, received: Received<'_>, kind: EventType, time: Option<Timestamp>) -> Event {
    Event {
        source: envelope.source,
        id: envelope.id,
        event_type: kind.name(),
        tenant: envelope.tenant_id,
        time,
        decoder: match received {
            Received::Envelope(_) => "protobuf",
            Received::CloudEvent(_) | Received::Batched => "cloudevents",
        },
        slices: Vec::new(),
        nobody: None,
    }
}

/// A use of whole data sets. The operator's part outlives every person's key, so bytes that could hide a person stay
/// out of it.
fn about_nobody(
    mut envelope: Envelope,
    received: Received<'_>,
    mut is_changed: bool,
    time: Option<Timestamp>,
) -> Event {
    if let Some(Body::Data(data)) = &mut envelope.body {
        is_changed |= !std::mem::take(&mut data.raw).is_empty();
    }
    let bytes = match received {
        Received::Envelope(bytes) if !is_changed => bytes.to_vec(),
        _ => envelope.encode_to_vec(),
    };
    let mut event = head(envelope, received, EventType::Data, time);
    event.nobody = Some(bytes);
    event
}

fn about_one(
    mut envelope: Envelope,
    received: Received<'_>,
    is_changed: bool,
    kind: EventType,
    time: Option<Timestamp>,
) -> Result<Event, QuarantineReason> {
    let bytes = match received {
        Received::Envelope(bytes) if !is_changed => bytes.to_vec(),
        _ => envelope.encode_to_vec(),
    };
    let raw = match received {
        Received::CloudEvent(record) => Some(redact::record(record)),
        Received::Envelope(_) | Received::Batched => None,
    };
    within_frames([bytes.len(), raw.as_ref().map_or(0, |raw| raw.encoded_len())])?;
    let identifiers = take_identifiers(&mut envelope);
    let mut event = head(envelope, received, kind, time);
    event.slices = vec![Slice { identifiers, envelope: bytes, raw }];
    Ok(event)
}

/// One slice per person. A subject given twice is one person; `subject` and `partitionkey` stay with the person they
/// name; `raw` goes, because it is about all of them.
fn about_several(
    mut envelope: Envelope,
    received: Received<'_>,
    time: Option<Timestamp>,
) -> Result<Event, QuarantineReason> {
    let Some(Body::Data(data)) = &mut envelope.body else { return Err(QuarantineReason::InvalidValue) };
    let subjects = std::mem::take(&mut data.subjects);
    data.raw.clear();
    let attribute = std::mem::take(&mut envelope.subject);
    let partitionkey = std::mem::take(&mut envelope.partitionkey);
    let shared = envelope.encoded_len();
    within_frames(subjects.iter().map(|subject| shared + subject.encoded_len() + attribute.len()))?;

    let mut seen = std::collections::HashSet::with_capacity(subjects.len());
    let mut slices = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let identifiers = identifiers(subject.clone());
        if !seen.insert(identifiers.clone()) {
            continue;
        }
        let own = |name: &str| {
            if identifiers.iter().any(|i| i.value == name) { name.to_owned() } else { String::new() }
        };
        envelope.subject = own(&attribute);
        envelope.partitionkey = own(&partitionkey);
        set_subject(&mut envelope, subject);
        slices.push(Slice { identifiers, envelope: envelope.encode_to_vec(), raw: None });
    }
    let mut event = head(envelope, received, EventType::Data, time);
    event.slices = slices;
    Ok(event)
}

fn set_subject(envelope: &mut Envelope, subject: Subject) {
    if let Some(Body::Data(data)) = &mut envelope.body {
        data.subjects = vec![subject];
    }
}
