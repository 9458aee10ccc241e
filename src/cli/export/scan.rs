//! Looking through the released log: where a time begins, and what a range needs beside it.
//!
//! Reads the entry bundles of the tiles in order and believes nothing but the place of what it finds: every entry that
//! is taken is proven afterwards. Costs a reading of the leaves up to the range, no proof.

use std::collections::BTreeMap;

use crate::cli::Failure;
use crate::core::leaf::{Body, LeafView};
use crate::core::position::Partition;
use crate::core::seq::{Seq, Size};
use crate::core::tile::{self, Holds};
use crate::core::time::Timestamp;
use crate::tiles::Store;

const ENTRIES_OF_A_TILE: u64 = 256;

/// Entries that `first..next` needs to be read: the first one, the topics of the range, and the gaps declared before it
/// that reach into it. The changes of key are the store's to add.
pub(super) fn context(store: &Store, first: Seq, next: Seq) -> Result<Vec<Seq>, Failure> {
    let mut spans: BTreeMap<Partition, (u64, u64)> = BTreeMap::new();
    let mut meet = |partition: Partition, low: u64, high: u64| {
        let span = spans.entry(partition).or_insert((low, high));
        *span = (span.0.min(low), span.1.max(high));
    };
    each(store, first, next, |leaf| {
        if let Some(src) = leaf.src {
            meet(src.partition(), src.offset, src.offset);
        } else if let Some(Body::Gap(ranges)) = body(leaf)? {
            ranges.iter().for_each(|range| meet(range.partition, range.first, range.last));
        }
        Ok(())
    })?;
    let is_needed = |body: &Body| match body {
        Body::TopicDeclared(topic) => spans.keys().any(|partition| partition.topic_no == topic.topic_no),
        Body::Gap(ranges) => ranges.iter().any(|range| {
            spans.get(&range.partition).is_some_and(|(low, high)| range.first <= *high && range.last >= *low)
        }),
        _ => false,
    };
    let mut needed = vec![Seq(0)];
    each(store, Seq(0), first, |leaf| {
        if body(leaf)?.is_some_and(|body| is_needed(&body)) {
            needed.push(leaf.seq);
        }
        Ok(())
    })?;
    Ok(needed)
}

/// The entries recorded from `from` until before `to`, as far as the log says it in clear: some of its own entries
/// state a time, and times never fall. So it is those behind the last one stated before `from`, and those before the
/// first stated at or after `to`: a few more, never fewer.
pub(super) fn between(store: &Store, from: Timestamp, to: Timestamp) -> Result<(Seq, Seq), Failure> {
    let size = store.size();
    let (mut first, mut next) = (Seq(0), None);
    each(store, Seq(0), size.next_seq(), |leaf| {
        let Some(at) = body(leaf)?.and_then(|body| stated(&body)) else { return Ok(()) };
        if at < from {
            first = Seq(leaf.seq.0 + 1);
        }
        if at >= to && next.is_none() {
            next = Some(leaf.seq);
        }
        Ok(())
    })?;
    Ok((first, next.unwrap_or(Seq(size.0))))
}

fn stated(body: &Body) -> Option<Timestamp> {
    match body {
        Body::SegmentSealed { at, .. }
        | Body::Pinned { at, .. }
        | Body::Registered { at, .. }
        | Body::ReplicationAudit { at, .. }
        | Body::Observed { at, .. } => Some(*at),
        _ => None,
    }
}

/// What an entry of our own says in clear; `None` for those about people, which are most.
fn body(leaf: &LeafView<'_>) -> Result<Option<Body>, Failure> {
    if leaf.src.is_some() { Ok(None) } else { Ok(Some(leaf.body()?)) }
}

/// Gives each leaf from `first` until before `next`.
fn each(
    store: &Store,
    first: Seq,
    next: Seq,
    mut take: impl FnMut(&LeafView<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let size = store.size();
    let end = next.min(Seq(size.0));
    for index in first.0 / ENTRIES_OF_A_TILE..end.0.div_ceil(ENTRIES_OF_A_TILE) {
        let lost = || Failure::new(4, "tiles", format!("tiles: no entries {}", index * ENTRIES_OF_A_TILE)).hint(HINT);
        let bundle = bundle(store, size, index)?.ok_or_else(lost)?;
        for leaf in tile::entries(&bundle) {
            let leaf = LeafView::decode(leaf?)?;
            if first <= leaf.seq && leaf.seq < end {
                take(&leaf)?;
            }
        }
    }
    Ok(())
}

const HINT: &str = "remove data/tiles: it is made anew from the archive";

/// The entries at `index`; another process may have made the partial tile a full one meanwhile.
fn bundle(store: &Store, size: Size, index: u64) -> Result<Option<Vec<u8>>, Failure> {
    let Some(tile) = tile::tile_of(size, Holds::Entries, index) else { return Ok(None) };
    match store.tile(tile)? {
        Some(bundle) => Ok(Some(bundle)),
        None => Ok(store.tile(tile::Tile::full(Holds::Entries, index))?),
    }
}
