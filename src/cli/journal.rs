//! The short commands that ask the owner of the journal: status, resume, stages, show, ingest.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{self, Global};
use super::control::{Request, ask, ask_and_watch};
use super::output::Output;
use super::{Failure, load_config};

/// Asks, and prints the answer: JSON as it is, or by `text`.
fn ask_and_print(
    global: &Global,
    request: &Request,
    output: &Output,
    text: impl FnOnce(&Value) -> String,
) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let answer = ask(&config, request, global.timeout)?;
    output.object(&answer, || text(&answer))
}

pub(super) fn status(global: &Global, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let answer = ask(&config, &Request::Status, global.timeout)?;
    output.object(&answer, || status_text(&answer))?;
    // A halted log answers, and says by its exit code that it is halted.
    Ok(if answer.get("halted").is_some_and(|halted| !halted.is_null()) { 4 } else { 0 })
}

fn status_text(status: &Value) -> String {
    let get = |path: &str| status.pointer(path).map(plain).unwrap_or_default();
    let mut lines = vec![
        format!("{}  {}", get("/origin"), get("/state")),
        format!("  size {}  root {}", get("/size"), get("/root")),
        format!("  sealed {} segments, {} entries", get("/sealed/segments"), get("/sealed/size")),
    ];
    for (stage, what) in [("pinned", "pinned to"), ("registered", "registered at")] {
        for (name, count) in status.get(stage).and_then(Value::as_object).into_iter().flatten() {
            lines.push(format!("  {what} {name}: {count} segments"));
        }
    }
    for source in status.get("sources").and_then(Value::as_array).into_iter().flatten() {
        let get = |name: &str| source.get(name).map(plain).unwrap_or_default();
        lines.push(format!("  {} {}/{}: next {}", get("source"), get("topic"), get("partition"), get("next_offset")));
    }
    lines.push(format!("  quarantined {}  gaps {}", get("/quarantined"), get("/gaps")));
    for (who, why) in status.get("waiting_for").and_then(Value::as_object).into_iter().flatten() {
        lines.push(format!("  waiting for {who}: {}", plain(why)));
    }
    if let Some(halted) = status.get("halted").filter(|halted| !halted.is_null()) {
        let get = |name: &str| halted.get(name).map(plain).unwrap_or_default();
        lines.push(format!("  HALTED since {}: {}\n  hint: {}", get("since"), get("message"), get("hint")));
    }
    lines.join("\n")
}

/// A value without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn resume(global: &Global, output: &Output) -> Result<u8, Failure> {
    ask_and_print(global, &Request::Resume, output, |answer| match answer.get("resumed").and_then(Value::as_str) {
        Some(code) => format!("resumed after: {code}"),
        None => "nothing to resume: no halt stands".to_owned(),
    })
}

pub(super) fn stage(global: &Global, request: &Request, output: &Output) -> Result<u8, Failure> {
    ask_and_print(global, request, output, |answer| {
        let part = |(name, value): (&String, &Value)| format!("{name} {}", plain(value));
        answer.as_object().map(|parts| parts.iter().map(part).collect::<Vec<_>>().join(", ")).unwrap_or_default()
    })
}

pub(super) fn show(global: &Global, seq: u64, output: &Output) -> Result<u8, Failure> {
    ask_and_print(global, &Request::Show { seq }, output, |entry| {
        serde_json::to_string_pretty(entry).unwrap_or_default()
    })
}

pub(super) fn ingest(global: &Global, ingest: &args::Ingest, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let mut sum: Option<Value> = None;
    for path in &ingest.files {
        let is_stdin = path == Path::new("-");
        let path = if is_stdin { path.clone() } else { absolute(path)? };
        let topic = match &ingest.name {
            Some(name) => name.clone(),
            None if is_stdin => {
                return Err(Failure::usage("standard input has no name").hint("give one with --as NAME"));
            }
            None => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        if ingest.dry_run {
            sum = Some(add(sum, super::dry_run::read(&config, &path, &topic, ingest.format.as_deref())?));
            continue;
        }
        if is_stdin && std::os::unix::net::UnixStream::connect(super::control::socket(&config.log.data)).is_ok() {
            let message = "a running sidecar reads files, not this process's standard input";
            return Err(Failure::usage(message).hint("write it to a file first"));
        }
        let request = Request::Ingest { path, topic: topic.clone(), format: ingest.format.clone() };
        let watch = |fed: &Value| {
            let get = |name: &str| fed.get(name).map(plain).unwrap_or_default();
            output.progress(&format!("{topic}: {} accepted, {} quarantined", get("accepted"), get("quarantined")));
        };
        let answer = ask_and_watch(&config, &request, global.timeout, &watch);
        output.progress("");
        sum = Some(add(sum, answer?));
    }
    let sum = sum.unwrap_or_default();
    output.object(&sum, || {
        let get = |name: &str| sum.get(name).map(plain).unwrap_or_default();
        let (accepted, quarantined) = (get("accepted"), get("quarantined"));
        format!(
            "{accepted} accepted, {} known already, {quarantined} quarantined; size {}",
            get("duplicates"),
            get("size")
        )
    })
}

/// The sum of two summaries: counts add up, the state is that of the later.
fn add(sum: Option<Value>, mut next: Value) -> Value {
    for name in ["accepted", "duplicates", "quarantined", "gaps"] {
        let of = |value: &Value| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        let total = sum.as_ref().map_or(0, of) + of(&next);
        if let Some(object) = next.as_object_mut() {
            object.insert(name.to_owned(), json!(total));
        }
    }
    next
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::fs::canonicalize(path).map_err(|e| Failure::file("reading", path, &e))
}
