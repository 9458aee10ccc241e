//! Halts: durable, so that every start repeats them until a person decides.

use super::Sidecar;
use super::error::SidecarError;
use crate::core::time::Timestamp;
use crate::ingest::SourceError;
use crate::journal::{Commit, Halt, JournalError};

impl Sidecar {
    /// Makes a halt durable, so that every start repeats it. A file that changed is no doubt about our own state.
    pub(super) fn halt(&self, error: &SidecarError, now: Timestamp) {
        let is_standing = matches!(error, SidecarError::Journal(JournalError::Halted(_)));
        let is_file = matches!(error, SidecarError::Source(SourceError::PrefixChanged { .. }));
        if !is_standing && !is_file {
            // Where even this fails the journal is poisoned, and the next start checks everything.
            let _ = self.writer.journal.halt(error.to_halt(now));
        }
    }

    /// Refuses while a halt stands.
    ///
    /// # Errors
    /// `Halted` with its reason.
    pub fn refuse_if_halted(&self) -> Result<(), SidecarError> {
        match &self.writer.journal.state().halted {
            Some(halt) => Err(JournalError::Halted(halt.clone()).into()),
            None => Ok(()),
        }
    }

    /// Ends a standing halt; gives what it was.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn resume(&mut self) -> Result<Option<Halt>, SidecarError> {
        let halted = self.writer.journal.state().halted.clone();
        if halted.is_some() {
            self.writer.journal.append(&Commit { resume: true, ..Commit::default() })?;
            self.meet_newcomers()?;
        }
        Ok(halted)
    }
}
