//! The proto3 JSON mapping of a body: JSON value to message.
//!
//! Reads camelCase and snake_case names, skips unknown ones. Three things the general mapping lets pass are refused
//! here: a field given under both its names and a time without a zone, which would be guesses, and an enum name we do
//! not know, which has its own reason. Spec: protobuf.dev, ProtoJSON format; prost-reflect implements it.

use std::collections::HashSet;

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor};
use serde_json::Value;

use super::QuarantineReason::{self, InvalidValue, UnknownCode, UnknownType};
use super::event_type::EventType;
use crate::proto;
use crate::proto::v1::envelope::Body;

/// Reads the body of an event of this type.
pub(super) fn body(kind: EventType, data: &Value) -> Result<Body, QuarantineReason> {
    let message = proto::descriptor(kind.message()).ok_or(UnknownType)?;
    check_message(&message, data)?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mapped = DynamicMessage::deserialize_with_options(message, data, &options).map_err(|_| InvalidValue)?;
    kind.body(&mapped.encode_to_vec())
}

fn check_message(message: &MessageDescriptor, value: &Value) -> Result<(), QuarantineReason> {
    let Value::Object(members) = value else { return Ok(()) };
    let mut given = HashSet::with_capacity(members.len());
    for (name, value) in members {
        let field = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
        let Some(field) = field else { continue };
        if !given.insert(field.number()) {
            return Err(InvalidValue);
        }
        // The JSON of a map is no message; ours hold text only.
        if field.is_map() {
            continue;
        }
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| check_value(&field.kind(), item))?,
            value => check_value(&field.kind(), value)?,
        }
    }
    Ok(())
}

fn check_value(kind: &Kind, value: &Value) -> Result<(), QuarantineReason> {
    match (kind, value) {
        (Kind::Enum(codes), Value::String(name)) if codes.get_value_by_name(name).is_none() => Err(UnknownCode),
        (Kind::Message(message), Value::String(time)) if message.full_name() == "google.protobuf.Timestamp" => {
            super::cloudevents::time(time).map(drop)
        }
        (Kind::Message(message), value) => check_message(message, value),
        _ => Ok(()),
    }
}
