//! A sealed range of the log as blocks: Seal, Index, Page, Payload, FrameIndex, FramePage, Anchor.
//!
//! The blocks themselves, how they are cut ([`build`]), read back ([`read`]) and, of anchors alone, grow ([`anchor`]). Whether what they say
//! is true (roots, signatures, joins) is the question of `audit`. Spec: format.md, Segment.

pub mod anchor;
pub mod build;
pub mod read;

use serde::Serialize;

use super::cid::{Cid, Codec};
use super::codec::{self, Cursor, Link, TEXT_MAX};
use super::completeness::Source;
use super::finding::Refused;
use super::hash::Hash;
use super::origin::Origin;
use super::position::Partition;
use super::seq::{Seq, Size};
use super::{car, leaf};

/// Entries of a segment, at most.
pub const ENTRIES_MAX: u64 = 65_536;
/// Rows of `sources`, at most.
pub const SOURCES_MAX: usize = 16_384;
/// Bytes of the frames of one entry, at most.
pub const ENTRY_FRAME_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the frames of a segment, at most.
pub const FRAME_BYTES_MAX: u64 = 512 << 20;
/// A page holds seqs with the same quotient by this.
pub const PAGE_SEQS: u64 = 256;
/// Bytes of the leaves of a page, or of the items of a frame page, at most; one item alone may be longer.
pub const PAGE_BYTES_MAX: usize = 262_000;
/// A frame longer than this is cut into raw blocks of this.
pub const RAW_BYTES_MAX: usize = 131_072;
/// Bytes of `Anchor.checkpoint`, at most: room for many cosignatures.
pub const ANCHOR_CHECKPOINT_MAX: usize = 65_536;

/// The root block of a proof CAR: everything needed to check the segment alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// The seal of segment `segment & (segment - 1)`, by which a reader reaches any segment in few steps.
    pub skip: Option<Cid>,
    /// The number of entries.
    pub count: u64,
    /// The size of the log before it.
    pub first: Size,
    /// The perfect subtrees of the tree of size `first`, largest first.
    pub peaks: Vec<Hash>,
    /// The Index of its pages.
    pub leaves: Cid,
    /// The log.
    pub origin: Origin,
    /// Its Payload: `None` exactly when no entry has parts.
    pub payload: Option<Cid>,
    /// Its number, from 0.
    pub segment: u64,
    /// How far each partition moved that did.
    pub sources: Vec<Source>,
    /// The seal of the segment before.
    pub prev_seal: Option<Cid>,
    /// The signed checkpoint at size `first + count`.
    pub checkpoint: String,
}

/// The root block of a payload CAR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payload {
    /// The FrameIndex.
    pub frames: Cid,
    /// The log.
    pub origin: Origin,
    /// The number of the segment.
    pub segment: u64,
}

/// What others said about a checkpoint: cosignatures and time stamps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// RFC 3161 TimeStampTokens (DER) over the bytes of the seal's checkpoint.
    pub tsa: Vec<Vec<u8>>,
    /// The segment's Seal.
    pub seal: Cid,
    /// The seal's note with the cosignature lines after it.
    pub checkpoint: String,
}

/// The segment that `skip` of segment `segment` names: the number without its lowest set bit.
pub fn skip_of(segment: u64) -> u64 {
    segment & segment.saturating_sub(1)
}

impl Seal {
    /// The bytes of the block.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire<'a> {
            v: u64,
            skip: Option<Cid>,
            count: u64,
            first: u64,
            peaks: &'a [Hash],
            leaves: Link,
            origin: &'a str,
            payload: Option<Cid>,
            segment: u64,
            sources: Vec<[u64; 5]>,
            prev_seal: Option<Cid>,
            checkpoint: &'a str,
        }
        let row = |s: &Source| [s.partition.topic_no, s.partition.partition, s.first, s.next, s.entries];
        codec::encode(&Wire {
            v: 1,
            skip: self.skip,
            count: self.count,
            first: self.first.0,
            peaks: &self.peaks,
            leaves: Link(self.leaves),
            origin: self.origin.as_str(),
            payload: self.payload,
            segment: self.segment,
            sources: self.sources.iter().map(row).collect(),
            prev_seal: self.prev_seal,
            checkpoint: &self.checkpoint,
        })
    }

    /// Reads the block.
    ///
    /// # Errors
    /// `unknown-version`, or `non-canonical`, also where `count` or the number of sources is outside its limits.
    pub fn decode(bytes: &[u8]) -> Result<Seal, Refused> {
        codec::check_version(bytes)?;
        let mut cursor = Cursor::new(bytes);
        cursor.map_of(12)?;
        cursor.key("v")?;
        cursor.uint()?;
        cursor.key("skip")?;
        let skip = cursor.or_null(read_dag)?;
        cursor.key("count")?;
        let count = cursor.uint()?;
        cursor.key("first")?;
        let first = Size(cursor.uint()?);
        cursor.key("peaks")?;
        let peaks = (0..cursor.array()?).map(|_| cursor.hash()).collect::<Result<_, _>>()?;
        cursor.key("leaves")?;
        let leaves = read_link(&mut cursor)?;
        cursor.key("origin")?;
        let origin = Origin::new(cursor.text(TEXT_MAX)?)?;
        cursor.key("payload")?;
        let payload = cursor.or_null(read_dag)?;
        cursor.key("segment")?;
        let segment = cursor.uint()?;
        cursor.key("sources")?;
        let sources = read_sources(&mut cursor)?;
        cursor.key("prev_seal")?;
        let prev_seal = cursor.or_null(read_dag)?;
        cursor.key("checkpoint")?;
        let checkpoint = cursor.text(TEXT_MAX)?.to_owned();
        cursor.end()?;
        if !(1..=ENTRIES_MAX).contains(&count) {
            return Err(Refused::non_canonical(format!("seal: a count of {count}")));
        }
        Ok(Seal { skip, count, first, peaks, leaves, origin, payload, segment, sources, prev_seal, checkpoint })
    }
}

fn read_sources(cursor: &mut Cursor<'_>) -> Result<Vec<Source>, Refused> {
    let rows = cursor.array()?;
    if rows > SOURCES_MAX {
        return Err(Refused::non_canonical("seal: more than 16,384 sources"));
    }
    let mut sources: Vec<Source> = Vec::with_capacity(rows);
    for _ in 0..rows {
        cursor.array_of(5)?;
        let partition = Partition { topic_no: cursor.uint()?, partition: cursor.uint()? };
        sources.push(Source { partition, first: cursor.uint()?, next: cursor.uint()?, entries: cursor.uint()? });
    }
    Ok(sources)
}

/// A link or CID of a DAG-CBOR block; only the pieces of a large frame are raw.
fn read_dag(cursor: &mut Cursor<'_>) -> Result<Cid, Refused> {
    of_codec(cursor.cid()?, Codec::DagCbor)
}

fn read_link(cursor: &mut Cursor<'_>) -> Result<Cid, Refused> {
    of_codec(cursor.link()?, Codec::DagCbor)
}

fn of_codec(cid: Cid, codec: Codec) -> Result<Cid, Refused> {
    if cid.codec() == codec { Ok(cid) } else { Err(Refused::non_canonical(format!("{cid}: a block of another codec"))) }
}

impl Payload {
    /// The bytes of the block.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire<'a> {
            v: u64,
            frames: Link,
            origin: &'a str,
            segment: u64,
        }
        let origin = self.origin.as_str();
        codec::encode(&Wire { v: 1, frames: Link(self.frames), origin, segment: self.segment })
    }

    /// Reads the block.
    ///
    /// # Errors
    /// `unknown-version` or `non-canonical`.
    pub fn decode(bytes: &[u8]) -> Result<Payload, Refused> {
        codec::check_version(bytes)?;
        let mut cursor = Cursor::new(bytes);
        cursor.map_of(4)?;
        cursor.key("v")?;
        cursor.uint()?;
        cursor.key("frames")?;
        let frames = read_link(&mut cursor)?;
        cursor.key("origin")?;
        let origin = Origin::new(cursor.text(TEXT_MAX)?)?;
        cursor.key("segment")?;
        let segment = cursor.uint()?;
        cursor.end()?;
        Ok(Payload { frames, origin, segment })
    }
}

impl Anchor {
    /// The bytes of the block.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Wire<'a> {
            v: u64,
            tsa: Vec<&'a serde_bytes::Bytes>,
            seal: Cid,
            checkpoint: &'a str,
        }
        let tsa = self.tsa.iter().map(|token| serde_bytes::Bytes::new(token)).collect();
        codec::encode(&Wire { v: 1, tsa, seal: self.seal, checkpoint: &self.checkpoint })
    }

    /// The whole anchor file.
    pub fn to_car(&self) -> Vec<u8> {
        let (cid, block) = (self.cid(), self.encode());
        [car::header(cid), car::block_head(cid, block.len()), block].concat()
    }

    /// Reads the block.
    ///
    /// # Errors
    /// `unknown-version` or `non-canonical`.
    pub fn decode(bytes: &[u8]) -> Result<Anchor, Refused> {
        codec::check_version(bytes)?;
        let mut cursor = Cursor::new(bytes);
        cursor.map_of(4)?;
        cursor.key("v")?;
        cursor.uint()?;
        cursor.key("tsa")?;
        let tsa = (0..cursor.array()?).map(|_| cursor.bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        cursor.key("seal")?;
        let seal = read_dag(&mut cursor)?;
        cursor.key("checkpoint")?;
        let checkpoint = cursor.text(ANCHOR_CHECKPOINT_MAX)?.to_owned();
        cursor.end()?;
        Ok(Anchor { tsa, seal, checkpoint })
    }
}

/// Whether the leaf at `seq` of `len` bytes starts a new page, after leaves of `page_bytes` in the current one.
pub(super) fn starts_page(seq: Seq, page_bytes: usize, len: usize) -> bool {
    page_bytes > 0 && (seq.0.is_multiple_of(PAGE_SEQS) || page_bytes + len > PAGE_BYTES_MAX)
}

/// The head of an array of `len` items: the only CBOR written by hand, because its items are stored bytes.
fn array_head(len: usize) -> Vec<u8> {
    // An array of nulls has the same head; its items are cut off again.
    let mut bytes = codec::encode(&vec![(); len]);
    bytes.truncate(bytes.len().saturating_sub(len));
    bytes
}

const _: () = assert!(leaf::LEAF_BYTES_MAX < PAGE_BYTES_MAX && RAW_BYTES_MAX < PAGE_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: u8) -> Cid {
        Cid::of(Codec::DagCbor, &[n])
    }

    fn seal() -> Seal {
        Seal {
            skip: Some(cid(1)),
            count: 3,
            first: Size(6),
            peaks: vec![Hash::of(b"0..4"), Hash::of(b"4..6")],
            leaves: cid(2),
            origin: Origin::new("example.com/log").unwrap(),
            payload: Some(cid(3)),
            segment: 2,
            sources: vec![Source {
                partition: Partition { topic_no: 0, partition: 7 },
                first: 5,
                next: 1 << 40,
                entries: 3,
            }],
            prev_seal: Some(cid(4)),
            checkpoint: "a note\n".to_owned(),
        }
    }

    /// The hand-written reader and the generic one agree on what the writer wrote.
    #[test]
    fn blocks_round_trip_and_are_canonical_for_an_independent_encoder() {
        let payload = Payload { frames: cid(1), origin: seal().origin, segment: 9 };
        let anchor = Anchor { tsa: vec![vec![1, 2], vec![]], seal: cid(1), checkpoint: "x".repeat(5000) };
        assert_eq!(Seal::decode(&seal().encode()), Ok(seal()));
        assert_eq!(Payload::decode(&payload.encode()), Ok(payload.clone()));
        assert_eq!(Anchor::decode(&anchor.encode()), Ok(anchor.clone()));
        for block in [seal().encode(), payload.encode(), anchor.encode()] {
            assert_eq!(serde_ipld_dagcbor::to_vec(&codec::read(&block).unwrap()).unwrap(), block);
        }
    }

    #[test]
    fn no_changed_bit_reads_as_the_same_seal() {
        let bytes = seal().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert_ne!(Seal::decode(&other), Ok(seal()), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn array_heads_are_the_shortest() {
        for (len, head) in [(0, &[0x80][..]), (23, &[0x97]), (24, &[0x98, 24]), (256, &[0x99, 1, 0])] {
            assert_eq!(array_head(len), head);
        }
    }

    #[test]
    fn skip_clears_the_lowest_bit() {
        assert_eq!([0, 1, 2, 3, 6, 8].map(skip_of), [0, 0, 0, 2, 4, 0]);
    }
}
