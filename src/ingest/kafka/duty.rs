//! What the thread owes the group before it reads on: assignments, revocations, partitions to find again.
//!
//! Also the regular look at the topics: whether they grew, went away, or were made anew under the same name, which
//! librdkafka does not tell. A topic made anew is taken up from its beginning; if records may already have been read of
//! it under the old one's name, that is rewritten history.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::super::{Arrival, Held, SourceError, Topic, Trouble, TroubleKind};
use super::assign::{Lookup, Refusal, Topics, partition};
use super::buffer::Key;
use super::options::Assignment;
use super::probe;
use super::worker::{CHECK_IN_TROUBLE, Worker};

/// The loop has this long to make a revoked partition durable; then the group goes on without us.
const RELEASE_GRACE: Duration = Duration::from_secs(20);
/// How often topics are looked at: grown, deleted, made anew.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Between two tries of the same look-up.
pub(super) const RETRY: Duration = Duration::from_millis(500);
/// A broker that ends before our position is asked this often before it is believed: a new leader may lag a moment.
const DOUBTS_MAX: u32 = 5;

/// What has to be done before reading goes on, in order.
pub(super) enum Duty {
    /// Look up and assign.
    Assign { keys: Vec<Key>, doubts: u32 },
    /// Give up: said to the loop at `since`, unassigned when it has answered; then perhaps taken up anew.
    Revoke { keys: Vec<Key>, is_lost: bool, since: Option<Instant>, is_anew: bool },
    /// Give up everything, said to the loop at `since`; when it has answered, connect anew.
    Reconnect { since: Option<Instant> },
    /// Look up where a partition goes on after its offset was refused.
    MoveOn { key: Key, doubts: u32 },
    /// Read a suspended partition from its last record on, which is compared before what follows.
    GoBack { key: Key, last: u64 },
}

impl Worker {
    /// Does the first duty, if its time has come; what cannot be done yet stays first.
    pub(super) fn fulfil(&mut self) -> Result<(), SourceError> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.retry_at = None;
        let Some(duty) = self.duties.pop_front() else { return Ok(()) };
        let undone = match duty {
            Duty::Assign { keys, doubts } => self.assign(keys, doubts)?,
            Duty::Revoke { keys, is_lost, since, is_anew } => self.revoke(keys, is_lost, since, is_anew),
            Duty::MoveOn { key, doubts } => self.move_on(key, doubts)?,
            Duty::GoBack { key, last } => self.go_back(&key, last),
            Duty::Reconnect { since } => self.reconnect(since),
        };
        if let Some(duty) = undone {
            self.duties.push_front(duty);
        }
        Ok(())
    }

    fn assign(&mut self, keys: Vec<Key>, doubts: u32) -> Result<Option<Duty>, SourceError> {
        let prepared = match self.lookup().prepare(&keys, self.positions.as_ref()) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                self.refused(refusal, doubts)?;
                return Ok(Some(Duty::Assign { keys, doubts: doubts + 1 }));
            }
        };
        let mut list = TopicPartitionList::new();
        for one in &prepared {
            let key = (one.topic.name.clone(), one.partition);
            self.learn(&one.topic);
            self.reading.take_up(one);
            self.flush();
            self.buffer.begun(&key, one.begin.next, one.low, one.end);
            add(&mut list, &key, one.begin.fetch);
            self.owned.insert(key);
        }
        // The group must not wait for a topic that is gone: should it come back, it is taken up then.
        self.skipped.extend(keys.into_iter().filter(|key| !self.owned.contains(key)));
        // An assignment of nothing is answered too: the group waits for it.
        if let Err(error) = self.consumer.incremental_assign(&list) {
            tracing::warn!(source = self.options.name, %error, "assigning");
        }
        if self.is_paused && list.count() > 0 {
            // The next round pauses all of them.
            self.is_paused = false;
        }
        self.buffer.assigned();
        self.untroubled();
        Ok(None)
    }

    fn revoke(&mut self, keys: Vec<Key>, is_lost: bool, since: Option<Instant>, is_anew: bool) -> Option<Duty> {
        let Some(since) = since else {
            self.flush();
            self.is_released = true;
            let mut revoked = Vec::new();
            for key in &keys {
                self.buffer.purge(key);
                self.skipped.remove(key);
                if let Some(slot) = self.reading.give_up(key) {
                    revoked.push(Arrival::Revoked { topic: slot.topic, partition: key.1, is_lost });
                    self.is_released = false;
                }
            }
            self.buffer.push_first(revoked);
            if is_lost {
                // Nobody takes a commit for them any longer, and one under way would only be refused.
                self.owned.retain(|key| !keys.contains(key));
            }
            return Some(Duty::Revoke { keys, is_lost, since: Some(Instant::now()), is_anew });
        };
        if !self.is_released && since.elapsed() < RELEASE_GRACE {
            return Some(Duty::Revoke { keys, is_lost, since: Some(since), is_anew });
        }
        let list = list_of(keys.iter().filter(|key| is_lost || self.owned.contains(key)));
        if let Err(error) = if list.count() > 0 { self.consumer.incremental_unassign(&list) } else { Ok(()) } {
            tracing::warn!(source = self.options.name, %error, "unassigning");
        }
        for key in &keys {
            self.owned.remove(key);
        }
        is_anew.then_some(Duty::Assign { keys, doubts: 0 })
    }

    /// The membership is gone, and all partitions with it. The next assignment waits until the loop has answered.
    pub(super) fn lose_all(&mut self) {
        let keys: Vec<Key> = std::mem::take(&mut self.owned).into_iter().collect();
        self.duties.clear();
        self.retry_at = None;
        self.revoke(keys, true, None, false);
        self.duties.push_back(Duty::Revoke {
            keys: Vec::new(),
            is_lost: true,
            since: Some(Instant::now()),
            is_anew: false,
        });
    }

    /// At a boundary: what the loop holds is durable and committed before the connection goes.
    fn reconnect(&mut self, since: Option<Instant>) -> Option<Duty> {
        let Some(since) = since else {
            self.revoke(self.owned.iter().cloned().collect(), false, None, false);
            return Some(Duty::Reconnect { since: Some(Instant::now()) });
        };
        if !self.is_released && since.elapsed() < RELEASE_GRACE {
            return Some(Duty::Reconnect { since: Some(since) });
        }
        if let Err(error) = self.join_anew() {
            // A file may be half written.
            tracing::warn!(source = self.options.name, %error, "not connected anew; it will be tried again");
            self.retry_at = Some(Instant::now() + RETRY);
            return Some(Duty::Reconnect { since: Some(since) });
        }
        tracing::info!(source = self.options.name, "connecting anew");
        // What was owed was owed to the old membership.
        self.duties.clear();
        self.owned.clear();
        self.skipped.clear();
        // Trouble ends with the first look that finds everything, as always.
        self.check_at = Instant::now();
        None
    }

    /// The broker refused our offset: retention, a cut history, or another topic of the same name.
    fn move_on(&mut self, key: Key, doubts: u32) -> Result<Option<Duty>, SourceError> {
        let Some(slot) = self.reading.slot(&key.0, key.1) else { return Ok(None) };
        let (topic, held) = (Arc::clone(&slot.topic), Held { next: slot.next, last: slot.last, state: Vec::new() });
        let looked_up = self.lookup().topics(&[&key.0]).map_err(Refusal::Later);
        let found = match &looked_up {
            Ok(topics) => topics.get(&key.0),
            Err(_) => Some(&topic),
        };
        if let Some(found) = found.filter(|found| is_another(found, &topic)) {
            tracing::warn!(source = self.options.name, topic = found.name, "the topic was made anew");
            return Ok(Some(self.take_up_anew(&key.0)));
        }
        let prepared = looked_up.and_then(|_| self.lookup().begin_at(&topic, &key, Some(held), None));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => {
                self.refused(refusal, doubts)?;
                return Ok(Some(Duty::MoveOn { key, doubts: doubts + 1 }));
            }
        };
        self.reading.move_on(&key, &prepared);
        self.flush();
        // A partition whose offset was refused is stopped: only assigning it again starts it.
        self.assign_again(&key, prepared.begin.fetch);
        Ok(None)
    }

    /// The next leader's records may be of another history: the last record before them is read from it again.
    fn go_back(&mut self, key: &Key, last: u64) -> Option<Duty> {
        let slot = self.reading.slot(&key.0, key.1)?;
        slot.is_suspended = false;
        self.assign_again(key, last);
        None
    }

    /// Drops what was fetched of a partition, and fetches from `offset` on.
    fn assign_again(&mut self, key: &Key, offset: u64) {
        let mut list = TopicPartitionList::new();
        add(&mut list, key, offset);
        let done = self.consumer.incremental_unassign(&list).and_then(|()| self.consumer.incremental_assign(&list));
        if let Err(error) = done {
            tracing::warn!(source = self.options.name, %error, "assigning again");
        }
        self.is_paused = false;
    }

    /// Gives up all partitions of a topic and takes them up as what they are now.
    fn take_up_anew(&mut self, topic: &str) -> Duty {
        let keys = self.owned.iter().filter(|(name, _)| name == topic).cloned().collect();
        Duty::Revoke { keys, is_lost: false, since: None, is_anew: true }
    }

    /// Later, or never: a broker that still ends before us after several looks has another history.
    fn refused(&mut self, refusal: Refusal, doubts: u32) -> Result<(), SourceError> {
        self.retry_at = Some(Instant::now() + RETRY);
        match refusal {
            Refusal::Later(trouble) => self.troubled(trouble),
            Refusal::Rewritten { key, position, end } if doubts >= DOUBTS_MAX => {
                return Err(SourceError::Rewritten {
                    source_name: self.options.name.clone(),
                    topic: key.0,
                    partition: key.1,
                    position,
                    found: format!("the broker's history ends at {end}"),
                });
            }
            Refusal::Rewritten { key, position, end } => self.troubled(Trouble {
                kind: TroubleKind::Broker,
                message: format!(
                    "source {}: topic {}, partition {}: we are at offset {position}, the broker ends at {end}",
                    self.options.name, key.0, key.1
                ),
            }),
        }
        Ok(())
    }

    // ---- the regular look ----

    /// Looks at the topics; in trouble also the sign that it is over.
    pub(super) fn check(&mut self) -> Result<(), SourceError> {
        let looked_up = self.look();
        self.check_at = Instant::now() + if self.trouble.is_some() { CHECK_IN_TROUBLE } else { CHECK_EVERY };
        let (configured, assigned) = match looked_up {
            Ok(found) => found,
            Err(trouble) => {
                self.troubled(trouble);
                return Ok(());
            }
        };
        match self.lookup().missing(&configured) {
            Some(trouble) => self.troubled(trouble),
            None if self.duties.is_empty() => self.untroubled(),
            None => {}
        }
        for topic in assigned.values() {
            self.compare(topic)?;
        }
        self.warn_of_compaction(&configured);
        let back = self.skipped.extract_if(.., |key| configured.contains_key(&key.0)).collect::<Vec<_>>();
        if !back.is_empty() {
            self.duties.push_back(Duty::Assign { keys: back, doubts: 0 });
        }
        match self.options.assignment {
            Assignment::Static => self.discover(&configured),
            Assignment::Group { .. } => self.subscribe(&configured),
        }
        Ok(())
    }

    /// The configured topics and the assigned ones, as they are now.
    fn look(&self) -> Result<(Topics, Topics), Trouble> {
        let lookup = self.lookup();
        let assigned = self.reading.topics();
        let assigned = lookup.topics(&assigned.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok((lookup.configured()?, assigned))
    }

    /// An assigned topic against what it was.
    fn compare(&mut self, found: &Arc<Topic>) -> Result<(), SourceError> {
        let Some(known) = self.known.get(&found.name).cloned() else { return Ok(()) };
        if is_another(found, &known) {
            return self.is_made_anew(found, &known);
        }
        for (_, slot) in self.reading.slots_of(&found.name) {
            slot.has_delivered = false;
        }
        // A suspicion that was none: what was dropped meanwhile is fetched again.
        let suspended: Vec<Key> = self
            .reading
            .slots_of(&found.name)
            .filter(|(_, slot)| slot.is_suspended)
            .map(|(partition, _)| (found.name.clone(), *partition))
            .collect();
        for key in suspended {
            let is_due = |duty: &Duty| matches!(duty, Duty::MoveOn { key: other, .. } if *other == key);
            if !self.duties.iter().any(is_due) {
                self.duties.push_back(Duty::MoveOn { key, doubts: 0 });
            }
        }
        self.learn(found);
        Ok(())
    }

    /// Another topic of the same name: taken up anew, unless its records may already stand under the old one.
    fn is_made_anew(&mut self, found: &Arc<Topic>, known: &Topic) -> Result<(), SourceError> {
        let read: Vec<(u32, u64)> = self
            .reading
            .slots_of(&found.name)
            .filter(|(_, slot)| slot.has_delivered && !slot.is_suspended)
            .map(|(partition, slot)| (*partition, slot.next))
            .collect();
        for (number, next) in read {
            let key = (found.name.clone(), number);
            let ends = self.consumer.fetch_watermarks(&key.0, partition(&key), RETRY.saturating_mul(4));
            let may_be_mixed = ends.map_or(true, |(_, end)| u64::try_from(end).is_ok_and(|end| end >= next));
            if may_be_mixed {
                let found = format!(
                    "the topic was made anew while it was read: id {} is now {}",
                    known.topic_id, found.topic_id
                );
                return Err(self.rewritten(&key, found));
            }
        }
        let duty = self.take_up_anew(&found.name);
        self.duties.push_back(duty);
        self.known.remove(&found.name);
        Ok(())
    }

    /// Says once of every topic that compaction may take records from it before they are read: they will be gaps.
    fn warn_of_compaction(&mut self, configured: &Topics) {
        let new: Vec<&str> =
            configured.keys().map(String::as_str).filter(|name| !self.judged.contains(*name)).collect();
        if new.is_empty() {
            return;
        }
        // Nobody answered: asked again with the next look.
        let Some(compacted) = probe::compacted(&self.options, &new) else { return };
        for topic in compacted {
            tracing::warn!(
                source = self.options.name,
                topic,
                "the topic is compacted: a record that vanishes before it is read becomes a gap without a reason"
            );
        }
        self.judged.extend(new.into_iter().map(str::to_owned));
    }

    /// Without a group: partitions nobody assigned yet.
    fn discover(&mut self, configured: &Topics) {
        if !self.duties.is_empty() {
            return;
        }
        let all =
            configured.values().flat_map(|topic| (0..topic.partitions).map(|number| (topic.name.clone(), number)));
        let keys: Vec<Key> = all.filter(|key| !self.owned.contains(key)).collect();
        if !keys.is_empty() {
            self.duties.push_back(Duty::Assign { keys, doubts: 0 });
        }
    }

    /// With a group: topics that a pattern means and that came or went. The pattern is ours to read, not librdkafka's,
    /// whose regular expressions are others.
    fn subscribe(&mut self, configured: &Topics) {
        let wanted: BTreeSet<String> =
            self.options.names().chain(configured.keys().map(String::as_str)).map(str::to_owned).collect();
        if wanted.is_empty() {
            self.buffer.assigned_nothing();
        }
        if wanted == self.subscribed {
            return;
        }
        let done = if wanted.is_empty() {
            self.consumer.unsubscribe();
            Ok(())
        } else {
            self.consumer.subscribe(&wanted.iter().map(String::as_str).collect::<Vec<_>>())
        };
        match done {
            Ok(()) => self.subscribed = wanted,
            Err(error) => tracing::warn!(source = self.options.name, %error, "subscribing"),
        }
    }

    /// Remembers a topic's facts and says so if it grew.
    fn learn(&mut self, topic: &Arc<Topic>) {
        let before = self.known.get(&topic.name);
        if before.is_some_and(|before| before == topic) {
            return;
        }
        if before.is_some_and(|before| before.partitions < topic.partitions && !is_another(before, topic)) {
            self.reading.say(Arrival::Grown { topic: Arc::clone(topic) });
        }
        for (_, slot) in self.reading.slots_of(&topic.name) {
            slot.topic = Arc::clone(topic);
        }
        self.known.insert(topic.name.clone(), Arc::clone(topic));
    }

    fn untroubled(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(source = self.options.name, "reading again");
            self.buffer.set_trouble(None);
        }
    }

    fn lookup(&self) -> Lookup<'_> {
        Lookup { consumer: &self.consumer, options: &self.options }
    }
}

/// Whether two topics of one name are two topics.
fn is_another(found: &Topic, known: &Topic) -> bool {
    found.topic_id != known.topic_id || found.cluster != known.cluster
}

fn add(list: &mut TopicPartitionList, key: &Key, offset: u64) {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    // It fails only for offsets that are librdkafka's own marks, which are negative.
    let _ = list.add_partition_offset(&key.0, partition(key), Offset::Offset(offset));
}

/// The list librdkafka wants.
pub(super) fn list_of<'a>(keys: impl Iterator<Item = &'a Key>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for key in keys {
        list.add_partition(&key.0, partition(key));
    }
    list
}

/// The partitions of a rebalance.
pub(super) fn keys(list: Vec<(String, i32)>) -> Vec<Key> {
    list.into_iter().filter_map(|(topic, number)| Some((topic, u32::try_from(number).ok()?))).collect()
}
