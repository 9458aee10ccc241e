//! Secrets are dropped before anything is stored, quarantine included.
//!
//! In anything that parses as JSON the members with the name of a secret go, and of an object of contact data all but
//! the members on the allow-list; every other byte stays as it came. What does not parse stays whole, under a key of its
//! own. Not a filter for personal data: that is what the sealed part is for. Spec: `proto/README.md`, Secrets.

mod json;
mod names;

use prost::Message;

use crate::core::record::Record;
use crate::proto::v1::envelope::Body;
use crate::proto::v1::{Envelope, Header, RawRecord};

/// The bytes of a value that one entry can hold for certain (its frames may have 64 MiB).
const VALUE_BYTES_MAX: usize = 48 << 20;

/// The record as it may be stored: the body of a quarantined entry's part, and `raw` of a person's.
///
/// A value no entry could hold keeps its first 48 MiB; `record_mac` still binds the record as received.
pub fn record(record: &Record) -> RawRecord {
    let headers = record
        .headers
        .iter()
        .filter(|header| !names::is_secret(&header.name))
        .map(|header| Header { name: header.name.clone(), value: header.value.as_deref().map(bytes) });
    let mut kept = record.value.as_deref().map(value);
    if let Some(kept) = &mut kept {
        kept.truncate(VALUE_BYTES_MAX);
    }
    RawRecord {
        key: record.key.as_deref().map(bytes),
        value: kept,
        headers: headers.collect(),
        timestamp_ms: record.timestamp_ms,
        timestamp_type: record.timestamp_type,
    }
}

/// Drops the secrets of an Envelope; true where there were any.
pub(crate) fn envelope(envelope: &mut Envelope) -> bool {
    match &mut envelope.body {
        Some(Body::Consent(consent)) => {
            let before = consent.data_elements.len() + consent.custom.len();
            consent.data_elements.retain(|name, _| names::is_allowed_contact(name.as_bytes()));
            consent.custom.retain(|name, _| !names::is_secret(name.as_bytes()));
            let mut is_changed = before != consent.data_elements.len() + consent.custom.len();
            for text in consent.custom.values_mut() {
                is_changed |= in_text(text);
            }
            is_changed | in_bytes(&mut consent.raw)
        }
        Some(Body::Data(data)) => {
            let mut is_changed = in_bytes(&mut data.raw) | in_text(&mut data.column_lineage_json);
            for dataset in data.inputs.iter_mut().chain(&mut data.outputs) {
                let before = dataset.tags.len();
                dataset.tags.retain(|name, _| !names::is_secret(name.as_bytes()));
                is_changed |= before != dataset.tags.len();
            }
            is_changed
        }
        Some(Body::Dsr(_)) | None => false,
    }
}

/// The value of a record. An Envelope that was quarantined still parses, and so does the JSON within it.
fn value(value: &[u8]) -> Vec<u8> {
    if let Some(kept) = json::redacted(value) {
        return kept;
    }
    if let Ok(mut decoded) = Envelope::decode(value)
        && envelope(&mut decoded)
    {
        return decoded.encode_to_vec();
    }
    value.to_vec()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    json::redacted(bytes).unwrap_or_else(|| bytes.to_vec())
}

fn in_bytes(bytes: &mut Vec<u8>) -> bool {
    json::redacted(bytes).map(|kept| *bytes = kept).is_some()
}

fn in_text(text: &mut String) -> bool {
    // Whole members are cut at ASCII marks, so what is left of a text is a text.
    let kept = json::redacted(text.as_bytes()).and_then(|kept| String::from_utf8(kept).ok());
    kept.map(|kept| *text = kept).is_some()
}
