//! Registering: the rows of released segments go to every registry, oldest first, one request at a time a registry.
//!
//! Before its first request a registry is asked for the log's fence: a head it saw that is not one of ours is a fork
//! or a rollback, and halts. The id and the time of a request are durable before it is sent, so that a repetition after
//! a crash is the same request and the row says what its kind 7 entry says. The rows are made where they are sent
//! (`rows`); the loop gives the keys for it.

pub(super) mod again;
mod anchors;
mod keys;
mod passed;
mod request;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use uuid::Uuid;

use super::Settings;
use super::error::SidecarError;
use super::lane::{Answers, Lane};
use super::outbox::{Outbox, Task};
use super::writer::{OPERATOR, Writer, own};
use crate::core::hash::Hash;
use crate::core::leaf::Body;
use crate::core::origin::Origin;
use crate::core::rows::{LogRow, pin_row};
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::journal::{Journal, JournalError, SealRow};
use crate::keyring::Keyring;
use crate::registry::{Fence, Receipt, Registrar, RegistryError};
use keys::{Ask, Given};
use request::{Done, Report, Request};
use rows::{Folded, Work};

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
    /// The rows so far; a request under way has them.
    folded: Option<Folded>,
    /// Where its fence is, once it was asked.
    fence: Option<Option<Fence>>,
    last_said: Timestamp,
}

/// What a request says.
enum Answer {
    /// It needs keys.
    Asked(Ask),
    /// It has ended.
    Ended { registry: usize, folded: Box<Folded>, result: Result<Done, SidecarError> },
}

impl Answer {
    fn has_ended(&self) -> bool {
        matches!(self, Answer::Ended { .. })
    }
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
            folded: Some(Folded::new(origin)),
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
        self.answers.has_come(Answer::has_ended)
    }

    /// Gives requests under way the keys they ask for. Gives whether one did.
    pub(super) fn give_keys(&mut self, keyring: &mut Keyring) -> bool {
        let mut has_given = false;
        while let Some(Answer::Asked(ask)) = self.answers.next_wanted(|answer| !answer.has_ended()) {
            ask.answer(keyring);
            has_given = true;
        }
        has_given
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
            let next = registry.next(writer, outbox, &self.archive, settings, released, now, &sender)?;
            let Some(request) = next else { continue };
            registry.lane.is_busy = true;
            let (registrar, origin) = (Arc::clone(&registry.registrar), writer.origin().clone());
            let mut folded = Box::new(registry.folded.take().unwrap_or_else(|| Folded::new(&origin)));
            self.runtime.spawn_blocking(move || {
                let result = request.send(&*registrar, &origin, &mut folded);
                // The loop that would take it is gone when the process ends: it is sent again at the next start.
                let _ = sender.send(Answer::Ended { registry: n, folded, result });
            });
        }
        Ok(())
    }

    /// Takes the answers that came. Gives how many requests were done.
    ///
    /// # Errors
    /// A halt for a fork, a rollback, rows that differ, or an archive that is not ours; those of a commit.
    pub(super) fn take(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<u64, SidecarError> {
        let mut count = 0;
        // One by one: those behind one whose commit fails are taken by the next step.
        while let Some(answer) = self.answers.next_wanted(Answer::has_ended) {
            let Answer::Ended { registry, folded, result } = answer else { continue };
            let spread = u64::from_be_bytes(writer.random()?);
            let Some(registry) = self.registries.get_mut(registry) else { continue };
            registry.folded = Some(*folded);
            match result {
                Ok(done) => {
                    registry.lane.succeeded(now);
                    registry.done(writer, outbox, &self.archive, done, now)?;
                    count += 1;
                }
                Err(error) if error.is_halt() => return Err(error),
                Err(error) => {
                    let name = &registry.lane.name;
                    tracing::warn!(registry = name, error = %error, "not registered; it will be tried again");
                    registry.lane.failed(now, error.to_string(), error.hint(), spread);
                }
            }
        }
        Ok(count)
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
        asks: &Sender<Answer>,
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
            let to = Registry::fence_after(fence, &row);
            let report = Box::new(self.report(writer, settings, &row, now)?);
            let folded = self.folded.as_ref().map_or(0, |folded| folded.segments);
            let seals = (folded..segment).map(|earlier| writer.journal.seal(earlier));
            let earlier: Vec<Option<SealRow>> = seals.collect::<Result<_, _>>()?;
            let epochs = (0..=writer.epoch().number).map(|epoch| (OPERATOR, epoch));
            let work = Box::new(Work {
                archive: archive.to_owned(),
                earlier: earlier.into_iter().flatten().collect(),
                row,
                sealed_at: since,
                registered_at: at,
                request,
                reader: writer.reader.sibling()?,
                operator: Given::take(&mut writer.keyring, [], epochs)?,
                asks: asks.clone(),
            });
            return Ok(Some(Request::Segment { work, from: fence, to, report }));
        }
        if let Some(request) = self.pins(writer, outbox)? {
            return Ok(Some(request));
        }
        if let Some(request) = self.anchors(outbox, archive)? {
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
                self.registered(writer, outbox, segment, receipt)?;
            }
            Done::Pins(names) => {
                for (segment, name) in names {
                    outbox.end(writer, segment, &name);
                }
                writer.commit()?;
            }
            Done::Anchors(tasks) => {
                for (segment, task) in tasks {
                    // A newer anchor may have been written meanwhile: then its task stands under the same name.
                    if outbox.get(segment, &task.name()) == Some(&task) {
                        outbox.end(writer, segment, &task.name());
                    }
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
    match root_at(&writer.journal, fence.size)? {
        Some(root) if root == fence.root => Ok(()),
        found => Err(fork(found.unwrap_or_default()).into()),
    }
}

/// The root at the end of the segment that ends at `size`.
pub(super) fn root_at(journal: &Journal, size: Size) -> Result<Option<Hash>, JournalError> {
    Ok(journal.segment_to(size)?.filter(|row| row.end() == size).map(|row| row.root))
}
