//! What an export costs, and a proof from it: entries a second from proof CARs, microseconds a proof.
//!
//! `PINFOLD_BENCH_ENTRIES` (1,000,000) sets the size of the log; events have two parts each, as most have. Floor: 500,000
//! entries/s, 150 us a proof from 10 M entries. Each figure is given by wall time and by CPU time of all threads: the
//! second is what is left of it on a busy machine. Run: `cargo bench --bench tiles`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench may fail loudly and prints what it measured"
)]

use std::time::{Duration, Instant};

use pinfold::core::seq::Seq;
use pinfold::tiles::{self, Store};

#[path = "../tests/harness/cpu.rs"]
mod cpu;
#[path = "../tests/harness/segments.rs"]
mod segments;

use segments::Segments;

const SEGMENT: u64 = 65_536;
const PROOFS: u64 = 20_000;

/// Places spread over the log, the same in every run (splitmix64).
fn spread(size: u64) -> impl Iterator<Item = u64> {
    let mut state = 0u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) % size
    })
}

/// The CPU time of all our threads so far.
fn cpu_time() -> Duration {
    Duration::from_micros(cpu::of(std::process::id()).values().map(|(_, us)| us).sum())
}

fn per_second(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{what}: p50 {:?}, p99 {:?}", at(50), at(99));
}

fn main() {
    let entries: u64 = std::env::var("PINFOLD_BENCH_ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let mut log = Segments::new(dir.path(), "example.com/bench", 2);
    while log.size().0 < entries {
        log.seal(SEGMENT.min(entries - log.size().0));
    }
    let store = Store::open(&dir.path().join("tiles"), &log.origin).unwrap();
    let (begun, cpu) = (Instant::now(), cpu_time());
    store.grow(tiles::Segments::new(&log, log.count())).unwrap();
    let (took, cpu) = (begun.elapsed(), (cpu_time() - cpu).max(Duration::from_millis(10)));
    println!(
        "export, {entries} entries: {} entries/s ({took:.2?}), {} entries a CPU second",
        per_second(entries, took),
        per_second(entries, cpu)
    );
    let size = store.size();
    let timed = |make: &dyn Fn(u64)| {
        let one = |at| {
            let begun = Instant::now();
            make(at);
            begun.elapsed()
        };
        spread(size.0).take(PROOFS as usize).map(one).collect::<Vec<_>>()
    };
    let inclusion = |at| drop(store.inclusion_proof(Seq(at), size).unwrap());
    // The first round reads every tile above level 0.
    timed(&inclusion);
    let cpu = cpu_time();
    percentiles("inclusion proof, verified", timed(&inclusion));
    println!("    {:.0} us of CPU time each", (cpu_time() - cpu).as_secs_f64() * 1e6 / PROOFS as f64);
    percentiles(
        "consistency proof, verified",
        timed(&|at| {
            drop(store.consistency_proof(pinfold::core::seq::Size(at + 1), size).unwrap());
        }),
    );
    percentiles("leaf", timed(&|at| drop(store.leaf(Seq(at)).unwrap())));
}
