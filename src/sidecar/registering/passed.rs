//! The segments a registry has already, for a process that goes on after them.
//!
//! Of the archive only the proofs are read, and of all their parts one is opened.

use std::ops::Range;
use std::path::Path;

use super::{SidecarError, Stored, Writer, folding, sealed_of};
use crate::core::rows::Fold;
use crate::journal::SealRow;

/// Takes these segments into the fold, without their rows; the next one follows them.
///
/// # Errors
/// A halt where a segment cannot be read back.
pub(super) fn pass(
    fold: &mut Fold,
    writer: &mut Writer,
    archive: &Path,
    segments: Range<u64>,
) -> Result<(), SidecarError> {
    for segment in segments.clone() {
        let stored = read(writer, archive, segment, false)?;
        let passed = fold.pass(&sealed_of(&stored, None), stored.leaves.iter().map(Vec::as_slice));
        passed.map_err(folding)?;
    }
    for segment in (0..segments.end).rev() {
        let stored = read(writer, archive, segment, true)?;
        let Writer { reader, keyring, .. } = writer;
        let told = fold.tell_time(stored.leaves.iter().map(Vec::as_slice), |wanted| {
            let Some(frame) = stored.frame(wanted.seq, wanted.part) else { return Ok(None) };
            reader.operator_body(keyring, wanted.seq, wanted.sealed, frame)
        });
        if told.map_err(folding)? {
            break;
        }
    }
    Ok(())
}

fn read(writer: &Writer, archive: &Path, segment: u64, with_payload: bool) -> Result<Stored, SidecarError> {
    let row = writer.journal.seal(segment)?.ok_or_else(|| SidecarError::Own {
        doing: "the rows of a segment",
        refused: crate::core::finding::Refused::non_canonical(format!("segment {segment} is not in the journal")),
    })?;
    Stored::read(archive, &if with_payload { row } else { SealRow { payload: None, ..row } })
}
