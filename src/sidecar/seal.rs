//! Sealing: a range of entries becomes a segment in CAR files, then an outbox of what is to be done with it.
//!
//! The loop says when, does what must stand before (the broker's word, kind 19, a commit), and fixes the range and the
//! state it starts from; the sealer cuts it meanwhile; the loop takes it and commits it with its kind 5 entry and its
//! tasks (commit point 2). The files are synced under their final names before that, and files without such a row are
//! of a sealing that a crash cut short, and are made anew. What is recorded while a segment is cut belongs to the next.

mod files;
mod sealer;

use std::sync::Arc;

pub use files::Files;
pub(super) use files::write_anchor;
pub(super) use sealer::Sealer;

use super::Sidecar;
use super::error::SidecarError;
use super::outbox::Task;
use crate::core::leaf::Body;
use crate::core::segment::build::Start;
use crate::core::segment::skip_of;
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::journal::{self, Sealed};
use sealer::Plan;

impl Sidecar {
    /// Whether a segment is to be cut now. Our own entries never start the clock.
    fn is_seal_due(&self, now: Timestamp) -> bool {
        let (waiting, settings) = (self.writer.waiting(), &self.settings);
        let age = waiting.oldest.map_or(0, |oldest| now.since(oldest));
        !self.sealer.is_busy()
            && !self.writer.is_revoking
            && waiting.entries > 0
            && (self.unsealed() >= settings.entries_max
                || waiting.frame_bytes >= settings.bytes_max
                || (age >= settings.age_max && waiting.entries >= settings.entries_min)
                || age >= settings.age_limit)
    }

    /// Entries behind the last seal.
    fn unsealed(&self) -> u64 {
        self.writer.size().0 - self.writer.journal.state().sealed.tree.size().0
    }

    /// Whether so much waits that the segment after the one under way is full too: then the fold waits for the sealer,
    /// or it would run away from it.
    fn is_far_ahead(&self) -> bool {
        let settings = &self.settings;
        self.unsealed() >= settings.entries_max.saturating_mul(2)
            || self.writer.waiting().frame_bytes >= settings.bytes_max.saturating_mul(2)
    }

    /// Whether there is a segment to be taken or begun.
    pub(super) fn is_seal_to_do(&self, now: Timestamp) -> bool {
        self.is_seal_to_take() || self.is_seal_due(now)
    }

    fn is_seal_to_take(&self) -> bool {
        self.sealer.is_done() || self.sealer.is_busy() && self.is_far_ahead()
    }

    /// Takes the segment that is cut, and begins the next one where it is due.
    pub(super) fn seal(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let mut worked = false;
        if self.is_seal_to_take() {
            worked |= self.finish_seal(now)?;
        }
        if self.is_seal_due(now) {
            let is_again = self.sealer.has_failed();
            worked |= self.begin_seal(now)?;
            if is_again {
                worked |= self.finish_seal(now)?;
            }
        }
        Ok(worked)
    }

    /// Seals one segment of what waits, whatever its age; false where nothing does.
    ///
    /// # Errors
    /// As `step`.
    pub fn seal_now(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        self.refuse_if_prepared()?;
        let sealed = self.seal_and_wait(now);
        if let Err(error) = &sealed
            && error.is_halt()
        {
            self.halt(error, now);
        }
        sealed
    }

    pub(super) fn seal_and_wait(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        if !self.sealer.is_busy() {
            self.begin_seal(now)?;
        }
        self.finish_seal(now)
    }

    /// Whether a segment is being sealed.
    pub fn is_sealing(&self) -> bool {
        self.sealer.is_busy()
    }

    /// Has the sealer cut what waits, at most one segment; false where nothing does.
    fn begin_seal(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        self.catch_up()?;
        if self.writer.waiting().entries == 0 && self.unsealed() == 0 {
            return Ok(false);
        }
        for intake in &mut self.intakes {
            intake.confirm(&mut self.writer)?;
        }
        let segment = self.writer.journal.state().sealed.segments;
        // Once a segment: a seal that a full disk stops is tried again and again.
        if self.observed_for != Some(segment) {
            self.observe(now)?;
            self.observed_for = Some(segment);
        }
        self.writer.commit()?;
        let state = self.writer.journal.state();
        let start = self.start_of(&state.sealed)?;
        let reach = self.writer.segment_reach();
        let plan = Plan {
            journal: Arc::clone(&self.writer.journal),
            keys: self.writer.keys.all().cloned().collect(),
            archive: self.settings.archive.clone(),
            end: state.size().min(Size(start.tree.size().0.saturating_add(self.settings.entries_max))).max(reach),
            reach,
            start,
            bytes_max: self.settings.bytes_max,
        };
        self.sealer.begin(plan)?;
        Ok(true)
    }

    /// What the next segment takes from those before it.
    fn start_of(&self, sealed: &Sealed) -> Result<Start, SidecarError> {
        let segment = sealed.segments;
        let seal_of = |segment| Ok::<_, SidecarError>(self.writer.journal.seal(segment)?.map(|row| row.seal));
        Ok(Start {
            origin: self.writer.origin().clone(),
            segment,
            prev_seal: segment.checked_sub(1).map(seal_of).transpose()?.flatten(),
            skip: if segment == 0 { None } else { seal_of(skip_of(segment))? },
            tree: sealed.tree.clone(),
            rules: self.writer.sealed_rules().clone(),
        })
    }

    /// Waits for the segment under way, and commits it with its kind 5 entry and one outbox row a task; false where
    /// there is none.
    fn finish_seal(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        // What is pending goes before: a commit has room for one seal and its rows.
        self.catch_up()?;
        let Some(cut) = self.sealer.finish()? else { return Ok(false) };
        let at = self.writer.record_time(now)?;
        let row = cut.row.clone();
        let (segment, seal, payload) = (row.segment, row.seal, row.payload);
        self.writer.push(Body::SegmentSealed { at, seal, payload, segment }, None, Vec::new())?;
        let tasks = self.pinning.tasks(at).chain(self.anchoring.tasks(at)).chain(self.registering.tasks(at));
        let tasks: Vec<Task> = tasks.collect();
        for task in tasks {
            self.outbox.put(&mut self.writer, segment, task);
        }
        self.writer.set_sealed(journal::Seal { row: cut.row, tree: cut.tree }, cut.rules);
        // If this fails for a time, the next step begins with it.
        self.writer.commit()?;
        self.writer.await_seal()?;
        tracing::info!(segment, entries = row.count, seal = %seal, "sealed");
        Ok(true)
    }
}
