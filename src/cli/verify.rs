//! `verify`: the audit of an archive from bytes: a directory, CAR files, a Kubo node, or the configured log.
//!
//! Needs public bytes and public keys only; no journal, no write access. Segments are checked in parallel and joined in
//! order. The registries and the head of the configured log can convict, and a registry elsewhere can confirm.

mod answer;
pub(super) mod fetch;
pub(super) mod files;
mod outside;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{self, Global};
use super::output::Output;
use super::{Failure, load_config};
use crate::config::Config;
use crate::core::audit::{Audit, AuditInput, Report, check_segment};
use crate::core::finding::{Code, Refused};
use crate::core::note::Vkey;
use crate::core::rules::Fault;

use files::Files;

pub(super) fn run(global: &Global, verify: &args::Verify, output: &Output) -> Result<u8, Failure> {
    let started = Instant::now();
    let (files, config, _fetched) = source(global, verify, output)?;
    let input = input(verify, config.as_ref())?;
    let mut report = audit(&files, &input, output)?;
    for gap in files.leftovers() {
        let fault = Fault::of(Code::NonCanonical, gap, "a file of the archive", "a name no archive has");
        report.add([(None, fault)], input.findings_max);
    }
    if let Some(config) = &config {
        outside::compare(config, verify, &mut report, input.findings_max, global.timeout)?;
    }
    let exit = if report.exit == 10 && verify.allow_unanchored { 0 } else { report.exit };
    let seconds = started.elapsed().as_secs_f64();
    let answer = answer::json(&report, exit, seconds);
    output.object(&answer, || answer::text(&report, seconds))?;
    Ok(exit)
}

/// Which files are looked at, and the configuration where it is the configured log's.
fn source(
    global: &Global,
    verify: &args::Verify,
    output: &Output,
) -> Result<(Files, Option<Config>, Option<fetch::Fetched>), Failure> {
    if let Some(url) = &verify.from_ipfs {
        let cid = verify.cid.as_deref().ok_or_else(|| Failure::usage("--from-ipfs needs --cid, the newest seal"))?;
        let fetched = fetch::all(&fetch::node(url)?, cid, &std::env::temp_dir(), output)?;
        return Ok((Files::of_dir(fetched.dir())?, None, Some(fetched)));
    }
    match verify.paths.as_slice() {
        [] => {
            let config = load_config(global)?;
            let files = Files::of_dir(&config.log.data.join("archive"))?;
            Ok((files, Some(config), None))
        }
        [dir] if dir.is_dir() => Ok((Files::of_dir(&archive_of(dir))?, None, None)),
        paths => Ok((Files::of_files(paths)?, None, None)),
    }
}

/// The archive in a directory: itself, or `data/archive` of a log's.
pub(super) fn archive_of(dir: &Path) -> PathBuf {
    let nested = dir.join("data/archive");
    if dir.join("pinfold.toml").is_file() && nested.is_dir() { nested } else { dir.to_path_buf() }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::file("reading", path, &e))
}

/// What the verifier holds.
fn input(verify: &args::Verify, config: Option<&Config>) -> Result<AuditInput, Failure> {
    let mut input = AuditInput { findings_max: verify.findings_max, ..AuditInput::default() };
    let keys = config.map(|config| config.log.key_file.with_extension("vkey"));
    for path in verify.vkey.iter().cloned().chain(keys.filter(|path| verify.vkey.is_empty() && path.is_file())) {
        for line in read(&path)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let vkey: Vkey = line.parse().map_err(|_| Failure::usage(format!("{}: not a vkey", path.display())))?;
            if vkey.name().ends_with("/recovery") {
                input.recovery = Some(vkey);
            } else {
                input.vkeys.push(vkey);
            }
        }
    }
    input.known_head = verify.known_head.as_deref().map(read).transpose()?;
    for path in &verify.revoked {
        input.revoked.push(read(path)?);
    }
    Ok(input)
}

/// Checks segments on several threads, a window at a time so that memory stays flat, and joins them in order.
pub(super) fn audit(files: &Files, input: &AuditInput, output: &Output) -> Result<Report, Failure> {
    let wrong_call = |refused: Refused| Failure::usage(format!("a note in hand: {}", refused.what));
    let mut audit = Audit::new(files, input).map_err(wrong_call)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u64;
    let segments = files.segments();
    let mut said = Instant::now();
    for first in (0..segments).step_by(usize::try_from(threads).unwrap_or(1)) {
        let window = first..segments.min(first + threads);
        let checked: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> =
                window.map(|segment| scope.spawn(move || check_segment(files, segment, input))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            running.into_iter().map(join).collect()
        });
        checked.into_iter().for_each(|checked| audit.join(checked));
        if said.elapsed().as_secs() >= 2 {
            said = Instant::now();
            output.note(&format!("{} of {segments} segments, {} entries", audit.next_segment(), audit.size()));
        }
    }
    Ok(audit.finish())
}
