//! Audits of the replicas: now and then each pin target shows some blocks, and what it lost is put back.
//!
//! Beside the fold and beside pinning, one request at a time a target. What came of it is an entry of kind 16 and a row
//! of the journal, so that the schedule outlives a restart; each file put back is stated again by an entry of kind 6.
//! Which blocks are drawn and how a copy is healed: `archive::replica` and the targets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Sidecar;
use super::error::SidecarError;
use super::lane::{Answers, Lane};
use super::outbox::Outbox;
use super::seal::Files;
use super::writer::Writer;
use crate::archive::replica::{self, Sampled};
use crate::archive::{CarFile, Contents, PinError, Pinner, Receipt};
use crate::core::audit::places::Draw;
use crate::core::checkpoint::Head;
use crate::core::cid::Cid;
use crate::core::leaf::Body;
use crate::core::time::Timestamp;

/// How an audit is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Blocks drawn; `None` for all, our own files read whole too.
    pub blocks: Option<u64>,
    /// Whether damaged files are put back.
    pub repairs: bool,
}

/// When targets are audited without being asked to, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Microseconds between two audits of a target; 0 for never.
    pub every: u64,
    /// What is done then.
    pub wanted: Wanted,
}

/// The last audit of a target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// When; the time its entry states.
    pub at: Timestamp,
    /// What it found.
    #[serde(flatten)]
    pub found: Audited,
}

/// What an audit of a target found.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Audited {
    /// Blocks asked for.
    pub sampled: u64,
    /// Those that were missing or something else.
    pub failed: u64,
    /// Files they belong to.
    pub damaged_files: u64,
    /// Those of them that were put back.
    pub repaired_files: u64,
    /// Files of our own archive that were put back from a target.
    pub restored_files: u64,
}

impl ReplicaStatus {
    /// A target that waits for its first audit since `at`.
    fn none_since(at: Timestamp) -> ReplicaStatus {
        ReplicaStatus { at, found: Audited::default() }
    }
}

impl Audited {
    /// Whether damage was found and is still there.
    pub fn is_damaged(&self) -> bool {
        self.repaired_files < self.damaged_files
    }
}

/// The replicas of a log.
pub(super) struct Auditing {
    targets: Vec<Target>,
    answers: Answers<Answer>,
    runtime: tokio::runtime::Handle,
    archive: PathBuf,
    schedule: Schedule,
}

struct Target {
    lane: Lane,
    pinner: Arc<dyn Pinner>,
    last: ReplicaStatus,
    /// A person asked for it.
    asked: Option<Wanted>,
    /// What was asked for was done.
    is_answered: bool,
}

struct Answer {
    target: usize,
    result: Result<Outcome, SidecarError>,
}

/// What came of an audit.
struct Outcome {
    at: Timestamp,
    sampled: Sampled,
    repaired: Vec<(Cid, Receipt)>,
    restored: u64,
    /// Why the repair stopped.
    trouble: Option<PinError>,
    was_asked: bool,
}

/// The row of the last audit of a target.
fn row_of(target: &str) -> String {
    format!("audit/{target}")
}

impl Auditing {
    pub(super) fn new(
        targets: &[(bool, Arc<dyn Pinner>)],
        archive: PathBuf,
        schedule: Schedule,
        runtime: tokio::runtime::Handle,
        writer: &Writer,
    ) -> Result<Auditing, SidecarError> {
        let target = |(required, pinner): &(bool, Arc<dyn Pinner>)| {
            let row = writer.journal.row(&row_of(pinner.name()))?;
            let last = row.and_then(|row| serde_json::from_slice(&row).ok());
            Ok::<_, SidecarError>(Target {
                lane: Lane::new(pinner.name(), *required),
                pinner: Arc::clone(pinner),
                last: last.unwrap_or_else(|| ReplicaStatus::none_since(Timestamp(0))),
                asked: None,
                is_answered: false,
            })
        };
        let targets = targets.iter().map(target).collect::<Result<_, _>>()?;
        Ok(Auditing { targets, answers: Answers::new(), runtime, archive, schedule })
    }

    /// A target that was never audited is due one interval after it came. With the next commit.
    pub(super) fn meet_newcomers(&mut self, writer: &mut Writer, now: Timestamp) {
        for target in self.targets.iter_mut().filter(|target| target.last.at == Timestamp(0)) {
            target.note(writer, ReplicaStatus::none_since(now));
        }
    }

    /// Takes another client for each target of the same name.
    pub(super) fn reconnect(&mut self, pinners: &[Arc<dyn Pinner>]) {
        for target in &mut self.targets {
            if let Some(new) = pinners.iter().find(|new| new.name() == target.lane.name) {
                target.pinner = Arc::clone(new);
                target.lane.try_now();
            }
        }
    }

    /// Whether an audit may be started or has ended.
    pub(super) fn is_due(&mut self, outbox: &Outbox, sealed: u64, now: Timestamp) -> bool {
        self.answers.has_come(|_| true)
            || self.targets.iter().any(|target| self.is_target_due(target, outbox, sealed, now))
    }

    fn is_target_due(&self, target: &Target, outbox: &Outbox, sealed: u64, now: Timestamp) -> bool {
        let every = self.schedule.every;
        // A clock that was set back does not put it off.
        let is_time = every > 0 && (now < target.last.at || now.since(target.last.at) >= every);
        target.lane.is_due(now)
            && (target.asked.is_some() || is_time && outbox.pinned_to(&target.lane.name, sealed) > 0)
    }

    /// Starts what is due and can be.
    ///
    /// # Errors
    /// `Journal` where a sealed segment is not in the journal.
    pub(super) fn start(&mut self, writer: &mut Writer, outbox: &Outbox, now: Timestamp) -> Result<(), SidecarError> {
        let sealed = writer.journal.state().sealed.segments;
        for n in 0..self.targets.len() {
            let Some(target) = self.targets.get(n) else { continue };
            if !self.is_target_due(target, outbox, sealed, now) {
                continue;
            }
            let held = outbox.pinned_to(&target.lane.name, sealed);
            let wanted = target.asked.unwrap_or(self.schedule.wanted);
            let (pinner, contents, was_asked) =
                (Arc::clone(&target.pinner), target.pinner.contents(), target.asked.is_some());
            let cars = roots(writer, &self.archive, held, contents)?;
            let draw = match newest(writer, held)? {
                Some(head) => Some(Draw { head, target: pinner.name().to_owned(), at: writer.record_time(now)? }),
                None => None,
            };
            let pinners = self.targets.iter().map(|target| Arc::clone(&target.pinner)).collect();
            let Some(target) = self.targets.get_mut(n) else { continue };
            let Some(draw) = draw else {
                // Nothing is there yet, so nothing can be missing.
                (target.asked, target.is_answered) = (None, true);
                continue;
            };
            target.lane.is_busy = true;
            let plan = Plan { cars, draw, wanted, pinners, was_asked };
            let sender = self.answers.sender();
            self.runtime.spawn(async move {
                let result = plan.carry_out(pinner).await.map_err(SidecarError::from);
                // The loop that would take it is gone when the process ends: it is due again at the next start.
                let _ = sender.send(Answer { target: n, result });
            });
        }
        Ok(())
    }

    /// Takes the answers that came. Gives how many audits were done.
    ///
    /// # Errors
    /// A halt where our own archive is not what the journal says; those of a commit.
    pub(super) fn take(&mut self, writer: &mut Writer, now: Timestamp) -> Result<u64, SidecarError> {
        let mut done = 0;
        while let Some(Answer { target, result }) = self.answers.next() {
            let spread = u64::from_be_bytes(writer.random()?);
            let Some(target) = self.targets.get_mut(target) else { continue };
            match result {
                Ok(outcome) => {
                    target.lane.succeeded(now);
                    target.record(writer, outcome, now)?;
                    done += 1;
                }
                Err(error) if error.is_halt() => return Err(error),
                Err(error) => {
                    tracing::warn!(pin = target.lane.name, error = %error, "not audited; it will be tried again");
                    target.lane.failed(now, error.to_string(), error.hint(), spread);
                }
            }
        }
        Ok(done)
    }
}

impl Target {
    fn note(&mut self, writer: &mut Writer, last: ReplicaStatus) {
        writer.put_row(&row_of(&self.lane.name), Some(serde_json::to_vec(&last).unwrap_or_default()));
        self.last = last;
    }

    /// Writes down what an audit found, and what was put back.
    fn record(&mut self, writer: &mut Writer, outcome: Outcome, now: Timestamp) -> Result<(), SidecarError> {
        let Outcome { at, sampled, repaired, restored, trouble, was_asked } = outcome;
        let target = self.lane.name.clone();
        if sampled.failed > 0 {
            let (files, repaired) = (sampled.damaged.len(), repaired.len());
            tracing::error!(
                pin = target,
                sampled = sampled.blocks,
                failed = sampled.failed,
                files,
                repaired,
                "a target lost blocks"
            );
        }
        let body =
            Body::ReplicationAudit { at, failed: sampled.failed, target: target.clone(), sampled: sampled.blocks };
        writer.push(body, None, Vec::new())?;
        let again = writer.record_time(now)?;
        for (cid, receipt) in &repaired {
            let pinned = Body::Pinned { at: again, cid: *cid, bytes: receipt.bytes, target: target.clone() };
            writer.push(pinned, None, Vec::new())?;
        }
        let found = Audited {
            sampled: sampled.blocks,
            failed: sampled.failed,
            damaged_files: sampled.damaged.len() as u64,
            repaired_files: repaired.len() as u64,
            restored_files: restored,
        };
        self.note(writer, ReplicaStatus { at, found });
        if was_asked {
            (self.asked, self.is_answered) = (None, true);
        }
        if let Some(trouble) = trouble {
            tracing::warn!(pin = self.lane.name, error = %trouble, "not repaired");
        }
        writer.commit()
    }
}

/// What an audit needs, taken along into its task.
struct Plan {
    cars: Vec<CarFile>,
    draw: Draw,
    wanted: Wanted,
    /// Every target: our own files may have to be fetched from any.
    pinners: Vec<Arc<dyn Pinner>>,
    was_asked: bool,
}

impl Plan {
    async fn carry_out(self, target: Arc<dyn Pinner>) -> Result<Outcome, PinError> {
        let Plan { mut cars, draw, wanted, pinners, was_asked } = self;
        let (at, mut restored) = (draw.at, 0);
        if wanted.repairs && wanted.blocks.is_none() {
            for car in &mut cars {
                measure(car);
                restored += u64::from(replica::restore_own(car, &pinners).await?);
            }
        }
        let drawn = tokio::task::spawn_blocking(move || {
            cars.iter_mut().for_each(measure);
            match wanted.blocks {
                Some(count) => replica::draw(&cars, &draw, count),
                None => replica::all(&cars),
            }
        });
        let drawn = drawn.await.unwrap_or_else(|error| {
            let target = target.name().to_owned();
            let hint = "if this was not a shutdown, report it: it is a bug".to_owned();
            Err(PinError::Retry { target, doing: "draw blocks".to_owned(), why: error.to_string(), hint })
        })?;
        let sampled = replica::sample(&*target, &drawn).await?;
        let damaged: &[CarFile] = if wanted.repairs { &sampled.damaged } else { &[] };
        let (repaired, trouble) = repair(&*target, damaged).await?;
        Ok(Outcome { at, sampled, repaired, restored, trouble, was_asked })
    }
}

/// Puts files back. What a target does not take at first is tried again as long as others succeed: a node that has two
/// damaged files may refuse to touch the one for the other's sake. Gives what it has now, and why not all.
///
/// # Errors
/// Those that halt. What was found is written down whatever else happens.
async fn repair(target: &dyn Pinner, damaged: &[CarFile]) -> Result<(Vec<(Cid, Receipt)>, Option<PinError>), PinError> {
    let (mut repaired, mut left) = (Vec::new(), damaged.to_vec());
    loop {
        let (mut still_left, mut trouble) = (Vec::new(), None);
        for car in &left {
            match target.repair(car).await {
                Ok(receipt) => repaired.push((car.root, receipt)),
                Err(error) if error.halts() => return Err(error),
                Err(error) => {
                    trouble = Some(error);
                    still_left.push(car.clone());
                }
            }
        }
        if still_left.is_empty() || still_left.len() == left.len() {
            return Ok((repaired, trouble));
        }
        left = still_left;
    }
}

/// Looks the length of a file of ours up; one that is not there has none.
fn measure(car: &mut CarFile) {
    car.bytes = std::fs::metadata(&car.path).map_or(0, |meta| meta.len());
}

/// Our files of the first `held` segments that belong on a target; their lengths are looked up later.
fn roots(writer: &Writer, archive: &Path, held: u64, contents: Contents) -> Result<Vec<CarFile>, SidecarError> {
    let mut cars = Vec::new();
    for segment in 0..held {
        let Some(row) = writer.journal.seal(segment)? else { continue };
        let files = Files::of(archive, segment);
        cars.push(CarFile { path: files.proof, root: row.seal, bytes: 0 });
        if let (Contents::ProofAndPayload, Some(root)) = (contents, row.payload) {
            cars.push(CarFile { path: files.payload, root, bytes: 0 });
        }
    }
    Ok(cars)
}

/// The checkpoint of the newest segment a target holds: what is held is released.
fn newest(writer: &Writer, held: u64) -> Result<Option<Head>, SidecarError> {
    let row = held.checked_sub(1).map(|segment| writer.journal.seal(segment)).transpose()?.flatten();
    Ok(row.map(|row| Head { origin: writer.origin().clone(), size: row.end(), root: row.root }))
}

impl Sidecar {
    /// Has every pin target audited now.
    pub fn audit_replicas(&mut self, wanted: Wanted) {
        for target in &mut self.auditing.targets {
            (target.asked, target.is_answered) = (Some(wanted), false);
            target.lane.try_now();
        }
    }

    /// What came of it, by target; `None` while one is still to answer.
    pub fn audited_replicas(&self) -> Option<impl Iterator<Item = (String, &ReplicaStatus)>> {
        let is_done = |target: &Target| target.asked.is_none() && target.is_answered;
        self.auditing.targets.iter().all(is_done).then(|| self.replicas())
    }

    /// The last audit of each target.
    pub fn replicas(&self) -> impl Iterator<Item = (String, &ReplicaStatus)> {
        self.auditing.targets.iter().map(|target| (target.lane.name.clone(), &target.last))
    }

    /// The replicas as they stand.
    pub(super) fn auditing_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.auditing.targets.iter().map(|target| &target.lane)
    }

    /// What is wrong with replicas: not reached for an audit, or damaged and not repaired.
    pub(super) fn replica_trouble(&self) -> impl Iterator<Item = (String, String)> {
        self.auditing.targets.iter().filter_map(|target| {
            let last = &target.last.found;
            let damage = || {
                let (failed, sampled, files) = (last.failed, last.sampled, last.damaged_files - last.repaired_files);
                format!("{failed} of {sampled} blocks lost or altered, {files} files not repaired")
            };
            let trouble = if last.is_damaged() { damage() } else { target.lane.trouble.clone() };
            (!trouble.is_empty()).then(|| (format!("replica {}", target.lane.name), trouble))
        })
    }
}
