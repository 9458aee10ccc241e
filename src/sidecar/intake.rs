//! Intake: what a source says becomes entries and positions, committed before the source is told.
//!
//! A partition is compared with what the log holds of it before its first record is folded: another topic id is
//! another topic, another cluster or another last record is rewritten history and halts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::SidecarError;
use super::fold::{self, Folded, Way};
use super::known::{SharedKnown, lock};
use super::memo::Memo;
use super::topics::Standing;
use super::writer::Writer;
use crate::core::decode::{Format, Limits};
use crate::core::identity::Rules as Identity;
use crate::core::leaf::{Body, End, GapRange, GapReason};
use crate::core::part::Zstd;
use crate::core::position::Partition;
use crate::core::time::Timestamp;
use crate::ingest::{Again, Arrival, Budget, Held, Positions, Reached, Source, SourceKind, Topic};
use crate::journal::PositionRow;

/// Records folded at once: what several threads share, and a part of one commit.
const CHUNK_RECORDS: usize = 2_000;

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
    totals: Totals,
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
}

impl Intake {
    pub(super) fn new(source: Box<dyn Source>, rules: Arc<[TopicRule]>, identity: Identity, limits: Limits) -> Intake {
        Intake { source, rules, identity, limits, totals: Totals::default() }
    }

    /// The source itself: its name, ends, troubles, pause.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        &mut *self.source
    }

    /// What was done since it was made.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes what has arrived, commits it, and tells the source. Gives how many arrivals there were.
    ///
    /// # Errors
    /// A halt for rewritten history and for whatever writer and keyring halt for; the source's own end.
    pub(super) fn step(
        &mut self,
        writer: &mut Writer,
        zstds: &mut [Zstd],
        budget: Budget,
        now: Timestamp,
    ) -> Result<usize, SidecarError> {
        let arrivals = self.source.poll(budget)?;
        let count = arrivals.len();
        let mut reached = BTreeMap::new();
        for arrival in arrivals {
            self.take(writer, zstds, arrival, &mut reached, now)?;
            if writer.is_commit_due() {
                writer.commit()?;
            }
        }
        if count > 0 {
            writer.commit()?;
            let reached: Vec<Reached> = reached.into_values().collect();
            self.source.committed(&reached)?;
        }
        Ok(count)
    }

    fn take(
        &mut self,
        writer: &mut Writer,
        zstds: &mut [Zstd],
        arrival: Arrival,
        reached: &mut BTreeMap<Partition, Reached>,
        now: Timestamp,
    ) -> Result<(), SidecarError> {
        match arrival {
            Arrival::Assigned { topic, partition, held } => {
                self.declare(writer, &topic)?;
                tracing::info!(topic = topic.name, partition, next = held.as_ref().map(|held| held.next), "assigned");
                if topic.origin == SourceKind::File {
                    self.totals.duplicates += held.map_or(0, |held| held.next);
                }
            }
            Arrival::Last { topic, partition, offset, again } => {
                let place = self.place(writer, &topic, partition)?;
                let is_other = match &again {
                    Again::Record(record) => !writer.is_last_record(place, record).unwrap_or(true),
                    // A cut record has no MAC to compare; what retention or compaction took proves nothing.
                    Again::Cut(_) | Again::Expired | Again::Absent => false,
                };
                if is_other {
                    let (topic, partition) = (topic.name.clone(), place.partition);
                    return Err(SidecarError::Rewritten { topic, partition, offset });
                }
            }
            Arrival::Records { topic, partition, records, state } => {
                let place = self.place(writer, &topic, partition)?;
                let way = self.way(writer, &topic, now)?;
                for chunk in records.chunks(CHUNK_RECORDS) {
                    let folded = fold::fold(writer, zstds, &way, place, chunk, &state, now)?;
                    self.totals.folded.add(folded);
                    if writer.is_commit_due() {
                        writer.commit()?;
                    }
                }
                if let Some(last) = records.last() {
                    let next = last.offset + 1;
                    reached.insert(place, Reached { topic: topic.name.clone(), partition, next });
                }
            }
            Arrival::Gap { topic, partition, first, last, why } => {
                let place = self.place(writer, &topic, partition)?;
                let reason = GapReason::from_code(why.code()).unwrap_or(GapReason::Unattributed);
                self.gap(writer, GapRange { partition: place, first, last, reason })?;
                reached.insert(place, Reached { topic: topic.name.clone(), partition, next: last + 1 });
            }
            Arrival::Grown { topic } => drop(self.declare(writer, &topic)?),
            Arrival::Revoked { topic, partition, is_lost } => {
                tracing::info!(topic = topic.name, partition, is_lost, "revoked");
            }
        }
        Ok(())
    }

    /// One range an entry: the registry has one row for each.
    fn gap(&mut self, writer: &mut Writer, range: GapRange) -> Result<(), SidecarError> {
        tracing::warn!(partition = %range.partition, range.first, range.last, reason = range.reason.as_str(), "gap");
        writer.push(Body::Gap(vec![range]), None, Vec::new())?;
        self.totals.gaps += 1;
        let row = writer.position(range.partition).unwrap_or_default();
        writer.set_position(range.partition, PositionRow { next_offset: range.last + 1, ..row });
        Ok(())
    }

    /// Makes sure that a topic is declared as it now is; gives its number.
    fn declare(&self, writer: &mut Writer, topic: &Topic) -> Result<u64, SidecarError> {
        let name = self.rule(topic).map_or(topic.name.as_str(), |rule| rule.name(&topic.name)).to_owned();
        match writer.topics().standing(topic, &name) {
            Standing::Known(topic_no) => Ok(topic_no),
            Standing::Declare(declared) => {
                tracing::info!(topic = name, topic_no = declared.topic_no, why = declared.why.as_str(), "declared");
                writer.declare(declared)
            }
            Standing::OtherCluster { expected, found } => {
                Err(SidecarError::OtherCluster { topic: name, expected, found })
            }
        }
    }

    fn rule(&self, topic: &Topic) -> Option<&TopicRule> {
        self.rules.iter().find(|rule| rule.applies(&topic.name))
    }

    fn place(&self, writer: &mut Writer, topic: &Topic, partition: u32) -> Result<Partition, SidecarError> {
        Ok(Partition { topic_no: self.declare(writer, topic)?, partition: u64::from(partition) })
    }

    fn way(&self, writer: &mut Writer, topic: &Topic, now: Timestamp) -> Result<Way, SidecarError> {
        // A source delivers only topics a rule is about; a file has one rule for whatever it is called.
        let class = self.rule(topic).or(self.rules.first()).map_or_else(String::new, |rule| rule.class.clone());
        Ok(Way {
            source: self.source.name().to_owned(),
            format: self.rule(topic).map_or(Format::Auto, |rule| rule.format),
            class: writer.class(&class, now)?,
            identity: self.identity,
            limits: self.limits,
        })
    }

    /// Whether it is read to its end.
    pub(super) fn is_idle(&self) -> bool {
        self.source.is_idle()
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
