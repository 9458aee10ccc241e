//! Kafka headers: the content type, and CloudEvents in binary mode, whose attributes are headers.
//!
//! Spec: CloudEvents Kafka binding 1.0.2, section 3.2. A CloudEvents header given twice is ambiguous and refused; other
//! headers may repeat as they like.

use super::QuarantineReason::{self, InvalidValue, Undecodable};
use super::cloudevents::Attributes;
use super::event_type::EventType;
use super::slices::{self, Received};
use super::{Limits, mapping, once};
use crate::core::event::Event;
use crate::core::record::{Header, Record};
use crate::proto::v1::envelope::Body;

const PREFIX: &[u8] = b"ce_";

/// What a content type says about the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Media {
    Json,
    Protobuf,
    CloudEvents,
    CloudEventsBatch,
    Other,
}

impl Media {
    /// By media type (RFC 9110, 8.3.1): parameters do not matter, nor does case.
    pub(super) fn of(text: &str) -> Media {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/cloudevents+json" => Media::CloudEvents,
            "application/cloudevents-batch+json" => Media::CloudEventsBatch,
            "application/protobuf" | "application/x-protobuf" | "application/vnd.google.protobuf" => Media::Protobuf,
            "application/json" | "text/json" => Media::Json,
            other if other.ends_with("+json") => Media::Json,
            _ => Media::Other,
        }
    }
}

/// Whether the record is a CloudEvent in binary mode.
pub(super) fn is_binary(record: &Record) -> bool {
    record.headers.iter().any(|header| header.name == b"ce_specversion")
}

/// What the `content-type` header says; `None` without one.
pub(super) fn content_type(record: &Record) -> Result<Option<Media>, QuarantineReason> {
    let mut found = None;
    for header in record.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(b"content-type")) {
        let media = Media::of(text(header)?);
        if found.replace(media).is_some_and(|earlier| earlier != media) {
            return Err(InvalidValue);
        }
    }
    Ok(found)
}

/// Reads a CloudEvent in binary mode.
pub(super) fn decode(record: &Record, limits: &Limits) -> Result<Event, QuarantineReason> {
    let mut attributes = Attributes::default();
    for header in &record.headers {
        let Some(name) = header.name.strip_prefix(PREFIX) else { continue };
        let name = std::str::from_utf8(name).map_err(|_| InvalidValue)?;
        if !attributes.set(name, text(header)?) {
            return Err(InvalidValue);
        }
    }
    let kind = attributes.event_type()?;
    let data = record.value.as_deref().filter(|value| !value.is_empty()).ok_or(InvalidValue)?;
    let body = body(kind, content_type(record)?, data)?;
    slices::event(attributes.envelope(body)?, Received::CloudEvent(record), limits)
}

/// The body from bytes of this content type; without one they are JSON, as CloudEvents says of its own format.
pub(super) fn body(kind: EventType, media: Option<Media>, data: &[u8]) -> Result<Body, QuarantineReason> {
    match media {
        None | Some(Media::Json) => mapping::body(kind, &once::read(data, once::Values)?),
        Some(Media::Protobuf) => kind.body(data),
        Some(Media::CloudEvents | Media::CloudEventsBatch | Media::Other) => Err(Undecodable),
    }
}

fn text(header: &Header) -> Result<&str, QuarantineReason> {
    header.value.as_deref().and_then(|value| std::str::from_utf8(value).ok()).ok_or(InvalidValue)
}
