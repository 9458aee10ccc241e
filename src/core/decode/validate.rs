//! The rules of a body: what is required, which codes are known, how long a text may be.
//!
//! The lengths are those of the registry's columns, so that what is in the log also fits there. Not here: who the
//! people are and how many (`slices`), how an identifier is normalised (`identity`).

use std::collections::BTreeSet;

use super::QuarantineReason::{self, InvalidValue, UnknownCode};
use super::event_type::EventType;
use crate::core::time::Timestamp;
use crate::proto::v1::envelope::Body;
use crate::proto::v1::{
    ConsentEvent, DataAction, DataEvent, DatasetRef, Decision, DsrEvent, DsrKind, Envelope, LawfulBasis,
    PurposeDecision, Subject,
};

type Checked = Result<(), QuarantineReason>;

/// Ways to name one person in one event.
const IDENTIFIERS_MAX: usize = 64;
/// 9999-12-31T23:59:59Z, the last second RFC 3339 and SQL can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// Checks the attributes and the body; gives the type and the claimed time.
pub(super) fn envelope(envelope: &Envelope) -> Result<(EventType, Option<Timestamp>), QuarantineReason> {
    let kind = EventType::of_name(&envelope.r#type)?;
    let body = envelope.body.as_ref().ok_or(InvalidValue)?;
    if EventType::of_body(body) != kind {
        return Err(InvalidValue);
    }
    required(&envelope.id, 1024)?;
    required(&envelope.source, 1024)?;
    optional(&envelope.subject, 1024)?;
    optional(&envelope.tenant_id, 255)?;
    let at = time(envelope.time.as_ref())?;
    match body {
        Body::Consent(event) => consent(event)?,
        Body::Data(event) => data(event)?,
        Body::Dsr(event) => dsr(event)?,
    }
    Ok((kind, at))
}

fn consent(event: &ConsentEvent) -> Checked {
    optional(&event.receipt_id, 255)?;
    optional(&event.collection_point_id, 255)?;
    optional(&event.jurisdiction, 32)?;
    optional(&event.supersedes_event_id, 1024)?;
    for at in [&event.interaction_time, &event.consent_time, &event.withdrawn_time, &event.received_time] {
        time(at.as_ref())?;
    }
    event.subject.iter().try_for_each(subject)?;
    if event.purposes.is_empty() && event.signals.is_empty() {
        return Err(InvalidValue);
    }
    event.purposes.iter().try_for_each(purpose)
}

fn purpose(purpose: &PurposeDecision) -> Checked {
    required(&purpose.purpose_id, 255)?;
    optional(&purpose.purpose_version, 64)?;
    optional(&purpose.source_code, 64)?;
    decision(purpose.decision)?;
    LawfulBasis::try_from(purpose.basis).map_err(|_| UnknownCode)?;
    time(purpose.valid_from.as_ref())?;
    time(purpose.valid_until.as_ref())?;
    if let Some(notice) = &purpose.notice {
        optional(&notice.notice_id, 255)?;
        optional(&notice.version, 64)?;
        if !matches!(notice.text_sha256.len(), 0 | 32) {
            return Err(InvalidValue);
        }
    }
    let mut options = BTreeSet::new();
    for preference in &purpose.preferences {
        optional(&preference.group_id, 255)?;
        required(&preference.option_id, 255)?;
        decision(preference.decision)?;
        // Two decisions about one option: which of them holds would be a guess.
        if !options.insert((&preference.group_id, &preference.option_id)) {
            return Err(InvalidValue);
        }
    }
    Ok(())
}

fn data(event: &DataEvent) -> Checked {
    match DataAction::try_from(event.action) {
        Err(_) => return Err(UnknownCode),
        Ok(DataAction::Unspecified) => return Err(InvalidValue),
        Ok(_) => {}
    }
    LawfulBasis::try_from(event.basis).map_err(|_| UnknownCode)?;
    optional(&event.jurisdiction, 32)?;
    optional(&event.run_id, 64)?;
    joined(&event.job_namespace, &event.job_name)?;
    optional(&event.purpose_id, 255)?;
    optional(&event.purpose_version, 64)?;
    optional(&event.consent_receipt_id, 255)?;
    optional(&event.recipient, 255)?;
    optional(&event.transfer_country, 8)?;
    optional(&event.outcome, 16)?;
    optional(&event.dsr_id, 64)?;
    optional(&event.supersedes_event_id, 1024)?;
    event.inputs.iter().chain(&event.outputs).try_for_each(dataset)?;
    event.subjects.iter().try_for_each(subject)
}

fn dataset(dataset: &DatasetRef) -> Checked {
    required(&dataset.name, 511)?;
    joined(&dataset.namespace, &dataset.name)?;
    optional(&dataset.version, 255)
}

fn dsr(event: &DsrEvent) -> Checked {
    required(&event.dsr_id, 64)?;
    match DsrKind::try_from(event.kind) {
        Err(_) => return Err(UnknownCode),
        Ok(DsrKind::Unspecified) => return Err(InvalidValue),
        Ok(_) => {}
    }
    for at in [&event.requested_at, &event.due_at, &event.responded_at] {
        time(at.as_ref())?;
    }
    optional(&event.response, 64)?;
    optional(&event.denial_basis, 255)?;
    optional(&event.jurisdiction, 32)?;
    event.subject.iter().try_for_each(subject)
}

/// An identifier must fit a line `type:value`: that is how an officer will name the person.
fn subject(subject: &Subject) -> Checked {
    if subject.identifiers.len() > IDENTIFIERS_MAX {
        return Err(InvalidValue);
    }
    for identifier in &subject.identifiers {
        let kind = identifier.r#type.as_bytes();
        let is_name = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !(1..=64).contains(&kind.len()) || !kind.iter().all(is_name) {
            return Err(InvalidValue);
        }
        person(&identifier.value)?;
    }
    Ok(())
}

/// The value of an identifier.
pub(super) fn person(value: &str) -> Checked {
    required(value, 1024)?;
    if value.chars().any(char::is_control) || value.trim().is_empty() { Err(InvalidValue) } else { Ok(()) }
}

fn decision(code: i32) -> Checked {
    match Decision::try_from(code) {
        Err(_) => Err(UnknownCode),
        Ok(Decision::Unspecified) => Err(InvalidValue),
        Ok(_) => Ok(()),
    }
}

fn required(text: &str, chars_max: usize) -> Checked {
    if text.is_empty() { Err(InvalidValue) } else { optional(text, chars_max) }
}

/// At most so many characters, and none of them NUL, which PostgreSQL cannot store.
fn optional(text: &str, chars_max: usize) -> Checked {
    let fits = text.len() <= chars_max || text.chars().count() <= chars_max;
    if fits && !text.as_bytes().contains(&0) { Ok(()) } else { Err(InvalidValue) }
}

/// Two texts that the registry joins by one character.
fn joined(namespace: &str, name: &str) -> Checked {
    optional(namespace, 511)?;
    optional(name, 511)?;
    if namespace.chars().count() + name.chars().count() <= 511 { Ok(()) } else { Err(InvalidValue) }
}

/// From 1970 to 9999, cut to microseconds.
fn time(at: Option<&prost_types::Timestamp>) -> Result<Option<Timestamp>, QuarantineReason> {
    let Some(at) = at else { return Ok(None) };
    if !(0..=LAST_SECOND).contains(&at.seconds) || !(0..1_000_000_000).contains(&at.nanos) {
        return Err(InvalidValue);
    }
    let micros = at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000;
    u64::try_from(micros).map(|micros| Some(Timestamp(micros))).map_err(|_| InvalidValue)
}
