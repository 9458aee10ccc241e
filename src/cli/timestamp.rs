//! `timestamp`: tokens over the newest released checkpoint, in files of their own, to be kept apart from the archive.
//!
//! What `verify --known-token` takes and `openssl ts -verify` checks. A token that is there is kept, since the older says
//! more; so the command may run as often as one likes, and asks only for what is missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::anchors::tsa;
use super::args::{self, Global};
use super::control::{self, Request};
use super::output::Output;
use super::{Failure, load_config};
use crate::anchor::Authority;
use crate::anchor::tsa::{Stamped, Tsa};
use crate::config::Config;
use crate::core::checkpoint::Statement;
use crate::core::seq::Size;
use crate::core::timestamp::Vouched;

pub(super) fn run(global: &Global, timestamp: &args::Timestamp, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let authorities = chosen(&config, &timestamp.name)?;
    let checkpoint = newest(&config, global.timeout)?;
    let dir = &timestamp.output;
    std::fs::create_dir_all(dir).map_err(|e| Failure::file("making", dir, &e))?;
    let file = dir.join(format!("{:06}.checkpoint", checkpoint.segment));
    keep(&file, checkpoint.note.as_bytes())?;
    let asked = authorities.iter().map(|authority| stamp(authority, &checkpoint, dir));
    let results = super::runtime()?.block_on(join_all(asked));
    let failed = results.iter().filter(|result| result.is_err()).count();
    let lines = || {
        let outcome = |result: &Result<Kept, Failed>| match result {
            Ok(kept) => format!("  {}: {} says {}", kept.path.display(), kept.vouched.authority, kept.vouched.time),
            Err(failed) => format!("  {}\n    hint: {}", failed.message, failed.hint),
        };
        let head = format!("{}: size {}", file.display(), checkpoint.size);
        [head].into_iter().chain(results.iter().map(outcome)).collect::<Vec<_>>().join("\n")
    };
    output.object(&answer(&config, &checkpoint, &file, &results), lines)?;
    Ok(if failed > 0 { 3 } else { 0 })
}

fn chosen(config: &Config, names: &[String]) -> Result<Vec<Tsa>, Failure> {
    if config.timestamp.is_empty() {
        let hint = "add [timestamp.NAME] with url and roots; `pinfold init` wrote an example";
        return Err(Failure::new(2, "config", "no time-stamp authority is configured").hint(hint));
    }
    if let Some(unknown) = names.iter().find(|name| !config.timestamp.contains_key(*name)) {
        let known: Vec<_> = config.timestamp.keys().map(String::as_str).collect();
        let message = format!("--name {unknown}: no [timestamp.{unknown}]");
        return Err(Failure::usage(message).hint(format!("there are: {}", known.join(", "))));
    }
    let is_chosen = |name: &String| names.is_empty() || names.contains(name);
    let chosen = config.timestamp.iter().filter(|(name, _)| is_chosen(name));
    chosen.map(|(name, settings)| tsa(name, settings)).collect()
}

/// What is stamped.
struct Checkpoint {
    segment: u64,
    size: Size,
    note: String,
}

/// The checkpoint of the newest released segment, from the archive folder.
fn newest(config: &Config, timeout: Option<Duration>) -> Result<Checkpoint, Failure> {
    let status = control::ask(config, &Request::Status, timeout)?;
    let released = status.pointer("/released/segments").and_then(Value::as_u64).unwrap_or(0);
    let Some(segment) = released.checked_sub(1) else {
        let hint = "wait until a segment is sealed and pinned, or `pinfold seal` and `pinfold pin`";
        return Err(Failure::new(1, "not-released", "no checkpoint may be shown yet").hint(hint));
    };
    let path = config.log.data.join("archive").join(format!("{segment:06}.proof.car"));
    let file = std::fs::File::open(&path).map_err(|e| Failure { exit: 3, ..Failure::file("reading", &path, &e) })?;
    let unsound = |refused: crate::core::finding::Refused| {
        Failure::new(4, "archive", format!("{}: {refused}", path.display())).hint("see `pinfold verify`")
    };
    let proof = crate::core::segment::read::Proof::open(file, crate::core::car::Limits::default()).map_err(unsound)?;
    let note = proof.seal().checkpoint.clone();
    let size = Statement::parse(&note).map_err(unsound)?.head.size;
    Ok(Checkpoint { segment, size, note })
}

/// A token on disk, and what it says.
struct Kept {
    name: String,
    path: PathBuf,
    vouched: Vouched,
    is_new: bool,
}

/// Why there is none.
struct Failed {
    name: String,
    message: String,
    hint: String,
}

async fn stamp(tsa: &Tsa, checkpoint: &Checkpoint, dir: &Path) -> Result<Kept, Failed> {
    let name = tsa.name().to_owned();
    let path = dir.join(format!("{:06}.{name}.tst", checkpoint.segment));
    let failed = |message: String, hint: String| Failed { name: name.clone(), message, hint };
    if path.exists() {
        // It is looked at as if it came from the authority just now.
        let held = std::fs::read(&path).map_err(|error| error.to_string());
        let vouched =
            held.and_then(|token| tsa.look(&checkpoint.note, &token).map_err(|rejected| rejected.to_string()));
        let wrong = |why: String| failed(format!("{}: {why}", path.display()), "move it away and ask again".to_owned());
        let vouched = vouched.map_err(wrong)?;
        return Ok(Kept { name, path, vouched, is_new: false });
    }
    let stamped = tsa.stamp(&checkpoint.note, checkpoint.size).await;
    let Stamped { token, vouched } = stamped.map_err(|error| failed(error.to_string(), error.hint()))?;
    keep(&path, &token).map_err(|failure| failed(failure.message, failure.hint.unwrap_or_default()))?;
    Ok(Kept { name, path, vouched, is_new: true })
}

/// Writes a file that is complete or not there; one that says the same is left alone.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    match std::fs::read(path) {
        Ok(found) if found == bytes => return Ok(()),
        Ok(_) => {
            let message = format!("{}: is of another log", path.display());
            return Err(Failure::new(1, "other-log", message).hint("give each log a directory of its own"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::file("reading", path, &error)),
    }
    let partial = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::File::create(&partial).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    });
    written.map_err(|error| Failure { exit: 3, ..Failure::file("writing", path, &error) })
}

fn answer(config: &Config, checkpoint: &Checkpoint, file: &Path, results: &[Result<Kept, Failed>]) -> Value {
    let token = |kept: &Kept| {
        json!({
            "name": kept.name, "file": kept.path, "authority": kept.vouched.authority,
            "time": kept.vouched.time.to_string(), "accuracy_micros": kept.vouched.accuracy_micros, "new": kept.is_new,
        })
    };
    let failure = |failed: &Failed| json!({ "name": failed.name, "message": failed.message, "hint": failed.hint });
    json!({
        "origin": config.log.origin, "segment": checkpoint.segment, "size": checkpoint.size.0, "checkpoint": file,
        "tokens": results.iter().flatten().map(token).collect::<Vec<_>>(),
        "failed": results.iter().filter_map(|result| result.as_ref().err()).map(failure).collect::<Vec<_>>(),
    })
}
