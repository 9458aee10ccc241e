//! The audit: from bytes to findings and a verdict.
//!
//! Two steps, so that a caller with threads can use them. [`check_segment`] looks at one segment alone: blocks,
//! leaves, tree, frames. [`Audit::join`] takes the results in order and asks what needs the segments before: joins,
//! keys, topics, offsets. [`Audit::finish`] compares with what the verifier knows and gives the [`Report`].
//! Needs public bytes and public keys only; opening files and starting threads is the caller's.
//! Spec: format.md, Verification.

mod anchors;
mod chain;
mod check;
mod damage;
mod heads;
mod payload;
pub mod places;
mod report;
mod sample;
mod unproven;

use std::collections::BTreeSet;
use std::io::{self, Read};

use super::car::Limits;
use super::cid::Cid;
use super::finding::{Code, Refused};
use super::hash::Hash;
use super::keychange::Revocation;
use super::merkle::Tree;
use super::note::{Vkey, WitnessVkey};
use super::origin::Origin;
use super::rules::{Fault, LogRules};
use super::seq::Size;
use super::timestamp::Roots;
use super::witness::Policy;

pub use anchors::{AnchorKind, AnchorSeen, KnownToken, UNCHECKED_CHAIN};
pub use check::{Checked, check_segment};
pub use report::{Check, CheckStatus, Finding, Fresh, Report, Severity, verdict_of};
pub use sample::sample;

use report::Findings;

/// The files of a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum File {
    /// `NNNNNN.proof.car`
    Proof,
    /// `NNNNNN.payload.car`
    Payload,
    /// `NNNNNN.anchor.car`
    Anchor,
}

impl File {
    /// How findings name it.
    pub fn place(self) -> &'static str {
        match self {
            File::Proof => "proof file",
            File::Payload => "payload file",
            File::Anchor => "anchor",
        }
    }
}

/// Where the files are. The audit reads each once from its start, and a proof again only where a head within a
/// segment must be compared or [`AuditInput::kept_bytes_max`] was exceeded; every read must give the same bytes. May be
/// asked from several threads at once.
pub trait Archive: Sync {
    /// Opens a file; `None` where there is none.
    ///
    /// # Errors
    /// Those of the store: the finding is `unreachable`, unless the error carries a [`Refused`], which then is it.
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>>;
}

/// What the verifier brings: nothing of it comes from the archive.
#[derive(Clone, Debug)]
pub struct AuditInput {
    /// The log's vkeys he holds; one must be that of kind 1 or of the newest checkpoint. None: cannot check.
    pub vkeys: Vec<Vkey>,
    /// The recovery vkey he holds.
    pub recovery: Option<Vkey>,
    /// Revocation notes he was given.
    pub revoked: Vec<String>,
    /// A checkpoint or live head he knows from elsewhere, as a note.
    pub known_head: Option<String>,
    /// The log's own last head, from beside the archive, as a note: it can show a fork and never confirms. Beyond the
    /// archive it is of the journal's tail.
    pub own_head: Option<String>,
    /// Only the payloads of these segments are read. Absent: all.
    pub payload_sample: Option<BTreeSet<u64>>,
    /// The witnesses whose cosignatures are verified.
    pub witnesses: Vec<WitnessVkey>,
    /// Which witnesses must have signed the newest checkpoint of a closed log for it to count as confirmed.
    pub quorum: Option<Policy>,
    /// The roots he trusts to name time-stamp authorities. Absent: tokens show form, imprint and signature alone.
    pub tsa_roots: Option<Roots>,
    /// Tokens he kept himself.
    pub known_tokens: Vec<KnownToken>,
    /// Findings listed, at most; all are counted.
    pub findings_max: usize,
    /// What a CAR may take.
    pub limits: Limits,
    /// Bytes of entries, events not counted, that a segment keeps until it is joined: 65,536 of a sound log's own
    /// entries fit. Beyond it the proof is read a second time, so that memory stays flat whatever a file holds.
    pub kept_bytes_max: usize,
}

impl Default for AuditInput {
    fn default() -> AuditInput {
        AuditInput {
            vkeys: Vec::new(),
            recovery: None,
            revoked: Vec::new(),
            known_head: None,
            own_head: None,
            payload_sample: None,
            witnesses: Vec::new(),
            quorum: None,
            tsa_roots: None,
            known_tokens: Vec::new(),
            findings_max: 1000,
            limits: Limits::default(),
            kept_bytes_max: 16 << 20,
        }
    }
}

/// An audit in progress.
pub struct Audit<'a> {
    archive: &'a dyn Archive,
    input: &'a AuditInput,
    /// The notes in hand that verify; with those of the log, where the verifier holds the recovery key.
    revocations: Vec<Revocation>,
    rules: LogRules,
    /// Every key that signed a checkpoint: a log has few, and a segment only says which.
    signers: Vec<Vkey>,
    origin: Option<Origin>,
    /// The tree so far, unless a segment was lost.
    tree: Option<Tree>,
    /// The leaf hash of the last entry, unless it is not known.
    last: Option<Hash>,
    segments: Vec<Option<Joined>>,
    pruned: Vec<(u64, u64)>,
    payload_absent: Vec<u64>,
    has_payload_files: bool,
    anchors: Vec<AnchorSeen>,
    findings: Findings,
    bytes: u64,
}

/// What is kept of a segment that could be read.
#[derive(Debug)]
struct Joined {
    seal: Cid,
    payload: Option<Cid>,
    first: Size,
    size: Size,
    /// The root of the tree at `size`, unless its peaks are wrong and nothing precedes.
    root: Option<Hash>,
    /// The SHA-256 of its checkpoint, which a time stamp is over.
    checkpoint: Hash,
    signer: Signer,
    /// Some kind 5 names its seal and payload.
    is_named: bool,
}

/// Who signed the checkpoint of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signer {
    /// One of [`Audit::signers`], verified.
    Known(usize),
    /// The entry that would name the key is missing, and the verifier does not hold it: nothing can be said.
    Unknown,
    /// Nobody who may: there is a finding.
    Refused,
}

impl<'a> Audit<'a> {
    /// Begins an audit.
    ///
    /// # Errors
    /// A head in hand or a revocation note that does not parse, or a revocation the recovery vkey does not verify: the
    /// caller was called wrongly, and no archive was looked at.
    pub fn new(archive: &'a dyn Archive, input: &'a AuditInput) -> Result<Audit<'a>, Refused> {
        for head in [&input.known_head, &input.own_head].into_iter().flatten() {
            super::checkpoint::Statement::parse(head)?;
        }
        let revocations = match &input.recovery {
            Some(recovery) => input.revoked.iter().map(|note| Revocation::open(note, recovery)).collect(),
            None => Ok(Vec::new()),
        };
        Ok(Audit {
            archive,
            input,
            revocations: revocations?,
            rules: LogRules::new(),
            signers: Vec::new(),
            origin: None,
            tree: Some(Tree::new()),
            last: Some(Hash::ZERO),
            segments: Vec::new(),
            pruned: Vec::new(),
            payload_absent: Vec::new(),
            has_payload_files: false,
            anchors: Vec::new(),
            findings: Findings::new(input.findings_max),
            bytes: 0,
        })
    }

    /// The segment whose result [`Audit::join`] takes next.
    pub fn next_segment(&self) -> u64 {
        self.segments.len() as u64
    }

    /// The entries joined so far.
    pub fn size(&self) -> Size {
        self.rules.size()
    }

    /// Takes the result of the next segment.
    ///
    /// # Panics
    /// If the segments do not come in order: that is a fault of the caller, and every finding would be wrong.
    pub fn join(&mut self, checked: Checked) {
        assert_eq!(checked.segment, self.next_segment(), "segments are joined in order");
        self.join_segment(checked);
    }

    /// Ends the audit: whatever depends on the whole log is looked at, then the verdict is known.
    pub fn finish(mut self) -> Report {
        self.check_keys();
        self.check_revocations();
        self.check_payloads();
        self.check_own_head();
        let fresh = self.check_known_head();
        let stamped = self.check_known_tokens();
        self.report(fresh.or(stamped))
    }

    /// Payload files may be absent where they were pruned, or where none at all was supplied.
    fn check_payloads(&mut self) {
        if !self.has_payload_files {
            return;
        }
        for segment in std::mem::take(&mut self.payload_absent) {
            if !self.pruned.iter().any(|(first, last)| (*first..=*last).contains(&segment)) {
                let fault = Fault::of(Code::BlockMissing, "payload file", "a file, or an entry that prunes it", "none");
                self.findings.add(Some(segment), fault);
            }
        }
    }

    /// Notes the key that signed a checkpoint.
    fn signed_by(&mut self, key: Vkey) -> Signer {
        let known = self.signers.iter().position(|signer| *signer == key);
        Signer::Known(known.unwrap_or_else(|| {
            self.signers.push(key);
            self.signers.len() - 1
        }))
    }

    /// The key that signed the checkpoint of a segment, if that verified.
    fn key_of(&self, joined: &Joined) -> Option<&Vkey> {
        match joined.signer {
            Signer::Known(signer) => self.signers.get(signer),
            Signer::Unknown | Signer::Refused => None,
        }
    }

    fn newest(&self) -> Option<&Joined> {
        self.segments.last().and_then(Option::as_ref)
    }
}

/// Audits all `segments` in order on this thread.
///
/// # Errors
/// Those of [`Audit::new`].
pub fn audit(archive: &dyn Archive, segments: u64, input: &AuditInput) -> Result<Report, Refused> {
    let mut audit = Audit::new(archive, input)?;
    for segment in 0..segments {
        audit.join(check_segment(archive, segment, input));
    }
    Ok(audit.finish())
}
