//! Which segments the quorum of a policy has signed, as the anchor files say.

use std::path::Path;

use super::file;
use crate::core::note::Note;
use crate::core::segment::Anchor;
use crate::core::witness::Policy;
use crate::sidecar::error::SidecarError;
use crate::sidecar::writer::own;

/// The witnesses that are enough for a log.
#[derive(Clone, Debug)]
pub struct Quorum {
    /// Who must have signed.
    pub policy: Policy,
    /// Whether nothing is registered before (`fail-closed`).
    pub is_required: bool,
}

impl Quorum {
    /// Whether enough witnesses have signed this checkpoint.
    ///
    /// # Errors
    /// A halt where a line of one of them does not verify: nothing is written that was not verified.
    pub(super) fn is_met_by(&self, anchor: &Anchor) -> Result<bool, SidecarError> {
        let note = own("an anchor of the archive", Note::parse(&anchor.checkpoint))?;
        own("an anchor of the archive", self.policy.is_met_by(&note))
    }

    /// How many of `segments` segments are covered by a checkpoint that the quorum signed: it covers all before it.
    ///
    /// # Errors
    /// `File`; a halt where an anchor file does not read.
    pub(super) fn witnessed(&self, archive: &Path, segments: u64) -> Result<u64, SidecarError> {
        for segment in (0..segments).rev() {
            if let Some(anchor) = file::read(archive, segment)?
                && self.is_met_by(&anchor)?
            {
                return Ok(segment + 1);
            }
        }
        Ok(0)
    }
}
