//! CloudEvents in structured mode: one JSON object, or a batch of them.
//!
//! One linear pass over the text, at most 128 values nested. A batch is one record and so one entry.
//! Spec: CloudEvents 1.0.2, JSON format 1.0.2.

mod read;

use super::QuarantineReason::{self, InvalidValue, TooManySubjects, Undecodable};
use super::event_type::EventType;
use super::slices::{self, Received};
use super::{Event, Limits, value};
use crate::core::record::Record;
use crate::proto::v1::Envelope;
use crate::proto::v1::envelope::Body;

/// The attributes we know, as texts; extensions we do not know are skipped.
#[derive(Default)]
pub(super) struct Attributes {
    texts: [Option<String>; NAMES.len()],
}

const NAMES: [&str; 12] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "dataschema",
    "datacontenttype",
    "traceparent",
    "partitionkey",
    "sequence",
    "tenantid",
];

impl Attributes {
    /// Whether we keep this attribute.
    pub(super) fn knows(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Takes an attribute; false where it was there already.
    pub(super) fn set(&mut self, name: &str, text: &str) -> bool {
        let slot = NAMES.iter().position(|known| *known == name).and_then(|at| self.texts.get_mut(at));
        slot.is_none_or(|slot| slot.replace(text.to_owned()).is_none())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.texts.get(at)?.as_deref()
    }

    /// The type, of a CloudEvent of version 1.0.
    pub(super) fn event_type(&self) -> Result<EventType, QuarantineReason> {
        if self.get("specversion") != Some("1.0") {
            return Err(Undecodable);
        }
        EventType::of_name(self.get("type").ok_or(InvalidValue)?)
    }

    /// The Envelope of this event.
    pub(super) fn envelope(&self, body: Body) -> Result<Envelope, QuarantineReason> {
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        Ok(Envelope {
            id: text("id"),
            source: text("source"),
            r#type: text("type"),
            subject: text("subject"),
            time: self.get("time").map(time).transpose()?,
            dataschema: text("dataschema"),
            traceparent: text("traceparent"),
            partitionkey: text("partitionkey"),
            sequence: self.get("sequence").and_then(|text| text.parse().ok()).unwrap_or(0),
            tenant_id: text("tenantid"),
            body: Some(body),
        })
    }
}

/// A time in RFC 3339 with a zone.
pub(super) fn time(text: &str) -> Result<prost_types::Timestamp, QuarantineReason> {
    let at: jiff::Timestamp = text.parse().map_err(|_| InvalidValue)?;
    // Before 1970 the fraction would count backwards; such times are refused anyway.
    Ok(prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() })
}

/// Reads one CloudEvent or a batch.
pub(super) fn decode(record: &Record, limits: &Limits) -> Result<Event, QuarantineReason> {
    let json = value(record)?;
    let heads = read::heads(json, limits.subjects_max.saturating_add(1))?;
    if heads.is_cut {
        return Err(TooManySubjects);
    }
    let received = match heads.events.len() {
        1 => Received::CloudEvent(record),
        _ => Received::Batched,
    };
    let mut events = Vec::with_capacity(heads.events.len());
    for head in heads.events {
        let body = head.body()?;
        events.push(slices::event(head.attributes.envelope(body)?, received, limits)?);
    }
    merge(events, limits)
}

/// One record is one entry: the parts of a batch are those of its events, in order. Its head is the first event's.
fn merge(events: Vec<Event>, limits: &Limits) -> Result<Event, QuarantineReason> {
    let mut events = events.into_iter();
    let mut merged = events.next().ok_or(InvalidValue)?;
    for event in events {
        merged.slices.extend(event.slices);
        match (&merged.nobody, event.nobody) {
            // The operator's part has room for one event about nobody.
            (Some(_), Some(_)) => return Err(InvalidValue),
            (None, Some(nobody)) => merged.nobody = Some(nobody),
            (_, None) => {}
        }
    }
    if merged.slices.len() > limits.subjects_max {
        return Err(TooManySubjects);
    }
    slices::within_frames(merged.slices.iter().map(|slice| slice.envelope.len()))?;
    Ok(merged)
}
