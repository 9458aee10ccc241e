//! The keys of notes: public ones of logs and witnesses, which verify strictly, and the private one of a log.
//!
//! Beside its tests the only file that names the Ed25519 crate, and no private key leaves it.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::{Note, Signature, check_name, from_base64, to_base64};
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;
use crate::core::time::Timestamp;

/// The signature type of a log's own lines, and of every Pinfold note.
const ED25519: u8 = 0x01;
/// The signature type of a witness: a time, and a signature over that time and the checkpoint.
const COSIGNATURE: u8 = 0x04;

/// A public key with its name: the text form is `name+id+base64(type || key)`.
#[derive(Clone, PartialEq, Eq)]
struct PublicKey {
    name: String,
    id: [u8; 4],
    kind: u8,
    key: VerifyingKey,
}

impl PublicKey {
    fn new(name: &str, kind: u8, key: VerifyingKey) -> Result<PublicKey, Refused> {
        check_name(name)?;
        Ok(PublicKey::of(name, kind, key))
    }

    /// The key under a name that a note can carry.
    fn of(name: &str, kind: u8, key: VerifyingKey) -> PublicKey {
        let hash = Hash::of_all(&[name.as_bytes(), b"\n", &[kind], key.as_bytes()]);
        let [a, b, c, d, ..] = hash.0;
        PublicKey { name: name.to_owned(), id: [a, b, c, d], kind, key }
    }

    fn parse(text: &str, kind: u8) -> Result<PublicKey, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("vkey: {what}"));
        let mut fields = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(refused("not `name+id+key`"));
        };
        let key = from_base64(key)?;
        let [found, bytes @ ..] = key.as_slice() else { return Err(refused("empty")) };
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| refused("not 32 bytes"))?;
        if *found != kind {
            return Err(refused("of another signature type"));
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| refused("not a point of the curve"))?;
        // The curve library takes coordinates beyond the field's prime; a second spelling of one key must not exist.
        if key.to_edwards().compress().as_bytes() != bytes || key.is_weak() {
            return Err(refused("not canonical, or of small order"));
        }
        let key = PublicKey::new(name, kind, key)?;
        if id != hex::encode(key.id) {
            return Err(refused("its id is not that of the key"));
        }
        Ok(key)
    }

    fn is_named_by(&self, line: &Signature<'_>) -> bool {
        line.name == self.name && line.id == self.id
    }

    /// Strict: A and R canonical and not of small order, S below L, the equation without the cofactor.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Ed25519::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind];
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), to_base64(&key))
    }
}

/// The public key of a log, of its recovery or of another signer of plain notes.
#[derive(Clone, PartialEq, Eq)]
pub struct Vkey(PublicKey);

impl Vkey {
    /// The name: the origin for a log's key, `<origin>/recovery` for its recovery key.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The id, in lower-case hex.
    pub fn key_id_hex(&self) -> String {
        hex::encode(self.0.id)
    }

    /// Whether `line` says that this key made it. Nothing is verified.
    pub fn is_named_by(&self, line: &Signature<'_>) -> bool {
        self.0.is_named_by(line)
    }

    /// Whether `line` is this key's sound signature over `text`.
    #[must_use]
    pub fn signed(&self, text: &str, line: &Signature<'_>) -> bool {
        self.is_named_by(line) && self.0.verify(text.as_bytes(), &line.bytes)
    }

    /// Verifies the line of this key. Lines of other keys are not looked at.
    ///
    /// # Errors
    /// `unknown-key` where this key has no line, `non-canonical` where it has two, `bad-signature`.
    pub fn verify(&self, note: &Note<'_>) -> Result<(), Refused> {
        let refused = |code, what| Refused::new(code, format!("note: {what} {}+{}", self.name(), self.key_id_hex()));
        let mut lines = note.signatures.iter().filter(|line| self.is_named_by(line));
        let line = lines.next().ok_or_else(|| refused(Code::UnknownKey, "not signed by"))?;
        if lines.next().is_some() {
            return Err(refused(Code::NonCanonical, "signed twice by"));
        }
        if !self.signed(note.text, line) {
            return Err(refused(Code::BadSignature, "signature of"));
        }
        Ok(())
    }
}

impl FromStr for Vkey {
    type Err = Refused;

    /// Reads a vkey.
    ///
    /// `non-canonical` for another type than Ed25519, an id that is not the key's, or a key no strict verifier takes.
    fn from_str(text: &str) -> Result<Vkey, Refused> {
        PublicKey::parse(text, ED25519).map(Vkey)
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The public key of a witness, who signs a checkpoint with the time it saw it (`cosignature/v1`).
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessVkey(PublicKey);

impl WitnessVkey {
    /// The name of the witness.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The id.
    pub(super) fn id(&self) -> [u8; 4] {
        self.0.id
    }

    /// Verifies every line of this witness and gives their times, to the second, in the order of the lines: none
    /// where it did not sign. An anchor keeps the earlier ones when the witness signs the same checkpoint again.
    ///
    /// # Errors
    /// `bad-cosignature` if one of them does not verify.
    pub fn verify(&self, note: &Note<'_>) -> Result<Vec<Timestamp>, Refused> {
        let refused = || Refused::new(Code::BadCosignature, format!("note: cosignature of {}", self.name()));
        let mut times = Vec::new();
        for line in note.signatures.iter().filter(|line| self.0.is_named_by(line)) {
            let (seconds, signature) = line.bytes.split_first_chunk::<8>().ok_or_else(refused)?;
            let seconds = u64::from_be_bytes(*seconds);
            let message = format!("cosignature/v1\ntime {seconds}\n{}", note.text);
            // A time that has no microseconds in 64 bits is half a million years away: no sound witness says it.
            let micros = seconds.checked_mul(1_000_000).ok_or_else(refused)?;
            if !self.0.verify(message.as_bytes(), signature) {
                return Err(refused());
            }
            times.push(Timestamp(micros));
        }
        Ok(times)
    }
}

impl FromStr for WitnessVkey {
    type Err = Refused;

    /// Reads the vkey of a witness; `non-canonical` as for [`Vkey`].
    fn from_str(text: &str) -> Result<WitnessVkey, Refused> {
        PublicKey::parse(text, COSIGNATURE).map(WitnessVkey)
    }
}

impl fmt::Display for WitnessVkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for WitnessVkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A private key with its name. It is wiped when dropped and shows only its public half.
pub struct Skey {
    key: SigningKey,
    vkey: Vkey,
}

impl Skey {
    /// The key of a 32-byte seed (RFC 8032).
    ///
    /// # Errors
    /// `non-canonical` for a name no note can carry.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Skey, Refused> {
        Skey::new(name, SigningKey::from_bytes(seed))
    }

    /// Reads an Ed25519 key as OpenSSL writes it: `PRIVATE KEY`, PKCS#8 in PEM.
    ///
    /// # Errors
    /// `non-canonical` for anything else; the reason never repeats what was read.
    pub fn from_pkcs8_pem(name: &str, pem: &str) -> Result<Skey, Refused> {
        let key = SigningKey::from_pkcs8_pem(pem)
            .map_err(|_| Refused::non_canonical("key file: not an Ed25519 private key in PKCS#8 PEM"))?;
        Skey::new(name, key)
    }

    /// The key in PKCS#8 PEM, version 1 (the seed alone), which OpenSSL 3 reads; version 2 it does not.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let bytes = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        #[expect(
            clippy::expect_used,
            reason = "32 bytes under a constant OID always encode, and the line ending is fixed"
        )]
        let pem = bytes.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 seed is encodable");
        pem
    }

    fn new(name: &str, key: SigningKey) -> Result<Skey, Refused> {
        let vkey = Vkey(PublicKey::new(name, ED25519, key.verifying_key())?);
        Ok(Skey { key, vkey })
    }

    /// The public half.
    pub fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// The signature line over `text`, with its newline.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.vkey.0.id.to_vec();
        signature.extend_from_slice(&self.sign_bytes(text.as_bytes()));
        format!("— {} {}\n", self.vkey.name(), to_base64(&signature))
    }

    /// The bare signature over `message`.
    pub(super) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The public half as that of a witness: the same key and name under the type of cosignatures, with that type's id.
    pub(super) fn witness_vkey(&self) -> WitnessVkey {
        let PublicKey { name, key, .. } = &self.vkey.0;
        WitnessVkey(PublicKey::of(name, COSIGNATURE, *key))
    }
}

impl fmt::Debug for Skey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Skey").field(&self.vkey).finish()
    }
}
