//! The frames of a segment against the parts its leaves name, both read once and side by side.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::super::car::Limits;
use super::super::cid::Cid;
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::leaf::LeafView;
use super::super::rules::Fault;
use super::super::segment::Seal;
use super::super::segment::read::{FrameKey, Frames, check_payload_cid};
use super::super::seq::Seq;

/// The payload of one segment; empty once its first fault as a file was found, or where there is none.
pub(super) struct PayloadCheck<R> {
    frames: Option<Frames<R>>,
}

impl<R: Read> PayloadCheck<R> {
    /// Nothing to compare with.
    pub(super) fn absent() -> PayloadCheck<R> {
        PayloadCheck { frames: None }
    }

    /// Opens the payload file of the segment of `seal`.
    pub(super) fn open(source: R, limits: Limits, seal: &Seal) -> Result<PayloadCheck<R>, Fault> {
        let refused = |refused| Fault::refused(None, "payload file", refused);
        if seal.payload.is_none() {
            let what = "a file for a segment without parts";
            return Err(Fault::of(Code::BlockExtra, "payload file", "none", what));
        }
        let frames = Frames::open(source, limits).map_err(refused)?;
        check_payload(&frames, seal.payload, seal).map_err(refused)?;
        Ok(PayloadCheck { frames: Some(frames) })
    }

    /// Compares the frames of one leaf.
    pub(super) fn leaf(&mut self, leaf: &LeafView<'_>, add: &mut impl FnMut(Fault)) {
        for (part, named) in (0..).zip(leaf.parts()) {
            let key = FrameKey { seq: leaf.seq, part };
            if let Err(fault) = self.part(key, named.digest) {
                // A digest that differs leaves the file readable; every other fault ends it.
                if fault.code != Code::FrameDigest {
                    self.frames = None;
                }
                add(fault);
            }
        }
    }

    fn part(&mut self, key: FrameKey, digest: Hash) -> Result<(), Fault> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        let refused = |refused| Fault::refused(Some(key.seq), "payload file", refused);
        let place = || format!("frame of part {}", key.part);
        match frames.peek().map_err(refused)? {
            Some(found) if found < key => Err(too_many(found)),
            Some(found) if found == key => {
                let mut hasher = Sha256::new();
                frames.take(|piece| hasher.update(piece)).map_err(refused)?;
                let found = Hash(hasher.finalize().into());
                if found == digest {
                    return Ok(());
                }
                Err(Fault::at(key.seq, Code::FrameDigest, place(), digest, found))
            }
            _ => Err(Fault::at(key.seq, Code::FrameDigest, place(), digest, "no frame")),
        }
    }

    /// Passes over the frames of an entry whose leaf could not be read.
    pub(super) fn skip(&mut self, seq: Seq) -> Result<(), Fault> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        let mut skip = || {
            while frames.peek()?.is_some_and(|key| key.seq == seq) {
                frames.take(|_| ())?;
            }
            Ok(())
        };
        let skipped = skip().map_err(|refused: Refused| Fault::refused(Some(seq), "payload file", refused));
        if skipped.is_err() {
            self.frames = None;
        }
        skipped
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), Fault> {
        let Some(mut frames) = self.frames else { return Ok(()) };
        match frames.peek().map_err(|refused| Fault::refused(None, "payload file", refused))? {
            None => Ok(()),
            Some(found) => Err(too_many(found)),
        }
    }
}

fn check_payload<R: Read>(frames: &Frames<R>, sealed: Option<Cid>, seal: &Seal) -> Result<(), Refused> {
    check_payload_cid(sealed, frames.cid())?;
    let payload = frames.payload();
    if payload.origin != seal.origin {
        return Err(Refused::new(Code::WrongOrigin, format!("payload of {}", payload.origin)));
    }
    if payload.segment != seal.segment {
        return Err(Refused::new(Code::SealLink, format!("payload of segment {}", payload.segment)));
    }
    Ok(())
}

fn too_many(found: FrameKey) -> Fault {
    let what = format!("a frame of part {} that no entry names", found.part);
    Fault::at(found.seq, Code::NonCanonical, "payload file", "no further frame", what)
}
