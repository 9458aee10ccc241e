//! The rules that take more than one leaf: what may follow what in a log.
//!
//! One state machine for both sides. The audit feeds it every entry and reports what it finds; the writer feeds it
//! each new leaf before the commit, and any finding means our own state is in doubt. It knows nothing of segments
//! beyond where they end, and nothing of the tree: what an entry says about those is handed out as a [`Claim`].
//! Spec: format.md, Leaf (below the table), "Tree, checkpoint, keys", Completeness.

mod keys;
mod state;
mod topics;

use super::cid::Cid;
use super::completeness::{Completeness, OffsetFault, Source};
use super::finding::{Code, Refused};
use super::hash::Hash;
use super::keychange::Revocation;
use super::leaf::{Body, LeafView};
use super::note::Vkey;
use super::origin::Origin;
use super::position::{Partition, Position};
use super::seq::{Seq, Size};
use keys::Keys;
use topics::Topics;

/// A rule that was broken: a finding, before it is known in which segment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {place}: expected {expected}, found {found}")]
pub struct Fault {
    /// Which finding it is.
    pub code: Code,
    /// The entry, where it is one.
    pub seq: Option<Seq>,
    /// What was looked at.
    pub place: String,
    /// What would have been right.
    pub expected: String,
    /// What was there.
    pub found: String,
}

impl Fault {
    /// A fault of the entry at `seq`.
    pub fn at(seq: Seq, code: Code, place: impl Into<String>, expected: impl ToString, found: impl ToString) -> Fault {
        Fault { code, seq: Some(seq), place: place.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// The same without an entry.
    pub fn of(code: Code, place: impl Into<String>, expected: impl ToString, found: impl ToString) -> Fault {
        Fault { code, seq: None, place: place.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// Bytes that a reader refused; `seq` where they are an entry's.
    pub fn refused(seq: Option<Seq>, place: impl Into<String>, refused: Refused) -> Fault {
        Fault {
            code: refused.code,
            seq,
            place: place.into(),
            expected: "bytes of the format".to_owned(),
            found: refused.what,
        }
    }
}

/// What an entry says about things outside the leaves before it, for who knows them to compare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Kind 5: this is the seal, and the payload, of an earlier segment.
    Sealed {
        /// The segment.
        segment: u64,
        /// Its Seal.
        seal: Cid,
        /// Its Payload.
        payload: Option<Cid>,
    },
    /// Kind 8, revoked: the tree of the vouched size has the vouched root.
    Revoked(Box<Revocation>),
    /// Kind 11: the payloads of these segments, inclusive, may be absent.
    Pruned {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

/// The state of a log after some of its entries: everything that decides whether the next one may follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRules {
    size: Size,
    last: Hash,
    origin: Option<Origin>,
    keys: Keys,
    topics: Topics,
    epoch: Option<Epoch>,
    completeness: Completeness,
    is_closed: bool,
    /// Offsets cannot be accounted for until the next segment begins: some entry of this one is not known.
    has_lost_offsets: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Epoch {
    number: u64,
    classes: Vec<String>,
    /// Some epoch may have been opened since in an entry that is not known.
    is_stale: bool,
}

impl Default for LogRules {
    fn default() -> LogRules {
        LogRules::new()
    }
}

impl LogRules {
    /// The state before seq 0.
    pub fn new() -> LogRules {
        LogRules {
            size: Size(0),
            last: Hash::ZERO,
            origin: None,
            keys: Keys::default(),
            topics: Topics::default(),
            epoch: None,
            completeness: Completeness::default(),
            is_closed: false,
            has_lost_offsets: false,
        }
    }

    /// Takes the next leaf of a log that is written: its place, its `prev`, and every rule. Allocates nothing for an
    /// event.
    ///
    /// # Errors
    /// The first rule broken. The state is then spoiled and must be dropped.
    pub fn accept(&mut self, leaf: &LeafView<'_>, leaf_hash: Hash) -> Result<Option<Claim>, Fault> {
        let seq = self.size.next_seq();
        if leaf.seq != seq {
            return Err(Fault::at(seq, Code::SeqGap, "seq", seq, leaf.seq));
        }
        if leaf.prev != self.last {
            return Err(Fault::at(seq, Code::ChainLink, "prev", self.last, leaf.prev));
        }
        let claim = if leaf.kind == 0 {
            leaf.src.and_then(|position| self.event(seq, position)).map_or(Ok(None), Err)
        } else {
            let body = leaf.body().map_err(|refused| Fault::refused(Some(seq), "leaf", refused))?;
            let mut faults = Vec::new();
            let claim = self.apply(seq, leaf.src, &body, &mut faults);
            faults.into_iter().next().map_or(Ok(claim), Err)
        }?;
        self.last = leaf_hash;
        Ok(claim)
    }

    /// Takes the event at `seq` of the record at `position`; its place and `prev` are the caller's to check.
    pub fn event(&mut self, seq: Seq, position: Position) -> Option<Fault> {
        let closed = self.step(seq);
        let undeclared = self.topics.check(seq, position.partition());
        if closed.is_some() || undeclared.is_some() {
            return closed.or(undeclared);
        }
        let fault = if self.has_lost_offsets { None } else { self.completeness.entry(position) };
        fault.map(|fault| offset_fault(Some(seq), fault))
    }

    /// Takes the entry at `seq` of any kind, adding what it breaks to `faults`; its place and `prev` are the caller's
    /// to check.
    pub fn apply(&mut self, seq: Seq, src: Option<Position>, body: &Body, faults: &mut Vec<Fault>) -> Option<Claim> {
        if let Some(position) = src {
            faults.extend(self.event(seq, position));
            return None;
        }
        faults.extend(self.step(seq));
        match body {
            Body::LogOpened(opened) => {
                self.origin = Some(opened.origin.clone());
                faults.extend(self.keys.open(seq, opened));
            }
            Body::TopicDeclared(topic) => faults.extend(self.topics.declare(seq, topic)),
            Body::Gap(ranges) => {
                for range in ranges {
                    faults.extend(self.gap(seq, range.partition, range.first, range.last));
                }
            }
            Body::Overlap { partition, .. } => faults.extend(self.topics.check(seq, *partition)),
            Body::Observed { ends, .. } => {
                faults.extend(ends.iter().filter_map(|end| self.topics.check(seq, end.partition)));
            }
            Body::EpochOpened { epoch, classes } => faults.extend(self.open_epoch(seq, *epoch, classes)),
            Body::KeyChanged { note, step } => return self.keys.change(seq, self.origin.as_ref(), note, *step, faults),
            Body::LogClosed { .. } => self.is_closed = true,
            Body::SegmentSealed { seal, payload, segment, .. } => {
                return Some(Claim::Sealed { segment: *segment, seal: *seal, payload: *payload });
            }
            Body::RetentionExpired { pruned: Some((first, last)), .. } => {
                return Some(Claim::Pruned { first: *first, last: *last });
            }
            _ => {}
        }
        None
    }

    /// Moves past `seq`; nothing may follow log-closed, which is said of the first entry that does.
    fn step(&mut self, seq: Seq) -> Option<Fault> {
        self.size = seq.size();
        let was_closed = std::mem::replace(&mut self.is_closed, false);
        was_closed.then(|| Fault::at(seq, Code::NonCanonical, "log-closed", "no further entry", "an entry"))
    }

    fn gap(&mut self, seq: Seq, partition: Partition, first: u64, last: u64) -> Option<Fault> {
        if let Some(undeclared) = self.topics.check(seq, partition) {
            return Some(undeclared);
        }
        let fault = if self.has_lost_offsets { None } else { self.completeness.gap(partition, first, last) };
        fault.map(|fault| offset_fault(Some(seq), fault))
    }

    fn open_epoch(&mut self, seq: Seq, number: u64, classes: &[String]) -> Option<Fault> {
        let fault = match &self.epoch {
            None if number == 0 => None,
            None => Some(Fault::at(seq, Code::NonCanonical, "epoch", 0, number)),
            Some(last) if last.is_stale && number > last.number => None,
            Some(last) if !last.is_stale && number != last.number + 1 => {
                Some(Fault::at(seq, Code::NonCanonical, "epoch", last.number + 1, number))
            }
            Some(last) if !last.is_stale && !classes.starts_with(&last.classes) => {
                Some(Fault::at(seq, Code::NonCanonical, "classes", last.classes.join(", "), classes.join(", ")))
            }
            Some(_) => None,
        };
        self.epoch = Some(Epoch { number, classes: classes.to_vec(), is_stale: false });
        fault
    }

    /// Ends a segment: the rows its Seal must have, or `None` where some entry of it is not known.
    pub fn end_segment(&mut self, faults: &mut Vec<Fault>) -> Option<Vec<Source>> {
        if self.has_lost_offsets {
            return None;
        }
        let (sources, at_end) = self.completeness.end_segment();
        faults.extend(at_end.into_iter().map(|fault| offset_fault(None, fault)));
        Some(sources)
    }

    /// Begins a segment after `size` entries whose Seal has these rows. They matter only after a loss.
    pub fn begin_segment(&mut self, size: Size, sources: &[Source]) {
        self.size = size;
        if std::mem::replace(&mut self.has_lost_offsets, false) {
            self.completeness.resume(sources);
        } else {
            self.completeness.adopt(sources);
        }
    }

    /// Some entries, from here on, could not be read: what may have depended on them makes no finding.
    pub fn lose(&mut self) {
        self.keys.lose(self.size);
        self.topics.lose();
        match &mut self.epoch {
            Some(epoch) => epoch.is_stale = true,
            None => self.epoch = Some(Epoch { number: 0, classes: Vec::new(), is_stale: true }),
        }
        self.has_lost_offsets = true;
        self.is_closed = false;
    }

    /// The tree that the newest key change vouches for is another one ([`Claim::Revoked`]): the note is refused, and
    /// the key before it goes on.
    pub fn refuse_key(&mut self) {
        self.keys.refuse();
    }

    /// The number of entries.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The leaf hash of the last entry that was accepted.
    pub fn last(&self) -> Hash {
        self.last
    }

    /// The log's name, once kind 1 was seen.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The key that signs at the size reached, if known.
    pub fn key(&self) -> Option<&Vkey> {
        self.keys.at(self.size)
    }

    /// The key of size `size`, which is at most the size reached; `None` where the entry that names it is not known.
    pub fn key_at(&self, size: Size) -> Option<&Vkey> {
        self.keys.at(size)
    }

    /// Every key the log was seen to name, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &Vkey> {
        self.keys.all()
    }

    /// The keys with the sizes they sign from on, oldest first; those left out whose naming entry is not known.
    pub fn key_spans(&self) -> impl Iterator<Item = (Size, &Vkey)> {
        self.keys.spans.iter().filter_map(|(from, key)| key.as_ref().map(|key| (*from, key)))
    }

    /// The key of kind 1, if that entry was seen.
    pub fn first_key(&self) -> Option<&Vkey> {
        self.keys.first()
    }

    /// The recovery key of kind 1, if that entry was seen.
    pub fn recovery(&self) -> Option<&Vkey> {
        self.keys.recovery()
    }

    /// The epoch opened last, and the names of its classes by index.
    pub fn epoch(&self) -> Option<(u64, &[String])> {
        self.epoch.as_ref().map(|epoch| (epoch.number, epoch.classes.as_slice()))
    }

    /// How many partitions topic `topic_no` was declared with, if it was.
    pub fn partitions_of(&self, topic_no: u64) -> Option<u64> {
        self.topics.partitions_of(topic_no)
    }

    /// The account of offsets.
    pub fn completeness(&self) -> &Completeness {
        &self.completeness
    }

    /// Whether the last entry is log-closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

fn offset_fault(seq: Option<Seq>, fault: OffsetFault) -> Fault {
    let place = format!("partition {}", fault.partition);
    let (expected, found) = (format!("offset {}", fault.expected), format!("offset {}", fault.found));
    Fault { code: fault.code, seq, place, expected, found }
}

#[cfg(test)]
mod tests;
