use std::collections::BTreeMap;

use super::super::merkle::{Tree, nodes_of};
use super::*;

fn leaf(at: u64) -> Vec<u8> {
    format!("leaf {at}").into_bytes()
}

/// Never refused: the leaves of these tests are short.
#[derive(Debug)]
struct Never;

impl From<Refused> for Never {
    fn from(refused: Refused) -> Never {
        panic!("{refused}")
    }
}

/// A tree of `size` with all its full tiles.
fn grown(size: u64) -> (Edge, BTreeMap<Tile, Vec<u8>>) {
    let (mut edge, mut tiles) = (Edge::default(), BTreeMap::new());
    for at in 0..size {
        let taken = edge.append::<Never>(&leaf(at), |ready| {
            assert!(ready.tile.is_full());
            assert!(tiles.insert(ready.tile, ready.bytes).is_none(), "a tile twice");
            Ok(())
        });
        taken.unwrap();
    }
    (edge, tiles)
}

#[test]
fn paths_are_those_of_the_specification_and_each_has_one_spelling() {
    let hashes = |level, index, width| Tile { holds: Holds::Hashes { level }, index, width };
    let entries = |index, width| Tile { holds: Holds::Entries, index, width };
    for (path, tile) in [
        ("tile/0/000", hashes(0, 0, 256)),
        ("tile/0/x001/x234/067", hashes(0, 1_234_067, 256)),
        ("tile/1/x001/234.p/17", hashes(1, 1_234, 17)),
        ("tile/63/999.p/255", hashes(63, 999, 255)),
        ("tile/entries/x001/000", entries(1_000, 256)),
        ("tile/entries/000.p/1", entries(0, 1)),
    ] {
        assert_eq!(tile.path(), path);
        assert_eq!(Tile::parse(path), Ok(tile));
    }
    for bad in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/234",
        "tile/0/x001/x234",
        "tile/0/x01/234",
        "tile/00/000",
        "tile/+0/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/8/0/000",
        "tile/data/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert!(Tile::parse(bad).is_err(), "{bad}");
    }
}

/// The example of the specification: 70,000 entries.
#[test]
fn the_tiles_of_a_tree_are_those_of_the_example() {
    let size = Size(70_000);
    let partial: Vec<String> = partials(size).map(|tile| tile.path()).collect();
    assert_eq!(partial, ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    let of = |level, index| tile_of(size, Holds::Hashes { level }, index).map(|tile| tile.width);
    assert_eq!([of(0, 0), of(0, 272), of(0, 273), of(0, 274)], [Some(256), Some(256), Some(112), None]);
    assert_eq!([of(1, 0), of(1, 1), of(1, 2), of(2, 0), of(3, 0)], [Some(256), Some(17), None, Some(1), None]);
    assert_eq!(partials(Size(256)).map(|tile| tile.path()).collect::<Vec<_>>(), ["tile/1/000.p/1"]);
    assert_eq!(partials(Size(0)).count(), 0);
    assert_eq!(Tile::full(Holds::Hashes { level: 1 }, 0).full_from(), Some(Size(65_536)));
    assert_eq!(Tile::full(Holds::Entries, 2).full_from(), Some(Size(768)));
}

#[test]
fn the_edge_has_the_peaks_of_the_tree_and_loads_from_its_partial_tiles() {
    for size in [0, 1, 2, 3, 255, 256, 257, 511, 700, 65_535, 65_536, 65_537, 66_000] {
        let (edge, _) = grown(size);
        let mut tree = Tree::new();
        (0..size).for_each(|at| tree.append(Hash::leaf(&leaf(at))));
        assert_eq!((edge.size(), edge.peaks()), (tree.size(), tree.peaks().to_vec()), "size {size}");
        let stored: BTreeMap<Tile, Vec<u8>> = edge.partials().map(|ready| (ready.tile, ready.bytes)).collect();
        let loaded = Edge::load::<Never>(edge.size(), |tile| Ok(stored[&tile].clone())).unwrap();
        assert_eq!(loaded.peaks(), edge.peaks(), "size {size}");
        assert_eq!(loaded.partials().collect::<Vec<_>>(), edge.partials().collect::<Vec<_>>());
    }
}

#[test]
fn every_node_of_a_tree_is_found_in_its_tiles() {
    let size = 66_000;
    let (edge, mut tiles) = grown(size);
    tiles.extend(edge.partials().map(|ready| (ready.tile, ready.bytes)));
    let hashes: Vec<Hash> = (0..size).map(|at| Hash::leaf(&leaf(at))).collect();
    let expected = nodes_of(&hashes);
    for level in 0..=16 {
        let last = (size >> level) - 1;
        for index in [0, 1, 2, 127, 128, 200, last / 2, last].into_iter().filter(|index| *index <= last) {
            let node = Node { level, index };
            let place = place_of(node);
            let tile = tile_of(Size(size), Holds::Hashes { level: place.level }, place.index).unwrap();
            let found = Nodes::read(&tiles[&tile]).unwrap().node(&place);
            assert_eq!(found, expected(node).ok(), "{node:?}");
        }
    }
}

#[test]
fn bundles_give_their_entries_back_and_no_cut_reads_whole() {
    let mut bundle = Vec::new();
    let leaves = [vec![], vec![7; 300], vec![9; LEAF_BYTES_MAX]];
    leaves.iter().for_each(|leaf| push_entry(&mut bundle, leaf).unwrap());
    assert_eq!(entries(&bundle).collect::<Result<Vec<_>, _>>().unwrap(), leaves);
    assert!(push_entry(&mut bundle.clone(), &vec![0; LEAF_BYTES_MAX + 1]).is_err());
    for cut in 0..bundle.len() {
        let whole = entries(&bundle[..cut]).collect::<Result<Vec<_>, _>>().map(|entries| entries.len());
        assert!(whole.is_err() || whole.as_ref().is_ok_and(|count| *count < 3), "cut at {cut}: {whole:?}");
    }
    for len in [0, 31, 33, 257 * 32] {
        assert!(Nodes::read(&vec![0; len]).is_err(), "{len} bytes");
    }
}
