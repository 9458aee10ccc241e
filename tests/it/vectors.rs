//! The format vectors of `tests/vectors/pinfold-v1`, made by an independent program in another language.

mod codec;
mod leaves;
mod parts;

use serde_json::Value;

/// One of the JSON files.
pub(crate) fn json(name: &str) -> Value {
    let path = format!("{}/tests/vectors/pinfold-v1/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The bytes behind a hex text.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// The items of a list.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}
