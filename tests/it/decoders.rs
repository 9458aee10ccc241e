//! Every decoder on its seeds, on what once made one fail, and on seeded mutations of them: the short form of
//! `scripts/campaign fuzz`, which is guided by coverage and has no end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::targets::{PLANTED, TARGETS, Target, find, seeds};

/// Rounds of mutations: a few seconds in all.
const ROUNDS: usize = 80;

/// Changes an input as a fuzzer without eyes does: bits, bytes, pieces out, in and twice, another seed's piece.
fn mutate(rng: &mut StdRng, seeds: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let pick = |rng: &mut StdRng| seeds[rng.random_range(0..seeds.len())].clone();
    let mut bytes = pick(rng);
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 32));
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b' ', b'0'][rng.random_range(0..8)],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.splice(at..at, [rng.next_u32().to_le_bytes()[0]]).for_each(drop),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece).for_each(drop);
            }
            5 => bytes.truncate(at),
            _ => {
                let other = pick(rng);
                let from = rng.random_range(0..=other.len());
                let piece = &other[from..other.len().min(from + 64)];
                bytes.splice(at..end, piece.iter().copied()).for_each(drop);
            }
        }
    }
    bytes.truncate(bytes_max);
    bytes
}

/// Runs a target; an input that makes it panic is told in a form that can be kept.
fn run(target: &Target, bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)))
        .map_err(|_| format!("{}: {}", target.name, hex::encode(bytes)))
}

fn replay(target: &Target, seeds: &[Vec<u8>], rounds: usize) -> Result<(), String> {
    for seed in seeds {
        run(target, seed)?;
    }
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..rounds * target.per_round {
        run(target, &mutate(&mut rng, seeds, target.bytes_max))?;
    }
    Ok(())
}

#[test]
fn no_decoder_fails_on_its_seeds_or_on_mutations_of_them() {
    let seeds = seeds::all();
    for target in TARGETS {
        let own = seeds.get(target.name).unwrap_or_else(|| panic!("{} has no seeds", target.name));
        if let Err(failed) = replay(target, own, ROUNDS) {
            panic!("{failed}");
        }
    }
}

#[test]
fn what_once_made_a_decoder_fail_does_not_any_more() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions");
    for dir in std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let target = find(name).unwrap_or_else(|| panic!("no target {name}"));
        for file in std::fs::read_dir(&dir).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            if let Err(failed) = run(target, &bytes) {
                panic!("{failed}");
            }
        }
    }
}

/// The checker: a fault in what is written back is found; one behind a rare word is what the campaign is for.
#[test]
fn a_planted_fault_is_found() {
    let seeds = seeds::all();
    let [loss, word] = &PLANTED;
    let failed = replay(loss, &seeds[loss.name], ROUNDS).unwrap_err();
    assert!(failed.starts_with("planted-loss: "), "{failed}");
    assert_eq!(replay(word, &seeds[word.name], ROUNDS), Ok(()));
    assert!(run(word, b"seldomly").is_err());
}
