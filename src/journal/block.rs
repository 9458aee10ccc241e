//! A log block: up to 128 consecutive leaves under one key of the store, and where their frames lie.
//!
//! Pure bytes. One key an entry costs the store three times the time; values above 24 KiB would become files that
//! it never syncs. Layout: docs/journal.md, "Log blocks".

use super::error::JournalError;
use super::frames::Place;
use crate::core::seq::Seq;

/// Bytes of a block, at most: pages of the store hold 16 values and must stay below a quarter of its segment.
pub(super) const BLOCK_BYTES_MAX: usize = 24 * 1024;
/// Entries of a block, at most.
const BLOCK_ENTRIES_MAX: usize = 128;
/// Version, count, frame file, offset in it.
const HEAD_BYTES: usize = 1 + 2 + 4 + 8;
/// An entry in the table: where its leaf ends, how many frames it has.
const ROW_BYTES: usize = 4 + 1;
const VERSION: u8 = 1;

/// A block being filled.
pub(super) struct Filling {
    first: Seq,
    frames: Place,
    table: Vec<u8>,
    leaves: Vec<u8>,
}

impl Filling {
    /// An empty block whose first entry will be `first` and whose first frame will lie at `frames`.
    pub(super) fn new(first: Seq, frames: Place) -> Filling {
        Filling { first, frames, table: Vec::new(), leaves: Vec::new() }
    }

    /// Whether a leaf of `len` bytes still fits.
    pub(super) fn has_room(&self, len: usize) -> bool {
        let bytes = HEAD_BYTES + self.table.len() + ROW_BYTES + self.leaves.len() + len;
        self.table.len() < ROW_BYTES * BLOCK_ENTRIES_MAX && bytes <= BLOCK_BYTES_MAX
    }

    /// Adds the next leaf, for which there is room, and the number of its frames.
    pub(super) fn push(&mut self, leaf: &[u8], frames: u8) {
        assert!(self.has_room(leaf.len()), "a leaf of {} bytes does not fit the block", leaf.len());
        self.leaves.extend_from_slice(leaf);
        self.table.extend(u32::try_from(self.leaves.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.table.push(frames);
    }

    /// Key and value as stored.
    pub(super) fn finish(self) -> (Seq, Vec<u8>) {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.table.len() + self.leaves.len());
        bytes.push(VERSION);
        bytes.extend(u16::try_from(self.table.len() / ROW_BYTES).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(self.frames.file.to_be_bytes());
        bytes.extend(self.frames.offset.to_be_bytes());
        bytes.extend(&self.table);
        bytes.extend(&self.leaves);
        (self.first, bytes)
    }
}

/// A block read back.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The first entry.
    pub(super) first: Seq,
    /// Where the first frame of the first entry lies.
    pub(super) frames: Place,
    bytes: sled::IVec,
    count: usize,
}

impl Block {
    /// Reads the value stored under `first`; every length is checked here, so that [`Block::leaf`] cannot fail.
    pub(super) fn read(first: Seq, bytes: sled::IVec) -> Result<Block, JournalError> {
        let damaged = |found: &str| JournalError::damaged(format!("log block {first}"), "a whole block", found);
        let mut head = Reader(&bytes);
        let (version, count) = (head.take::<1>(), head.take::<2>().map(u16::from_be_bytes));
        let (file, offset) = (head.take::<4>().map(u32::from_be_bytes), head.take::<8>().map(u64::from_be_bytes));
        let (Some([VERSION]), Some(count), Some(file), Some(offset)) = (version, count, file, offset) else {
            return Err(damaged("another head"));
        };
        let count = usize::from(count);
        let block = Block { first, frames: Place { file, offset }, count, bytes };
        let mut last = 0;
        for index in 0..count {
            let end = block.end(index).ok_or_else(|| damaged("a short table"))?;
            if end <= last {
                return Err(damaged("an empty leaf"));
            }
            last = end;
        }
        let len = HEAD_BYTES + ROW_BYTES * count + last;
        if count == 0 || len != block.bytes.len() {
            return Err(damaged("another length"));
        }
        Ok(block)
    }

    /// The value as stored.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of entries.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The entry after the last.
    pub(super) fn end_seq(&self) -> Seq {
        Seq(self.first.0 + self.count as u64)
    }

    /// The leaf at `index` within the block.
    pub(super) fn leaf(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 { 0 } else { self.end(index - 1)? };
        let leaves = HEAD_BYTES + ROW_BYTES * self.count;
        self.bytes.get(leaves + start..leaves + self.end(index)?)
    }

    /// The number of frames of the entry at `index`.
    pub(super) fn frames_of(&self, index: usize) -> Option<u8> {
        Some(self.row(index)?.1)
    }

    fn end(&self, index: usize) -> Option<usize> {
        usize::try_from(self.row(index)?.0).ok()
    }

    fn row(&self, index: usize) -> Option<(u32, u8)> {
        if index >= self.count {
            return None;
        }
        let at = HEAD_BYTES + ROW_BYTES * index;
        let mut row = Reader(self.bytes.get(at..at + ROW_BYTES)?);
        let (end, [frames]) = (row.take().map(u32::from_be_bytes)?, row.take()?);
        Some((end, frames))
    }
}

/// Takes fixed-size pieces from the front of bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (piece, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(leaves: &[&[u8]]) -> (Seq, Vec<u8>) {
        let mut filling = Filling::new(Seq(7), Place { file: 3, offset: 1 << 33 });
        leaves.iter().for_each(|leaf| filling.push(leaf, 2));
        filling.finish()
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let (first, bytes) = block(&[b"a", b"bcd", &[9; 16_384]]);
        let block = Block::read(first, bytes.into()).unwrap();
        assert_eq!((block.first, block.end_seq(), block.frames), (Seq(7), Seq(10), Place { file: 3, offset: 1 << 33 }));
        assert_eq!(block.leaf(0), Some(&b"a"[..]));
        assert_eq!(block.leaf(1), Some(&b"bcd"[..]));
        assert_eq!(block.leaf(2), Some(&[9; 16_384][..]));
        assert_eq!((block.leaf(3), block.frames_of(2), block.frames_of(3)), (None, Some(2), None));
    }

    #[test]
    fn a_block_keeps_below_the_size_at_which_the_store_stops_syncing() {
        let mut filling = Filling::new(Seq(0), Place::default());
        while filling.has_room(300) {
            filling.push(&[1; 300], 0);
        }
        let (_, bytes) = filling.finish();
        assert!(bytes.len() <= BLOCK_BYTES_MAX && bytes.len() > BLOCK_BYTES_MAX - 310, "{}", bytes.len());
        let mut filling = Filling::new(Seq(0), Place::default());
        (0..BLOCK_ENTRIES_MAX).for_each(|_| filling.push(b"x", 0));
        assert!(!filling.has_room(1));
    }

    #[test]
    fn every_other_length_is_refused() {
        let (first, bytes) = block(&[b"abc", b"def"]);
        for len in 0..bytes.len() {
            assert!(Block::read(first, bytes[..len].into()).is_err(), "{len}");
        }
        assert!(Block::read(first, [&bytes[..], b"x"].concat().into()).is_err());
        for at in 0..3 {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Block::read(first, other.into()).is_err(), "byte {at}");
        }
    }
}
