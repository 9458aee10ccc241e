//! The private key of a witness, which signs checkpoints of logs together with the time.
//!
//! Not a log's key, and never used as one: the message begins with a line of its own and the key's id with another
//! type, but one Ed25519 key under two names is still one secret. Spec: c2sp.org/tlog-cosignature, Ed25519.

use std::fmt;

use zeroize::Zeroizing;

use super::key::{Skey, WitnessVkey};
use super::to_base64;
use crate::core::finding::Refused;
use crate::core::time::Timestamp;

/// A witness's key with its name. It is wiped when dropped and shows only its public half.
pub struct Cosigner {
    key: Skey,
    vkey: WitnessVkey,
}

impl Cosigner {
    /// The key of a 32-byte seed (RFC 8032).
    ///
    /// # Errors
    /// `non-canonical` for a name no note can carry.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Cosigner, Refused> {
        Ok(Cosigner::new(Skey::from_seed(name, seed)?))
    }

    /// Reads an Ed25519 key as OpenSSL writes it: `PRIVATE KEY`, PKCS#8 in PEM.
    ///
    /// # Errors
    /// `non-canonical` for anything else; the reason never repeats what was read.
    pub fn from_pkcs8_pem(name: &str, pem: &str) -> Result<Cosigner, Refused> {
        Ok(Cosigner::new(Skey::from_pkcs8_pem(name, pem)?))
    }

    /// The key in PKCS#8 PEM.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        self.key.to_pkcs8_pem()
    }

    fn new(key: Skey) -> Cosigner {
        let vkey = key.witness_vkey();
        Cosigner { key, vkey }
    }

    /// The public half.
    pub fn vkey(&self) -> &WitnessVkey {
        &self.vkey
    }

    /// The cosignature line over the text of a checkpoint, with its newline: the text was, at `time` cut to the second,
    /// the largest tree of its log that this witness had seen. That this is so is the caller's business.
    pub fn cosign(&self, text: &str, time: Timestamp) -> String {
        let seconds = time.0 / 1_000_000;
        let mut signature = self.vkey.id().to_vec();
        signature.extend_from_slice(&seconds.to_be_bytes());
        signature.extend_from_slice(&self.key.sign_bytes(format!("cosignature/v1\ntime {seconds}\n{text}").as_bytes()));
        format!("— {} {}\n", self.vkey.name(), to_base64(&signature))
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cosigner").field(&self.vkey).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::finding::Code;
    use crate::core::note::Note;

    #[test]
    fn a_cosignature_verifies_with_its_time_and_its_text_only() {
        let witness = Cosigner::from_seed("witness.example/w1", &[3; 32]).unwrap();
        let log = Skey::from_seed("example.com/log", &[4; 32]).unwrap();
        let text = "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        let lines = log.sign(text) + &witness.cosign(text, Timestamp(1_679_315_147_999_999));
        let note = format!("{text}\n{lines}");
        let note = Note::parse(&note).unwrap();
        let vkey: WitnessVkey = witness.vkey().to_string().parse().unwrap();
        assert_eq!(vkey.verify(&note), Ok(vec![Timestamp(1_679_315_147_000_000)]), "to the second");
        let other = Note { text: "example.com/log\n1\n", signatures: note.signatures.clone() };
        assert_eq!(vkey.verify(&other).unwrap_err().code, Code::BadCosignature);
    }

    #[test]
    fn the_vector_is_signed_to_the_same_bytes() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/pinfold-v1/notes.json")).unwrap();
        let of = |list: &str, name: &str| {
            let all = vectors[list].as_array().unwrap();
            all.iter().find(|v| v["name"] == name).unwrap().clone()
        };
        let key = of("keys", "witness");
        let seed: crate::core::hash::Hash = key["seed"].as_str().unwrap().parse().unwrap();
        let name = key["vkey"].as_str().unwrap().split('+').next().unwrap();
        let witness = Cosigner::from_seed(name, &seed.0).unwrap();
        assert_eq!(witness.vkey().to_string(), key["vkey"].as_str().unwrap());
        let cosigned = of("good", "checkpoint with a cosignature")["note"].as_str().unwrap().to_owned();
        let text = Note::parse(&cosigned).unwrap().text;
        assert!(cosigned.ends_with(&witness.cosign(text, Timestamp(1_767_225_600_000_000))));
    }
}
