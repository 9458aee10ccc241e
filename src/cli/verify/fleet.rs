//! `verify --fleet DIR...`: the logs of a consumer group's members, each audited by itself, then all of them together.
//!
//! The members share topics, so that only their logs together account for every offset (`core::fleet`). A log is read
//! twice: once by the audit, and once for what it says of offsets. The answer has the fields of `verify`; those that are
//! of one log alone (`origin`, `root`, `first_bad_seq`) are null, and `members` has them. Findings name their log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::super::Failure;
use super::super::args;
use super::super::output::Output;
use super::files::Files;
use super::{answer, archive_of, audit};
use crate::core::audit::{self as core_audit, Archive, AuditInput, Finding, Report};
use crate::core::checkpoint::Statement;
use crate::core::finding::{Code, verdict};
use crate::core::fleet::{self, Row};
use crate::core::leaf::LeafView;
use crate::core::note::Vkey;
use crate::core::rules::Fault;
use crate::core::segment::read::Proof;

/// One log of the fleet, audited.
struct Log {
    dir: PathBuf,
    report: Report,
    member: fleet::Member,
    changed: Vec<Fault>,
}

/// The vkeys and notes in hand, of whichever log.
struct InHand {
    vkeys: Vec<Vkey>,
    heads: Vec<String>,
    input: AuditInput,
}

pub(super) fn run(verify: &args::Verify, output: &Output) -> Result<u8, Failure> {
    let started = Instant::now();
    let in_hand = InHand::read(verify)?;
    let mut logs = Vec::new();
    for dir in &verify.fleet {
        logs.push(Log::audit(dir, verify, &in_hand, output)?);
    }
    one_of_each(&logs, &in_hand)?;
    let members: Vec<fleet::Member> = logs.iter_mut().map(|log| std::mem::take(&mut log.member)).collect();
    let (faults, rows) = fleet::check(&members);
    let whole = Whole::new(&logs, faults, &rows, verify);
    let seconds = started.elapsed().as_secs_f64();
    output.object(&whole.json(&logs, &rows, seconds), || whole.text(&logs, &rows, seconds))?;
    Ok(whole.exit)
}

impl InHand {
    fn read(verify: &args::Verify) -> Result<InHand, Failure> {
        let mut vkeys = Vec::new();
        for path in &verify.vkey {
            vkeys.extend(super::vkeys_of(path)?);
        }
        let heads = verify.known_head.iter().map(|path| super::read(path)).collect::<Result<_, _>>()?;
        let revoked = verify.revoked.iter().map(|path| super::read(path)).collect::<Result<_, _>>()?;
        let mut input = AuditInput { findings_max: verify.findings_max, revoked, ..AuditInput::default() };
        super::stamps::bring(verify, &mut input)?;
        Ok(InHand { vkeys, heads, input })
    }

    /// What is in hand of the log called `origin`: its vkeys, its head, its revocations.
    fn of(&self, origin: &str) -> AuditInput {
        let mut input = self.input.clone();
        let named = |name: &str| self.vkeys.iter().filter(move |vkey| vkey.name() == name).cloned().collect::<Vec<_>>();
        input.vkeys = named(origin);
        input.recovery = named(&format!("{origin}/recovery")).pop();
        input.known_head = self.heads.iter().find(|head| is_of(head, origin)).cloned();
        // The second line of a revocation is its log (format.md, Tree, checkpoint, keys).
        input.revoked.retain(|note| note.lines().nth(1) == Some(origin));
        input
    }
}

fn is_of(head: &str, origin: &str) -> bool {
    Statement::parse(head).is_ok_and(|statement| statement.head.origin.as_str() == origin)
}

/// The same log twice would vouch for itself; a head of none of them was meant for another call.
fn one_of_each(logs: &[Log], in_hand: &InHand) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = logs.iter().find(|log| !seen.insert(log.member.origin())) {
        let (dir, origin) = (twice.dir.display(), twice.member.origin());
        return Err(Failure::usage(format!("{dir}: log {origin} is there twice")).hint("name each member once"));
    }
    let is_strange = |head: &&String| !logs.iter().any(|log| is_of(head, log.member.origin()));
    match in_hand.heads.iter().find(is_strange) {
        None => Ok(()),
        Some(head) => {
            let name = head.lines().next().unwrap_or_default();
            let message = format!("--known-head: {name:?} is a head of no log of this fleet");
            Err(Failure::usage(message).hint("a head begins with the origin of its log"))
        }
    }
}

impl Log {
    fn audit(dir: &Path, verify: &args::Verify, in_hand: &InHand, output: &Output) -> Result<Log, Failure> {
        let files = Files::of_dir(&archive_of(dir))?;
        let Some(origin) = origin_of(&files) else {
            let message = format!("{}: no segment that reads", dir.display());
            return Err(Failure::usage(message).hint("name the archive directory of each member, or its log directory"));
        };
        let mut input = in_hand.of(&origin);
        let seed = verify.seed.unwrap_or_else(super::any_seed);
        input.payload_sample = verify.sample.map(|count| core_audit::sample(files.segments(), count, seed));
        let mut report = audit(&files, files.segments(), &input, output)?;
        files.report(&mut report);
        let (mut member, mut changed) = (fleet::Member::new(&origin), Vec::new());
        for (segment, seal) in (0..).zip(&report.seals) {
            // One that could not be read is a finding already.
            let Some(seal) = *seal else { continue };
            if gather(&files, segment, &mut member, &input) != Some(seal) {
                let place = format!("segment {segment}");
                changed.push(Fault::of(Code::Unreachable, place, seal, "it changed while it was verified"));
            }
        }
        Ok(Log { dir: dir.to_owned(), report, member, changed })
    }
}

/// The log of the first seal that reads. That it is the right one is for the audit to say.
fn origin_of(files: &Files) -> Option<String> {
    let read = |segment| {
        let source = files.open(segment, core_audit::File::Proof).ok().flatten()?;
        Some(Proof::open(source, AuditInput::default().limits).ok()?.seal().origin.clone())
    };
    (0..files.segments()).find_map(read).map(|origin| origin.to_string())
}

/// Reads the leaves of a segment; gives the seal they were read under, unless the file does not read.
fn gather(
    files: &Files,
    segment: u64,
    member: &mut fleet::Member,
    input: &AuditInput,
) -> Option<crate::core::cid::Cid> {
    let source = files.open(segment, core_audit::File::Proof).ok().flatten()?;
    let mut proof = Proof::open(source, input.limits).ok()?;
    while let Some(page) = proof.page().ok()? {
        let mut rest = page.bytes;
        for _ in 0..page.count {
            let (view, after) = LeafView::decode_prefix(rest).ok()?;
            member.take(&view);
            rest = after;
        }
    }
    Some(proof.cid())
}

/// The verdict over all logs.
struct Whole {
    exit: u8,
    verdict: &'static str,
    findings: Vec<Finding>,
    findings_total: u64,
    is_complete: bool,
    is_confirmed: bool,
    detail: String,
}

impl Whole {
    fn new(logs: &[Log], faults: Vec<Fault>, rows: &[Row], verify: &args::Verify) -> Whole {
        let is_complete = faults.is_empty();
        let mut codes: BTreeSet<Code> = logs.iter().flat_map(|log| log.report.codes.iter().copied()).collect();
        let mut findings = Vec::new();
        let mut findings_total = 0;
        for log in logs {
            let named = |mut finding: Finding| {
                finding.place =
                    format!("{}: {}", log.report.origin.as_ref().map_or("?", |o| o.as_str()), finding.place);
                finding
            };
            findings_total += log.report.findings_total + log.changed.len() as u64;
            findings.extend(log.report.findings.iter().cloned().map(named));
            findings.extend(log.changed.iter().cloned().map(|fault| named(Finding::new(None, fault))));
        }
        findings_total += faults.len() as u64;
        let changed = logs.iter().flat_map(|log| &log.changed);
        codes.extend(faults.iter().chain(changed).map(|fault| fault.code));
        findings.extend(faults.into_iter().map(of_fleet));
        findings.truncate(verify.findings_max);
        let is_confirmed = logs.iter().all(|log| log.report.fresh.is_some());
        let exit = verdict(codes, if is_confirmed { 0 } else { 10 });
        let detail = format!(
            "{} partitions in {} logs: every offset is an entry or has a reason in the log that is said to have it, and \
             overlaps are declared",
            rows.len(),
            logs.len()
        );
        let verdict = core_audit::verdict_of(exit);
        let exit = if exit == 10 && verify.allow_unanchored { 0 } else { exit };
        Whole { exit, verdict, findings, findings_total, is_complete, is_confirmed, detail }
    }

    fn json(&self, logs: &[Log], rows: &[Row], seconds: f64) -> Value {
        let size: u64 = logs.iter().map(|log| log.report.size.0).sum();
        let mut checks: Vec<Value> = logs.iter().flat_map(checks_of).collect();
        let status = if self.is_complete { "ok" } else { "failed" };
        checks.push(json!({ "name": "fleet", "status": status, "detail": self.detail }));
        json!({
            "verdict": self.verdict,
            "exit": self.exit,
            "origin": null,
            "size": size,
            "root": null,
            "segments": logs.iter().map(|log| log.report.segments).sum::<u64>(),
            "first_bad_seq": null,
            "checks": checks,
            "findings": self.findings.iter().map(answer::finding).collect::<Vec<_>>(),
            "findings_total": self.findings_total,
            "anchors": logs.iter().flat_map(|log| log.report.anchors.iter().map(answer::anchor)).collect::<Vec<_>>(),
            "fresh": self.is_confirmed.then(|| json!({ "source": "members", "size": size })),
            "pruned": logs.iter().flat_map(|log| &log.report.pruned).map(|(first, last)| last - first + 1).sum::<u64>(),
            "unproven": logs.iter().flat_map(|log| log.report.unproven.iter().map(|what| named(log, what))).collect::<Vec<_>>(),
            "closed": logs.iter().all(|log| log.report.is_closed),
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "entries_per_second": answer::per_second(size, seconds),
            "members": logs.iter().map(|log| of_member(log, seconds)).collect::<Vec<_>>(),
            "partitions": rows.iter().map(of_partition).collect::<Vec<_>>(),
        })
    }

    fn text(&self, logs: &[Log], rows: &[Row], seconds: f64) -> String {
        let mut lines = vec![format!("fleet of {} logs: {} ({seconds:.1} s)", logs.len(), self.verdict)];
        for log in logs {
            let Report { size, segments, .. } = &log.report;
            let verdict = log.report.verdict();
            lines
                .push(named(log, &format!("{verdict} ({size} entries in {segments} segments, {})", log.dir.display())));
        }
        lines.push(format!("  {:<8} fleet  {}", if self.is_complete { "ok" } else { "failed" }, self.detail));
        for row in rows {
            let open = match row.end {
                Some(end) if end > row.next => format!(", {} not folded of {end} observed", end - row.next),
                _ => String::new(),
            };
            lines.push(format!(
                "  {} partition {}: offsets below {} in {} logs, {} in two or more, {} declared{open}",
                row.topic, row.partition, row.next, row.logs, row.overlapping, row.contested
            ));
        }
        lines.extend(self.findings.iter().map(answer::finding_text));
        let more = self.findings_total.saturating_sub(self.findings.len() as u64);
        if more > 0 {
            lines.push(format!("  and {more} more findings (--findings-max)"));
        }
        lines.join("\n")
    }
}

/// A finding of all logs together: what to do is not what one log's finding asks for.
fn of_fleet(fault: Fault) -> Finding {
    let mut finding = Finding::new(None, fault);
    finding.hint = match finding.code {
        Code::OffsetGap => "name the archive of every member; if all are here, nobody has these records",
        _ => "ask the fleet's operator for the declaration: two logs hold these records",
    };
    finding
}

fn named(log: &Log, what: &str) -> String {
    format!("{}: {what}", log.report.origin.as_ref().map_or("?", |origin| origin.as_str()))
}

fn checks_of(log: &Log) -> Vec<Value> {
    let check = |check: &core_audit::Check| json!({ "name": named(log, &check.name), "status": check.status.as_str(), "detail": check.detail });
    log.report.checks.iter().map(check).collect()
}

fn of_member(log: &Log, seconds: f64) -> Value {
    let mut member = answer::json(&log.report, log.report.exit, seconds);
    // Said once, for the whole fleet.
    if let Some(fields) = member.as_object_mut() {
        for key in ["checks", "findings", "anchors", "seconds", "entries_per_second"] {
            fields.remove(key);
        }
        fields.insert("dir".to_owned(), log.dir.display().to_string().into());
    }
    member
}

fn of_partition(row: &Row) -> Value {
    json!({
        "cluster_id": row.cluster,
        "topic": row.topic,
        "topic_id": row.topic_id,
        "partition": row.partition,
        "next_offset": row.next,
        "observed_end": row.end,
        "entries": row.entries,
        "logs": row.logs,
        "overlapping": row.overlapping,
        "contested": row.contested,
    })
}
