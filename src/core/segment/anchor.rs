//! How an anchor grows: it only ever gains lines and tokens, so that a newer one contains the older to the byte.
//!
//! What is added was verified by whoever got it; nothing here verifies. Spec: format.md, Segment, `Anchor`.

use super::{ANCHOR_CHECKPOINT_MAX, Anchor};
use crate::core::cid::{Cid, Codec};
use crate::core::finding::{Code, Refused};
use crate::core::note::{Note, Signature};
use crate::core::time::Timestamp;

/// Bytes of all tokens of one anchor, at most: an authority's token takes some 5 KiB, and a block stays below 1 MiB.
pub const TOKENS_BYTES_MAX: usize = 786_432;

/// What a cosignature line claims, nothing verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim<'a> {
    /// The name of the witness's key.
    pub name: &'a str,
    /// When it says it signed, to the second.
    pub time: Timestamp,
}

impl Anchor {
    /// The anchor of a segment of which nobody has said anything yet: its seal, and the checkpoint in it.
    pub fn of(seal: Cid, checkpoint: &str) -> Anchor {
        Anchor { tsa: Vec::new(), seal, checkpoint: checkpoint.to_owned() }
    }

    /// The CID of the block.
    pub fn cid(&self) -> Cid {
        Cid::of(Codec::DagCbor, &self.encode())
    }

    /// Adds cosignature lines, each with its newline, but for those that stand in it. Whether there was a new one.
    ///
    /// # Errors
    /// `limit-exceeded` where it has no room for them; nothing was added.
    pub fn add_lines(&mut self, lines: &str) -> Result<bool, Refused> {
        let is_new = |line: &&str| !self.checkpoint.split_inclusive('\n').any(|known| known == *line);
        let new: String = lines.split_inclusive('\n').filter(is_new).collect();
        if self.checkpoint.len() + new.len() > ANCHOR_CHECKPOINT_MAX {
            return Err(full());
        }
        self.checkpoint.push_str(&new);
        Ok(!new.is_empty())
    }

    /// Adds a time-stamp token, unless it stands in it. Whether it is new.
    ///
    /// # Errors
    /// `limit-exceeded` where it has no room; nothing was added.
    pub fn add_token(&mut self, token: Vec<u8>) -> Result<bool, Refused> {
        if self.tsa.contains(&token) {
            return Ok(false);
        }
        if self.tsa.iter().map(Vec::len).sum::<usize>() + token.len() > TOKENS_BYTES_MAX {
            return Err(full());
        }
        self.tsa.push(token);
        Ok(true)
    }

    /// Whether it says everything that `older` says, in the same order: then it may stand in its place.
    pub fn contains(&self, older: &Anchor) -> bool {
        self.seal == older.seal && self.checkpoint.starts_with(&older.checkpoint) && self.tsa.starts_with(&older.tsa)
    }

    /// Who claims to have cosigned and when, in the order of the lines. Nothing is verified: a row of a registry says
    /// what the file says.
    ///
    /// # Errors
    /// `non-canonical` where the checkpoint is no note.
    pub fn claims(&self) -> Result<Vec<Claim<'_>>, Refused> {
        let note = Note::parse(&self.checkpoint)?;
        // The first line is the log's own; a cosignature is a time and a signature.
        let lines = note.signatures.into_iter().skip(1).filter_map(|line| claim(&line));
        Ok(lines.collect())
    }
}

fn claim<'a>(line: &Signature<'a>) -> Option<Claim<'a>> {
    let (seconds, signature) = line.bytes.split_first_chunk::<8>()?;
    let micros = u64::from_be_bytes(*seconds).checked_mul(1_000_000)?;
    (signature.len() == 64).then_some(Claim { name: line.name, time: Timestamp(micros) })
}

fn full() -> Refused {
    Refused::new(Code::LimitExceeded, "anchor: no room for another signature or token")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../../tests/vectors/pinfold-v1/notes.json");

    /// A checkpoint as a seal has it, and a cosignature line over it.
    fn checkpoint() -> (String, String) {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let good = vectors["good"].as_array().unwrap();
        let note = good.iter().find(|v| v["name"] == "checkpoint with a cosignature").unwrap();
        let note = note["note"].as_str().unwrap();
        let at = note.rfind("— ").unwrap();
        (note[..at].to_owned(), note[at..].to_owned())
    }

    fn seal() -> Cid {
        Cid::of(Codec::DagCbor, b"seal")
    }

    #[test]
    fn a_newer_anchor_contains_the_older_and_nothing_is_added_twice() {
        let (note, line) = checkpoint();
        let first = Anchor::of(seal(), &note);
        let mut second = first.clone();
        assert_eq!((second.add_lines(&line), second.add_lines(&line)), (Ok(true), Ok(false)));
        let mut third = second.clone();
        assert_eq!((third.add_token(vec![1]), third.add_token(vec![1])), (Ok(true), Ok(false)));
        assert_eq!(third.add_token(vec![2]), Ok(true));
        for (n, newer) in [&first, &second, &third].into_iter().enumerate() {
            for (m, older) in [&first, &second, &third].into_iter().enumerate() {
                assert_eq!(newer.contains(older), n >= m, "{n} {m}");
            }
        }
        let moved = Anchor { seal: Cid::of(Codec::DagCbor, b"other"), ..third.clone() };
        let turned = Anchor { tsa: vec![vec![2], vec![1]], ..third.clone() };
        assert!(!moved.contains(&first) && !turned.contains(&third));
        assert_eq!(Anchor::decode(&third.encode()), Ok(third));
    }

    #[test]
    fn claims_are_the_cosignatures_and_not_the_log_s_own_line() {
        let (note, line) = checkpoint();
        let mut anchor = Anchor::of(seal(), &note);
        assert_eq!(anchor.claims(), Ok(vec![]));
        anchor.add_lines(&line).unwrap();
        anchor.add_lines("— other.example/signer AAAAAAAA\n").unwrap();
        let claims = anchor.claims().unwrap();
        let [claim] = claims.as_slice() else { panic!("{claims:?}") };
        assert!(line.starts_with(&format!("— {} ", claim.name)));
        assert_eq!(claim.time, Timestamp(1_767_225_600_000_000));
    }

    #[test]
    fn it_is_bounded() {
        let (note, _) = checkpoint();
        let mut anchor = Anchor::of(seal(), &note);
        assert!(anchor.add_lines(&"x".repeat(ANCHOR_CHECKPOINT_MAX)).is_err());
        assert!(anchor.add_token(vec![0; TOKENS_BYTES_MAX + 1]).is_err());
        assert_eq!(anchor, Anchor::of(seal(), &note), "a refusal adds nothing");
        anchor.add_token(vec![0; TOKENS_BYTES_MAX]).unwrap();
        assert!(anchor.encode().len() < 1 << 20);
    }
}
