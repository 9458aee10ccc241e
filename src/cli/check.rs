//! `check`: what a proof or an evidence tar shows, from the file and the verifier's vkeys alone.
//!
//! No configuration, no journal, no network. The answer has the shape of `verify`'s, and the same exit codes: a sound
//! file whose checkpoint nothing outside it confirms is 10. Contract: surface.md.

use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Failure;
use super::args;
use super::output::Output;
use super::verify::{answer, read, vkeys};
use crate::core::audit::{CheckStatus, Fresh, Report};
use crate::core::checkpoint::{Head, Statement};
use crate::core::finding::{Code, Refused};
use crate::core::note::Vkey;
use crate::core::proof::consistency::{self, Consistency};
use crate::core::proof::{self, Proof, Proven, bundle, evidence, signer_among, tar};
use crate::core::rules::Fault;

/// Bytes of a file, at most: 64 MiB of a body in base64, twice, and room.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Where a tar says that it is one.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// What a file claims to be, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Proof,
    Consistency,
    Tar,
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Format> {
        if bytes.starts_with(proof::FIRST_LINE.as_bytes()) {
            Some(Format::Proof)
        } else if bytes.starts_with(consistency::FIRST_LINE.as_bytes()) {
            Some(Format::Consistency)
        } else {
            (bytes.get(TAR_MAGIC) == Some(b"ustar")).then_some(Format::Tar)
        }
    }
}

/// `verify F` of a file that is no CAR: the call as `check` takes it.
pub(super) fn proof_of(verify: &args::Verify) -> Option<args::Check> {
    // Only of a plain file: reading the first bytes of a pipe would wait for them.
    let file = verify.paths.as_slice().first().filter(|file| verify.paths.len() == 1 && file.is_file())?;
    let mut head = Vec::new();
    std::fs::File::open(file).ok()?.take(512).read_to_end(&mut head).ok()?;
    Format::of(&head)?;
    Some(args::Check {
        file: file.clone(),
        vkey: verify.vkey.clone(),
        known_head: verify.known_head.first().cloned(),
        allow_unanchored: verify.allow_unanchored,
    })
}

pub(super) fn run(check: &args::Check, output: &Output) -> Result<u8, Failure> {
    let started = Instant::now();
    let (vkeys, recovery) = vkeys(&check.vkey)?;
    let known_head = check.known_head.as_deref().map(read).transpose()?;
    let known_head = known_head.as_deref().map(head_in_hand).transpose()?;
    let bytes = read_bounded(&check.file)?;
    let keys = Held { vkeys, recovery };
    let outcome = match Format::of(&bytes) {
        Some(Format::Proof) => keys.check_proof(&bytes),
        Some(Format::Consistency) => keys.check_consistency(&bytes),
        Some(Format::Tar) => keys.check_tar(&bytes),
        None => Err(Refused::non_canonical("neither a proof nor an evidence tar")),
    };
    let (mut report, proven) = match outcome {
        Ok(Shown { head, proven, detail }) => {
            let mut report = Report::of(Some(&head));
            report.conclude("proof", CheckStatus::Ok, &detail);
            (report, proven)
        }
        Err(refused) => {
            let mut report = Report::of(None);
            report.add("proof", None, Fault::refused(None, check.file.display().to_string(), refused));
            (report, Vec::new())
        }
    };
    compare_head(&mut report, known_head.as_ref());
    let exit = if report.exit == 10 && check.allow_unanchored { 0 } else { report.exit };
    let seconds = started.elapsed().as_secs_f64();
    let mut json = answer::json(&report, exit, seconds);
    if let Some(object) = json.as_object_mut() {
        object.insert("proven".to_owned(), proven.iter().map(entry).collect());
    }
    output.object(&json, || text(&report, &proven))?;
    Ok(exit)
}

/// What a sound file has shown.
struct Shown {
    head: Head,
    proven: Vec<Proven>,
    detail: String,
}

/// What the verifier holds.
struct Held {
    vkeys: Vec<Vkey>,
    recovery: Option<Vkey>,
}

impl Held {
    fn check_proof(&self, bytes: &[u8]) -> Result<Shown, Refused> {
        let proof = Proof::parse(utf8(bytes)?)?;
        let statement = Statement::parse(&proof.checkpoint)?;
        let proven = proof.check(signer_among(&statement, &self.vkeys)?)?;
        let detail = format!("entry {} is in the log of {} entries", proven.leaf.seq, proven.head.size);
        Ok(Shown { head: proven.head.clone(), detail, proven: vec![proven] })
    }

    fn check_consistency(&self, bytes: &[u8]) -> Result<Shown, Refused> {
        let (old, new) = Consistency::parse(utf8(bytes)?)?.check(&self.vkeys)?;
        let detail = format!("the log of {} entries starts with the one of {}", new.size, old.size);
        Ok(Shown { head: new, proven: Vec::new(), detail })
    }

    /// A tar with more in it than proofs: all of it is signed, and nothing of the range is missing.
    fn check_bundle(&self, bytes: &[u8]) -> Result<Shown, Refused> {
        let bundle = bundle::check(bytes, &self.vkeys, self.recovery.as_ref())?;
        let (first, last) = (bundle.first, bundle.next.0.saturating_sub(1));
        let detail = format!("entries {first} to {last} are all there, {} disclosed", bundle.disclosed());
        Ok(Shown { head: bundle.head, proven: bundle.proven, detail })
    }

    /// By whichever of the vkeys leads to the checkpoint: the log's first, or the one that signed.
    fn check_tar(&self, bytes: &[u8]) -> Result<Shown, Refused> {
        if tar::read(bytes).is_ok_and(|files| bundle::is_bundle(&files)) {
            return self.check_bundle(bytes);
        }
        let mut refused = Refused::new(Code::Unreachable, "no vkey to check a signature by");
        for vkey in &self.vkeys {
            match evidence::check(bytes, vkey, self.recovery.as_ref()) {
                Ok(evidence) => {
                    let (entries, size) = (evidence.proven.len(), evidence.head.size);
                    let detail = format!("{entries} entries are in the log of {size} entries, and its keys follow");
                    return Ok(Shown { head: evidence.head, proven: evidence.proven, detail });
                }
                Err(found) if is_more_telling(&found, &refused) => refused = found,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}

/// That a key is not the right one says less than anything else that is wrong.
fn is_more_telling(found: &Refused, known: &Refused) -> bool {
    let rank = |refused: &Refused| match refused.code {
        Code::Unreachable => 0,
        Code::WrongOrigin => 1,
        Code::UnknownKey => 2,
        _ => 3,
    };
    rank(found) > rank(known)
}

/// A head of the same size confirms or convicts; of another size it says nothing by itself.
fn compare_head(report: &mut Report, known: Option<&Head>) {
    const CHECK: &str = "known-head";
    let Some(known) = known else { return };
    let (Some(origin), Some(root)) = (&report.origin, report.root) else { return };
    if *origin != known.origin {
        report.add(CHECK, None, Fault::of(Code::WrongOrigin, CHECK, &known.origin, origin.clone()));
    } else if report.size != known.size {
        let detail =
            format!("of size {}, the file's checkpoint of {}: see `prove --consistency`", known.size, report.size);
        report.conclude(CHECK, CheckStatus::Skipped, &detail);
    } else if root != known.root {
        report.add(CHECK, None, Fault::of(Code::Forked, format!("root at size {}", known.size), known.root, root));
    } else {
        report.conclude(CHECK, CheckStatus::Ok, "the checkpoint is the one known from elsewhere");
        report.confirm(Fresh { source: CHECK, size: known.size });
    }
}

fn head_in_hand(note: &str) -> Result<Head, Failure> {
    let wrong = |refused: Refused| Failure::usage(format!("--known-head: {}", refused.what));
    Statement::parse(note).map(|statement| statement.head).map_err(wrong)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| Failure::file("reading", path, &e);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{}: longer than {FILE_BYTES_MAX} bytes", path.display());
        return Err(Failure::new(50, "limit-exceeded", message).hint("no proof of ours is so long: ask who sent it"));
    }
    Ok(bytes)
}

fn utf8(bytes: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(bytes).map_err(|_| Refused::non_canonical("proof: not UTF-8"))
}

/// An entry that was proven, and what was disclosed of it.
fn entry(proven: &Proven) -> Value {
    let Proven { leaf, disclosed, .. } = proven;
    let src = leaf.src.map(|src| json!({ "topic_no": src.topic_no, "partition": src.partition, "offset": src.offset }));
    let disclosed = disclosed.as_ref().map(|part| json!({ "part": part.part, "body": STANDARD.encode(&part.body) }));
    json!({ "seq": leaf.seq.0, "kind": leaf.body.kind_name(), "src": src, "disclosed": disclosed })
}

/// The lines for people. What was disclosed is for `--json`: a terminal is no place for it.
fn text(report: &Report, proven: &[Proven]) -> String {
    let origin = report.origin.as_ref().map_or_else(|| "(no origin)".to_owned(), ToString::to_string);
    let mut lines = vec![format!("{origin}: {} (checkpoint of {} entries)", report.verdict(), report.size)];
    lines.extend(answer::lines(report));
    for Proven { leaf, disclosed, .. } in proven {
        let src =
            leaf.src.map(|src| format!(", topic {} partition {} offset {}", src.topic_no, src.partition, src.offset));
        let part = disclosed
            .as_ref()
            .map(|part| format!(", part {} disclosed: {} bytes (--json shows them)", part.part, part.body.len()));
        let (src, part) = (src.unwrap_or_default(), part.unwrap_or_default());
        lines.push(format!("  entry {}: {}{src}{part}", leaf.seq, leaf.body.kind_name()));
    }
    lines.join("\n")
}
