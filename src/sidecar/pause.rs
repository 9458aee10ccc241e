//! Pausing intake where there is no room for more: nothing is dropped, the broker keeps it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::Sidecar;
use super::error::SidecarError;
use super::seal::Files;
use crate::journal::JournalError;

/// Why intake is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// Not enough room.
    Disk,
    /// Too much that is sealed and not yet done.
    Backlog,
    /// A revocation waits for the recovery key.
    Revocation,
}

impl Pause {
    /// The word for status, readiness and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Pause::Disk => "disk",
            Pause::Backlog => "backlog",
            Pause::Revocation => "revocation",
        }
    }
}

/// The sizes of the segments that are not yet done: sealed files do not change, so each is looked at once.
#[derive(Default)]
pub(super) struct Backlog(BTreeMap<u64, u64>);

impl Backlog {
    fn bytes(&mut self, archive: &Path, open: Range<u64>) -> u64 {
        self.0 = self.0.split_off(&open.start);
        if self.0.keys().next().is_some_and(|first| *first > open.start) {
            // A registry that is to be told everything anew opens the oldest again.
            self.0.clear();
        }
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let next = self.0.last_key_value().map_or(open.start, |(last, _)| last + 1);
        for segment in next..open.end {
            let files = Files::of(archive, segment);
            self.0.insert(segment, bytes(&files.proof) + bytes(&files.payload));
        }
        self.0.values().sum()
    }
}

impl Sidecar {
    /// Pauses intake where there is no room for more, and resumes it when there is.
    pub(super) fn pause_or_resume(&mut self) -> Result<(), SidecarError> {
        // The journal wants more room than a small `disk_free_min` leaves: a commit that found none pauses as well.
        let is_full = matches!(self.trouble, Some(SidecarError::Journal(JournalError::Full { .. })));
        let wanted = if is_full || self.disk_free()? < self.settings.disk_free_min {
            Some(Pause::Disk)
        } else if self.backlog_bytes() > self.settings.backlog_max {
            Some(Pause::Backlog)
        } else if self.writer.is_revoking {
            Some(Pause::Revocation)
        } else {
            None
        };
        if wanted != self.paused {
            match wanted {
                Some(pause) => tracing::warn!(why = pause.as_str(), "intake is paused"),
                None => tracing::info!("intake goes on"),
            }
            for intake in &mut self.intakes {
                if wanted.is_some() { intake.source().pause() } else { intake.source().resume() }
            }
            self.paused = wanted;
        }
        Ok(())
    }

    /// Free bytes of the data directory.
    pub(super) fn disk_free(&self) -> Result<u64, SidecarError> {
        let failed = SidecarError::file("looking at", &self.settings.archive);
        let disk = rustix::fs::statvfs(&self.settings.archive).map_err(|error| failed(error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Bytes of the segments that are not yet done.
    fn backlog_bytes(&mut self) -> u64 {
        let sealed = self.writer.journal.state().sealed.segments;
        let first = self.outbox.first_open(|task| !task.is_question()).unwrap_or(sealed);
        self.backlog.bytes(&self.settings.archive, first..sealed)
    }

    /// Why intake is paused, if it is.
    pub fn paused(&self) -> Option<Pause> {
        self.paused
    }
}
