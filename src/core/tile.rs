//! C2SP tlog-tiles, the pure part: where each hash and entry lies, and the ragged right edge of a growing tree.
//!
//! Not a store: `crate::tiles` keeps the files. Spec: c2sp.org/tlog-tiles v1: paths without a height, tiles of 256
//! hashes, entry bundles with a big-endian uint16 before each entry. Our leaves are at most 16,384 bytes (format.md,
//! Leaf), so every leaf fits into a bundle and none is ever left out or cut.

use super::finding::Refused;
use super::hash::Hash;
use super::leaf::LEAF_BYTES_MAX;
use super::merkle::{Node, peak_sizes, root_of};
use super::seq::{Seq, Size};

/// Hashes of a full tile, entries of a full bundle.
pub const WIDTH: u64 = 256;
/// Levels of the tree that one tile spans.
pub const HEIGHT: u32 = 8;
/// Bytes of a hash in a tile.
pub const HASH_BYTES: usize = 32;
/// Levels of tiles that a tree can have: sizes are below 2^53.
pub const LEVELS: u8 = 7;
/// The largest level a path can name (tlog-tiles, "Merkle Tree").
const PATH_LEVEL_MAX: u8 = 63;

const _: () = assert!(LEAF_BYTES_MAX <= u16::MAX as usize, "every leaf fits behind a uint16");

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holds {
    /// The entries themselves.
    Entries,
    /// Hashes of perfect subtrees of `256^level` leaves.
    Hashes {
        /// The level of the tile, 0 for leaf hashes.
        level: u8,
    },
}

/// A tile or an entry bundle: what, which, and how wide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tile {
    /// What it holds.
    pub holds: Holds,
    /// Its place in its level, from the left.
    pub index: u64,
    /// How many hashes or entries: 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The full tile.
    pub fn full(holds: Holds, index: u64) -> Tile {
        Tile { holds, index, width: 256 }
    }

    /// Whether it will never grow.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// Its path below the log's prefix: `tile/1/x001/234.p/17`.
    pub fn path(&self) -> String {
        let holds = match self.holds {
            Holds::Entries => "entries".to_owned(),
            Holds::Hashes { level } => level.to_string(),
        };
        let mut index = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            index = format!("x{:03}/{index}", rest % 1000);
            rest /= 1000;
        }
        let width = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{holds}/{index}{width}")
    }

    /// Reads a path, and only the one spelling of each tile.
    ///
    /// # Errors
    /// `non-canonical`.
    pub fn parse(path: &str) -> Result<Tile, Refused> {
        let tile = Tile::read(path).filter(|tile| tile.path() == path);
        tile.ok_or_else(|| Refused::non_canonical("tile: not a path of tlog-tiles"))
    }

    fn read(path: &str) -> Option<Tile> {
        let (holds, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let holds = match holds {
            "entries" => Holds::Entries,
            level => Holds::Hashes { level: level.parse().ok().filter(|level| *level <= PATH_LEVEL_MAX)? },
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok().filter(|width| (1..256).contains(width))?),
            None => (rest, 256),
        };
        let digits = |element: &str| element.strip_prefix('x').unwrap_or(element).parse::<u64>().ok();
        let index = index.split('/').try_fold(0u64, |sum, element| {
            digits(element).filter(|n| *n < 1000).and_then(|n| sum.checked_mul(1000)?.checked_add(n))
        })?;
        Some(Tile { holds, index, width })
    }

    /// The number of entries from which on it is full.
    pub fn full_from(&self) -> Option<Size> {
        let span = WIDTH.checked_pow(u32::from(self.level()) + 1)?;
        self.index.checked_add(1)?.checked_mul(span).map(Size)
    }

    /// Its level; a bundle lies beside level 0.
    pub fn level(&self) -> u8 {
        match self.holds {
            Holds::Entries => 0,
            Holds::Hashes { level } => level,
        }
    }
}

/// Which tile holds a node, and where in it: the run of `1 << height` hashes from `first` on hashes up to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The level of the tile.
    pub level: u8,
    /// Which tile of the level.
    pub index: u64,
    /// How far the node is above the hashes of the tile: 0 to 7.
    pub height: u32,
    /// The first of its hashes, counted in nodes of this height.
    pub first: u64,
}

/// Where a node of the tree lies.
pub fn place_of(node: Node) -> Place {
    let height = node.level % HEIGHT;
    let per_tile = HEIGHT - height;
    let level = u8::try_from(node.level / HEIGHT).unwrap_or(u8::MAX);
    Place { level, index: node.index >> per_tile, height, first: node.index & ((1 << per_tile) - 1) }
}

/// The tile at `index` of `holds` in a tree of `size`, as wide as that tree has it; `None` where it would be empty.
pub fn tile_of(size: Size, holds: Holds, index: u64) -> Option<Tile> {
    let level = Tile::full(holds, index).level();
    let hashes = WIDTH.checked_pow(u32::from(level)).map_or(0, |span| size.0 / span);
    let width = hashes.checked_sub(index.checked_mul(WIDTH)?)?.min(WIDTH);
    let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
    Some(Tile { holds, index, width })
}

/// The partial tiles of a tree of `size`: the last one of each level that is not full, and the last bundle.
pub fn partials(size: Size) -> impl Iterator<Item = Tile> {
    let hashes = (0..LEVELS).map(|level| Holds::Hashes { level });
    [Holds::Entries].into_iter().chain(hashes).filter_map(move |holds| {
        let span = WIDTH.checked_pow(u32::from(Tile::full(holds, 0).level()) + 1)?;
        tile_of(size, holds, size.0 / span)
    })
}

/// The hashes of a tile with every node above them that lies in the tile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nodes {
    /// By height above the tile's hashes; each row half as long as the one before.
    rows: Vec<Vec<Hash>>,
}

impl Nodes {
    /// Takes the hashes of a tile, as it is stored.
    ///
    /// # Errors
    /// `non-canonical` where it is not 1 to 256 whole hashes.
    pub fn read(bytes: &[u8]) -> Result<Nodes, Refused> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() || hashes.is_empty() || hashes.len() as u64 > WIDTH {
            return Err(Refused::non_canonical(format!("tile: {} bytes", bytes.len())));
        }
        let mut rows = vec![hashes.iter().map(|hash| Hash(*hash)).collect::<Vec<_>>()];
        while let Some(row) = rows.last().filter(|row| row.len() > 1) {
            let above = row.as_chunks::<2>().0.iter().map(|[left, right]| Hash::node(*left, *right)).collect();
            rows.push(above);
        }
        Ok(Nodes { rows })
    }

    /// The hashes as they are stored.
    pub fn hashes(&self) -> &[Hash] {
        self.rows.first().map_or(&[], Vec::as_slice)
    }

    /// The node at a place in this tile; `None` where the tile is not wide enough.
    pub fn node(&self, place: &Place) -> Option<Hash> {
        self.rows.get(usize::try_from(place.height).ok()?)?.get(usize::try_from(place.first).ok()?).copied()
    }
}

/// Adds an entry to a bundle.
///
/// # Errors
/// `non-canonical` for an entry longer than any leaf.
pub fn push_entry(bundle: &mut Vec<u8>, leaf: &[u8]) -> Result<(), Refused> {
    let len = u16::try_from(leaf.len()).ok().filter(|_| leaf.len() <= LEAF_BYTES_MAX);
    let len = len.ok_or_else(|| Refused::non_canonical(format!("a leaf of {} bytes", leaf.len())))?;
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(leaf);
    Ok(())
}

/// The entries of a bundle, in order.
///
/// # Errors
/// `non-canonical` where the bundle ends inside an entry.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Result<&[u8], Refused>> {
    let mut rest = Some(bundle);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let split = bytes
            .split_first_chunk::<2>()
            .and_then(|(len, after)| after.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        Some(match split {
            Some((entry, after)) => {
                rest = Some(after);
                Ok(entry)
            }
            None => Err(Refused::non_canonical("bundle: ends inside an entry")),
        })
    })
}

/// What a partial tile holds, from the full tile of its place: the same bytes, fewer of them.
///
/// # Errors
/// `non-canonical` where the full tile is not whole.
pub fn first_of(tile: Tile, mut full: Vec<u8>) -> Result<Vec<u8>, Refused> {
    let width = usize::from(tile.width);
    let len = match tile.holds {
        Holds::Hashes { .. } => width * HASH_BYTES,
        Holds::Entries => {
            let taken = entries(&full).take(width).map(|entry| entry.map(|entry| entry.len() + 2));
            taken.sum::<Result<usize, _>>()?
        }
    };
    if full.len() < len {
        return Err(Refused::non_canonical(format!("tile: {} bytes", full.len())));
    }
    full.truncate(len);
    Ok(full)
}

/// The right edge of a growing tree: what its partial tiles hold, and so its peaks and root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edge {
    size: Size,
    /// The last bundle, unless it is full.
    bundle: Vec<u8>,
    /// By level the hashes of the last tile, unless it is full.
    levels: Vec<Vec<Hash>>,
}

/// A tile that is ready to be written: bytes that will never change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Which.
    pub tile: Tile,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Edge {
    /// The edge of a tree of `size` from what `read` gives of its partial tiles.
    ///
    /// # Errors
    /// What `read` gives; `non-canonical` where a tile is not as wide as it says.
    pub fn load<E: From<Refused>>(size: Size, mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>) -> Result<Edge, E> {
        let mut edge = Edge { size, ..Edge::default() };
        for tile in partials(size) {
            let bytes = read(tile)?;
            let width = match tile.holds {
                Holds::Entries => {
                    let count = entries(&bytes).collect::<Result<Vec<_>, _>>()?.len();
                    edge.bundle = bytes;
                    count
                }
                Holds::Hashes { level } => {
                    let nodes = Nodes::read(&bytes)?;
                    edge.level(level).extend_from_slice(nodes.hashes());
                    nodes.hashes().len()
                }
            };
            if width != usize::from(tile.width) {
                return Err(Refused::non_canonical(format!("{}: of width {width}", tile.path())).into());
            }
        }
        Ok(edge)
    }

    /// The number of entries.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Adds the next entry and hands out the tiles it fills.
    ///
    /// # Errors
    /// `non-canonical` for an entry longer than any leaf; what `ready` gives.
    pub fn append<E: From<Refused>>(
        &mut self,
        leaf: &[u8],
        mut ready: impl FnMut(Ready) -> Result<(), E>,
    ) -> Result<(), E> {
        push_entry(&mut self.bundle, leaf)?;
        self.size.0 += 1;
        if self.size.0.is_multiple_of(WIDTH) {
            let bytes = std::mem::take(&mut self.bundle);
            ready(Ready { tile: Tile::full(Holds::Entries, self.size.0 / WIDTH - 1), bytes })?;
        }
        let mut hash = Hash::leaf(leaf);
        for level in 0..LEVELS {
            let row = self.level(level);
            row.push(hash);
            if (row.len() as u64) < WIDTH {
                break;
            }
            let full = std::mem::take(row);
            hash = root_of(&full);
            let span = WIDTH.pow(u32::from(level) + 1);
            let tile = Tile::full(Holds::Hashes { level }, self.size.0 / span - 1);
            ready(Ready { tile, bytes: bytes_of(&full) })?;
        }
        Ok(())
    }

    /// The partial tiles of the tree as it is now.
    pub fn partials(&self) -> impl Iterator<Item = Ready> + '_ {
        partials(self.size).map(|tile| {
            let bytes = match tile.holds {
                Holds::Entries => self.bundle.clone(),
                Holds::Hashes { level } => bytes_of(self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)),
            };
            Ready { tile, bytes }
        })
    }

    /// The peaks of the tree, largest first.
    pub fn peaks(&self) -> Vec<Hash> {
        let mut peaks = Vec::new();
        for row in self.levels.iter().rev() {
            let mut rest = row.as_slice();
            for peak in peak_sizes(Size(row.len() as u64)) {
                let Some((run, after)) = usize::try_from(peak).ok().and_then(|at| rest.split_at_checked(at)) else {
                    break;
                };
                peaks.push(root_of(run));
                rest = after;
            }
        }
        peaks
    }

    fn level(&mut self, level: u8) -> &mut Vec<Hash> {
        let at = usize::from(level);
        if self.levels.len() <= at {
            self.levels.resize_with(at + 1, Vec::new);
        }
        // The row is there: the line above made it.
        #[expect(clippy::indexing_slicing, reason = "the rows up to `at` were just made")]
        &mut self.levels[at]
    }
}

fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The tile and the place in it where an entry lies.
pub fn entry_place(seq: Seq) -> (u64, usize) {
    (seq.0 / WIDTH, usize::try_from(seq.0 % WIDTH).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
