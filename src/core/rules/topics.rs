//! Which topics and partitions were declared (kind 2) before an entry names them.

use std::collections::BTreeMap;

use super::super::finding::Code;
use super::super::leaf::{Topic, TopicWhy};
use super::super::position::Partition;
use super::super::seq::Seq;
use super::Fault;

/// The declared topics of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Topics {
    /// The number of partitions of each topic.
    pub(super) partitions: BTreeMap<u64, u64>,
    /// The number the next new topic gets.
    pub(super) next: u64,
    /// Some declarations are not known: what was not declared may have been.
    is_lossy: bool,
}

impl Topics {
    pub(super) fn restored(partitions: BTreeMap<u64, u64>, next: u64) -> Topics {
        Topics { partitions, next, is_lossy: false }
    }

    /// Whether an entry may name `partition`.
    pub(super) fn check(&self, seq: Seq, partition: Partition) -> Option<Fault> {
        let declared = self.partitions.get(&partition.topic_no);
        if self.is_lossy || declared.is_some_and(|partitions| partition.partition < *partitions) {
            return None;
        }
        let expected = match declared {
            Some(partitions) => format!("a partition below {partitions}"),
            None => "a declared topic".to_owned(),
        };
        Some(Fault::at(seq, Code::NonCanonical, "topic and partition", expected, partition))
    }

    /// Takes a declaration.
    pub(super) fn declare(&mut self, seq: Seq, topic: &Topic) -> Option<Fault> {
        let fault = if topic.why == TopicWhy::MorePartitions { self.grow(topic) } else { self.add(topic) };
        let partitions = self.partitions.entry(topic.topic_no).or_default();
        *partitions = topic.partitions.max(*partitions);
        self.next = self.next.max(topic.topic_no.saturating_add(1));
        fault.map(|(expected, found)| Fault::at(seq, Code::NonCanonical, "topic-declared", expected, found))
    }

    fn grow(&self, topic: &Topic) -> Option<(String, String)> {
        match self.partitions.get(&topic.topic_no) {
            Some(old) if topic.partitions > *old => None,
            Some(old) => Some((format!("more than {old} partitions"), format!("{}", topic.partitions))),
            None if self.is_lossy => None,
            None => Some(("a declared topic".to_owned(), format!("topic {}", topic.topic_no))),
        }
    }

    fn add(&self, topic: &Topic) -> Option<(String, String)> {
        let is_next = topic.topic_no == self.next || (self.is_lossy && topic.topic_no > self.next);
        if !is_next {
            return Some((format!("topic {}", self.next), format!("topic {}", topic.topic_no)));
        }
        let replaced = topic.replaces.filter(|replaced| !self.is_lossy && !self.partitions.contains_key(replaced));
        replaced.map(|replaced| ("to replace a declared topic".to_owned(), format!("topic {replaced}")))
    }

    pub(super) fn lose(&mut self) {
        self.is_lossy = true;
    }

    pub(super) fn partitions_of(&self, topic_no: u64) -> Option<u64> {
        self.partitions.get(&topic_no).copied()
    }
}
