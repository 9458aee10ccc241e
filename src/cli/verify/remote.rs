//! An archive on a Kubo node: the seals walked back from the newest, every file fetched when the audit asks for it.
//!
//! Every block is hashed on the way, and each walk is bounded in blocks, bytes and depth (`archive::kubo`). Nothing is
//! kept: a file lies in a directory of our own until it was opened, so that neither disk nor memory grows with the log.
//! A segment whose seal is missing or damaged does not hide those before it: `skip` leads around it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::{Failure, open};
use super::files::SEGMENTS_MAX;
use crate::archive::PinError;
use crate::archive::kubo::seals::{SealFault, SealLinks, Seals};
use crate::archive::kubo::{Kubo, Reach};
use crate::config::Config;
use crate::core::audit::{Archive, File};
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};
use crate::core::rules::Fault;
use crate::core::segment::skip_of;

/// Calls in a row without an answer after which the node counts as gone.
const SILENCES_MAX: u32 = 32;

/// The archive of one log on a node.
pub(super) struct Remote {
    node: Kubo,
    runtime: tokio::runtime::Runtime,
    /// When the caller's patience ends.
    deadline: Option<Instant>,
    /// Calls in a row that were not answered.
    silences: AtomicU32,
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
    ) -> Result<Remote, Failure> {
        let newest: Cid = cid.parse().map_err(|_| Failure::usage(format!("--cid {cid}: not a CID of the format")))?;
        let node = open::node_at(url, config, timeout)?;
        let mut remote = Remote {
            node,
            runtime: super::super::runtime()?,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            silences: AtomicU32::new(0),
            dir: Scratch::make()?,
            files: AtomicU64::new(0),
            seals: BTreeMap::new(),
            segments: 0,
            fault: None,
            is_proof_only: AtomicBool::new(false),
        };
        remote.walk(newest);
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

    fn walk(&mut self, newest: Cid) {
        let place = format!("seal {newest}");
        let mut found = Seals::new();
        // Ahead of the walk, many at once; what the deadline cuts off is asked for below, and finds that it has passed.
        let _ = self.wait(async {
            self.node.seals(newest, Reach::Network, SEGMENTS_MAX, &mut found).await;
            Ok(())
        });
        let seal = match self.seal(newest, &found) {
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
        let mut ahead = BTreeMap::from([(seal.segment, newest)]);
        while let Some((segment, cid)) = ahead.pop_last() {
            let known = match self.seal(cid, &found) {
                Ok(seal) if seal.segment == segment => {
                    // The nearer link wins; whether both are right is the audit's question.
                    if let Some(skip) = seal.skip.filter(|_| segment > 0) {
                        ahead.entry(skip_of(segment)).or_insert(skip);
                    }
                    if let Some((previous, link)) = segment.checked_sub(1).zip(seal.prev_seal) {
                        ahead.insert(previous, link);
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
    }

    /// A seal that was found ahead, or else is asked for now.
    fn seal(&self, cid: Cid, found: &Seals) -> Result<SealLinks, Known> {
        let asked = || async { Ok(self.node.seal_links(cid, Reach::Network).await) };
        let answer = match found.get(&cid) {
            Some(answer) => answer.clone(),
            None => self.wait(asked()).unwrap_or_else(|late| Err(SealFault::Unreached(late.to_string()))),
        };
        answer.map_err(|fault| match fault {
            SealFault::Bad(refused) => Known::Bad(refused),
            SealFault::Unreached(why) => Known::Unreached(why),
        })
    }

    /// Runs a call: not beyond the deadline, and not at all once the node has stopped to answer. Each call has its own
    /// time-out, and a log has more segments than anybody would wait for.
    fn wait<T>(&self, call: impl Future<Output = Result<T, PinError>>) -> Result<T, PinError> {
        if self.silences.load(Ordering::Relaxed) >= SILENCES_MAX {
            return Err(given_up("it stopped answering"));
        }
        let answer = match self.deadline {
            None => self.runtime.block_on(call),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let answer = self.runtime.block_on(async { tokio::time::timeout(left, call).await });
                answer.unwrap_or_else(|_| Err(given_up("not done in time")))
            }
        };
        match &answer {
            Err(PinError::Retry { .. }) => drop(self.silences.fetch_add(1, Ordering::Relaxed)),
            _ => self.silences.store(0, Ordering::Relaxed),
        }
        answer
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

fn given_up(why: &str) -> PinError {
    PinError::Retry {
        target: "ipfs".to_owned(),
        doing: "fetching".to_owned(),
        why: why.to_owned(),
        hint: "give it more time with --timeout".to_owned(),
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
