//! `keys.json`: one body of every message of `parts.proto`, read by its descriptor and written again.

use base64::Engine as _;
use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use super::vectors::{hex, json, list};

/// The JSON of the vectors, with bytes as ProtoJSON has them.
fn mapped(value: &Value) -> Value {
    match value {
        Value::Object(members) => match members.get("hex") {
            Some(bytes) => Value::String(base64::engine::general_purpose::STANDARD.encode(hex(bytes))),
            None => members.iter().map(|(name, value)| (name.clone(), mapped(value))).collect::<Map<_, _>>().into(),
        },
        Value::Array(items) => items.iter().map(mapped).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

#[test]
fn every_body_is_read_and_written_as_the_same_bytes() {
    let vectors = json("keys.json");
    let mut seen = Vec::new();
    for case in list(&vectors["bodies"]) {
        let name = case["message"].as_str().unwrap();
        let bytes = hex(&case["hex"]);
        let descriptor = pinfold::proto::descriptor(name).unwrap_or_else(|| panic!("{name} is in parts.proto"));
        let message = DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
        let found = message.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        assert_eq!(found, mapped(&case["fields"]), "{name}");
        assert_eq!(hex::encode(typed(name, &bytes)), case["hex"], "{name}");
        seen.push(name.to_owned());
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

/// Read and written by the generated code.
fn typed(name: &str, bytes: &[u8]) -> Vec<u8> {
    use pinfold::proto::v1;
    fn again<M: Message + Default>(bytes: &[u8]) -> Vec<u8> {
        M::decode(bytes).unwrap().encode_to_vec()
    }
    match name {
        "OperatorPart" => again::<v1::OperatorPart>(bytes),
        "SubjectPart" => again::<v1::SubjectPart>(bytes),
        "RawRecord" => again::<v1::RawRecord>(bytes),
        "ErasureInternal" => again::<v1::ErasureInternal>(bytes),
        "ErasureStatement" => again::<v1::ErasureStatement>(bytes),
        "HoldPart" => again::<v1::HoldPart>(bytes),
        "AccessPart" => again::<v1::AccessPart>(bytes),
        "OfficerPart" => again::<v1::OfficerPart>(bytes),
        other => panic!("{other}: no such body"),
    }
}
