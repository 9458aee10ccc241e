//! From a record to an event, or to the reason why not.
//!
//! Every record gives one or the other: nothing panics and nothing is dropped. Not the vendors' formats (OneTrust,
//! OpenLineage, Fides, mappings) and no look-up of people. Spec: `proto/README.md`, What a record becomes;
//! CloudEvents 1.0.2 with its JSON format and its Kafka binding.

mod binary;
mod cloudevents;

mod envelope;
mod event_type;
mod mapping;
mod once;
mod slices;
mod validate;

use std::fmt;
use std::str::FromStr;

use prost::Message;

use crate::core::event::{Event, Slice};
use crate::core::leaf::QuarantineReason;
use crate::core::record::Record;
use crate::core::redact;

/// How the records of a topic are read (`decode` of the configuration).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// By what the record shows: `ce_` headers, the content type, the first byte. Never `Raw`.
    #[default]
    Auto,
    /// The value is an `Envelope`.
    Protobuf,
    /// CloudEvents 1.0: structured JSON, a JSON batch, or Kafka binary mode.
    CloudEvents,
    /// Nothing is read; each record is about a person of its own, whom nobody can name.
    Raw,
}

impl Format {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Protobuf => "protobuf",
            Format::CloudEvents => "cloudevents",
            Format::Raw => "raw",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A format name this version does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a format this version reads: auto, protobuf, cloudevents or raw")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Format, UnknownFormat> {
        [Format::Auto, Format::Protobuf, Format::CloudEvents, Format::Raw]
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or(UnknownFormat)
    }
}

/// The limits of the configuration (`[limits]`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of key, value and headers together.
    pub record_bytes_max: usize,
    /// People in one record: at most 199, the parts of a leaf less the operator's.
    pub subjects_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { record_bytes_max: 1 << 20, subjects_max: 199 }
    }
}

/// Reads a record. The error is the reason of the quarantined entry that the record becomes instead; the body of its
/// part is [`redact::record`].
pub fn decode(record: &Record, how: Format, limits: &Limits) -> Result<Event, QuarantineReason> {
    if record.len() > limits.record_bytes_max {
        return Err(QuarantineReason::TooLarge);
    }
    match how {
        Format::Raw => raw(record),
        Format::Protobuf => envelope::decode(value(record)?, limits),
        Format::CloudEvents if binary::is_binary(record) => binary::decode(record, limits),
        Format::CloudEvents => cloudevents::decode(record, limits),
        Format::Auto => auto(record, limits),
    }
}

/// The value, which every format but `Raw` needs: an empty or null one is no event.
fn value(record: &Record) -> Result<&[u8], QuarantineReason> {
    match record.value.as_deref() {
        None | Some([]) => Err(QuarantineReason::Undecodable),
        Some(value) => Ok(value),
    }
}

/// By what the record shows. A content type is believed; without one the first byte decides. JSON after a line feed
/// could also begin an Envelope (field 1), so that is tried before.
fn auto(record: &Record, limits: &Limits) -> Result<Event, QuarantineReason> {
    if binary::is_binary(record) {
        return binary::decode(record, limits);
    }
    let value = value(record)?;
    match binary::content_type(record)? {
        Some(binary::Media::Protobuf) => return envelope::decode(value, limits),
        Some(binary::Media::CloudEvents) => return cloudevents::decode(record, limits),
        _ => {}
    }
    match value.first() {
        Some(b'{' | b'[' | b' ' | b'\t' | b'\r') => cloudevents::decode(record, limits),
        _ => match envelope::decode(value, limits) {
            Err(QuarantineReason::Undecodable) if value.first() == Some(&b'\n') => cloudevents::decode(record, limits),
            decided => decided,
        },
    }
}

/// A record nobody reads is about a person nobody can name: unknown data is personal until proven otherwise. It gets a
/// surrogate of its own, so that it can be destroyed alone.
fn raw(record: &Record) -> Result<Event, QuarantineReason> {
    let raw = redact::record(record);
    slices::within_frames([raw.encoded_len()])?;
    Ok(Event {
        source: String::new(),
        id: String::new(),
        event_type: "",
        tenant: String::new(),
        time: None,
        decoder: "raw",
        slices: vec![Slice { identifiers: Vec::new(), envelope: Vec::new(), raw: Some(raw) }],
        nobody: None,
    })
}

#[cfg(test)]
mod tests;
