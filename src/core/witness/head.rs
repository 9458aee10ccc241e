//! A tree head of any log, as a witness meets it: the text of a checkpoint, read as its spec has it and no stricter.
//!
//! Not `checkpoint::Head`, which is a Pinfold log's own: other logs have origins of other letters, sizes beyond 2^53 and
//! extension lines, which are cosigned with the rest and mean nothing here. Spec: c2sp.org/tlog-checkpoint.

use crate::core::checkpoint::read_hash;
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::seq::Size;

/// The largest size of a tree: what 63 hashes of a consistency proof can reach, and what every language can count.
pub const TREE_SIZE_MAX: u64 = (1 << 63) - 1;

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
        let size = read_tree_size(size).ok_or_else(|| refused("a size that is not a decimal below 2^63"))?;
        Ok(TreeHead { origin, size, root: read_hash(root)? })
    }
}

/// Reads a size in decimal, without a sign and without leading zeros.
pub fn read_tree_size(text: &str) -> Option<Size> {
    text.parse().ok().filter(|size: &u64| *size <= TREE_SIZE_MAX && size.to_string() == text).map(Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn checkpoints_of_other_logs_are_read_with_their_extension_lines() {
        let text = format!("go.sum database tree\n{TREE_SIZE_MAX}\n{ROOT}\nany text\nmore\n");
        let head = TreeHead::parse(&text).unwrap();
        assert_eq!((head.origin, head.size, head.root), ("go.sum database tree", Size(TREE_SIZE_MAX), Hash::EMPTY_ROOT));
        for bad in [
            String::new(),
            "\n".to_owned(),
            format!("\n1\n{ROOT}\n"),
            format!("a\n1\n{ROOT}"),
            "a\n1\n".to_owned(),
            format!("a\n01\n{ROOT}\n"),
            format!("a\n+1\n{ROOT}\n"),
            format!("a\n{}\n{ROOT}\n", TREE_SIZE_MAX + 1),
            format!("a\n1\n{}\n", &ROOT[4..]),
            format!("a\n1\n{ROOT}\n\n"),
            format!("a\n1\n{ROOT}\n\nx\n"),
        ] {
            assert!(TreeHead::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
