//! C2SP signed notes: keys, signing, strict verification.
//!
//! A note is a text and lines that sign it; what the text says is not known here. The only file that names the
//! Ed25519 crate, and no private key leaves it. Not for witnesses: their lines are verified, never made.
//! Spec: c2sp.org/signed-note, c2sp.org/tlog-cosignature; format.md, "Tree, checkpoint, keys", which is stricter.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::finding::{Code, Refused};
use super::hash::Hash;
use super::time::Timestamp;

/// The most bytes of a note, the limit of `Anchor.checkpoint`: text, signature and several hundred cosignatures.
pub const NOTE_BYTES_MAX: usize = 65_536;

/// The signature type of a log's own lines, and of every Pinfold note.
const ED25519: u8 = 0x01;
/// The signature type of a witness: a time, and a signature over that time and the checkpoint.
const COSIGNATURE: u8 = 0x04;

/// A signed text as it stands, nothing verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note<'a> {
    /// What is signed, with its last newline.
    pub text: &'a str,
    /// The lines below it, in their order; at least one.
    pub signatures: Vec<Signature<'a>>,
}

/// One signature line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature<'a> {
    /// The name of the key.
    pub name: &'a str,
    /// The id of the key: four bytes of a hash, a hint and no proof.
    pub id: [u8; 4],
    /// The signature, as its type has it; at least one byte.
    pub bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Takes a note apart.
    ///
    /// # Errors
    /// `non-canonical` for whatever a conforming writer would not have written.
    pub fn parse(note: &'a str) -> Result<Note<'a>, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("note: {what}"));
        if note.len() > NOTE_BYTES_MAX {
            return Err(refused("longer than 65,536 bytes"));
        }
        if note.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(refused("a control character"));
        }
        // The text may hold empty lines itself: the last one is the border.
        let (text, lines) = note
            .rfind("\n\n")
            .and_then(|at| note.split_at_checked(at + 1))
            .ok_or_else(|| refused("no empty line before the signatures"))?;
        let lines = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or_else(|| refused("no signature line, or no newline at the end"))?;
        let signatures = lines.split('\n').map(Signature::parse).collect::<Result<_, _>>()?;
        Ok(Note { text, signatures })
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Result<Signature<'a>, Refused> {
        let refused = || Refused::non_canonical("note: a signature line that is not `— name base64`");
        let (name, signature) = line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or_else(refused)?;
        check_name(name)?;
        let signature = from_base64(signature)?;
        match signature.split_first_chunk::<4>() {
            Some((id, bytes)) if !bytes.is_empty() => Ok(Signature { name, id: *id, bytes: bytes.to_vec() }),
            _ => Err(refused()),
        }
    }
}

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
        let hash = Hash::of_all(&[name.as_bytes(), b"\n", &[kind], key.as_bytes()]);
        let [a, b, c, d, ..] = hash.0;
        Ok(PublicKey { name: name.to_owned(), id: [a, b, c, d], kind, key })
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
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("— {} {}\n", self.vkey.name(), to_base64(&signature))
    }
}

impl fmt::Debug for Skey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Skey").field(&self.vkey).finish()
    }
}

/// The note of `text` (which ends in a newline) signed by `keys`, in their order.
pub fn sign_note(text: &str, keys: &[&Skey]) -> String {
    let lines: String = keys.iter().map(|key| key.sign(text)).collect();
    format!("{text}\n{lines}")
}

/// Names are not empty and hold no space and no plus; control characters no note may hold at all.
fn check_name(name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        return Err(Refused::non_canonical("note: a key name that is empty or holds a space or a plus"));
    }
    Ok(())
}

/// Base64 as every text of the format has it: standard alphabet, padded, unused bits zero.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads base64, and only the one spelling of these bytes.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, Refused> {
    STANDARD.decode(text).map_err(|e| Refused::non_canonical(format!("base64: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/pinfold-v1/notes.json");

    #[derive(serde::Deserialize)]
    struct Vectors {
        keys: Vec<KeyVector>,
        good: Vec<GoodVector>,
        small_order_vkey: String,
    }

    #[derive(serde::Deserialize)]
    struct KeyVector {
        name: String,
        seed: String,
        vkey: String,
    }

    #[derive(serde::Deserialize)]
    struct GoodVector {
        name: String,
        note: String,
        signed_by: Vec<String>,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(VECTORS).unwrap()
    }

    /// The keys of the vectors but the witness's, which is of another type.
    fn keys() -> Vec<(Skey, String)> {
        let plain = vectors().keys.into_iter().filter(|v| v.name != "witness");
        plain
            .map(|v| {
                let seed: Hash = v.seed.parse().unwrap();
                let name = v.vkey.split('+').next().unwrap().to_owned();
                (Skey::from_seed(&name, &seed.0).unwrap(), v.vkey)
            })
            .collect()
    }

    fn code<T: fmt::Debug>(result: Result<T, Refused>) -> Code {
        result.unwrap_err().code
    }

    #[test]
    fn a_seed_gives_its_vkey_and_the_vkey_reads_back() {
        assert_eq!(keys().len(), 5);
        for (key, vkey) in keys() {
            assert_eq!(key.vkey().to_string(), vkey);
            assert_eq!(vkey.parse::<Vkey>().unwrap(), *key.vkey());
        }
    }

    #[test]
    fn the_good_notes_verify_and_are_signed_to_the_same_bytes() {
        for v in vectors().good {
            let note = Note::parse(&v.note).unwrap();
            assert_eq!(note.signatures.len(), v.signed_by.len(), "{}", v.name);
            let mut signers = Vec::new();
            for vkey in &v.signed_by {
                if let Ok(witness) = vkey.parse::<WitnessVkey>() {
                    assert_eq!(witness.verify(&note), Ok(vec![Timestamp(1_767_225_600_000_000)]), "{}", v.name);
                } else {
                    vkey.parse::<Vkey>().unwrap().verify(&note).unwrap();
                    signers.extend(keys().into_iter().find(|(_, known)| known == vkey).map(|(key, _)| key));
                }
            }
            let signed = sign_note(note.text, &signers.iter().collect::<Vec<_>>());
            assert!(v.note.starts_with(&signed), "{}", v.name);
        }
    }

    #[test]
    fn a_changed_bit_anywhere_in_a_cosignature_or_under_it_is_noticed() {
        let v = vectors().good.into_iter().find(|v| v.signed_by.len() == 2 && v.name.contains("cosignature")).unwrap();
        let witness: WitnessVkey = v.signed_by[1].parse().unwrap();
        let line = |bytes: Vec<u8>| Signature { name: "witness.example", id: witness.0.id, bytes };
        let sound = Note::parse(&v.note).unwrap();
        for at in 0..sound.signatures[1].bytes.len() {
            let mut bytes = sound.signatures[1].bytes.clone();
            bytes[at] ^= 4;
            let note = Note { text: sound.text, signatures: vec![line(bytes)] };
            assert_eq!(code(witness.verify(&note)), Code::BadCosignature, "byte {at}");
        }
        for bytes in [vec![1], vec![0; 7], sound.signatures[1].bytes[..71].to_vec()] {
            let note = Note { text: sound.text, signatures: vec![line(bytes)] };
            assert_eq!(code(witness.verify(&note)), Code::BadCosignature);
        }
        let other = Note { text: "another text\n", signatures: sound.signatures.clone() };
        assert_eq!(code(witness.verify(&other)), Code::BadCosignature);
        // The log's own line is no cosignature, and a witness that did not sign gives no time.
        let alone = Note { text: sound.text, signatures: sound.signatures[..1].to_vec() };
        assert_eq!(witness.verify(&alone), Ok(vec![]));
    }

    #[test]
    fn vkeys_that_no_strict_verifier_takes_are_refused() {
        assert_eq!(code(vectors().small_order_vkey.parse::<Vkey>()), Code::NonCanonical);
        let vkey = |name: &str, key: &[u8]| {
            let hash = Hash::of_all(&[name.as_bytes(), b"\n", key]);
            format!("{name}+{}+{}", hex::encode(&hash.0[..4]), to_base64(key))
        };
        // y = 3 is a point of full order; p + 3 is a second spelling of it that the curve library reads.
        let mut twin = [0xff; 33];
        (twin[0], twin[1], twin[32]) = (1, 0xf0, 0x7f);
        assert!(VerifyingKey::from_bytes(twin[1..].try_into().unwrap()).is_ok());
        assert_eq!(code(vkey("a.b", &twin).parse::<Vkey>()), Code::NonCanonical);
        let mut three = [0; 33];
        (three[0], three[1]) = (1, 3);
        assert!(vkey("a.b", &three).parse::<Vkey>().is_ok());
        for bad in [
            vkey("a.b", &three[..32]),
            vkey("a.b", &[&three[..], &[0]].concat()),
            vkey("", &three),
            vkey("a b", &three),
            vkey("a.b", &three).replace("a.b", "a.c"),
            vkey("a.b", &three).to_uppercase(),
            vkey("a.b", &three) + "=",
            vkey("a.b", &three).replace('+', " "),
            "a.b".to_owned(),
            String::new(),
        ] {
            assert_eq!(code(bad.parse::<Vkey>()), Code::NonCanonical, "{bad}");
        }
        // A log's key is no witness, and a witness's key is no log's.
        let witness = vectors().keys.into_iter().find(|v| v.name == "witness").unwrap().vkey;
        assert_eq!(code(witness.parse::<Vkey>()), Code::NonCanonical);
        assert_eq!(code(keys()[0].1.parse::<WitnessVkey>()), Code::NonCanonical);
    }

    #[test]
    fn texts_that_are_no_note_are_refused() {
        let (key, _) = keys().remove(0);
        let line = key.sign("text\n");
        assert!(Note::parse(&format!("text\n\n{line}")).is_ok());
        // An empty line in the text is text; the last one is the border.
        assert_eq!(Note::parse(&format!("text\n\n\n{line}")).unwrap().text, "text\n\n");
        for bad in [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            "text\n\n\n".to_owned(),
            format!("text\n{line}"),
            format!("text\n\n{}", line.trim_end()),
            format!("text\n\n{line}\n"),
            format!("te\txt\n\n{line}"),
            format!("text\n\n{}", line.replace("— ", "—")),
            format!("text\n\n{}", line.replace("— ", "—  ")),
            format!("text\n\n{}", line.replace('=', "")),
            "text\n\n— name AAAAAA==\n".to_owned(),
            format!("{}\n\n{line}", "x".repeat(NOTE_BYTES_MAX)),
        ] {
            assert_eq!(code(Note::parse(&bad)), Code::NonCanonical, "{:.80}", bad);
        }
        assert!(Note::parse("text\n\n— name AAAAAAA=\n").is_ok());
    }

    #[test]
    fn two_lines_of_one_key_and_none_of_it_are_told_apart() {
        let (key, _) = keys().remove(0);
        let (other, _) = keys().remove(1);
        let verify = |lines: &[&Skey]| key.vkey().verify(&Note::parse(&sign_note("text\n", lines)).unwrap());
        assert_eq!(verify(&[&key]), Ok(()));
        assert_eq!(verify(&[&other, &key]), Ok(()));
        assert_eq!(code(verify(&[&other])), Code::UnknownKey);
        assert_eq!(code(verify(&[&key, &key])), Code::NonCanonical);
    }

    #[test]
    fn key_files_round_trip_in_the_form_openssl_writes() {
        let (key, _) = keys().remove(0);
        let pem = key.to_pkcs8_pem();
        assert_eq!(
            *pem,
            "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VwBCIEIN47vL3FAhCuyEPyG9BQmDUoDwPkljIxz4j3UkvCYFf6\n\
             -----END PRIVATE KEY-----\n"
        );
        let read = Skey::from_pkcs8_pem(key.vkey().name(), &pem).unwrap();
        assert_eq!(read.sign("text\n"), key.sign("text\n"));
        for bad in ["", &pem[..60], &pem.replace("PRIVATE", "PUBLIC"), &pem.replace("BQYDK2VwBCIE", "BQYDK2VuBCIE")] {
            let refused = Skey::from_pkcs8_pem("a.b", bad).unwrap_err();
            assert_eq!(refused.code, Code::NonCanonical);
            assert!(!refused.to_string().contains("MC4C"), "{refused}");
        }
        assert!(!format!("{key:?}").contains(&hex::encode(key.key.to_bytes())));
    }
}
