//! Pruning: what is done everywhere and old enough leaves the journal, which is then rebuilt beside and swapped.
//!
//! Only segments that every pin target and registry has are dropped, and only up to the keyring's own count: what it
//! has not counted it will want to read again.

use serde::Serialize;

use super::Sidecar;
use super::error::SidecarError;
use crate::core::seq::Size;
use crate::core::time::Timestamp;

/// What was dropped, or would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Pruned {
    /// The first entry the journal still holds.
    pub kept_from: u64,
    /// Entries dropped.
    pub dropped: u64,
    /// Bytes of the journal on the disk, afterwards.
    pub journal_bytes: u64,
    /// Whether it was only asked.
    pub dry_run: bool,
}

/// How often the loop looks whether there is something to drop.
const EVERY_MICROS: u64 = 60_000_000;

impl Sidecar {
    /// Whether it is time to look what the journal may drop.
    pub(super) fn is_prune_due(&self, now: Timestamp) -> bool {
        self.pruned_at.is_none_or(|at| now < at || now.since(at) >= EVERY_MICROS)
    }

    /// Drops what `[local] keep_journal` says, without a command.
    pub(super) fn prune_old(&mut self, now: Timestamp) -> Result<(), SidecarError> {
        self.pruned_at = Some(now);
        let pruned = self.prune(now, false)?;
        if pruned.dropped > 0 {
            tracing::info!(dropped = pruned.dropped, bytes = pruned.journal_bytes, "pruned the journal");
        }
        Ok(())
    }

    /// Drops what may be dropped.
    ///
    /// # Errors
    /// Those of journal and keyring.
    pub fn prune(&mut self, now: Timestamp, dry_run: bool) -> Result<Pruned, SidecarError> {
        let kept = self.writer.journal.state().kept_from;
        let (segments, below) = self.prunable(now)?;
        let dropped = below.0.saturating_sub(kept.0);
        if dropped > 0 && !dry_run {
            // The keyring has counted what is in the pipe.
            self.catch_up()?;
            let size = self.writer.journal.state().size();
            self.writer.keyring.fold(size)?;
            self.writer.journal.prune(below)?;
            self.pruned_segments = segments;
            if self.writer.journal.is_compaction_due()? {
                self.writer.journal.compact()?;
            }
        }
        let kept_from = self.writer.journal.state().kept_from.0;
        Ok(Pruned { kept_from, dropped, journal_bytes: self.writer.journal.disk_bytes()?, dry_run })
    }

    /// Up to where every segment is done everywhere and older than `keep_journal`: segments and entries.
    fn prunable(&self, now: Timestamp) -> Result<(u64, Size), SidecarError> {
        let state = self.writer.journal.state();
        let (Some(keep), sealed) = (self.settings.keep_journal, state.sealed.segments) else { return Ok((0, Size(0))) };
        let done = self.outbox.first_open(|task| !task.is_question()).unwrap_or(sealed);
        // The journal knows no age of a segment, but the archive file was written when it was sealed.
        let is_old = |segment: &u64| {
            let files = super::Files::of(&self.settings.archive, *segment);
            let age = std::fs::metadata(&files.proof).and_then(|meta| meta.modified()).ok().and_then(|at| {
                let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
                Some(now.since(Timestamp(u64::try_from(at.as_micros()).ok()?)))
            });
            age.is_some_and(|age| age >= keep)
        };
        let Some(last) = (self.pruned_segments..done).take_while(is_old).last() else { return Ok((0, Size(0))) };
        Ok((last + 1, self.writer.journal.seal(last)?.map_or(Size(0), |row| row.end())))
    }
}
