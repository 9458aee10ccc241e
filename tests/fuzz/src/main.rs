//! The fuzzer: one decoder of `tests/harness/decoders.rs`, guided by coverage (libFuzzer).
//!
//! `PINFOLD_FUZZ_TARGET` names the decoder. With `PINFOLD_FUZZ_SEEDS` it writes the seeds of all of them below that
//! directory and ends. Both are set by `scripts/campaign fuzz`.

#![no_main]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a fuzzer fails loudly")]

#[allow(dead_code, reason = "the replay in tests/it uses the rest")]
#[path = "../../harness/decoders.rs"]
mod decoders;

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static decoders::Target> = OnceLock::new();

fuzz_target!(init: begin(), |bytes: &[u8]| {
    let target = TARGET.get().unwrap();
    if bytes.len() <= target.bytes_max {
        (target.run)(bytes);
    }
});

fn begin() {
    if let Some(dir) = std::env::var_os("PINFOLD_FUZZ_SEEDS") {
        write_seeds(Path::new(&dir));
        std::process::exit(0);
    }
    let name = std::env::var("PINFOLD_FUZZ_TARGET").unwrap_or_default();
    let target = decoders::find(&name).unwrap_or_else(|| panic!("PINFOLD_FUZZ_TARGET: no decoder {name:?}"));
    TARGET.get_or_init(|| target);
}

/// For each decoder a directory with a file for each seed, and beside it `NAME.bytes_max`.
fn write_seeds(dir: &Path) {
    let seeds = decoders::seeds::all();
    for target in decoders::TARGETS.iter().chain(&decoders::PLANTED) {
        let own = dir.join(target.name);
        std::fs::create_dir_all(&own).unwrap();
        for (number, seed) in seeds[target.name].iter().enumerate() {
            std::fs::write(own.join(format!("seed-{number:04}")), seed).unwrap();
        }
        std::fs::write(dir.join(format!("{}.bytes_max", target.name)), target.bytes_max.to_string()).unwrap();
    }
}
