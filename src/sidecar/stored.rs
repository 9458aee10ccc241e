//! A segment read back from the archive folder: leaves, frames, seal.
//!
//! Read strictly, like an auditor reads it, but not audited: that is `verify`. A file that is not what the journal
//! says is a halt, because then our own archive is in doubt.

use std::fs::File;
use std::path::Path;

use super::error::SidecarError;
use super::seal::Files;
use super::writer::own;
use crate::core::car::Limits;
use crate::core::cid::Cid;
use crate::core::finding::Refused;
use crate::core::leaf::LeafView;
use crate::core::segment::Seal;
use crate::core::segment::read::{Frames, Proof};
use crate::core::seq::Seq;
use crate::journal::{JournalError, SealRow};

/// One segment in memory.
pub(super) struct Stored {
    pub(super) cid: Cid,
    pub(super) seal: Seal,
    pub(super) proof_bytes: u64,
    pub(super) payload_bytes: Option<u64>,
    pub(super) leaves: Vec<Vec<u8>>,
    /// The frames in the order of their parts; the index says where those of an entry begin.
    frames: Vec<Vec<u8>>,
    starts: Vec<usize>,
}

impl Stored {
    /// Reads the segment of `row` from `archive`.
    ///
    /// # Errors
    /// `File` where a file cannot be read; a halt where it is not that segment.
    pub(super) fn read(archive: &Path, row: &SealRow) -> Result<Stored, SidecarError> {
        let files = Files::of(archive, row.segment);
        let (file, proof_bytes) = open(&files.proof)?;
        let mut proof = own("a proof CAR of the archive", Proof::open(file, Limits::default()))?;
        expect(&files.proof, row.seal, proof.cid())?;
        let leaves = own("a proof CAR of the archive", leaves(&mut proof))?;
        let mut stored = Stored {
            cid: row.seal,
            seal: proof.seal().clone(),
            proof_bytes,
            payload_bytes: None,
            leaves,
            frames: Vec::new(),
            starts: Vec::new(),
        };
        if let Some(payload) = row.payload {
            let (file, bytes) = open(&files.payload)?;
            let mut frames = own("a payload CAR of the archive", Frames::open(file, Limits::default()))?;
            expect(&files.payload, payload, frames.cid())?;
            own("a payload CAR of the archive", stored.take_frames(&mut frames))?;
            stored.payload_bytes = Some(bytes);
        }
        Ok(stored)
    }

    fn take_frames(&mut self, frames: &mut Frames<File>) -> Result<(), Refused> {
        let mut frame = Vec::new();
        while let Some(key) = frames.take(|piece| frame.extend_from_slice(piece))? {
            let index = usize::try_from(key.seq.0.saturating_sub(self.seal.first.0)).unwrap_or(usize::MAX);
            while self.starts.len() <= index && self.starts.len() < self.leaves.len() {
                self.starts.push(self.frames.len());
            }
            self.frames.push(std::mem::take(&mut frame));
        }
        Ok(())
    }

    /// The frame of a part.
    pub(super) fn frame(&self, seq: Seq, part: u32) -> Option<&[u8]> {
        let index = usize::try_from(seq.0.checked_sub(self.seal.first.0)?).ok()?;
        let at = self.starts.get(index)?.checked_add(usize::try_from(part).ok()?)?;
        self.frames.get(at).map(Vec::as_slice)
    }
}

fn leaves(proof: &mut Proof<File>) -> Result<Vec<Vec<u8>>, Refused> {
    let mut leaves = Vec::new();
    while let Some(page) = proof.page()? {
        let mut rest = page.bytes;
        for _ in 0..page.count {
            let (_, after) = LeafView::decode_prefix(rest)?;
            leaves.push(rest.get(..rest.len() - after.len()).unwrap_or_default().to_vec());
            rest = after;
        }
    }
    Ok(leaves)
}

fn open(path: &Path) -> Result<(File, u64), SidecarError> {
    let failed = SidecarError::file("reading", path);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    Ok((file, bytes))
}

fn expect(path: &Path, expected: Cid, found: Cid) -> Result<(), SidecarError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(JournalError::Damaged { place: path.display().to_string(), expected, found }.into())
}
