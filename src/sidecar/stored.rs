//! A segment read back from the archive folder: seal, then leaf by leaf with its frames.
//!
//! Read strictly, like an auditor reads it, but not audited: that is `verify`. A file that is not what the journal
//! says is a halt, because then our own archive is in doubt. Whoever can takes the entries one by one (`Reading`); who
//! needs all of them has a segment in memory (`Stored`).

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
use crate::core::segment::read::{FrameKey, Frames, Proof};
use crate::core::seq::Seq;
use crate::journal::{JournalError, SealRow};

/// A segment that is being read.
pub(super) struct Reading {
    proof: Proof<File>,
    frames: Option<Frames<File>>,
    pub(super) proof_bytes: u64,
    pub(super) payload_bytes: Option<u64>,
    /// The page in hand, how far it was read, and the leaves left in it.
    page: Vec<u8>,
    at: usize,
    left: usize,
}

/// One entry of it.
pub(super) struct StoredEntry {
    pub(super) leaf: Vec<u8>,
    /// In order of the parts; none where the payload is not read.
    pub(super) frames: Vec<Vec<u8>>,
}

impl Reading {
    /// Opens the segment of `row` in `archive`; with a row that names no payload only the leaves are read.
    ///
    /// # Errors
    /// `File` where a file cannot be read; a halt where it is not that segment.
    pub(super) fn open(archive: &Path, row: &SealRow) -> Result<Reading, SidecarError> {
        let files = Files::of(archive, row.segment);
        let (file, proof_bytes) = open(&files.proof)?;
        let proof = own(PROOF, Proof::open(file, Limits::default()))?;
        expect(&files.proof, row.seal, proof.cid())?;
        let (mut frames, mut payload_bytes) = (None, None);
        if let Some(payload) = row.payload {
            let (file, bytes) = open(&files.payload)?;
            let opened = own(PAYLOAD, Frames::open(file, Limits::default()))?;
            expect(&files.payload, payload, opened.cid())?;
            (frames, payload_bytes) = (Some(opened), Some(bytes));
        }
        Ok(Reading { proof, frames, proof_bytes, payload_bytes, page: Vec::new(), at: 0, left: 0 })
    }

    /// Its seal.
    pub(super) fn seal(&self) -> &Seal {
        self.proof.seal()
    }

    /// The next entry; `None` after the last, when both files are known to end there.
    ///
    /// # Errors
    /// A halt where the files are not those of a segment.
    pub(super) fn next(&mut self) -> Result<Option<StoredEntry>, SidecarError> {
        while self.left == 0 {
            let Some(page) = own(PROOF, self.proof.page())? else {
                own(PAYLOAD, self.end_frames())?;
                return Ok(None);
            };
            self.page.clear();
            self.page.extend_from_slice(page.bytes);
            (self.at, self.left) = (0, page.count);
        }
        let rest = self.page.get(self.at..).unwrap_or_default();
        let (view, after) = own(PROOF, LeafView::decode_prefix(rest))?;
        let bytes = rest.len() - after.len();
        let (seq, parts, leaf) = (view.seq, view.part_count(), rest.get(..bytes).unwrap_or_default().to_vec());
        self.at += bytes;
        self.left -= 1;
        let frames = match &mut self.frames {
            Some(frames) => own(PAYLOAD, take_frames(frames, seq, parts))?,
            None => Vec::new(),
        };
        Ok(Some(StoredEntry { leaf, frames }))
    }

    fn end_frames(&mut self) -> Result<(), Refused> {
        match self.frames.as_mut().map(Frames::peek).transpose()?.flatten() {
            None => Ok(()),
            Some(key) => Err(Refused::non_canonical(format!("a frame of entry {}, which has none", key.seq))),
        }
    }
}

const PROOF: &str = "a proof CAR of the archive";
const PAYLOAD: &str = "a payload CAR of the archive";

/// One segment in memory.
pub(super) struct Stored {
    pub(super) seal: Seal,
    pub(super) leaves: Vec<Vec<u8>>,
    first: Seq,
    /// The frames in the order of their parts; the index says where those of an entry begin.
    frames: Vec<Vec<u8>>,
    starts: Vec<usize>,
}

impl Stored {
    /// Reads the segment of `row` from `archive`.
    ///
    /// # Errors
    /// As [`Reading`].
    pub(super) fn read(archive: &Path, row: &SealRow) -> Result<Stored, SidecarError> {
        let mut reading = Reading::open(archive, row)?;
        let seal = reading.seal().clone();
        let first = seal.first.next_seq();
        let mut stored = Stored { seal, leaves: Vec::new(), first, frames: Vec::new(), starts: Vec::new() };
        while let Some(entry) = reading.next()? {
            stored.leaves.push(entry.leaf);
            stored.starts.push(stored.frames.len());
            stored.frames.extend(entry.frames);
        }
        Ok(stored)
    }

    /// The frame of a part.
    pub(super) fn frame(&self, seq: Seq, part: u32) -> Option<&[u8]> {
        let index = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        let at = self.starts.get(index)?.checked_add(usize::try_from(part).ok()?)?;
        self.frames.get(at).map(Vec::as_slice)
    }
}

/// The frames of an entry of so many parts: they come in order, and none may be missing.
fn take_frames(frames: &mut Frames<File>, seq: Seq, parts: usize) -> Result<Vec<Vec<u8>>, Refused> {
    let mut taken = Vec::with_capacity(parts);
    for part in (0..).take(parts) {
        let mut frame = Vec::new();
        let found = frames.take(|piece| frame.extend_from_slice(piece))?;
        if found != Some(FrameKey { seq, part }) {
            return Err(Refused::non_canonical(format!("part {part} of entry {seq}: no frame")));
        }
        taken.push(frame);
    }
    Ok(taken)
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
