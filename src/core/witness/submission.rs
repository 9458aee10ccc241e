//! The body of `add-checkpoint`: the size the witness holds, the proof from there, and the checkpoint.
//!
//! Read strictly, nothing verified: the checkpoint is handed on as it stands. Spec: c2sp.org/tlog-witness v1.

use crate::core::checkpoint::read_hash;
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::note::{NOTE_BYTES_MAX, to_base64};
use crate::core::seq::Size;

/// Proof lines, at most.
pub const PROOF_HASHES_MAX: usize = 63;
/// Bytes of a body, at most: the old size, the longest proof and the longest note.
pub const BODY_BYTES_MAX: usize = 32 + PROOF_HASHES_MAX * 45 + NOTE_BYTES_MAX;

/// What a log sends a witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission<'a> {
    /// The size the sender believes the witness holds; 0 where it holds none.
    pub old: Size,
    /// The consistency proof from there; empty from 0 and from the checkpoint's own size.
    pub proof: Vec<Hash>,
    /// The checkpoint as a note, to the byte.
    pub checkpoint: &'a str,
}

impl<'a> Submission<'a> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// `non-canonical` for whatever a conforming log would not have sent; the checkpoint itself is not read.
    pub fn parse(body: &'a str) -> Result<Submission<'a>, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("add-checkpoint: {what}"));
        if body.len() > BODY_BYTES_MAX {
            return Err(refused("longer than any"));
        }
        let (first, mut rest) = body.split_once('\n').ok_or_else(|| refused("no line"))?;
        let old = first.strip_prefix("old ").ok_or_else(|| refused("the first line is not `old SIZE`"))?;
        let old = read_size(old)?;
        let mut proof = Vec::new();
        loop {
            let (line, after) = rest.split_once('\n').ok_or_else(|| refused("no empty line before the checkpoint"))?;
            rest = after;
            if line.is_empty() {
                return Ok(Submission { old, proof, checkpoint: rest });
            }
            if proof.len() == PROOF_HASHES_MAX {
                return Err(refused("more than 63 proof lines"));
            }
            proof.push(read_hash(line)?);
        }
    }

    /// The body.
    pub fn to_text(&self) -> String {
        let proof: String = self.proof.iter().map(|hash| format!("{}\n", to_base64(&hash.0))).collect();
        format!("old {}\n{proof}\n{}", self.old, self.checkpoint)
    }
}

/// A size as logs write it: decimal, no leading zero, below 2^63. Other logs than ours may grow beyond 2^53.
fn read_size(text: &str) -> Result<Size, Refused> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let size = text.parse().ok().filter(|size| is_decimal && *size < 1 << 63).map(Size);
    size.ok_or_else(|| Refused::non_canonical("add-checkpoint: an old size that is not a decimal below 2^63"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The request of the specification.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_example_of_the_specification_reads_and_writes_back() {
        let read = Submission::parse(EXAMPLE).unwrap();
        assert_eq!((read.old, read.proof.len()), (Size(20_852_014), 4));
        assert!(read.checkpoint.starts_with("example.com/behind-the-sofa\n20852163\n"));
        assert_eq!(read.to_text(), EXAMPLE);
    }

    #[test]
    fn what_no_log_sends_is_refused() {
        let proof = |lines: usize| "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n".repeat(lines);
        assert!(Submission::parse(&format!("old 1\n{}\nnote\n", proof(63))).is_ok());
        assert!(Submission::parse("old 9223372036854775807\n\nnote\n").is_ok());
        for body in [
            String::new(),
            "old 1".to_owned(),
            "old 1\n".to_owned(),
            "old 01\n\nnote\n".to_owned(),
            "old +1\n\nnote\n".to_owned(),
            "old -1\n\nnote\n".to_owned(),
            "Old 1\n\nnote\n".to_owned(),
            "old  1\n\nnote\n".to_owned(),
            "old 1 \n\nnote\n".to_owned(),
            "old 1\r\n\r\nnote\n".to_owned(),
            "old 9223372036854775808\n\nnote\n".to_owned(),
            "old 1\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw\n\nnote\n".to_owned(),
            "old 1\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkax=\n\nnote\n".to_owned(),
            "old 1\nAAAA\n\nnote\n".to_owned(),
            format!("old 1\n{}\nnote\n", proof(64)),
            format!("old 1\n\n{}", "x".repeat(BODY_BYTES_MAX)),
        ] {
            assert!(Submission::parse(&body).is_err(), "{:?}", &body[..body.len().min(80)]);
        }
    }

    proptest! {
        #[test]
        fn what_reads_writes_back_as_it_stood(body in "old [0-9]{1,4}\n([A-Za-z0-9+/]{43}=\n){0,3}\n.*") {
            if let Ok(read) = Submission::parse(&body) {
                prop_assert_eq!(read.to_text(), body);
            }
        }
    }
}
