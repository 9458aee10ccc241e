//! Which entry of a damaged page is the one that was changed: each leaf names the hash of the one before.
//!
//! A diagnosis, not a proof. That the page is not the signed one is certain; every leaf before the named one is confirmed
//! by its successor. Where the change hides which of two neighbours it is in, the earlier one is named.

use super::super::codec::Cursor;
use super::super::hash::Hash;
use super::super::leaf::LeafView;
use super::super::seq::Seq;

/// The first changed leaf of the page that begins at `first`.
pub(super) fn first_changed(first: Seq, page: &[u8]) -> Seq {
    let mut cursor = Cursor::new(page);
    let count = cursor.array().unwrap_or(0);
    let mut rest = cursor.rest();
    let (mut links, mut leaves) = (Vec::new(), 0);
    let mut last = None;
    for _ in 0..count {
        let Ok((leaf, after)) = LeafView::decode_prefix(rest) else { break };
        links.extend(last.map(|last| last == leaf.prev));
        last = rest.get(..rest.len() - after.len()).map(Hash::leaf);
        (rest, leaves) = (after, leaves + 1);
    }
    let broken = links.iter().position(|is_sound| !is_sound);
    let at = match broken {
        // The link into a leaf and the link out of it both broken: its own bytes, `prev` among them.
        Some(at) if links.get(at + 1) == Some(&false) => at + 1,
        Some(at) => at,
        None if leaves < count && is_whole(rest, (leaves + 1 < count).then(|| Seq(first.0 + leaves as u64 + 1))) => {
            leaves
        }
        // Either this one is not confirmed, or the next cannot be read because this one has another length.
        None => leaves.saturating_sub(1),
    };
    Seq(first.0 + at as u64)
}

/// Whether what cannot be read is one item after all, with the leaf of seq `next`, or nothing, behind it.
fn is_whole(rest: &[u8], next: Option<Seq>) -> bool {
    let mut cursor = Cursor::new(rest);
    if cursor.skip().is_err() {
        return false;
    }
    match next {
        Some(next) => LeafView::decode_prefix(cursor.rest()).is_ok_and(|(leaf, _)| leaf.seq == next),
        None => cursor.rest().is_empty(),
    }
}
