//! `topic adopt`: a broker's rewritten history taken as a topic of its own.
//!
//! When a topic turns out to be another one than was archived (its last record differs, it ends before our position, or
//! it is at another cluster), intake notes which and halts. Adopting is a person's decision: the topic gets a new number
//! (kind 2), whose offsets are accounted for from 0 again, and the old number ends where it stands. Nothing is guessed
//! about where the histories part: the new topic is read from `start`, and what both have is in the log twice. To find
//! the place every record would have to be compared from the first one on: a rewritten history shares a beginning, and
//! may agree again later. The MACs of ours lie in operator parts, which may be pruned or whose keys may have expired.

use serde::{Deserialize, Serialize};

use super::Sidecar;
use super::contested::GroupMark;
use super::error::SidecarError;
use super::writer::Writer;
use crate::core::leaf::{Topic, TopicSource, TopicWhy};
use crate::core::position::Partition;
use crate::ingest;

/// The prefix of rows of diverged topics; the old topic number follows.
const ROW_DIVERGED: &str = "diverged/";

/// A topic that is another one than was archived.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Diverged {
    topic_no: u64,
    why: u64,
    cluster: String,
    topic_id: String,
    partitions: u64,
    /// Where the histories part, if it was found in one partition.
    #[serde(default)]
    partition: Option<u32>,
}

/// A topic that was adopted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Adopted {
    /// Its name in the log.
    pub name: String,
    /// The number it now has.
    pub topic_no: u64,
    /// The number it had.
    pub replaces: u64,
    /// What had happened.
    pub why: &'static str,
}

impl Writer {
    /// Notes, durably, that the topic called `name` in the log was found to be another one; `found` is it where it says
    /// of itself that it is, `partition` where that was met. What came before in this step is committed with it: it was sound.
    ///
    /// # Errors
    /// Those of a commit.
    pub(super) fn note_divergence(
        &mut self,
        name: &str,
        found: Option<&ingest::Topic>,
        partition: Option<u32>,
    ) -> Result<(), SidecarError> {
        let Some((topic_no, row)) = self.topics().current_of_broker(name) else { return Ok(()) };
        let diverged = match found {
            Some(found) => Diverged {
                topic_no,
                why: TopicWhy::ClusterChanged.code(),
                cluster: found.cluster.clone(),
                topic_id: found.topic_id.clone(),
                partitions: u64::from(found.partitions),
                partition,
            },
            None => Diverged {
                topic_no,
                why: TopicWhy::Truncated.code(),
                cluster: row.cluster.clone(),
                topic_id: row.topic_id.clone(),
                partitions: row.partitions,
                partition,
            },
        };
        let value = serde_json::to_vec(&diverged).unwrap_or_default();
        self.put_row(&format!("{ROW_DIVERGED}{topic_no:08}"), Some(value));
        self.commit()
    }
}

impl Sidecar {
    /// Declares every diverged topic anew and ends the halt they caused. Gives what was adopted; nothing where no topic
    /// has diverged.
    ///
    /// # Errors
    /// `Halted` where another halt stands; those of journal and writer.
    pub fn adopt(&mut self) -> Result<Vec<Adopted>, SidecarError> {
        let rows = self.writer.journal.rows(ROW_DIVERGED)?;
        let is_ours = |code: &str| ["rewritten-history", "cluster-changed", "source"].contains(&code);
        match &self.writer.journal.state().halted {
            Some(halt) if rows.is_empty() || !is_ours(&halt.code) => self.refuse_if_halted()?,
            _ => {}
        }
        // First: a crash behind it meets the divergence again, and halts again.
        self.resume()?;
        self.catch_up()?;
        let mut adopted = Vec::new();
        for (name, value) in rows {
            adopted.extend(serde_json::from_slice(&value).ok().map(|row| self.adopt_one(&row)).transpose()?.flatten());
            self.writer.put_row(&name, None);
        }
        self.writer.commit()?;
        Ok(adopted)
    }

    /// `None` where the topic was replaced meanwhile.
    fn adopt_one(&mut self, diverged: &Diverged) -> Result<Option<Adopted>, SidecarError> {
        let topics = self.writer.topics();
        let topic_no = topics.next_no();
        let Some(row) = topics.get(diverged.topic_no).filter(|row| !row.is_replaced).cloned() else { return Ok(None) };
        let why = TopicWhy::from_code(diverged.why).unwrap_or(TopicWhy::Truncated);
        let topic = Topic {
            why,
            name: row.name.clone(),
            shared: row.shared,
            source: TopicSource::from_text(&row.source).unwrap_or(TopicSource::Kafka),
            cluster: diverged.cluster.clone(),
            replaces: Some(diverged.topic_no),
            topic_id: diverged.topic_id.clone(),
            topic_no,
            partitions: diverged.partitions,
        };
        self.writer.declare(topic)?;
        if let Some(partition) = diverged.partition {
            // The group's offset is of the history that is gone.
            let place = Partition { topic_no, partition: u64::from(partition) };
            self.writer.mark(place, GroupMark { confirmed: 0, is_alone: true });
        }
        tracing::info!(topic = row.name, topic_no, why = why.as_str(), "adopted");
        Ok(Some(Adopted { name: row.name, topic_no, replaces: diverged.topic_no, why: why.as_str() }))
    }
}
