//! An entry as JSON, as anyone may see it: kind, place, what it shows in clear, digests. No content.

use ipld_core::ipld::Ipld;
use serde_json::{Value, json};

use super::super::cid::Cid;
use super::super::codec;
use super::super::hash::Hash;
use super::{Leaf, PartRef};

impl Leaf {
    /// The entry whose bytes are `bytes`: byte strings in hex, CIDs in base32, as the format page writes them.
    pub fn shown(&self, bytes: &[u8]) -> Value {
        let src =
            self.src.map(|src| json!({ "topic_no": src.topic_no, "partition": src.partition, "offset": src.offset }));
        let part =
            |part: &PartRef| json!({ "commitment": part.commitment.to_string(), "digest": part.digest.to_string() });
        json!({
            "seq": self.seq.0,
            "kind": self.body.kind_name(),
            "src": src,
            "prev": self.prev.to_string(),
            "leaf_hash": Hash::leaf(bytes).to_string(),
            "clear": codec::read(&codec::encode(&self.body)).map_or(Value::Null, |clear| value(&clear)),
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
        })
    }
}

fn value(ipld: &Ipld) -> Value {
    match ipld {
        Ipld::Null | Ipld::Float(_) => Value::Null,
        Ipld::Bool(value) => json!(value),
        Ipld::Integer(value) => u64::try_from(*value).map_or(Value::Null, |value| json!(value)),
        Ipld::String(text) => json!(text),
        Ipld::Bytes(bytes) => match Cid::from_bytes(bytes) {
            Ok(cid) => json!(cid.to_string()),
            Err(_) => json!(hex::encode(bytes)),
        },
        Ipld::List(items) => Value::Array(items.iter().map(value).collect()),
        Ipld::Map(map) => Value::Object(map.iter().map(|(key, item)| (key.clone(), value(item))).collect()),
        Ipld::Link(cid) => json!(cid.to_string()),
    }
}
