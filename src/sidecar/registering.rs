//! Registering: the rows of released segments go to every registry, oldest first, one request at a time a registry.
//!
//! Before its first request a registry is asked for the log's fence: a head it saw that is not one of ours is a fork
//! or a rollback, and halts. The id and the time of a request are durable before it is sent, so that a repetition after
//! a crash is the same request and the row says what its kind 7 entry says.

pub(super) mod again;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Settings;
use super::error::{SidecarError, registry_hint};
use super::lane::{Answers, Lane};
use super::outbox::{Outbox, Task};
use super::stored::Stored;
use super::writer::{Writer, own};
use crate::core::leaf::Body;
use crate::core::origin::Origin;
use crate::core::rows::{Fold, FoldError, LogRow, PinRow, Sealed, SegmentRows, pin_row};
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::journal::SealRow;
use crate::registry::{Fence, Receipt, Registrar, RegistryError};

/// How often a registry is told that the log is alive, where nothing else is registered.
const HEARTBEAT_MICROS: u64 = 3_600_000_000;
/// Pins told in one request, at most.
const PINS_MAX: usize = 64;

/// The registries of a log.
pub(super) struct Registering {
    registries: Vec<Registry>,
    answers: Answers<Answer>,
    runtime: tokio::runtime::Handle,
    archive: PathBuf,
}

struct Registry {
    lane: Lane,
    registrar: Arc<dyn Registrar>,
    /// The rows so far; the next segment to fold.
    fold: Fold,
    folded: u64,
    /// The fold with the segment under way.
    ahead: Option<Fold>,
    /// Where its fence is, once it was asked.
    fence: Option<Option<Fence>>,
    last_said: Timestamp,
}

/// What came of a request.
struct Answer {
    registry: usize,
    result: Result<Done, RegistryError>,
}

enum Done {
    /// It was asked for the log's fence.
    Met(Option<Fence>),
    /// It has a segment.
    Registered { segment: u64, receipt: Receipt, fence: Fence },
    /// It knows of pins: segment and task name of each.
    Pins(Vec<(u64, String)>),
    /// It took the heartbeat.
    Heard,
    /// It can be given all segments.
    Ready,
}

/// A head of ours, to be reported.
struct Report {
    log: LogRow,
    request: Uuid,
}

impl Registering {
    pub(super) fn new(
        registries: Vec<(Lane, Arc<dyn Registrar>)>,
        origin: &Origin,
        archive: PathBuf,
        runtime: tokio::runtime::Handle,
    ) -> Registering {
        let registry = |(lane, registrar)| Registry {
            lane,
            registrar,
            fold: Fold::new(origin),
            folded: 0,
            ahead: None,
            fence: None,
            last_said: Timestamp(0),
        };
        let registries = registries.into_iter().map(registry).collect();
        Registering { registries, answers: Answers::new(), runtime, archive }
    }

    /// Takes another client for each registry of the same name. A request under way ends with the old one.
    pub(super) fn reconnect(&mut self, registrars: Vec<Arc<dyn Registrar>>) {
        for registry in &mut self.registries {
            if let Some(new) = registrars.iter().find(|new| new.name() == registry.lane.name) {
                registry.registrar = Arc::clone(new);
                registry.lane.try_now();
            }
        }
    }

    /// The registries as they stand.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.registries.iter().map(|registry| &registry.lane)
    }

    /// One task for each registry.
    pub(super) fn tasks(&self, since: Timestamp) -> impl Iterator<Item = Task> {
        let task = move |lane: &Lane| Task::Register {
            registry: lane.name.clone(),
            request: None,
            at: None,
            since,
            is_stated: false,
        };
        self.lanes().map(task)
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.lanes().any(|lane| lane.is_busy)
    }

    /// Waits for an answer, at most so long.
    pub(super) fn wait(&mut self, wait: Duration) {
        self.answers.wait(wait);
    }

    /// Whether an answer has come.
    pub(super) fn has_answers(&mut self) -> bool {
        self.answers.has_come()
    }

    /// Starts what is due; `released` segments may be shown.
    ///
    /// # Errors
    /// A halt where a segment cannot be read back; those of a commit.
    pub(super) fn start(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        settings: &Settings,
        released: u64,
        now: Timestamp,
    ) -> Result<(), SidecarError> {
        for n in 0..self.registries.len() {
            let Some(registry) = self.registries.get_mut(n).filter(|registry| registry.lane.is_due(now)) else {
                continue;
            };
            let sender = self.answers.sender();
            let Some(request) = registry.next(writer, outbox, &self.archive, settings, released, now)? else {
                continue;
            };
            registry.lane.is_busy = true;
            let (registrar, origin) = (Arc::clone(&registry.registrar), writer.origin().clone());
            self.runtime.spawn_blocking(move || {
                let result = request.send(&*registrar, &origin);
                // The loop that would take it is gone when the process ends: it is sent again at the next start.
                let _ = sender.send(Answer { registry: n, result });
            });
        }
        Ok(())
    }

    /// Takes the answers that came. Gives how many requests were done.
    ///
    /// # Errors
    /// A halt for a fork, a rollback, or rows that differ; those of a commit.
    pub(super) fn take(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<u64, SidecarError> {
        let mut count = 0;
        // One by one: those behind one whose commit fails are taken by the next step.
        while let Some(Answer { registry, result }) = self.answers.next() {
            let spread = u64::from_be_bytes(writer.random()?);
            let Some(registry) = self.registries.get_mut(registry) else { continue };
            match result {
                Ok(done) => {
                    registry.lane.succeeded(now);
                    registry.done(writer, outbox, &self.archive, done, now)?;
                    count += 1;
                }
                Err(error) if error.is_halt() => return Err(error.into()),
                Err(error) => {
                    let name = &registry.lane.name;
                    tracing::warn!(registry = name, error = %error, "not registered; it will be tried again");
                    registry.lane.failed(now, error.to_string(), registry_hint(&error).to_owned(), spread);
                }
            }
        }
        Ok(count)
    }
}

/// What is sent.
enum Request {
    Meet,
    Again {
        request: Uuid,
        drops_rows: bool,
    },
    Segment {
        segment: u64,
        rows: Box<SegmentRows>,
        request: Uuid,
        from: Option<Fence>,
        to: Fence,
        at: Timestamp,
        report: Box<Report>,
    },
    Pins {
        pins: Vec<PinRow>,
        request: Uuid,
        names: Vec<(u64, String)>,
    },
    Heartbeat(Box<Report>),
}

impl Request {
    /// Sends it; blocks.
    fn send(self, registrar: &dyn Registrar, origin: &Origin) -> Result<Done, RegistryError> {
        match self {
            Request::Meet => {
                registrar.init()?;
                registrar.head(origin).map(Done::Met)
            }
            Request::Again { request, drops_rows } => {
                if drops_rows {
                    registrar.forget(origin, request)?;
                }
                Ok(Done::Ready)
            }
            Request::Segment { segment, rows, request, from, to, at, report } => {
                let receipt = registrar.register(&rows, request)?;
                let fence = registrar.advance(origin, from, to, at, request)?;
                registrar.heartbeat(&report.log, report.request)?;
                Ok(Done::Registered { segment, receipt, fence })
            }
            Request::Pins { pins, request, names } => {
                registrar.register_pins(&pins, request)?;
                Ok(Done::Pins(names))
            }
            Request::Heartbeat(report) => {
                registrar.heartbeat(&report.log, report.request)?;
                Ok(Done::Heard)
            }
        }
    }
}

impl Registry {
    /// The next request, if there is one.
    fn next(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        archive: &std::path::Path,
        settings: &Settings,
        released: u64,
        now: Timestamp,
    ) -> Result<Option<Request>, SidecarError> {
        let Some(fence) = self.fence else { return Ok(Some(Request::Meet)) };
        if let Some(drops_rows) = self.is_to_drop(outbox) {
            return Ok(Some(Request::Again { request: random_uuid(writer)?, drops_rows }));
        }
        let is_ours = |task: &Task| matches!(task, Task::Register { registry, .. } if *registry == self.lane.name);
        let due = outbox.first_open(is_ours).filter(|segment| *segment < released);
        if let Some(segment) = due {
            let (request, at, since) = self.prepare(writer, outbox, segment, now)?;
            let Some(row) = writer.journal.seal(segment)? else { return Ok(None) };
            let rows = self.rows(writer, archive, &row, since, at)?;
            let to = Registry::fence_after(fence, &row);
            let report = Box::new(self.report(writer, settings, &row, now)?);
            let rows = Box::new(rows);
            return Ok(Some(Request::Segment { segment, rows, request, from: fence, to, at, report }));
        }
        if let Some(request) = self.pins(writer, outbox)? {
            return Ok(Some(request));
        }
        let newest = released.checked_sub(1).map(|segment| writer.journal.seal(segment)).transpose()?.flatten();
        match newest {
            Some(row) if now.since(self.last_said) >= HEARTBEAT_MICROS => {
                Ok(Some(Request::Heartbeat(Box::new(self.report(writer, settings, &row, now)?))))
            }
            _ => Ok(None),
        }
    }

    /// Makes id and time of a registration durable, unless a former try has.
    fn prepare(
        &self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        segment: u64,
        now: Timestamp,
    ) -> Result<(Uuid, Timestamp, Timestamp), SidecarError> {
        let registry = self.lane.name.clone();
        let known = outbox.get(segment, &format!("register/{registry}")).cloned();
        if let Some(Task::Register { request: Some(request), at: Some(at), since, .. }) = known {
            return Ok((request, at, since));
        }
        let since = known.map_or(now, |task| task.since());
        let (request, at) = (random_uuid(writer)?, writer.record_time(now)?);
        let (request_id, time) = (Some(request), Some(at));
        let task = Task::Register { registry, request: request_id, at: time, since, is_stated: false };
        outbox.put(writer, segment, task);
        writer.commit()?;
        Ok((request, at, since))
    }

    /// The rows of a segment, after folding those before it that this process has not yet.
    fn rows(
        &mut self,
        writer: &mut Writer,
        archive: &std::path::Path,
        row: &SealRow,
        sealed_at: Timestamp,
        registered_at: Timestamp,
    ) -> Result<SegmentRows, SidecarError> {
        while self.folded < row.segment {
            let Some(earlier) = writer.journal.seal(self.folded)? else { break };
            let stored = Stored::read(archive, &earlier)?;
            fold(&mut self.fold, writer, &stored, None)?;
            self.folded += 1;
        }
        let stored = Stored::read(archive, row)?;
        // The fold has no way back, and the request may fail: it goes on only when the registry has the segment.
        let mut ahead = self.fold.clone();
        let rows = fold(&mut ahead, writer, &stored, Some((sealed_at, registered_at)))?;
        self.ahead = Some(ahead);
        Ok(rows)
    }

    /// Pins of segments this registry has, not yet told.
    fn pins(&self, writer: &mut Writer, outbox: &Outbox) -> Result<Option<Request>, SidecarError> {
        let (mut pins, mut names, mut first) = (Vec::new(), Vec::new(), None);
        let is_ours = |task: &Task| matches!(task, Task::RegisterPin { registry, .. } if *registry == self.lane.name);
        for (segment, task) in outbox.tasks(is_ours).take(PINS_MAX) {
            let Task::RegisterPin { target, request, at, proof_bytes, payload_bytes, .. } = task else { continue };
            if outbox.get(segment, &format!("register/{}", self.lane.name)).is_some() {
                continue;
            }
            let Some(row) = writer.journal.seal(segment)? else { continue };
            pins.push(pin_row(writer.origin().as_str(), row.seal, target, *proof_bytes, *payload_bytes, *at));
            names.push((segment, task.name()));
            first = first.or(Some(*request));
        }
        Ok(first.map(|request| Request::Pins { pins, request, names }))
    }

    fn report(
        &self,
        writer: &mut Writer,
        settings: &Settings,
        row: &SealRow,
        now: Timestamp,
    ) -> Result<Report, SidecarError> {
        let text = |text: &str| Arc::from(text);
        let log = LogRow {
            origin: text(writer.origin().as_str()),
            tenant: Some(settings.tenant.as_str()).filter(|tenant| !tenant.is_empty()).map(text),
            keyring_id: text(&writer.keyring.keyring_id()),
            format_version: 1,
            copies_min: settings.copies_min,
            verify_max_age_s: 7 * 86_400,
            reported_size: row.end().0,
            reported_root: row.root,
            reported_segments: row.segment + 1,
            reported_at: now,
            silent_after: now.plus(3 * HEARTBEAT_MICROS),
            software: Some(text(&format!("pinfold {}", env!("CARGO_PKG_VERSION")))),
        };
        Ok(Report { log, request: random_uuid(writer)? })
    }

    /// Writes down what was done.
    fn done(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        archive: &std::path::Path,
        done: Done,
        now: Timestamp,
    ) -> Result<(), SidecarError> {
        match done {
            Done::Met(fence) => {
                if let Some(fence) = fence {
                    check_fence(writer, &self.lane.name, fence)?;
                }
                self.fence = Some(fence);
            }
            Done::Registered { segment, receipt, fence } => {
                check_fence(writer, &self.lane.name, fence)?;
                (self.fence, self.last_said) = (Some(Some(fence)), now);
                if let Some(ahead) = self.ahead.take() {
                    (self.fold, self.folded) = (ahead, segment + 1);
                }
                self.registered(writer, outbox, segment, receipt)?;
            }
            Done::Pins(names) => {
                for (segment, name) in names {
                    outbox.end(writer, segment, &name);
                }
                writer.commit()?;
            }
            Done::Heard => self.last_said = now,
            Done::Ready => self.register_all(writer, outbox, archive)?,
        }
        Ok(())
    }

    fn registered(
        &self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        segment: u64,
        receipt: Receipt,
    ) -> Result<(), SidecarError> {
        let name = format!("register/{}", self.lane.name);
        let (Some(row), Some(Task::Register { at: Some(at), is_stated, .. })) =
            (writer.journal.seal(segment)?, outbox.get(segment, &name).cloned())
        else {
            return Ok(());
        };
        let registrar = self.lane.name.clone();
        if !is_stated {
            writer.push(Body::Registered { at, seal: row.seal, receipt: receipt.text, registrar }, None, Vec::new())?;
        }
        outbox.end(writer, segment, &name);
        writer.commit()
    }
}

fn random_uuid(writer: &mut Writer) -> Result<Uuid, SidecarError> {
    Ok(uuid::Builder::from_random_bytes(writer.random()?).into_uuid())
}

/// A head that a registry saw must be one of ours: only sealed sizes are ever shown.
fn check_fence(writer: &Writer, registry: &str, fence: Fence) -> Result<(), SidecarError> {
    let state = writer.journal.state();
    let fork = |expected| RegistryError::Fork {
        registry: registry.to_owned(),
        origin: writer.origin().to_string(),
        size: fence.size,
        expected,
        found: fence.root,
    };
    if fence.size > state.sealed.tree.size() {
        // Nothing we hold can be the tree it saw: the journal was rolled back, or this is another log of that name.
        return Err(fork(state.sealed.tree.root()).into());
    }
    match root_at(writer, fence.size, state.sealed.segments)? {
        Some(root) if root == fence.root => Ok(()),
        found => Err(fork(found.unwrap_or_default()).into()),
    }
}

/// The root at the end of the segment that ends at `size`, by bisection.
fn root_at(writer: &Writer, size: Size, segments: u64) -> Result<Option<crate::core::hash::Hash>, SidecarError> {
    let (mut low, mut high) = (0, segments);
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(row) = writer.journal.seal(middle)? else { return Ok(None) };
        match row.end().cmp(&size) {
            std::cmp::Ordering::Equal => return Ok(Some(row.root)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

/// Folds one segment into rows. Without `times` only what later segments need is wanted: people's parts stay closed.
fn fold(
    fold: &mut Fold,
    writer: &mut Writer,
    stored: &Stored,
    times: Option<(Timestamp, Timestamp)>,
) -> Result<SegmentRows, SidecarError> {
    let sealed = Sealed {
        cid: stored.cid,
        seal: &stored.seal,
        proof_bytes: stored.proof_bytes,
        payload_bytes: stored.payload_bytes,
        sealed_at: times.map(|(sealed, _)| sealed),
        registered_at: times.map(|(_, registered)| registered),
    };
    let Writer { reader, keyring, .. } = writer;
    let rows = fold.segment(&sealed, stored.leaves.iter().map(Vec::as_slice), |wanted| {
        let Some(frame) = stored.frame(wanted.seq, wanted.part) else { return Ok(None) };
        match wanted.key {
            None => reader.operator_body(keyring, wanted.seq, wanted.sealed, frame),
            Some(_) if times.is_none() => Ok(None),
            Some(key) => reader.personal(keyring, wanted.seq, wanted.part, key, wanted.sealed, frame),
        }
    });
    rows.map_err(|error| match error {
        FoldError::Part { source, .. } => source,
        FoldError::Refused { refused, .. } => SidecarError::Own { doing: "the rows of a segment", refused },
    })
}
