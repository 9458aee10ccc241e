//! Which topic number stands for which topic of which broker.
//!
//! A topic number is never reused: a topic that was deleted and made again, or is at another cluster, gets a new one,
//! because its offsets start again (format.md, Completeness). The rows live in the journal, beside the leaves of kind 2
//! that they repeat, because those leaves may be pruned.

use serde::{Deserialize, Serialize};

use crate::core::leaf::{Topic, TopicSource, TopicWhy};
use crate::ingest;

/// The prefix of the journal's rows of topics; a number of eight digits follows.
pub(super) const ROW_PREFIX: &str = "topic/";

/// A declared topic, as its last kind 2 entry says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicRow {
    /// The name in the log: the topic's own, or its alias.
    pub name: String,
    /// `kafka`, `file` or `intake`.
    pub source: String,
    /// The broker's cluster id.
    pub cluster: String,
    /// The broker's id of the topic.
    pub topic_id: String,
    /// How many partitions are declared.
    pub partitions: u64,
    /// Whether other logs fold it too.
    pub shared: bool,
    /// Whether a later topic number replaces it.
    pub is_replaced: bool,
}

/// All declared topics; the index is the topic number.
#[derive(Clone, Debug, Default)]
pub struct Topics(Vec<TopicRow>);

/// What a source's topic is to this log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TopicStanding {
    /// Declared under this number.
    Known(u64),
    /// To be declared first.
    Declare(Topic),
    /// The same name at another cluster: a person decides whether that was meant.
    OtherCluster {
        /// The cluster declared.
        expected: String,
        /// The cluster found.
        found: String,
    },
}

fn source_of(kind: ingest::SourceKind) -> TopicSource {
    match kind {
        ingest::SourceKind::Kafka => TopicSource::Kafka,
        ingest::SourceKind::File => TopicSource::File,
    }
}

impl Topics {
    /// The topics of the journal's rows, in the order of their numbers.
    pub(super) fn new(rows: Vec<TopicRow>) -> Topics {
        Topics(rows)
    }

    /// Every topic with its number.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &TopicRow)> {
        (0..).zip(&self.0)
    }

    /// The topic with this number.
    pub fn get(&self, topic_no: u64) -> Option<&TopicRow> {
        self.0.get(usize::try_from(topic_no).ok()?)
    }

    /// The number under which exactly this topic is declared, if it is: same name, cluster and id.
    pub(super) fn number_of(&self, topic: &ingest::Topic, name: &str) -> Option<u64> {
        let (no, row) = self.current(topic, name)?;
        (row.cluster == topic.cluster && row.topic_id == topic.topic_id).then_some(no)
    }

    fn current(&self, topic: &ingest::Topic, name: &str) -> Option<(u64, &TopicRow)> {
        let source = source_of(topic.origin).as_str();
        self.rows().find(|(_, row)| row.name == name && row.source == source && !row.is_replaced)
    }

    /// The broker's topic called `name` in the log, as it was last declared.
    pub(super) fn current_of_broker(&self, name: &str) -> Option<(u64, &TopicRow)> {
        let source = TopicSource::Kafka.as_str();
        self.rows().find(|(_, row)| row.name == name && row.source == source && !row.is_replaced)
    }

    /// The number the next new topic gets.
    pub(super) fn next_no(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    /// What `topic`, called `name` in the log, is to it.
    pub(super) fn standing(&self, topic: &ingest::Topic, name: &str) -> TopicStanding {
        let declare = |why, replaces, topic_no| {
            TopicStanding::Declare(Topic {
                why,
                name: name.to_owned(),
                shared: topic.shared,
                source: source_of(topic.origin),
                cluster: topic.cluster.clone(),
                replaces,
                topic_id: topic.topic_id.clone(),
                topic_no,
                partitions: u64::from(topic.partitions),
            })
        };
        let next_no = self.next_no();
        match self.current(topic, name) {
            None => declare(TopicWhy::New, None, next_no),
            Some((_, row)) if row.cluster != topic.cluster => {
                TopicStanding::OtherCluster { expected: row.cluster.clone(), found: topic.cluster.clone() }
            }
            Some((no, row)) if row.topic_id != topic.topic_id => declare(TopicWhy::Recreated, Some(no), next_no),
            Some((no, row)) if row.partitions < u64::from(topic.partitions) => {
                declare(TopicWhy::MorePartitions, Some(no), no)
            }
            Some((no, _)) => TopicStanding::Known(no),
        }
    }

    /// Takes a declaration; gives the numbers whose rows changed.
    pub(super) fn declare(&mut self, topic: &Topic) -> Vec<u64> {
        let row = TopicRow {
            name: topic.name.clone(),
            source: topic.source.as_str().to_owned(),
            cluster: topic.cluster.clone(),
            topic_id: topic.topic_id.clone(),
            partitions: topic.partitions,
            shared: topic.shared,
            is_replaced: false,
        };
        let mut changed = vec![topic.topic_no];
        let index = |no: u64| usize::try_from(no).unwrap_or(usize::MAX);
        match (topic.why, topic.replaces) {
            (TopicWhy::MorePartitions, _) => {
                if let Some(known) = self.0.get_mut(index(topic.topic_no)) {
                    *known = row;
                }
            }
            (_, replaced) => {
                if let Some((no, known)) = replaced.and_then(|no| Some((no, self.0.get_mut(index(no))?))) {
                    known.is_replaced = true;
                    changed.push(no);
                }
                self.0.push(row);
            }
        }
        changed
    }

    /// The journal's row of a topic number.
    pub(super) fn journal_row(&self, topic_no: u64) -> (String, Option<Vec<u8>>) {
        let value = self.get(topic_no).and_then(|row| serde_json::to_vec(row).ok());
        (format!("{ROW_PREFIX}{topic_no:08}"), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(cluster: &str, id: &str, partitions: u32) -> ingest::Topic {
        ingest::Topic {
            name: "consent".into(),
            origin: ingest::SourceKind::Kafka,
            cluster: cluster.into(),
            topic_id: id.into(),
            partitions,
            shared: false,
        }
    }

    fn declared(topics: &mut Topics, topic: &ingest::Topic) -> (TopicWhy, u64) {
        match topics.standing(topic, "consent") {
            TopicStanding::Declare(topic) => {
                topics.declare(&topic);
                (topic.why, topic.topic_no)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_topic_is_declared_once_grows_and_is_made_again_under_a_new_number() {
        let mut topics = Topics::default();
        assert_eq!(declared(&mut topics, &topic("c", "t1", 3)), (TopicWhy::New, 0));
        assert_eq!(topics.standing(&topic("c", "t1", 3), "consent"), TopicStanding::Known(0));
        assert_eq!(declared(&mut topics, &topic("c", "t1", 6)), (TopicWhy::MorePartitions, 0));
        assert_eq!(declared(&mut topics, &topic("c", "t2", 6)), (TopicWhy::Recreated, 1));
        assert_eq!(topics.standing(&topic("c", "t2", 6), "consent"), TopicStanding::Known(1));
        assert_eq!(topics.number_of(&topic("c", "t1", 6), "consent"), None);
        // The broker shows fewer partitions for a moment after a restart: nothing is declared.
        assert_eq!(topics.standing(&topic("c", "t2", 2), "consent"), TopicStanding::Known(1));
    }

    #[test]
    fn another_cluster_is_for_a_person_to_decide() {
        let mut topics = Topics::default();
        declared(&mut topics, &topic("c", "t1", 3));
        assert!(matches!(topics.standing(&topic("d", "t1", 3), "consent"), TopicStanding::OtherCluster { .. }));
    }
}
