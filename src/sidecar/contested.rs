//! What another member of the group may have folded too: asked, declared (kind 17), never hidden.
//!
//! Appending cannot be fenced, sealing can. Before a seal, and before a shared partition is handed over, the broker is
//! asked whether the partition is still ours, by a commit that it answers; what was folded since it last said so, and is
//! not, is declared. How far it has said so is kept beside the positions of shared topics: a member that was killed with
//! the question open declares what it left at its next start. A declaration may cover more than what is really in two
//! logs, never less; `verify --fleet` says what is.

use std::time::Duration;

use super::error::SidecarError;
use super::intake::Intake;
use super::known::lock;
use super::writer::{Writer, be64};
use crate::core::leaf::{Body, TopicSource};
use crate::core::position::Partition;
use crate::ingest::{Reached, Standing};

/// How long the broker may take to say whether the partitions are still ours.
const CONFIRM_WAIT: Duration = Duration::from_secs(5);

/// The prefix of the rows of shared partitions; topic number and partition follow.
pub(super) const ROW_PREFIX: &str = "group/";

/// What is kept of a shared partition beside its position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct GroupMark {
    /// Everything of ours below it is confirmed by the broker, or declared.
    pub(super) confirmed: u64,
    /// What the group has committed is not to be believed: it is of a journal that was lost, or of a history that was
    /// cut. The partition goes on from our own position, until the broker has that.
    pub(super) is_alone: bool,
}

impl GroupMark {
    pub(super) fn encode(self) -> Vec<u8> {
        [&self.confirmed.to_be_bytes()[..], &[u8::from(self.is_alone)]].concat()
    }

    fn decode(bytes: &[u8]) -> GroupMark {
        GroupMark { confirmed: be64(bytes), is_alone: bytes.get(8).is_some_and(|flag| *flag != 0) }
    }

    /// The name of its row.
    pub(super) fn row(partition: Partition) -> String {
        format!("{ROW_PREFIX}{:08}/{:08}", partition.topic_no, partition.partition)
    }

    /// The partition of a row, and what it says; `None` for a name that is none of these.
    pub(super) fn read((name, value): &(String, Vec<u8>)) -> Option<(Partition, GroupMark)> {
        let (topic_no, partition) = name.strip_prefix(ROW_PREFIX)?.split_once('/')?;
        let partition = Partition { topic_no: topic_no.parse().ok()?, partition: partition.parse().ok()? };
        Some((partition, GroupMark::decode(value)))
    }
}

impl Writer {
    /// Notes, with the next commit, how a shared partition stands in the group; nothing for one that is ours alone.
    pub(super) fn mark(&mut self, partition: Partition, mark: GroupMark) {
        if !self.topics().get(partition.topic_no).is_some_and(|topic| topic.shared) {
            return;
        }
        let known = self.known();
        let alone = &mut lock(&known).alone;
        if mark.is_alone {
            alone.insert(partition)
        } else {
            alone.remove(&partition)
        };
        self.put_row(&GroupMark::row(partition), Some(mark.encode()));
    }

    /// Notes that everything below `confirmed` needs no further word.
    fn settle(&mut self, partition: Partition, confirmed: u64) {
        self.mark(partition, GroupMark { confirmed, is_alone: false });
    }

    /// Declares that another member may have folded these offsets too.
    fn contest(&mut self, partition: Partition, first: u64, next: u64) -> Result<(), SidecarError> {
        let last = next.saturating_sub(1);
        tracing::warn!(%partition, first, last, "another member of the group may have recorded this too");
        self.push(Body::Overlap { last, first, origin: None, partition }, None, Vec::new())?;
        self.settle(partition, next);
        Ok(())
    }
}

impl Intake {
    /// Asks the broker, before a seal, whether the partitions are still ours. What was folded since it last said so,
    /// and is not, is declared.
    ///
    /// Where no broker answers in time the seal goes on, and the question stays open for the next one: an outage must
    /// not stop sealing, and the declaration may stand in a later segment.
    ///
    /// # Errors
    /// The source's own end; those of the writer.
    pub(super) fn confirm(&mut self, writer: &mut Writer) -> Result<(), SidecarError> {
        let open: Vec<(Partition, Reached, u64)> =
            self.pipe.unconfirmed.iter().map(|(place, (reached, first))| (*place, reached.clone(), *first)).collect();
        if open.is_empty() {
            return Ok(());
        }
        let reached: Vec<Reached> = open.iter().map(|(_, reached, _)| reached.clone()).collect();
        let standing = self.ask(&reached)?;
        if standing == Standing::Unknown {
            tracing::warn!(source = self.source().name(), "sealing without the broker's word");
            return Ok(());
        }
        for (place, reached, first) in open {
            // One that is not ours makes the answer for all of them; each may still be.
            let its = if standing == Standing::Held { standing } else { self.ask(std::slice::from_ref(&reached))? };
            match its {
                Standing::Held => writer.settle(place, reached.next),
                Standing::Contested | Standing::Unknown => writer.contest(place, first, reached.next)?,
            }
            self.pipe.unconfirmed.remove(&place);
            if writer.is_commit_due() {
                writer.commit()?;
            }
        }
        Ok(())
    }

    /// A partition is given up. In order, its next owner begins where we end, if the broker has that: so it is asked.
    /// One that was lost without a word may have another owner already.
    ///
    /// # Errors
    /// As `confirm`.
    pub(super) fn hand_over(
        &mut self,
        writer: &mut Writer,
        place: Partition,
        is_lost: bool,
    ) -> Result<(), SidecarError> {
        let Some((reached, first)) = self.pipe.unconfirmed.get(&place).cloned() else { return Ok(()) };
        let is_shared = writer.topics().get(place.topic_no).is_some_and(|topic| topic.shared);
        let standing = match (is_lost, is_shared) {
            (true, _) => Standing::Contested,
            // Nobody else is told to go on from there.
            (false, false) => Standing::Held,
            (false, true) => {
                // The broker is told only of what is durable.
                writer.commit()?;
                self.ask(std::slice::from_ref(&reached))?
            }
        };
        self.pipe.unconfirmed.remove(&place);
        match standing {
            Standing::Held => writer.settle(place, reached.next),
            Standing::Contested | Standing::Unknown => writer.contest(place, first, reached.next)?,
        }
        Ok(())
    }

    /// Offsets that come although the group has committed them: they may be in the log of whoever did.
    ///
    /// # Errors
    /// Those of the writer.
    pub(super) fn come_again(
        &mut self,
        writer: &mut Writer,
        place: Partition,
        first: u64,
        last: u64,
    ) -> Result<(), SidecarError> {
        writer.push(Body::Overlap { last, first, origin: None, partition: place }, None, Vec::new()).map(drop)
    }

    /// A gap begins or goes on at a place: what lies in it is nobody's question where nothing else is open.
    pub(super) fn passed(&mut self, writer: &mut Writer, place: Partition, next: u64) {
        if !self.pipe.unconfirmed.contains_key(&place) {
            let is_alone = lock(&writer.known()).alone.contains(&place);
            writer.mark(place, GroupMark { confirmed: next, is_alone });
        }
    }

    /// Declares what an earlier process folded and left without the broker's word, once, before anything else is folded.
    ///
    /// # Errors
    /// Those of journal and writer.
    pub(super) fn declare_left_open(&mut self, writer: &mut Writer) -> Result<(), SidecarError> {
        if self.has_declared_left_open {
            return Ok(());
        }
        let marks = writer.journal.rows(ROW_PREFIX)?;
        let marks: std::collections::BTreeMap<_, _> = marks.iter().filter_map(GroupMark::read).collect();
        let mut open = Vec::new();
        for (topic_no, topic) in writer.topics().rows() {
            if !topic.shared || topic.source != TopicSource::Kafka.as_str() || !self.is_of(&topic.name) {
                continue;
            }
            let known = writer.known();
            let known = lock(&known);
            let of_topic = Partition { topic_no, partition: 0 }..Partition { topic_no: topic_no + 1, partition: 0 };
            for (partition, row) in known.positions.range(of_topic) {
                let mark = marks.get(partition).copied().unwrap_or_default();
                if mark.confirmed < row.next_offset {
                    open.push((*partition, mark, row.next_offset));
                }
            }
        }
        for (partition, mark, next) in open {
            writer.contest(partition, mark.confirmed, next)?;
            writer.mark(partition, GroupMark { confirmed: next, ..mark });
            if writer.is_commit_due() {
                writer.commit()?;
            }
        }
        self.has_declared_left_open = true;
        Ok(())
    }

    fn ask(&mut self, reached: &[Reached]) -> Result<Standing, SidecarError> {
        // A source that has just said that its broker is away would only use up the time.
        let wait = if self.source().trouble().is_some() { Duration::ZERO } else { CONFIRM_WAIT };
        Ok(self.source().committed_before_seal(reached, wait)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_from_its_row() {
        let partition = Partition { topic_no: 3, partition: 12 };
        for mark in [GroupMark { confirmed: 7, is_alone: false }, GroupMark { confirmed: u64::MAX, is_alone: true }] {
            assert_eq!(GroupMark::read(&(GroupMark::row(partition), mark.encode())), Some((partition, mark)));
        }
        assert_eq!(GroupMark::read(&("topic/00000001".to_owned(), Vec::new())), None);
    }
}
