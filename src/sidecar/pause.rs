//! Pausing intake where there is no room for more: nothing is dropped, the broker keeps it.

use std::path::PathBuf;

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
}

impl Pause {
    /// The word for status, readiness and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Pause::Disk => "disk",
            Pause::Backlog => "backlog",
        }
    }
}

impl Sidecar {
    /// Pauses intake where there is no room for more, and resumes it when there is.
    pub(super) fn pause_or_resume(&mut self) -> Result<(), SidecarError> {
        // The journal wants more room than a small `disk_free_min` leaves: a commit that found none pauses as well.
        let is_full = matches!(self.trouble, Some(SidecarError::Journal(JournalError::Full { .. })));
        let wanted = if is_full || self.disk_free()? < self.settings.disk_free_min {
            Some(Pause::Disk)
        } else if self.backlog_bytes()? > self.settings.backlog_max {
            Some(Pause::Backlog)
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
    fn backlog_bytes(&self) -> Result<u64, SidecarError> {
        let Some(first) = self.outbox.first_open(|_| true) else { return Ok(0) };
        let bytes = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let of = |segment| {
            let files = Files::of(&self.settings.archive, segment);
            bytes(&files.proof) + bytes(&files.payload)
        };
        Ok((first..self.writer.journal.state().sealed.segments).map(of).sum())
    }

    /// Why intake is paused, if it is.
    pub fn paused(&self) -> Option<Pause> {
        self.paused
    }
}
