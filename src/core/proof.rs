//! What leaves the log alone: `.tlog-proof` files and the disclosure of one part.
//!
//! A proof shows that a leaf is in the tree of a signed checkpoint; a disclosure shows beside it what one of the
//! leaf's parts says. Both are checked with public keys alone. Not what belongs together in a tar: that is
//! [`evidence`]. Spec: c2sp.org/tlog-proof; format.md, Segment, "Disclosure".

pub mod bundle;
pub mod consistency;
pub mod erasure;
pub mod evidence;
pub mod tar;

use serde::Serialize;

use super::checkpoint::{Form, Head, Statement, read_hash, read_uint};
use super::codec::{self, Cursor};
use super::finding::{Code, Refused};
use super::hash::Hash;
use super::leaf::Leaf;
use super::merkle::verify_inclusion;
use super::note::{Vkey, from_base64, to_base64};
use super::part::{Place, commits_to};
use super::seq::Seq;

/// The first line of a proof.
pub const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1\n";

/// A `.tlog-proof` file, nothing verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The leaf, and what is disclosed of it. The checkpoint does not sign it: it is checked against the tree.
    pub extra: Extra,
    /// Where the leaf stands in the tree.
    pub index: Seq,
    /// The inclusion proof, from the leaf's sibling upwards.
    pub hashes: Vec<Hash>,
    /// A released checkpoint as a note, cosignatures allowed.
    pub checkpoint: String,
}

/// The `extra` of a proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extra {
    /// The leaf alone.
    Leaf {
        /// Its bytes.
        leaf: Vec<u8>,
    },
    /// The leaf and one part of it, opened.
    Disclosure(Disclosure),
}

/// One part of an entry, opened so that anyone can check it against its commitment.
///
/// Its debug form is its place alone: a body is personal.
#[derive(Clone, PartialEq, Eq)]
pub struct Disclosure {
    /// The random bytes the commitment hides the body with.
    pub r: [u8; 32],
    /// The body of the part, after decompression.
    pub body: Vec<u8>,
    /// The bytes of the leaf.
    pub leaf: Vec<u8>,
    /// The index in the leaf's `parts`.
    pub part: u32,
}

impl std::fmt::Debug for Disclosure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disclosure").field("part", &self.part).finish_non_exhaustive()
    }
}

/// What a proof that holds has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The checkpoint.
    pub head: Head,
    /// The entry.
    pub leaf: Leaf,
    /// What was disclosed of it, if anything: it is what the leaf commits to.
    pub disclosed: Option<Disclosure>,
}

impl Proof {
    /// Reads a proof with the `extra` of the format.
    ///
    /// # Errors
    /// `non-canonical`.
    pub fn parse(text: &str) -> Result<Proof, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("proof: {what}"));
        let rest = text.strip_prefix(FIRST_LINE).ok_or_else(|| refused("not c2sp.org/tlog-proof@v1"))?;
        let (lines, checkpoint) = rest.split_once("\n\n").ok_or_else(|| refused("no empty line"))?;
        let mut lines = lines.split('\n');
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.ok_or_else(|| refused(&format!("no line `{}`", name.trim_end())))
        };
        let extra = Extra::decode(&from_base64(field("extra ")?)?)?;
        let index = Seq(read_uint(field("index ")?)?);
        let hashes = lines.map(read_hash).collect::<Result<_, _>>()?;
        Ok(Proof { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!("{}\n", to_base64(&hash.0))).collect();
        let extra = to_base64(&self.extra.encode());
        format!("{FIRST_LINE}extra {extra}\nindex {}\n{hashes}\n{}", self.index, self.checkpoint)
    }

    /// Checks everything: the checkpoint by the log's key of its size, the leaf by the tree, what is disclosed by
    /// the leaf.
    ///
    /// # Errors
    /// Those of the checkpoint and of the leaf; `seq-gap` where the leaf says another place than `index`, `leaf-hash`
    /// where it is not in the tree, `commitment` where the part says something else, `non-canonical` without that part.
    pub fn check(&self, vkey: &Vkey) -> Result<Proven, Refused> {
        let statement = self.statement()?;
        statement.verify(vkey)?;
        self.check_under(&statement.head)
    }

    /// Checks the proof under the head its checkpoint names, without looking at who signed it: for whoever made it.
    ///
    /// # Errors
    /// As [`Proof::check`], signatures aside.
    pub fn check_opening(&self) -> Result<(), Refused> {
        let head = self.statement()?.head;
        self.check_under(&head).map(|_| ())
    }

    /// Whether it opens a part.
    pub fn discloses(&self) -> bool {
        matches!(self.extra, Extra::Disclosure(_))
    }

    /// Reads the checkpoint; nothing is verified.
    pub(super) fn statement(&self) -> Result<Statement<'_>, Refused> {
        let statement = Statement::parse(&self.checkpoint)?;
        match statement.form {
            Form::Checkpoint => Ok(statement),
            Form::Live => Err(Refused::non_canonical("proof: under a live head")),
        }
    }

    /// Checks the proof under a head that is known to be the log's.
    pub(super) fn check_under(&self, head: &Head) -> Result<Proven, Refused> {
        let bytes = self.extra.leaf();
        let leaf = Leaf::decode(bytes)?;
        if leaf.seq != self.index {
            let what = format!("proof: of index {}, the leaf is {}", self.index, leaf.seq);
            return Err(Refused::new(Code::SeqGap, what));
        }
        if !verify_inclusion(Hash::leaf(bytes), self.index, head.size, &self.hashes, head.root) {
            let what = format!("proof: leaf {} is not in the tree of {}", leaf.seq, head.size);
            return Err(Refused::new(Code::LeafHash, what));
        }
        let disclosed = match &self.extra {
            Extra::Leaf { .. } => None,
            Extra::Disclosure(disclosure) => {
                disclosure.check(head, &leaf)?;
                Some(disclosure.clone())
            }
        };
        Ok(Proven { head: head.clone(), leaf, disclosed })
    }
}

impl Extra {
    /// The bytes of the leaf.
    pub fn leaf(&self) -> &[u8] {
        match self {
            Extra::Leaf { leaf } | Extra::Disclosure(Disclosure { leaf, .. }) => leaf,
        }
    }

    fn encode(&self) -> Vec<u8> {
        // Fields in wire order: the shorter key first, then bytewise.
        #[derive(Serialize)]
        struct Bare<'a> {
            #[serde(with = "serde_bytes")]
            leaf: &'a [u8],
        }
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(with = "serde_bytes")]
            r: &'a [u8],
            #[serde(with = "serde_bytes")]
            body: &'a [u8],
            #[serde(with = "serde_bytes")]
            leaf: &'a [u8],
            part: u32,
        }
        match self {
            Extra::Leaf { leaf } => codec::encode(&Bare { leaf }),
            Extra::Disclosure(Disclosure { r, body, leaf, part }) => {
                codec::encode(&Whole { r, body, leaf, part: *part })
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Extra, Refused> {
        let mut cursor = Cursor::new(bytes);
        let extra = match cursor.map()? {
            1 => {
                cursor.key("leaf")?;
                Extra::Leaf { leaf: cursor.bytes()?.to_vec() }
            }
            4 => {
                cursor.key("r")?;
                let r = cursor.hash()?.0;
                cursor.key("body")?;
                let body = cursor.bytes()?.to_vec();
                cursor.key("leaf")?;
                let leaf = cursor.bytes()?.to_vec();
                cursor.key("part")?;
                let part = u32::try_from(cursor.uint()?).map_err(|_| no_such_part())?;
                Extra::Disclosure(Disclosure { r, body, leaf, part })
            }
            _ => return Err(Refused::non_canonical("proof: an extra that is neither a leaf nor a disclosure")),
        };
        cursor.end()?;
        Ok(extra)
    }
}

impl Disclosure {
    fn check(&self, head: &Head, leaf: &Leaf) -> Result<(), Refused> {
        let index = usize::try_from(self.part).map_err(|_| no_such_part())?;
        let part = leaf.parts.get(index).ok_or_else(no_such_part)?;
        let place = Place { oid: head.origin.oid(), seq: leaf.seq, part: self.part };
        if !commits_to(&place, &self.r, &self.body, part.commitment) {
            let what = format!("proof: part {} of entry {} says something else", self.part, leaf.seq);
            return Err(Refused::new(Code::Commitment, what));
        }
        Ok(())
    }
}

/// Which of the verifier's vkeys signed: the one a line names. Several, because a log's key changes.
///
/// # Errors
/// `unreachable` where he has none, `wrong-origin` where none is of this log, `unknown-key` where none is named.
pub fn signer_among<'a>(statement: &Statement<'_>, vkeys: &'a [Vkey]) -> Result<&'a Vkey, Refused> {
    let origin = statement.head.origin.as_str();
    let is_named = |vkey: &&Vkey| statement.note.signatures.iter().any(|line| vkey.is_named_by(line));
    let of_log = || vkeys.iter().filter(|vkey| vkey.name() == origin);
    match (vkeys.first(), of_log().find(is_named)) {
        (_, Some(vkey)) => Ok(vkey),
        (None, None) => Err(Refused::new(Code::Unreachable, "no vkey to check a signature by")),
        (Some(first), None) if of_log().next().is_none() => {
            Err(Refused::new(Code::WrongOrigin, format!("checkpoint: of {origin}, the key is of {}", first.name())))
        }
        (Some(_), None) => {
            Err(Refused::new(Code::UnknownKey, format!("checkpoint: of {origin}, by none of the vkeys")))
        }
    }
}

fn no_such_part() -> Refused {
    Refused::non_canonical("proof: the leaf has no such part")
}

/// Reads and checks a proof that must disclose a part.
///
/// # Errors
/// Those of [`Proof::check`]; `non-canonical` where nothing is disclosed.
pub fn check_disclosure(text: &str, vkey: &Vkey) -> Result<(Leaf, Disclosure), Refused> {
    let proof = Proof::parse(text)?;
    let Proven { leaf, disclosed, .. } = proof.check(vkey)?;
    let disclosed = disclosed.ok_or_else(|| Refused::non_canonical("proof: discloses nothing"))?;
    Ok((leaf, disclosed))
}

#[cfg(test)]
mod tests;
