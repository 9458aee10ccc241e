//! What an audit says: findings, checks, verdict.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::super::checkpoint::Head;
use super::super::cid::Cid;
use super::super::finding::{Code, verdict};
use super::super::hash::Hash;
use super::super::origin::Origin;
use super::super::position::Partition;
use super::super::rules::Fault;
use super::super::seq::{Seq, Size};
use super::Audit;
use super::anchors::AnchorSeen;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The log is not what it claims, or not all of it is there.
    Error,
    /// Something could not be checked.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One thing found wrong, with its place and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// The entry, where it is one.
    pub seq: Option<Seq>,
    /// The segment, where it is one.
    pub segment: Option<u64>,
    /// What was looked at.
    pub place: String,
    /// What would have been right.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What a person can do now.
    pub hint: &'static str,
}

impl Finding {
    /// The finding of a fault, with what a person can do about it.
    pub fn new(segment: Option<u64>, fault: Fault) -> Finding {
        let severity = match fault.code.exit() {
            Some(50) => Severity::Warning,
            Some(_) => Severity::Error,
            None => Severity::Info,
        };
        let hint = hint(fault.code);
        let Fault { code, seq, place, expected, found } = fault;
        Finding { code, severity, seq, segment, place, expected, found, hint }
    }
}

/// Collects findings up to a limit, and counts the rest: a verdict needs every code, a person not every line.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    max: usize,
    total: u64,
    pub(super) codes: BTreeSet<Code>,
    first_bad_seq: Option<Seq>,
}

impl Findings {
    pub(super) fn new(max: usize) -> Findings {
        Findings { max, ..Findings::default() }
    }

    pub(super) fn add(&mut self, segment: Option<u64>, fault: Fault) {
        let finding = Finding::new(segment, fault);
        self.total += 1;
        self.codes.insert(finding.code);
        if finding.severity == Severity::Error {
            self.first_bad_seq = min_seq(self.first_bad_seq, finding.seq);
        }
        if self.kept.len() < self.max {
            self.kept.push(finding);
        }
    }

    pub(super) fn add_all(&mut self, segment: u64, faults: impl IntoIterator<Item = Fault>) {
        faults.into_iter().for_each(|fault| self.add(Some(segment), fault));
    }

    pub(super) fn append(&mut self, other: Findings) {
        let room = self.max.saturating_sub(self.kept.len());
        self.kept.extend(other.kept.into_iter().take(room));
        self.total += other.total;
        self.codes.extend(other.codes);
        self.first_bad_seq = min_seq(self.first_bad_seq, other.first_bad_seq);
    }
}

fn min_seq(one: Option<Seq>, other: Option<Seq>) -> Option<Seq> {
    one.into_iter().chain(other).min()
}

/// Whether a check was made, and how it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckStatus {
    /// Made, nothing found.
    Ok,
    /// Made, something found.
    Failed,
    /// Not made: what it needs was not supplied.
    Skipped,
}

impl CheckStatus {
    /// The word scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Ok => "ok",
            CheckStatus::Failed => "failed",
            CheckStatus::Skipped => "skipped",
        }
    }
}

/// A row of the table in format.md, Verification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// `blocks`, `chain`, `keys`, `joins`, `completeness`, `payload`, `anchors`, `known-head`; the caller adds its own.
    pub name: Cow<'static, str>,
    /// How it went.
    pub status: CheckStatus,
    /// A sentence for a person.
    pub detail: String,
}

/// The source outside the archive that confirms the newest checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fresh {
    /// `known-head`, `anchors` or `registry`.
    pub source: &'static str,
    /// The size it confirms.
    pub size: Size,
}

/// The result of an audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The exit code of `verify`: 0, 10, 20, 30, 40 or 50.
    pub exit: u8,
    /// The log, if any seal could be read.
    pub origin: Option<Origin>,
    /// The size of the newest checkpoint that could be read.
    pub size: Size,
    /// The recomputed root at that size.
    pub root: Option<Hash>,
    /// The segments looked at, the missing ones included.
    pub segments: u64,
    /// The first entry a finding of severity error names.
    pub first_bad_seq: Option<Seq>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// What was found, up to `findings_max`.
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub findings_total: u64,
    /// Every code among them, the ones not listed included.
    pub codes: BTreeSet<Code>,
    /// What nothing proves, though nothing was found.
    pub unproven: Vec<String>,
    /// Whether the last entry closes the log.
    pub is_closed: bool,
    /// The next offset of each partition that is accounted for.
    pub next: Vec<(Partition, u64)>,
    /// Cosignatures that verified, and time stamps.
    pub anchors: Vec<AnchorSeen>,
    /// Who confirms the newest checkpoint.
    pub fresh: Option<Fresh>,
    /// Segments whose payload is absent because an entry pruned it, as first and last.
    pub pruned: Vec<(u64, u64)>,
    /// The bytes read.
    pub bytes: u64,
    /// The seal of each segment that could be read, in order.
    pub seals: Vec<Option<Cid>>,
    findings_max: usize,
}

impl Report {
    /// A report of something that is no archive: the caller adds what was checked and found. Until then it is valid and
    /// unanchored.
    pub fn of(head: Option<&Head>) -> Report {
        Report {
            exit: decide(&BTreeSet::new(), false),
            origin: head.map(|head| head.origin.clone()),
            size: head.map_or(Size(0), |head| head.size),
            root: head.map(|head| head.root),
            segments: 0,
            first_bad_seq: None,
            checks: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            codes: BTreeSet::new(),
            unproven: Vec::new(),
            is_closed: false,
            next: Vec::new(),
            anchors: Vec::new(),
            fresh: None,
            pruned: Vec::new(),
            bytes: 0,
            seals: Vec::new(),
            findings_max: usize::MAX,
        }
    }

    /// The verdict in words.
    pub fn verdict(&self) -> &'static str {
        verdict_of(self.exit)
    }

    /// Adds what others found (registries, the journal) under the name of their check, and decides again. A finding that
    /// is reported only fails no check.
    pub fn add(&mut self, check: &str, segment: Option<u64>, fault: Fault) {
        let finding = Finding::new(segment, fault);
        self.codes.insert(finding.code);
        self.findings_total += 1;
        if finding.severity == Severity::Error {
            self.first_bad_seq = min_seq(self.first_bad_seq, finding.seq);
        }
        if finding.code.exit().is_some() {
            self.conclude(check, CheckStatus::Failed, "");
        }
        if self.findings.len() < self.findings_max {
            self.findings.push(finding);
        }
        self.exit = decide(&self.codes, self.fresh.is_some());
    }

    /// Says how a check went that others made. Once failed it stays so; an empty detail leaves the one that is there.
    pub fn conclude(&mut self, check: &str, status: CheckStatus, detail: &str) {
        let at = self.checks.iter().position(|known| known.name == check).unwrap_or(self.checks.len());
        if at == self.checks.len() {
            self.checks.push(Check { name: check.to_owned().into(), status, detail: String::new() });
        }
        let Some(known) = self.checks.get_mut(at) else { return };
        if known.status != CheckStatus::Failed {
            known.status = status;
        }
        if !detail.is_empty() {
            detail.clone_into(&mut known.detail);
        }
    }

    /// A source outside the archive, which its operator cannot rewrite alone, confirms the newest checkpoint.
    pub fn confirm(&mut self, fresh: Fresh) {
        self.fresh = Some(fresh);
        self.exit = decide(&self.codes, true);
    }
}

/// The verdict of an exit code, in words.
pub fn verdict_of(exit: u8) -> &'static str {
    match exit {
        0 | 10 => "valid",
        20 => "incomplete",
        30 => "diverged",
        40 => "tampered",
        _ => "cannot check",
    }
}

fn decide(codes: &BTreeSet<Code>, is_fresh: bool) -> u8 {
    verdict(codes.iter().copied(), if is_fresh { 0 } else { 10 })
}

impl Audit<'_> {
    pub(super) fn report(self, fresh: Option<Fresh>) -> Report {
        let checks = self.checks();
        let unproven = self.unproven();
        let newest = self.segments.iter().rev().flatten().next();
        let fresh = fresh.or_else(|| self.confirmed_by_anchors());
        Report {
            exit: decide(&self.findings.codes, fresh.is_some()),
            size: newest.map_or(Size(0), |joined| joined.size),
            root: newest.and_then(|joined| joined.root),
            segments: self.segments.len() as u64,
            first_bad_seq: self.findings.first_bad_seq,
            checks,
            findings_total: self.findings.total,
            codes: self.findings.codes,
            findings: self.findings.kept,
            unproven,
            is_closed: self.rules.is_closed(),
            next: self.rules.completeness().positions().collect(),
            origin: self.origin,
            anchors: self.anchors,
            fresh,
            pruned: self.pruned,
            bytes: self.bytes,
            seals: self.segments.iter().map(|joined| joined.as_ref().map(|joined| joined.seal)).collect(),
            findings_max: self.input.findings_max,
        }
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for (name, codes, detail) in CHECKS {
            let is_failed = codes.iter().any(|code| self.findings.codes.contains(code));
            let sample = self.input.payload_sample.as_ref().filter(|_| *name == "payload");
            let is_skipped = match *name {
                "payload" => !self.has_payload_files || sample.is_some(),
                "anchors" => self.anchors.is_empty(),
                "known-head" => self.input.known_head.is_none(),
                _ => false,
            };
            let status = match (is_failed, is_skipped) {
                (true, _) => CheckStatus::Failed,
                (false, true) => CheckStatus::Skipped,
                (false, false) => CheckStatus::Ok,
            };
            let detail = match sample {
                Some(sample) => format!(
                    "the payloads of {} of {} segments were read; nothing is shown about the others",
                    sample.len(),
                    self.segments.len()
                ),
                None => (*detail).to_owned(),
            };
            checks.push(Check { name: Cow::Borrowed(name), status, detail });
        }
        checks
    }
}

/// The checks, the codes that make each fail, and what each looked at.
const CHECKS: &[(&str, &[Code], &str)] = &[
    (
        "blocks",
        &[
            Code::BlockHash,
            Code::BlockMissing,
            Code::BlockExtra,
            Code::NonCanonical,
            Code::UnknownVersion,
            Code::LimitExceeded,
        ],
        "every block hashes to its CID, all are there and none more, each in its only form",
    ),
    (
        "chain",
        &[Code::SeqGap, Code::ChainLink, Code::RootMismatch, Code::LeafHash],
        "entries follow one another and give the signed roots",
    ),
    (
        "keys",
        &[Code::BadSignature, Code::UnknownKey, Code::RevokedKey, Code::Unreachable],
        "each checkpoint is signed by the log's key of its size",
    ),
    ("joins", &[Code::SealLink, Code::SegmentMissing, Code::WrongOrigin], "segments follow one another in one log"),
    ("completeness", &[Code::OffsetGap, Code::OffsetOverlap], "every broker offset is an entry or a declared gap"),
    ("payload", &[Code::FrameDigest, Code::Commitment], "every part has the frame its entry names"),
    (
        "anchors",
        &[Code::BadCosignature, Code::BadTimestamp],
        "cosignatures of known witnesses verify, and time stamps up to the roots given",
    ),
    (
        "known-head",
        &[Code::RolledBack, Code::Forked, Code::TailMissing],
        "the head known outside is one of this log, and none is newer",
    ),
];

fn hint(code: Code) -> &'static str {
    match code {
        Code::BlockHash | Code::BlockMissing | Code::BlockExtra => {
            "fetch this file from another pin target and verify again"
        }
        Code::SegmentMissing | Code::TailMissing => "fetch the missing segment from a pin target by its CID",
        Code::RolledBack | Code::Forked => "keep both heads: together they show what the log's operator must explain",
        Code::UnknownKey => "ask the operator for the vkey by another channel than the archive",
        Code::RevokedKey => "trust nothing this key signed beyond the vouched size",
        Code::OffsetGap => "the log's own key left these offsets out: ask the operator for a signed reason",
        Code::OffsetOverlap => "the log's own key counted an offset twice: compare with the broker",
        Code::Unreachable => "supply what is named here and verify again",
        Code::UnsealedTail => "it is sealed in time; `pinfold seal` seals it now",
        Code::UnknownVersion => "verify with a newer release",
        Code::LimitExceeded => "raise the limit only if you trust where the file came from",
        Code::FrameDigest | Code::Commitment => "the leaf is signed, the frame is not its own: fetch the payload again",
        Code::RegistryDiffers | Code::RegistryMissing | Code::RegistryExtra | Code::RegistryDouble => {
            "rebuild the registry from the archive"
        }
        Code::BadCosignature | Code::BadTimestamp => "fetch the anchor again; the log itself may still be sound",
        _ => "keep this archive as evidence and compare it with a copy from another pin target",
    }
}
