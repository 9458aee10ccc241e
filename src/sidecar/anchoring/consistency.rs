//! Consistency proofs between two released sizes, from the archive's own bytes: the peaks in a seal and the leaves after.
//!
//! A proof from an older size needs the peaks of that tree, which stand in the seal of the segment that begins there,
//! and perfect subtrees right of it, which are hashed from the leaves between, one after the other. So a proof over the
//! newest segment costs one reading of it and no memory, and none rests on anything derived. Not the proofs that are
//! served (`tiles`): those go back to any size at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::anchor::{Consistency, Unproven};
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::merkle::{Node, Tree, consistency_proof, peak_nodes, verify_consistency};
use crate::core::seq::Size;
use crate::journal::{Journal, JournalError, SealRow};
use crate::sidecar::registering::root_at;
use crate::sidecar::stored::Reading;

/// Proofs to `head`, which is the end of a segment of the log.
pub(super) fn between(journal: &Arc<Journal>, archive: PathBuf, head: Head) -> Consistency {
    // A request that is still under way when the log is closed must not keep its journal.
    let journal = Arc::downgrade(journal);
    Arc::new(move |old| match journal.upgrade() {
        Some(journal) => proof(&journal, &archive, &head, old),
        None => Err(io::Error::other("the log was closed").into()),
    })
}

fn proof(journal: &Journal, archive: &Path, head: &Head, old: Size) -> Result<Vec<Hash>, Unproven> {
    if old.0 == 0 || old == head.size {
        return Ok(Vec::new());
    }
    let old_root = root_at(journal, old).map_err(io::Error::other)?;
    let old_root = old_root.filter(|_| old < head.size).ok_or(Unproven::NotOurs(old))?;
    let nodes = nodes(journal, archive, head.size, old)?;
    let missing = |node: Node| io::Error::other(format!("no node at level {} index {}", node.level, node.index));
    let found = |node: Node| nodes.get(&(node.level, node.index)).copied().ok_or_else(|| missing(node));
    let proof = consistency_proof(old, head.size, found).map_err(io::Error::other)?;
    // What others are shown is checked by what they will check it with.
    match verify_consistency(old, old_root, head.size, head.root, &proof) {
        true => Ok(proof),
        false => Err(io::Error::other("the archive does not give the roots of its checkpoints").into()),
    }
}

/// Every node the proof needs: peaks of the old tree, and perfect subtrees of what follows.
fn nodes(journal: &Journal, archive: &Path, size: Size, old: Size) -> io::Result<HashMap<(u32, u64), Hash>> {
    let mut wanted = Vec::new();
    let asked = consistency_proof(old, size, |node| {
        wanted.push(node);
        Ok::<_, Infallible>(Hash::ZERO)
    });
    asked.map_err(io::Error::other)?;
    wanted.retain(|node| begin(*node) >= old.0);
    wanted.sort_by_key(|node| begin(*node));
    let mut leaves = Leaves::after(journal, archive, old)?;
    let mut nodes = leaves.peaks(old);
    for node in wanted {
        let mut tree = Tree::new();
        for at in begin(node)..begin(node) + (1 << node.level) {
            tree.append(leaves.at(at)?);
        }
        nodes.insert((node.level, node.index), tree.root());
    }
    Ok(nodes)
}

fn begin(node: Node) -> u64 {
    node.index << node.level
}

/// The leaf hashes of the segments after some size, in order.
struct Leaves<'a> {
    journal: &'a Journal,
    archive: &'a Path,
    row: SealRow,
    reading: Reading,
    next: u64,
}

impl<'a> Leaves<'a> {
    fn after(journal: &'a Journal, archive: &'a Path, old: Size) -> io::Result<Leaves<'a>> {
        let (row, reading) = open(archive, journal.segment_to(Size(old.0 + 1)))?;
        Ok(Leaves { journal, archive, row, reading, next: old.0 })
    }

    /// The peaks of the tree the first segment begins with, as its seal has them.
    fn peaks(&self, old: Size) -> HashMap<(u32, u64), Hash> {
        let peaks = peak_nodes(old).zip(&self.reading.seal().peaks);
        peaks.map(|(node, hash)| ((node.level, node.index), *hash)).collect()
    }

    /// The hash of the leaf at `seq`, which is at or behind the one asked for last.
    fn at(&mut self, seq: u64) -> io::Result<Hash> {
        loop {
            match self.reading.next().map_err(io::Error::other)? {
                Some(entry) => {
                    self.next += 1;
                    if self.next > seq {
                        return Ok(Hash::leaf(&entry.leaf));
                    }
                }
                None => {
                    let next = self.journal.seal(self.row.segment + 1);
                    (self.row, self.reading) = open(self.archive, next)?;
                }
            }
        }
    }
}

fn open(archive: &Path, row: Result<Option<SealRow>, JournalError>) -> io::Result<(SealRow, Reading)> {
    let row = row.map_err(io::Error::other)?.ok_or_else(|| io::Error::other("no segment goes on from there"))?;
    // The payload is not looked at.
    let row = SealRow { payload: None, ..row };
    let reading = Reading::open(archive, &row).map_err(io::Error::other)?;
    Ok((row, reading))
}
