//! From librdkafka's events to arrivals: records in order, each hole before the record after it.
//!
//! Per partition it knows the next offset to deliver, and holds librdkafka to it: what lies below was delivered, what
//! lies above leaves a hole. So neither a pause nor a seek nor a re-fetch can double or lose a record.
//!
//! It also knows which leader took the last record. Another leader may have another history: librdkafka compares the
//! two before it reads on, but not always (it did not in one of four unclean elections on a busy machine). So before the
//! first record of another leader is taken, the one before it is read again and compared.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::{Again, Arrival, Arrived, Cut, GapWhy, RECORD_BYTES_WHOLE_MAX, Topic};
use super::assign::Prepared;
use super::begin::Last;
use super::buffer::Key;
use super::native::Message;

/// One assigned partition.
pub(super) struct Slot {
    pub(super) topic: Arc<Topic>,
    /// The next offset to deliver.
    pub(super) next: u64,
    /// The last archived record, until it has been read again.
    pub(super) last: Option<u64>,
    /// The last record, archived or delivered since.
    delivered: Option<u64>,
    /// The epoch of the leader that took it.
    leader: Option<i32>,
    /// Holes to be said once it has.
    gaps: Vec<(u64, u64, GapWhy)>,
    /// Nothing is taken from it until it is assigned again.
    pub(super) is_suspended: bool,
    /// Records were delivered since the topic was last seen to be the same.
    pub(super) has_delivered: bool,
}

/// The assigned partitions, and what was read of them and not yet put into the buffer.
#[derive(Default)]
pub(super) struct Reading {
    slots: HashMap<String, BTreeMap<u32, Slot>>,
    out: Vec<Arrival>,
    pub(super) out_bytes: usize,
    pub(super) out_records: usize,
}

impl Reading {
    /// Takes up a partition: says that it is ours, and what is left out.
    pub(super) fn take_up(&mut self, prepared: &Prepared) {
        let (topic, partition) = (&prepared.topic, prepared.partition);
        let held = prepared.held.clone();
        self.out.push(Arrival::Assigned { topic: Arc::clone(topic), partition, held });
        if let Some((first, last)) = prepared.contested {
            self.out.push(Arrival::Contested { topic: Arc::clone(topic), partition, first, last });
        }
        let mut slot = Slot {
            topic: Arc::clone(topic),
            next: prepared.begin.next,
            last: None,
            delivered: prepared.begin.last.map(Last::offset),
            leader: None,
            gaps: prepared.begin.gaps.clone(),
            is_suspended: false,
            has_delivered: false,
        };
        match prepared.begin.last {
            Some(Last::Reread(last)) => slot.last = Some(last),
            Some(Last::Gone(last)) => slot.say_last(partition, last, Again::Expired, &mut self.out),
            None => slot.say_gaps(partition, &mut self.out),
        }
        self.slots.entry(topic.name.clone()).or_default().insert(partition, slot);
    }

    /// Moves a partition on after its beginning was looked up again.
    pub(super) fn move_on(&mut self, key: &Key, prepared: &Prepared) {
        let out = &mut self.out;
        if let Some(slot) = self.slots.get_mut(&key.0).and_then(|slots| slots.get_mut(&key.1)) {
            if let Some(Last::Gone(last)) = prepared.begin.last
                && slot.last.take().is_some()
            {
                slot.say_last(key.1, last, Again::Expired, out);
            }
            for gap in &prepared.begin.gaps {
                say_gap(&slot.topic, key.1, *gap, out);
            }
            slot.next = prepared.begin.next;
            slot.is_suspended = false;
        }
    }

    pub(super) fn give_up(&mut self, key: &Key) -> Option<Slot> {
        let slots = self.slots.get_mut(&key.0)?;
        let slot = slots.remove(&key.1);
        if slots.is_empty() {
            self.slots.remove(&key.0);
        }
        slot
    }

    pub(super) fn slot(&mut self, topic: &str, partition: u32) -> Option<&mut Slot> {
        self.slots.get_mut(topic)?.get_mut(&partition)
    }

    pub(super) fn slots_of(&mut self, topic: &str) -> impl Iterator<Item = (&u32, &mut Slot)> {
        self.slots.get_mut(topic).into_iter().flatten()
    }

    pub(super) fn topics(&self) -> Vec<String> {
        self.slots.keys().cloned().collect()
    }

    pub(super) fn say(&mut self, arrival: Arrival) {
        self.out.push(arrival);
    }

    /// What was read, for the buffer.
    pub(super) fn drain(&mut self) -> Vec<Arrival> {
        (self.out_bytes, self.out_records) = (0, 0);
        std::mem::take(&mut self.out)
    }

    /// One message. The answer is the offset to go to, where that is not the next one.
    pub(super) fn message(&mut self, message: &Message<'_>) -> Option<Go> {
        let partition = u32::try_from(message.partition()).ok()?;
        let offset = u64::try_from(message.offset()).ok()?;
        let out = &mut self.out;
        let slot = self.slots.get_mut(message.topic())?.get_mut(&partition)?;
        if slot.is_suspended {
            return None;
        }
        if let Some(last) = slot.last {
            if offset < last {
                return None;
            }
            slot.last = None;
            if offset == last {
                slot.leader = slot.leader.or(message.leader_epoch());
                slot.say_last(partition, last, again(message), out);
                return (slot.next > last + 1).then(|| Go::On((slot.topic.name.clone(), partition), slot.next));
            }
            slot.say_last(partition, last, Again::Absent, out);
        }
        if offset < slot.next {
            return None;
        }
        if let Some(delivered) = slot.takes_another_leader(message.leader_epoch()) {
            return Some(Go::Back((slot.topic.name.clone(), partition), delivered));
        }
        if offset > slot.next {
            say_gap(&slot.topic, partition, (slot.next, offset - 1, GapWhy::Unattributed), out);
        }
        slot.next = offset + 1;
        slot.delivered = Some(offset);
        slot.has_delivered = true;
        let arrived = arrived(message, offset);
        self.out_bytes += arrived.record.len();
        self.out_records += 1;
        append(out, &slot.topic, partition, arrived);
        None
    }

    /// The partition is read up to `end`; what lies between is markers and aborted records.
    pub(super) fn end(&mut self, key: &Key, end: u64) -> bool {
        let out = &mut self.out;
        let Some(slot) = self.slots.get_mut(&key.0).and_then(|slots| slots.get_mut(&key.1)) else { return false };
        if slot.is_suspended {
            return false;
        }
        if let Some(last) = slot.last
            && last < end
        {
            slot.last = None;
            slot.say_last(key.1, last, Again::Absent, out);
        }
        if end > slot.next {
            say_gap(&slot.topic, key.1, (slot.next, end - 1, GapWhy::Unattributed), out);
            slot.next = end;
        }
        end == slot.next
    }
}

/// Where to read on, where that is not behind the message in hand.
pub(super) enum Go {
    /// What lies between is not wanted.
    On(Key, u64),
    /// To the last record, which is to be read again; the partition is suspended until it is assigned from there.
    Back(Key, u64),
}

impl Slot {
    /// Notes the leader of the next record. If it is another one than that of the last record, gives the offset of that
    /// one and takes nothing until it was read again.
    fn takes_another_leader(&mut self, leader: Option<i32>) -> Option<u64> {
        let before = self.leader;
        self.leader = leader.or(before);
        let delivered = self.delivered?;
        if before? == self.leader? {
            return None;
        }
        self.last = Some(delivered);
        self.is_suspended = true;
        Some(delivered)
    }

    fn say_last(&mut self, partition: u32, offset: u64, again: Again, out: &mut Vec<Arrival>) {
        out.push(Arrival::Last { topic: Arc::clone(&self.topic), partition, offset, again });
        self.say_gaps(partition, out);
    }

    fn say_gaps(&mut self, partition: u32, out: &mut Vec<Arrival>) {
        for gap in std::mem::take(&mut self.gaps) {
            say_gap(&self.topic, partition, gap, out);
        }
    }
}

fn say_gap(topic: &Arc<Topic>, partition: u32, (first, last, why): (u64, u64, GapWhy), out: &mut Vec<Arrival>) {
    out.push(Arrival::Gap { topic: Arc::clone(topic), partition, first, last, why });
}

/// To the records before it, if it follows them without a hole.
fn append(out: &mut Vec<Arrival>, topic: &Arc<Topic>, partition: u32, arrived: Arrived) {
    if let Some(Arrival::Records { topic: before, partition: number, records, .. }) = out.last_mut()
        && *number == partition
        && Arc::ptr_eq(before, topic)
    {
        records.push(arrived);
        return;
    }
    let topic = Arc::clone(topic);
    out.push(Arrival::Records { topic, partition, records: vec![arrived], state: Vec::new() });
}

fn arrived(message: &Message<'_>, offset: u64) -> Arrived {
    if message.key_and_value_len() <= RECORD_BYTES_WHOLE_MAX {
        let record = message.record(true);
        if record.len() <= RECORD_BYTES_WHOLE_MAX {
            return Arrived { offset, record, cut: None };
        }
    }
    Arrived { offset, record: message.record(false), cut: Some(cut(message)) }
}

fn again(message: &Message<'_>) -> Again {
    match arrived(message, 0) {
        Arrived { cut: Some(cut), .. } => Again::Cut(cut),
        Arrived { record, .. } => Again::Record(record),
    }
}

fn cut(message: &Message<'_>) -> Cut {
    let value = message.value().unwrap_or_default();
    Cut { bytes: u64::try_from(value.len()).unwrap_or(u64::MAX), sha256: Sha256::digest(value).into() }
}
