//! `verify`: the audit of an archive from bytes: a directory, CAR files, a Kubo node, or the configured log.
//!
//! Needs public bytes and public keys only; no journal, no write access. What the configured log has beside its archive
//! (head file, journal, registries) is asked first and compared last: it can convict, and a registry in other hands can
//! confirm. Contract: surface.md, Commands and JSON.

pub(super) mod answer;
pub(super) mod files;
mod fleet;
mod journal;
mod keys;
mod registries;
mod remote;
mod rows;
mod stamps;
mod witnesses;

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{self, Global};
use super::output::Output;
use super::{Failure, anchors, check, load_config, now, open};
use crate::config::Config;
use crate::core::audit::{self, Archive, AuditInput, CheckStatus, Report};
use crate::core::checkpoint::Statement;
use crate::core::finding::{Code, Refused};
use crate::core::note::Vkey;
use crate::core::origin::Origin;
use crate::core::rules::Fault;

pub(super) use stamps::read_roots;

use files::Files;
use journal::Journal;
use keys::Keys;
use registries::Met;
use remote::Remote;

/// Threads that check segments, at most: beyond it the disk is the limit.
const THREADS_MAX: usize = 8;

pub(super) fn run(global: &Global, verify: &args::Verify, output: &Output) -> Result<u8, Failure> {
    if let Some(check) = check::proof_of(verify) {
        return check::run(&check, output);
    }
    if !verify.fleet.is_empty() {
        return fleet::run(verify, output);
    }
    let started = Instant::now();
    let is_own = verify.paths.is_empty() && verify.from_ipfs.is_none();
    let config = if is_own || verify.registry.is_some() { Some(load_config(global)?) } else { None };
    let mut input = input(verify, config.as_ref(), is_own)?;
    let runtime = super::runtime()?;
    let beside = config.as_ref().map(|config| Beside::ask(global, verify, config, is_own, &input, &runtime));
    let beside = beside.transpose()?;
    let source = Source::open(global, verify, config.as_ref())?;
    let seed = verify.seed.unwrap_or_else(any_seed);
    input.payload_sample = verify.sample.map(|count| audit::sample(source.segments(), count, seed));
    let head = beside.as_ref().and_then(|beside| beside.head.as_deref());
    input.own_head = head.filter(|head| Statement::parse(head).is_ok()).map(str::to_owned);
    let mut report = audit(source.archive(), source.segments(), &input, output)?;
    if let Some(sample) = &input.payload_sample {
        let detail = format!(
            "the payloads of {} of {} segments were read (--seed {seed}); nothing is shown about the others",
            sample.len(),
            source.segments()
        );
        report.conclude("payload", CheckStatus::Skipped, &detail);
    }
    source.report(&mut report);
    if let Some(policy) = &input.quorum {
        witnesses::ask(policy, source.archive(), &input, global.timeout, &runtime, &mut report);
    }
    if let (Some(beside), Some(config)) = (beside, &config) {
        beside.judge(config, &source, &input, &mut report);
    }
    let exit = if report.exit == 10 && verify.allow_unanchored { 0 } else { report.exit };
    let seconds = started.elapsed().as_secs_f64();
    let answer = answer::json(&report, exit, seconds);
    output.object(&answer, || answer::text(&report, seconds))?;
    Ok(exit)
}

/// Where the archive is.
enum Source {
    Files { files: Files, dir: Option<PathBuf> },
    Remote(Box<Remote>),
}

impl Source {
    fn open(global: &Global, verify: &args::Verify, config: Option<&Config>) -> Result<Source, Failure> {
        if let Some(url) = &verify.from_ipfs {
            let cid =
                verify.cid.as_deref().ok_or_else(|| Failure::usage("--from-ipfs needs --cid, the newest seal"))?;
            // An auditor has no configuration; where there is one it may know the node's password.
            let found = if config.is_none() { load_config(global).ok() } else { None };
            let remote = Remote::open(url, cid, config.or(found.as_ref()), global.timeout)?;
            return Ok(Source::Remote(Box::new(remote)));
        }
        let dir = match (verify.paths.as_slice(), config) {
            ([], Some(config)) => config.log.data.join("archive"),
            ([dir], _) if dir.is_dir() => archive_of(dir),
            (paths, _) => return Ok(Source::files(Files::of_files(paths)?, None, global)),
        };
        Ok(Source::files(Files::of_dir(&dir)?, Some(dir), global))
    }

    fn files(files: Files, dir: Option<PathBuf>, global: &Global) -> Source {
        Source::Files { files: files.within(global.timeout), dir }
    }

    fn archive(&self) -> &dyn Archive {
        match self {
            Source::Files { files, .. } => files,
            Source::Remote(remote) => &**remote,
        }
    }

    fn segments(&self) -> u64 {
        match self {
            Source::Files { files, .. } => files.segments(),
            Source::Remote(remote) => remote.segments(),
        }
    }

    /// Adds what is wrong with the place itself.
    fn report(&self, report: &mut Report) {
        match self {
            Source::Files { files, .. } => files.report(report),
            Source::Remote(remote) => {
                if let Some(fault) = remote.fault() {
                    report.add("blocks", None, fault.clone());
                }
            }
        }
    }

    /// Whether there are more segments now.
    fn has_grown(&self) -> bool {
        match self {
            Source::Files { files, dir: Some(dir) } => {
                Files::of_dir(dir).is_ok_and(|now| now.segments() > files.segments())
            }
            _ => false,
        }
    }
}

/// The archive in a directory: itself, or `data/archive` of a log's.
pub(super) fn archive_of(dir: &Path) -> PathBuf {
    let nested = dir.join("data/archive");
    if dir.join("pinfold.toml").is_file() && nested.is_dir() { nested } else { dir.to_path_buf() }
}

/// What the configured log has beside the archive, asked before the archive was listed: a running sidecar adds files
/// first, then tells the journal, then the registries.
struct Beside {
    origin: Origin,
    /// Whether the archive is the configured log's own.
    is_own: bool,
    head: Option<String>,
    journal: Option<Journal>,
    met: Vec<Met>,
}

impl Beside {
    fn ask(
        global: &Global,
        verify: &args::Verify,
        config: &Config,
        is_own: bool,
        input: &AuditInput,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Beside, Failure> {
        let origin = open::origin(config)?;
        let head = std::fs::read_to_string(config.log.heads.join("head")).ok().filter(|_| is_own);
        let journal = is_own.then(|| Journal::ask(config, &origin, &input.vkeys, global.timeout));
        let told = |name: &str| journal.as_ref().map_or(0, |journal| journal.registered(name));
        let met = registries::meet(config, verify, &origin, told, runtime.handle())?;
        Ok(Beside { origin, is_own, head, journal, met })
    }

    fn judge(self, config: &Config, source: &Source, input: &AuditInput, report: &mut Report) {
        if let Some(other) = report.origin.clone().filter(|origin| *origin != self.origin) {
            if self.is_own {
                let fault = Fault::of(Code::WrongOrigin, "origin of the archive", &self.origin, &other);
                report.add("joins", None, fault);
            }
            for met in &self.met {
                let detail = "the archive is of another log than the configuration";
                report.conclude(&met.place(), CheckStatus::Skipped, detail);
            }
            return;
        }
        if self.head.as_ref().is_some_and(|head| Statement::parse(head).is_err()) {
            let fault = Fault::of(Code::NonCanonical, "head file", "a signed head", "something else");
            report.add("journal", None, fault);
        }
        if let Some(journal) = self.journal {
            journal.judge(self.head.as_deref(), report);
        }
        if self.met.is_empty() {
            return;
        }
        let keys = match open::keyring(config, &self.origin) {
            Ok(keyring) => Keys::of(keyring, self.origin.oid()),
            Err(failure) => Keys::none(failure.message),
        };
        let subject = rows::Subject {
            archive: source.archive(),
            origin: &self.origin,
            limits: input.limits,
            payload_sample: input.payload_sample.as_ref(),
            now: now(),
            has_grown: &|| source.has_grown(),
        };
        rows::compare(&subject, keys, &self.met, report);
    }
}

/// The log's vkeys and its recovery vkey, from files with one a line.
pub(super) fn vkeys<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(Vec<Vkey>, Option<Vkey>), Failure> {
    let (mut vkeys, mut recovery) = (Vec::new(), None);
    for path in paths {
        for vkey in vkeys_of(path)? {
            if vkey.name().ends_with("/recovery") {
                recovery = Some(vkey);
            } else {
                vkeys.push(vkey);
            }
        }
    }
    Ok((vkeys, recovery))
}

pub(super) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::file("reading", path, &e))
}

/// The vkeys of a file, one a line.
fn vkeys_of(path: &Path) -> Result<Vec<Vkey>, Failure> {
    let text = read(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let parse = |line: &str| line.parse().map_err(|_| Failure::usage(format!("{}: not a vkey", path.display())));
    lines.map(parse).collect()
}

/// What the verifier holds.
fn input(verify: &args::Verify, config: Option<&Config>, is_own: bool) -> Result<AuditInput, Failure> {
    let mut input = AuditInput { findings_max: verify.findings_max, ..AuditInput::default() };
    let own = config.map(|config| &config.log.key_file).filter(|_| verify.vkey.is_empty());
    let own = own.map(|file| [file.with_extension("vkey"), file.with_file_name("recovery.vkey")]);
    let own: Vec<PathBuf> = own.into_iter().flatten().filter(|path| path.is_file()).collect();
    (input.vkeys, input.recovery) = vkeys(verify.vkey.iter().chain(&own))?;
    let configured = config.filter(|_| is_own).and_then(|config| config.witness.as_ref());
    let policy = match &verify.witness_policy {
        Some(path) => Some(anchors::read_policy(path)?),
        None => configured.map(anchors::policy).transpose()?,
    };
    if let Some(policy) = policy {
        input.vkeys.extend(policy.logs.iter().map(|log| log.vkey.clone()).filter(|_| verify.vkey.is_empty()));
        input.witnesses = policy.witnesses.iter().map(|witness| witness.vkey.clone()).collect();
        input.quorum = Some(policy);
    }
    input.known_head = match verify.known_head.as_slice() {
        [] => None,
        [path] => Some(read(path)?),
        _ => {
            let message = "several --known-head: one log has one newest head";
            return Err(Failure::usage(message).hint("give the newest; --fleet takes one for each member"));
        }
    };
    for path in &verify.revoked {
        input.revoked.push(read(path)?);
    }
    stamps::bring(verify, &mut input)?;
    Ok(input)
}

/// A seed nobody chose. It is printed, so that the sample can be drawn again.
fn any_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Checks the segments on all cores and joins them in order; says on a terminal how far it is.
pub(super) fn audit(
    archive: &dyn Archive,
    segments: u64,
    input: &AuditInput,
    output: &Output,
) -> Result<Report, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let wrong_call = |refused: Refused| Failure::usage(format!("a note in hand: {}", refused.what));
    let bar = output.bar("segments", segments);
    let report = crate::archive::audit(archive, segments, input, threads, |audit| {
        bar.at(audit.next_segment(), || format!(", {} entries", audit.size()));
    });
    report.map_err(wrong_call)
}
