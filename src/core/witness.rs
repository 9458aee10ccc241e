//! What a log and its witnesses say to each other, and who must have signed: bodies, answers and policies as bytes.
//!
//! Not HTTP: the client is `anchor`, the server `witness`. Not the keys, which are `note`'s.
//! Spec: c2sp.org/tlog-witness v1, `add-checkpoint`; c2sp.org/tlog-cosignature v1; c2sp.org/tlog-policy as of commit
//! `13027ee` of its repository, the first text of which no version was cut.

pub mod head;
pub mod judge;
pub mod log_list;
pub mod policy;
pub mod submission;

use super::finding::{Code, Refused};
use super::note::{NOTE_BYTES_MAX, Note, WitnessVkey};
use super::seq::Size;
pub use head::TreeHead;
pub use judge::{Objection, Tree, judge};
pub use log_list::{Log, LogList};
pub use policy::Policy;
pub use submission::Submission;

/// The content type of a 409: its body is the size the witness holds.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";
/// Bytes of an answer a client reads, at most: as many lines as a note could take in.
pub const ANSWER_BYTES_MAX: usize = NOTE_BYTES_MAX;

/// The lines of `vkey` in the answer to a checkpoint, each with its newline. Those of other keys are not looked at.
///
/// # Errors
/// `bad-cosignature` where a line of this witness does not verify over `checkpoint`, or it has none;
/// `non-canonical` where the answer is no signature lines.
pub fn open_answer(checkpoint: &str, answer: &str, vkey: &WitnessVkey) -> Result<String, Refused> {
    let note = format!("{checkpoint}{answer}");
    let note = Note::parse(&note)?;
    let times = vkey.verify(&note)?;
    if times.is_empty() {
        let what = format!("answer: no line of {vkey}");
        return Err(Refused::new(Code::BadCosignature, what));
    }
    let mut lines = String::new();
    for line in answer.split_inclusive('\n') {
        let alone = format!("{}\n{line}", note.text);
        // One by one: a line is this witness's if it alone verifies. The note as a whole was parsed above.
        if !vkey.verify(&Note::parse(&alone)?)?.is_empty() {
            lines.push_str(line);
        }
    }
    Ok(lines)
}

/// The size in the body of a 409: decimal, no leading zero, one newline.
///
/// # Errors
/// `non-canonical`.
pub fn open_size(body: &str) -> Result<Size, Refused> {
    let size = body.strip_suffix('\n').ok_or_else(|| Refused::non_canonical("answer: a size without a newline"))?;
    super::checkpoint::read_uint(size).map(Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/pinfold-v1/notes.json");

    /// A note with a cosignature, cut where the witness's line begins, and the vkey of the witness.
    fn cosigned() -> (String, String, WitnessVkey) {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let of = |list: &str, name: &str, field: &str| {
            let found = vectors[list].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap();
            found[field].as_str().unwrap().to_owned()
        };
        let note = of("good", "checkpoint with a cosignature", "note");
        let at = note.rfind("— ").unwrap();
        (note[..at].to_owned(), note[at..].to_owned(), of("keys", "witness", "vkey").parse().unwrap())
    }

    #[test]
    fn the_lines_of_the_asked_witness_are_taken_and_no_others() {
        let (checkpoint, line, vkey) = cosigned();
        assert_eq!(open_answer(&checkpoint, &line, &vkey).unwrap(), line);
        let stranger = "— witness.example/other AAAAAAAA\n";
        let answer = format!("{stranger}{line}{stranger}");
        assert_eq!(open_answer(&checkpoint, &answer, &vkey).unwrap(), line, "unknown keys are ignored");
        assert_eq!(open_answer(&checkpoint, stranger, &vkey).unwrap_err().code, Code::BadCosignature);
    }

    #[test]
    fn an_answer_that_does_not_hold_is_refused() {
        let (checkpoint, line, vkey) = cosigned();
        let other = checkpoint.replacen("\n", "x\n", 1);
        assert_eq!(open_answer(&other, &line, &vkey).unwrap_err().code, Code::BadCosignature);
        for answer in ["", "\n", "hello\n", line.trim_end(), &line[..line.len() - 9]] {
            assert!(open_answer(&checkpoint, answer, &vkey).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn sizes_have_one_spelling() {
        assert_eq!(open_size("0\n"), Ok(Size(0)));
        assert_eq!(open_size("20852014\n"), Ok(Size(20_852_014)));
        for body in ["", "1", "01\n", "+1\n", "1\n\n", " 1\n", "9007199254740992\n", "-1\n", "1\r\n"] {
            assert!(open_size(body).is_err(), "{body:?}");
        }
    }
}
