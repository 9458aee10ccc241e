//! Consistency proofs between two released sizes, from the archive's own bytes: the peaks in a seal and the leaves after.
//!
//! A proof from an older size needs the peaks of that tree, which stand in the seal of the segment that begins there,
//! and perfect subtrees right of it, which are hashed from the leaves between, one after the other. So a proof over the
//! newest segment costs one reading of it and no memory, and none rests on anything derived. Not the proofs that are
//! served (`tiles`): those go back to any size at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::anchor::{Consistency, Unproven};
use crate::core::car::Limits;
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::merkle::{Node, Tree, consistency_proof, peak_sizes, verify_consistency};
use crate::core::segment::read::Proof;
use crate::core::seq::Size;
use crate::journal::{Journal, SealRow};
use crate::sidecar::registering::root_at;
use crate::sidecar::seal::Files;
use crate::sidecar::stored::Reading;

/// Proofs to `head`, which is one of the ends of the log's first `segments` segments.
pub(super) fn between(journal: &Arc<Journal>, archive: PathBuf, segments: u64, head: Head) -> Consistency {
    // A request that is still under way when the log is closed must not keep its journal.
    let journal = Arc::downgrade(journal);
    Arc::new(move |old| match journal.upgrade() {
        Some(journal) => proof(&journal, &archive, segments, &head, old),
        None => Err(io::Error::other("the log was closed").into()),
    })
}

fn proof(journal: &Journal, archive: &Path, segments: u64, head: &Head, old: Size) -> Result<Vec<Hash>, Unproven> {
    if old.0 == 0 || old == head.size {
        return Ok(Vec::new());
    }
    let old_root = root_at(journal, old, segments).map_err(io::Error::other)?;
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
    let mut nodes = leaves.peaks(old)?;
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
        let segment = segment_from(journal, old)?;
        let (row, reading) = open(journal, archive, segment)?;
        Ok(Leaves { journal, archive, row, reading, next: old.0 })
    }

    /// The peaks of the tree the first segment begins with, as its seal has them.
    fn peaks(&self, old: Size) -> io::Result<HashMap<(u32, u64), Hash>> {
        let path = Files::of(self.archive, self.row.segment).proof;
        let proof = Proof::open(File::open(path)?, Limits::default()).map_err(io::Error::other)?;
        let mut at = 0;
        let mut nodes = HashMap::new();
        for (peak, hash) in peak_sizes(old).zip(&proof.seal().peaks) {
            let level = peak.ilog2();
            nodes.insert((level, at >> level), *hash);
            at += peak;
        }
        Ok(nodes)
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
                None => (self.row, self.reading) = open(self.journal, self.archive, self.row.segment + 1)?,
            }
        }
    }
}

fn open(journal: &Journal, archive: &Path, segment: u64) -> io::Result<(SealRow, Reading)> {
    let row = journal.seal(segment).map_err(io::Error::other)?;
    let row = row.ok_or_else(|| io::Error::other(format!("no segment {segment}")))?;
    // The payload is not looked at.
    let row = SealRow { payload: None, ..row };
    let reading = Reading::open(archive, &row).map_err(io::Error::other)?;
    Ok((row, reading))
}

/// The segment whose first entry is at `size`, by bisection.
fn segment_from(journal: &Journal, size: Size) -> io::Result<u64> {
    let (mut low, mut high) = (0, journal.state().sealed.segments);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = journal.seal(middle).map_err(io::Error::other)?;
        let row = row.ok_or_else(|| io::Error::other(format!("no segment {middle}")))?;
        if row.first.0 < size.0 { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
