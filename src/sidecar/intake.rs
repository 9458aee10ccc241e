//! Intake: what a source says becomes entries and positions, committed before the source is told.
//!
//! A partition is compared with what the log holds of it before its first record is folded: another topic id is
//! another topic, another cluster or another last record is rewritten history and halts.

use std::sync::Arc;
use std::time::Duration;

use super::error::SidecarError;
use super::feeding::Feed;
use super::fold::{Folded, Way};
use super::known::{SharedKnown, lock};
use super::memo::Memo;
use super::pipe::{Item, Pipe};
use super::topics::TopicStanding;
use super::workers::Workers;
use super::writer::Writer;
use crate::core::decode::{Format, Limits};
use crate::core::identity::Rules as Identity;
use crate::core::leaf::{Body, End, GapRange, GapReason};
use crate::core::position::Partition;
use crate::core::time::Timestamp;
use crate::ingest::{Again, Arrival, Budget, Held, Positions, Reached, Source, SourceError, SourceKind, Topic};
use crate::journal::PositionRow;

/// How the records of a source's topics are to be folded, as the configuration says.
#[derive(Clone, Debug)]
pub struct TopicRule {
    /// Which topics: all, one, or those whose name matches.
    pub which: Which,
    /// The name in the log; the topic's own where empty.
    pub alias: String,
    /// How records are read.
    pub format: Format,
    /// The retention class.
    pub class: String,
}

/// Which topics a rule is about.
#[derive(Clone, Debug)]
pub enum Which {
    /// Every topic: a file is one.
    All,
    /// The one of this name.
    Named(String),
    /// Those whose name the expression finds.
    Matching(regex::Regex),
}

impl TopicRule {
    fn applies(&self, topic: &str) -> bool {
        match &self.which {
            Which::All => true,
            Which::Named(name) => name == topic,
            Which::Matching(pattern) => pattern.is_match(topic),
        }
    }

    /// Whether a topic called `name` in the log may be one of its.
    fn names(&self, name: &str) -> bool {
        if self.alias.is_empty() { self.applies(name) } else { self.alias == name }
    }

    fn name<'a>(&'a self, topic: &'a str) -> &'a str {
        if self.alias.is_empty() { topic } else { &self.alias }
    }
}

/// What intake has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Records that became entries.
    pub folded: Folded,
    /// Records of a file that the log already held.
    pub duplicates: u64,
    /// Ranges of offsets without an entry.
    pub gaps: u64,
}

/// A source with what the log needs to fold it.
pub(super) struct Intake {
    source: Box<dyn Source>,
    rules: Arc<[TopicRule]>,
    identity: Identity,
    limits: Limits,
    duplicates: u64,
    gaps: u64,
    pub(super) pipe: Pipe,
    /// Why the source gives nothing more: said when everything it gave is durable.
    ended: Option<SidecarError>,
    /// When the records that are being placed are recorded.
    recorded_at: Timestamp,
    /// Set where it is one that is fed.
    pub(super) feed: Option<Feed>,
    /// Why it ended: of one that is fed, for who feeds it.
    pub(super) failed: Option<SidecarError>,
    /// Nothing more is asked of the source.
    is_stopped: bool,
    /// What an earlier process left open in the group is declared.
    pub(super) has_declared_left_open: bool,
}

/// The log's positions, for a source that asks from its own thread.
pub struct PositionView {
    known: SharedKnown,
    rules: Arc<[TopicRule]>,
}

impl PositionView {
    pub(super) fn new(known: SharedKnown, rules: Arc<[TopicRule]>) -> PositionView {
        PositionView { known, rules }
    }
}

impl Positions for PositionView {
    fn held(&self, topic: &Topic, partition: u32) -> Option<Held> {
        let rule = self.rules.iter().find(|rule| rule.applies(&topic.name))?;
        let known = lock(&self.known);
        let topic_no = known.topics.number_of(topic, rule.name(&topic.name))?;
        let row = known.positions.get(&Partition { topic_no, partition: u64::from(partition) })?;
        let memo = Memo::decode(&row.memo);
        Some(Held { next: row.next_offset, last: memo.last, state: memo.state })
    }

    fn is_alone(&self, topic: &Topic, partition: u32) -> bool {
        let Some(rule) = self.rules.iter().find(|rule| rule.applies(&topic.name)) else { return false };
        let known = lock(&self.known);
        let topic_no = known.topics.number_of(topic, rule.name(&topic.name));
        topic_no.is_some_and(|no| known.alone.contains(&Partition { topic_no: no, partition: u64::from(partition) }))
    }
}

/// How a topic's records are folded; which class has which index the writer says.
fn way(rules: &[TopicRule], topic: &Topic, identity: Identity, limits: Limits) -> Way {
    // A source delivers only topics a rule is about; a file has one rule for whatever it is called.
    let rule = rules.iter().find(|rule| rule.applies(&topic.name)).or(rules.first());
    Way {
        source: String::new(),
        format: rule.map_or(Format::Auto, |rule| rule.format),
        class_name: rule.map_or_else(String::new, |rule| rule.class.clone()),
        class: 0,
        identity,
        limits,
    }
}

impl Intake {
    pub(super) fn new(source: Box<dyn Source>, rules: Arc<[TopicRule]>, identity: Identity, limits: Limits) -> Intake {
        Intake {
            source,
            rules,
            identity,
            limits,
            duplicates: 0,
            gaps: 0,
            pipe: Pipe::default(),
            ended: None,
            recorded_at: Timestamp(0),
            feed: None,
            failed: None,
            is_stopped: false,
            has_declared_left_open: false,
        }
    }

    /// The source itself: its name, ends, troubles, pause.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        &mut *self.source
    }

    /// What was done since it was made.
    pub(super) fn totals(&self) -> Totals {
        Totals { folded: self.pipe.folded, duplicates: self.duplicates, gaps: self.gaps }
    }

    /// Takes what has arrived one stretch further, and tells the source what has become durable. False where there was
    /// nothing to do.
    ///
    /// While records keep coming, some of them stay in the pipe, unless `is_alone` is false: two sources cannot both
    /// give out places. What is not a record is done, and durable, before more is asked for: a source gives a partition
    /// up when it is asked again.
    ///
    /// # Errors
    /// A halt for rewritten history and for whatever writer and keyring halt for; the source's own end. After a failure
    /// that is tried again, the next step goes on where this one stopped.
    pub(super) fn step(
        &mut self,
        writer: &mut Writer,
        workers: &Workers,
        budget: Budget,
        is_alone: bool,
        now: Timestamp,
    ) -> Result<bool, SidecarError> {
        self.declare_left_open(writer)?;
        let is_resting = self.pipe.is_settled() && writer.is_settled();
        let mut has_more = false;
        if !self.pipe.has_said() && self.ended.is_none() && !self.is_stopped {
            let wait = if is_resting { budget.wait } else { Duration::ZERO };
            match self.poll(writer, Budget { wait, ..budget }) {
                Ok(arrivals) => {
                    has_more = !arrivals.is_empty();
                    arrivals.into_iter().for_each(|arrival| self.pipe.put(arrival));
                }
                Err(error) => self.ended = Some(error),
            }
        }
        if self.pipe.has_said() || self.ended.is_some() {
            self.fold(writer, workers, 0, now)?;
            writer.commit()?;
        } else if has_more && is_alone {
            self.fold(writer, workers, workers.len() + 1, now)?;
        } else {
            self.fold(writer, workers, 0, now)?;
            writer.commit_behind()?;
        }
        self.tell(writer)?;
        match self.ended.take() {
            Some(error) => Err(error),
            None => Ok(has_more || !is_resting),
        }
    }

    /// Tells the source how far we are, as far as that is durable.
    fn tell(&mut self, writer: &Writer) -> Result<(), SidecarError> {
        let reached = self.pipe.take_durable(writer);
        if reached.is_empty() { Ok(()) } else { Ok(self.source.committed(&reached)?) }
    }

    /// Gives the writer what has its place already: nothing else may be written before.
    ///
    /// # Errors
    /// Those of the writer.
    pub(super) fn drain(&mut self, writer: &mut Writer) -> Result<(), SidecarError> {
        self.pipe.drain(writer)
    }

    /// Folds what waits, all but `left` chunks; with none left the writer has everything.
    fn fold(
        &mut self,
        writer: &mut Writer,
        workers: &Workers,
        left: usize,
        now: Timestamp,
    ) -> Result<(), SidecarError> {
        loop {
            let (rules, identity, limits) = (&self.rules, self.identity, self.limits);
            self.pipe.read_ahead(writer, workers, |topic| way(rules, topic, identity, limits));
            if left > 0 && self.pipe.len() <= left {
                return Ok(());
            }
            let (topic, partition) = match self.pipe.front() {
                None => return self.drain(writer),
                Some(Item::Chunk(chunk)) => (Arc::clone(&chunk.topic), chunk.partition),
                Some(Item::Said(_)) => {
                    self.drain(writer)?;
                    if let Some(arrival) = self.pipe.pop_said() {
                        writer.record_time(now)?;
                        self.take(writer, arrival)?;
                    }
                    continue;
                }
            };
            let mut way = way(&self.rules, &topic, self.identity, self.limits);
            self.source.name().clone_into(&mut way.source);
            let known = self.place_known(writer, &topic, partition).zip(writer.class_known(&way.class_name, now));
            let place = match known {
                Some((place, class)) => {
                    way.class = class;
                    place
                }
                None => {
                    self.drain(writer)?;
                    way.class = writer.class(&way.class_name, now)?;
                    self.place(writer, &topic, partition)?
                }
            };
            match writer.record_time_known(now) {
                Some(at) if !self.pipe.is_drained() => self.recorded_at = at,
                _ => {
                    self.drain(writer)?;
                    self.recorded_at = writer.record_time(now)?;
                    writer.begin_entries()?;
                }
            }
            if let Err(error) = self.pipe.place(writer, workers, &way, place, self.recorded_at) {
                self.drain(writer)?;
                return Err(error);
            }
            self.pipe.push(writer, workers.len() + 1)?;
        }
    }

    fn take(&mut self, writer: &mut Writer, arrival: Arrival) -> Result<(), SidecarError> {
        match arrival {
            Arrival::Assigned { topic, partition, held } => {
                self.declare(writer, &topic)?;
                tracing::info!(topic = topic.name, partition, next = held.as_ref().map(|held| held.next), "assigned");
                if topic.origin == SourceKind::File {
                    self.duplicates += held.map_or(0, |held| held.next);
                }
            }
            Arrival::Last { topic, partition, offset, again } => {
                let place = self.place(writer, &topic, partition)?;
                let found = match &again {
                    Again::Record(record) if writer.is_last_record(place, record).unwrap_or(true) => return Ok(()),
                    Again::Record(_) => "another one",
                    Again::Absent => "gone, though the topic is not compacted",
                    // A cut record has no MAC to compare; what retention or compaction took proves nothing.
                    Again::Cut(_) | Again::Expired | Again::Compacted => return Ok(()),
                };
                if topic.origin == SourceKind::File {
                    return Err(SourceError::PrefixChanged {
                        source_name: self.source.name().to_owned(),
                        records: offset + 1,
                        bytes: 0,
                        expected: format!("the record archived from offset {offset}"),
                        found: "another record".to_owned(),
                    }
                    .into());
                }
                writer.note_divergence(&self.name_of(&topic), None, Some(partition))?;
                let (topic, partition) = (topic.name.clone(), place.partition);
                return Err(SidecarError::Rewritten { topic, partition, offset, found });
            }
            Arrival::Gap { topic, partition, first, last, why } => {
                let place = self.place(writer, &topic, partition)?;
                let reason = GapReason::from_code(why.code()).unwrap_or(GapReason::Unattributed);
                self.gap(writer, GapRange { partition: place, first, last, reason })?;
                self.passed(writer, place, last + 1);
                let reached = Reached { topic: topic.name.clone(), partition, next: last + 1 };
                self.pipe.note_reached(writer, place, reached);
            }
            Arrival::Grown { topic } => drop(self.declare(writer, &topic)?),
            Arrival::Revoked { topic, partition, is_lost } => {
                tracing::info!(topic = topic.name, partition, is_lost, "revoked");
                let place = self.place(writer, &topic, partition)?;
                self.hand_over(writer, place, is_lost)?;
            }
            Arrival::Contested { topic, partition, first, last } => {
                let place = self.place(writer, &topic, partition)?;
                self.come_again(writer, place, first, last)?;
            }
            // The pipe has taken them apart.
            Arrival::Records { .. } => {}
        }
        Ok(())
    }

    /// One range an entry: the registry has one row for each.
    fn gap(&mut self, writer: &mut Writer, range: GapRange) -> Result<(), SidecarError> {
        tracing::warn!(partition = %range.partition, range.first, range.last, reason = range.reason.as_str(), "gap");
        writer.push(Body::Gap(vec![range]), None, Vec::new())?;
        self.gaps += 1;
        let row = writer.position(range.partition).unwrap_or_default();
        writer.set_position(range.partition, PositionRow { next_offset: range.last + 1, ..row });
        Ok(())
    }

    /// Makes sure that a topic is declared as it now is; gives its number.
    fn declare(&self, writer: &mut Writer, topic: &Topic) -> Result<u64, SidecarError> {
        let name = self.name_of(topic);
        match writer.topics().standing(topic, &name) {
            TopicStanding::Known(topic_no) => Ok(topic_no),
            TopicStanding::Declare(declared) => {
                tracing::info!(topic = name, topic_no = declared.topic_no, why = declared.why.as_str(), "declared");
                writer.declare(declared)
            }
            TopicStanding::OtherCluster { expected, found } => {
                writer.note_divergence(&name, Some(topic), None)?;
                Err(SidecarError::OtherCluster { topic: name, expected, found })
            }
        }
    }

    /// What the source has to say. One that met rewritten history is noted for `topic adopt`.
    fn poll(&mut self, writer: &mut Writer, budget: Budget) -> Result<Vec<Arrival>, SidecarError> {
        let polled = self.source.poll(budget);
        if let Err(SourceError::Rewritten { topic, partition, .. }) = &polled {
            let rule = self.rules.iter().find(|rule| rule.applies(topic));
            let name = rule.map_or(topic.as_str(), |rule| rule.name(topic)).to_owned();
            writer.note_divergence(&name, None, Some(*partition))?;
        }
        Ok(polled?)
    }

    /// The topic's name in the log.
    fn name_of(&self, topic: &Topic) -> String {
        self.rule(topic).map_or(topic.name.as_str(), |rule| rule.name(&topic.name)).to_owned()
    }

    /// Whether the topic called `name` in the log is this source's.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.names(name))
    }

    fn rule(&self, topic: &Topic) -> Option<&TopicRule> {
        self.rules.iter().find(|rule| rule.applies(&topic.name))
    }

    fn place(&self, writer: &mut Writer, topic: &Topic, partition: u32) -> Result<Partition, SidecarError> {
        Ok(Partition { topic_no: self.declare(writer, topic)?, partition: u64::from(partition) })
    }

    /// The same where the topic is declared as it is: then `place` adds no entry.
    fn place_known(&self, writer: &Writer, topic: &Topic, partition: u32) -> Option<Partition> {
        let name = self.rule(topic).map_or(topic.name.as_str(), |rule| rule.name(&topic.name));
        match writer.topics().standing(topic, name) {
            TopicStanding::Known(topic_no) => Some(Partition { topic_no, partition: u64::from(partition) }),
            _ => None,
        }
    }

    /// Asks nothing more of the source. What it gave is folded all the same: its places may be given out.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether it is stopped, and everything the source gave is durable.
    pub(super) fn is_gone(&self) -> bool {
        self.is_stopped && self.is_idle()
    }

    /// Whether it is read to its end, and all of it durable.
    pub(super) fn is_idle(&self) -> bool {
        (self.is_stopped || self.source.is_idle()) && self.pipe.is_settled()
    }

    /// What keeps the source from reading, if anything does: its name and the words.
    pub(super) fn trouble(&self) -> Option<(String, String)> {
        Some((format!("source {}", self.source.name()), self.source.trouble()?.to_string()))
    }

    /// How far behind each assigned partition is, with the source's name.
    pub(super) fn lags(&self, writer: &Writer) -> Vec<(Partition, (String, u64))> {
        let lag = |end: crate::ingest::End| {
            let rule = self.rule(&end.topic)?;
            let topic_no = writer.topics().number_of(&end.topic, rule.name(&end.topic.name))?;
            let partition = Partition { topic_no, partition: u64::from(end.partition) };
            Some((partition, (self.source.name().to_owned(), end.lag())))
        };
        self.source.ends().into_iter().filter_map(lag).collect()
    }

    /// What the broker holds of the assigned partitions, for kind 19; files hold what was read.
    pub(super) fn ends(&self, writer: &Writer) -> Vec<End> {
        let end = |end: crate::ingest::End| {
            let rule = self.rule(&end.topic)?;
            let topic_no = writer.topics().number_of(&end.topic, rule.name(&end.topic.name))?;
            let partition = Partition { topic_no, partition: u64::from(end.partition) };
            Some(End { partition, low: end.low, end: end.end })
        };
        let is_broker = |end: &crate::ingest::End| end.topic.origin == SourceKind::Kafka;
        self.source.ends().into_iter().filter(is_broker).filter_map(end).collect()
    }
}
