//! What the broker holds, written down (kind 19): regularly, and before each seal.
//!
//! It shows how far behind the log was, and that it was there to look; it starts no seal, and makes no finding. The
//! broker signs nothing: what stands here is our word for what it said.

use super::Sidecar;
use super::error::SidecarError;
use crate::core::leaf::{Body, End};
use crate::core::time::Timestamp;

/// Partitions of one entry, at most (format.md, the table of kinds).
const ENDS_MAX: usize = 400;

impl Sidecar {
    /// Whether the last look at the broker's ends is old. The first comes an interval after the start: nothing is read
    /// yet then.
    pub(super) fn is_look_due(&mut self, now: Timestamp) -> bool {
        let looked_at = *self.looked_at.get_or_insert(now);
        now.since(looked_at) >= self.settings.observe_every
    }

    /// Writes down what the broker holds of the assigned partitions; nothing where none is assigned.
    pub(super) fn observe(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let at = self.writer.record_time(now)?;
        let ends: Vec<End> = self.intakes.iter().flat_map(|intake| intake.ends(&self.writer)).collect();
        for ends in ends.chunks(ENDS_MAX) {
            self.writer.push(Body::Observed { at, ends: ends.to_vec() }, None, Vec::new())?;
        }
        self.looked_at = Some(now);
        Ok(!ends.is_empty())
    }
}
