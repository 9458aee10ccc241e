//! `demo`: the whole story on embedded parts: a log, a folder as pin target, SQLite. No broker, node, warehouse, account.
//!
//! Every step runs this very binary as a person would type it, in the directory a person would be in, and looks at what
//! it answered: a step that did not go as it must ends the demo with its name. People and events are synthetic.

mod events;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::output::Output;
use super::{Failure, args};
use stage::Stage;

/// The name of the log.
const ORIGIN: &str = "example.com/audit/demo";
/// Where the head stands that somebody else kept.
const KEPT_HEAD: &str = "kept.head";
/// The segment whose copy is changed, and the file of it.
const TAMPERED_SEGMENT: u64 = 1;
const TAMPERED_FILE: &str = "000001.payload.car";

pub(super) fn run(demo: &args::Demo, output: &Output) -> Result<u8, Failure> {
    let started = Instant::now();
    let dir = directory(demo.dir.as_deref())?;
    let stage = Stage::new(&dir, *output)?;
    let told = tell(&stage, demo.events)?;
    let seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let answer = json!({
        "ok": true, "dir": dir, "commands": stage.commands(), "verify": told.report, "provenance": told.row,
        "tampered": told.tampered, "seconds": seconds,
    });
    output.object(&answer, || next(&dir, told.seq, seconds))
}

/// What the story showed.
struct Told {
    report: Value,
    row: Value,
    seq: u64,
    tampered: Value,
}

fn tell(stage: &Stage, events: u64) -> Result<Told, Failure> {
    make(stage)?;
    let known = fill(stage, events)?;
    keep(stage)?;
    let report = audit(stage)?;
    let (row, seq) = ask(stage, &known)?;
    let tampered = tamper(stage)?;
    Ok(Told { report, row, seq, tampered })
}

/// Where the log is made: a directory that is not there yet.
fn directory(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let base = std::env::temp_dir();
    let fresh = || (0..1000).map(|n| base.join(format!("pinfold-demo-{n}"))).find(|dir| !dir.exists());
    let dir = given.map(Path::to_path_buf).or_else(fresh);
    let dir = dir.ok_or_else(|| Failure::usage("too many demos in the temporary directory").hint("give --dir"))?;
    if dir.exists() {
        return Err(Failure::new(2, "exists", format!("{}: exists already", dir.display()))
            .hint("the demo overwrites nothing: give another --dir"));
    }
    Ok(dir)
}

fn make(stage: &Stage) -> Result<(), Failure> {
    stage.title("A log: keys, keyring, journal. Nothing leaves this directory.");
    stage.init(ORIGIN)?;
    let pin = "\n[pin.vault]\nkind = \"folder\"\npath = \"vault\"\n";
    stage.say("A pin target: here a folder, in production a Kubo node too. Appended to pinfold.toml:");
    stage.quote(pin.trim());
    stage.append("pinfold.toml", pin)?;
    fs::create_dir(stage.path("vault")).map_err(|e| Failure::file("making", &stage.path("vault"), &e))
}

/// Ingests two files, the first one twice. Gives source and id of an event to look for.
fn fill(stage: &Stage, events: u64) -> Result<(String, String), Failure> {
    stage.title("Records: consents, uses of data, requests of people, and what no program can read.");
    let made = events::write(stage, events)?;
    stage.say(&format!(
        "{} synthetic events about {} people in two files; 3 lines of the first are no events, 1 event is there twice.",
        made.events, made.people
    ));
    let first = stage.run(&["ingest", events::FIRST], 0)?;
    stage.must("3 records are quarantined, none is dropped", first.contains(" 3 quarantined"))?;
    stage.run(&["seal"], 0)?;
    stage.say("Somebody else keeps the log's head of this moment, out of reach of whoever runs the log.");
    stage.shell(&format!("cp heads/head {KEPT_HEAD}"));
    let (head, kept) = (stage.path("heads/head"), stage.path(KEPT_HEAD));
    fs::copy(&head, kept).map_err(|e| Failure::file("copying", &head, &e))?;
    stage.say("The same file again adds nothing: positions are in the log itself.");
    let again = stage.run(&["ingest", events::FIRST], 0)?;
    stage.must("a second reading adds nothing", again.starts_with("0 accepted"))?;
    stage.run(&["ingest", events::SECOND], 0)?;
    stage.run(&["seal"], 0)?;
    Ok(made.known)
}

fn keep(stage: &Stage) -> Result<(), Failure> {
    stage.title("Pinned (written, read back, hashed again), then registered in SQL.");
    stage.run(&["pin"], 0)?;
    stage.run(&["register"], 0)?;
    stage.run(&["status"], 0).map(drop)
}

fn audit(stage: &Stage) -> Result<Value, Failure> {
    stage.title("The audit, from the bytes: no database and no journal is believed.");
    stage.say("Exit 10 is: valid, but nothing outside this machine confirms that it is the newest state.");
    stage.run(&["verify"], 10)?;
    stage.say(
        "Whoever kept a head and has the public key checks any copy, here the pinned one: nothing was taken back.",
    );
    let call = ["verify", "vault", "--vkey", "keys/log.vkey", "--known-head", KEPT_HEAD];
    stage.run(&call, 10)?;
    let report = stage.ask_silently(&call, 10)?;
    let is_compared =
        |check: &Value| check.get("name") == Some(&json!("known-head")) && check.get("status") == Some(&json!("ok"));
    let checks = report.get("checks").and_then(Value::as_array);
    stage.must("the kept head is one of this log", checks.is_some_and(|checks| checks.iter().any(is_compared)))?;
    Ok(report)
}

fn ask(stage: &Stage, (source, id): &(String, String)) -> Result<(Value, u64), Failure> {
    stage.title("Where is this event? From the broker's position to the pinned bytes, in SQL.");
    let (source, id) = (format!("event_source={source}"), format!("event_id={id}"));
    let row = stage.ask(&["query", "provenance", "--param", &source, "--param", &id], 0)?;
    for column in [
        "event_type",
        "event_time",
        "recorded_at",
        "topic",
        "partition_no",
        "record_offset",
        "seq",
        "leaf_hash",
        "segment_no",
        "seal_cid",
        "payload_cid",
        "verified_copies",
    ] {
        stage.quote(&format!("{column:<16} {}", plain(row.get(column).unwrap_or(&Value::Null))));
    }
    let seq = row.get("seq").and_then(Value::as_u64);
    let seq = seq.ok_or_else(|| stage.failed("the query names the event's entry"))?;
    stage.say("The entry as anyone may see it: digests and commitments, nothing about the person.");
    stage.run(&["show", &seq.to_string()], 0)?;
    Ok((row, seq))
}

/// Changes one bit of a copy, and lets the audit find the place.
fn tamper(stage: &Stage) -> Result<Value, Failure> {
    stage.title("Somebody changes the archive: a copy, one bit of one byte.");
    stage.shell("cp -r data/archive tampered");
    let copy = stage.path("tampered");
    copy_dir(&stage.path("data/archive"), &copy)?;
    let file = copy.join(TAMPERED_FILE);
    let offset = flip(&file)?;
    stage.say(&format!("Flipped the lowest bit of byte {offset} of tampered/{TAMPERED_FILE}."));
    let call = ["verify", "tampered", "--vkey", "keys/log.vkey"];
    stage.run(&call, 40)?;
    let report = stage.ask_silently(&call, 40)?;
    let finding = report.pointer("/findings/0").cloned().unwrap_or_default();
    let names_place =
        finding.get("segment") == Some(&json!(TAMPERED_SEGMENT)) && finding.get("seq").is_some_and(Value::is_u64);
    stage.must("the finding names the segment and the entry", names_place)?;
    stage.say(&format!(
        "Found: {} in segment {TAMPERED_SEGMENT}, in the block that begins with entry {}. The log itself is untouched.",
        plain(finding.get("code").unwrap_or(&Value::Null)),
        plain(finding.get("seq").unwrap_or(&Value::Null)),
    ));
    Ok(json!({ "file": format!("tampered/{TAMPERED_FILE}"), "byte": offset, "exit": 40, "finding": finding }))
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file("copying", from, &e);
    fs::create_dir(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
    }
    Ok(())
}

/// Flips a bit in the middle of a file; gives its offset.
fn flip(path: &Path) -> Result<usize, Failure> {
    let mut bytes = fs::read(path).map_err(|e| Failure::file("reading", path, &e))?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    fs::write(path, bytes).map_err(|e| Failure::file("writing", path, &e))?;
    Ok(middle)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What to type now.
fn next(dir: &Path, seq: u64, seconds: f64) -> String {
    let dir = dir.display();
    format!(
        "\nThe story took {seconds} s and went as it must. Go on by yourself:\n\
         \n  cd {dir}\
         \n  pinfold query                       # the questions a registry answers\
         \n  pinfold query v_offset_gaps         # none: every record is an entry\
         \n  pinfold show {seq}\
         \n  pinfold doctor                      # what to change before production\
         \n  pinfold config show                 # every option, and where it came from\
         \n  pinfold run                         # the sidecar: add [source.*] for a broker\
         \n  rm -r {dir}\n"
    )
}
