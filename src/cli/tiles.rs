//! `tiles export`: the released log as static files of c2sp.org/tlog-tiles.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::args::{Global, Tiles};
use super::output::Output;
use super::released::Released;
use super::{Failure, load_config};

pub(super) fn run(global: &Global, command: &Tiles, output: &Output) -> Result<u8, Failure> {
    match command {
        Tiles::Export { dir } => export(global, dir, output),
    }
}

fn export(global: &Global, dir: &Path, output: &Output) -> Result<u8, Failure> {
    let started = Instant::now();
    let config = load_config(global)?;
    let released = Released::ask(&config, global.timeout)?;
    let (store, grown) = released.grow(dir)?;
    let checkpoint = store.checkpoint();
    let seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let answer = json!({
        "origin": config.log.origin,
        "dir": dir,
        "size": store.size().0,
        "root": checkpoint.as_ref().map(|checkpoint| checkpoint.head.root.to_string()),
        "segments": released.segments().count(),
        "added": { "entries": grown.entries, "segments": grown.segments },
        "seconds": seconds,
    });
    output.object(&answer, || match checkpoint {
        None => "nothing is sealed and pinned yet: nothing to export".to_owned(),
        Some(_) => format!("{}: {} entries, {} of them new ({seconds} s)", dir.display(), store.size(), grown.entries),
    })
}
