//! Pinning: the CARs of sealed segments go to their targets, oldest first, one at a time a target.
//!
//! A target is done with a segment when every CAR it gets was read back from it and hashed (`archive`). Then kind 6
//! entries say so, and the registries are told.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::error::SidecarError;
use super::lane::{Answers, Lane};
use super::outbox::{Outbox, Task};
use super::seal::Files;
use super::writer::Writer;
use crate::archive::{CarFile, Contents, PinError, Pinner, Receipt};
use crate::core::cid::Cid;
use crate::core::leaf::Body;
use crate::core::time::Timestamp;

/// The pin targets of a log.
pub(super) struct Pinning {
    targets: Vec<(Lane, Arc<dyn Pinner>)>,
    answers: Answers<Answer>,
    runtime: tokio::runtime::Handle,
    archive: PathBuf,
}

/// What came of one segment on one target.
struct Answer {
    target: usize,
    segment: u64,
    /// The task, where it was the segment's anchor.
    anchor: Option<Task>,
    result: Result<Vec<(Cid, Receipt)>, PinError>,
}

impl Pinning {
    pub(super) fn new(
        targets: Vec<(Lane, Arc<dyn Pinner>)>,
        archive: PathBuf,
        runtime: tokio::runtime::Handle,
    ) -> Pinning {
        Pinning { targets, answers: Answers::new(), runtime, archive }
    }

    /// Takes another client for each target of the same name. A request under way ends with the old one.
    pub(super) fn reconnect(&mut self, pinners: Vec<Arc<dyn Pinner>>) {
        for (lane, pinner) in &mut self.targets {
            if let Some(new) = pinners.iter().find(|new| new.name() == lane.name) {
                *pinner = Arc::clone(new);
                lane.try_now();
            }
        }
    }

    /// The targets as they stand.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.targets.iter().map(|(lane, _)| lane)
    }

    /// One task for each target.
    pub(super) fn tasks(&self, since: Timestamp) -> impl Iterator<Item = Task> {
        self.lanes().map(move |lane| Task::Pin { target: lane.name.clone(), since })
    }

    /// Starts what is due and can be.
    ///
    /// # Errors
    /// `Journal` where a sealed segment is not in the journal.
    pub(super) fn start(&mut self, writer: &Writer, outbox: &Outbox, now: Timestamp) -> Result<(), SidecarError> {
        for (n, (lane, pinner)) in self.targets.iter_mut().enumerate() {
            let Some((segment, anchor)) = next(outbox, &lane.name).filter(|_| lane.is_due(now)) else { continue };
            let cars = match &anchor {
                Some(_) => anchor_car(&self.archive, segment)?,
                None => cars(writer, &self.archive, segment, pinner.contents())?,
            };
            let (pinner, sender) = (Arc::clone(pinner), self.answers.sender());
            lane.is_busy = true;
            self.runtime.spawn(async move {
                let result = pin_all(&*pinner, &cars).await;
                // The loop that would take it is gone when the process ends: the task is done again at the next start.
                let _ = sender.send(Answer { target: n, segment, anchor, result });
            });
        }
        Ok(())
    }

    /// Takes the answers that came. Gives how many segments were pinned.
    ///
    /// # Errors
    /// A halt where a target confirmed something else than we gave it, or our own file is not what the journal says.
    pub(super) fn take(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        registries: &[String],
        now: Timestamp,
    ) -> Result<u64, SidecarError> {
        let mut pinned = 0;
        // One by one: those behind one whose commit fails are taken by the next step.
        while let Some(Answer { target, segment, anchor, result }) = self.answers.next() {
            let spread = u64::from_be_bytes(writer.random()?);
            let Some((lane, _)) = self.targets.get_mut(target) else { continue };
            match result {
                Ok(receipts) => {
                    lane.succeeded(now);
                    let pin = Pinned { segment, target: lane.name.clone(), receipts };
                    match anchor {
                        Some(task) => record_anchor(writer, outbox, &task, pin, now)?,
                        None => record(writer, outbox, registries, pin, now)?,
                    }
                    pinned += 1;
                }
                Err(error) if error.halts() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(pin = lane.name, segment, error = %error, "not pinned; it will be tried again");
                    lane.failed(now, error.to_string(), error.hint(), spread);
                }
            }
        }
        Ok(pinned)
    }

    /// Whether an answer has come.
    pub(super) fn has_answers(&mut self) -> bool {
        self.answers.has_come(|_| true)
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.lanes().any(|lane| lane.is_busy)
    }
}

struct Pinned {
    segment: u64,
    target: String,
    receipts: Vec<(Cid, Receipt)>,
}

/// Writes down that a target has a segment.
fn record(
    writer: &mut Writer,
    outbox: &mut Outbox,
    registries: &[String],
    pin: Pinned,
    now: Timestamp,
) -> Result<(), SidecarError> {
    let at = writer.record_time(now)?;
    let Pinned { segment, target, receipts } = pin;
    for (cid, receipt) in &receipts {
        writer.push(Body::Pinned { at, cid: *cid, bytes: receipt.bytes, target: target.clone() }, None, Vec::new())?;
    }
    // The proof CAR comes first, and the payload CAR is the only other one.
    let proof_bytes = receipts.first().map_or(0, |(_, receipt)| receipt.bytes);
    let payload_bytes = receipts.get(1).map(|(_, receipt)| receipt.bytes);
    for registry in registries {
        let request = Uuid::from_bytes(writer.random()?);
        let (registry, target) = (registry.clone(), target.clone());
        let task = Task::RegisterPin { registry, target, request, at, proof_bytes, payload_bytes };
        outbox.put(writer, segment, task);
    }
    outbox.end(writer, segment, &Task::Pin { target, since: at }.name());
    writer.commit()
}

/// Writes down that a target has the anchor of a segment.
fn record_anchor(
    writer: &mut Writer,
    outbox: &mut Outbox,
    task: &Task,
    pin: Pinned,
    now: Timestamp,
) -> Result<(), SidecarError> {
    let at = writer.record_time(now)?;
    let Pinned { segment, target, receipts } = pin;
    for (cid, receipt) in receipts.iter().filter(|_| !writer.is_closed()).collect::<Vec<_>>() {
        writer.push(Body::Pinned { at, cid: *cid, bytes: receipt.bytes, target: target.clone() }, None, Vec::new())?;
    }
    // A newer anchor may have been written meanwhile: then its task stands under the same name.
    if outbox.get(segment, &task.name()) == Some(task) {
        outbox.end(writer, segment, &task.name());
    }
    writer.commit()
}

/// The next work of a target: its segments first, since others wait for them, then anchors.
fn next(outbox: &Outbox, name: &str) -> Option<(u64, Option<Task>)> {
    let is_pin = |task: &Task| matches!(task, Task::Pin { target, .. } if *target == *name);
    let is_anchor = |task: &Task| matches!(task, Task::PinAnchor { target, .. } if *target == *name);
    let segment = outbox.first_open(is_pin).map(|segment| (segment, None));
    segment.or_else(|| outbox.tasks(is_anchor).next().map(|(segment, task)| (segment, Some(task.clone()))))
}

/// The anchor file of `segment` as it now is: it may be newer than the task, and contains what the task is about.
fn anchor_car(archive: &std::path::Path, segment: u64) -> Result<Vec<CarFile>, SidecarError> {
    let path = Files::of(archive, segment).anchor;
    let Some(anchor) = super::anchoring::file::read(archive, segment)? else { return Ok(Vec::new()) };
    let bytes = std::fs::metadata(&path).map_err(SidecarError::file("reading", &path))?.len();
    Ok(vec![CarFile { path, root: anchor.cid(), bytes }])
}

/// The CARs of `segment` that belong on a target.
fn cars(
    writer: &Writer,
    archive: &std::path::Path,
    segment: u64,
    contents: Contents,
) -> Result<Vec<CarFile>, SidecarError> {
    let files = Files::of(archive, segment);
    let Some(row) = writer.journal.seal(segment)? else { return Ok(Vec::new()) };
    let mut cars = vec![(files.proof, row.seal)];
    if let (Contents::ProofAndPayload, Some(payload)) = (contents, row.payload) {
        cars.push((files.payload, payload));
    }
    let car = |(path, root): (PathBuf, Cid)| {
        let bytes = std::fs::metadata(&path).map_err(SidecarError::file("reading", &path))?.len();
        Ok(CarFile { path, root, bytes })
    };
    cars.into_iter().map(car).collect()
}

async fn pin_all(pinner: &dyn Pinner, cars: &[CarFile]) -> Result<Vec<(Cid, Receipt)>, PinError> {
    let mut receipts = Vec::with_capacity(cars.len());
    // The payload first: until the proof is there, nobody misses it.
    for car in cars.iter().rev() {
        receipts.push((car.root, pinner.pin(car).await?));
    }
    receipts.reverse();
    Ok(receipts)
}
