//! Proofs from tiles, each verified before it is handed out: by the root of a checkpoint, not by the tiles' word.

use super::{Checkpoint, Store, TilesError};
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;
use crate::core::keychange::{KeyChange, Standing};
use crate::core::leaf::{Body, Leaf};
use crate::core::merkle::{Tree, consistency_proof, inclusion_proof, peak_nodes, verify_consistency, verify_inclusion};
use crate::core::note::Vkey;
use crate::core::proof::{Extra, Proof, evidence};
use crate::core::seq::{Seq, Size};

impl Store {
    /// The proof that the tree of `size` holds the entry at `seq`.
    ///
    /// # Errors
    /// `OutOfRange` unless `seq < size <= ` the released size; `Unproven` where it does not verify up to the newest
    /// checkpoint.
    pub fn inclusion_proof(&self, seq: Seq, size: Size) -> Result<Vec<Hash>, TilesError> {
        let root = self.root(size)?;
        let mut nodes = self.nodes(size)?;
        let proof = inclusion_proof(seq, size, |node| nodes.node(node))?;
        match verify_inclusion(nodes.leaf(seq)?, seq, size, &proof, root) {
            true => Ok(proof),
            false => Err(unproven(format!("entry {seq} in the tree of {size}"))),
        }
    }

    /// The proof that the tree of `size` starts with the tree of `old` entries.
    ///
    /// # Errors
    /// `OutOfRange` unless `0 < old <= size <= ` the released size: every tree extends the empty one, which needs no
    /// proof. `Unproven` where it does not verify.
    pub fn consistency_proof(&self, old: Size, size: Size) -> Result<Vec<Hash>, TilesError> {
        let root = self.root(size)?;
        let (proof, _) = self.consistent(old, size, root)?;
        Ok(proof)
    }

    /// The root of the tree of `size`, which the newest checkpoint's tree starts with.
    ///
    /// # Errors
    /// `OutOfRange` for 0 and beyond the released size; `Unproven` where it does not verify.
    pub fn root(&self, size: Size) -> Result<Hash, TilesError> {
        let newest = self.checkpoint().ok_or(TilesError::OutOfRange { of: size.0, size: Size(0) })?;
        if size == newest.head.size {
            return Ok(newest.head.root);
        }
        self.consistent(size, newest.head.size, newest.head.root).map(|(_, root)| root)
    }

    /// The leaf at `seq` with its proof under a checkpoint of this log.
    ///
    /// # Errors
    /// `OutOfRange` unless the checkpoint has the entry and is not newer than the tiles; `Unproven` where it is of
    /// another tree.
    pub fn proof(&self, seq: Seq, under: &Checkpoint) -> Result<Proof, TilesError> {
        let Checkpoint { head, note } = under;
        if head.origin != self.origin || self.root(head.size)? != head.root {
            return Err(unproven(format!("a checkpoint of another log or tree at {}", head.size)));
        }
        let hashes = self.inclusion_proof(seq, head.size)?;
        Ok(Proof { extra: Extra::Leaf { leaf: self.leaf(seq)? }, index: seq, hashes, checkpoint: note.clone() })
    }

    /// The proofs of `seqs` and of every change of key before the checkpoint: what leaves the log together. They are
    /// checked as whoever holds the log's first vkey checks them, so the checkpoint's signature was verified too.
    ///
    /// # Errors
    /// As [`Store::proof`]; `Unproven` where the keys do not lead from the first entry to the checkpoint.
    pub fn proofs(&self, seqs: impl IntoIterator<Item = Seq>, under: &Checkpoint) -> Result<Vec<Proof>, TilesError> {
        let mut seqs: Vec<Seq> = seqs.into_iter().chain(self.key_changes_before(under.head.size)?).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let proofs = seqs.into_iter().map(|seq| self.proof(seq, under)).collect::<Result<Vec<_>, _>>()?;
        let (first, recovery) = self.first_keys()?;
        evidence::check_proofs(&proofs, &first, Some(&recovery))?;
        Ok(proofs)
    }

    /// The entries of kind 8 before `size`.
    ///
    /// # Errors
    /// Those of [`Store::key_changes`].
    pub fn key_changes_before(&self, size: Size) -> Result<Vec<Seq>, TilesError> {
        let mut seqs = self.key_changes()?;
        seqs.retain(|seq| seq.size() <= size);
        Ok(seqs)
    }

    /// Every vkey the log has had, its first one first.
    ///
    /// # Errors
    /// As [`Store::leaf`]; `Unproven` where a change of key does not follow from the key before.
    pub fn vkeys(&self) -> Result<Vec<Vkey>, TilesError> {
        let (first, recovery) = self.first_keys()?;
        let mut vkeys = vec![first];
        for seq in self.key_changes()? {
            let Body::KeyChanged { note, step } = Leaf::decode(&self.leaf(seq)?)?.body else {
                return Err(unproven(format!("entry {seq} changes no key")));
            };
            let standing =
                Standing { origin: Some(&self.origin), seq, current: vkeys.last(), recovery: Some(&recovery) };
            vkeys.push(KeyChange::open(step, &note, &standing)?.new_key().clone());
        }
        Ok(vkeys)
    }

    /// The log's vkey and its recovery vkey, as the first entry names them.
    fn first_keys(&self) -> Result<(Vkey, Vkey), TilesError> {
        let leaf = Leaf::decode(&self.leaf(Seq(0))?)?;
        let Body::LogOpened(opened) = leaf.body else {
            return Err(unproven("the first entry opens no log".to_owned()));
        };
        Ok((opened.vkey.parse()?, opened.recovery.parse()?))
    }

    /// The consistency proof from `old` to a tree of known root, and the root at `old` that it shows.
    fn consistent(&self, old: Size, size: Size, root: Hash) -> Result<(Vec<Hash>, Hash), TilesError> {
        let mut nodes = self.nodes(size)?;
        let proof = consistency_proof(old, size, |node| nodes.node(node))?;
        let peaks = peak_nodes(old).map(|node| nodes.node(node)).collect::<Result<_, _>>()?;
        let old_root = Tree::from_peaks(old, peaks)?.root();
        match verify_consistency(old, old_root, size, root, &proof) {
            true => Ok((proof, old_root)),
            false => Err(unproven(format!("the tree of {size} from the tree of {old}"))),
        }
    }
}

fn unproven(what: String) -> TilesError {
    TilesError::Unproven(Refused::new(Code::RootMismatch, what))
}
