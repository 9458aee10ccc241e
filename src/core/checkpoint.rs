//! The signed statements about a tree: checkpoint and live head.
//!
//! A checkpoint stands in a seal and is shown to the world once a pin target holds the segment; a live head is for
//! the journal and its head file alone. One can never pass for the other. Spec: c2sp.org/tlog-checkpoint without
//! extension lines; format.md, "Tree, checkpoint, keys".

use super::finding::{Code, Refused};
use super::hash::Hash;
use super::note::{Note, Skey, Vkey, from_base64, sign_note, to_base64};
use super::origin::Origin;
use super::seq::{Size, UINT_MAX};

/// The first line of a live head. No origin begins with `pinfold/`, so no checkpoint has it.
const LIVE: &str = "pinfold/v1/live\n";

/// What both statements say: the log `origin` had `size` entries, and their tree this root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The log.
    pub origin: Origin,
    /// The number of entries.
    pub size: Size,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Head {
    /// The text of a checkpoint.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, to_base64(&self.root.0))
    }

    /// Reads exactly the text of a checkpoint.
    ///
    /// # Errors
    /// `non-canonical`, also for extension lines.
    pub fn from_text(text: &str) -> Result<Head, Refused> {
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or_default().split('\n').collect();
        let [origin, size, root] = lines.as_slice() else {
            return Err(Refused::non_canonical("checkpoint: not the three lines origin, size, root"));
        };
        Ok(Head { origin: Origin::new(origin)?, size: Size(read_uint(size)?), root: read_hash(root)? })
    }
}

/// Which of the two a note is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Signed at a seal.
    Checkpoint,
    /// Signed at each commit, never shown.
    Live,
}

/// A checkpoint or live head that was read and not verified: nobody may be told what it says before that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement<'a> {
    /// What it says.
    pub head: Head,
    /// Which of the two it is.
    pub form: Form,
    /// The note it was read from, with all its signature lines.
    pub note: Note<'a>,
}

impl<'a> Statement<'a> {
    /// Reads either statement.
    ///
    /// # Errors
    /// `non-canonical`.
    pub fn parse(note: &'a str) -> Result<Statement<'a>, Refused> {
        let note = Note::parse(note)?;
        let (form, text) = match note.text.strip_prefix(LIVE) {
            Some(text) => (Form::Live, text),
            None => (Form::Checkpoint, note.text),
        };
        Ok(Statement { head: Head::from_text(text)?, form, note })
    }

    /// Verifies the log's line; those of witnesses are not looked at.
    ///
    /// # Errors
    /// `wrong-origin` where the key is another log's, and those of [`Vkey::verify`].
    pub fn verify(&self, vkey: &Vkey) -> Result<(), Refused> {
        if self.head.origin.as_str() != vkey.name() {
            let what = format!("checkpoint: of {}, the key is of {}", self.head.origin, vkey.name());
            return Err(Refused::new(Code::WrongOrigin, what));
        }
        vkey.verify(&self.note)
    }

    /// Whether one key signed and nobody else: a checkpoint as a seal has it.
    pub fn has_one_line(&self) -> bool {
        self.note.signatures.len() == 1
    }
}

/// The checkpoint of `head`, one signature line.
///
/// # Panics
/// If the key is not of this log: such a note would be refused by everybody, so it must not be written.
pub fn sign_checkpoint(head: &Head, key: &Skey) -> String {
    sign(&head.text(), head, key)
}

/// The live head of `head`, one signature line.
///
/// # Panics
/// If the key is not of this log.
pub fn sign_live(head: &Head, key: &Skey) -> String {
    sign(&format!("{LIVE}{}", head.text()), head, key)
}

fn sign(text: &str, head: &Head, key: &Skey) -> String {
    assert_eq!(key.vkey().name(), head.origin.as_str(), "a log signs under its own name");
    sign_note(text, &[key])
}

/// Reads and verifies a checkpoint as a seal has it: one signature line.
///
/// # Errors
/// `non-canonical`, `wrong-origin`, `unknown-key`, `bad-signature`.
pub fn open_checkpoint(note: &str, vkey: &Vkey) -> Result<Head, Refused> {
    open_one_line(note, vkey, Form::Checkpoint)
}

/// Reads and verifies a released checkpoint, which may carry cosignatures.
///
/// # Errors
/// `non-canonical`, `wrong-origin`, `unknown-key`, `bad-signature`.
pub fn open_cosigned(note: &str, vkey: &Vkey) -> Result<Head, Refused> {
    let statement = Statement::parse(note)?;
    check_form(&statement, Form::Checkpoint)?;
    statement.verify(vkey)?;
    Ok(statement.head)
}

/// Reads and verifies a live head: one signature line.
///
/// # Errors
/// `non-canonical`, `wrong-origin`, `unknown-key`, `bad-signature`.
pub fn open_live(note: &str, vkey: &Vkey) -> Result<Head, Refused> {
    open_one_line(note, vkey, Form::Live)
}

fn open_one_line(note: &str, vkey: &Vkey, form: Form) -> Result<Head, Refused> {
    let statement = Statement::parse(note)?;
    check_form(&statement, form)?;
    if !statement.has_one_line() {
        return Err(Refused::non_canonical("checkpoint: more than one signature line"));
    }
    statement.verify(vkey)?;
    Ok(statement.head)
}

fn check_form(statement: &Statement<'_>, form: Form) -> Result<(), Refused> {
    match (statement.form, form) {
        (Form::Live, Form::Checkpoint) => Err(Refused::non_canonical("checkpoint: this is a live head")),
        (Form::Checkpoint, Form::Live) => Err(Refused::non_canonical("live head: this is a checkpoint")),
        _ => Ok(()),
    }
}

/// Reads a `uint` in decimal, without a sign and without leading zeros.
pub(crate) fn read_uint(text: &str) -> Result<u64, Refused> {
    let number = text.parse::<u64>().ok().filter(|number| *number <= UINT_MAX && number.to_string() == text);
    number.ok_or_else(|| Refused::non_canonical("a number that is not a decimal uint"))
}

/// Reads a hash in base64.
pub(crate) fn read_hash(text: &str) -> Result<Hash, Refused> {
    let bytes = from_base64(text)?.try_into().map_err(|_| Refused::non_canonical("a hash that is not 32 bytes"))?;
    Ok(Hash(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/pinfold-v1/notes.json");

    #[derive(serde::Deserialize)]
    struct Vectors {
        keys: Vec<KeyVector>,
        good: Vec<GoodVector>,
        bad_checkpoints: Vec<BadVector>,
    }

    #[derive(serde::Deserialize)]
    struct KeyVector {
        seed: String,
    }

    #[derive(serde::Deserialize)]
    struct GoodVector {
        name: String,
        note: String,
    }

    #[derive(serde::Deserialize)]
    struct BadVector {
        name: String,
        note: String,
        code: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(VECTORS).unwrap()
    }

    fn key() -> Skey {
        let key = vectors().keys.remove(0);
        Skey::from_seed("example.com/audit/main", &key.seed.parse::<Hash>().unwrap().0).unwrap()
    }

    fn good(name: &str) -> String {
        vectors().good.into_iter().find(|v| v.name == name).unwrap().note
    }

    #[test]
    fn the_vectors_open_and_are_signed_to_the_same_bytes() {
        let key = key();
        let (checkpoint, live) = (good("checkpoint"), good("live head"));
        let head = open_checkpoint(&checkpoint, key.vkey()).unwrap();
        assert_eq!(head.size, Size(300));
        assert_eq!(sign_checkpoint(&head, &key), checkpoint);
        let head = open_live(&live, key.vkey()).unwrap();
        assert_eq!(head.size, Size(301));
        assert_eq!(sign_live(&head, &key), live);
    }

    #[test]
    fn cosignatures_are_taken_where_a_released_checkpoint_is_read_and_only_there() {
        let (key, cosigned) = (key(), good("checkpoint with a cosignature"));
        assert_eq!(open_cosigned(&cosigned, key.vkey()), open_checkpoint(&good("checkpoint"), key.vkey()));
        assert_eq!(open_checkpoint(&cosigned, key.vkey()).unwrap_err().code, Code::NonCanonical);
    }

    #[test]
    fn one_statement_never_passes_for_the_other() {
        let (key, checkpoint, live) = (key(), good("checkpoint"), good("live head"));
        assert_eq!(open_checkpoint(&live, key.vkey()).unwrap_err().code, Code::NonCanonical);
        assert_eq!(open_cosigned(&live, key.vkey()).unwrap_err().code, Code::NonCanonical);
        assert_eq!(open_live(&checkpoint, key.vkey()).unwrap_err().code, Code::NonCanonical);
        // The signature covers the first line: without it the rest is not signed.
        let without = live.strip_prefix(LIVE).unwrap();
        assert_eq!(open_checkpoint(without, key.vkey()).unwrap_err().code, Code::BadSignature);
    }

    #[test]
    fn the_bad_checkpoints_are_refused_with_their_codes() {
        let bad = vectors().bad_checkpoints;
        assert_eq!(bad.len(), 14);
        for v in bad {
            let refused = open_checkpoint(&v.note, key().vkey()).unwrap_err();
            assert_eq!(refused.code.as_str(), v.code, "{}: {refused}", v.name);
        }
    }

    #[test]
    fn a_checkpoint_of_another_log_is_told_from_a_bad_one() {
        let head = Head { origin: Origin::new("other/log").unwrap(), size: Size(0), root: Hash::EMPTY_ROOT };
        let other = Skey::from_seed("other/log", &[7; 32]).unwrap();
        let note = sign_checkpoint(&head, &other);
        assert_eq!(open_checkpoint(&note, other.vkey()), Ok(head));
        assert_eq!(open_checkpoint(&note, key().vkey()).unwrap_err().code, Code::WrongOrigin);
    }

    #[test]
    fn heads_that_are_spelled_otherwise_are_refused() {
        let root = to_base64(&Hash::EMPTY_ROOT.0);
        assert!(Head::from_text(&format!("a.b\n{UINT_MAX}\n{root}\n")).is_ok());
        for bad in [
            String::new(),
            format!("a.b\n0\n{root}"),
            format!("a.b\n\n{root}\n"),
            format!("a.b\n00\n{root}\n"),
            format!("a.b\n+1\n{root}\n"),
            format!("a.b\n-0\n{root}\n"),
            format!("a.b\n{}\n{root}\n", UINT_MAX + 1),
            format!("a.b\n99999999999999999999\n{root}\n"),
            format!("A.b\n0\n{root}\n"),
            format!("a.b\n0\n{root}\n\n"),
            format!("a.b\n0\n{}\n", to_base64(&[0; 31])),
        ] {
            assert_eq!(Head::from_text(&bad).unwrap_err().code, Code::NonCanonical, "{bad:?}");
        }
    }
}
