//! The log as C2SP tlog-tiles on disk: hash tiles, entry bundles, the checkpoint. What is proven is read from here.
//!
//! Derived and never the truth: made from the proof CARs of released segments ([`Store::grow`]), and made anew from
//! them where it is deleted. A directory of `tiles export` and `data/tiles` are the same thing. Not the archive, and
//! not HTTP. Spec: c2sp.org/tlog-tiles v1; `core::tile` has the paths.
//!
//! What holds at any moment, crashes included: a tile is complete under its name or absent; all tiles of the size that
//! `checkpoint` names are there, since it is written last; so `checkpoint` is all the state there is.

mod error;
mod files;
mod grow;
mod nodes;
mod prove;
mod segments;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use error::TilesError;
pub use grow::Grown;
pub use segments::Segments;

use crate::core::checkpoint::{Form, Head, Statement};
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::merkle::Tree;
use crate::core::origin::Origin;
use crate::core::seq::{Seq, Size};
use crate::core::tile::{Edge, Holds, Nodes, Tile};
use files::read;

/// The name of the file that names the size; written last.
const CHECKPOINT: &str = "checkpoint";
/// The seqs of all entries of kind 8, one a line: what leaves the log alone carries a proof of each.
const KEY_CHANGES: &str = "key-changes";
/// Full tiles above level 0 that are kept in memory, with the nodes between: 16 KiB each. A level 0 tile is read for
/// each proof.
const CACHED_TILES_MAX: usize = 512;

/// A released checkpoint: what it says, and the note as it is handed on. Its signature is the reader's to verify.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// What it says.
    pub head: Head,
    /// The signed note, cosignatures included.
    pub note: String,
}

impl Checkpoint {
    /// Reads a checkpoint, as a seal or an anchor has it.
    ///
    /// # Errors
    /// `non-canonical`, also for a live head: those are never shown.
    pub fn read(note: String) -> Result<Checkpoint, Refused> {
        let Statement { head, form, .. } = Statement::parse(&note)?;
        match form {
            Form::Checkpoint => Ok(Checkpoint { head, note }),
            Form::Live => Err(Refused::non_canonical("checkpoint: this is a live head")),
        }
    }
}

/// A directory of tiles of one log. May be read from several threads while one grows it, and beside another process.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    origin: Origin,
    /// What `checkpoint` said last; `None` before the first segment.
    shown: RwLock<Option<Arc<Checkpoint>>>,
    /// Full tiles by level and index. They never change, so nothing is ever wrong in here.
    cached: Mutex<HashMap<(u8, u64), Arc<Nodes>>>,
}

impl Store {
    /// Opens the tiles of `origin` in `dir`. A directory that is not there is an empty store.
    ///
    /// # Errors
    /// `Unsound` where it is of another log, or its tiles do not give the root of its checkpoint.
    pub fn open(dir: &Path, origin: &Origin) -> Result<Store, TilesError> {
        let store =
            Store { dir: dir.to_owned(), origin: origin.clone(), shown: RwLock::default(), cached: Mutex::default() };
        store.reload()?;
        Ok(store)
    }

    /// The newest checkpoint whose tiles are all here.
    pub fn checkpoint(&self) -> Option<Arc<Checkpoint>> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of entries the tiles are of.
    pub fn size(&self) -> Size {
        self.checkpoint().map_or(Size(0), |checkpoint| checkpoint.head.size)
    }

    /// The bytes of a tile or bundle as they are served; `None` where there is no such file.
    ///
    /// Files are there for released sizes only, and a partial tile goes when its full tile is there.
    ///
    /// # Errors
    /// `Io`.
    pub fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, TilesError> {
        read(&self.dir.join(tile.path()))
    }

    /// The bytes of the entry at `seq`, which hash to what the tiles have there; [`Store::proof`] shows them by the root.
    ///
    /// # Errors
    /// `OutOfRange` beyond the size; `Unsound` where the bundle is not what the tree has.
    pub fn leaf(&self, seq: Seq) -> Result<Vec<u8>, TilesError> {
        let mut nodes = self.nodes(seq.size())?;
        let expected = nodes.leaf(seq)?;
        let (index, at) = crate::core::tile::entry_place(seq);
        let (tile, bundle) = self.tile_within(Holds::Entries, index)?;
        let entry = crate::core::tile::entries(&bundle).nth(at).transpose().ok().flatten();
        match entry.filter(|entry| Hash::leaf(entry) == expected) {
            Some(entry) => Ok(entry.to_vec()),
            None => Err(self.unsound(&tile.path(), format!("entry {seq} is not the one of the tree"))),
        }
    }

    /// The seqs of the entries of kind 8, in order.
    ///
    /// # Errors
    /// `Io`; `Unsound` where the list is none.
    pub fn key_changes(&self) -> Result<Vec<Seq>, TilesError> {
        let Some(bytes) = read(&self.dir.join(KEY_CHANGES))? else { return Ok(Vec::new()) };
        let size = self.size();
        let seqs = String::from_utf8_lossy(&bytes).lines().map(|line| line.parse().map(Seq)).collect::<Result<_, _>>();
        let mut seqs: Vec<Seq> = seqs.map_err(|_| self.unsound(KEY_CHANGES, "a line that is no seq"))?;
        // A crash may have left seqs of entries whose tiles are not shown yet.
        seqs.retain(|seq| seq.size() <= size);
        Ok(seqs)
    }

    /// Reads `checkpoint` again and checks that the right edge gives its root.
    fn reload(&self) -> Result<Edge, TilesError> {
        let Some(note) = read(&self.dir.join(CHECKPOINT))? else {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok(Edge::default());
        };
        let note = String::from_utf8(note).map_err(|_| self.unsound(CHECKPOINT, "not UTF-8"))?;
        let checkpoint = Checkpoint::read(note).map_err(|refused| self.unsound(CHECKPOINT, refused.what))?;
        let head = &checkpoint.head;
        if head.origin != self.origin {
            return Err(self.unsound(CHECKPOINT, format!("expected {}, found {}", self.origin, head.origin)));
        }
        let edge = Edge::load(head.size, |tile| self.stored(tile))?;
        let root = root_of(&edge)?;
        if root != head.root {
            return Err(self.unsound(CHECKPOINT, format!("expected root {}, the tiles give {root}", head.root)));
        }
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(checkpoint));
        Ok(edge)
    }

    /// The tile at `index` as wide as the size shown has it.
    fn tile_within(&self, holds: Holds, index: u64) -> Result<(Tile, Vec<u8>), TilesError> {
        let size = self.size();
        let tile = crate::core::tile::tile_of(size, holds, index);
        let tile = tile.ok_or(TilesError::OutOfRange { of: index, size })?;
        Ok((tile, self.stored(tile)?))
    }

    /// The bytes of a tile that must be there. A partial tile is looked for in the full one too: another process may
    /// have grown the store since its checkpoint was read.
    fn stored(&self, tile: Tile) -> Result<Vec<u8>, TilesError> {
        if let Some(bytes) = self.tile(tile)? {
            return Ok(bytes);
        }
        let full = self.tile(Tile::full(tile.holds, tile.index))?;
        let full = full.ok_or_else(|| self.unsound(&tile.path(), "no such file"))?;
        crate::core::tile::first_of(tile, full).map_err(|refused| self.unsound(&tile.path(), refused.what))
    }

    fn unsound(&self, name: &str, what: impl Into<String>) -> TilesError {
        TilesError::Unsound { dir: self.dir.clone(), name: name.to_owned(), what: what.into() }
    }
}

fn root_of(edge: &Edge) -> Result<Hash, Refused> {
    Tree::from_peaks(edge.size(), edge.peaks()).map(|tree| tree.root())
}
