//! An inclusion proof in a log of ten million leaves, and what an append costs.
//!
//! Aim: 150 us a proof; floor: 500 us. The hashes lie in a file as tiles do (c2sp.org/tlog-tiles): every eighth level
//! is stored, runs of 256, and what lies between is hashed anew from at most 128 stored hashes. A proof reads each
//! run with one `pread`, from the page cache. Run: `cargo bench --bench merkle`.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench may fail loudly and prints what it measured"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pinfold::core::hash::Hash;
use pinfold::core::merkle::{Node, Tree, consistency_proof, inclusion_proof, root_of, verify_inclusion};
use pinfold::core::seq::{Seq, Size};

const LEAVES: u64 = 10_000_000;
const TILE_HEIGHT: u32 = 8;
const HASH_BYTES: u64 = 32;

/// One file per stored level: 0, 8, 16, 24.
struct Tiles {
    levels: Vec<File>,
}

impl Tiles {
    /// Reads the node's run of stored hashes and hashes it up to the node.
    fn node(&self, node: Node) -> std::io::Result<Hash> {
        let level = usize::try_from(node.level / TILE_HEIGHT).unwrap();
        let width = 1u64 << (node.level % TILE_HEIGHT);
        let mut bytes = vec![0; usize::try_from(width * HASH_BYTES).unwrap()];
        self.levels[level].read_exact_at(&mut bytes, node.index * width * HASH_BYTES)?;
        let hashes: Vec<Hash> = bytes.as_chunks::<32>().0.iter().map(|bytes| Hash(*bytes)).collect();
        Ok(root_of(&hashes))
    }
}

fn leaf(index: u64) -> Hash {
    Hash::leaf(&index.to_be_bytes())
}

fn write_level(hashes: &[Hash]) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    for hash in hashes {
        writer.write_all(hash.as_bytes()).unwrap();
    }
    writer.into_inner().unwrap()
}

/// Builds the log level by level and gives its root with it.
fn build() -> (Tiles, Hash) {
    let mut hashes: Vec<Hash> = (0..LEAVES).map(leaf).collect();
    let mut tree = Tree::new();
    let started = Instant::now();
    hashes.iter().for_each(|hash| tree.append(*hash));
    println!("append, {LEAVES} leaf hashes: {:?} each", started.elapsed() / u32::try_from(LEAVES).unwrap());
    let mut levels = vec![write_level(&hashes)];
    while hashes.len() >= 256 {
        hashes = hashes.as_chunks::<256>().0.iter().map(|tile| root_of(tile)).collect();
        levels.push(write_level(&hashes));
    }
    (Tiles { levels }, tree.root())
}

/// Indices spread over the log, the same in every run (splitmix64).
fn indices() -> impl Iterator<Item = u64> {
    let mut state = 0u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) % LEAVES
    })
}

fn prove(tiles: &Tiles, index: u64) -> Vec<Hash> {
    inclusion_proof(Seq(index), Size(LEAVES), |node| tiles.node(node)).unwrap()
}

/// Criterion gives means; what a caller waits for is the percentiles of single proofs.
fn print_percentiles(tiles: &Tiles, root: Hash) {
    let mut times: Vec<Duration> = indices()
        .take(20_000)
        .map(|index| {
            let started = Instant::now();
            let proof = prove(tiles, index);
            let took = started.elapsed();
            assert!(verify_inclusion(leaf(index), Seq(index), Size(LEAVES), &proof, root));
            took
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!(
        "inclusion proof, {LEAVES} leaves in tiles: p50 {:?}, p99 {:?} (aim 150 us, floor 500 us)",
        at(50),
        at(99)
    );
}

fn bench(criterion: &mut Criterion) {
    let (tiles, root) = build();
    print_percentiles(&tiles, root);
    let mut random = indices();
    criterion.bench_function("inclusion proof, 10 M leaves in tiles", |bencher| {
        bencher.iter(|| prove(&tiles, random.next().unwrap()));
    });
    criterion.bench_function("consistency proof, to 10 M leaves in tiles", |bencher| {
        bencher.iter(|| {
            let old = Size(random.next().unwrap() + 1);
            consistency_proof(old, Size(LEAVES), |node| tiles.node(node)).unwrap()
        });
    });
    let proof = prove(&tiles, 7);
    criterion.bench_function("verify an inclusion proof, 10 M leaves", |bencher| {
        bencher.iter(|| verify_inclusion(black_box(leaf(7)), Seq(7), Size(LEAVES), &proof, root));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
