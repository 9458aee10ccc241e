//! C2SP signed notes: keys, signing, strict verification.
//!
//! A note is a text and lines that sign it; what the text says is not known here. Keys are in `key`, that of a witness
//! in `cosigner`.
//! Spec: c2sp.org/signed-note, c2sp.org/tlog-cosignature; format.md, "Tree, checkpoint, keys", which is stricter.

mod cosigner;
mod key;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::finding::Refused;
pub use cosigner::Cosigner;
pub use key::{Skey, Vkey, WitnessVkey};

/// The most bytes of a note, the limit of `Anchor.checkpoint`: text, signature and several hundred cosignatures.
pub const NOTE_BYTES_MAX: usize = 65_536;

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

impl fmt::Display for Signature<'_> {
    /// The line, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "— {} {}", self.name, to_base64(&[&self.id[..], &self.bytes].concat()))
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
