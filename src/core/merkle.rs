//! The RFC 6962 tree: peaks, roots, inclusion and consistency proofs.
//!
//! Not a store: a [`Tree`] keeps only the peaks (at most 53 hashes), and who makes a proof says where the
//! nodes lie, in tiles, pages or memory. Spec: RFC 6962 section 2.1, proofs verified as in RFC 9162 section 2.1.3.

use super::finding::{Code, Refused};
use super::hash::Hash;
use super::seq::{Seq, Size};

/// The append-only edge of a tree: the roots of its perfect subtrees and nothing below them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    size: Size,
    /// Largest first: one for each bit set in `size`.
    peaks: Vec<Hash>,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// The tree of `size` leaves whose perfect subtrees have these roots, largest first: where a segment starts.
    ///
    /// Nothing here says that the peaks are true; their folded root must be compared with a signed one.
    ///
    /// # Errors
    /// `root-mismatch` where a tree of this size has another number of peaks.
    pub fn from_peaks(size: Size, peaks: Vec<Hash>) -> Result<Tree, Refused> {
        let expected = usize::try_from(size.0.count_ones()).unwrap_or(usize::MAX);
        if peaks.len() != expected {
            let what = format!("peaks: {} for size {size}, expected {expected}", peaks.len());
            return Err(Refused::new(Code::RootMismatch, what));
        }
        Ok(Tree { size, peaks })
    }

    /// Adds the hash of the next leaf (`Hash::leaf`).
    pub fn append(&mut self, leaf_hash: Hash) {
        let mut node = leaf_hash;
        // Each trailing one of the size is a peak as large as the subtree in hand: a carry of binary addition.
        for _ in 0..self.size.0.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = Hash::node(left, node);
        }
        self.peaks.push(node);
        self.size.0 += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root: the peaks folded from the right.
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }
}

/// The sizes of the perfect subtrees of a tree of `size`, largest first: the bits of the number.
pub fn peak_sizes(size: Size) -> impl Iterator<Item = u64> {
    (0..u64::BITS).rev().map(|bit| 1 << bit).filter(move |peak| size.0 & peak != 0)
}

/// The perfect subtrees of a tree of `size`, largest first.
pub fn peak_nodes(size: Size) -> impl Iterator<Item = Node> {
    let mut at = 0;
    peak_sizes(size).map(move |peak| {
        let (level, begin) = (peak.ilog2(), at);
        at += peak;
        Node { level, index: begin >> level }
    })
}

/// The root of the tree over `leaf_hashes`.
pub fn root_of(leaf_hashes: &[Hash]) -> Hash {
    let mut tree = Tree::new();
    for hash in leaf_hashes {
        tree.append(*hash);
    }
    tree.root()
}

fn fold(peaks: &[Hash]) -> Hash {
    let mut right_to_left = peaks.iter().rev();
    match right_to_left.next() {
        None => Hash::EMPTY_ROOT,
        Some(last) => right_to_left.fold(*last, |right, left| Hash::node(*left, right)),
    }
}

/// The place of a node: the root of the perfect subtree over leaves `index * 2^level .. (index + 1) * 2^level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// Height above the leaf hashes, which are level 0.
    pub level: u32,
    /// Counted from the left within the level.
    pub index: u64,
}

/// Why no proof was made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unprovable<E> {
    /// There is no such proof: the leaf or the smaller tree is not within the tree, or the smaller tree is empty.
    #[error("no proof of {of} in a tree of {size} leaves")]
    OutOfRange {
        /// The index of the leaf, or the size of the smaller tree.
        of: u64,
        /// The size of the tree.
        size: Size,
    },
    /// A node could not be read.
    #[error("reading a node of the tree")]
    Node(#[from] E),
}

/// The proof that the tree of `size` contains the leaf at `index`: sibling hashes from the leaf upwards.
///
/// `node` reads stored nodes; it is asked only for perfect subtrees within `size`, at most once each.
///
/// # Errors
/// `OutOfRange` unless `index < size`; what `node` returns.
pub fn inclusion_proof<E>(
    index: Seq,
    size: Size,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, Unprovable<E>> {
    if index.0 >= size.0 {
        return Err(Unprovable::OutOfRange { of: index.0, size });
    }
    let (mut begin, mut end) = (0, size.0);
    let mut proof = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index.0 < middle {
            proof.push(subtree(middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(subtree(begin, middle, &mut node)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `size` starts with the tree of `old` leaves (RFC 6962 section 2.1.2).
///
/// `node` reads stored nodes; it is asked only for perfect subtrees within `size`, at most once each.
///
/// # Errors
/// `OutOfRange` unless `0 < old <= size`: every tree extends the empty one, which no proof can show. What `node` returns.
pub fn consistency_proof<E>(
    old: Size,
    size: Size,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, Unprovable<E>> {
    if old.0 == 0 || old.0 > size.0 {
        return Err(Unprovable::OutOfRange { of: old.0, size });
    }
    let (mut begin, mut end) = (0, size.0);
    let mut proof = Vec::new();
    while old.0 != end {
        let middle = begin + split(end - begin);
        if old.0 <= middle {
            proof.push(subtree(middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(subtree(begin, middle, &mut node)?);
            begin = middle;
        }
    }
    // The verifier has the old root itself, so it is sent only where it is not the subtree that is left.
    if begin != 0 {
        proof.push(subtree(begin, end, &mut node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// A leaf that is not among the leaf hashes a proof was to be made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no node at level {} index {}", .0.level, .0.index)]
pub struct Missing(pub Node);

/// Reads nodes from the leaf hashes themselves, for trees that lie in memory: each node is hashed anew.
pub fn nodes_of(leaf_hashes: &[Hash]) -> impl Fn(Node) -> Result<Hash, Missing> {
    |node: Node| {
        let range = || {
            let width = 1usize.checked_shl(node.level)?;
            let begin = usize::try_from(node.index).ok()?.checked_mul(width)?;
            leaf_hashes.get(begin..begin.checked_add(width)?)
        };
        range().map(root_of).ok_or(Missing(node))
    }
}

/// Whether `proof` shows the leaf at `index` in the tree of `size` and `root` (RFC 9162 section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf_hash: Hash, index: Seq, size: Size, proof: &[Hash], root: Hash) -> bool {
    if index.0 >= size.0 {
        return false;
    }
    let (mut index, mut last) = (index.0, size.0 - 1);
    let mut hash = leaf_hash;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            hash = Hash::node(*sibling, hash);
            // On the ragged edge there is no sibling until the next level where we are a right child. The index is
            // not 0 here: it is odd, or equals `last`.
            let up = index.trailing_zeros();
            index >>= up;
            last >>= up;
        } else {
            hash = Hash::node(hash, *sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the tree of `size` and `root` starts with the tree of `old_size` and `old_root`
/// (RFC 9162 section 2.1.4.2).
///
/// The empty tree is refused, as the public vectors have it: that any tree extends it needs no proof, and a
/// caller who takes "from empty" says so itself.
#[must_use]
pub fn verify_consistency(old_size: Size, old_root: Hash, size: Size, root: Hash, proof: &[Hash]) -> bool {
    if old_size == size {
        return old_size.0 != 0 && proof.is_empty() && old_root == root;
    }
    if old_size.0 == 0 || old_size.0 > size.0 {
        return false;
    }
    let mut siblings = proof.iter();
    // An old tree that is one perfect subtree is itself a node of the new one: the proof starts above it.
    let start = if old_size.0.is_power_of_two() { Some(&old_root) } else { siblings.next() };
    let Some(start) = start else { return false };
    let up = old_size.0.trailing_zeros();
    let (mut index, mut last) = ((old_size.0 - 1) >> up, (size.0 - 1) >> up);
    let (mut old_hash, mut hash) = (*start, *start);
    for sibling in siblings {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            old_hash = Hash::node(*sibling, old_hash);
            hash = Hash::node(*sibling, hash);
            let up = index.trailing_zeros();
            index >>= up;
            last >>= up;
        } else {
            hash = Hash::node(hash, *sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old_root && hash == root
}

/// The largest power of two below `len`, for `len >= 2`: where RFC 6962 cuts a list in two.
fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

/// The root over leaves `begin .. end`, a range the recursion of RFC 6962 reaches: it starts at a multiple of
/// the next power of two, so that each of its perfect subtrees is a node.
fn subtree<E>(begin: u64, end: u64, node: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    let mut peaks = Vec::new();
    let mut at = begin;
    for peak in peak_sizes(Size(end - begin)) {
        let level = peak.ilog2();
        peaks.push(node(Node { level, index: at >> level })?);
        at += peak;
    }
    Ok(fold(&peaks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../tests/vectors/pinfold-v1/merkle.json");

    #[derive(serde::Deserialize)]
    struct Vectors {
        trees: Vec<TreeVector>,
        inclusion: Vec<InclusionVector>,
        consistency: Vec<ConsistencyVector>,
    }

    #[derive(serde::Deserialize)]
    struct TreeVector {
        size: u64,
        root: String,
        peaks: Vec<String>,
    }

    #[derive(serde::Deserialize)]
    struct InclusionVector {
        size: u64,
        index: u64,
        proof: Vec<String>,
    }

    #[derive(serde::Deserialize)]
    struct ConsistencyVector {
        from: u64,
        to: u64,
        proof: Vec<String>,
    }

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|i| Hash::leaf(format!("leaf {i}").as_bytes())).collect()
    }

    fn hashes(texts: &[String]) -> Vec<Hash> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_vectors_hold() {
        let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
        assert_eq!(vectors.trees.len(), 22);
        for v in vectors.trees {
            let mut tree = Tree::new();
            leaves(v.size).into_iter().for_each(|leaf| tree.append(leaf));
            assert_eq!((tree.root().to_string(), tree.peaks()), (v.root, &hashes(&v.peaks)[..]), "size {}", v.size);
            assert_eq!(Tree::from_peaks(Size(v.size), hashes(&v.peaks)), Ok(tree));
        }
        for v in vectors.inclusion {
            let proof = inclusion_proof(Seq(v.index), Size(v.size), nodes_of(&leaves(v.size)));
            assert_eq!(proof, Ok(hashes(&v.proof)), "leaf {} of {}", v.index, v.size);
        }
        for v in vectors.consistency {
            let proof = consistency_proof(Size(v.from), Size(v.to), nodes_of(&leaves(v.to)));
            assert_eq!(proof, Ok(hashes(&v.proof)), "{} to {}", v.from, v.to);
        }
    }

    /// Every way to hand a verifier something else than the sound proof.
    fn changes(proof: &[Hash]) -> Vec<Vec<Hash>> {
        let mut all = vec![[proof, &[Hash::ZERO]].concat(), [&[Hash::ZERO], proof].concat()];
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[at].0[7] ^= 1;
            all.push(changed);
            let mut short = proof.to_vec();
            short.remove(at);
            all.push(short);
        }
        all
    }

    #[test]
    fn each_leaf_of_each_small_tree_is_proven_and_nothing_else() {
        let all = leaves(34);
        for size in 1..=34 {
            let root = root_of(&all[..size]);
            let size = Size(size as u64);
            for (index, leaf) in (0..size.0).map(Seq).zip(&all) {
                let proof = inclusion_proof(index, size, nodes_of(&all)).unwrap();
                assert!(verify_inclusion(*leaf, index, size, &proof, root), "leaf {index} of {size}");
                for other in changes(&proof) {
                    assert!(!verify_inclusion(*leaf, index, size, &other, root), "leaf {index} of {size}");
                }
                assert!(!verify_inclusion(*leaf, Seq(index.0 ^ 1), size, &proof, root));
                assert!(!verify_inclusion(Hash::ZERO, index, size, &proof, root));
                assert!(!verify_inclusion(*leaf, index, size, &proof, Hash::EMPTY_ROOT));
            }
        }
    }

    #[test]
    fn each_prefix_of_each_small_tree_is_proven_and_nothing_else() {
        let all = leaves(34);
        for new in 1..=34 {
            for old in 1..=new {
                let (old_root, root) = (root_of(&all[..old]), root_of(&all[..new]));
                let (old, new) = (Size(old as u64), Size(new as u64));
                let proof = consistency_proof(old, new, nodes_of(&all)).unwrap();
                assert!(verify_consistency(old, old_root, new, root, &proof), "{old} to {new}");
                for other in changes(&proof) {
                    assert!(!verify_consistency(old, old_root, new, root, &other), "{old} to {new}");
                }
                assert!(!verify_consistency(old, Hash::ZERO, new, root, &proof), "{old} to {new}");
                assert!(!verify_consistency(old, old_root, new, Hash::ZERO, &proof), "{old} to {new}");
            }
        }
    }

    #[test]
    fn a_segment_goes_on_from_the_peaks_of_what_precedes_it() {
        let all = leaves(700);
        for first in [0, 1, 2, 255, 256, 300, 511, 699] {
            let mut before = Tree::new();
            all[..first].iter().for_each(|leaf| before.append(*leaf));
            let mut tree = Tree::from_peaks(before.size(), before.peaks().to_vec()).unwrap();
            all[first..].iter().for_each(|leaf| tree.append(*leaf));
            assert_eq!((tree.size(), tree.root()), (Size(700), root_of(&all)), "first {first}");
        }
    }

    #[test]
    fn peaks_of_another_number_than_the_size_has_are_refused() {
        for (size, peaks) in [(0, 1), (1, 0), (3, 1), (3, 3), (4, 2)] {
            let refused = Tree::from_peaks(Size(size), vec![Hash::ZERO; peaks]).unwrap_err();
            assert_eq!(refused.code, Code::RootMismatch, "{peaks} peaks of {size}");
        }
        assert_eq!(peak_sizes(Size(11)).collect::<Vec<_>>(), [8, 2, 1]);
        let nodes = peak_nodes(Size(11)).map(|node| (node.level, node.index));
        assert_eq!(nodes.collect::<Vec<_>>(), [(3, 0), (1, 4), (0, 10)]);
    }

    #[test]
    fn what_cannot_be_proven_is_said_and_a_node_that_fails_is_passed_on() {
        let all = leaves(4);
        let out_of_range = |of, size| Unprovable::OutOfRange { of, size: Size(size) };
        assert_eq!(inclusion_proof(Seq(4), Size(4), nodes_of(&all)), Err(out_of_range(4, 4)));
        assert_eq!(consistency_proof(Size(0), Size(4), nodes_of(&all)), Err(out_of_range(0, 4)));
        assert_eq!(consistency_proof(Size(5), Size(4), nodes_of(&all)), Err(out_of_range(5, 4)));
        let missing = Unprovable::Node(Missing(Node { level: 2, index: 1 }));
        assert_eq!(inclusion_proof(Seq(0), Size(8), nodes_of(&all)), Err(missing));
    }
}
