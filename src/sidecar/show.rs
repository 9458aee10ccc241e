//! One entry as anyone may see it: kind, place, what it shows in clear, digests. No content.

use serde_json::{Value, json};

use super::Sidecar;
use super::error::SidecarError;
use super::stored::{Reading, StoredEntry};
use super::writer::own;
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
        let segment = self.writer.journal.segment_to(seq.size())?;
        let topic = leaf.src.and_then(|src| self.writer.topics().get(src.topic_no));
        let mut shown = leaf.shown(&bytes);
        if let Some(shown) = shown.as_object_mut() {
            if let Some(src) = leaf.src {
                let (topic_no, topic) = (src.topic_no, topic.map(|row| &row.name));
                let src =
                    json!({ "topic_no": topic_no, "topic": topic, "partition": src.partition, "offset": src.offset });
                shown.insert("src".to_owned(), src);
            }
            shown.insert("segment".to_owned(), json!(segment.as_ref().map(|row| row.segment)));
            shown.insert("seal_cid".to_owned(), json!(segment.map(|row| row.seal.to_string())));
        }
        Ok(Some(shown))
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

    /// An entry from the archive, with its frames where they are wanted.
    pub(super) fn archived(&self, seq: Seq, with_frames: bool) -> Result<Option<StoredEntry>, SidecarError> {
        let Some(row) = self.writer.journal.segment_to(seq.size())? else { return Ok(None) };
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
