//! The consumer's thread: polls, hands over, assigns, and keeps the membership while nobody takes anything.
//!
//! Everything happens in `run`, one step after the other; librdkafka's callbacks are events here. A rebalance is
//! answered when it is due: an assignment after its look-ups, a revocation after the loop has made durable what it holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::super::{Again, Arrival, Positions, Reached, SourceError, Standing, Topic, Trouble, TroubleKind};
use super::assign::partition;
use super::buffer::{Buffer, Key};
use super::duty::{Duty, RETRY, keys, list_of};
use super::native::{At, Event, Kind, Queue};
use super::options::{Assignment, Options};
use super::probe;
use super::read::{Go, Reading};
use super::trouble::{Meaning, is_contested, meaning};

/// How long one wait for the next event may be; commands are seen after it.
const WAIT: Duration = Duration::from_millis(20);
/// What is read before it is put into the buffer, unless the queue runs dry earlier.
const BATCH_RECORDS: usize = 1024;
/// The same in bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// A full buffer is waited for this long, then partitions are paused and what librdkafka holds is given back.
const FULL_GRACE: Duration = Duration::from_secs(1);
/// Being fenced more often than this within the time below is another process of our name.
const FENCES_MAX: usize = 3;
/// Long against a session and short against the time between two outages.
const FENCES_WITHIN: Duration = Duration::from_secs(120);
/// How often, when something is wrong.
pub(super) const CHECK_IN_TROUBLE: Duration = Duration::from_secs(1);

/// What the loop asks of the thread. That it has gone is the end.
pub(super) enum Command {
    Commit(Vec<Reached>),
    CommitBeforeSeal(Vec<Reached>, Sender<Standing>),
    Released,
    Pause,
    Resume,
    Reconnect,
}

/// The thread's state.
pub(super) struct Worker {
    /// Before the consumer, so that it is dropped before it.
    pub(super) queue: Queue,
    pub(super) consumer: BaseConsumer,
    pub(super) options: Options,
    pub(super) positions: Arc<dyn Positions>,
    pub(super) buffer: Arc<Buffer>,
    pub(super) commands: Receiver<Command>,
    pub(super) reading: Reading,
    /// Assigned at librdkafka: ours to commit, also while being revoked.
    pub(super) owned: BTreeSet<Key>,
    /// Assigned to us by the group, and without a topic just now.
    pub(super) skipped: BTreeSet<Key>,
    pub(super) known: BTreeMap<String, Arc<Topic>>,
    /// The topics of which is known whether they are compacted.
    pub(super) judged: BTreeSet<String>,
    pub(super) duties: VecDeque<Duty>,
    pub(super) retry_at: Option<Instant>,
    pub(super) check_at: Instant,
    /// The topics our group was told of: by name at once, by pattern as they are found.
    pub(super) subscribed: BTreeSet<String>,
    pub(super) trouble: Option<TroubleKind>,
    /// When our membership was taken, lately.
    fences: Vec<Instant>,
    pub(super) is_released: bool,
    pub(super) is_held_back: bool,
    pub(super) is_paused: bool,
    pub(super) full_since: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        options: Options,
        positions: Arc<dyn Positions>,
        buffer: Arc<Buffer>,
        commands: Receiver<Command>,
    ) -> Result<Worker, SourceError> {
        let subscribed: BTreeSet<String> = options.names().map(str::to_owned).collect();
        let (queue, consumer) = join(&options, &subscribed)?;
        Ok(Worker {
            queue,
            consumer,
            options,
            positions,
            buffer,
            commands,
            reading: Reading::default(),
            owned: BTreeSet::new(),
            skipped: BTreeSet::new(),
            known: BTreeMap::new(),
            judged: BTreeSet::new(),
            duties: VecDeque::new(),
            retry_at: None,
            check_at: Instant::now(),
            subscribed,
            trouble: None,
            fences: Vec::new(),
            is_released: false,
            is_held_back: false,
            is_paused: false,
            full_since: None,
        })
    }

    /// Until the loop lets go of it, or an error that only a person can judge.
    pub(super) fn run(mut self) {
        let error = loop {
            let step = self.step();
            self.flush();
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => break error,
            }
        };
        self.buffer.fail(error);
        // The membership ends here; the loop reads the error after what came before it.
    }

    /// One round; false when the loop has let go.
    fn step(&mut self) -> Result<bool, SourceError> {
        if !self.obey()? {
            return Ok(false);
        }
        self.fulfil()?;
        if Instant::now() >= self.check_at {
            self.check()?;
        }
        if self.regulate() {
            self.read()?;
            return Ok(true);
        }
        // The buffer is full and within its grace: wait for the loop, not for the broker.
        match self.commands.recv_timeout(WAIT) {
            Ok(command) => self.execute(command)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
        Ok(true)
    }

    // ---- the loop's wishes ----

    fn obey(&mut self) -> Result<bool, SourceError> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.execute(command)?,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn execute(&mut self, command: Command) -> Result<(), SourceError> {
        match command {
            Command::Commit(reached) => {
                // Its failure comes as an event; the next commit repeats it.
                self.commit(&reached, CommitMode::Async);
            }
            Command::CommitBeforeSeal(reached, answer) => {
                let standing = self.commit(&reached, CommitMode::Sync);
                // Nobody waits any longer: the answer was too late, the seal is tried again.
                let _ = answer.send(standing);
            }
            Command::Released => self.is_released = true,
            Command::Pause => self.is_held_back = true,
            Command::Resume => self.is_held_back = false,
            // First of all duties: what comes before it may wait for the very password that was corrected.
            Command::Reconnect => {
                self.retry_at = None;
                self.duties.push_front(Duty::Reconnect { since: None });
            }
        }
        Ok(())
    }

    fn commit(&self, reached: &[Reached], mode: CommitMode) -> Standing {
        if self.options.assignment == Assignment::Static {
            return Standing::Held;
        }
        let mut list = TopicPartitionList::new();
        let mut is_ours = true;
        for one in reached {
            let key = (one.topic.clone(), one.partition);
            let Ok(next) = i64::try_from(one.next) else { continue };
            if !self.owned.contains(&key) {
                is_ours = false;
            } else if list.add_partition_offset(&key.0, partition(&key), Offset::Offset(next)).is_err() {
                return Standing::Unknown;
            }
        }
        if !is_ours && matches!(mode, CommitMode::Sync) {
            // Given up or lost since, and the loop has not heard of it yet: nobody answers for it.
            return Standing::Contested;
        }
        if list.count() == 0 {
            return Standing::Held;
        }
        match self.consumer.commit(&list, mode) {
            Ok(()) => Standing::Held,
            Err(error) if error.rdkafka_error_code().is_some_and(is_contested) => Standing::Contested,
            Err(error) => {
                tracing::warn!(source = self.options.name, %error, "group offsets not committed");
                Standing::Unknown
            }
        }
    }

    // ---- flow ----

    /// Pauses and resumes partitions; false while nothing must be polled.
    fn regulate(&mut self) -> bool {
        let is_full = if self.full_since.is_some() { !self.buffer.has_room() } else { self.buffer.is_full() };
        self.full_since = if is_full { self.full_since.or_else(|| Some(Instant::now())) } else { None };
        let is_stuck = self.full_since.is_some_and(|since| since.elapsed() >= FULL_GRACE);
        let wants_pause = self.is_held_back || is_stuck;
        if wants_pause != self.is_paused {
            let list = list_of(self.owned.iter());
            let done = if wants_pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
            match done {
                Ok(()) => self.is_paused = wants_pause,
                Err(error) => tracing::warn!(source = self.options.name, %error, "pausing or resuming"),
            }
        }
        !is_full || self.is_paused
    }

    /// Polls until the queue is dry or a batch is full.
    fn read(&mut self) -> Result<(), SourceError> {
        let mut wait = WAIT;
        while let Some(event) = self.queue.poll(wait) {
            self.serve(event)?;
            let is_batch = self.reading.out_records >= BATCH_RECORDS || self.reading.out_bytes >= BATCH_BYTES;
            if is_batch || !self.duties.is_empty() {
                break;
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) {
        let mut arrivals = self.reading.drain();
        for arrival in &mut arrivals {
            if let Arrival::Last { topic, partition, offset, again: again @ Again::Absent } = arrival
                && probe::is_compacted(&self.options, &topic.name) != Some(false)
            {
                tracing::warn!(
                    source = self.options.name,
                    topic = topic.name,
                    partition,
                    offset,
                    "the last archived record is gone, perhaps by compaction: whether history is the same is not known"
                );
                *again = Again::Compacted;
            }
        }
        self.buffer.push(arrivals);
    }

    // ---- events ----

    fn serve(&mut self, mut event: Event) -> Result<(), SourceError> {
        match event.kind() {
            Kind::Messages => {
                let failed = self.messages(&mut event);
                // An error may replace the consumer, and the event is its.
                drop(event);
                if let Some((code, at)) = failed {
                    self.error(code, "", false, Some(at))?;
                }
            }
            Kind::Error { code, reason, is_fatal, at } => {
                drop(event);
                self.error(code, &reason, is_fatal, at)?;
            }
            Kind::Assign(list) => {
                self.duties.push_back(Duty::Assign { keys: keys(list), doubts: 0 });
            }
            Kind::Revoke(list) => {
                let is_lost = self.consumer.assignment_lost();
                self.duties.push_back(Duty::Revoke { keys: keys(list), is_lost, since: None, is_anew: false });
            }
            Kind::Committed(None) | Kind::Other => {}
            Kind::Committed(Some(code)) => {
                tracing::debug!(source = self.options.name, ?code, "group offsets not committed");
            }
            Kind::Statistics(json) => self.statistics(&json),
            Kind::Log { level, text } if level <= 4 => tracing::warn!(source = self.options.name, "librdkafka: {text}"),
            Kind::Log { text, .. } => tracing::debug!(source = self.options.name, "librdkafka: {text}"),
        }
        Ok(())
    }

    /// Takes the messages; the answer is an error that stood in a message's place.
    fn messages(&mut self, event: &mut Event) -> Option<(Code, At)> {
        let mut failed = None;
        while let Some(message) = event.next_message() {
            match message.error() {
                Some(code) => {
                    let topic = message.topic().to_owned();
                    failed = Some((code, At { topic, partition: message.partition(), offset: message.offset() }));
                }
                None => {
                    match self.reading.message(&message) {
                        None => {}
                        Some(Go::On(key, next)) => {
                            let next = i64::try_from(next).unwrap_or(i64::MAX);
                            // Saves reading what is not wanted; if it fails, that is read and dropped.
                            let _ = self.consumer.seek(&key.0, partition(&key), Offset::Offset(next), Duration::ZERO);
                        }
                        Some(Go::Back(key, last)) => {
                            tracing::info!(
                                source = self.options.name,
                                topic = key.0,
                                partition = key.1,
                                offset = last,
                                "another leader: reading the last record again"
                            );
                            self.duties.push_back(Duty::GoBack { key, last });
                        }
                    }
                }
            }
        }
        failed
    }

    fn error(&mut self, code: Code, reason: &str, is_fatal: bool, at: Option<At>) -> Result<(), SourceError> {
        let key = at.as_ref().and_then(|at| Some((at.topic.clone(), u32::try_from(at.partition).ok()?)));
        let meaning = meaning(code, reason);
        if meaning == Meaning::Fenced {
            return self.fenced(reason);
        }
        if is_fatal {
            let reason = format!("{code:?}: {reason}");
            return Err(SourceError::Client { source_name: self.options.name.clone(), reason });
        }
        match (meaning, key) {
            (Meaning::End, Some(key)) => {
                let end = at.map_or(0, |at| u64::try_from(at.offset).unwrap_or(0));
                if self.reading.end(&key, end) {
                    self.flush();
                    self.buffer.read_to_end(&key, end);
                }
            }
            (Meaning::Truncated, Some(key)) => return Err(self.rewritten(&key, reason.to_owned())),
            (Meaning::OutOfRange | Meaning::Corrupt, Some(key)) => {
                if meaning == Meaning::Corrupt {
                    self.note(TroubleKind::Broker, code, reason);
                }
                if let Some(slot) = self.reading.slot(&key.0, key.1) {
                    slot.is_suspended = true;
                    self.duties.push_back(Duty::MoveOn { key, doubts: 0 });
                    // What the broker refuses at once it may refuse again: not in a tight loop.
                    self.retry_at = Some(Instant::now() + RETRY);
                }
            }
            (Meaning::TopicGone, key) => {
                for (_, slot) in self.reading.slots_of(&key.unwrap_or_default().0) {
                    slot.is_suspended = true;
                }
                self.check_at = Instant::now();
            }
            (Meaning::Trouble(kind), key) => {
                if let Some(slot) = key.and_then(|key| self.reading.slot(&key.0, key.1))
                    && kind == TroubleKind::Topic
                {
                    // librdkafka says it once and stops reading: the next look at the topics starts it again.
                    slot.is_suspended = true;
                }
                self.note(kind, code, reason);
            }
            (Meaning::Nothing | Meaning::End | Meaning::Fenced, _) => {}
            (Meaning::Truncated | Meaning::OutOfRange | Meaning::Corrupt, None) => {
                self.note(TroubleKind::Broker, code, reason);
            }
        }
        Ok(())
    }

    /// Our membership has another member id by now. After an outage that is ourselves: a commit that was under way is
    /// answered to a member who has joined anew since. So join anew; only if it goes on, another process has our name.
    fn fenced(&mut self, reason: &str) -> Result<(), SourceError> {
        self.fences.retain(|at| at.elapsed() < FENCES_WITHIN);
        self.fences.push(Instant::now());
        if self.fences.len() > FENCES_MAX {
            let instance = match &self.options.assignment {
                Assignment::Group { instance, .. } => instance.clone(),
                Assignment::Static => String::new(),
            };
            let source_name = self.options.name.clone();
            return Err(SourceError::Fenced { source_name, instance, reason: reason.to_owned() });
        }
        tracing::warn!(source = self.options.name, reason, "fenced; joining the group anew");
        self.lose_all();
        self.join_anew()
    }

    /// Another consumer in the place of this one; secrets and certificates are read from their files again.
    pub(super) fn join_anew(&mut self) -> Result<(), SourceError> {
        let (queue, consumer) = join(&self.options, &self.subscribed)?;
        // The old queue goes before the old consumer.
        self.queue = queue;
        self.consumer = consumer;
        self.buffer.unassigned();
        self.is_paused = false;
        Ok(())
    }

    pub(super) fn rewritten(&mut self, key: &Key, found: String) -> SourceError {
        SourceError::Rewritten {
            source_name: self.options.name.clone(),
            topic: key.0.clone(),
            partition: key.1,
            position: self.reading.slot(&key.0, key.1).map_or(0, |slot| slot.next),
            found,
        }
    }

    fn note(&mut self, kind: TroubleKind, code: Code, reason: &str) {
        tracing::debug!(source = self.options.name, ?code, reason, "librdkafka");
        let message = format!("source {}: {}: {reason}", self.options.name, self.options.brokers.join(","));
        self.troubled(Trouble { kind, message });
    }

    pub(super) fn troubled(&mut self, trouble: Trouble) {
        // A refused password also looks like brokers that are down; the reason is worth more than what follows from it.
        let is_consequence =
            self.trouble == Some(TroubleKind::Authentication) && trouble.kind == TroubleKind::Unreachable;
        if is_consequence {
            return;
        }
        if self.trouble.is_none() {
            self.check_at = Instant::now() + CHECK_IN_TROUBLE;
        }
        if self.trouble != Some(trouble.kind) {
            tracing::warn!(source = self.options.name, "{trouble}");
        }
        self.trouble = Some(trouble.kind);
        self.buffer.set_trouble(Some(trouble));
    }

    fn statistics(&mut self, json: &str) {
        let Ok(statistics) = serde_json::from_str::<Statistics>(json) else { return };
        for (name, topic) in statistics.topics {
            for partition in topic.partitions.into_values() {
                let Ok(number) = u32::try_from(partition.partition) else { continue };
                if let (Ok(low), Ok(end)) = (u64::try_from(partition.lo_offset), u64::try_from(partition.ls_offset)) {
                    self.buffer.observed(&(name.clone(), number), low, end);
                }
            }
        }
    }
}

/// A consumer and its queue; in a group, on the way to its membership.
fn join(options: &Options, topics: &BTreeSet<String>) -> Result<(Queue, BaseConsumer), SourceError> {
    let failed = |reason: String| SourceError::Client { source_name: options.name.clone(), reason };
    let consumer: BaseConsumer = options.client_config()?.create().map_err(|error| failed(error.to_string()))?;
    let queue = Queue::of_consumer(consumer.client().native_ptr());
    let queue = queue.ok_or_else(|| failed("the client has no consumer queue".to_owned()))?;
    if matches!(options.assignment, Assignment::Group { .. }) && !topics.is_empty() {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| failed(error.to_string()))?;
    }
    Ok((queue, consumer))
}

/// What the statistics say of each partition's ends; the rest of them is not read.
#[derive(serde::Deserialize)]
struct Statistics {
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(serde::Deserialize)]
struct TopicStatistics {
    partitions: BTreeMap<String, PartitionStatistics>,
}

#[derive(serde::Deserialize)]
struct PartitionStatistics {
    partition: i64,
    lo_offset: i64,
    ls_offset: i64,
}
