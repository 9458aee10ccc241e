//! Growing a store from proof CARs, in pieces that are each durable before `checkpoint` names them.

use std::collections::BTreeMap;

use super::files::{Staged, lock, remove_dir, replace};
use super::segments::Segments;
use super::{CHECKPOINT, Checkpoint, KEY_CHANGES, Store, TilesError, root_of};
use crate::core::finding::{Code, Refused};
use crate::core::leaf::LeafView;
use crate::core::segment::Seal;
use crate::core::seq::{Seq, Size};
use crate::core::tile::{Edge, Ready, Tile, partials};

/// Entries after which what is staged is made durable: the largest segment. A crash costs at most this much work.
const PIECE_ENTRIES: u64 = 65_536;
/// The kind of a change of key.
const KEY_CHANGED: u64 = 8;

/// What growing did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grown {
    /// Entries added.
    pub entries: u64,
    /// Segments added.
    pub segments: u64,
}

impl Store {
    /// Adds what `segments` has beyond the tiles, and takes over the cosignatures of their newest checkpoint. After a
    /// crash it is done again from the last piece that was shown.
    ///
    /// # Errors
    /// `Segment` where one does not continue these tiles or its leaves do not give the root it signed: nothing of it is
    /// shown. `OtherArchive` where no segment ends where the tiles do; `Busy`; `Io`.
    pub fn grow(&self, segments: Segments<'_>) -> Result<Grown, TilesError> {
        if segments.count() == 0 {
            return Ok(Grown::default());
        }
        let _lock = lock(&self.dir)?;
        let mut edge = self.reload()?;
        let from = edge.size();
        let first = segments.after(from)?;
        if first == segments.count() {
            return self.renew(&segments, from);
        }
        let mut piece = Piece::begin(self, from)?;
        for segment in first..segments.count() {
            piece.add(&mut edge, &segments, segment)?;
            if edge.size().0 - piece.from.0 >= PIECE_ENTRIES || segment + 1 == segments.count() {
                let checkpoint = segments.checkpoint(segment)?;
                piece.show(&edge, checkpoint)?;
            }
        }
        piece.staged.end()?;
        Ok(Grown { entries: edge.size().0 - from.0, segments: segments.count() - first })
    }

    /// Nothing to add: only cosignatures may have come.
    fn renew(&self, segments: &Segments<'_>, size: Size) -> Result<Grown, TilesError> {
        let newest = segments.checkpoint_at(size)?;
        let other = || TilesError::OtherArchive { dir: self.dir.clone(), size, segments: segments.count() };
        let newest = newest.ok_or_else(other)?;
        let shown = self.checkpoint().ok_or_else(other)?;
        if newest.head != shown.head {
            return Err(other());
        }
        if newest != *shown {
            replace(&self.dir, CHECKPOINT, newest.note.as_bytes())?;
            self.reload()?;
        }
        Ok(Grown::default())
    }
}

/// Segments that become visible together.
struct Piece<'s> {
    store: &'s Store,
    from: Size,
    staged: Staged,
    /// The partial tiles of the sizes within the piece that were released too, unless full by now.
    partials: BTreeMap<Tile, Vec<u8>>,
    key_changes: Vec<Seq>,
}

impl<'s> Piece<'s> {
    fn begin(store: &'s Store, from: Size) -> Result<Piece<'s>, TilesError> {
        let staged = Staged::begin(&store.dir)?;
        Ok(Piece { store, from, staged, partials: BTreeMap::new(), key_changes: store.key_changes()? })
    }

    /// Takes a segment: full tiles are staged at once, partial ones when the piece ends.
    fn add(&mut self, edge: &mut Edge, segments: &Segments<'_>, segment: u64) -> Result<(), TilesError> {
        let refused = |refused| TilesError::Segment { segment, refused };
        let mut reading = segments.open(segment)?;
        check_start(edge, reading.seal(), self.store).map_err(refused)?;
        while let Some(page) = reading.page().map_err(refused)? {
            let mut rest = page.bytes;
            for _ in 0..page.count {
                let (view, after) = LeafView::decode_prefix(rest).map_err(refused)?;
                if view.seq.size().0 != edge.size().0 + 1 {
                    let what = format!("entry {} where {} stands", view.seq, edge.size());
                    return Err(refused(Refused::new(Code::SeqGap, what)));
                }
                if view.kind == KEY_CHANGED {
                    self.key_changes.push(view.seq);
                }
                let leaf = rest.get(..rest.len() - after.len()).unwrap_or_default();
                edge.append(leaf, |ready| self.staged.put(ready.tile.path(), &ready.bytes))?;
                rest = after;
            }
        }
        check_end(edge, reading.seal()).map_err(refused)?;
        self.partials.retain(|tile, _| tile.full_from().is_some_and(|full| full > edge.size()));
        self.partials.extend(edge.partials().map(|Ready { tile, bytes }| (tile, bytes)));
        Ok(())
    }

    /// Makes everything durable, then names the size, then drops what no reader of that size needs.
    fn show(&mut self, edge: &Edge, checkpoint: Checkpoint) -> Result<(), TilesError> {
        for (tile, bytes) in std::mem::take(&mut self.partials) {
            self.staged.put(tile.path(), &bytes)?;
        }
        self.staged.name_all()?;
        if !self.key_changes.is_empty() {
            let lines: String = self.key_changes.iter().map(|seq| format!("{seq}\n")).collect();
            replace(&self.store.dir, KEY_CHANGES, lines.as_bytes())?;
        }
        replace(&self.store.dir, CHECKPOINT, checkpoint.note.as_bytes())?;
        self.store.reload()?;
        let is_full = |tile: &Tile| tile.full_from().is_some_and(|full| full <= edge.size());
        for tile in partials(self.from).filter(is_full) {
            let full = self.store.dir.join(Tile::full(tile.holds, tile.index).path());
            remove_dir(&full.with_extension("p"))?;
        }
        self.from = edge.size();
        Ok(())
    }
}

/// Whether a segment begins where the tiles end.
fn check_start(edge: &Edge, seal: &Seal, store: &Store) -> Result<(), Refused> {
    if seal.origin != store.origin {
        return Err(Refused::new(Code::WrongOrigin, format!("expected {}, found {}", store.origin, seal.origin)));
    }
    if seal.first != edge.size() {
        return Err(Refused::new(Code::SeqGap, format!("begins at {}, the tiles end at {}", seal.first, edge.size())));
    }
    if seal.peaks != edge.peaks() {
        return Err(Refused::new(Code::RootMismatch, format!("its tree at {} is another than the tiles'", seal.first)));
    }
    Ok(())
}

/// Whether its leaves gave the root it signed.
fn check_end(edge: &Edge, seal: &Seal) -> Result<(), Refused> {
    let signed = Checkpoint::read(seal.checkpoint.clone())?.head;
    let found = crate::core::checkpoint::Head { origin: seal.origin.clone(), size: edge.size(), root: root_of(edge)? };
    if signed != found {
        let what = format!(
            "expected {} entries and root {}, found {} and {}",
            signed.size, signed.root, found.size, found.root
        );
        return Err(Refused::new(Code::RootMismatch, what));
    }
    Ok(())
}
