//! Anchor files of the archive folder: read strictly, written durably, replaced only by what contains them.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::core::car::Limits;
use crate::core::segment::Anchor;
use crate::core::segment::read::{Proof, read_anchor};
use crate::journal::{JournalError, SealRow};
use crate::sidecar::error::SidecarError;
use crate::sidecar::seal::{Files, write_anchor};
use crate::sidecar::writer::own;

/// The checkpoint in the seal of `row`.
///
/// # Errors
/// `File`; a halt where the file is not that segment's.
pub(super) fn checkpoint(archive: &Path, row: &SealRow) -> Result<String, SidecarError> {
    let path = Files::of(archive, row.segment).proof;
    let file = File::open(&path).map_err(SidecarError::file("reading", &path))?;
    let proof = own("a proof CAR of the archive", Proof::open(file, Limits::default()))?;
    if proof.cid() != row.seal {
        return Err(damaged(&path, row.seal.to_string(), proof.cid().to_string()));
    }
    Ok(proof.seal().checkpoint.clone())
}

/// The anchor of a segment as the archive has it; where there is none, one in which nobody has spoken yet.
///
/// # Errors
/// `File`; a halt where it does not read or is of something else.
pub(super) fn anchor(archive: &Path, row: &SealRow) -> Result<Anchor, SidecarError> {
    let empty = Anchor::of(row.seal, &checkpoint(archive, row)?);
    let Some(anchor) = read(archive, row.segment)? else { return Ok(empty) };
    if !anchor.contains(&empty) {
        let path = Files::of(archive, row.segment).anchor;
        let found = format!("an anchor of {}", anchor.seal);
        return Err(damaged(&path, format!("an anchor of {}", row.seal), found));
    }
    Ok(anchor)
}

/// The anchor file of a segment, if there is one.
///
/// # Errors
/// `File`; a halt where it does not read.
pub(in crate::sidecar) fn read(archive: &Path, segment: u64) -> Result<Option<Anchor>, SidecarError> {
    let path = Files::of(archive, segment).anchor;
    match File::open(&path) {
        Ok(file) => {
            let (_, anchor) = own("an anchor CAR of the archive", read_anchor(file, Limits::default()))?;
            Ok(Some(anchor))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SidecarError::file("reading", &path)(error)),
    }
}

/// Writes an anchor that contains the one that is there. On return it is durable.
///
/// # Errors
/// `File`: what was there is still there.
pub(super) fn write(archive: &Path, segment: u64, anchor: &Anchor) -> Result<(), SidecarError> {
    write_anchor(&Files::of(archive, segment).anchor, &anchor.to_car())
}

fn damaged(path: &Path, expected: String, found: String) -> SidecarError {
    JournalError::Damaged { place: path.display().to_string(), expected, found }.into()
}
