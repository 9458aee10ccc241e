//! A content identifier of the format: CIDv1 of SHA-256, codec dag-cbor or raw, and no other.
//!
//! The only file that names the `cid` and `multihash` crates. Spec: multiformats/cid; format.md, Conventions.

use std::fmt;
use std::str::FromStr;

use cid::multibase;
use multihash_codetable::Code as MultihashCode;

use super::finding::Refused;
use super::hash::Hash;

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Codec {
    /// Strict DAG-CBOR, 0x71.
    DagCbor,
    /// Plain bytes, 0x55: the pieces of a large frame.
    Raw,
}

impl Codec {
    fn code(self) -> u64 {
        match self {
            Codec::DagCbor => 0x71,
            Codec::Raw => 0x55,
        }
    }
}

/// A CID of the format, 36 bytes in binary form. Text form: base32 lower case, as IPFS prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    codec: Codec,
    hash: Hash,
}

impl Cid {
    /// The length of the binary form.
    pub const LEN: usize = 36;

    /// The CID of `block`.
    pub fn of(codec: Codec, block: &[u8]) -> Cid {
        Cid { codec, hash: Hash::of(block) }
    }

    /// What the block holds.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The SHA-256 of the block.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether `block` is the block of this CID.
    pub fn matches(&self, block: &[u8]) -> bool {
        Hash::of(block) == self.hash
    }

    /// The 36 bytes: version 1, codec, 0x12, 0x20, hash.
    pub fn to_bytes(&self) -> [u8; Cid::LEN] {
        let mut bytes = [0; Cid::LEN];
        bytes[..4].copy_from_slice(&[1, if self.codec == Codec::Raw { 0x55 } else { 0x71 }, 0x12, 0x20]);
        bytes[4..].copy_from_slice(&self.hash.0);
        bytes
    }

    /// Reads exactly one binary CID.
    ///
    /// # Errors
    /// `non-canonical` for another length, version, codec or hash function.
    pub fn from_bytes(bytes: &[u8]) -> Result<Cid, Refused> {
        let refused = || Refused::non_canonical("cid: not a CIDv1 of sha2-256 with codec dag-cbor or raw");
        let [1, codec, 0x12, 0x20, hash @ ..] = bytes else { return Err(refused()) };
        let hash = Hash(hash.try_into().map_err(|_| refused())?);
        match codec {
            0x71 => Ok(Cid { codec: Codec::DagCbor, hash }),
            0x55 => Ok(Cid { codec: Codec::Raw, hash }),
            _ => Err(refused()),
        }
    }

    pub(super) fn to_ipld(self) -> Option<cid::Cid> {
        let multihash = multihash::Multihash::wrap(u64::from(MultihashCode::Sha2_256), &self.hash.0).ok()?;
        Some(cid::Cid::new_v1(self.codec.code(), multihash))
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ipld().ok_or(fmt::Error)?.fmt(f)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cid {
    type Err = Refused;

    /// Reads any multibase text of a CID of the format (js-ipfs prints base58), and of each base one spelling: the
    /// parser of the `cid` crate takes bytes after the CID, a path before it and other things that name the same.
    fn from_str(text: &str) -> Result<Cid, Refused> {
        let (base, bytes) = multibase::decode(text).map_err(|e| Refused::non_canonical(format!("cid: {e}")))?;
        match multibase::encode(base, &bytes) == text {
            true => Cid::from_bytes(&bytes),
            false => Err(Refused::non_canonical("cid: spelled otherwise than its base has it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        for codec in [Codec::DagCbor, Codec::Raw] {
            let cid = Cid::of(codec, b"block");
            assert_eq!(cid.to_string().parse::<Cid>(), Ok(cid));
            assert_eq!(Cid::from_bytes(&cid.to_bytes()), Ok(cid));
            assert!(cid.matches(b"block") && !cid.matches(b"Block"));
        }
        let cid = Cid::of(Codec::Raw, b"block");
        for base in [multibase::Base::Base58Btc, multibase::Base::Base36Lower, multibase::Base::Base16Lower] {
            assert_eq!(multibase::encode(base, cid.to_bytes()).parse::<Cid>(), Ok(cid));
        }
        assert!(Cid::of(Codec::DagCbor, b"").to_string().starts_with("bafyrei"));
        assert!(Cid::of(Codec::Raw, b"").to_string().starts_with("bafkrei"));
    }

    #[test]
    fn other_versions_codecs_and_hashes_are_refused() {
        let bytes = Cid::of(Codec::DagCbor, b"block").to_bytes();
        for (at, value) in [(0, 0), (1, 0x70), (2, 0x13), (3, 0x1f)] {
            let mut other = bytes;
            other[at] = value;
            assert!(Cid::from_bytes(&other).is_err(), "byte {at}");
        }
        assert!(Cid::from_bytes(&bytes[..35]).is_err());
        // The fuzzer's find: bytes after the CID within the text.
        let text = Cid::of(Codec::DagCbor, b"block").to_string();
        let longer = multibase::encode(multibase::Base::Base32Lower, [&bytes[..], b"more"].concat());
        for other in [
            longer,
            format!("/ipfs/{text}"),
            format!("b{}", text[1..].to_uppercase()),
            format!("{text}="),
            text[1..].to_owned(),
        ] {
            assert!(other.parse::<Cid>().is_err(), "{other}");
        }
        assert!(Cid::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
}
