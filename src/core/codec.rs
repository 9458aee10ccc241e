//! Strict DAG-CBOR: how blocks are written, and the reader that takes only what would be written back as the same bytes.
//!
//! The writer is `serde_cbor` (it does not sort, so fields are declared in wire order). The reader of cold blocks is
//! `serde_ipld_dagcbor` behind [`check`]; hot ones use [`Cursor`]. Spec: IPLD DAG-CBOR; format.md, Conventions.

use ipld_core::ipld::Ipld;
use serde::{Serialize, Serializer};

use super::cid::Cid;
use super::finding::{Code, Refused};
use super::hash::Hash;
use super::seq::UINT_MAX;

/// Arrays, maps and tags inside each other, at most (format.md, Conventions).
pub const NESTED_MAX: usize = 32;
/// Bytes of a text, at most, where the format does not say otherwise.
pub const TEXT_MAX: usize = 4096;

/// Writes `value` as CBOR with its fields in the order they are declared.
///
/// # Panics
/// Never for the types of this crate: they serialise without errors into memory.
#[expect(clippy::expect_used, reason = "writing into a Vec cannot fail and our Serialize impls return no error")]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Room for the leaf of an event about one person: grown step by step it would be moved six times.
    let mut bytes = Vec::with_capacity(256);
    value.serialize(&mut serde_cbor::Serializer::new(&mut bytes)).expect("serialising into memory");
    bytes
}

/// A link to a block: tag 42 over `0x00 || cid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(pub Cid);

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; Cid::LEN + 1];
        let (_, cid) = bytes.split_at_mut(1);
        cid.copy_from_slice(&self.0.to_bytes());
        serde_cbor::tags::Tagged::new(Some(42), serde_bytes::Bytes::new(&bytes)).serialize(serializer)
    }
}

/// A CID as a plain byte string, which recursive pins do not follow.
impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

/// A hash as a byte string of 32.
impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// Whether `bytes` are exactly one strict item.
///
/// # Errors
/// `non-canonical` with the first fault.
pub fn check(bytes: &[u8]) -> Result<(), Refused> {
    let mut cursor = Cursor::new(bytes);
    cursor.skip()?;
    cursor.end()
}

/// Reads exactly one strict item into a generic value: for blocks that are read seldom.
///
/// # Errors
/// `non-canonical` with the first fault.
pub fn read(bytes: &[u8]) -> Result<Ipld, Refused> {
    check(bytes)?;
    serde_ipld_dagcbor::from_slice(bytes).map_err(|e| Refused::non_canonical(format!("dag-cbor: {e}")))
}

/// Looks at `v` of a map before anything else of it: 1 is ours.
///
/// # Errors
/// `unknown-version` for another uint; `non-canonical` where the bytes are no strict map with a uint `v`.
pub fn check_version(bytes: &[u8]) -> Result<(), Refused> {
    check(bytes)?;
    let mut cursor = Cursor::new(bytes);
    for _ in 0..cursor.map()? {
        if cursor.text(usize::MAX)? != "v" {
            cursor.skip()?;
            continue;
        }
        return match cursor.uint()? {
            1 => Ok(()),
            v => Err(Refused::new(Code::UnknownVersion, format!("version {v}: this reader knows 1"))),
        };
    }
    Err(Refused::non_canonical("no field v"))
}

/// The major types of CBOR (RFC 8949 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Major {
    Uint,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Simple,
}

/// A strict pull reader over one block. Every method takes the next item or refuses; nothing is skipped silently.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

fn refused<T>(what: &str) -> Result<T, Refused> {
    Err(Refused::non_canonical(what))
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// The bytes not yet taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Refused> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => refused("an item is cut short"),
        }
    }

    #[inline]
    fn head(&mut self) -> Result<(Major, u64), Refused> {
        let Some((&first, rest)) = self.rest.split_first() else { return refused("an item is missing") };
        self.rest = rest;
        let major = match first >> 5 {
            0 => Major::Uint,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            6 => Major::Tag,
            _ => Major::Simple,
        };
        let (len, least) = match first & 31 {
            short @ 0..24 => return Ok((major, u64::from(short))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return refused("an indefinite length or a reserved head"),
        };
        if major == Major::Simple {
            return refused("a float or a simple value that is not false, true or null");
        }
        let value = self.take(len)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value < least { refused("a head that is not the shortest") } else { Ok((major, value)) }
    }

    fn expect(&mut self, major: Major, what: &str) -> Result<u64, Refused> {
        match self.head()? {
            (found, value) if found == major => Ok(value),
            _ => refused(what),
        }
    }

    fn len(&mut self, major: Major, what: &str) -> Result<usize, Refused> {
        let len = self.expect(major, what)?;
        match usize::try_from(len) {
            // An item takes at least a byte, so a longer count cannot be true: nobody allocates for it.
            Ok(len) if len <= self.rest.len() => Ok(len),
            _ => refused("an item is cut short"),
        }
    }

    /// A `uint` of the format: 0 .. 2^53-1.
    ///
    /// # Errors
    /// `non-canonical` for anything else; so in every method here.
    #[inline]
    pub fn uint(&mut self) -> Result<u64, Refused> {
        let value = self.expect(Major::Uint, "not a uint")?;
        if value > UINT_MAX { refused("a uint beyond 2^53-1") } else { Ok(value) }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Refused> {
        let len = self.len(Major::Bytes, "not a byte string")?;
        self.take(len)
    }

    /// A byte string of 32.
    #[inline]
    pub fn hash(&mut self) -> Result<Hash, Refused> {
        match self.bytes()?.try_into() {
            Ok(bytes) => Ok(Hash(bytes)),
            Err(_) => refused("not a byte string of 32"),
        }
    }

    /// A text of at most `bytes_max` bytes.
    pub fn text(&mut self, bytes_max: usize) -> Result<&'a str, Refused> {
        let len = self.len(Major::Text, "not a text")?;
        if len > bytes_max {
            return refused("a text longer than the format allows");
        }
        std::str::from_utf8(self.take(len)?).or_else(|_| refused("a text that is not UTF-8"))
    }

    /// The key `name` of a map whose keys are known.
    #[inline]
    pub fn key(&mut self, name: &str) -> Result<(), Refused> {
        if self.text(TEXT_MAX)? == name {
            Ok(())
        } else {
            Err(Refused::non_canonical(format!("another key where `{name}` stands")))
        }
    }

    /// The head of an array: how many items follow.
    pub fn array(&mut self) -> Result<usize, Refused> {
        self.len(Major::Array, "not an array")
    }

    /// The head of an array of exactly `len` items.
    pub fn array_of(&mut self, len: usize) -> Result<(), Refused> {
        if self.array()? == len { Ok(()) } else { refused("an array of another length") }
    }

    /// The head of a map: how many pairs follow.
    pub fn map(&mut self) -> Result<usize, Refused> {
        self.len(Major::Map, "not a map")
    }

    /// The head of a map of exactly `len` pairs.
    pub fn map_of(&mut self, len: usize) -> Result<(), Refused> {
        if self.map()? == len { Ok(()) } else { refused("a map with a field too many or too few") }
    }

    /// Takes a null if one is next.
    #[inline]
    pub fn null(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0xf6, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// A null, or what `read` takes.
    pub fn or_null<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Refused>) -> Result<Option<T>, Refused> {
        if self.null() { Ok(None) } else { read(self).map(Some) }
    }

    /// A false or a true.
    pub fn bool(&mut self) -> Result<bool, Refused> {
        match self.head()? {
            (Major::Simple, 20) => Ok(false),
            (Major::Simple, 21) => Ok(true),
            _ => refused("not a bool"),
        }
    }

    /// A link: tag 42 over `0x00 || cid`.
    pub fn link(&mut self) -> Result<Cid, Refused> {
        if self.expect(Major::Tag, "not a link")? != 42 {
            return refused("a tag other than 42");
        }
        match self.bytes()?.split_first() {
            Some((0, cid)) => Cid::from_bytes(cid),
            _ => refused("a link without its leading zero byte"),
        }
    }

    /// A `cid` of the format: the 36 bytes as a plain byte string.
    pub fn cid(&mut self) -> Result<Cid, Refused> {
        Cid::from_bytes(self.bytes()?)
    }

    /// Takes one whole item, whatever it is, checked in full; gives its bytes.
    pub fn skip(&mut self) -> Result<&'a [u8], Refused> {
        let start = self.rest;
        self.skip_nested(NESTED_MAX)?;
        let len = start.len() - self.rest.len();
        start.get(..len).ok_or_else(|| Refused::non_canonical("an item is cut short"))
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), Refused> {
        let before = self.clone();
        let (major, value) = self.head()?;
        let inner = || depth.checked_sub(1).ok_or_else(|| Refused::non_canonical("more than 32 nested items"));
        match major {
            Major::Uint | Major::Negative => Ok(()),
            Major::Simple if (20..=22).contains(&value) => Ok(()),
            Major::Simple => refused("a simple value that is not false, true or null"),
            _ => {
                *self = before;
                match major {
                    Major::Bytes => self.bytes().map(drop),
                    Major::Text => self.text(usize::MAX).map(drop),
                    Major::Tag => inner().and_then(|_| self.link()).map(drop),
                    Major::Array => {
                        let depth = inner()?;
                        (0..self.array()?).try_for_each(|_| self.skip_nested(depth))
                    }
                    _ => self.skip_map(inner()?),
                }
            }
        }
    }

    fn skip_map(&mut self, depth: usize) -> Result<(), Refused> {
        let mut last: Option<&str> = None;
        for _ in 0..self.map()? {
            let key = self.text(usize::MAX)?;
            if last.is_some_and(|last| (last.len(), last) >= (key.len(), key)) {
                return refused("map keys that are not unique or not sorted");
            }
            last = Some(key);
            self.skip_nested(depth)?;
        }
        Ok(())
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), Refused> {
        if self.rest.is_empty() { Ok(()) } else { refused("bytes after the end") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cid::Codec;
    use super::*;
    use proptest::prelude::*;

    /// Any value the data model has, written by the independent encoder.
    fn ipld() -> impl Strategy<Value = Ipld> {
        let leaf = prop_oneof![
            Just(Ipld::Null),
            any::<bool>().prop_map(Ipld::Bool),
            (0..=UINT_MAX).prop_map(|n| Ipld::Integer(i128::from(n))),
            "\\PC{0,12}".prop_map(Ipld::String),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Ipld::Bytes),
            any::<[u8; 8]>().prop_map(|block| { Ipld::Link(Cid::of(Codec::DagCbor, &block).to_ipld().unwrap()) }),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Ipld::List),
                prop::collection::btree_map("[a-z]{0,4}", inner, 0..6).prop_map(Ipld::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_the_independent_encoder_writes_is_taken(value in ipld()) {
            let bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
            prop_assert_eq!(read(&bytes).unwrap(), value);
        }

        #[test]
        fn whatever_is_taken_is_written_back_as_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if check(&bytes).is_ok() {
                let value: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
                prop_assert_eq!(serde_ipld_dagcbor::to_vec(&value).unwrap(), bytes);
            }
        }

        #[test]
        fn one_changed_byte_never_gives_the_same_value(value in ipld(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
            let mut other = bytes.clone();
            *other.get_mut(at.index(bytes.len())).unwrap() ^= flip;
            if let Ok(found) = read(&other) {
                prop_assert_ne!(found, value);
            }
        }
    }

    #[test]
    fn a_link_is_tag_42_over_a_zero_byte_and_the_cid() {
        let cid = Cid::of(Codec::Raw, b"block");
        let bytes = encode(&Link(cid));
        assert_eq!(bytes[..5], [0xd8, 0x2a, 0x58, 0x25, 0x00]);
        assert_eq!(Cursor::new(&bytes).link(), Ok(cid));
        assert_eq!(Cursor::new(&encode(&cid)).cid(), Ok(cid));
        assert!(Cursor::new(&bytes).cid().is_err() && Cursor::new(&encode(&cid)).link().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_anything_is_made_of_it() {
        assert!(check(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(check(&[0xba, 0x7f, 0xff, 0xff, 0xff, 0x60]).is_err());
    }
}
