//! What the worker has read and the loop has not yet taken: bounded, in order, under one lock.
//!
//! The worker fills it and stops fetching when it is full; the loop empties it at its own pace. It also carries what is
//! asked without waiting: trouble, ends, whether everything is read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::{Arrival, Budget, End, SourceError, Topic, Trouble};

/// The worker stops fetching above this many bytes of records.
const BYTES_FULL: usize = 8 * 1024 * 1024;
/// And above this many records.
const RECORDS_FULL: usize = 16_384;
/// An assignment of nothing counts as settled after this long: a group hands over its share in a second round.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// A partition by the broker's names.
pub(super) type Key = (String, u32);

#[derive(Default)]
struct State {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
    records: usize,
    error: Option<SourceError>,
    trouble: Option<Trouble>,
    partitions: BTreeMap<Key, Standing>,
    assigned_at: Option<Instant>,
}

/// What is known of an assigned partition.
struct Standing {
    topic: Arc<Topic>,
    next: u64,
    low: u64,
    end: u64,
    is_read_to_end: bool,
}

/// The buffer, shared by the worker and the loop.
#[derive(Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Buffer {
    /// A panic of the other side leaves plain data behind; it is reported by the channel that closes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the worker's side ----

    /// Adds what was read and moves the ends along.
    pub(super) fn push(&self, arrivals: Vec<Arrival>) {
        if arrivals.is_empty() {
            return;
        }
        let mut state = self.lock();
        for arrival in arrivals {
            state.note(&arrival);
            let (records, bytes) = weight(&arrival);
            state.records += records;
            state.bytes += bytes;
            state.arrivals.push_back(arrival);
        }
        self.arrived.notify_one();
    }

    /// Puts a revocation before everything else: of its partitions nothing is left to come, and the group waits for it.
    pub(super) fn push_first(&self, revoked: Vec<Arrival>) {
        let mut state = self.lock();
        for arrival in revoked.into_iter().rev() {
            state.arrivals.push_front(arrival);
        }
        self.arrived.notify_one();
    }

    /// Takes back what was read of a partition and not yet given out: its next owner reads it.
    pub(super) fn purge(&self, key: &Key) {
        let mut state = self.lock();
        let arrivals = std::mem::take(&mut state.arrivals);
        state.arrivals = arrivals.into_iter().filter(|arrival| !is_of(arrival, key)).collect();
        let (records, bytes) = state.arrivals.iter().map(weight).fold((0, 0), |(r, b), (x, y)| (r + x, b + y));
        (state.records, state.bytes) = (records, bytes);
        state.partitions.remove(key);
        // What comes instead is not known before the next assignment.
        state.assigned_at = None;
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.bytes >= BYTES_FULL || state.records >= RECORDS_FULL
    }

    /// Room enough to fetch again: half of what stopped it, so that it does not flutter.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.bytes < BYTES_FULL / 2 && state.records < RECORDS_FULL / 2
    }

    pub(super) fn fail(&self, error: SourceError) {
        self.lock().error.get_or_insert(error);
        self.arrived.notify_one();
    }

    pub(super) fn set_trouble(&self, trouble: Option<Trouble>) {
        self.lock().trouble = trouble;
    }

    /// An assignment was made, of however many partitions.
    pub(super) fn assigned(&self) {
        self.lock().assigned_at = Some(Instant::now());
    }

    /// Another membership begins: until it is assigned something, nothing is known to be read to its end.
    pub(super) fn unassigned(&self) {
        self.lock().assigned_at = None;
    }

    /// No topic is there to be assigned.
    pub(super) fn assigned_nothing(&self) {
        self.lock().assigned_at.get_or_insert_with(Instant::now);
    }

    /// The partition begins at `next`; the broker has `low` to `end`.
    pub(super) fn begun(&self, key: &Key, next: u64, low: u64, end: u64) {
        if let Some(standing) = self.lock().partitions.get_mut(key) {
            (standing.next, standing.low, standing.end) = (standing.next.max(next), low, end);
        }
    }

    /// The partition is read up to `end`, everything before it is in the buffer.
    pub(super) fn read_to_end(&self, key: &Key, end: u64) {
        if let Some(standing) = self.lock().partitions.get_mut(key) {
            standing.end = standing.end.max(end);
            standing.is_read_to_end = standing.next >= standing.end;
        }
    }

    /// The broker's ends, as last heard.
    pub(super) fn observed(&self, key: &Key, low: u64, end: u64) {
        if let Some(standing) = self.lock().partitions.get_mut(key) {
            standing.low = standing.low.max(low);
            standing.end = standing.end.max(end);
            standing.is_read_to_end &= standing.next >= standing.end;
        }
    }

    // ---- the loop's side ----

    /// What has arrived, within the budget; stops after a revocation, so that the loop answers it first, and before
    /// records while `is_paused`.
    pub(super) fn take(&self, budget: Budget, is_paused: bool) -> Result<Vec<Arrival>, SourceError> {
        let mut state = self.lock();
        if !state.has_something(is_paused) && !budget.wait.is_zero() {
            let waited = self.arrived.wait_timeout_while(state, budget.wait, |state| !state.has_something(is_paused));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (mut taken, mut records_left, mut bytes_left) = (Vec::new(), budget.records_max, budget.bytes_max);
        while records_left > 0 && bytes_left > 0 {
            if is_paused && state.is_record_next() {
                break;
            }
            let Some(arrival) = state.arrivals.pop_front() else { break };
            let (arrival, rest) = split(arrival, records_left, bytes_left);
            if let Some(rest) = rest {
                state.arrivals.push_front(rest);
            }
            let (records, bytes) = weight(&arrival);
            state.records = state.records.saturating_sub(records);
            state.bytes = state.bytes.saturating_sub(bytes);
            records_left = records_left.saturating_sub(records);
            bytes_left = bytes_left.saturating_sub(bytes);
            taken.push(arrival);
            if ends_a_revocation(&taken, &state.arrivals) {
                break;
            }
        }
        // What was read before the error is sound and comes first.
        match state.error.clone().filter(|_| taken.is_empty()) {
            Some(error) => Err(error),
            None => Ok(taken),
        }
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }

    pub(super) fn ends(&self) -> Vec<End> {
        let state = self.lock();
        let end = |((_, partition), standing): (&Key, &Standing)| End {
            topic: Arc::clone(&standing.topic),
            partition: *partition,
            next: standing.next,
            low: standing.low,
            end: standing.end.max(standing.next),
        };
        state.partitions.iter().map(end).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        let is_settled =
            state.assigned_at.is_some_and(|at| !state.partitions.is_empty() || at.elapsed() > SETTLED_AFTER);
        is_settled
            && state.trouble.is_none()
            && state.arrivals.is_empty()
            && state.partitions.values().all(|standing| standing.is_read_to_end)
    }
}

impl State {
    fn is_record_next(&self) -> bool {
        matches!(self.arrivals.front(), Some(Arrival::Records { .. } | Arrival::Gap { .. }))
    }

    fn has_something(&self, is_paused: bool) -> bool {
        let may_be_taken = !is_paused || !self.is_record_next();
        (may_be_taken && !self.arrivals.is_empty()) || self.error.is_some()
    }

    fn note(&mut self, arrival: &Arrival) {
        match arrival {
            Arrival::Assigned { topic, partition, .. } => {
                let standing = Standing { topic: Arc::clone(topic), next: 0, low: 0, end: 0, is_read_to_end: false };
                self.partitions.insert((topic.name.clone(), *partition), standing);
            }
            Arrival::Records { topic, partition, records, .. } => {
                if let Some(last) = records.last() {
                    self.advance(topic, *partition, last.offset + 1);
                }
            }
            Arrival::Gap { topic, partition, last, .. } => self.advance(topic, *partition, last + 1),
            Arrival::Revoked { .. } | Arrival::Last { .. } | Arrival::Grown { .. } | Arrival::Contested { .. } => {}
        }
    }

    fn advance(&mut self, topic: &Topic, partition: u32, next: u64) {
        if let Some(standing) = self.partitions.get_mut(&(topic.name.clone(), partition)) {
            standing.next = standing.next.max(next);
            standing.is_read_to_end = false;
        }
    }
}

/// Partitions revoked together are answered together.
fn ends_a_revocation(taken: &[Arrival], left: &VecDeque<Arrival>) -> bool {
    let is_revocation = |arrival: Option<&Arrival>| matches!(arrival, Some(Arrival::Revoked { .. }));
    is_revocation(taken.last()) && !is_revocation(left.front())
}

/// Records and bytes of an arrival.
fn weight(arrival: &Arrival) -> (usize, usize) {
    match arrival {
        Arrival::Records { records, .. } => (records.len(), records.iter().map(|arrived| arrived.record.len()).sum()),
        _ => (0, 0),
    }
}

fn is_of(arrival: &Arrival, key: &Key) -> bool {
    match arrival {
        Arrival::Assigned { topic, partition, .. }
        | Arrival::Revoked { topic, partition, .. }
        | Arrival::Last { topic, partition, .. }
        | Arrival::Records { topic, partition, .. }
        | Arrival::Contested { topic, partition, .. }
        | Arrival::Gap { topic, partition, .. } => topic.name == key.0 && *partition == key.1,
        Arrival::Grown { .. } => false,
    }
}

/// As much of an arrival as the budget allows, at least one record, and the rest.
fn split(arrival: Arrival, records_max: usize, bytes_max: usize) -> (Arrival, Option<Arrival>) {
    let Arrival::Records { topic, partition, mut records, state } = arrival else { return (arrival, None) };
    let mut bytes = 0_usize;
    let mut fits = |arrived: &super::super::Arrived| {
        bytes = bytes.saturating_add(arrived.record.len());
        bytes <= bytes_max
    };
    let count = records.iter().take_while(|arrived| fits(arrived)).count().clamp(1, records_max.max(1));
    if count >= records.len() {
        return (Arrival::Records { topic, partition, records, state }, None);
    }
    let rest = records.split_off(count);
    let first = Arrival::Records { topic: Arc::clone(&topic), partition, records, state: Vec::new() };
    (first, Some(Arrival::Records { topic, partition, records: rest, state }))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Arrived, SourceKind};
    use super::*;
    use crate::core::record::Record;

    fn topic() -> Arc<Topic> {
        let (name, cluster, topic_id) = ("t".to_owned(), "c".to_owned(), "i".to_owned());
        Arc::new(Topic { name, origin: SourceKind::Kafka, cluster, topic_id, partitions: 2, shared: false })
    }

    fn records(partition: u32, offsets: std::ops::Range<u64>, bytes: usize) -> Arrival {
        let record = Record { value: Some(vec![0; bytes]), ..Record::default() };
        let records = offsets.map(|offset| Arrived { offset, record: record.clone(), cut: None }).collect();
        Arrival::Records { topic: topic(), partition, records, state: Vec::new() }
    }

    fn revoked(partition: u32) -> Arrival {
        Arrival::Revoked { topic: topic(), partition, is_lost: false }
    }

    fn assigned(partition: u32) -> Arrival {
        Arrival::Assigned { topic: topic(), partition, held: None }
    }

    /// What one `take` gives: `a0` assigned, `r1` revoked, `0:3-5` records.
    fn check(buffer: &Buffer, records_max: usize, bytes_max: usize, expected: &str) {
        let taken = buffer.take(Budget { records_max, bytes_max, wait: Duration::ZERO }, false).unwrap();
        let shown = taken.iter().map(|arrival| match arrival {
            Arrival::Assigned { partition, .. } => format!("a{partition}"),
            Arrival::Revoked { partition, .. } => format!("r{partition}"),
            Arrival::Records { partition, records, .. } => {
                format!("{partition}:{}-{}", records[0].offset, records.last().unwrap().offset)
            }
            _ => "?".to_owned(),
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn a_budget_cuts_an_arrival_and_the_rest_comes_next() {
        let buffer = Buffer::default();
        buffer.push(vec![assigned(0), records(0, 0..5, 10), records(1, 7..9, 10)]);
        check(&buffer, 3, 1000, "a0 0:0-2");
        check(&buffer, 3, 1000, "0:3-4 1:7-7");
        check(&buffer, 100, 5, "1:8-8");
        check(&buffer, 100, 1000, "");
    }

    #[test]
    fn a_revocation_comes_first_and_alone() {
        let buffer = Buffer::default();
        buffer.push(vec![records(2, 0..1, 1)]);
        buffer.push_first(vec![revoked(0), revoked(1)]);
        check(&buffer, 100, 1000, "r0 r1");
        check(&buffer, 100, 1000, "2:0-0");
    }

    #[test]
    fn a_pause_holds_records_and_lets_revocations_through() {
        let buffer = Buffer::default();
        buffer.push(vec![assigned(0), records(0, 0..1, 1)]);
        buffer.push_first(vec![revoked(1)]);
        let budget = Budget { records_max: 9, bytes_max: 9, wait: Duration::ZERO };
        assert_eq!(buffer.take(budget, true).unwrap(), [revoked(1)]);
        assert_eq!(buffer.take(budget, true).unwrap(), [assigned(0)]);
        assert_eq!(buffer.take(budget, true).unwrap(), []);
        assert_eq!(buffer.take(budget, false).unwrap(), [records(0, 0..1, 1)]);
    }

    #[test]
    fn what_was_read_before_an_error_comes_before_it() {
        let buffer = Buffer::default();
        buffer.push(vec![records(0, 0..1, 1)]);
        buffer.fail(SourceError::Client { source_name: "s".to_owned(), reason: "over".to_owned() });
        check(&buffer, 100, 1000, "0:0-0");
        assert!(buffer.take(Budget { records_max: 1, bytes_max: 1, wait: PATIENCE }, false).is_err());
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn idle_is_read_to_the_end_given_out_and_without_trouble() {
        let buffer = Buffer::default();
        let key = ("t".to_owned(), 0);
        assert!(!buffer.is_idle(), "nothing is assigned yet");
        buffer.push(vec![assigned(0), records(0, 0..3, 1)]);
        buffer.begun(&key, 0, 0, 3);
        buffer.assigned();
        assert!(!buffer.is_idle());
        buffer.read_to_end(&key, 3);
        assert!(!buffer.is_idle(), "not given out yet");
        check(&buffer, 100, 1000, "a0 0:0-2");
        assert!(buffer.is_idle());
        buffer.observed(&key, 0, 4);
        assert!(!buffer.is_idle() && buffer.ends()[0].lag() == 1, "the broker has more");
        buffer.push(vec![records(0, 3..4, 1)]);
        buffer.read_to_end(&key, 4);
        check(&buffer, 100, 1000, "0:3-3");
        assert!(buffer.is_idle());
        buffer.purge(&key);
        assert!(!buffer.is_idle(), "what comes instead is not known");
    }

    #[test]
    fn a_purge_takes_back_one_partition_and_its_weight() {
        let buffer = Buffer::default();
        buffer.push(vec![assigned(0), records(0, 0..1, BYTES_FULL), records(1, 0..1, 1)]);
        assert!(buffer.is_full());
        buffer.purge(&("t".to_owned(), 0));
        assert!(!buffer.is_full() && buffer.has_room());
        check(&buffer, 100, usize::MAX, "1:0-0");
    }
}
