//! The released segments of an archive, as far as tiles need them: where each ends and what it signed.

use super::{Checkpoint, TilesError};
use crate::core::audit::{Archive, File};
use crate::core::car::Limits;
use crate::core::finding::{Code, Refused};
use crate::core::segment::read::{Proof, read_anchor};
use crate::core::seq::Size;

/// The first `count` segments of an archive: those that are released, which the caller knows.
#[derive(Clone, Copy)]
pub struct Segments<'a> {
    archive: &'a dyn Archive,
    count: u64,
}

/// A proof CAR that is being read.
pub(super) type Reading<'a> = Proof<Box<dyn std::io::Read + 'a>>;

impl<'a> Segments<'a> {
    /// The first `count` segments of `archive`.
    pub fn new(archive: &'a dyn Archive, count: u64) -> Segments<'a> {
        Segments { archive, count }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The checkpoint of the log at `size`, with the cosignatures the archive has of it; `None` where no released
    /// segment ends there.
    ///
    /// # Errors
    /// `Segment` where one of those looked at cannot be read.
    pub fn checkpoint_at(&self, size: Size) -> Result<Option<Checkpoint>, TilesError> {
        let Some(before) = size.0.checked_sub(1) else { return Ok(None) };
        let segment = self.after(Size(before))?;
        if segment == self.count || end(&self.open(segment)?) != size {
            return Ok(None);
        }
        self.checkpoint(segment).map(Some)
    }

    /// The first segment that ends beyond `size`; their number where none does.
    pub(super) fn after(&self, size: Size) -> Result<u64, TilesError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if end(&self.open(middle)?) <= size {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Begins to read a segment.
    pub(super) fn open(&self, segment: u64) -> Result<Reading<'a>, TilesError> {
        let refused = |refused| TilesError::Segment { segment, refused };
        let source = self.source(segment, File::Proof).map_err(refused)?;
        let source = source.ok_or_else(|| refused(Refused::new(Code::SegmentMissing, "no proof file")))?;
        let proof = Proof::open(source, Limits::default()).map_err(refused)?;
        match proof.seal().segment == segment {
            true => Ok(proof),
            false => Err(refused(Refused::new(Code::SealLink, format!("the file of {}", proof.seal().segment)))),
        }
    }

    /// The checkpoint of a segment: its anchor's, which carries cosignatures, where there is one of this seal.
    pub(super) fn checkpoint(&self, segment: u64) -> Result<Checkpoint, TilesError> {
        let refused = |refused| TilesError::Segment { segment, refused };
        let proof = self.open(segment)?;
        let sealed = Checkpoint::read(proof.seal().checkpoint.clone()).map_err(refused)?;
        let Some(source) = self.source(segment, File::Anchor).map_err(refused)? else { return Ok(sealed) };
        let (_, anchor) = read_anchor(source, Limits::default()).map_err(refused)?;
        let anchored = Checkpoint::read(anchor.checkpoint).map_err(refused)?;
        if anchor.seal != proof.cid() || anchored.head != sealed.head {
            return Err(refused(Refused::new(Code::SealLink, "an anchor of another seal")));
        }
        Ok(anchored)
    }

    fn source(&self, segment: u64, file: File) -> Result<Option<Box<dyn std::io::Read + 'a>>, Refused> {
        let unreachable = |e: std::io::Error| Refused::new(Code::Unreachable, format!("{file:?} file: {e}"));
        self.archive.open(segment, file).map_err(unreachable)
    }
}

/// The size of the log after a segment.
fn end(reading: &Reading<'_>) -> Size {
    let seal = reading.seal();
    Size(seal.first.0.saturating_add(seal.count))
}
