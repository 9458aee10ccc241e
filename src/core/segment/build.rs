//! Makes a segment from the stored bytes of its leaves and frames, as format.md cuts them.
//!
//! Streams: it holds one page of leaves and one of frames, and spools the blocks as they fill up. A CAR begins with
//! what is known last, so the files are written from the spools at the end. Signing is the caller's: the builder
//! says what to sign, and checks what was signed. A function of its input alone, the same on every machine.
//! Spec: format.md, Segment.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde_bytes::Bytes;

use super::super::checkpoint::{Head, open_checkpoint};
use super::super::cid::{Cid, Codec};
use super::super::codec::{self, Link};
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::leaf::LeafView;
use super::super::merkle::Tree;
use super::super::note::Vkey;
use super::super::rules::{Fault, LogRules};
use super::super::seq::{Seq, Size};
use super::super::{car, origin::Origin};
use super::{
    ENTRIES_MAX, ENTRY_FRAME_BYTES_MAX, FRAME_BYTES_MAX, PAGE_BYTES_MAX, Payload, RAW_BYTES_MAX, SOURCES_MAX, Seal,
    array_head, starts_page,
};

/// Why no segment was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A spool or file could not be written or read: the same input may be built again.
    #[error("writing a segment")]
    Io(#[from] io::Error),
    /// The audit would find this in the segment: our own state is in doubt, so the caller halts.
    #[error("building a segment: {0}")]
    Unsound(#[from] Fault),
}

/// Where a segment starts: all that it takes from those before it.
#[derive(Clone, Debug)]
pub struct Start {
    /// The log.
    pub origin: Origin,
    /// The number of the segment.
    pub segment: u64,
    /// The seal of the segment before; `None` for the first.
    pub prev_seal: Option<Cid>,
    /// The seal of segment [`super::skip_of`]; `None` for the first.
    pub skip: Option<Cid>,
    /// The tree of the entries before.
    pub tree: Tree,
    /// The rules after the entries before.
    pub rules: LogRules,
}

/// Where blocks lie until the files are written: three files or vectors, empty at first.
#[derive(Clone, Debug, Default)]
pub struct Spools<W> {
    /// Pages of leaves, as blocks of a CAR.
    pub pages: W,
    /// Frame pages, as blocks of a CAR.
    pub frame_pages: W,
    /// Raw blocks of large frames, as blocks of a CAR.
    pub raw: W,
}

/// A segment in the making.
#[derive(Debug)]
pub struct Builder<W> {
    start: Start,
    rules: LogRules,
    tree: Tree,
    spools: Spools<W>,
    page: Vec<u8>,
    page_seqs: Vec<Seq>,
    index: Vec<(u64, Link)>,
    frame_page: FramePage,
    frame_index: Vec<(u64, u64, Link)>,
    /// For each frame page, its bytes and those of its raw blocks in the spools.
    layout: Vec<(u64, u64)>,
    frame_bytes: u64,
    has_parts: bool,
}

#[derive(Debug, Default)]
struct FramePage {
    first: Option<(u64, u64)>,
    items: Vec<u8>,
    count: usize,
    raw_bytes: u64,
    /// The item being added, reused.
    item: Vec<u8>,
}

impl<W: Write> Builder<W> {
    /// Begins a segment.
    pub fn new(start: Start, spools: Spools<W>) -> Builder<W> {
        Builder {
            rules: start.rules.clone(),
            tree: start.tree.clone(),
            start,
            spools,
            page: Vec::new(),
            page_seqs: Vec::new(),
            index: Vec::new(),
            frame_page: FramePage::default(),
            frame_index: Vec::new(),
            layout: Vec::new(),
            frame_bytes: 0,
            has_parts: false,
        }
    }

    /// The entries added so far.
    pub fn count(&self) -> u64 {
        self.tree.size().0 - self.start.tree.size().0
    }

    /// The bytes of the frames added so far.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// Whether the segment may end here: no declared gap waits for entries before it.
    pub fn may_end(&self) -> bool {
        self.count() > 0 && !self.rules.completeness().has_open_holes()
    }

    /// Adds the next entry: its stored leaf bytes and the frame of each of its parts, in order.
    ///
    /// # Errors
    /// `Io` of a spool; `Unsound` where the rules, a digest or a limit of the format is broken. The builder is then
    /// spoiled.
    pub fn add(&mut self, leaf: &[u8], frames: &[&[u8]]) -> Result<(), BuildError> {
        let seq = self.tree.size().next_seq();
        let view = LeafView::decode(leaf).map_err(|refused| Fault::refused(Some(seq), "leaf", refused))?;
        let leaf_hash = Hash::leaf(leaf);
        self.rules.accept(&view, leaf_hash)?;
        self.check_frames(&view, frames)?;
        if self.count() >= ENTRIES_MAX {
            return Err(unsound(seq, "entries of a segment", ENTRIES_MAX, ENTRIES_MAX + 1));
        }
        if starts_page(seq, self.page.len(), leaf.len()) {
            self.end_page()?;
        }
        self.page.extend_from_slice(leaf);
        self.page_seqs.push(seq);
        self.tree.append(leaf_hash);
        for (part, frame) in (0..).zip(frames) {
            self.add_frame(seq, part, frame)?;
        }
        Ok(())
    }

    fn check_frames(&mut self, view: &LeafView<'_>, frames: &[&[u8]]) -> Result<(), BuildError> {
        if frames.len() != view.part_count() {
            return Err(unsound(view.seq, "frames", view.part_count(), frames.len()));
        }
        for (part, frame) in view.parts().zip(frames) {
            let found = Hash::of(frame);
            if part.digest != found {
                return Err(Fault::at(view.seq, Code::FrameDigest, "frame", part.digest, found).into());
            }
        }
        let entry_bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
        self.frame_bytes += entry_bytes;
        if entry_bytes > ENTRY_FRAME_BYTES_MAX || self.frame_bytes > FRAME_BYTES_MAX {
            return Err(unsound(view.seq, "bytes of frames", "64 MiB an entry, 512 MiB a segment", self.frame_bytes));
        }
        self.has_parts |= !frames.is_empty();
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), BuildError> {
        let Some(first) = self.page_seqs.first() else { return Ok(()) };
        let block = [array_head(self.page_seqs.len()), std::mem::take(&mut self.page)].concat();
        let cid = Cid::of(Codec::DagCbor, &block);
        self.index.push((first.0, Link(cid)));
        self.page_seqs.clear();
        write_block(&mut self.spools.pages, cid, &block)?;
        Ok(())
    }

    fn add_frame(&mut self, seq: Seq, part: u64, frame: &[u8]) -> Result<(), BuildError> {
        let mut item = std::mem::take(&mut self.frame_page.item);
        item.clear();
        if frame.len() <= RAW_BYTES_MAX {
            write_item(&mut item, &(seq.0, part, Bytes::new(frame)))?;
        } else {
            let links: Vec<Link> = frame.chunks(RAW_BYTES_MAX).map(|raw| Link(Cid::of(Codec::Raw, raw))).collect();
            write_item(&mut item, &(seq.0, part, links))?;
        }
        if self.frame_page.count > 0 && self.frame_page.items.len() + item.len() > PAGE_BYTES_MAX {
            self.end_frame_page()?;
        }
        let page = &mut self.frame_page;
        page.first.get_or_insert((seq.0, part));
        page.items.extend_from_slice(&item);
        page.count += 1;
        page.item = item;
        if frame.len() > RAW_BYTES_MAX {
            for raw in frame.chunks(RAW_BYTES_MAX) {
                page.raw_bytes += write_block(&mut self.spools.raw, Cid::of(Codec::Raw, raw), raw)?;
            }
        }
        Ok(())
    }

    fn end_frame_page(&mut self) -> Result<(), BuildError> {
        let page = &mut self.frame_page;
        let Some((seq, part)) = page.first.take() else { return Ok(()) };
        let block = [array_head(page.count), std::mem::take(&mut page.items)].concat();
        let cid = Cid::of(Codec::DagCbor, &block);
        self.frame_index.push((seq, part, Link(cid)));
        let bytes = write_block(&mut self.spools.frame_pages, cid, &block)?;
        self.layout.push((bytes, std::mem::take(&mut page.raw_bytes)));
        page.count = 0;
        Ok(())
    }

    /// Ends the segment: everything but the checkpoint is known.
    ///
    /// # Errors
    /// `Io` of a spool; `Unsound` where it has no entries, a declared gap is not reached, or it has too many sources.
    pub fn finish(mut self) -> Result<Unsigned<W>, BuildError> {
        self.end_page()?;
        self.end_frame_page()?;
        let mut faults = Vec::new();
        let sources = self.rules.end_segment(&mut faults).unwrap_or_default();
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault.into());
        }
        let size = self.tree.size();
        if self.count() == 0 || sources.len() > SOURCES_MAX {
            return Err(unsound(size.next_seq(), "entries and sources of a segment", "1 or more, 16,384 at most", 0));
        }
        let index = codec::encode(&self.index);
        let payload = self.has_parts.then(|| {
            let frame_index = codec::encode(&self.frame_index);
            let frames = Cid::of(Codec::DagCbor, &frame_index);
            let origin = self.start.origin.clone();
            let block = Payload { frames, origin, segment: self.start.segment }.encode();
            (Cid::of(Codec::DagCbor, &block), blocks(&[&block, &frame_index]))
        });
        let seal = Seal {
            skip: self.start.skip,
            count: self.count(),
            first: self.start.tree.size(),
            peaks: self.start.tree.peaks().to_vec(),
            leaves: Cid::of(Codec::DagCbor, &index),
            origin: self.start.origin.clone(),
            payload: payload.as_ref().map(|(cid, _)| *cid),
            segment: self.start.segment,
            sources,
            prev_seal: self.start.prev_seal,
            checkpoint: String::new(),
        };
        let head = Head { origin: self.start.origin, size, root: self.tree.root() };
        let payload_head = payload.map(|(_, head)| head);
        let Builder { rules, tree, spools, layout, .. } = self;
        Ok(Unsigned { head, index, seal, payload_head, layout, rules, tree, spools })
    }
}

/// A segment that lacks only its checkpoint.
#[derive(Debug)]
pub struct Unsigned<W> {
    head: Head,
    seal: Seal,
    index: Vec<u8>,
    payload_head: Option<Vec<u8>>,
    layout: Vec<(u64, u64)>,
    rules: LogRules,
    tree: Tree,
    spools: Spools<W>,
}

impl<W> Unsigned<W> {
    /// What the checkpoint must say.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The key that must sign it: the log's at this size.
    pub fn signer(&self) -> Option<&Vkey> {
        self.rules.key()
    }

    /// Puts the signed checkpoint into the Seal.
    ///
    /// # Errors
    /// `Unsound` where it says something else, or the key of this size did not sign it.
    pub fn seal(self, checkpoint: String) -> Result<Built<W>, BuildError> {
        let refused = |refused: Refused| Fault::refused(None, "checkpoint", refused);
        let key =
            self.rules.key().ok_or_else(|| Fault::of(Code::UnknownKey, "checkpoint", "a key of the log", "none"))?;
        let found = open_checkpoint(&checkpoint, key).map_err(refused)?;
        if found != self.head {
            return Err(Fault::of(Code::RootMismatch, "checkpoint", self.head.text(), found.text()).into());
        }
        let seal = Seal { checkpoint, ..self.seal };
        let block = seal.encode();
        let cid = Cid::of(Codec::DagCbor, &block);
        let proof_head = blocks(&[&block, &self.index]);
        let Unsigned { payload_head, layout, rules, tree, spools, .. } = self;
        Ok(Built { cid, seal, rules, tree, spools, proof_head, payload_head, layout })
    }
}

/// A finished segment: its seal, the state the next one starts from, and its files.
#[derive(Debug)]
pub struct Built<W> {
    /// The CID of the Seal, root of the proof CAR.
    pub cid: Cid,
    /// The Seal.
    pub seal: Seal,
    /// The rules after its last entry and its end.
    pub rules: LogRules,
    /// The tree after its last entry.
    pub tree: Tree,
    /// The spools, to be read from their start.
    pub spools: Spools<W>,
    proof_head: Vec<u8>,
    payload_head: Option<Vec<u8>>,
    layout: Vec<(u64, u64)>,
}

impl<W> Built<W> {
    /// Writes the proof CAR, given the spool of pages from its start; returns its length in bytes.
    ///
    /// # Errors
    /// Those of `pages` and `out`.
    pub fn write_proof(&self, mut pages: impl Read, mut out: impl Write) -> io::Result<u64> {
        out.write_all(&self.proof_head)?;
        Ok(self.proof_head.len() as u64 + io::copy(&mut pages, &mut out)?)
    }

    /// Writes the payload CAR, given the other two spools from their start; returns its length in bytes, or `None`
    /// where the segment has no payload and nothing is written.
    ///
    /// # Errors
    /// Those of the spools and `out`; `UnexpectedEof` where a spool is shorter than was written.
    pub fn write_payload(
        &self,
        mut frame_pages: impl Read,
        mut raw: impl Read,
        mut out: impl Write,
    ) -> io::Result<Option<u64>> {
        let Some(head) = &self.payload_head else { return Ok(None) };
        out.write_all(head)?;
        let mut len = head.len() as u64;
        for (page_bytes, raw_bytes) in &self.layout {
            len += copy_exactly(&mut frame_pages, *page_bytes, &mut out)?;
            len += copy_exactly(&mut raw, *raw_bytes, &mut out)?;
        }
        Ok(Some(len))
    }
}

fn copy_exactly(from: &mut impl Read, bytes: u64, out: &mut impl Write) -> io::Result<u64> {
    let copied = io::copy(&mut from.by_ref().take(bytes), out)?;
    if copied == bytes { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A CAR's header and its first blocks; the first of them is the root.
fn blocks(blocks: &[&[u8]]) -> Vec<u8> {
    let cid = |block: &[u8]| Cid::of(Codec::DagCbor, block);
    let mut bytes = blocks.first().map_or_else(Vec::new, |root| car::header(cid(root)));
    for block in blocks {
        bytes.extend(car::block_head(cid(block), block.len()));
        bytes.extend_from_slice(block);
    }
    bytes
}

fn write_block(out: &mut impl Write, cid: Cid, block: &[u8]) -> io::Result<u64> {
    let head = car::block_head(cid, block.len());
    out.write_all(&head)?;
    out.write_all(block)?;
    Ok((head.len() + block.len()) as u64)
}

fn write_item(item: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_cbor::to_writer(item, value).map_err(io::Error::other)
}

fn unsound(seq: Seq, what: &str, expected: impl ToString, found: impl ToString) -> BuildError {
    Fault::at(seq, Code::NonCanonical, what, expected, found).into()
}

const _: () = assert!(FRAME_BYTES_MAX >= ENTRY_FRAME_BYTES_MAX && Size(ENTRIES_MAX).0 <= u16::MAX as u64 + 1);
