//! `prove`: a file that shows an entry, one part of it, or that one checkpoint continues another.
//!
//! Made from the released log alone, and checked as a stranger would check it before it is written. What leaves the log
//! carries the proof of every change of key before its checkpoint; then it is an evidence tar. Contract: surface.md.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::args::{self, Global};
use super::control::{self, Request};
use super::output::Output;
use super::released::Released;
use super::{Failure, load_config, now};
use crate::config::Config;
use crate::core::hash::Hash;
use crate::core::note::{Note, Vkey};
use crate::core::proof::consistency::Consistency;
use crate::core::proof::{Disclosure, Extra, Proof, evidence};
use crate::core::seq::{Seq, Size};
use crate::sidecar::{Disclosed, Sidecar};
use crate::tiles::Checkpoint;

/// Bytes of a reason, at most.
const REASON_BYTES_MAX: u64 = 4096;
/// Who the entry says has read, while officers have no keys of their own.
pub(super) const OFFICER: &str = "operator";

pub(super) fn run(global: &Global, prove: &args::Prove, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    match (&prove.consistency, prove.seq) {
        (Some(range), _) => consistency(global, &config, range, prove.output.as_deref(), output),
        (None, Some(seq)) => entry(global, &config, Seq(seq), prove, output),
        (None, None) => Err(Failure::usage("prove what?").hint("`pinfold prove SEQ`, or --consistency A..B")),
    }
}

fn entry(global: &Global, config: &Config, seq: Seq, prove: &args::Prove, output: &Output) -> Result<u8, Failure> {
    let reason = prove.reason_file.as_deref().map(reason).transpose()?;
    let released = Released::ask(config, global.timeout)?;
    let store = released.tiles(config)?;
    let newest = store.checkpoint().ok_or_else(|| nothing_released(seq))?;
    let mut proofs = store.proofs([seq], &newest)?;
    if let (Some(part), Some(reason)) = (prove.disclose, &reason) {
        let request = Request::Disclose { seq: seq.0, part, reason: reason.as_str().to_owned() };
        let opened = control::ask(config, &request, global.timeout)?;
        let proof = proofs.iter_mut().find(|proof| proof.index == seq);
        proof.ok_or_else(|| nothing_released(seq)).and_then(|proof| open(proof, part, opened))?;
    }
    let leaf_hash = proofs.iter().find(|proof| proof.index == seq).map(|proof| Hash::leaf(proof.extra.leaf()));
    let seqs: Vec<u64> = proofs.iter().map(|proof| proof.index.0).collect();
    let (format, bytes) = match <[Proof; 1]>::try_from(proofs) {
        Ok([proof]) => ("tlog-proof", proof.to_text().into_bytes()),
        Err(proofs) => ("evidence-tar", evidence::write(proofs, &[]).map_err(bug)?),
    };
    let bytes = Zeroizing::new(bytes);
    let answer = json!({
        "origin": newest.head.origin.as_str(),
        "seq": seq.0,
        "size": newest.head.size.0,
        "root": newest.head.root.to_string(),
        "leaf_hash": leaf_hash.map(|hash| hash.to_string()),
        "format": format,
        "entries": seqs,
        "disclosed": prove.disclose,
        "file": prove.output,
    });
    let is_private = prove.disclose.is_some();
    finish(answer, format, &bytes, prove.output.as_deref(), is_private, output)
}

/// Puts the opening beside the leaf, and checks it as its recipient will.
fn open(proof: &mut Proof, part: u32, mut opened: Value) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Part {
        body: String,
        r: String,
    }
    let sent = || Failure::new(70, "bug", "a disclosure that does not read");
    let Part { mut body, r } = Part::deserialize(&opened).map_err(|_| sent())?;
    if let Some(Value::String(text)) = opened.get_mut("body") {
        text.zeroize();
    }
    let decoded = STANDARD.decode(&body).map_err(|_| sent())?;
    body.zeroize();
    let r = hex::decode(r).ok().and_then(|r| r.try_into().ok()).ok_or_else(sent)?;
    let leaf = proof.extra.leaf().to_vec();
    proof.extra = Extra::Disclosure(Disclosure { r, body: decoded, leaf, part });
    proof.check_opening().map_err(bug)
}

/// The sidecar's side of `--disclose`: opens the part and leaves the entry that says so.
pub(super) fn disclose(sidecar: &mut Sidecar, seq: u64, part: u32, reason: &str) -> Result<Value, Failure> {
    let refused = |code: &str, message: String| Failure::new(1, code, message);
    match sidecar.disclose(Seq(seq), part, OFFICER, reason, now())? {
        Disclosed::Part { body, r } => Ok(json!({ "body": STANDARD.encode(&*body), "r": hex::encode(r) })),
        Disclosed::NoSuchPart(parts) => {
            Err(refused("no-part", format!("entry {seq}: has {parts} parts, from 0"))
                .hint("`pinfold show SEQ` lists them"))
        }
        Disclosed::Gone => Err(refused("gone", format!("entry {seq}: part {part} cannot be read any more")).hint(
            "its key was destroyed, by an erasure or at the end of its retention; the entry itself can be proven",
        )),
    }
}

fn consistency(
    global: &Global,
    config: &Config,
    range: &str,
    to: Option<&Path>,
    output: &Output,
) -> Result<u8, Failure> {
    let usage = || Failure::usage(format!("--consistency {range}: not A..B")).hint("two sizes, as in 300..900");
    let (old, new) = range.split_once("..").ok_or_else(usage)?;
    let (old, new) =
        old.parse().ok().zip(new.parse().ok()).filter(|(old, new)| 0 < *old && old <= new).ok_or_else(usage)?;
    let (old, new) = (Size(old), Size(new));
    let released = Released::ask(config, global.timeout)?;
    let store = released.tiles(config)?;
    let checkpoint = |size: Size| -> Result<Checkpoint, Failure> {
        let found = released.segments().checkpoint_at(size)?;
        found.ok_or_else(|| {
            Failure::new(1, "not-released", format!("size {size}: no checkpoint was released there"))
                .hint("`pinfold query segments` lists the sizes at which segments end")
        })
    };
    let (before, after) = (checkpoint(old)?, checkpoint(new)?);
    let hashes = store.consistency_proof(old, new)?;
    let root = after.head.root;
    let proof = Consistency { hashes, old: before.note, new: after.note };
    let vkeys = store.vkeys()?;
    proof.check(&vkeys).map_err(bug)?;
    let answer = json!({
        "origin": after.head.origin.as_str(),
        "old": old.0,
        "size": new.0,
        "root": root.to_string(),
        "format": "consistency",
        "signers": signers(&vkeys, &proof),
        "file": to,
    });
    finish(answer, "consistency", proof.to_text().as_bytes(), to, false, output)
}

/// The vkeys a recipient needs, since the key may have changed between the two.
fn signers(vkeys: &[Vkey], proof: &Consistency) -> Vec<String> {
    let notes: Vec<Note<'_>> = [&proof.old, &proof.new].into_iter().filter_map(|note| Note::parse(note).ok()).collect();
    let is_needed = |vkey: &&Vkey| notes.iter().flat_map(|note| &note.signatures).any(|line| vkey.is_named_by(line));
    vkeys.iter().filter(is_needed).map(ToString::to_string).collect()
}

/// Writes the file, or prints the text where none is named.
fn finish(
    mut answer: Value,
    format: &str,
    bytes: &[u8],
    to: Option<&Path>,
    is_private: bool,
    output: &Output,
) -> Result<u8, Failure> {
    if let Some(path) = to {
        write(path, bytes, is_private)?;
        return output.object(&answer, || format!("{}: {format}", path.display()));
    }
    let Ok(text) = std::str::from_utf8(bytes).map(str::to_owned) else { return Err(no_terminal(format)) };
    if format == "evidence-tar" {
        return Err(no_terminal(format));
    }
    if output.is_json() {
        if let Some(object) = answer.as_object_mut() {
            object.insert("proof".to_owned(), json!(text));
        }
        return output.object(&answer, String::new);
    }
    output.line(text.trim_end_matches('\n')).map(|()| 0)
}

fn no_terminal(format: &str) -> Failure {
    Failure::usage(format!(
        "{format}: not for standard output: the log's key has changed, and each change is proven too"
    ))
    .hint("name a file: -o F.evidence.tar")
}

/// Writes a file whole or not at all; what holds content is for its owner alone.
pub(super) fn write(path: &Path, bytes: &[u8], is_private: bool) -> Result<(), Failure> {
    let mode = if is_private { 0o600 } else { 0o666 };
    let name = path.file_name().ok_or_else(|| Failure::usage(format!("-o {}: not a file", path.display())))?;
    let temporary = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    written().map_err(|e| {
        // What was half written is of no use, and may hold content.
        let _ = std::fs::remove_file(&temporary);
        Failure::file("writing", path, &e)
    })
}

/// The reason, from a file or standard input: it is sealed in the entry, and never stands in a command line.
pub(super) fn reason(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = match path == Path::new("-") {
        true => std::io::stdin().take(REASON_BYTES_MAX + 1).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(REASON_BYTES_MAX + 1).read_to_string(&mut text)),
    };
    read.map_err(|e| Failure::file("reading", path, &e))?;
    if text.trim().is_empty() || text.len() as u64 > REASON_BYTES_MAX {
        return Err(Failure::usage("--reason-file: empty, or longer than 4,096 bytes").hint("say why in a sentence"));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

pub(super) fn nothing_released(seq: Seq) -> Failure {
    Failure::new(1, "not-released", format!("entry {seq}: nothing is sealed and pinned yet"))
        .hint("`pinfold status` shows how far each stage is")
}

/// What we made does not hold: never handed out.
fn bug(refused: crate::core::finding::Refused) -> Failure {
    Failure::new(4, "proof", format!("a proof that does not hold: {refused}"))
        .hint("nothing was written; check the log with `pinfold verify` and report this")
}
