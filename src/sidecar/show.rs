//! One entry as anyone may see it: kind, place, what it shows in clear, digests. No content.

use serde_json::{Value, json};

use super::Sidecar;
use super::error::SidecarError;
use super::stored::{Reading, StoredEntry};
use super::writer::own;
use crate::core::codec;
use crate::core::hash::Hash;
use crate::core::leaf::Leaf;
use crate::core::seq::Seq;
use crate::journal::SealRow;

impl Sidecar {
    /// The entry at `seq`; `None` where the log has none. From the journal, or where that was pruned from the archive.
    ///
    /// # Errors
    /// A halt where what is stored does not read; `File` where the archive lacks it.
    pub fn show(&self, seq: Seq) -> Result<Option<Value>, SidecarError> {
        let Some(bytes) = self.leaf(seq)? else { return Ok(None) };
        let leaf = own("a stored leaf", Leaf::decode(&bytes))?;
        let clear = serde_json::to_value(ClearJson(&leaf)).unwrap_or_default();
        let segment = self.segment_of(seq)?;
        let topic = leaf.src.and_then(|src| self.writer.topics().get(src.topic_no));
        let src = leaf.src.map(|src| {
            json!({ "topic_no": src.topic_no, "topic": topic.map(|row| &row.name), "partition": src.partition, "offset": src.offset })
        });
        let part = |part: &crate::core::leaf::PartRef| json!({ "commitment": part.commitment.to_string(), "digest": part.digest.to_string() });
        Ok(Some(json!({
            "seq": leaf.seq.0,
            "kind": leaf.body.kind_name(),
            "src": src,
            "prev": leaf.prev.to_string(),
            "leaf_hash": Hash::leaf(&bytes).to_string(),
            "clear": clear,
            "parts": leaf.parts.iter().map(part).collect::<Vec<_>>(),
            "segment": segment.as_ref().map(|row| row.segment),
            "seal_cid": segment.map(|row| row.seal.to_string()),
        })))
    }

    /// The bytes of the leaf at `seq`; `None` where the log has none.
    ///
    /// # Errors
    /// As `show`.
    pub(super) fn leaf(&self, seq: Seq) -> Result<Option<Vec<u8>>, SidecarError> {
        let state = self.writer.journal.state();
        if seq >= state.size().next_seq() {
            return Ok(None);
        }
        if seq < state.kept_from {
            return Ok(self.archived(seq, false)?.map(|entry| entry.leaf));
        }
        let mut leaves = self.writer.journal.leaves(seq, seq.size())?;
        Ok(leaves.next().transpose()?.map(|entry| entry.leaf))
    }

    fn segment_of(&self, seq: Seq) -> Result<Option<SealRow>, SidecarError> {
        let (mut low, mut high) = (0, self.writer.journal.state().sealed.segments);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(row) = self.writer.journal.seal(middle)? else { return Ok(None) };
            if seq < row.first {
                high = middle;
            } else if seq.size() > row.end() {
                low = middle + 1;
            } else {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// An entry from the archive, with its frames where they are wanted.
    pub(super) fn archived(&self, seq: Seq, with_frames: bool) -> Result<Option<StoredEntry>, SidecarError> {
        let Some(row) = self.segment_of(seq)? else { return Ok(None) };
        let payload = row.payload.filter(|_| with_frames);
        let mut leaves = Reading::open(&self.settings.archive, &SealRow { payload, ..row })?;
        let mut before = seq.0 - leaves.seal().first.0;
        while let Some(entry) = leaves.next()? {
            if before == 0 {
                return Ok(Some(entry));
            }
            before -= 1;
        }
        Ok(None)
    }
}

/// `clear` as JSON: byte strings in hex, CIDs in base32, as the format page writes them otherwise.
struct ClearJson<'a>(&'a Leaf);

impl serde::Serialize for ClearJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = codec::encode(&self.0.body);
        let value = codec::read(&bytes).map_err(serde::ser::Error::custom)?;
        json_of(&value).serialize(serializer)
    }
}

fn json_of(value: &ipld_core::ipld::Ipld) -> Value {
    use ipld_core::ipld::Ipld;
    match value {
        Ipld::Null | Ipld::Float(_) => Value::Null,
        Ipld::Bool(value) => json!(value),
        Ipld::Integer(value) => u64::try_from(*value).map_or(Value::Null, |value| json!(value)),
        Ipld::String(text) => json!(text),
        Ipld::Bytes(bytes) => match crate::core::cid::Cid::from_bytes(bytes) {
            Ok(cid) => json!(cid.to_string()),
            Err(_) => json!(hex::encode(bytes)),
        },
        Ipld::List(items) => Value::Array(items.iter().map(json_of).collect()),
        Ipld::Map(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), json_of(value))).collect()),
        Ipld::Link(cid) => json!(cid.to_string()),
    }
}
