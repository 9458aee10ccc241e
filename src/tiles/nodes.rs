//! Nodes of the tree, read from tiles for one proof.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{CACHED_TILES_MAX, Store, TilesError};
use crate::core::hash::Hash;
use crate::core::merkle::Node;
use crate::core::seq::{Seq, Size};
use crate::core::tile::{Holds, Nodes, place_of};

/// What answers a proof's questions: each tile is read and hashed once, however many of its nodes are asked for.
pub(super) struct Lookup<'s> {
    store: &'s Store,
    near: HashMap<(u8, u64), Arc<Nodes>>,
}

impl Store {
    /// What reads the nodes of the tree of `size`.
    ///
    /// # Errors
    /// `OutOfRange` for a size beyond the tiles.
    pub(super) fn nodes(&self, size: Size) -> Result<Lookup<'_>, TilesError> {
        let held = self.size();
        if size > held {
            return Err(TilesError::OutOfRange { of: size.0, size: held });
        }
        Ok(Lookup { store: self, near: HashMap::new() })
    }
}

impl Lookup<'_> {
    /// The hash of the entry at `seq`.
    pub(super) fn leaf(&mut self, seq: Seq) -> Result<Hash, TilesError> {
        self.node(Node { level: 0, index: seq.0 })
    }

    /// A node.
    pub(super) fn node(&mut self, node: Node) -> Result<Hash, TilesError> {
        let place = place_of(node);
        let key = (place.level, place.index);
        let nodes = match self.near.get(&key) {
            Some(nodes) => Arc::clone(nodes),
            None => {
                let nodes = self.load(key)?;
                self.near.insert(key, Arc::clone(&nodes));
                nodes
            }
        };
        let missing = || TilesError::OutOfRange { of: node.index, size: self.store.size() };
        nodes.node(&place).ok_or_else(missing)
    }

    fn load(&self, key: (u8, u64)) -> Result<Arc<Nodes>, TilesError> {
        let cached = || self.store.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nodes) = cached().get(&key) {
            return Ok(Arc::clone(nodes));
        }
        let (level, index) = key;
        let (tile, bytes) = self.store.tile_within(Holds::Hashes { level }, index)?;
        let nodes = Nodes::read(&bytes).ok().filter(|nodes| nodes.hashes().len() == usize::from(tile.width));
        let nodes = nodes.ok_or_else(|| self.store.unsound(&tile.path(), format!("{} bytes", bytes.len())))?;
        let nodes = Arc::new(nodes);
        if level > 0 && tile.is_full() {
            let mut cached = cached();
            if cached.len() >= CACHED_TILES_MAX {
                cached.clear();
            }
            cached.insert(key, Arc::clone(&nodes));
        }
        Ok(nodes)
    }
}
