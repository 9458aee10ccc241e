//! The two strict readers of a segment: leaves page by page, frames one by one.
//!
//! They take a file in one pass and hold one block at a time. Everything a CAR, its blocks and their cut can break
//! is refused here; which leaves and frames there should be is the question of `audit`. Spec: format.md, Segment.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;

use super::super::car::{self, Limits};
use super::super::cid::{Cid, Codec};
use super::super::codec::Cursor;
use super::super::finding::{Code, Refused};
use super::super::seq::Seq;
use super::{
    Anchor, ENTRY_FRAME_BYTES_MAX, FRAME_BYTES_MAX, PAGE_BYTES_MAX, Payload, RAW_BYTES_MAX, Seal, of_codec, read_link,
};

/// Reads a proof CAR: Seal, Index, then the pages of leaves.
#[derive(Debug)]
pub struct Proof<R> {
    car: car::Reader<R>,
    seal: Seal,
    index: VecDeque<(Seq, Cid)>,
    /// The page asked for last.
    due: Option<(Seq, Cid)>,
}

/// One page: leaves end to end, not yet looked at.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Its first seq, as the Index says.
    pub first: Seq,
    /// The number of leaves.
    pub count: usize,
    /// The leaves.
    pub bytes: &'a [u8],
}

impl<R: Read> Proof<R> {
    /// Reads the Seal and the Index.
    ///
    /// # Errors
    /// The faults of a CAR, `unknown-version`, `non-canonical`.
    pub fn open(source: R, limits: Limits) -> Result<Proof<R>, Refused> {
        let mut car = car::Reader::open(source, limits)?;
        let seal = Seal::decode(car.first()?)?;
        let index = read_index(car.expect(seal.leaves, |_| false)?)?;
        Ok(Proof { car, seal, index, due: None })
    }

    /// The Seal.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The CID of the Seal.
    pub fn cid(&self) -> Cid {
        self.car.root()
    }

    /// The next page; `None` after the last, when the file is known to end there too.
    ///
    /// # Errors
    /// The faults of a CAR, `non-canonical` for a block that is no page.
    pub fn page(&mut self) -> Result<Option<Page<'_>>, Refused> {
        let Some((first, cid)) = self.index.pop_front() else {
            self.car.end()?;
            return Ok(None);
        };
        self.due = Some((first, cid));
        let (car, index) = (&mut self.car, &self.index);
        let mut cursor = Cursor::new(car.expect(cid, |due| index.iter().any(|(_, page)| page == due))?);
        let count = cursor.array()?;
        Ok(Some(Page { first, count, bytes: cursor.rest() }))
    }

    /// After `block-hash`: the first seq of the page that was due, and the bytes that stand in its place. `None` where
    /// they are that page, so that the damage is of the file and of no entry.
    pub fn damaged_page(&self) -> Option<(Seq, &[u8])> {
        let (first, cid) = self.due?;
        let block = self.car.in_hand();
        (!cid.matches(block)).then_some((first, block))
    }

    /// The bytes read so far.
    pub fn bytes_taken(&self) -> u64 {
        self.car.bytes_taken()
    }
}

fn read_index(block: &[u8]) -> Result<VecDeque<(Seq, Cid)>, Refused> {
    let mut cursor = Cursor::new(block);
    let pages = cursor.array()?;
    let mut index = VecDeque::with_capacity(pages);
    for _ in 0..pages {
        cursor.array_of(2)?;
        index.push_back((Seq(cursor.uint()?), read_link(&mut cursor)?));
    }
    cursor.end()?;
    Ok(index)
}

/// Reads an anchor CAR: one block.
///
/// # Errors
/// The faults of a CAR, `unknown-version`, `non-canonical`.
pub fn read_anchor<R: Read>(source: R, limits: Limits) -> Result<(Cid, Anchor), Refused> {
    let mut car = car::Reader::open(source, limits)?;
    let anchor = Anchor::decode(car.first()?)?;
    car.end()?;
    Ok((car.root(), anchor))
}

/// Which part a frame is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FrameKey {
    /// The entry.
    pub seq: Seq,
    /// The index of the part.
    pub part: u64,
}

/// Reads a payload CAR: Payload, FrameIndex, then each frame page with the raw blocks of its large frames.
#[derive(Debug)]
pub struct Frames<R> {
    car: car::Reader<R>,
    payload: Payload,
    index: VecDeque<(FrameKey, Cid)>,
    /// The page in hand, and its items not yet taken.
    page: Vec<u8>,
    items: VecDeque<Item>,
    /// Bytes of the items of the page in hand: tells whether the next page had to begin.
    page_bytes: Option<usize>,
    last: Option<FrameKey>,
    entry_bytes: u64,
    frame_bytes: u64,
}

#[derive(Debug)]
struct Item {
    key: FrameKey,
    stored: Stored,
}

#[derive(Debug)]
enum Stored {
    /// Where the frame lies in the page.
    Inline(Range<usize>),
    /// The raw blocks it is cut into.
    Raw(Vec<Cid>),
}

impl<R: Read> Frames<R> {
    /// Reads the Payload and the FrameIndex.
    ///
    /// # Errors
    /// The faults of a CAR, `unknown-version`, `non-canonical`.
    pub fn open(source: R, limits: Limits) -> Result<Frames<R>, Refused> {
        let mut car = car::Reader::open(source, limits)?;
        let payload = Payload::decode(car.first()?)?;
        let index = read_frame_index(car.expect(payload.frames, |_| false)?)?;
        Ok(Frames {
            car,
            payload,
            index,
            page: Vec::new(),
            items: VecDeque::new(),
            page_bytes: None,
            last: None,
            entry_bytes: 0,
            frame_bytes: 0,
        })
    }

    /// The Payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The CID of the Payload.
    pub fn cid(&self) -> Cid {
        self.car.root()
    }

    /// The key of the next frame; `None` after the last, when the file is known to end there too.
    ///
    /// # Errors
    /// The faults of a CAR; `non-canonical` for a block that is no frame page, another order or another cut.
    pub fn peek(&mut self) -> Result<Option<FrameKey>, Refused> {
        while self.items.is_empty() {
            let Some((first, cid)) = self.index.pop_front() else {
                self.car.end()?;
                return Ok(None);
            };
            self.load(first, cid)?;
        }
        Ok(self.items.front().map(|item| item.key))
    }

    /// Takes the next frame, giving its bytes to `sink` in one or more pieces.
    ///
    /// # Errors
    /// As [`Frames::peek`].
    pub fn take(&mut self, mut sink: impl FnMut(&[u8])) -> Result<Option<FrameKey>, Refused> {
        self.peek()?;
        let Some(item) = self.items.pop_front() else { return Ok(None) };
        let len = match item.stored {
            Stored::Inline(range) => {
                let frame = self.page.get(range).unwrap_or_default();
                sink(frame);
                frame.len() as u64
            }
            Stored::Raw(blocks) => self.take_raw(&blocks, sink)?,
        };
        self.entry_bytes = if self.last.is_some_and(|last| last.seq == item.key.seq) { self.entry_bytes } else { 0 };
        self.entry_bytes += len;
        self.frame_bytes += len;
        self.last = Some(item.key);
        if self.entry_bytes > ENTRY_FRAME_BYTES_MAX || self.frame_bytes > FRAME_BYTES_MAX {
            return Err(Refused::non_canonical("frames of more than 64 MiB an entry or 512 MiB a segment"));
        }
        Ok(Some(item.key))
    }

    fn take_raw(&mut self, blocks: &[Cid], mut sink: impl FnMut(&[u8])) -> Result<u64, Refused> {
        let mut total = 0;
        for (at, cid) in blocks.iter().enumerate() {
            let (rest, index, items) = (blocks.get(at + 1..).unwrap_or_default(), &self.index, &self.items);
            let is_due = |due: &Cid| {
                let later = |item: &Item| matches!(&item.stored, Stored::Raw(blocks) if blocks.contains(due));
                rest.contains(due) || items.iter().any(later) || index.iter().any(|(_, page)| page == due)
            };
            let block = self.car.expect(*cid, is_due)?;
            let is_cut_right = match rest {
                [] => (1..=RAW_BYTES_MAX).contains(&block.len()),
                _ => block.len() == RAW_BYTES_MAX,
            };
            if !is_cut_right {
                return Err(Refused::non_canonical(format!("a raw block of {} bytes", block.len())));
            }
            total += block.len() as u64;
            sink(block);
        }
        Ok(total)
    }

    /// Reads a frame page and checks the order and cut of its items before any of them is used.
    fn load(&mut self, first: FrameKey, cid: Cid) -> Result<(), Refused> {
        let index = &self.index;
        let block = self.car.expect(cid, |due| index.iter().any(|(_, page)| page == due))?;
        self.page.clear();
        self.page.extend_from_slice(block);
        let mut cursor = Cursor::new(&self.page);
        let count = cursor.array()?;
        let (mut last, mut total) = (self.last, 0);
        for at in 0..count {
            let before = cursor.rest().len();
            let item = read_item(&mut cursor, self.page.len())?;
            let len = before - cursor.rest().len();
            let is_first = at == 0;
            if last.is_some_and(|last| last >= item.key) || (is_first && item.key != first) {
                return Err(Refused::non_canonical(format!("frames in another order at seq {}", item.key.seq)));
            }
            let had_room = is_first && self.page_bytes.is_some_and(|bytes| bytes + len <= PAGE_BYTES_MAX);
            total += len;
            if had_room || total > PAGE_BYTES_MAX {
                return Err(Refused::non_canonical(format!("frame pages cut elsewhere at seq {}", item.key.seq)));
            }
            last = Some(item.key);
            self.items.push_back(item);
        }
        cursor.end()?;
        if count == 0 {
            return Err(Refused::non_canonical("a frame page without frames"));
        }
        self.page_bytes = Some(total);
        Ok(())
    }
}

fn read_frame_index(block: &[u8]) -> Result<VecDeque<(FrameKey, Cid)>, Refused> {
    let mut cursor = Cursor::new(block);
    let pages = cursor.array()?;
    let mut index = VecDeque::with_capacity(pages);
    for _ in 0..pages {
        cursor.array_of(3)?;
        let key = FrameKey { seq: Seq(cursor.uint()?), part: cursor.uint()? };
        if index.back().is_some_and(|(last, _)| *last >= key) {
            return Err(Refused::non_canonical("a FrameIndex in another order"));
        }
        index.push_back((key, read_link(&mut cursor)?));
    }
    cursor.end()?;
    Ok(index)
}

fn read_item(cursor: &mut Cursor<'_>, page_len: usize) -> Result<Item, Refused> {
    cursor.array_of(3)?;
    let key = FrameKey { seq: Seq(cursor.uint()?), part: cursor.uint()? };
    let mut list = cursor.clone();
    let Ok(blocks) = list.array() else {
        let len = cursor.bytes()?.len();
        if len > RAW_BYTES_MAX {
            return Err(Refused::non_canonical(format!("a frame of {len} bytes in a page")));
        }
        let end = page_len - cursor.rest().len();
        return Ok(Item { key, stored: Stored::Inline(end - len..end) });
    };
    *cursor = list;
    let raw = |_| of_codec(cursor.link()?, Codec::Raw);
    let blocks: Vec<Cid> = (0..blocks).map(raw).collect::<Result<_, _>>()?;
    if blocks.len() < 2 {
        return Err(Refused::non_canonical("a frame in raw blocks that fits into a page"));
    }
    Ok(Item { key, stored: Stored::Raw(blocks) })
}

/// What a payload file that is there and not wanted, or of another CID than the Seal's, is.
///
/// # Errors
/// `block-extra` where the Seal names none, `seal-link` where it names another.
pub fn check_payload_cid(sealed: Option<Cid>, found: Cid) -> Result<(), Refused> {
    match sealed {
        Some(sealed) if sealed == found => Ok(()),
        Some(sealed) => Err(Refused::new(Code::SealLink, format!("payload {found}, the Seal names {sealed}"))),
        None => Err(Refused::new(Code::BlockExtra, format!("payload {found} of a segment without parts"))),
    }
}
