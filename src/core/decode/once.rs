//! JSON in which no object has a name twice.
//!
//! RFC 8259 leaves open which of two values holds, and readers differ: evidence must not. So such text is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::QuarantineReason;

/// One JSON text, nothing after it. Text that is no JSON is undecodable, JSON of another shape is invalid.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(json: &'de [u8], seed: S) -> Result<S::Value, QuarantineReason> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let found = seed.deserialize(&mut deserializer).and_then(|found| deserializer.end().map(|()| found));
    found.map_err(|error| match error.classify() {
        Category::Data => QuarantineReason::InvalidValue,
        Category::Io | Category::Syntax | Category::Eof => QuarantineReason::Undecodable,
    })
}

/// Any value.
#[derive(Clone, Copy)]
pub(super) struct Values;

impl<'de> DeserializeSeed<'de> for Values {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Values)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Values)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name given twice"));
            }
        }
        Ok(Value::Object(members))
    }
}
