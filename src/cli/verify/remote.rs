//! An archive on a Kubo node: the seals walked back from the newest, every file fetched when the audit asks for it.
//!
//! Every block is hashed on the way, and each walk is bounded in blocks, bytes and depth (`archive::kubo`). Nothing is
//! kept: a file lies in a directory of our own until it was opened, so that neither disk nor memory grows with the log.
//! A segment whose seal is missing or damaged does not hide those before it: `skip` leads around it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::super::output::Output;
use super::super::{Failure, open};
use super::files::SEGMENTS_MAX;
use crate::archive::PinError;
use crate::archive::kubo::{Kubo, Reach};
use crate::config::Config;
use crate::core::audit::{Archive, File};
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};
use crate::core::rules::Fault;
use crate::core::segment::{Seal, skip_of};

/// Seals asked for at once: each call is a connection of its own.
const SEALS_AT_ONCE: usize = 16;
/// Calls in a row without an answer after which the node counts as gone.
const SILENCES_MAX: u32 = 32;

/// The archive of one log on a node.
pub(super) struct Remote {
    node: Kubo,
    runtime: tokio::runtime::Runtime,
    patience: Patience,
    dir: Scratch,
    files: AtomicU64,
    seals: BTreeMap<u64, Known>,
    segments: u64,
    /// The newest seal could not be had, so nothing is known.
    fault: Option<Fault>,
    /// A payload was looked for beyond the node's own store, in vain: a node with `contents = "proof"`.
    is_proof_only: AtomicBool,
}

/// What is known of a segment.
enum Known {
    Seal { cid: Cid, payload: Option<Cid> },
    Bad(Refused),
    Unreached(String),
}

impl Remote {
    /// Walks the seals back from `cid`. What cannot be had is found by the audit, where it belongs.
    ///
    /// # Errors
    /// A wrong url or CID; no place for files.
    pub(super) fn open(
        url: &str,
        cid: &str,
        config: Option<&Config>,
        timeout: Option<Duration>,
        output: &Output,
    ) -> Result<Remote, Failure> {
        let newest: Cid = cid.parse().map_err(|_| Failure::usage(format!("--cid {cid}: not a CID of the format")))?;
        let node = open::node_at(url, config, timeout)?;
        let mut remote = Remote {
            node,
            runtime: super::super::runtime()?,
            patience: Patience {
                deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
                silences: AtomicU32::new(0),
            },
            dir: Scratch::make()?,
            files: AtomicU64::new(0),
            seals: BTreeMap::new(),
            segments: 0,
            fault: None,
            is_proof_only: AtomicBool::new(false),
        };
        remote.walk(newest, output);
        Ok(remote)
    }

    /// How many segments there are, those that cannot be had included.
    pub(super) fn segments(&self) -> u64 {
        self.segments
    }

    /// Why there is not even a newest seal.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    fn walk(&mut self, newest: Cid, output: &Output) {
        let place = format!("seal {newest}");
        let first = self.runtime.block_on(seal(&self.node, &self.patience, newest));
        let seal = match first {
            Ok(seal) if seal.segment < SEGMENTS_MAX => seal,
            Ok(seal) => {
                let limit = format!("a segment number below {SEGMENTS_MAX}");
                self.fault = Some(Fault::of(Code::LimitExceeded, place, limit, seal.segment));
                return;
            }
            Err(Known::Bad(refused)) => {
                self.fault = Some(Fault::refused(None, place, refused));
                return;
            }
            Err(Known::Unreached(why)) => {
                self.fault = Some(Fault::of(Code::Unreachable, place, "an answer", why));
                return;
            }
            Err(Known::Seal { .. }) => return,
        };
        self.segments = seal.segment + 1;
        let bar = output.bar("seals", self.segments);
        let mut walk = Walk::from(newest, seal);
        self.runtime.block_on(walk.run(&self.node, &self.patience, |seals| bar.at(seals, String::new)));
        self.seals = walk.seals;
    }

    /// Runs a call, as long as there is patience.
    fn wait<T>(&self, call: impl Future<Output = Result<T, PinError>>) -> Result<T, PinError> {
        self.runtime.block_on(self.patience.wait(call))
    }

    fn fetch(&self, root: Cid) -> io::Result<Box<dyn Read + '_>> {
        let path = self.dir.0.join(format!("{}.car", self.files.fetch_add(1, Ordering::Relaxed)));
        let fetched = self.wait(self.node.fetch(root, &path, Reach::Network)).map_err(io_error);
        let opened = fetched.and_then(|_| fs::File::open(&path));
        // Open or not, the name has done its duty.
        let _ = fs::remove_file(&path);
        Ok(Box::new(opened?))
    }

    /// A payload; `None` where the node has none. Only the first is looked for among the node's peers.
    fn payload(&self, root: Cid) -> io::Result<Option<Box<dyn Read + '_>>> {
        match self.wait(self.node.block(root, Reach::Node)) {
            Ok(_) => return self.fetch(root).map(Some),
            Err(error) if !is_missing(&error) => return Err(io_error(error)),
            Err(_) if self.is_proof_only.load(Ordering::Relaxed) => return Ok(None),
            Err(_) => {}
        }
        if self.wait(self.node.block(root, Reach::Network)).is_ok() {
            return self.fetch(root).map(Some);
        }
        self.is_proof_only.store(true, Ordering::Relaxed);
        Ok(None)
    }
}

/// The walk from the newest seal to all others, many at once: `prev_seal` alone would be one call after the other, and
/// over `skip` the calls fan out. Where two seals name different ones for a segment, the nearer one counts, whichever
/// answers first; whether both are right is the audit's question.
struct Walk {
    seals: BTreeMap<u64, Known>,
    /// The seal of each segment so far named, and the segment that names it.
    named: BTreeMap<u64, (Cid, u64)>,
    /// Segments to ask for.
    ahead: BTreeSet<u64>,
}

impl Walk {
    fn from(newest: Cid, seal: Seal) -> Walk {
        let named = BTreeMap::from([(seal.segment, (newest, u64::MAX))]);
        let mut walk = Walk { seals: BTreeMap::new(), named, ahead: BTreeSet::new() };
        walk.take(seal.segment, newest, Ok(seal));
        walk
    }

    async fn run(&mut self, node: &Kubo, patience: &Patience, done: impl Fn(u64)) {
        let mut answers = FuturesUnordered::new();
        loop {
            while answers.len() < SEALS_AT_ONCE
                && let Some(segment) = self.ahead.pop_last()
                && let Some((cid, _)) = self.named.get(&segment).copied()
            {
                answers.push(async move { (segment, cid, seal(node, patience, cid).await) });
            }
            let Some((segment, cid, answer)) = answers.next().await else { return };
            self.take(segment, cid, answer);
            done(self.seals.len() as u64);
        }
    }

    fn take(&mut self, segment: u64, cid: Cid, answer: Result<Seal, Known>) {
        if self.named.get(&segment).is_none_or(|(named, _)| *named != cid) {
            return;
        }
        let known = match answer {
            Ok(seal) if seal.segment == segment => {
                if let Some(skip) = seal.skip.filter(|_| segment > 0) {
                    self.name(skip_of(segment), skip, segment);
                }
                if let Some((previous, link)) = segment.checked_sub(1).zip(seal.prev_seal) {
                    self.name(previous, link, segment);
                }
                Known::Seal { cid, payload: seal.payload }
            }
            Ok(seal) => {
                let what = format!("seal {cid} is of segment {}, linked as that of {segment}", seal.segment);
                Known::Bad(Refused::new(Code::SealLink, what))
            }
            Err(known) => known,
        };
        self.seals.insert(segment, known);
    }

    /// Segment `by` names `cid` as the seal of `segment`.
    fn name(&mut self, segment: u64, cid: Cid, by: u64) {
        let known = self.named.get(&segment).copied();
        if known.is_some_and(|(_, nearer)| nearer < by) {
            return;
        }
        self.named.insert(segment, (cid, by));
        if known.is_none_or(|(known, _)| known != cid) {
            self.ahead.insert(segment);
        }
    }
}

async fn seal(node: &Kubo, patience: &Patience, cid: Cid) -> Result<Seal, Known> {
    let block = patience.wait(node.block(cid, Reach::Network)).await.map_err(|error| match error {
        PinError::Tampered { fault, .. } => Known::Bad(fault),
        error => Known::Unreached(error.to_string()),
    })?;
    Seal::decode(&block).map_err(Known::Bad)
}

/// How long a node is waited for.
struct Patience {
    /// When the caller's time is over.
    deadline: Option<Instant>,
    /// Calls in a row that were not answered.
    silences: AtomicU32,
}

impl Patience {
    /// Waits for a call: not beyond the deadline, and not at all once the node has stopped to answer. Each call has its
    /// own time-out, and a log has more segments than anybody would wait for.
    async fn wait<T>(&self, call: impl Future<Output = Result<T, PinError>>) -> Result<T, PinError> {
        if self.silences.load(Ordering::Relaxed) >= SILENCES_MAX {
            return Err(given_up("it stopped answering"));
        }
        let answer = match self.deadline {
            None => call.await,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let answer = tokio::time::timeout(left, call).await;
                answer.unwrap_or_else(|_| Err(given_up("not done in time")))
            }
        };
        match &answer {
            Err(PinError::Retry { .. }) => drop(self.silences.fetch_add(1, Ordering::Relaxed)),
            _ => self.silences.store(0, Ordering::Relaxed),
        }
        answer
    }
}

fn given_up(why: &str) -> PinError {
    PinError::Retry {
        target: "ipfs".to_owned(),
        doing: "fetching".to_owned(),
        why: why.to_owned(),
        hint: "give it more time with --timeout".to_owned(),
    }
}

impl Archive for Remote {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        match (self.seals.get(&segment), file) {
            (_, File::Anchor) => Ok(None),
            (Some(Known::Seal { cid, .. }), File::Proof) => self.fetch(*cid).map(Some),
            (Some(Known::Seal { payload, .. }), File::Payload) => payload.map_or(Ok(None), |root| self.payload(root)),
            (Some(Known::Bad(refused)), _) => Err(io::Error::new(io::ErrorKind::InvalidData, refused.clone())),
            (Some(Known::Unreached(why)), _) => Err(io::Error::other(why.clone())),
            // Whose seals would have named it could not be reached, so nobody can say that it is missing.
            (None, _) if self.seals.values().any(|known| matches!(known, Known::Unreached(_))) => {
                Err(io::Error::other("no seal that could be reached names it"))
            }
            (None, _) => Ok(None),
        }
    }
}

fn is_missing(error: &PinError) -> bool {
    matches!(error, PinError::Tampered { fault, .. } if fault.code == Code::BlockMissing)
}

/// A damaged or missing block is the finding; everything else is that the node could not be had.
fn io_error(error: PinError) -> io::Error {
    match error {
        PinError::Tampered { fault, .. } => io::Error::new(io::ErrorKind::InvalidData, fault),
        error => io::Error::other(error.to_string()),
    }
}

/// Names tried for a directory of our own.
const SCRATCH_TRIES: u32 = 100;

/// A directory of our own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Scratch, Failure> {
        // What is there is another's, or was left by a process that was killed.
        for n in 0..SCRATCH_TRIES {
            let dir = std::env::temp_dir().join(format!("pinfold-verify-{}-{n}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n + 1 < SCRATCH_TRIES => {}
                Err(error) => return Err(Failure::file("making", &dir, &error)),
                Ok(()) => return Ok(Scratch(dir)),
            }
        }
        Err(Failure::new(3, "file", "making a directory for fetched files"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
