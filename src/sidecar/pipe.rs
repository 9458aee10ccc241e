//! The pipe: what has arrived, on its way through the steps of the fold to the writer.
//!
//! Workers decode chunks ahead of the loop and seal them behind it; the loop knows people and chains entries, while the
//! committer makes the entries before them durable. Places are given before the writer takes the entries, so nothing
//! else may be written while chunks are between the two: `drain` first; a chunk whose place was taken stops the process.
//! What is in here stays over many steps, so that no thread waits for another. Whatever fails for a time stays too, in
//! order, and goes on from there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::error::SidecarError;
use super::fold::{self, Batch, Folded, Read, Way, Whole};
use super::memo::Memo;
use super::workers::{Pending, Workers};
use super::writer::{Writer, own};
use crate::core::position::Partition;
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::ingest::{Arrival, Arrived, Reached, Topic};
use crate::journal::PositionRow;

/// Records that go through the steps together; a Kafka source delivers no more at once.
const CHUNK_RECORDS: usize = 1_024;

/// What waits, in the order it arrived.
pub(super) enum Item {
    /// Records of one partition.
    Chunk(Chunk),
    /// Anything else.
    Said(Arrival),
}

/// Records of one partition.
pub(super) struct Chunk {
    pub(super) topic: Arc<Topic>,
    pub(super) partition: u32,
    records: Arc<Vec<Arrived>>,
    state: Arc<Vec<u8>>,
    reading: Option<Reading>,
}

/// Records being decoded, or decoded, under the class 0 key of an epoch.
enum Reading {
    Begun { epoch: u64, reads: Pending<Vec<Read>> },
    Done { epoch: u64, reads: Vec<Read> },
}

/// Entries that have their places and wait for the writer.
struct Placed {
    partition: Partition,
    reached: Reached,
    first: u64,
    /// The place of the next entry to be pushed.
    seq: Seq,
    state: Arc<Vec<u8>>,
    epoch: u64,
    count: u64,
    wholes: Wholes,
}

enum Wholes {
    Sealing(Pending<Vec<Whole>>),
    Sealed(std::vec::IntoIter<Whole>),
}

/// What arrived and is not yet the writer's.
#[derive(Default)]
pub(super) struct Pipe {
    waiting: VecDeque<Item>,
    placed: VecDeque<Placed>,
    /// How far the writer has come, by the number of the commit that makes it durable: then the source is told.
    reached: VecDeque<(u64, BTreeMap<Partition, Reached>)>,
    /// Offsets folded since the broker last confirmed that their partition is ours: the first and the next.
    pub(super) unconfirmed: BTreeMap<Partition, (Reached, u64)>,
    /// What the writer was given.
    pub(super) folded: Folded,
}

impl Pipe {
    /// Takes what a source delivered.
    pub(super) fn put(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Records { topic, partition, mut records, state } => {
                let state = Arc::new(state);
                while !records.is_empty() {
                    let rest = records.split_off(records.len().min(CHUNK_RECORDS));
                    let records = Arc::new(std::mem::replace(&mut records, rest));
                    let (topic, state) = (Arc::clone(&topic), Arc::clone(&state));
                    self.waiting.push_back(Item::Chunk(Chunk { topic, partition, records, state, reading: None }));
                }
            }
            other => self.waiting.push_back(Item::Said(other)),
        }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether something else than records waits.
    pub(super) fn has_said(&self) -> bool {
        self.waiting.iter().any(|item| matches!(item, Item::Said(_)))
    }

    /// Notes how far the writer has come with a partition.
    pub(super) fn note_reached(&mut self, writer: &Writer, partition: Partition, reached: Reached) {
        let commit = writer.commit_to_come();
        match self.reached.back_mut() {
            Some((of, map)) if *of == commit => drop(map.insert(partition, reached)),
            _ => self.reached.push_back((commit, BTreeMap::from([(partition, reached)]))),
        }
    }

    /// How far we are, durably, as far as the source was not yet told.
    pub(super) fn take_durable(&mut self, writer: &Writer) -> Vec<Reached> {
        let mut durable = BTreeMap::new();
        while self.reached.front().is_some_and(|(commit, _)| *commit <= writer.commits_durable()) {
            durable.extend(self.reached.pop_front().into_iter().flat_map(|(_, map)| map));
        }
        durable.into_values().collect()
    }

    /// Whether the writer has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.placed.is_empty()
    }

    /// Whether the writer has everything, and the source knows that it is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.is_empty() && self.reached.is_empty()
    }

    /// Whether nothing is between places and writer.
    pub(super) fn is_drained(&self) -> bool {
        self.placed.is_empty()
    }

    /// The next item.
    pub(super) fn front(&self) -> Option<&Item> {
        self.waiting.front()
    }

    /// Takes the next item, if it is not records.
    pub(super) fn pop_said(&mut self) -> Option<Arrival> {
        match self.waiting.pop_front() {
            Some(Item::Said(arrival)) => Some(arrival),
            Some(chunk) => {
                self.waiting.push_front(chunk);
                None
            }
            None => None,
        }
    }

    /// Has the workers decode the next chunks; `way` says how those of a topic are read.
    pub(super) fn read_ahead(&mut self, writer: &Writer, workers: &Workers, way: impl Fn(&Topic) -> Way) {
        for item in self.waiting.iter_mut().take(workers.len() + 1) {
            let Item::Chunk(chunk) = item else { continue };
            if chunk.reading.is_none() {
                let (epoch, mac_key) = (writer.epoch().number, writer.epoch().record_mac.clone());
                let (way, records) = (way(&chunk.topic), Arc::clone(&chunk.records));
                let reads = workers.run(move |_| fold::read_all(&mac_key, &way, &records));
                chunk.reading = Some(Reading::Begun { epoch, reads });
            }
        }
    }

    /// Gives the entries of the next chunk their places, and has the workers seal them.
    ///
    /// # Errors
    /// Those of the keyring; the chunk stays.
    pub(super) fn place(
        &mut self,
        writer: &mut Writer,
        workers: &Workers,
        way: &Way,
        partition: Partition,
        recorded_at: Timestamp,
    ) -> Result<(), SidecarError> {
        let ahead: u64 = self.placed.iter().map(|placed| placed.count).sum();
        let first = Seq(writer.size().0 + ahead);
        let Some(Item::Chunk(chunk)) = self.waiting.front_mut() else { return Ok(()) };
        let batch = Batch::new(writer, way, partition, first, recorded_at)?;
        let epoch = writer.epoch().number;
        let reads = match chunk.reading.take() {
            Some(Reading::Done { epoch: read_in, reads }) if read_in == epoch => reads,
            Some(Reading::Begun { epoch: read_in, reads }) if read_in == epoch => reads.take(),
            // An epoch began meanwhile, and with it another key for the MACs.
            _ => fold::read_all(&writer.epoch().record_mac, way, &chunk.records),
        };
        let drafts = match fold::draft_all(writer, way, first, &reads) {
            Ok(drafts) => drafts,
            Err(error) => {
                chunk.reading = Some(Reading::Done { epoch, reads });
                return Err(error);
            }
        };
        let (Some(head), Some(last)) = (chunk.records.first(), chunk.records.last()) else { return Ok(()) };
        let topic = chunk.topic.name.clone();
        let reached = Reached { topic, partition: chunk.partition, next: last.offset + 1 };
        let (records, count) = (Arc::clone(&chunk.records), u64::try_from(drafts.len()).unwrap_or(0));
        let wholes = Wholes::Sealing(workers.run(move |zstd| fold::seal_all(&batch, zstd, &records, reads, drafts)));
        let (seq, first, state) = (first, head.offset, Arc::clone(&chunk.state));
        self.placed.push_back(Placed { partition, reached, first, seq, state, epoch, count, wholes });
        self.waiting.pop_front();
        Ok(())
    }

    /// Gives the oldest placed entries to the writer, while more than `left` chunks have places.
    ///
    /// # Errors
    /// Those of the writer. After one that is tried again the rest is still here.
    pub(super) fn push(&mut self, writer: &mut Writer, left: usize) -> Result<(), SidecarError> {
        while self.placed.len() > left {
            let Some(placed) = self.placed.front_mut() else { return Ok(()) };
            push_chunk(writer, placed, &mut self.folded)?;
            let Some(placed) = self.placed.pop_front() else { return Ok(()) };
            let Placed { partition, reached, first, .. } = placed;
            let since = self.unconfirmed.get(&partition).map_or(first, |(_, since)| *since);
            self.unconfirmed.insert(partition, (reached.clone(), since));
            self.note_reached(writer, partition, reached);
        }
        Ok(())
    }

    /// Gives everything that has a place to the writer: nothing else may be written before.
    ///
    /// # Errors
    /// As `push`.
    pub(super) fn drain(&mut self, writer: &mut Writer) -> Result<(), SidecarError> {
        self.push(writer, 0)
    }
}

fn push_chunk(writer: &mut Writer, placed: &mut Placed, folded: &mut Folded) -> Result<(), SidecarError> {
    if let Wholes::Sealing(_) = placed.wholes
        && let Wholes::Sealing(pending) = std::mem::replace(&mut placed.wholes, Wholes::Sealed(Vec::new().into_iter()))
    {
        placed.wholes = Wholes::Sealed(pending.take().into_iter());
    }
    if writer.is_commit_due() {
        writer.commit_behind()?;
    }
    let Wholes::Sealed(wholes) = &mut placed.wholes else { return Ok(()) };
    while let Some(whole) = wholes.next() {
        let Whole { position, mac, body, parts } = whole;
        folded.count(&body);
        placed.count -= 1;
        let seq = writer.push(body, Some(position), own("a part about to be sealed", parts)?)?;
        // The parts are sealed for this place alone: elsewhere nobody could ever open them.
        assert_eq!(seq, placed.seq, "something was written into a place that was given away");
        placed.seq = seq.next();
        let is_due = writer.is_commit_due();
        if is_due || wholes.len() == 0 {
            let memo = Memo { last: Some(position.offset), epoch: placed.epoch, state: placed.state.to_vec() };
            let row = PositionRow { next_offset: position.offset + 1, record_mac: Some(mac), memo: memo.encode() };
            writer.set_position(placed.partition, row);
        }
        if is_due {
            writer.commit_behind()?;
        }
    }
    Ok(())
}
