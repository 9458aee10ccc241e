//! A sealed part: what an entry holds of a person or an operator, encrypted so that a destroyed key erases it
//! while every proof over the leaf stands.
//!
//! AES-GCM does not commit to its key, so the leaf carries a commitment to the plaintext beside the digest of the
//! frame. Not a key store: keys come from the caller. Spec: format.md, Sealed part; RFC 5869 (HKDF), RFC 2104 (HMAC).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use hkdf::hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::finding::{Code, Refused};
use super::hash::Hash;
use super::leaf::PartRef;
use super::record::Record;
use super::seq::Seq;

/// The body of a part after decompression, at most.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Fresh random bytes one sealing takes: `r` and the nonce.
pub const RANDOM_BYTES: usize = 44;

const R_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Algorithm byte and nonce, before the ciphertext.
const FRAME_HEAD: usize = 1 + NONCE_BYTES;
/// `r` and the length, before the stored bytes.
const PLAIN_HEAD: usize = R_BYTES + 4;

/// A secret key of 32 bytes, wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key(pub [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// How the body is stored inside the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alg {
    /// 1: as it is.
    Plain,
    /// 2: one zstd frame with the dictionary of the format.
    Zstd,
}

impl Alg {
    fn code(self) -> u8 {
        match self {
            Alg::Plain => 1,
            Alg::Zstd => 2,
        }
    }
}

/// Where a part stands. Every derivation and commitment is bound to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// `SHA-256(origin)` of the log.
    pub oid: Hash,
    /// The entry.
    pub seq: Seq,
    /// The index in `parts`.
    pub part: u32,
}

impl Place {
    /// `ctx = oid || be64(seq) || be32(part)`.
    fn ctx(&self) -> [u8; 44] {
        let mut ctx = [0; 44];
        let (oid, rest) = ctx.split_at_mut(32);
        let (seq, part) = rest.split_at_mut(8);
        oid.copy_from_slice(&self.oid.0);
        seq.copy_from_slice(&self.seq.0.to_be_bytes());
        part.copy_from_slice(&self.part.to_be_bytes());
        ctx
    }

    fn commitment(&self, r: &[u8], body: &[u8]) -> Hash {
        Hash::of_all(&[b"pinfold/v1/commit\0", &self.ctx(), r, body])
    }
}

/// The key of a class in an epoch, ready to extract the sealing keys of many people: hashing it once saves a fifth of
/// what each of them costs.
#[derive(Clone)]
pub struct EpochKey(Hmac<Sha256>);

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochKey(..)")
    }
}

impl EpochKey {
    /// Of the stored key.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub fn new(epoch_key: &Key) -> EpochKey {
        EpochKey(Hmac::new_from_slice(&epoch_key.0).expect("HMAC takes keys of any length"))
    }

    /// HKDF-Extract of the subject key (32 zero bytes where there is none: class 0), the epoch key being the salt.
    #[expect(clippy::expect_used, reason = "a MAC of SHA-256 has the 32 bytes HKDF wants")]
    pub fn sealing_key(&self, subject_key: Option<&Key>) -> SealingKey {
        let of_subject = self.0.clone().chain_update(subject_key.map_or(&[0; 32], |key| &key.0));
        SealingKey(Hkdf::from_prk(&of_subject.finalize().into_bytes()).expect("a pseudorandom key of 32 bytes"))
    }
}

/// The extracted key of all parts of one (class, epoch, subject): deriving it once and keeping it saves the
/// extraction for every later part.
#[derive(Clone)]
pub struct SealingKey(Hkdf<Sha256>);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl SealingKey {
    /// As [`EpochKey::sealing_key`], for one key alone.
    pub fn new(epoch_key: &Key, subject_key: Option<&Key>) -> SealingKey {
        EpochKey::new(epoch_key).sealing_key(subject_key)
    }

    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives 32 bytes: less than its limit of 8,160")]
    fn expand(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        self.0.expand_multi_info(info, &mut key[..]).expect("32 bytes are within HKDF's limit");
        key
    }

    /// The AES-256-GCM key of one frame.
    #[expect(clippy::expect_used, reason = "the key has the 32 bytes AES-256 wants")]
    fn frame_key(&self, place: &Place, alg: u8) -> LessSafeKey {
        let key = self.expand(&[b"pinfold/v1/key\0", &place.ctx(), &[alg]]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("a key of 32 bytes"))
    }
}

fn aad(place: &Place, alg: u8) -> Aad<[u8; 60]> {
    let mut aad = [0; 60];
    let (label, rest) = aad.split_at_mut(15);
    let (ctx, last) = rest.split_at_mut(44);
    label.copy_from_slice(b"pinfold/v1/aad\0");
    ctx.copy_from_slice(&place.ctx());
    last.copy_from_slice(&[alg]);
    Aad::from(aad)
}

/// `P(n)`: the length a plaintext of `n` bytes is padded to. Part 0 starts at 128, all others at 256.
pub fn padded_len(part: u32, n: usize) -> usize {
    const STEP: usize = 65_536;
    let least = if part == 0 { 128 } else { 256 };
    if n <= STEP { n.max(least).next_power_of_two() } else { n.div_ceil(STEP) * STEP }
}

/// A part as it goes into the leaf and beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// What the leaf says of it.
    pub part: PartRef,
    /// The ciphertext with its head.
    pub frame: Vec<u8>,
}

/// Compresses and decompresses with the dictionary of the format. One per thread: it keeps its contexts.
pub struct Zstd {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// What was compressed last, wiped: room that every small body uses again.
    compressed: Zeroizing<Vec<u8>>,
}

/// Room for compression that is kept; what a larger body took is given back.
const COMPRESSED_BYTES_KEPT: usize = 64 << 10;

impl Zstd {
    /// Loads the dictionary.
    ///
    /// # Errors
    /// `limit-exceeded` where the library cannot make its contexts.
    pub fn new(dictionary: &[u8]) -> Result<Zstd, Refused> {
        let failed = |e: std::io::Error| Refused::new(Code::LimitExceeded, format!("zstd: {e}"));
        let mut compressor = zstd::bulk::Compressor::with_dictionary(1, dictionary).map_err(failed)?;
        compressor.include_contentsize(true).map_err(failed)?;
        compressor.include_checksum(false).map_err(failed)?;
        compressor.include_dictid(false).map_err(failed)?;
        let decompressor = zstd::bulk::Decompressor::with_dictionary(dictionary).map_err(failed)?;
        Ok(Zstd { compressor, decompressor, compressed: Zeroizing::default() })
    }

    /// Compresses `body` and hands the frame to `store`.
    fn compress<T>(&mut self, body: &[u8], store: impl FnOnce(&[u8]) -> T) -> Result<T, Refused> {
        let room = zstd::zstd_safe::compress_bound(body.len());
        if self.compressed.capacity() < room {
            self.compressed = Zeroizing::new(Vec::with_capacity(room.max(4096)));
        }
        let failed = |e| Refused::new(Code::LimitExceeded, format!("part: zstd: {e}"));
        self.compressor.compress_to_buffer(body, &mut *self.compressed).map_err(failed)?;
        let stored = store(&self.compressed);
        self.compressed.as_mut_slice().zeroize();
        self.compressed.clear();
        if self.compressed.capacity() > COMPRESSED_BYTES_KEPT {
            self.compressed = Zeroizing::default();
        }
        Ok(stored)
    }

    fn decompress(&mut self, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("part: {what}"));
        let size = zstd::zstd_safe::get_frame_content_size(stored).map_err(|_| refused("no zstd frame"))?;
        let size = size.ok_or_else(|| refused("a zstd frame without its content size"))?;
        let size = usize::try_from(size).ok().filter(|size| *size <= BODY_BYTES_MAX);
        let size = size.ok_or_else(|| refused("a body of more than 64 MiB"))?;
        if zstd::zstd_safe::find_frame_compressed_size(stored).ok() != Some(stored.len()) {
            return Err(refused("bytes after the zstd frame"));
        }
        let body = self.decompressor.decompress(stored, size).map_err(|_| refused("a broken zstd frame"))?;
        if body.len() == size { Ok(Zeroizing::new(body)) } else { Err(refused("a zstd frame of another length")) }
    }
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

/// Seals `body` at `place`. `random` is 44 fresh bytes of the operating system, used once: a retry seals anew.
///
/// With `zstd` the body is stored compressed (alg 2), without it as it is (alg 1).
///
/// # Errors
/// `limit-exceeded` where the body is longer than 64 MiB or cannot be compressed.
#[expect(clippy::expect_used, reason = "AES-GCM fails only beyond 64 GiB, a body has at most 64 MiB")]
pub fn seal(
    place: &Place,
    key: &SealingKey,
    zstd: Option<&mut Zstd>,
    body: &[u8],
    random: &[u8; RANDOM_BYTES],
) -> Result<Sealed, Refused> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refused::new(Code::LimitExceeded, "part: a body of more than 64 MiB"));
    }
    let (r, nonce_bytes) = random.split_at(R_BYTES);
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(nonce_bytes);
    let (alg, frame) = match zstd {
        None => (Alg::Plain, unsealed(place.part, Alg::Plain, &nonce, r, body)),
        Some(zstd) => (Alg::Zstd, zstd.compress(body, |stored| unsealed(place.part, Alg::Zstd, &nonce, r, stored))?),
    };
    // The plaintext is encrypted in place, so no copy of it stays behind.
    let mut frame = frame?;
    let plain = frame.get_mut(FRAME_HEAD..).unwrap_or_default();
    let key = key.frame_key(place, alg.code());
    let aad = aad(place, alg.code());
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, plain)
        .expect("a plaintext within AES-GCM's limit");
    frame.extend_from_slice(tag.as_ref());
    let part = PartRef { commitment: place.commitment(r, body), digest: Hash::of(&frame) };
    Ok(Sealed { part, frame })
}

/// A frame whose plaintext is not encrypted yet, with room for the tag.
fn unsealed(part: u32, alg: Alg, nonce: &[u8], r: &[u8], stored: &[u8]) -> Result<Vec<u8>, Refused> {
    let len = u32::try_from(stored.len()).map_err(|_| Refused::new(Code::LimitExceeded, "part: too long"))?;
    let padded = padded_len(part, PLAIN_HEAD + stored.len());
    let mut frame = Vec::with_capacity(FRAME_HEAD + padded + TAG_BYTES);
    frame.push(alg.code());
    frame.extend_from_slice(nonce);
    frame.extend_from_slice(r);
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(stored);
    frame.resize(FRAME_HEAD + padded, 0);
    Ok(frame)
}

/// An opened part.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// What was sealed.
    pub body: Zeroizing<Vec<u8>>,
    /// The random value of its commitment: with it a third party can check the body against the leaf.
    pub r: [u8; R_BYTES],
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("bytes", &self.body.len()).finish()
    }
}

/// Opens a frame and checks everything that ties it to its leaf.
///
/// # Errors
/// `frame-digest` where it is not the frame of the leaf, `commitment` where key or plaintext are not those of the
/// leaf, `non-canonical` where its algorithm, length or padding are none a writer gives.
pub fn open(
    place: &Place,
    key: &SealingKey,
    zstd: &mut Zstd,
    expected: PartRef,
    frame: &[u8],
) -> Result<Opened, Refused> {
    let refused = |what: &str| Refused::non_canonical(format!("part: {what}"));
    if Hash::of(frame) != expected.digest {
        return Err(Refused::new(Code::FrameDigest, "part: not the frame of the leaf"));
    }
    let Some((&alg, rest)) = frame.split_first() else { return Err(refused("an empty frame")) };
    if !(1..=2).contains(&alg) {
        return Err(refused("an unknown algorithm"));
    }
    let Some((nonce, sealed)) = rest.split_first_chunk::<NONCE_BYTES>().filter(|(_, s)| s.len() >= TAG_BYTES) else {
        return Err(refused("a frame cut short"));
    };
    let mut plain = Zeroizing::new(sealed.to_vec());
    let opened = key.frame_key(place, alg).open_in_place(
        Nonce::assume_unique_for_key(*nonce),
        aad(place, alg),
        plain.as_mut_slice(),
    );
    let mismatch = || Refused::new(Code::Commitment, "part: the key or the plaintext is not that of the leaf");
    let plain = opened.map_err(|_| mismatch())?;
    let Some((r, rest)) = plain.split_first_chunk::<R_BYTES>() else { return Err(refused("no room for r")) };
    let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Err(refused("no room for a length")) };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    let Some((stored, padding)) = rest.split_at_checked(len) else { return Err(refused("a length beyond the end")) };
    if padding.iter().any(|byte| *byte != 0) || PLAIN_HEAD + rest.len() != padded_len(place.part, PLAIN_HEAD + len) {
        return Err(refused("padding that is not zeros up to the next step"));
    }
    let body = if alg == 1 { Zeroizing::new(stored.to_vec()) } else { zstd.decompress(stored)? };
    if place.commitment(r, &body) != expected.commitment {
        return Err(mismatch());
    }
    Ok(Opened { body, r: *r })
}

/// Whether `body` and `r` are what the leaf commits to at `place`: what a disclosure lets anyone check.
pub fn commits_to(place: &Place, r: &[u8; R_BYTES], body: &[u8], commitment: Hash) -> bool {
    place.commitment(r, body) == commitment
}

/// The key under which records are recognised again, without their content being stored.
#[derive(Clone)]
pub struct RecordMacKey(Hmac<Sha256>);

impl std::fmt::Debug for RecordMacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordMacKey(..)")
    }
}

impl RecordMacKey {
    /// Derives it from the class 0 key of an epoch.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub fn new(class_0: &Key, oid: Hash) -> RecordMacKey {
        let key = SealingKey::new(class_0, None).expand(&[b"pinfold/v1/mac\0", &oid.0]);
        RecordMacKey(Hmac::new_from_slice(&key[..]).expect("HMAC takes keys of any length"))
    }

    /// The MAC of a record as received.
    pub fn record_mac(&self, record: &Record) -> Hash {
        let mut mac = self.0.clone();
        let optional = |mac: &mut Hmac<Sha256>, bytes: Option<&[u8]>| match bytes {
            None => mac.update(&[0]),
            Some(bytes) => {
                mac.update(&[1]);
                mac.update(&be32(bytes.len()));
                mac.update(bytes);
            }
        };
        optional(&mut mac, record.key.as_deref());
        optional(&mut mac, record.value.as_deref());
        mac.update(&be32(record.headers.len()));
        for header in &record.headers {
            optional(&mut mac, Some(&header.name));
            optional(&mut mac, header.value.as_deref());
        }
        mac.update(&record.timestamp_ms.to_be_bytes());
        Hash(mac.finalize().into_bytes().into())
    }
}

/// A length as four bytes; a broker's record never reaches 4 GiB.
fn be32(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

/// The commitment of an erasure to the entries whose keys died: `seqs` distinct and ascending, hidden by `salt`.
pub fn affected_set(salt: &[u8; 32], seqs: &[Seq]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(b"pinfold/v1/affected\0");
    hasher.update(salt);
    hasher.update(u64::try_from(seqs.len()).unwrap_or(u64::MAX).to_be_bytes());
    for seq in seqs {
        hasher.update(seq.0.to_be_bytes());
    }
    Hash(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place { oid: Hash([7; 32]), seq: Seq(5), part: 1 };

    fn key() -> SealingKey {
        SealingKey::new(&Key([1; 32]), Some(&Key([2; 32])))
    }

    fn zstd() -> Zstd {
        Zstd::new(b"").unwrap()
    }

    proptest! {
        #[test]
        fn a_part_round_trips(body in prop::collection::vec(any::<u8>(), 0..2000), compress: bool) {
            let mut zstd = zstd();
            let sealed = seal(&PLACE, &key(), compress.then_some(&mut zstd), &body, &[9; 44]).unwrap();
            let opened = open(&PLACE, &key(), &mut zstd, sealed.part, &sealed.frame).unwrap();
            prop_assert_eq!(&*opened.body, &body);
            prop_assert!(commits_to(&PLACE, &opened.r, &body, sealed.part.commitment));
        }
    }

    #[test]
    fn a_key_of_the_epoch_extracts_what_hkdf_does() {
        let (epoch, subject) = (Key([1; 32]), Key([2; 32]));
        let expected = SealingKey(Hkdf::new(Some(&epoch.0), &subject.0)).expand(&[b"info"]);
        assert_eq!(EpochKey::new(&epoch).sealing_key(Some(&subject)).expand(&[b"info"]), expected);
        let expected = SealingKey(Hkdf::new(Some(&epoch.0), &[0; 32])).expand(&[b"info"]);
        assert_eq!(EpochKey::new(&epoch).sealing_key(None).expand(&[b"info"]), expected);
    }

    #[test]
    fn compressing_leaves_nothing_behind_and_keeps_no_large_room() {
        let mut zstd = zstd();
        let large = zstd.compress(&[7; 1 << 20], <[u8]>::len).unwrap();
        assert!(large > 0 && zstd.compressed.capacity() == 0);
        let small = zstd.compress(b"small", <[u8]>::to_vec).unwrap();
        assert_eq!(*zstd.decompress(&small).unwrap(), b"small");
        assert!(zstd.compressed.is_empty() && zstd.compressed.capacity() <= COMPRESSED_BYTES_KEPT);
    }

    #[test]
    fn another_place_key_or_byte_does_not_open() {
        let sealed = seal(&PLACE, &key(), None, b"body", &[9; 44]).unwrap();
        let opens = |place: &Place, key: &SealingKey, part, frame: &[u8]| {
            open(place, key, &mut zstd(), part, frame).map_err(|refused| refused.code)
        };
        for place in [Place { seq: Seq(6), ..PLACE }, Place { part: 2, ..PLACE }, Place { oid: Hash::ZERO, ..PLACE }] {
            assert_eq!(opens(&place, &key(), sealed.part, &sealed.frame), Err(Code::Commitment));
        }
        let other = SealingKey::new(&Key([1; 32]), None);
        assert_eq!(opens(&PLACE, &other, sealed.part, &sealed.frame), Err(Code::Commitment));
        for at in 0..sealed.frame.len() {
            let mut frame = sealed.frame.clone();
            frame[at] ^= 1;
            assert_eq!(opens(&PLACE, &key(), sealed.part, &frame), Err(Code::FrameDigest));
            let part = PartRef { digest: Hash::of(&frame), ..sealed.part };
            assert!(opens(&PLACE, &key(), part, &frame).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_zstd_body_beyond_its_declared_size_is_refused() {
        let mut zstd = zstd();
        let stored = zstd.compress(&[5; 500], <[u8]>::to_vec).unwrap();
        assert!(zstd.decompress(&[&stored[..], &[0]].concat()).is_err());
        assert!(zstd.decompress(&stored[..stored.len() - 1]).is_err());
        assert!(zstd.decompress(b"").is_err());
    }
}
