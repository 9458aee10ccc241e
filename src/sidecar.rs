//! The loop: `step(now)` does one bounded unit of work, and nothing happens anywhere else.
//!
//! Folding never waits for what is outside: pins and registrations run beside it, in lanes, and the journal's outbox
//! says what is left. The caller owns the pace, the clock and the threads. A step that ends in a halt has made the halt
//! durable; the sidecar is then to be dropped.

mod adopting;
mod anchoring;
mod attaching;
mod auditing;
mod beside;
mod committer;
mod contested;
mod counts;
mod disclosing;
mod epoch;
mod error;
mod feeding;
mod fold;
mod halting;
mod handover;
mod intake;
mod known;
mod lane;
mod left;
mod leftover;
mod memo;
mod newcomers;
mod observing;
mod outbox;
mod pause;
mod pinning;
mod pipe;
mod prune;
mod random;
mod reader;
mod rebuild;
mod registering;
mod seal;
mod settings;
mod show;
mod stated;
mod status;
mod stored;
mod topics;
mod workers;
mod writer;

use std::sync::Arc;
use std::time::Duration;

pub use adopting::Adopted;
pub use anchoring::{Anchors, Quorum};
pub use auditing::{Audited, ReplicaStatus, Schedule, Wanted};
pub use disclosing::Disclosed;
pub use error::SidecarError;
pub use feeding::{Fed, Feed};
pub use fold::Folded;
pub use handover::{HandedOver, HandoverError, KeyView, LogKeys};
pub use intake::{PositionView, TopicRule, Totals, Which};
pub use lane::Lane;
pub use pause::Pause;
pub use prune::Pruned;
pub use reader::{Keys, Reader};
pub use rebuild::{Retraced, refill};
pub use seal::Files;
pub use settings::Settings;
pub use status::{PositionStatus, ReplicaRow, SealedStatus, Status, TopicStatus};
pub use topics::{TopicRow, Topics};
pub use writer::{Opening, Writer};

use crate::archive::Pinner;
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::ingest::Budget;
use crate::registry::Registrar;
use anchoring::Anchoring;
use auditing::Auditing;
use intake::Intake;
use outbox::Outbox;
use pause::Backlog;
use pinning::Pinning;
use registering::Registering;
use seal::Sealer;
use workers::Workers;

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Something; call again at once.
    Worked,
    /// Nothing; call again when something may have changed.
    Waited,
}

/// The running log.
pub struct Sidecar {
    writer: Writer,
    outbox: Outbox,
    intakes: Vec<Intake>,
    /// How many sources were fed.
    feeds: u64,
    pinning: Pinning,
    anchoring: Anchoring,
    auditing: Auditing,
    registering: Registering,
    sealer: Sealer,
    settings: Settings,
    workers: Workers,
    paused: Option<Pause>,
    backlog: Backlog,
    /// When the loop last looked what the journal may drop.
    pruned_at: Option<Timestamp>,
    /// Segments it is known to have dropped.
    pruned_segments: u64,
    /// The segment before whose seal the broker's ends were last written down.
    observed_for: Option<u64>,
    /// When they were last written down for whatever reason, in this process.
    looked_at: Option<Timestamp>,
    /// What a failing disk left unwritten; it is tried again.
    trouble: Option<SidecarError>,
}

/// How long a step waits for records where there is nothing else to do.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Records of one poll.
const POLL_RECORDS: usize = 8_000;
const POLL_BYTES: usize = 8 << 20;

impl Sidecar {
    /// Goes on with an open log of whose checkpoints nobody outside is asked.
    ///
    /// # Errors
    /// As [`Sidecar::anchored`].
    pub fn new(
        writer: Writer,
        targets: Vec<(bool, Arc<dyn Pinner>)>,
        registries: Vec<(bool, Arc<dyn Registrar>)>,
        settings: Settings,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Sidecar, SidecarError> {
        Sidecar::anchored(writer, targets, Anchors::default(), registries, settings, runtime)
    }

    /// Goes on with an open log.
    ///
    /// # Errors
    /// A halt where the outbox, a segment or an anchor cannot be read; the archive folder cannot be made.
    pub fn anchored(
        writer: Writer,
        targets: Vec<(bool, Arc<dyn Pinner>)>,
        anchors: Anchors,
        registries: Vec<(bool, Arc<dyn Registrar>)>,
        settings: Settings,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Sidecar, SidecarError> {
        std::fs::create_dir_all(&settings.archive).map_err(SidecarError::file("making", &settings.archive))?;
        leftover::clear(&writer, &settings.archive)?;
        let outbox = Outbox::load(&writer.journal)?;
        let (archive, schedule) = (settings.archive.clone(), settings.audits);
        let auditing = Auditing::new(&targets, archive, schedule, runtime.clone(), &writer)?;
        let lane = |name: &str, required| Lane::new(name, required);
        let targets = targets.into_iter().map(|(required, pinner)| (lane(pinner.name(), required), pinner)).collect();
        let registries =
            registries.into_iter().map(|(required, registrar)| (lane(registrar.name(), required), registrar)).collect();
        let mut sidecar = Sidecar {
            pinning: Pinning::new(targets, settings.archive.clone(), runtime.clone()),
            anchoring: Anchoring::new(anchors, settings.archive.clone(), runtime.clone(), &writer)?,
            registering: Registering::new(registries, writer.origin(), settings.archive.clone(), runtime.clone()),
            auditing,
            sealer: Sealer::default(),
            workers: Workers::start(settings.threads)?,
            writer,
            outbox,
            intakes: Vec::new(),
            feeds: 0,
            settings,
            paused: None,
            backlog: Backlog::default(),
            pruned_at: None,
            pruned_segments: 0,
            observed_for: None,
            looked_at: None,
            trouble: None,
        };
        sidecar.meet_newcomers()?;
        Ok(sidecar)
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
                if self.trouble.as_ref().is_none_or(|known| known.code() != error.code()) {
                    tracing::warn!(error = %error, "a step failed; it is tried again until it succeeds");
                }
                self.trouble = Some(error);
                self.registering.wait(POLL_WAIT);
                Ok(Progress::Waited)
            }
            Ok(progress) => {
                self.trouble = None;
                Ok(progress)
            }
        }
    }

    fn work(&mut self, now: Timestamp) -> Result<Progress, SidecarError> {
        self.pause_or_resume()?;
        let mut worked = self.registering.give_keys(&mut self.writer.keyring);
        if self.trouble.is_some() || self.is_something_due(now) {
            worked |= self.work_beside(now)?;
        }
        self.start_requests(now)?;
        if self.is_seal_to_do(now) {
            // More than a segment waits: it is sealed before more is taken in, or the tail would grow without bound.
            return Ok(Progress::Worked);
        }
        let wait = if worked { Duration::ZERO } else { POLL_WAIT };
        let budget = Budget { records_max: POLL_RECORDS, bytes_max: POLL_BYTES, wait };
        worked |= self.step_intakes(budget, now)?;
        // A paused source has nothing to wait for.
        if !worked && (self.intakes.is_empty() || self.paused.is_some()) {
            self.registering.wait(POLL_WAIT);
        }
        Ok(if worked { Progress::Worked } else { Progress::Waited })
    }

    /// Makes everything durable that has a place, an earlier step's leftovers first: nothing else may be written before.
    /// A seal may be among them.
    fn catch_up(&mut self) -> Result<(), SidecarError> {
        self.writer.commit_again()?;
        for intake in &mut self.intakes {
            intake.drain(&mut self.writer)?;
        }
        self.writer.commit()?;
        self.writer.await_seal()
    }

    /// Lets go of the log, its last head written out.
    ///
    /// # Errors
    /// `Journal` where the head file could not be written; nothing is lost.
    pub fn close(self) -> Result<(), SidecarError> {
        // A segment that is being cut is let go of: the next start cuts it anew.
        drop((self.intakes, self.sealer));
        self.writer.close()
    }

    /// The number of durable entries.
    pub fn size(&self) -> Size {
        self.writer.journal.state().size()
    }

    /// Makes everything durable that has a place in the log: before a stop that is no crash.
    ///
    /// # Errors
    /// As `step`.
    pub fn settle(&mut self) -> Result<(), SidecarError> {
        self.catch_up()?;
        // Who comes after us begins where the broker says that we end.
        for intake in &mut self.intakes {
            intake.confirm(&mut self.writer)?;
        }
        self.writer.commit()
    }

    /// The open log.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }
}
