//! A tree head of any log, as a witness meets it: the text of a checkpoint, read as its spec has it and no stricter.
//!
//! Not `checkpoint::Head`, which is a Pinfold log's own: other logs have origins of other letters and extension lines,
//! which are cosigned with the rest and mean nothing here. Sizes end at 2^53 - 1, as everywhere in this crate.
//! Spec: c2sp.org/tlog-checkpoint.

use crate::core::checkpoint::{read_hash, read_uint};
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::seq::Size;

/// What a checkpoint says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeHead<'a> {
    /// The first line, by which a log is known.
    pub origin: &'a str,
    /// The number of leaves.
    pub size: Size,
    /// The root over them.
    pub root: Hash,
}

impl<'a> TreeHead<'a> {
    /// Reads the text of a checkpoint, that is of a note without its signature lines.
    ///
    /// # Errors
    /// `non-canonical`.
    pub fn parse(text: &'a str) -> Result<TreeHead<'a>, Refused> {
        let refused = |what: &str| Refused::non_canonical(format!("checkpoint: {what}"));
        let lines = text.strip_suffix('\n').ok_or_else(|| refused("no newline at the end"))?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(refused("fewer than the three lines origin, size, root"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(refused("an empty line"));
        }
        Ok(TreeHead { origin, size: Size(read_uint(size)?), root: read_hash(root)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::core::seq::UINT_MAX;

    const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn checkpoints_of_other_logs_are_read_with_their_extension_lines() {
        let text = format!("go.sum database tree\n{UINT_MAX}\n{ROOT}\nany text\nmore\n");
        let head = TreeHead::parse(&text).unwrap();
        assert_eq!((head.origin, head.size, head.root), ("go.sum database tree", Size(UINT_MAX), Hash::EMPTY_ROOT));
        for bad in [
            String::new(),
            "\n".to_owned(),
            format!("\n1\n{ROOT}\n"),
            format!("a\n1\n{ROOT}"),
            "a\n1\n".to_owned(),
            format!("a\n01\n{ROOT}\n"),
            format!("a\n+1\n{ROOT}\n"),
            format!("a\n{}\n{ROOT}\n", UINT_MAX + 1),
            format!("a\n1\n{}\n", &ROOT[4..]),
            format!("a\n1\n{ROOT}\n\n"),
            format!("a\n1\n{ROOT}\n\nx\n"),
        ] {
            assert!(TreeHead::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
