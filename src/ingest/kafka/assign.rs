//! What must be known before a partition is read: the facts of its topic, our position, the broker's ends.
//!
//! Every look-up asks the broker and may fail; then nothing is assigned and it is asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::super::{Held, Positions, SourceKind, Topic, Trouble, TroubleKind};
use super::begin::{Begin, Situation, begin};
use super::buffer::Key;
use super::native;
use super::options::{Options, Start, TopicFilter};
use super::trouble::{Meaning, meaning};

/// One question to the broker. Longer than a broker's election of a leader, shorter than a person's patience.
pub(super) const ASK: Duration = Duration::from_secs(5);

/// Topics by name.
pub(super) type Topics = BTreeMap<String, Arc<Topic>>;

/// A partition ready to be read.
pub(super) struct Prepared {
    pub(super) topic: Arc<Topic>,
    pub(super) partition: u32,
    pub(super) held: Option<Held>,
    pub(super) begin: Begin,
    pub(super) low: u64,
    pub(super) end: u64,
    /// What is read although the group has committed it.
    pub(super) contested: Option<(u64, u64)>,
}

/// Why a partition cannot be read.
pub(super) enum Refusal {
    /// Ask again later.
    Later(Trouble),
    /// The broker ends at `end`, before our position, or before what the group has committed.
    Rewritten { key: Key, position: u64, end: u64 },
}

/// The look-ups, over one consumer.
pub(super) struct Lookup<'a> {
    pub(super) consumer: &'a BaseConsumer,
    pub(super) options: &'a Options,
}

impl Lookup<'_> {
    /// The topics of these names as they are now; what is missing or hidden from us is left out.
    pub(super) fn topics(&self, names: &[&str]) -> Result<Topics, Trouble> {
        let mut found = BTreeMap::new();
        if names.is_empty() {
            return Ok(found);
        }
        let client = self.consumer.client();
        let described = native::describe_topics(client.native_ptr(), names, ASK)
            .map_err(|(code, reason)| self.trouble(code, "describing topics", &reason))?;
        let cluster = client
            .fetch_cluster_id(ASK)
            .ok_or_else(|| self.trouble(Code::BrokerTransportFailure, "asking for the cluster's id", "no answer"))?;
        for one in described {
            // Missing, or not ours to see: the others are read all the same.
            if one.error.is_some() {
                continue;
            }
            let topic = Topic {
                name: one.name.clone(),
                origin: SourceKind::Kafka,
                cluster: cluster.clone(),
                topic_id: one.topic_id,
                partitions: one.partitions,
                shared: self.options.is_shared,
            };
            found.insert(one.name, Arc::new(topic));
        }
        Ok(found)
    }

    /// The configured names that do not exist.
    pub(super) fn missing(&self, found: &Topics) -> Option<Trouble> {
        let names: Vec<String> =
            self.options.names().filter(|name| !found.contains_key(*name)).map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| Trouble {
            kind: TroubleKind::Topic,
            message: format!(
                "source {}: no topic {} at {}, or no right to see it",
                self.options.name,
                names.join(", "),
                self.brokers()
            ),
        })
    }

    /// Every topic that is configured, by name or by pattern.
    pub(super) fn configured(&self) -> Result<Topics, Trouble> {
        let mut names: Vec<String> = self.options.names().map(str::to_owned).collect();
        if self.options.topics.iter().any(|filter| matches!(filter, TopicFilter::Pattern(_))) {
            let metadata = self.consumer.fetch_metadata(None, ASK);
            let metadata = metadata.map_err(|error| self.failed("listing topics", &error))?;
            let is_meant = |name: &str| self.options.topics.iter().any(|filter| filter.is_match(name));
            names.extend(metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| is_meant(name)));
        }
        names.sort();
        names.dedup();
        self.topics(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Everything needed to read these partitions; those whose topic is missing are left out.
    pub(super) fn prepare(&self, keys: &[Key], positions: &dyn Positions) -> Result<Vec<Prepared>, Refusal> {
        let mut names: Vec<&str> = keys.iter().map(|(topic, _)| topic.as_str()).collect();
        names.dedup();
        let topics = self.topics(&names).map_err(Refusal::Later)?;
        let committed = self.committed(keys).map_err(Refusal::Later)?;
        let mut prepared = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(topic) = topics.get(&key.0) else { continue };
            let held = positions.held(topic, key.1);
            let committed = committed.get(key).copied();
            let is_alone = positions.is_alone(topic, key.1);
            let mut one = self.begin_at(topic, key, held, committed.filter(|_| !is_alone))?;
            let last = committed.filter(|_| is_alone).map(|next| next.min(one.end).saturating_sub(1));
            one.contested = last.filter(|last| *last >= one.begin.next).map(|last| (one.begin.next, last));
            prepared.push(one);
        }
        Ok(prepared)
    }

    /// Where to begin in one partition.
    pub(super) fn begin_at(
        &self,
        topic: &Arc<Topic>,
        key: &Key,
        held: Option<Held>,
        committed: Option<u64>,
    ) -> Result<Prepared, Refusal> {
        let (low, end) = self.ends(key).map_err(Refusal::Later)?;
        let start = match (&held, self.options.start) {
            (Some(_), _) | (None, Start::Earliest) => low,
            (None, Start::Latest) => end,
            (None, Start::At(at_ms)) => self.offset_at(key, at_ms, end).map_err(Refusal::Later)?,
        };
        let position = held.as_ref().map_or(0, |held| held.next).max(committed.unwrap_or(0));
        let begin = begin(&Situation { held: held.clone(), low, end, committed, start })
            .map_err(|end| Refusal::Rewritten { key: key.clone(), position, end })?;
        Ok(Prepared { topic: Arc::clone(topic), partition: key.1, held, begin, low, end, contested: None })
    }

    /// Low watermark and last stable offset.
    fn ends(&self, key: &Key) -> Result<(u64, u64), Trouble> {
        let ends = self.consumer.fetch_watermarks(&key.0, partition(key), ASK);
        let (low, end) =
            ends.map_err(|error| self.failed(&format!("asking for the ends of {}/{}", key.0, key.1), &error))?;
        Ok((u64::try_from(low).unwrap_or(0), u64::try_from(end).unwrap_or(0)))
    }

    /// The first offset at a time or later; the end if there is none.
    fn offset_at(&self, key: &Key, at_ms: i64, end: u64) -> Result<u64, Trouble> {
        let mut list = TopicPartitionList::new();
        let asked = list.add_partition_offset(&key.0, partition(key), Offset::Offset(at_ms));
        let answer = asked.and_then(|()| self.consumer.offsets_for_times(list, ASK));
        let answer = answer.map_err(|error| self.failed("asking for an offset by time", &error))?;
        let offset = answer.elements().first().map(|one| one.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => u64::try_from(offset).unwrap_or(end),
            _ => end,
        })
    }

    /// The offsets the group committed, asked only where other logs read through it too.
    fn committed(&self, keys: &[Key]) -> Result<BTreeMap<Key, u64>, Trouble> {
        let mut found = BTreeMap::new();
        if !self.options.is_shared {
            return Ok(found);
        }
        let mut list = TopicPartitionList::new();
        for key in keys {
            list.add_partition(&key.0, partition(key));
        }
        let answer = self.consumer.committed_offsets(list, ASK);
        let answer = answer.map_err(|error| self.failed("asking for the group's offsets", &error))?;
        for one in answer.elements() {
            if let (Offset::Offset(offset), Ok(number)) = (one.offset(), u32::try_from(one.partition())) {
                found.insert((one.topic().to_owned(), number), u64::try_from(offset).unwrap_or(0));
            }
        }
        Ok(found)
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Trouble {
        self.trouble(error.rdkafka_error_code().unwrap_or(Code::Fail), what, &error.to_string())
    }

    /// What was tried, and the broker's words.
    pub(super) fn trouble(&self, code: Code, what: &str, reason: &str) -> Trouble {
        let kind = match meaning(code, reason) {
            Meaning::Trouble(kind) => kind,
            Meaning::TopicGone => TroubleKind::Topic,
            _ => TroubleKind::Broker,
        };
        let message = format!("source {}: {what} at {}: {reason}", self.options.name, self.brokers());
        Trouble { kind, message }
    }

    fn brokers(&self) -> String {
        self.options.brokers.join(",")
    }
}

/// The partition number as librdkafka wants it; ours come from there, so that they fit.
pub(super) fn partition(key: &Key) -> i32 {
    i32::try_from(key.1).unwrap_or(i32::MAX)
}
