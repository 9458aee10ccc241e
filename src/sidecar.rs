//! The loop: `step(now)` does one bounded unit of work, and nothing happens anywhere else.
//!
//! Folding never waits for what is outside: pins and registrations run beside it, in lanes, and the journal's outbox
//! says what is left. The caller owns the pace, the clock and the threads. A step that ends in a halt has made the halt
//! durable; the sidecar is then to be dropped.

mod error;
mod fold;
mod intake;
mod lane;
mod outbox;
mod pinning;
mod prune;
mod reader;
mod registering;
mod seal;
mod show;
mod status;
mod stored;
mod topics;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use error::SidecarError;
pub use fold::Folded;
pub use intake::{PositionView, TopicRule, Totals, Which};
pub use lane::Lane;
pub use prune::Pruned;
pub use seal::Files;
pub use status::{PositionStatus, Status, TopicStatus};
pub use topics::{TopicRow, Topics};
pub use writer::{Opening, Writer};

use crate::archive::Pinner;
use crate::core::decode::Limits;
use crate::core::identity::Rules as Identity;
use crate::core::leaf::Body;
use crate::core::part::Zstd;
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::ingest::{Budget, Source, SourceError};
use crate::journal::{Commit, Halt, JournalError};
use crate::registry::Registrar;
use intake::Intake;
use outbox::{Outbox, Task};
use pinning::Pinning;
use registering::Registering;
use seal::Cut;

/// What the loop keeps to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Entries of a segment, at most.
    pub entries_max: u64,
    /// Frame bytes of a segment before it is sealed.
    pub bytes_max: u64,
    /// Microseconds after which `entries_min` entries are sealed.
    pub age_max: u64,
    /// Entries that make an aged segment worth sealing.
    pub entries_min: u64,
    /// Microseconds after which any entry is sealed.
    pub age_limit: u64,
    /// Free bytes of the data directory under which intake pauses.
    pub disk_free_min: u64,
    /// Bytes sealed and not yet done above which intake pauses.
    pub backlog_max: u64,
    /// Copies a segment must have.
    pub copies_min: u64,
    /// The tenant of the log.
    pub tenant: String,
    /// Entries done everywhere stay this long, in microseconds; `None` for ever.
    pub keep_journal: Option<u64>,
    /// The archive folder.
    pub archive: PathBuf,
    /// How identifiers are normalised.
    pub identity: Identity,
    /// The limits of reading.
    pub limits: Limits,
    /// Threads that decode and seal.
    pub threads: usize,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Something; call again at once.
    Worked,
    /// Nothing; call again when something may have changed.
    Waited,
}

/// Why intake is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// Not enough room.
    Disk,
    /// Too much that is sealed and not yet done.
    Backlog,
}

impl Pause {
    /// The word for status, readiness and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Pause::Disk => "disk",
            Pause::Backlog => "backlog",
        }
    }
}

/// The running log.
pub struct Sidecar {
    writer: Writer,
    outbox: Outbox,
    intakes: Vec<Intake>,
    pinning: Pinning,
    registering: Registering,
    settings: Settings,
    zstds: Vec<Zstd>,
    paused: Option<Pause>,
    /// What a failing disk left unwritten; it is tried again.
    trouble: Option<SidecarError>,
}

/// How long a step waits for records where there is nothing else to do.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Records of one poll: what fits a commit with the entries that come with them.
const POLL_RECORDS: usize = 4_000;
const POLL_BYTES: usize = 8 << 20;

impl Sidecar {
    /// Goes on with an open log.
    ///
    /// # Errors
    /// A halt where the outbox or a segment cannot be read; the archive folder cannot be made.
    pub fn new(
        writer: Writer,
        targets: Vec<(bool, Arc<dyn Pinner>)>,
        registries: Vec<(bool, Arc<dyn Registrar>)>,
        settings: Settings,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Sidecar, SidecarError> {
        let file = |source| SidecarError::File { doing: "making", path: settings.archive.clone(), source };
        std::fs::create_dir_all(&settings.archive).map_err(file)?;
        let outbox = Outbox::load(&writer.journal)?;
        let lane = |name: &str, required| Lane::new(name, required);
        let targets = targets.into_iter().map(|(required, pinner)| (lane(pinner.name(), required), pinner)).collect();
        let registries =
            registries.into_iter().map(|(required, registrar)| (lane(registrar.name(), required), registrar)).collect();
        let zstd = |_| writer::own("the dictionary of the format", Zstd::new(crate::proto::DICT_1));
        let mut sidecar = Sidecar {
            pinning: Pinning::new(targets, settings.archive.clone(), runtime.clone()),
            registering: Registering::new(registries, writer.origin(), settings.archive.clone(), runtime.clone()),
            zstds: (0..settings.threads.max(1)).map(zstd).collect::<Result<_, _>>()?,
            writer,
            outbox,
            intakes: Vec::new(),
            settings,
            paused: None,
            trouble: None,
        };
        sidecar.meet_newcomers()?;
        Ok(sidecar)
    }

    /// The positions a source of these topics asks for.
    pub fn positions(&self, rules: &Arc<[TopicRule]>) -> PositionView {
        PositionView::new(self.writer.known(), Arc::clone(rules))
    }

    /// Begins to fold what `source` delivers.
    pub fn attach(&mut self, source: Box<dyn Source>, rules: Arc<[TopicRule]>) {
        let (identity, limits) = (self.settings.identity, self.settings.limits);
        self.intakes.push(Intake::new(source, rules, identity, limits));
    }

    /// Goes on with other clients of the same targets and registries, and lets sources connect anew: secrets changed.
    pub fn reconnect(&mut self, pinners: Vec<Arc<dyn Pinner>>, registrars: Vec<Arc<dyn Registrar>>) {
        self.pinning.reconnect(pinners);
        self.registering.reconnect(registrars);
        self.intakes.iter_mut().for_each(|intake| intake.source().reconnect());
    }

    /// One bounded unit of work.
    ///
    /// # Errors
    /// A halt, already durable where the journal still takes one; or a source's end. Everything else is tried again.
    pub fn step(&mut self, now: Timestamp) -> Result<Progress, SidecarError> {
        match self.work(now) {
            Err(error) if error.is_halt() => {
                self.halt(&error, now);
                Err(error)
            }
            Err(error @ SidecarError::Source(_)) => Err(error),
            Err(error) => {
                tracing::warn!(error = %error, "a step failed; it will be tried again");
                self.trouble = Some(error);
                Ok(Progress::Waited)
            }
            Ok(progress) => {
                self.trouble = None;
                Ok(progress)
            }
        }
    }

    /// Makes a halt durable, so that every start repeats it. A file that changed is no doubt about our own state.
    fn halt(&self, error: &SidecarError, now: Timestamp) {
        let is_standing = matches!(error, SidecarError::Journal(JournalError::Halted(_)));
        let is_file = matches!(error, SidecarError::Source(SourceError::PrefixChanged { .. }));
        if !is_standing && !is_file {
            // Where even this fails the journal is poisoned, and the next start checks everything.
            let _ = self.writer.journal.halt(error.to_halt(now));
        }
    }

    fn work(&mut self, now: Timestamp) -> Result<Progress, SidecarError> {
        self.writer.commit_again()?;
        let mut worked = self.take_answers(now)?;
        self.pause_or_resume()?;
        if self.is_seal_due(now) {
            worked |= self.seal(now)?;
        }
        self.start_requests(now)?;
        if self.writer.keyring.fold_is_due() {
            let size = self.writer.journal.state().size();
            self.writer.keyring.fold(size)?;
        }
        let wait = if worked { Duration::ZERO } else { POLL_WAIT };
        let budget = Budget { records_max: POLL_RECORDS, bytes_max: POLL_BYTES, wait };
        for intake in &mut self.intakes {
            worked |= intake.step(&mut self.writer, &mut self.zstds, budget, now)? > 0;
        }
        if self.intakes.is_empty() && !worked {
            self.registering.wait(POLL_WAIT);
        }
        Ok(if worked { Progress::Worked } else { Progress::Waited })
    }

    /// Pauses intake where there is no room for more, and resumes it when there is.
    fn pause_or_resume(&mut self) -> Result<(), SidecarError> {
        let wanted = if self.disk_free()? < self.settings.disk_free_min {
            Some(Pause::Disk)
        } else if self.backlog_bytes()? > self.settings.backlog_max {
            Some(Pause::Backlog)
        } else {
            None
        };
        if wanted != self.paused {
            match wanted {
                Some(pause) => tracing::warn!(why = pause.as_str(), "intake is paused"),
                None => tracing::info!("intake goes on"),
            }
            for intake in &mut self.intakes {
                if wanted.is_some() { intake.source().pause() } else { intake.source().resume() }
            }
            self.paused = wanted;
        }
        Ok(())
    }

    /// Free bytes of the data directory.
    fn disk_free(&self) -> Result<u64, SidecarError> {
        let file = |source| SidecarError::File { doing: "looking at", path: self.settings.archive.clone(), source };
        let disk = rustix::fs::statvfs(&self.settings.archive).map_err(|error| file(error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Bytes of the segments that are not yet done.
    fn backlog_bytes(&self) -> Result<u64, SidecarError> {
        let Some(first) = self.outbox.first_open(|_| true) else { return Ok(0) };
        let bytes = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let of = |segment| {
            let files = Files::of(&self.settings.archive, segment);
            bytes(&files.proof) + bytes(&files.payload)
        };
        Ok((first..self.writer.journal.state().sealed.segments).map(of).sum())
    }

    /// Gives targets and registries that came to the configuration later the segments they lack, and drops the tasks
    /// of those that left it.
    fn meet_newcomers(&mut self) -> Result<(), SidecarError> {
        let segments = self.writer.journal.state().sealed.segments;
        let at = self.writer.journal.state().recorded_at;
        let wanted: Vec<Task> = self.pinning.tasks(at).chain(self.registering.tasks(at)).collect();
        let names: Vec<String> =
            self.pinning.lanes().chain(self.registering.lanes()).map(|lane| lane.name.clone()).collect();
        let left = self.outbox.tasks(|task| !names.iter().any(|name| task.is_for(name)));
        let left: Vec<(u64, String)> = left.map(|(segment, task)| (segment, task.name())).collect();
        for (segment, name) in left {
            self.outbox.end(&mut self.writer, segment, &name);
            self.commit_if_due()?;
        }
        for task in wanted {
            let row = format!("since/{}", task.name());
            if self.writer.journal.row(&row)?.is_some() {
                continue;
            }
            for segment in 0..segments {
                self.outbox.put(&mut self.writer, segment, task.clone());
                self.commit_if_due()?;
            }
            self.writer.put_row(&row, Some(segments.to_be_bytes().to_vec()));
        }
        self.writer.commit()
    }

    fn commit_if_due(&mut self) -> Result<(), SidecarError> {
        if self.writer.is_commit_due() { self.writer.commit() } else { Ok(()) }
    }

    /// Takes what pin targets and registries have answered.
    fn take_answers(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let names: Vec<String> = self.registering.lanes().map(|lane| lane.name.clone()).collect();
        let pinned = self.pinning.take(&mut self.writer, &mut self.outbox, &names, now)?;
        let registered = self.registering.take(&mut self.writer, &mut self.outbox, now)?;
        Ok(pinned + registered > 0)
    }

    fn start_requests(&mut self, now: Timestamp) -> Result<(), SidecarError> {
        self.pinning.start(&self.writer, &self.outbox, now)?;
        let released = self.released();
        self.registering.start(&mut self.writer, &mut self.outbox, &self.settings, released, now)
    }

    /// Segments whose checkpoint may be shown: sealed, and held by a pin target (with none: by the archive folder).
    fn released(&self) -> u64 {
        let sealed = self.writer.journal.state().sealed.segments;
        let held_to = |lane: &Lane| {
            self.outbox
                .first_open(|task| matches!(task, Task::Pin { target, .. } if *target == lane.name))
                .unwrap_or(sealed)
        };
        self.pinning.lanes().map(held_to).max().unwrap_or(sealed)
    }

    /// Whether a segment is to be sealed. Our own entries never start the clock.
    fn is_seal_due(&self, now: Timestamp) -> bool {
        let (waiting, settings) = (self.writer.waiting(), &self.settings);
        let age = waiting.oldest.map_or(0, |oldest| now.since(oldest));
        let size = self.writer.size().0 - self.writer.journal.state().sealed.tree.size().0;
        waiting.entries > 0
            && (size >= settings.entries_max
                || waiting.frame_bytes >= settings.bytes_max
                || (age >= settings.age_max && waiting.entries >= settings.entries_min)
                || age >= settings.age_limit)
    }

    /// Seals one segment of what waits, whatever its age; false where nothing does.
    ///
    /// # Errors
    /// As `step`.
    pub fn seal_now(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let sealed = self.seal(now);
        if let Err(error) = &sealed
            && error.is_halt()
        {
            self.halt(error, now);
        }
        sealed
    }

    fn seal(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let ends: Vec<_> = self.intakes.iter().flat_map(|intake| intake.ends(&self.writer)).collect();
        let at = self.writer.record_time(now)?;
        for ends in ends.chunks(400) {
            self.writer.push(Body::Observed { at, ends: ends.to_vec() }, None, Vec::new())?;
        }
        self.writer.commit()?;
        let tasks: Vec<Task> = self.pinning.tasks(at).chain(self.registering.tasks(at)).collect();
        let cut = Cut { entries_max: self.settings.entries_max, bytes_max: self.settings.bytes_max };
        let sealed = seal::seal(&mut self.writer, &self.settings.archive, cut, &tasks, at)?;
        if let Some(row) = &sealed {
            self.outbox.sealed(row.segment, &tasks);
            tracing::info!(segment = row.segment, entries = row.count, seal = %row.seal, "sealed");
        }
        Ok(sealed.is_some())
    }

    /// Whether everything is read, sealed, pinned and registered, as far as it is required. What is left are our own
    /// entries, which never cause a segment.
    pub fn is_idle(&self) -> bool {
        self.is_read() && self.writer.waiting().entries == 0 && !self.is_busy() && self.open_tasks() == 0
    }

    /// Whether every source is read to its end.
    pub fn is_read(&self) -> bool {
        self.intakes.iter().all(Intake::is_idle)
    }

    /// Whether entries wait for a seal.
    pub fn has_waiting(&self) -> bool {
        self.writer.waiting().entries > 0
    }

    fn is_busy(&self) -> bool {
        self.pinning.is_busy() || self.registering.is_busy()
    }

    /// Tasks left of required targets and registries.
    pub fn open_tasks(&self) -> usize {
        let lanes = || self.pinning.lanes().chain(self.registering.lanes());
        let is_required = |task: &Task| lanes().any(|lane| lane.is_required && task.is_for(&lane.name));
        self.outbox.tasks(is_required).count()
    }

    /// Tasks left of required pin targets, and with `with_registries` of registries.
    pub fn open_of_stage(&self, with_registries: bool) -> usize {
        let is_pin = |task: &Task| self.pinning.lanes().any(|lane| lane.is_required && task.is_for(&lane.name));
        let is_row = |task: &Task| self.registering.lanes().any(|lane| lane.is_required && task.is_for(&lane.name));
        let is_wanted = |task: &Task| match task {
            Task::Pin { .. } => is_pin(task),
            _ => with_registries && is_row(task),
        };
        self.outbox.tasks(is_wanted).count()
    }

    /// Folds one source to its end, and lets go of it.
    ///
    /// # Errors
    /// As `step`.
    pub fn ingest(
        &mut self,
        source: Box<dyn Source>,
        rules: Arc<[TopicRule]>,
        now: impl Fn() -> Timestamp,
    ) -> Result<Totals, SidecarError> {
        self.attach(source, rules);
        let mut outcome = Ok(());
        while outcome.is_ok() && self.intakes.last().is_some_and(|intake| !intake.is_idle()) {
            outcome = self.step(now()).map(drop);
        }
        let totals = self.intakes.pop().map(|intake| intake.totals()).unwrap_or_default();
        outcome.map(|()| totals)
    }

    /// Refuses while a halt stands.
    ///
    /// # Errors
    /// `Halted` with its reason.
    pub fn refuse_if_halted(&self) -> Result<(), SidecarError> {
        match &self.writer.journal.state().halted {
            Some(halt) => Err(JournalError::Halted(halt.clone()).into()),
            None => Ok(()),
        }
    }

    /// Ends a standing halt; gives what it was.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn resume(&mut self) -> Result<Option<Halt>, SidecarError> {
        let halted = self.writer.journal.state().halted.clone();
        if halted.is_some() {
            self.writer.journal.append(&Commit { resume: true, ..Commit::default() })?;
        }
        Ok(halted)
    }

    /// Lets go of the log, its last head written out.
    ///
    /// # Errors
    /// `Journal` where the head file could not be written; nothing is lost.
    pub fn close(self) -> Result<(), SidecarError> {
        drop(self.intakes);
        self.writer.close()
    }

    /// The number of entries.
    pub fn size(&self) -> Size {
        self.writer.size()
    }

    /// The open log.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Why intake is paused, if it is.
    pub fn paused(&self) -> Option<Pause> {
        self.paused
    }

    /// What intake has done since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for intake in self.intakes.iter().map(Intake::totals) {
            totals.folded.add(intake.folded);
            totals.duplicates += intake.duplicates;
            totals.gaps += intake.gaps;
        }
        totals
    }
}
