//! A SHA-256 value, the only hash of the format, and the two RFC 6962 prefixes.
//!
//! Not a MAC and not a CID: see `part` and `cid`. Spec: FIPS 180-4; RFC 6962 section 2.1.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// 32 bytes of SHA-256. Shown as lower-case hex, in full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The `prev` of the entry at seq 0.
    pub const ZERO: Hash = Hash([0; 32]);
    /// The root of the empty tree: SHA-256 of nothing (RFC 6962 section 2.1).
    pub const EMPTY_ROOT: Hash = Hash([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
        0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// The hash of the concatenation of `chunks`.
    pub fn of_all(chunks: &[&[u8]]) -> Hash {
        let mut hasher = Sha256::new();
        for chunk in chunks {
            hasher.update(chunk);
        }
        Hash(hasher.finalize().into())
    }

    /// `SHA-256(0x00 || leaf)`: the hash of a leaf in the tree and the `prev` of the next entry.
    pub fn leaf(leaf: &[u8]) -> Hash {
        Hash::of_all(&[&[0], leaf])
    }

    /// `SHA-256(0x01 || left || right)`: an inner node of the tree.
    pub fn node(left: Hash, right: Hash) -> Hash {
        let mut bytes = [1u8; 65];
        bytes[1..33].copy_from_slice(&left.0);
        bytes[33..].copy_from_slice(&right.0);
        Hash::of(&bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = hex::FromHexError;

    /// Reads 64 hex digits.
    fn from_str(text: &str) -> Result<Hash, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Hash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(Hash::EMPTY_ROOT, Hash::of(b""));
    }

    #[test]
    fn text_round_trips_and_wrong_lengths_are_refused() {
        let hash = Hash::leaf(b"leaf 0");
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        assert!("00".parse::<Hash>().is_err());
    }
}
