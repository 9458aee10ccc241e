//! Whether a witness may cosign: what it is shown against what it last cosigned of the same log.
//!
//! Pure, so that the rule can be read and tested in one place; that nothing changes between the question and the
//! storing of the new head is the duty of the store. Spec: c2sp.org/tlog-witness, add-checkpoint.

use crate::core::hash::Hash;
use crate::core::merkle::verify_consistency;
use crate::core::seq::Size;

/// Size and root of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tree {
    /// The number of leaves.
    pub size: Size,
    /// The root over them.
    pub root: Hash,
}

impl Tree {
    /// Where every log starts: what a witness knows of a log it never cosigned.
    pub const EMPTY: Tree = Tree { size: Size(0), root: Hash::EMPTY_ROOT };
}

/// Why a witness does not cosign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Objection {
    /// The proof would lead backwards: a mistake of the client.
    #[error("the old size {old} is beyond the checkpoint's {size}")]
    Backwards {
        /// The size the proof starts from.
        old: Size,
        /// The size of the checkpoint.
        size: Size,
    },
    /// The proof starts from another tree than the one last cosigned.
    #[error("the old size {old} is not that of the last cosigned checkpoint, {known}")]
    OtherSize {
        /// The size the proof starts from.
        old: Size,
        /// The size of the last cosigned checkpoint.
        known: Size,
    },
    /// The log signed two roots for one size: with both checkpoints this proves that it forked.
    #[error("size {known} was cosigned with root {cosigned}, and now has {found}")]
    OtherRoot {
        /// The size of both.
        known: Size,
        /// The root that was cosigned.
        cosigned: Hash,
        /// The root it is to be now.
        found: Hash,
    },
    /// The proof does not show that the new tree starts with the old one.
    #[error("the proof does not lead from size {old} to size {size}")]
    Proof {
        /// The size the proof starts from.
        old: Size,
        /// The size of the checkpoint.
        size: Size,
    },
}

/// Whether `proof`, which starts at `old`, shows that the tree `new` continues the tree `known`.
///
/// From the empty tree no proof is needed, and none may be given; what has no leaves has the root of nothing.
///
/// # Errors
/// The first objection, in the order of the spec.
pub fn judge(known: Tree, old: Size, proof: &[Hash], new: Tree) -> Result<(), Objection> {
    if old > new.size {
        return Err(Objection::Backwards { old, size: new.size });
    }
    if old != known.size {
        return Err(Objection::OtherSize { old, known: known.size });
    }
    if old == new.size && known.root != new.root {
        return Err(Objection::OtherRoot { known: known.size, cosigned: known.root, found: new.root });
    }
    let follows = match old.0 {
        0 => proof.is_empty(),
        _ => verify_consistency(old, known.root, new.size, new.root, proof),
    };
    follows.then_some(()).ok_or(Objection::Proof { old, size: new.size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::merkle::{consistency_proof, nodes_of, root_of};

    fn leaves(salt: &str, size: u64) -> Vec<Hash> {
        (0..size).map(|i| Hash::leaf(format!("{salt} {i}").as_bytes())).collect()
    }

    fn tree(salt: &str, size: u64) -> Tree {
        Tree { size: Size(size), root: root_of(&leaves(salt, size)) }
    }

    fn proof(old: u64, size: u64) -> Vec<Hash> {
        consistency_proof(Size(old), Size(size), nodes_of(&leaves("a", size))).unwrap()
    }

    #[test]
    fn every_growth_of_a_small_log_is_taken_and_no_other_tree() {
        for old in 0..20 {
            for size in old..20 {
                let proof = if old == 0 { Vec::new() } else { proof(old, size) };
                assert_eq!(judge(tree("a", old), Size(old), &proof, tree("a", size)), Ok(()), "{old} to {size}");
                let forked = judge(tree("a", old), Size(old), &proof, tree("b", size));
                match (old, size) {
                    (0, 1..) => assert_eq!(forked, Ok(()), "nothing was promised about what follows the empty tree"),
                    (0, 0) => assert_eq!(forked, Ok(()), "there is one empty tree"),
                    _ => assert!(forked.is_err(), "{old} to {size}"),
                }
            }
        }
    }

    #[test]
    fn each_objection_has_its_case() {
        let known = tree("a", 5);
        let backwards = Objection::Backwards { old: Size(5), size: Size(4) };
        assert_eq!(judge(known, Size(5), &[], tree("a", 4)), Err(backwards));
        let other = |old| Objection::OtherSize { old: Size(old), known: Size(5) };
        assert_eq!(judge(known, Size(0), &[], tree("a", 8)), Err(other(0)));
        assert_eq!(judge(known, Size(4), &proof(4, 8), tree("a", 8)), Err(other(4)));
        let fork = tree("b", 5);
        let roots = Objection::OtherRoot { known: Size(5), cosigned: known.root, found: fork.root };
        assert_eq!(judge(known, Size(5), &[], fork), Err(roots));
        let bad = |size| Objection::Proof { old: Size(5), size: Size(size) };
        assert_eq!(judge(known, Size(5), &proof(4, 8), tree("a", 8)), Err(bad(8)));
        assert_eq!(judge(known, Size(5), &[], tree("a", 8)), Err(bad(8)));
        assert_eq!(judge(known, Size(5), &[known.root], known), Err(bad(5)), "no proof leads to the same tree");
        let from_nothing = Objection::Proof { old: Size(0), size: Size(5) };
        assert_eq!(judge(Tree::EMPTY, Size(0), &[known.root], known), Err(from_nothing));
        let weird = Tree { size: Size(0), root: known.root };
        assert!(matches!(judge(Tree::EMPTY, Size(0), &[], weird), Err(Objection::OtherRoot { .. })));
    }
}
