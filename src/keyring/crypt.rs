//! The keyring's cryptography: random blocks, one derivation, one cipher.
//!
//! HKDF-SHA256 (RFC 5869, empty salt), AES-256-GCM with random 96-bit nonces (SP 800-38D), all from aws-lc-rs.
//! Not the sealing of parts: that is `core::part`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::{Zeroize, Zeroizing};

use super::KeyringError;

/// Bytes a sealed item is longer than its content: nonce and tag.
pub(super) const SEALED_OVERHEAD: usize = NONCE_LEN + 16;

/// Bytes of an HMAC-SHA256.
pub(super) const MAC_LEN: usize = 32;

/// Drawn from the operating system's generator in large blocks: a call for each 16 bytes would cost more than the
/// look-up it serves. Bytes are wiped as they are handed out.
pub(super) struct Random {
    block: Zeroizing<[u8; 4096]>,
    used: usize,
}

impl Random {
    pub(super) fn new() -> Random {
        Random { block: Zeroizing::new([0; 4096]), used: 4096 }
    }

    /// `N` fresh random bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], KeyringError> {
        const { assert!(N <= 64) };
        if self.used + N > self.block.len() {
            rand::fill(&mut *self.block).map_err(|_| KeyringError::NoRandom)?;
            self.used = 0;
        }
        let mut out = [0; N];
        let taken = self.block.get_mut(self.used..self.used + N).unwrap_or_default();
        out.copy_from_slice(taken);
        taken.zeroize();
        self.used += N;
        Ok(out)
    }
}

/// `HKDF-SHA256(salt = "", IKM = secret, info = label || context, L = 32)`. Labels are distinct and end in a zero byte,
/// contexts have a fixed length for their label.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA256 gives up to 8,160 bytes and 32 are asked for into a 32-byte buffer"
)]
pub(super) fn derive(secret: &[u8; 32], label: &[u8], context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    prk.expand(&[label, context], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *out)).expect("32 <= 255 * 32");
    out
}

/// An HMAC-SHA256 key derived like any other.
pub(super) fn mac_key(secret: &[u8; 32], label: &[u8], context: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*derive(secret, label, context))
}

/// HMAC-SHA256 over the concatenation of `chunks`.
pub(super) fn mac(key: &hmac::Key, chunks: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut context = hmac::Context::with_key(key);
    for chunk in chunks {
        context.update(chunk);
    }
    let mut out = [0; MAC_LEN];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Whether `found` is that HMAC, compared in constant time.
pub(super) fn mac_is(key: &hmac::Key, chunks: &[&[u8]], found: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(&mac(key, chunks), found).is_ok()
}

/// An AES-256-GCM key. Sealed form: nonce 12 || ciphertext || tag 16.
pub(super) struct SealKey(LessSafeKey);

impl SealKey {
    #[expect(clippy::expect_used, reason = "an AES-256 key is any 32 bytes")]
    pub(super) fn new(key: &[u8; 32]) -> SealKey {
        SealKey(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes")))
    }

    /// Appends the sealed form of `plain` to `out`.
    #[expect(clippy::expect_used, reason = "AES-GCM fails only above 64 GiB, far beyond a shard or a group")]
    pub(super) fn seal_to(
        &self,
        out: &mut Vec<u8>,
        random: &mut Random,
        aad: &[u8],
        plain: &[u8],
    ) -> Result<(), KeyringError> {
        let nonce = random.bytes::<NONCE_LEN>()?;
        // Reserved at once: a reallocation midway would leave plaintext behind.
        out.reserve(plain.len() + SEALED_OVERHEAD);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), body).expect("shorter than 64 GiB");
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The content, or `None` if it was not sealed under this key and `aad`.
    pub(super) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.0.open_in_place(nonce, Aad::from(aad), &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_only_as_they_were_and_in_their_place() {
        let (key, mut random, mut sealed) = (SealKey::new(&[7; 32]), Random::new(), Vec::new());
        key.seal_to(&mut sealed, &mut random, b"place", b"content").unwrap();
        assert_eq!(sealed.len(), b"content".len() + SEALED_OVERHEAD);
        assert_eq!(key.open(b"place", &sealed).unwrap().as_slice(), b"content");
        assert!(key.open(b"other", &sealed).is_none());
        assert!(SealKey::new(&[8; 32]).open(b"place", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(b"place", &changed).is_none(), "byte {at}");
            assert!(key.open(b"place", &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn random_bytes_are_wiped_where_they_were_drawn_from() {
        let mut random = Random::new();
        let first = random.bytes::<16>().unwrap();
        assert_ne!(first, random.bytes::<16>().unwrap());
        assert_eq!(random.block[..32], [0; 32]);
    }
}
