//! What is recomputed at every open before the journal may be used: nothing is believed because it is stored.
//!
//! Costs time and memory of the unsealed entries alone: sealed ones are the archive's, and `verify` reads them there.
//! Nothing is repaired; every refusal names both values.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::JournalError;
use super::frames::{Frames, Reading};
use super::head::verify;
use super::read::Entries;
use super::state::{SealRow, State, decode_seal, split};
use super::store::{Store, key};
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::merkle::Tree;
use crate::core::note::Vkey;
use crate::core::seq::{Seq, Size};

/// Recomputes the tree over the last seal's peaks and the unsealed entries; it must be the signed live head, and every
/// head known outside must be a prefix of it.
pub(super) fn check(
    store: &Arc<Store>,
    frames: &Frames,
    state: &State,
    vkeys: &[Vkey],
    known: &[(PathBuf, Head)],
) -> Result<(), JournalError> {
    frames.check(state.frames_first, state.frames_end)?;
    check_edges(store, state)?;
    let mut tree = state.sealed.tree.clone();
    let mut prev = state.sealed.prev;
    let mut roots = Vec::new();
    let mut note_root = |tree: &Tree| {
        if known.iter().any(|(_, head)| head.size == tree.size()) {
            roots.push((tree.size(), tree.root()));
        }
    };
    note_root(&tree);
    let reading = Reading::new(frames.dir().to_owned());
    let (from, end) = (Seq(tree.size().0), Seq(state.size().0));
    if from < end {
        for entry in Entries::new(Arc::clone(store), Some(reading), from, end, Some(prev))? {
            prev = entry?.leaf_hash;
            tree.append(prev);
            note_root(&tree);
        }
    }
    if tree != state.tree || prev != state.prev {
        let place = format!("journal at size {}", state.size());
        return Err(JournalError::damaged(place, state.tree.root().to_string(), tree.root().to_string()));
    }
    check_live(state, vkeys)?;
    known.iter().try_for_each(|(path, head)| check_known(store, state, &roots, path, head))
}

fn check_live(state: &State, vkeys: &[Vkey]) -> Result<(), JournalError> {
    let Some(note) = &state.live else {
        let empty = state.size() == Size(0);
        return if empty { Ok(()) } else { Err(JournalError::damaged("live head", "a signed note", "none")) };
    };
    let head = verify("live head", note, &state.origin, vkeys)?;
    let (size, root) = (state.size(), state.tree.root());
    if (head.size, head.root) != (size, root) {
        let found = format!("size {} root {}", head.size, head.root);
        return Err(JournalError::damaged("live head", format!("size {size} root {root}"), found));
    }
    Ok(())
}

/// The last seal row and the last block must end where the state says.
fn check_edges(store: &Store, state: &State) -> Result<(), JournalError> {
    let sealed = &state.sealed;
    if let Some(last) = sealed.segments.checked_sub(1) {
        let row = seal_row(store, last)?;
        let found = row.as_ref().map_or("none".to_owned(), |row| format!("size {} root {}", row.end(), row.root));
        let expected = format!("size {} root {}", sealed.tree.size(), sealed.tree.root());
        if found != expected {
            return Err(JournalError::damaged(format!("seal row {last}"), expected, found));
        }
    }
    let end = store.last_block()?.map(|block| block.end_seq());
    let expected = Seq(state.size().0);
    // Without unsealed entries the last block may have been pruned.
    if end.is_some_and(|end| end != expected) || (end.is_none() && expected > state.kept_from) {
        let found = end.map_or("none".to_owned(), |end| format!("up to {end}"));
        return Err(JournalError::damaged("last log block", format!("up to {expected}"), found));
    }
    Ok(())
}

fn check_known(
    store: &Arc<Store>,
    state: &State,
    roots: &[(Size, Hash)],
    path: &std::path::Path,
    head: &Head,
) -> Result<(), JournalError> {
    let (size, root) = (state.size(), state.tree.root());
    if head.size > size {
        let (head_size, head_root) = (head.size, head.root);
        return Err(JournalError::Behind { path: path.to_owned(), size, root, head_size, head_root });
    }
    let ours = match roots.iter().find(|(size, _)| *size == head.size) {
        Some((_, root)) => Some(*root),
        None => sealed_root(store, state, head.size)?,
    };
    match ours {
        Some(root) if root == head.root => Ok(()),
        Some(root) => Err(JournalError::Forked { path: path.to_owned(), size: head.size, root, head_root: head.root }),
        None => Err(JournalError::HeadTooOld {
            path: path.to_owned(),
            kept_from: state.kept_from.0,
            head_size: head.size,
            head_root: head.root,
        }),
    }
}

/// The root at a size before the end of the last seal: noted at the end of a segment, within one recomputed from its
/// entries while they are held.
fn sealed_root(store: &Arc<Store>, state: &State, size: Size) -> Result<Option<Hash>, JournalError> {
    let Some(row) = segment_to(store, state.sealed.segments, size)? else { return Ok(None) };
    if row.end() == size {
        return Ok(Some(row.root));
    }
    let Some(peaks) = store.row(&key::peaks(row.segment))? else { return Ok(None) };
    let place = || format!("peaks row {}", row.segment);
    let damaged = |found: String| JournalError::damaged(place(), "the peaks of the segment", found);
    let peaks = split(&peaks).ok_or_else(|| damaged(format!("{} bytes", peaks.len())))?;
    let mut tree = Tree::from_peaks(Size(row.first.0), peaks).map_err(|refused| damaged(refused.to_string()))?;
    for entry in Entries::new(Arc::clone(store), None, row.first, Seq(size.0), None)? {
        tree.append(entry?.leaf_hash);
    }
    Ok(Some(tree.root()))
}

/// The first of so many segments that ends at or behind `size`.
pub(super) fn segment_to(store: &Store, segments: u64, size: Size) -> Result<Option<SealRow>, JournalError> {
    // Segments are numbered densely and end in ascending order: halve.
    let (mut low, mut high) = (0, segments);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(row) = seal_row(store, middle)? else { return Ok(None) };
        if row.end() < size { low = middle + 1 } else { high = middle }
    }
    seal_row(store, low)
}

/// The row of a segment.
pub(super) fn seal_row(store: &Store, segment: u64) -> Result<Option<SealRow>, JournalError> {
    store.row(&key::seal(segment))?.map(|row| decode_seal(segment, &row)).transpose()
}
