//! One entry as bytes: the leaf.
//!
//! Holds every rule that one leaf can break alone; what takes several leaves (chain, topics, keys, completeness) is
//! in `audit`. [`Leaf`] owns its fields and writes; [`LeafView`] borrows them, for readers of millions.
//! Spec: format.md, Leaf.

mod body;
mod read;
mod shown;
mod write;

use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple};
use serde::{Serialize, Serializer};

pub use body::{
    Body, CloseWhy, Continues, End, ErasureStep, GapRange, GapReason, KeyStep, Opened, QuarantineReason, RestoredWhat,
    Topic, TopicSource, TopicWhy, is_own, kind_name,
};

use super::codec::{self, Cursor};
use super::finding::Refused;
use super::hash::Hash;
use super::position::Position;
use super::seq::Seq;

/// Bytes of a leaf, at most.
pub const LEAF_BYTES_MAX: usize = 16_384;
/// Parts of a leaf, at most: the operator's and 199 more.
pub const PARTS_MAX: usize = 200;

/// What a leaf says of one sealed part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartRef {
    /// Hides and binds the plaintext.
    pub commitment: Hash,
    /// The SHA-256 of the frame.
    pub digest: Hash,
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Its place.
    pub seq: Seq,
    /// The record it stands for: set on events and quarantined records, and only there.
    pub src: Option<Position>,
    /// The leaf hash of the entry before; zeros at seq 0.
    pub prev: Hash,
    /// The kind, with what it shows in clear.
    pub body: Body,
    /// The sealed parts, in order.
    pub parts: Vec<PartRef>,
}

impl Leaf {
    /// The bytes, which are what is hashed, stored and archived.
    ///
    /// # Errors
    /// `non-canonical` where the leaf breaks a rule of the format: then it must not be written.
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        let bytes = codec::encode(self);
        match LeafView::decode(&bytes) {
            Ok(_) => Ok(bytes),
            Err(refused) => Err(refused),
        }
    }

    /// Reads a leaf and checks every rule that concerns it alone.
    ///
    /// # Errors
    /// `unknown-version`, or `non-canonical` with the rule broken.
    pub fn decode(bytes: &[u8]) -> Result<Leaf, Refused> {
        let view = LeafView::decode(bytes)?;
        Ok(Leaf { seq: view.seq, src: view.src, prev: view.prev, body: view.body()?, parts: view.parts().collect() })
    }
}

impl Serialize for PartRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.commitment)?;
        pair.serialize_element(&self.digest)?;
        pair.end()
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.topic_no, self.partition, self.offset).serialize(serializer)
    }
}

struct Parts<'a>(&'a [PartRef]);

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|part| list.serialize_element(part))?;
        list.end()
    }
}

impl Serialize for Leaf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("v", &1u64)?;
        map.serialize_entry("seq", &self.seq.0)?;
        map.serialize_entry("src", &self.src)?;
        map.serialize_entry("kind", &self.body.kind())?;
        map.serialize_entry("prev", &self.prev)?;
        map.serialize_entry("clear", &self.body)?;
        map.serialize_entry("parts", &Parts(&self.parts))?;
        map.end()
    }
}

/// A leaf read in place: nothing is copied, everything is checked.
#[derive(Clone, Copy, Debug)]
pub struct LeafView<'a> {
    /// Its place.
    pub seq: Seq,
    /// The record it stands for.
    pub src: Option<Position>,
    /// The leaf hash of the entry before.
    pub prev: Hash,
    /// The number of the kind.
    pub kind: u64,
    clear: &'a [u8],
    parts: &'a [u8],
}

/// A part is a pair of byte strings of 32, so its encoding has one length and two fixed heads.
const PART_BYTES: usize = 69;

impl<'a> LeafView<'a> {
    /// Reads a leaf and checks every rule that concerns it alone.
    ///
    /// # Errors
    /// `unknown-version`, or `non-canonical` with the rule broken.
    pub fn decode(bytes: &'a [u8]) -> Result<LeafView<'a>, Refused> {
        if !bytes.starts_with(b"\xa7\x61v\x01") {
            codec::check_version(bytes)?;
        }
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(Refused::non_canonical("leaf: more than 16,384 bytes"));
        }
        let (view, rest) = LeafView::decode_prefix(bytes)?;
        if !rest.is_empty() {
            return Err(Refused::non_canonical("leaf: bytes after the end"));
        }
        Ok(view)
    }

    /// Reads the leaf at the start of `bytes` and gives what follows: pages are leaves end to end.
    ///
    /// The caller has made sure of the version and of the length limit where the bytes may be hostile.
    ///
    /// # Errors
    /// `non-canonical` with the rule broken.
    pub fn decode_prefix(bytes: &'a [u8]) -> Result<(LeafView<'a>, &'a [u8]), Refused> {
        let mut cursor = Cursor::new(bytes);
        cursor.map_of(7)?;
        cursor.key("v")?;
        if cursor.uint()? != 1 {
            return Err(Refused::non_canonical("leaf: version"));
        }
        cursor.key("seq")?;
        let seq = Seq(cursor.uint()?);
        cursor.key("src")?;
        let src = cursor.or_null(|cursor| {
            cursor.array_of(3)?;
            Ok(Position { topic_no: cursor.uint()?, partition: cursor.uint()?, offset: cursor.uint()? })
        })?;
        cursor.key("kind")?;
        let kind = cursor.uint()?;
        cursor.key("prev")?;
        let prev = cursor.hash()?;
        cursor.key("clear")?;
        let clear = cursor.skip()?;
        cursor.key("parts")?;
        let count = cursor.array()?;
        if count > PARTS_MAX {
            return Err(Refused::non_canonical("leaf: more than 200 parts"));
        }
        let parts = cursor.rest();
        for _ in 0..count {
            cursor.array_of(2)?;
            cursor.hash()?;
            cursor.hash()?;
        }
        let parts = parts.get(..count * PART_BYTES).unwrap_or_default();
        let view = LeafView { seq, src, prev, kind, clear, parts };
        view.check(count)?;
        Ok((view, cursor.rest()))
    }

    fn check(&self, parts: usize) -> Result<(), Refused> {
        read::check_kind(self.kind, self.seq, self.src.is_some(), parts)?;
        if self.kind == 0 { read::check_null(self.clear) } else { self.body().map(drop) }
    }

    /// The kind with what it shows in clear.
    ///
    /// # Errors
    /// `non-canonical`; never for a view that `decode` gave.
    pub fn body(&self) -> Result<Body, Refused> {
        Body::decode(self.kind, self.clear)
    }

    /// How many parts it has.
    pub fn part_count(&self) -> usize {
        self.parts.len() / PART_BYTES
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = PartRef> + use<'a> {
        let hash = |bytes: &[u8]| Hash(bytes.try_into().unwrap_or_default());
        self.parts.chunks_exact(PART_BYTES).map(move |part| PartRef {
            commitment: hash(part.get(3..35).unwrap_or_default()),
            digest: hash(part.get(37..).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> Leaf {
        let part = PartRef { commitment: Hash::of(b"c"), digest: Hash::of(b"d") };
        let src = Some(Position { topic_no: 1, partition: 7, offset: 1 << 32 });
        Leaf { seq: Seq(9), src, prev: Hash::of(b"prev"), body: Body::Event, parts: vec![part, part] }
    }

    #[test]
    fn a_leaf_round_trips() {
        let bytes = leaf().encode().unwrap();
        assert_eq!(Leaf::decode(&bytes), Ok(leaf()));
    }

    #[test]
    fn no_changed_byte_reads_as_the_same_leaf_and_no_prefix_reads_at_all() {
        let bytes = leaf().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert_ne!(Leaf::decode(&other), Ok(leaf()), "byte {at} bit {bit}");
            }
            assert!(Leaf::decode(&bytes[..at]).is_err(), "prefix of {at}");
        }
    }

    #[test]
    fn a_leaf_that_breaks_a_rule_is_not_written() {
        let mut without_parts = leaf();
        without_parts.parts.clear();
        assert!(without_parts.encode().is_err());
        let mut crowded = leaf();
        crowded.parts = vec![crowded.parts[0]; PARTS_MAX + 1];
        assert!(crowded.encode().is_err());
    }
}
