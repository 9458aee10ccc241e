//! Anchoring: the checkpoints of released segments go to witnesses and time-stamp authorities, oldest first.
//!
//! What they say becomes a new version of the segment's anchor file, durable before anything speaks of it; then a kind
//! 20 entry names it, every pin target gets it and every registry its rows. An authority that fails holds up nobody but,
//! where the quorum is required, the registries. A crash at any point asks again: signatures and tokens that were not
//! kept are replaced by new ones, which say the same. Not the clients (`anchor`), not what a quorum is (`core::witness`).

mod consistency;
pub(super) mod file;
mod quorum;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::error::SidecarError;
use super::lane::{Answers, Lane};
use super::outbox::{Outbox, Task};
use super::registering::root_at;
use super::writer::{Writer, own};
use crate::anchor::{AnchorError, AnchorKind, Authority, Released, Said};
use crate::core::checkpoint::Statement;
use crate::core::leaf::Body;
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::journal::SealRow;
pub use quorum::Quorum;

/// How long answers wait for those of other authorities about the same segment, in microseconds: one anchor file, one
/// entry and one pin for all of them. Lost in a crash, they are asked for again.
const GATHER_MICROS: u64 = 1_000_000;

/// Who is asked about checkpoints, and what the log makes of it.
#[derive(Default)]
pub struct Anchors {
    /// Witnesses and time-stamp authorities. Their names are unique.
    pub authorities: Vec<Arc<dyn Authority>>,
    /// Which witnesses are enough, where the log has a policy.
    pub quorum: Option<Quorum>,
}

/// The authorities of a log.
pub(super) struct Anchoring {
    authorities: Vec<Asked>,
    answers: Answers<Answer>,
    runtime: tokio::runtime::Handle,
    archive: PathBuf,
    quorum: Option<Quorum>,
    /// Segments whose checkpoint the quorum signed, or a later one, which covers them.
    witnessed: u64,
    /// What was said and is not written down yet, by segment.
    gathered: BTreeMap<u64, Gathered>,
}

struct Asked {
    lane: Lane,
    authority: Arc<dyn Authority>,
    /// The segment it is being asked about.
    about: Option<u64>,
}

struct Gathered {
    since: Timestamp,
    /// Who, and what.
    said: Vec<(usize, Said)>,
}

/// What came of one segment with one authority.
struct Answer {
    authority: usize,
    segment: u64,
    result: Result<Said, AnchorError>,
}

/// Who gets an anchor when it is written.
pub(super) struct Readers {
    pub(super) targets: Vec<String>,
    pub(super) registries: Vec<String>,
}

impl Anchoring {
    /// # Errors
    /// A halt where an anchor file of the archive does not read.
    pub(super) fn new(
        anchors: Anchors,
        archive: PathBuf,
        runtime: tokio::runtime::Handle,
        writer: &Writer,
    ) -> Result<Anchoring, SidecarError> {
        let asked = |authority: Arc<dyn Authority>| {
            // Whether a segment may do without it is the quorum's question.
            Asked { lane: Lane::new(authority.name(), false), authority, about: None }
        };
        let mut anchoring = Anchoring {
            authorities: anchors.authorities.into_iter().map(asked).collect(),
            answers: Answers::new(),
            runtime,
            archive,
            // `quorum none` asks for nothing: then there is nothing to wait for, or to miss.
            quorum: anchors.quorum.filter(|quorum| !quorum.policy.asks_for_none()),
            witnessed: 0,
            gathered: BTreeMap::new(),
        };
        if let Some(quorum) = &anchoring.quorum {
            let sealed = writer.journal.state().sealed.segments;
            anchoring.witnessed = quorum.witnessed(&anchoring.archive, sealed)?;
        }
        Ok(anchoring)
    }

    /// The authorities as they stand.
    pub(super) fn lanes(&self) -> impl Iterator<Item = (AnchorKind, &Lane)> {
        self.authorities.iter().map(|asked| (asked.authority.kind(), &asked.lane))
    }

    /// One task for each authority.
    pub(super) fn tasks(&self, since: Timestamp) -> impl Iterator<Item = Task> {
        self.lanes().map(move |(_, lane)| Task::Anchor { authority: lane.name.clone(), since })
    }

    /// Of `released` segments those that may be registered: all, unless the quorum is required.
    pub(super) fn registrable(&self, released: u64) -> u64 {
        match &self.quorum {
            Some(quorum) if quorum.is_required => released.min(self.witnessed),
            _ => released,
        }
    }

    /// Segments witnessed, and whether the quorum is required; none without a policy.
    pub(super) fn witnessed(&self) -> Option<(u64, bool)> {
        self.quorum.as_ref().map(|quorum| (self.witnessed, quorum.is_required))
    }

    /// Whether a request is under way, or an answer waits to be written down.
    pub(super) fn is_busy(&self) -> bool {
        !self.gathered.is_empty() || self.lanes().any(|(_, lane)| lane.is_busy)
    }

    /// Whether an answer has come, or those that came wait no longer.
    pub(super) fn has_answers(&mut self, now: Timestamp) -> bool {
        self.answers.has_come(|_| true) || self.gathered.keys().any(|segment| self.is_whole(*segment, now))
    }

    /// Whether everybody who is being asked about `segment` has answered, or had time to.
    fn is_whole(&self, segment: u64, now: Timestamp) -> bool {
        let waits = self.authorities.iter().any(|asked| asked.about == Some(segment));
        let is_old = |gathered: &Gathered| now.since(gathered.since) >= GATHER_MICROS || now < gathered.since;
        !waits || self.gathered.get(&segment).is_some_and(is_old)
    }

    /// Whether the authority at `n` is to be asked about a segment below `released`.
    fn next(&self, n: usize, outbox: &Outbox, released: u64, now: Timestamp) -> Option<u64> {
        let asked = self.authorities.get(n).filter(|asked| asked.lane.is_due(now))?;
        let segment =
            outbox.first_open(|task| task.is_question_to(&asked.lane.name)).filter(|segment| *segment < released)?;
        let is_held = self.gathered.get(&segment).is_some_and(|held| held.said.iter().any(|(who, _)| *who == n));
        (!is_held).then_some(segment)
    }

    /// Whether some authority is to be asked.
    pub(super) fn has_due(&self, outbox: &Outbox, released: u64, now: Timestamp) -> bool {
        (0..self.authorities.len()).any(|n| self.next(n, outbox, released, now).is_some())
    }

    /// Starts what is due; `released` segments may be shown.
    ///
    /// # Errors
    /// A halt where a segment cannot be read back.
    pub(super) fn start(
        &mut self,
        writer: &Writer,
        outbox: &Outbox,
        released: u64,
        now: Timestamp,
    ) -> Result<(), SidecarError> {
        for n in 0..self.authorities.len() {
            let Some(segment) = self.next(n, outbox, released, now) else { continue };
            let Some(row) = writer.journal.seal(segment)? else { continue };
            let released = self.released(writer, &row)?;
            let sender = self.answers.sender();
            let Some(asked) = self.authorities.get_mut(n) else { continue };
            (asked.lane.is_busy, asked.about) = (true, Some(segment));
            let authority = Arc::clone(&asked.authority);
            self.runtime.spawn(async move {
                let result = authority.attest(&released).await;
                // The loop that would take it is gone when the process ends: it is asked again at the next start.
                let _ = sender.send(Answer { authority: n, segment, result });
            });
        }
        Ok(())
    }

    fn released(&self, writer: &Writer, row: &SealRow) -> Result<Released, SidecarError> {
        let note = file::checkpoint(&self.archive, row)?;
        let head = own("a checkpoint of the archive", Statement::parse(&note))?.head;
        let consistency = consistency::between(&writer.journal, self.archive.clone(), head.clone());
        Ok(Released { head, note, consistency })
    }

    /// Takes the answers that came, and writes down those that are whole. Gives how many anchors were written.
    ///
    /// # Errors
    /// A halt where an authority holds another history of this log than ours, or an anchor file of ours does not read;
    /// those of a commit.
    pub(super) fn take(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        readers: &Readers,
        now: Timestamp,
    ) -> Result<u64, SidecarError> {
        while let Some(Answer { authority, segment, result }) = self.answers.next() {
            let spread = u64::from_be_bytes(writer.random()?);
            let Some(Asked { lane, about, .. }) = self.authorities.get_mut(authority) else { continue };
            *about = None;
            match result {
                Ok(Said::Ahead(size)) => {
                    check_ours(writer, lane, size)?;
                    lane.succeeded(now);
                    let task = Task::Anchor { authority: lane.name.clone(), since: now };
                    tracing::info!(authority = lane.name, segment, size = size.0, "it has signed a later checkpoint");
                    outbox.end(writer, segment, &task.name());
                    writer.commit()?;
                }
                Ok(said) => {
                    lane.succeeded(now);
                    let gathered = self.gathered.entry(segment);
                    gathered.or_insert(Gathered { since: now, said: Vec::new() }).said.push((authority, said));
                }
                Err(error) if error.halts() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(authority = lane.name, segment, error = %error, "not anchored; it will be tried again");
                    lane.failed(now, error.to_string(), error.hint(), spread);
                }
            }
        }
        let whole: Vec<u64> = self.gathered.keys().copied().filter(|segment| self.is_whole(*segment, now)).collect();
        let mut written = 0;
        for segment in whole {
            self.write(writer, outbox, readers, segment, now)?;
            written += 1;
        }
        Ok(written)
    }

    /// Writes a new version of a segment's anchor, then the entry that names it and the tasks that spread it.
    fn write(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        readers: &Readers,
        segment: u64,
        now: Timestamp,
    ) -> Result<(), SidecarError> {
        let (Some(gathered), Some(row)) = (self.gathered.get(&segment), writer.journal.seal(segment)?) else {
            return Ok(());
        };
        let mut anchor = file::anchor(&self.archive, &row)?;
        for (_, said) in &gathered.said {
            let added = match said {
                Said::Cosigned(lines) => anchor.add_lines(lines),
                Said::Stamped(token) => anchor.add_token(token.clone()),
                Said::Ahead(_) => Ok(false),
            };
            if let Err(refused) = added {
                // Hundreds of others have spoken about this checkpoint already: one more is not worth a halt.
                tracing::warn!(segment, error = %refused, "an answer was not kept");
            }
        }
        // Durable first: a crash behind this line asks again, and finds the file ahead of the entries.
        file::write(&self.archive, segment, &anchor)?;
        let done: BTreeSet<usize> = gathered.said.iter().map(|(who, _)| *who).collect();
        self.gathered.remove(&segment);
        let (cid, at) = (anchor.cid(), writer.record_time(now)?);
        if !writer.is_closed() {
            writer.push(Body::Anchored { cid, segment }, None, Vec::new())?;
        }
        for target in &readers.targets {
            outbox.put(writer, segment, Task::PinAnchor { target: target.clone(), cid: cid.to_string(), since: at });
        }
        for registry in &readers.registries {
            let request = Uuid::from_bytes(writer.random()?);
            outbox.put(
                writer,
                segment,
                Task::RegisterAnchor { registry: registry.clone(), cid: cid.to_string(), request, since: at },
            );
        }
        for asked in done.iter().filter_map(|who| self.authorities.get(*who)) {
            let task = Task::Anchor { authority: asked.lane.name.clone(), since: at };
            outbox.end(writer, segment, &task.name());
        }
        writer.commit()?;
        if let Some(quorum) = &self.quorum
            && quorum.is_met_by(&anchor)?
        {
            self.witnessed = self.witnessed.max(segment + 1);
        }
        tracing::info!(segment, anchor = %cid, "anchored");
        Ok(())
    }
}

/// A size that an authority holds must be one of ours: only sealed sizes are ever shown.
fn check_ours(writer: &Writer, lane: &Lane, size: Size) -> Result<(), SidecarError> {
    match root_at(&writer.journal, size)? {
        Some(_) => Ok(()),
        None => {
            Err(AnchorError::Foreign { authority: lane.name.clone(), origin: writer.origin().clone(), size }.into())
        }
    }
}
