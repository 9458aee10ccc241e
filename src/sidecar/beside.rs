//! Work beside the fold: answers of pin targets, authorities and registries, seals, requests, housekeeping.
//!
//! It adds entries, so the pipe is emptied before; and because that makes threads wait for each other, it is begun only
//! when there is something to do.

use super::Sidecar;
use super::anchoring::Readers;
use super::error::SidecarError;
use super::lane::Lane;
use crate::core::time::Timestamp;

impl Sidecar {
    /// Whether there is work beside the fold. It may add entries, so the pipe is to be emptied before.
    pub(super) fn is_something_due(&mut self, now: Timestamp) -> bool {
        let has_answers =
            self.pinning.has_answers() || self.anchoring.has_answers(now) || self.registering.has_answers();
        if has_answers || self.is_look_due(now) {
            return true;
        }
        let may_start = |lane: &Lane, before: u64| {
            lane.is_due(now) && self.outbox.first_open(|task| task.is_for(&lane.name)).is_some_and(|n| n < before)
        };
        let sealed = self.writer.journal.state().sealed.segments;
        if self.auditing.is_due(&self.outbox, sealed, now) {
            return true;
        }
        let released = self.released();
        let shown = self.anchoring.registrable(released).max(1);
        self.is_seal_to_do(now)
            || self.writer.keyring.fold_is_due(self.writer.journal.state().size())
            || self.is_prune_due(now)
            || self.pinning.lanes().any(|lane| may_start(lane, u64::MAX))
            || self.anchoring.has_due(&self.outbox, released, now)
            || self.registering.lanes().any(|lane| may_start(lane, shown))
    }

    /// Answers, seals, requests and housekeeping.
    pub(super) fn work_beside(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        self.catch_up()?;
        let mut worked = self.take_answers(now)?;
        worked |= self.seal(now)?;
        self.retire_keys();
        if self.is_look_due(now) {
            worked |= self.observe(now)?;
            self.writer.commit()?;
        }
        let size = self.writer.journal.state().size();
        if self.writer.keyring.fold_is_due(size) {
            self.writer.keyring.fold(size)?;
        }
        if self.is_prune_due(now) {
            self.prune_old(now)?;
        }
        Ok(worked)
    }

    /// Takes what pin targets, authorities and registries have answered.
    fn take_answers(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let targets = self.pinning.lanes().map(|lane| lane.name.clone()).collect();
        let registries = self.registering.lanes().map(|lane| lane.name.clone()).collect();
        let readers = Readers { targets, registries };
        let pinned = self.pinning.take(&mut self.writer, &mut self.outbox, &readers.registries, now)?;
        let anchored = self.anchoring.take(&mut self.writer, &mut self.outbox, &readers, now)?;
        let registered = self.registering.take(&mut self.writer, &mut self.outbox, now)?;
        let audited = self.auditing.take(&mut self.writer, now)?;
        Ok(pinned + anchored + registered + audited > 0)
    }

    pub(super) fn start_requests(&mut self, now: Timestamp) -> Result<(), SidecarError> {
        self.pinning.start(&self.writer, &self.outbox, now)?;
        self.auditing.start(&mut self.writer, &self.outbox, now)?;
        let released = self.released();
        self.anchoring.start(&self.writer, &self.outbox, released, now)?;
        let registrable = self.anchoring.registrable(released);
        self.registering.start(&mut self.writer, &mut self.outbox, &self.settings, registrable, now)
    }

    /// Segments whose checkpoint may be shown: sealed, and held by a pin target (with none: by the archive folder).
    pub(super) fn released(&self) -> u64 {
        let sealed = self.writer.journal.state().sealed.segments;
        let held_to = |lane: &Lane| self.outbox.pinned_to(&lane.name, sealed);
        self.pinning.lanes().map(held_to).max().unwrap_or(sealed)
    }
}
