//! The proof that one checkpoint of a log continues another, with both, as a text of its own.
//!
//! ```text
//! pinfold/v1/consistency
//! <base64 hash>, one a line
//!
//! <the older checkpoint, a note>
//!
//! <the newer checkpoint, a note>
//! ```
//!
//! Not part of the log: nothing is kept in this form. C2SP has no file for it; the hashes are those of RFC 6962 section
//! 2.1.2 and the notes are c2sp.org/tlog-checkpoint, so any reader of both needs two lines of code for the rest.

use super::super::checkpoint::{Form, Head, Statement, read_hash};
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::merkle::verify_consistency;
use super::super::note::{Vkey, to_base64};
use super::signer_among;

/// The first line.
pub const FIRST_LINE: &str = "pinfold/v1/consistency\n";
/// More hashes than any proof has: two a level.
const HASHES_MAX: usize = 2 * 53;

/// A consistency proof as a file, nothing verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consistency {
    /// The proof, as RFC 6962 orders it.
    pub hashes: Vec<Hash>,
    /// The older checkpoint as a note, cosignatures allowed.
    pub old: String,
    /// The newer one.
    pub new: String,
}

impl Consistency {
    /// Reads a file.
    ///
    /// # Errors
    /// `non-canonical`.
    pub fn parse(text: &str) -> Result<Consistency, Refused> {
        let rest = text.strip_prefix(FIRST_LINE).ok_or_else(|| refused("not pinfold/v1/consistency"))?;
        let (hashes, notes) = match rest.strip_prefix('\n') {
            Some(notes) => ("", notes),
            None => rest.split_once("\n\n").ok_or_else(|| refused("no empty line"))?,
        };
        let hashes =
            hashes.split('\n').filter(|line| !line.is_empty()).map(read_hash).collect::<Result<Vec<_>, _>>()?;
        let blocks: Vec<&str> = notes.split("\n\n").collect();
        let [old, old_lines, new, new_lines] = blocks.as_slice() else { return Err(refused("not two notes")) };
        let (old, new) = (format!("{old}\n\n{old_lines}\n"), format!("{new}\n\n{new_lines}"));
        let consistency = Consistency { hashes, old, new };
        match consistency.hashes.len() <= HASHES_MAX && consistency.to_text() == text {
            true => Ok(consistency),
            false => Err(refused("another spelling")),
        }
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!("{}\n", to_base64(&hash.0))).collect();
        format!("{FIRST_LINE}{hashes}\n{}\n{}", self.old, self.new)
    }

    /// Checks everything: both signatures, each by one of `vkeys`, that both are of one log, and the proof.
    ///
    /// # Errors
    /// Those of the checkpoints; `wrong-origin` for two logs, `seq-gap` where the second is the smaller, `forked` where
    /// the second does not continue the first.
    pub fn check(&self, vkeys: &[Vkey]) -> Result<(Head, Head), Refused> {
        let (old, new) = (open(&self.old, vkeys)?, open(&self.new, vkeys)?);
        if old.origin != new.origin {
            return Err(Refused::new(Code::WrongOrigin, format!("consistency: of {} and {}", old.origin, new.origin)));
        }
        if old.size > new.size {
            return Err(Refused::new(Code::SeqGap, format!("consistency: from {} to {}", old.size, new.size)));
        }
        match verify_consistency(old.size, old.root, new.size, new.root, &self.hashes) {
            true => Ok((old, new)),
            false => {
                let what = format!("consistency: the tree of {} does not continue that of {}", new.size, old.size);
                Err(Refused::new(Code::Forked, what))
            }
        }
    }
}

fn open(note: &str, vkeys: &[Vkey]) -> Result<Head, Refused> {
    let statement = Statement::parse(note)?;
    if statement.form == Form::Live {
        return Err(refused("a live head"));
    }
    statement.verify(signer_among(&statement, vkeys)?)?;
    Ok(statement.head)
}

fn refused(what: &str) -> Refused {
    Refused::non_canonical(format!("consistency: {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::super::checkpoint::sign_checkpoint;
    use super::super::super::merkle::{consistency_proof, nodes_of, root_of};
    use super::super::super::note::Skey;
    use super::super::super::origin::Origin;
    use super::super::super::seq::Size;
    use super::*;

    const ORIGIN: &str = "example.com/log";

    fn keys() -> [Skey; 2] {
        [1, 2].map(|seed| Skey::from_seed(ORIGIN, &[seed; 32]).unwrap())
    }

    /// From 3 to 7 entries, the key changed in between.
    fn sound(old: u64) -> Consistency {
        let leaves: Vec<Hash> = (0u8..7).map(|n| Hash::leaf(&[n])).collect();
        let note = |size: u64, key: &Skey| {
            let root = root_of(&leaves[..usize::try_from(size).unwrap()]);
            sign_checkpoint(&Head { origin: Origin::new(ORIGIN).unwrap(), size: Size(size), root }, key)
        };
        let hashes = consistency_proof(Size(old), Size(7), nodes_of(&leaves)).unwrap();
        let [first, second] = keys();
        Consistency { hashes, old: note(old, &first), new: note(7, &second) }
    }

    fn vkeys() -> Vec<Vkey> {
        keys().iter().map(|key| key.vkey().clone()).collect()
    }

    #[test]
    fn it_reads_back_and_holds_by_the_keys_of_both_ends() {
        for old in 1..=7 {
            let text = sound(old).to_text();
            let read = Consistency::parse(&text).unwrap();
            assert_eq!(read, sound(old), "{text}");
            let (from, to) = read.check(&vkeys()).unwrap();
            assert_eq!((from.size, to.size), (Size(old), Size(7)));
        }
        let only_first = sound(3).check(&vkeys()[..1]).unwrap_err();
        assert_eq!(only_first.code, Code::UnknownKey);
    }

    #[test]
    fn any_changed_character_is_noticed() {
        let text = sound(3).to_text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = std::str::from_utf8(&bytes) {
                let checked = Consistency::parse(changed).and_then(|read| read.check(&vkeys()));
                assert!(checked.is_err(), "byte {at}");
            }
        }
        for cut in 0..text.len() {
            if let Some(cut) = text.get(..cut) {
                assert!(Consistency::parse(cut).and_then(|read| read.check(&vkeys())).is_err());
            }
        }
    }

    #[test]
    fn a_fork_and_a_shrunk_log_are_told_from_bad_signatures() {
        let (first, second) = (sound(3), sound(5));
        let forked = Consistency { hashes: second.hashes.clone(), ..first.clone() };
        assert_eq!(forked.check(&vkeys()).unwrap_err().code, Code::Forked);
        let shrunk = Consistency { old: first.new.clone(), new: first.old.clone(), ..first };
        assert_eq!(shrunk.check(&vkeys()).unwrap_err().code, Code::SeqGap);
        assert_eq!(second.check(&[]).unwrap_err().code, Code::Unreachable);
    }
}
