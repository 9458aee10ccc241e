//! The writer: the one owner of an open log. Entries go in here and nowhere else.
//!
//! It gives each entry its place, chains it, and applies to it the very rules the audit applies, so that nothing is
//! written that the audit would refuse. How the log is opened is in `open`, how entries become durable in `commit`.

mod commit;
mod open;
mod tail;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use open::Opening;

use super::committer::Committer;
use super::counts::Counts;
use super::epoch::{Epoch, month};
use super::error::SidecarError;
use super::handover::LogKeys;
use super::known::{SharedKnown, lock};
use super::memo::Memo;
use super::random::Random;
use super::reader::Reader;
use super::topics::Topics;
use crate::core::codec;
use crate::core::hash::Hash;
use crate::core::leaf::{Body, Leaf, LeafView, Topic};
use crate::core::merkle::Tree;
use crate::core::note::{Skey, Vkey};
use crate::core::origin::Origin;
use crate::core::part::{Key, RecordMacKey, Sealed};
use crate::core::position::{Partition, Position};
use crate::core::record::Record;
use crate::core::rules::{Claim, LogRules};
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;
use crate::journal::{self, Commit, Entry, Journal, OutboxChange, PositionRow};
use crate::keyring::Keyring;
use commit::Pending;
use tail::Tail;

/// Classes that every log has, before the configured ones.
pub(super) const OPERATOR: u32 = 0;
/// The class of records that are no event of ours.
pub(super) const QUARANTINE: u32 = 1;

/// The open log.
pub struct Writer {
    origin: Origin,
    oid: Hash,
    /// The key that signs what is recorded now: it is one of `keys`.
    key: Arc<Skey>,
    pub(super) keys: LogKeys,
    /// Whether a revocation waits for the recovery key.
    pub(super) is_revoking: bool,
    pub(super) journal: Arc<Journal>,
    pub(super) keyring: Keyring,
    rules: LogRules,
    /// The rules after the last sealed segment: what the next one starts from.
    sealed_rules: LogRules,
    tree: Tree,
    prev: Hash,
    topics: Topics,
    epoch: Epoch,
    known: SharedKnown,
    tail: Tail,
    counts: Counts,
    pending: Pending,
    committer: Committer,
    /// The positions of the commit under way, or of the one unsent.
    under_way: BTreeMap<Partition, PositionRow>,
    /// How many commits were begun, and how many of them are durable.
    commits_begun: u64,
    commits_durable: u64,
    /// A commit the disk had no room for.
    unsent: Option<Box<Commit>>,
    recorded_at: Timestamp,
    /// Which step back of the clock is already written down: what the newest time was then.
    clock_step: Option<Timestamp>,
    /// Set until the first entry of this process: then kind 22 goes before it.
    software: Option<String>,
    random: Random,
    pub(super) reader: Reader,
}

/// What waits for the next seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Waiting {
    /// Entries that are not our own: only they start the clock.
    pub(super) entries: u64,
    /// When the oldest of them was recorded.
    pub(super) oldest: Option<Timestamp>,
    /// The frame bytes of all entries.
    pub(super) frame_bytes: u64,
}

const ROW_SEALED_RULES: &str = "sealed-rules/";
const ROW_EPOCHS: &str = "epoch/";
pub(super) const ROW_EPOCH: &str = "epoch-opened-at";
pub(super) const ROW_COUNTS: &str = "counts";
pub(super) const ROW_KEYRING: &str = "keyring-mark";

/// The row with the first seq of epoch `number`.
pub(super) fn epoch_row(number: u64) -> String {
    format!("{ROW_EPOCHS}{number:08}")
}

/// The row of the `n`th chunk of the rules after the last sealed segment.
pub(super) fn sealed_rules_row(n: usize) -> String {
    format!("{ROW_SEALED_RULES}{n:04}")
}

impl Writer {
    /// What waits for the next seal.
    pub(super) fn waiting(&self) -> Waiting {
        self.tail.waiting()
    }

    /// The rules after the last sealed segment.
    pub(super) fn sealed_rules(&self) -> &LogRules {
        &self.sealed_rules
    }

    /// Notes, for the next commit, that a segment is sealed, which ends with these rules.
    pub(super) fn set_sealed(&mut self, seal: journal::Seal, rules: LogRules) {
        let bytes = rules.to_bytes();
        let chunks = bytes.chunks(journal::ROW_BYTES_MAX).map(|chunk| Some(chunk.to_vec()));
        // Rules only grow, so no chunk of an earlier one stays behind.
        for (n, chunk) in chunks.enumerate() {
            self.put_row(&sealed_rules_row(n), chunk);
        }
        self.sealed_rules = rules;
        self.pending.seal = Some(seal);
    }

    /// Lets go of the log, its last head written out.
    ///
    /// # Errors
    /// `Journal` where the head file could not be written; nothing is lost.
    pub fn close(self) -> Result<(), SidecarError> {
        let Writer { journal, committer, .. } = self;
        // The committer shares the journal; a commit under way is durable when it is gone.
        drop(committer);
        match Arc::into_inner(journal) {
            Some(journal) => Ok(journal.close()?),
            None => Ok(()),
        }
    }

    /// The log's name.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// `SHA-256(origin)`.
    pub fn oid(&self) -> Hash {
        self.oid
    }

    /// The log's key.
    pub(super) fn key(&self) -> &Skey {
        &self.key
    }

    /// The same, for a thread that signs beside us: there is one copy of it in memory.
    pub(super) fn shared_key(&self) -> Arc<Skey> {
        Arc::clone(&self.key)
    }

    /// Signs with `key` from the next head on.
    pub(super) fn sign_with(&mut self, key: Arc<Skey>) {
        self.key = key;
    }

    /// The rules after everything pushed so far.
    pub(super) fn rules(&self) -> &LogRules {
        &self.rules
    }

    /// The number of entries, those of the next commit included.
    pub fn size(&self) -> Size {
        self.tree.size()
    }

    /// The root over all of them.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// How many entries of which kind.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The declared topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// What sources may know of the log.
    pub(super) fn known(&self) -> SharedKnown {
        Arc::clone(&self.known)
    }

    /// The newest epoch.
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Fresh random bytes for one sealing.
    pub(super) fn random<const N: usize>(&mut self) -> Result<[u8; N], SidecarError> {
        self.random.take()
    }

    /// When the entry being made is recorded: now, but never before an earlier one. A clock that was set back by more
    /// than a second is an entry of its own, once.
    ///
    /// # Errors
    /// Those of `push`.
    pub(super) fn record_time(&mut self, now: Timestamp) -> Result<Timestamp, SidecarError> {
        if let Some(at) = self.record_time_known(now) {
            return Ok(at);
        }
        let newest = self.recorded_at;
        self.push(Body::ClockStep { after: now, before: newest }, None, Vec::new())?;
        self.put_row(ROW_CLOCK, Some(newest.0.to_be_bytes().to_vec()));
        self.clock_step = Some(newest);
        Ok(newest)
    }

    /// The same where it adds no entry.
    pub(super) fn record_time_known(&mut self, now: Timestamp) -> Option<Timestamp> {
        const TOLERANCE: u64 = 1_000_000;
        let newest = self.recorded_at;
        if now.plus(TOLERANCE) < newest && self.clock_step != Some(newest) {
            return None;
        }
        self.recorded_at = newest.max(now);
        Some(self.recorded_at)
    }

    /// The place the next entry gets, once the entry that says we started stands before it.
    ///
    /// # Errors
    /// Those of `push`.
    pub(super) fn begin_entries(&mut self) -> Result<Seq, SidecarError> {
        if let Some(software) = self.software.take() {
            self.push(Body::Started { software }, None, Vec::new())?;
        }
        Ok(self.tree.size().next_seq())
    }

    /// The public half of the key that signs now.
    pub fn vkey(&self) -> &Vkey {
        self.key.vkey()
    }

    /// Whether the log's last entry is written: nothing follows it, not even what became of its last segment.
    pub(super) fn is_closed(&self) -> bool {
        self.rules.is_closed()
    }

    /// The key of `class` in the newest epoch.
    ///
    /// # Errors
    /// `KeyGone`.
    pub(super) fn class_key(&self, class: u32) -> Result<Key, SidecarError> {
        let key = usize::try_from(class).ok().and_then(|class| self.epoch.keys.get(class));
        key.cloned().ok_or_else(|| SidecarError::KeyGone(format!("class {class} of epoch {}", self.epoch.number)))
    }

    /// Appends an entry to the next commit and gives its place.
    ///
    /// # Errors
    /// `Unsound` where the audit would refuse it: then nothing may be committed any more.
    pub(super) fn push(&mut self, body: Body, src: Option<Position>, parts: Vec<Sealed>) -> Result<Seq, SidecarError> {
        if self.rules.is_closed() {
            return Err(SidecarError::Closed(self.origin.to_string()));
        }
        let seq = self.begin_entries()?;
        let (refs, frames) = parts.into_iter().map(|sealed| (sealed.part, sealed.frame)).unzip();
        let leaf = Leaf { seq, src, prev: self.prev, body, parts: refs };
        let bytes = codec::encode(&leaf);
        self.accept(bytes, frames)?;
        Ok(seq)
    }

    /// Takes the bytes of the next leaf, exactly as an audit will.
    fn accept(&mut self, leaf: Vec<u8>, frames: Vec<Vec<u8>>) -> Result<Option<Claim>, SidecarError> {
        let view = own("a leaf about to be written", LeafView::decode(&leaf))?;
        let leaf_hash = Hash::leaf(&leaf);
        let claim = self.rules.accept(&view, leaf_hash)?;
        self.counts.add(&view);
        self.tail.push(view.kind, &frames, Some(self.recorded_at));
        self.tree.append(leaf_hash);
        self.prev = leaf_hash;
        self.pending.leaf_bytes += leaf.len();
        self.pending.frame_bytes += frames.iter().map(Vec::len).sum::<usize>();
        self.pending.entries.push(Entry { leaf, frames });
        Ok(claim)
    }

    /// Declares a topic (kind 2).
    pub(super) fn declare(&mut self, topic: Topic) -> Result<u64, SidecarError> {
        let topic_no = topic.topic_no;
        self.push(Body::TopicDeclared(Box::new(topic.clone())), None, Vec::new())?;
        for no in self.topics.declare(&topic) {
            let (name, value) = self.topics.journal_row(no);
            self.put_row(&name, value);
        }
        Ok(topic_no)
    }

    /// The index of `class`, where it has one and the epoch is of this month: then `class` adds no entry.
    pub(super) fn class_known(&self, class: &str, now: Timestamp) -> Option<u32> {
        let index = self.epoch.classes.iter().position(|known| known == class)?;
        if month(now) > month(self.epoch.opened_at) { None } else { u32::try_from(index).ok() }
    }

    /// Makes sure that `class` has an index and that the epoch is of this month; opens a new epoch (kind 18) if not.
    pub(super) fn class(&mut self, class: &str, now: Timestamp) -> Result<u32, SidecarError> {
        if let Some(index) = self.class_known(class, now) {
            return Ok(index);
        }
        let mut classes = self.epoch.classes.clone();
        if !classes.iter().any(|known| known == class) {
            classes.push(class.to_owned());
        }
        let number = self.epoch.number + 1;
        self.keyring.open_epoch(number, &classes)?;
        self.epoch = Epoch::load(&mut self.keyring, self.oid, number, classes.clone(), now)?;
        let index = classes.iter().position(|known| known == class).and_then(|index| u32::try_from(index).ok());
        let seq = self.push(Body::EpochOpened { epoch: number, classes }, None, Vec::new())?;
        self.reader.begin_epoch(seq);
        self.note_epoch(number, seq, now);
        index.ok_or_else(|| SidecarError::KeyGone(format!("class {class}")))
    }

    fn note_epoch(&mut self, number: u64, seq: Seq, now: Timestamp) {
        self.put_row(&epoch_row(number), Some(seq.0.to_be_bytes().to_vec()));
        self.put_row(ROW_EPOCH, Some(now.0.to_be_bytes().to_vec()));
    }

    /// Moves a position with the next commit.
    pub(super) fn set_position(&mut self, partition: Partition, row: PositionRow) {
        self.pending.positions.insert(partition, row);
    }

    /// Where a partition stands, the next commit included.
    pub(super) fn position(&self, partition: Partition) -> Option<PositionRow> {
        let newest = self.pending.positions.get(&partition).or_else(|| self.under_way.get(&partition)).cloned();
        newest.or_else(|| lock(&self.known).positions.get(&partition).cloned())
    }

    /// Whether `record` is the last one archived of `partition`; `None` where that can no longer be told.
    pub(super) fn is_last_record(&mut self, partition: Partition, record: &Record) -> Option<bool> {
        let row = self.position(partition)?;
        let class_0 = self.keyring.epoch_key(OPERATOR, Memo::decode(&row.memo).epoch).ok().flatten()?;
        Some(RecordMacKey::new(&class_0, self.oid).record_mac(record) == row.record_mac?)
    }

    /// Sets a small row of the journal with the next commit.
    pub(super) fn put_row(&mut self, name: &str, value: Option<Vec<u8>>) {
        self.pending.rows.insert(name.to_owned(), value);
    }

    /// Changes the outbox with the next commit.
    pub(super) fn put_outbox(&mut self, segment: u64, name: &str, value: Option<Vec<u8>>) {
        self.pending.outbox.push(OutboxChange { segment, name: name.to_owned(), value });
    }
}

const ROW_CLOCK: &str = "clock-step";

/// Bytes of our own that must read.
pub(super) fn own<T>(doing: &'static str, read: Result<T, crate::core::finding::Refused>) -> Result<T, SidecarError> {
    read.map_err(|refused| SidecarError::Own { doing, refused })
}

pub(super) fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}
