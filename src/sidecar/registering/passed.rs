//! The segments a registry has already, for a process that goes on after them.
//!
//! Of the archive only the proofs are read, and of all their parts one is opened.

use std::path::Path;

use super::keys::Given;
use super::rows::told;
use crate::core::rows::{Fold, Sealed};
use crate::journal::SealRow;
use crate::sidecar::error::SidecarError;
use crate::sidecar::reader::Reader;
use crate::sidecar::stored::Stored;

/// Takes these segments into the fold, without their rows; the next one follows them. `operator` has the operator's keys
/// of all epochs.
///
/// # Errors
/// A halt where a segment cannot be read back.
pub(super) fn pass(
    fold: &mut Fold,
    archive: &Path,
    segments: &[SealRow],
    reader: &mut Reader,
    operator: &mut Given,
) -> Result<(), SidecarError> {
    for row in segments {
        let stored = Stored::read(archive, &SealRow { payload: None, ..row.clone() })?;
        // What its row would say of the files is not wanted.
        let sealed = Sealed {
            cid: row.seal,
            seal: &stored.seal,
            proof_bytes: 0,
            payload_bytes: None,
            sealed_at: None,
            registered_at: None,
        };
        fold.pass(&sealed, stored.leaves.iter().map(Vec::as_slice)).map_err(told)?;
    }
    for row in segments.iter().rev() {
        let stored = Stored::read(archive, row)?;
        let is_told = fold.tell_time(stored.leaves.iter().map(Vec::as_slice), |wanted| {
            let Some(frame) = stored.frame(wanted.seq, wanted.part) else { return Ok(None) };
            reader.operator_body(operator, wanted.seq, wanted.sealed, frame)
        });
        if is_told.map_err(told)? {
            break;
        }
    }
    Ok(())
}
