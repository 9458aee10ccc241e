//! The tile store: what it holds at every size, after a crash at every file, and what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pinfold::core::checkpoint::Head;
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, Leaf};
use pinfold::core::merkle::{verify_consistency, verify_inclusion};
use pinfold::core::proof::evidence;
use pinfold::core::segment::Anchor;
use pinfold::core::segment::read::Proof;
use pinfold::core::seq::{Seq, Size};
use pinfold::core::tile::{self, Tile};
use pinfold::tiles::{Checkpoint, Segments, Store, TilesError};

use crate::segments::Segments as Log;

const ORIGIN: &str = "example.com/tiles";

struct Place {
    dir: tempfile::TempDir,
    log: Log,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        Place { log: Log::new(&archive, ORIGIN, 1), dir }
    }

    fn tiles(&self) -> PathBuf {
        self.dir.path().join("tiles")
    }

    fn grow_to(&self, dir: &Path, segments: u64) -> Result<Store, TilesError> {
        let store = Store::open(dir, &self.log.origin)?;
        store.grow(Segments::new(&self.log, segments))?;
        Ok(store)
    }

    fn grow(&self) -> Store {
        self.grow_to(&self.tiles(), self.log.count()).unwrap()
    }

    fn head(&self, segment: usize) -> Head {
        Checkpoint::read(self.log.checkpoints[segment].clone()).unwrap().head
    }
}

/// Every file below a directory that a web server would serve.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found.retain(|name, _| !name.starts_with('.'));
    found
}

/// What must hold for the files of a store that shows `size`: exactly the tiles of that size, and of `others` those
/// partial ones whose full tile is not there.
fn check_files(files: &BTreeMap<String, Vec<u8>>, size: Size, others: &[Size]) {
    let partials = |size: &Size| tile::partials(*size).collect::<Vec<_>>();
    let is_partial = |tile: &Tile| tile.full_from().is_none_or(|full| full > size);
    let mut wanted: BTreeSet<Tile> = partials(&size).into_iter().collect();
    wanted.extend(others.iter().flat_map(partials).filter(is_partial));
    for tile in tile::partials(size) {
        wanted.extend((0..tile.index).map(|index| Tile::full(tile.holds, index)));
    }
    for holds in [tile::Holds::Entries, tile::Holds::Hashes { level: 0 }, tile::Holds::Hashes { level: 1 }] {
        let full = (0..).map(|index| Tile::full(holds, index));
        wanted.extend(full.take_while(|tile| tile.full_from().is_some_and(|full| full <= size)));
    }
    let wanted: BTreeSet<String> = wanted.iter().map(Tile::path).collect();
    let found: BTreeSet<String> = files.keys().filter(|name| name.starts_with("tile/")).cloned().collect();
    assert_eq!(found, wanted, "at size {size}");
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("tile/")) {
        let tile = Tile::parse(name).unwrap();
        assert!(!bytes.is_empty(), "{name}: empty tiles are never there");
        let width = match tile.holds {
            tile::Holds::Entries => tile::entries(bytes).map(Result::unwrap).count(),
            tile::Holds::Hashes { .. } => bytes.len() / 32,
        };
        assert_eq!(width, usize::from(tile.width), "{name}");
    }
}

#[test]
fn a_store_has_the_tiles_of_released_sizes_and_no_other_whatever_the_steps_it_grew_in() {
    let mut place = Place::new();
    for entries in [3, 1, 252, 1, 300, 700, 500, 20] {
        place.log.seal(entries);
    }
    let sizes: Vec<Size> = (0..8).map(|segment| place.head(segment).size).collect();
    let stepwise = place.tiles();
    for segments in 1..=8 {
        let size = sizes[segments - 1];
        place.grow_to(&stepwise, segments as u64).unwrap();
        let at_once = place.dir.path().join(format!("at-once-{segments}"));
        place.grow_to(&at_once, segments as u64).unwrap();
        let (stepwise, at_once) = (files(&stepwise), files(&at_once));
        check_files(&at_once, size, &sizes[..segments]);
        assert_eq!(stepwise, at_once, "{segments} segments");
        assert_eq!(at_once["checkpoint"], place.log.checkpoints[segments - 1].as_bytes());
    }
}

#[test]
fn proofs_hold_for_every_released_size_and_nothing_beyond_is_proven() {
    let mut place = Place::new();
    for entries in [5, 251, 300, 65_400, 7] {
        place.log.seal(entries);
    }
    let store = place.grow();
    let newest = store.size();
    assert_eq!(newest, place.log.size());
    let sizes: Vec<Size> = (0..5).map(|segment| place.head(segment).size).collect();
    check_files(&files(&place.tiles()), newest, &sizes);
    for (segment, seq) in [(0, 0), (0, 4), (1, 255), (2, 256), (3, 3), (3, 65_900), (4, 65_961), (4, 40_000)] {
        let Head { size, root, .. } = place.head(segment);
        assert_eq!(store.root(size).unwrap(), root);
        let seq = Seq(seq);
        let proof = store.inclusion_proof(seq, size).unwrap();
        let leaf = store.leaf(seq).unwrap();
        assert_eq!(Leaf::decode(&leaf).unwrap().seq, seq);
        assert!(verify_inclusion(Hash::leaf(&leaf), seq, size, &proof, root), "{seq} in {size}");
    }
    for old in 0..5 {
        for new in old..5 {
            let (old, new) = (place.head(old), place.head(new));
            let proof = store.consistency_proof(old.size, new.size).unwrap();
            assert!(verify_consistency(old.size, old.root, new.size, new.root, &proof));
        }
    }
    let beyond = Size(newest.0 + 1);
    assert!(matches!(store.inclusion_proof(Seq(0), beyond), Err(TilesError::OutOfRange { .. })));
    assert!(matches!(store.inclusion_proof(newest.next_seq(), newest), Err(TilesError::OutOfRange { .. })));
    assert!(matches!(store.consistency_proof(newest, beyond), Err(TilesError::OutOfRange { .. })));
    assert!(matches!(store.consistency_proof(Size(0), newest), Err(TilesError::OutOfRange { .. })));
    assert!(matches!(store.leaf(newest.next_seq()), Err(TilesError::OutOfRange { .. })));
}

#[test]
fn an_empty_store_shows_nothing_and_makes_nothing() {
    let place = Place::new();
    let store = place.grow();
    assert_eq!((store.size(), store.checkpoint()), (Size(0), None));
    assert!(!place.tiles().exists());
    assert!(matches!(store.leaf(Seq(0)), Err(TilesError::OutOfRange { .. })));
}

/// What a crash leaves is some of the files that were to come, each complete, and the checkpoint of before.
#[test]
fn a_store_cut_short_at_any_file_shows_what_it_showed_and_grows_on_to_the_same_files() {
    let mut place = Place::new();
    for entries in [200, 400, 300] {
        place.log.seal(entries);
    }
    let (before, after) = (place.dir.path().join("before"), place.dir.path().join("after"));
    place.grow_to(&before, 1).unwrap();
    place.grow_to(&after, 3).unwrap();
    let (old, new) = (files(&before), files(&after));
    let coming: Vec<&String> = new.keys().filter(|name| *name != "checkpoint" && !old.contains_key(*name)).collect();
    assert!(coming.len() > 6, "{coming:?}");
    for cut in 0..=coming.len() {
        let dir = place.dir.path().join(format!("cut-{cut}"));
        crate::binary::copy_tree(&before, &dir);
        for name in &coming[..cut] {
            std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.join(name), &new[*name]).unwrap();
        }
        // What was still without a name.
        std::fs::create_dir_all(dir.join(".staged")).unwrap();
        std::fs::write(dir.join(".staged/0"), b"half a ti").unwrap();
        assert_eq!(Store::open(&dir, &place.log.origin).unwrap().size(), place.head(0).size, "cut at {cut}");
        let store = place.grow_to(&dir, 3).unwrap();
        assert_eq!(store.size(), place.head(2).size);
        assert_eq!(files(&dir), new, "cut at {cut}");
        assert!(!dir.join(".staged").exists());
    }
}

#[test]
fn a_segment_that_does_not_continue_the_tiles_is_refused_and_shows_nothing() {
    let mut place = Place::new();
    place.log.seal(300);
    place.log.seal(300);
    let store = place.grow_to(&place.tiles(), 1).unwrap();
    let shown = files(&place.tiles());

    // The same place in another log of this name: its entries, and so its tree, are others.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut other = Log::new(elsewhere.path(), ORIGIN, 2);
    other.seal(300);
    other.seal(300);
    let error = store.grow(Segments::new(&other, 2)).unwrap_err();
    assert!(error.to_string().contains("segment 1") && error.to_string().contains("root-mismatch"), "{error}");

    // A leaf changed: the block no longer is what the seal names.
    let path = place.log.proof(1);
    let sound = std::fs::read(&path).unwrap();
    let mut bytes = sound.clone();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = store.grow(Segments::new(&place.log, 2)).unwrap_err();
    assert!(error.to_string().contains("block-hash"), "{error}");

    // Longer tiles than the archive, and an archive of another log.
    std::fs::write(&path, sound).unwrap();
    assert_eq!(files(&place.tiles()), shown);
    store.grow(Segments::new(&place.log, 2)).unwrap();
    let error = store.grow(Segments::new(&place.log, 1)).unwrap_err();
    assert!(matches!(error, TilesError::OtherArchive { .. }), "{error}");
    let other = pinfold::core::origin::Origin::new("example.com/other").unwrap();
    let error = Store::open(&place.tiles(), &other).unwrap_err();
    assert!(matches!(error, TilesError::Unsound { .. }), "{error}");
}

#[test]
fn a_tile_that_was_changed_proves_nothing() {
    let mut place = Place::new();
    place.log.seal(600);
    place.log.seal(100);
    place.grow();
    let files = files(&place.tiles());
    for name in files.keys().filter(|name| name.starts_with("tile/")) {
        let mut bytes = files[name].clone();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(place.tiles().join(name), &bytes).unwrap();
        // The right edge shows at once; the rest when a proof needs it.
        let refused = match Store::open(&place.tiles(), &place.log.origin) {
            Err(_) => true,
            Ok(store) => (0..700).any(|at| store.leaf(Seq(at)).is_err()),
        };
        // Nobody who reads the newest size needs the partial tiles of the one before.
        let is_needed = !name.contains(".p/") || tile::partials(Size(700)).any(|tile| tile.path() == *name);
        assert_eq!(refused, is_needed, "{name}");
        std::fs::write(place.tiles().join(name), &files[name]).unwrap();
    }
}

#[test]
fn what_leaves_the_log_carries_every_change_of_key_and_either_end_checks_it() {
    let mut place = Place::new();
    place.log.seal(10);
    place.log.rotate(300);
    place.log.rotate(5);
    let store = place.grow();
    assert_eq!(store.key_changes().unwrap(), [Seq(10), Seq(310)]);
    let newest = store.checkpoint().unwrap();
    let proofs = store.proofs([Seq(3)], &newest).unwrap();
    assert_eq!(proofs.iter().map(|proof| proof.index.0).collect::<Vec<_>>(), [3, 10, 310]);
    for (key, holds) in [(0, true), (1, false), (2, true)] {
        let checked = evidence::check_proofs(&proofs, place.log.keys[key].vkey(), None);
        assert_eq!(checked.is_ok(), holds, "key {key}: {checked:?}");
    }

    // Under an older checkpoint only what precedes it.
    let older = Segments::new(&place.log, 3).checkpoint_at(Size(10)).unwrap().unwrap();
    assert_eq!(store.proofs([Seq(3)], &older).unwrap().len(), 1);
    assert_eq!(Segments::new(&place.log, 3).checkpoint_at(Size(11)).unwrap(), None);
    assert_eq!(Segments::new(&place.log, 3).checkpoint_at(Size(0)).unwrap(), None);

    // A list without one of them does not lead to the checkpoint's key.
    std::fs::write(place.tiles().join("key-changes"), "10\n").unwrap();
    assert!(matches!(store.proofs([Seq(3)], &newest), Err(TilesError::Unproven(_))));
    std::fs::write(place.tiles().join("key-changes"), "ten\n").unwrap();
    assert!(matches!(store.proofs([Seq(3)], &newest), Err(TilesError::Unsound { .. })));
}

#[test]
fn a_checkpoint_of_another_tree_proves_nothing() {
    let mut place = Place::new();
    place.log.seal(50);
    let store = place.grow();
    let mut other = (*store.checkpoint().unwrap()).clone();
    other.head.root = Hash::ZERO;
    assert!(matches!(store.proof(Seq(3), &other), Err(TilesError::Unproven(_))));
    let leaf = Leaf::decode(&store.leaf(Seq(0)).unwrap()).unwrap();
    assert!(matches!(leaf.body, Body::LogOpened(_)));
}

/// Cosignatures come after the segment was shown.
#[test]
fn the_cosignatures_of_the_newest_checkpoint_are_taken_over_when_they_come() {
    let mut place = Place::new();
    place.log.seal(50);
    let store = place.grow();
    let seal = Proof::open(std::fs::File::open(place.log.proof(0)).unwrap(), Default::default()).unwrap().cid();
    let witness = pinfold::core::note::Skey::from_seed("witness.example", &[9; 32]).unwrap();
    let note = place.log.checkpoints[0].clone();
    let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let cosigned = note + &witness.sign(&text);
    let write = |checkpoint: &str, seal| {
        let anchor = Anchor { tsa: Vec::new(), seal, checkpoint: checkpoint.to_owned() };
        std::fs::write(place.log.dir.join("000000.anchor.car"), anchor.to_car()).unwrap();
    };
    write(&cosigned, seal);
    store.grow(Segments::new(&place.log, 1)).unwrap();
    assert_eq!(store.checkpoint().unwrap().note, cosigned);
    assert_eq!(files(&place.tiles())["checkpoint"], cosigned.as_bytes());
    write(&cosigned, pinfold::core::cid::Cid::of(pinfold::core::cid::Codec::DagCbor, b"x"));
    assert!(store.grow(Segments::new(&place.log, 1)).unwrap_err().to_string().contains("seal-link"));
}
