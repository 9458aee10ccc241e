//! The JSON text of CloudEvents: the attributes and the data of each.
//!
//! Not the mapping of the data: `data` may stand before `type`. A name given twice is refused: which of the two values
//! holds would be a guess. Extensions we do not know are skipped.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Attributes;
use crate::core::decode::QuarantineReason::{self, InvalidValue, Undecodable};
use crate::core::decode::binary::{self, Media};
use crate::core::decode::{mapping, once};
use crate::proto::v1::envelope::Body;

/// The events of one text.
pub(super) struct Heads {
    pub(super) events: Vec<Head>,
    /// There are more events than were asked for.
    pub(super) is_cut: bool,
}

/// One event without its body.
#[derive(Default)]
pub(super) struct Head {
    pub(super) attributes: Attributes,
    data: Option<Value>,
    data_base64: Option<String>,
}

impl Head {
    /// The body: mapped from `data`, or in `data_base64`.
    pub(super) fn body(&self) -> Result<Body, QuarantineReason> {
        let kind = self.attributes.event_type()?;
        match (&self.data, &self.data_base64, self.media()) {
            (Some(data), None, None | Some(Media::Json)) => mapping::body(kind, data),
            (Some(_), None, Some(_)) => Err(Undecodable),
            (None, Some(text), media) => binary::body(kind, media, &STANDARD.decode(text).map_err(|_| InvalidValue)?),
            (Some(_), Some(_), _) | (None, None, _) => Err(InvalidValue),
        }
    }

    fn media(&self) -> Option<Media> {
        self.attributes.get("datacontenttype").map(Media::of)
    }
}

/// At most `events_max` events of the text. Text that is no JSON is undecodable, JSON of another shape is invalid.
pub(super) fn heads(json: &[u8], events_max: usize) -> Result<Heads, QuarantineReason> {
    once::read(json, HeadsSeed { events_max })
}

struct HeadsSeed {
    events_max: usize,
}

impl<'de> DeserializeSeed<'de> for HeadsSeed {
    type Value = Heads;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Heads, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HeadsSeed {
    type Value = Heads;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent or a batch of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Heads, A::Error> {
        Ok(Heads { events: vec![HeadSeed.visit_map(map)?], is_cut: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Heads, A::Error> {
        let mut events = Vec::new();
        while events.len() < self.events_max {
            match seq.next_element_seed(HeadSeed)? {
                Some(head) => events.push(head),
                None => return Ok(Heads { events, is_cut: false }),
            }
        }
        let mut is_cut = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            is_cut = true;
        }
        Ok(Heads { events, is_cut })
    }
}

struct HeadSeed;

impl<'de> DeserializeSeed<'de> for HeadSeed {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeadSeed {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let mut head = Head::default();
        // A null attribute is an absent one (JSON format, 2.2), but it is still given.
        let mut has_data = false;
        while let Some(name) = map.next_key::<String>()? {
            let is_new = match name.as_str() {
                "data" => {
                    head.data = Some(map.next_value_seed(once::Values)?).filter(|data| !data.is_null());
                    !std::mem::replace(&mut has_data, true)
                }
                "data_base64" => match map.next_value::<Option<String>>()? {
                    Some(text) => head.data_base64.replace(text).is_none(),
                    None => true,
                },
                known if Attributes::knows(known) => match map.next_value::<Value>()? {
                    Value::Null => true,
                    Value::String(text) => head.attributes.set(known, &text),
                    Value::Number(number) if known == "sequence" => head.attributes.set(known, &number.to_string()),
                    _ => return Err(A::Error::custom("an attribute that is no text")),
                },
                _ => map.next_value::<IgnoredAny>().map(|_| true)?,
            };
            if !is_new {
                return Err(A::Error::custom("an attribute given twice"));
            }
        }
        Ok(head)
    }
}
