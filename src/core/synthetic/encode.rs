//! Events as records, in each of the encodings that `decode` reads.

use std::fmt::Write as _;

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use super::Encoding;
use crate::core::record::{Header, Record};
use crate::core::time::Timestamp;
use crate::proto;
use crate::proto::v1::envelope::Body;
use crate::proto::v1::{Envelope, Subject};

pub(super) fn record(envelope: &Envelope, encoding: Encoding, at: Timestamp) -> Record {
    let (value, headers) = match encoding {
        Encoding::Protobuf => (envelope.encode_to_vec(), Vec::new()),
        Encoding::CloudEventsJson => {
            (json(envelope), vec![header("content-type", "application/cloudevents+json; charset=UTF-8")])
        }
        Encoding::CloudEventsBinary => (body(envelope).1, binary_headers(envelope)),
    };
    Record {
        key: key(envelope),
        value: Some(value),
        headers,
        timestamp_ms: i64::try_from(at.0 / 1_000).unwrap_or(0),
        timestamp_type: 0,
    }
}

/// The attributes that have a value, as texts, in the order of the Envelope.
fn attributes(envelope: &Envelope) -> Vec<(&'static str, String)> {
    let at = envelope.time.map(|at| {
        let micros = u64::try_from(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000).unwrap_or(0);
        Timestamp(micros).to_string()
    });
    let sequence = if envelope.sequence == 0 { String::new() } else { envelope.sequence.to_string() };
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", envelope.id.clone()),
        ("source", envelope.source.clone()),
        ("type", envelope.r#type.clone()),
        ("subject", envelope.subject.clone()),
        ("time", at.unwrap_or_default()),
        ("dataschema", envelope.dataschema.clone()),
        ("traceparent", envelope.traceparent.clone()),
        ("partitionkey", envelope.partitionkey.clone()),
        ("sequence", sequence),
        ("tenantid", envelope.tenant_id.clone()),
    ];
    attributes.retain(|(_, text)| !text.is_empty());
    attributes
}

fn binary_headers(envelope: &Envelope) -> Vec<Header> {
    let mut headers = vec![header("content-type", "application/protobuf")];
    let mut name = String::new();
    for (attribute, text) in attributes(envelope) {
        name.clear();
        // Writing to a String cannot fail.
        let _ = write!(name, "ce_{attribute}");
        headers.push(header(&name, &text));
    }
    headers
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.as_bytes().to_vec(), value: Some(value.as_bytes().to_vec()) }
}

/// The CloudEvent as JSON, its data by the proto3 mapping.
fn json(envelope: &Envelope) -> Vec<u8> {
    let mut event: Map<String, Value> =
        attributes(envelope).into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))).collect();
    event.insert("datacontenttype".to_owned(), Value::String("application/json".to_owned()));
    let (message, bytes) = body(envelope);
    let data = proto::descriptor(message).and_then(|descriptor| {
        let data = DynamicMessage::decode(descriptor, bytes.as_slice()).ok()?;
        data.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).ok()
    });
    event.insert("data".to_owned(), data.unwrap_or_default());
    serde_json::to_vec(&event).unwrap_or_default()
}

/// The name and the bytes of the body.
fn body(envelope: &Envelope) -> (&'static str, Vec<u8>) {
    match &envelope.body {
        Some(Body::Consent(event)) => ("ConsentEvent", event.encode_to_vec()),
        Some(Body::Data(event)) => ("DataEvent", event.encode_to_vec()),
        Some(Body::Dsr(event)) => ("DsrEvent", event.encode_to_vec()),
        None => ("ConsentEvent", Vec::new()),
    }
}

fn key(envelope: &Envelope) -> Option<Vec<u8>> {
    let subject: Option<&Subject> = match &envelope.body {
        Some(Body::Consent(event)) => event.subject.as_ref(),
        Some(Body::Data(event)) => event.subjects.first(),
        Some(Body::Dsr(event)) => event.subject.as_ref(),
        None => None,
    };
    subject.and_then(|subject| subject.identifiers.first()).map(|identifier| identifier.value.clone().into_bytes())
}
