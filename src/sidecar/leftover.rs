//! Files of a segment that the journal never sealed: what a crash between the two leaves behind.
//!
//! They are removed only where they say what the journal says too, up to the same root; the segment is then cut anew.
//! An archive that is further than the journal shows that the journal was rolled back, and halts: those files are
//! evidence.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::SidecarError;
use super::seal::Files;
use super::writer::{Writer, own};
use crate::core::car::Limits;
use crate::core::checkpoint::{Head, Statement};
use crate::core::segment::read::Proof;
use crate::core::seq::Size;
use crate::journal::JournalError;

/// Removes what a cut sealing left in `archive`.
///
/// # Errors
/// A halt where the archive is further than the journal; `File` where the disk fails.
pub(super) fn clear(writer: &Writer, archive: &Path) -> Result<(), SidecarError> {
    let segment = writer.journal.state().sealed.segments;
    let beyond = Files::of(archive, segment + 1);
    if beyond.proof.exists() {
        return Err(ahead(writer, &beyond.proof, format!("segment {}", segment + 1)));
    }
    let files = Files::of(archive, segment);
    match File::open(&files.proof) {
        Ok(file) => {
            let proof = own("a proof CAR of the archive", Proof::open(file, Limits::default()))?;
            let statement = own("a checkpoint of the archive", Statement::parse(&proof.seal().checkpoint))?;
            if !is_ours(writer, &statement.head)? {
                let Head { size, root, .. } = statement.head;
                return Err(ahead(writer, &files.proof, format!("segment {segment} of size {size} root {root}")));
            }
            remove(&files.proof)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(SidecarError::file("reading", &files.proof)(error)),
    }
    // The payload is written first and removed last: alone it is nobody's.
    remove(&files.payload)?;
    for temporary in [&files.proof, &files.payload].map(|path| path.with_extension("tmp")) {
        remove(&temporary)?;
    }
    Ok(())
}

/// Whether our entries, up to that size, have that root.
fn is_ours(writer: &Writer, head: &Head) -> Result<bool, SidecarError> {
    let state = writer.journal.state();
    let mut tree = state.sealed.tree.clone();
    if head.size > state.size() || head.size < tree.size() {
        return Ok(false);
    }
    for entry in writer.journal.leaves(tree.size().next_seq(), head.size)? {
        tree.append(entry?.leaf_hash);
    }
    Ok(tree.root() == head.root)
}

fn ahead(writer: &Writer, path: &Path, found: String) -> SidecarError {
    let Size(size) = writer.journal.state().size();
    let expected = format!("nothing beyond the journal's {size} entries");
    JournalError::Damaged { place: path.display().to_string(), expected, found }.into()
}

fn remove(path: &Path) -> Result<(), SidecarError> {
    match std::fs::remove_file(path) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "removed: left by a sealing that was cut short");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SidecarError::file("removing", path)(error)),
    }
}
