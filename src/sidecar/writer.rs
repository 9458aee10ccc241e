//! The writer: the one owner of an open log. Entries go in here and nowhere else.
//!
//! It gives each entry its place, chains it, and applies to it the very rules the audit applies, so that nothing is
//! written that the audit would refuse. `commit` is commit point 1: keys durable first, then leaves, frames,
//! positions and the live head in one transaction, then our own fdatasync. A writer that failed to commit is dropped;
//! what was not committed is polled again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::TryRng;
use serde::{Deserialize, Serialize};

use super::error::SidecarError;
use super::reader::{Reader, first_part};
use super::topics::{self, TopicRow, Topics};
use crate::core::checkpoint::{Head, sign_live};
use crate::core::codec;
use crate::core::hash::Hash;
use crate::core::leaf::{Body, Leaf, LeafView, Topic, is_own, kind_name};
use crate::core::merkle::Tree;
use crate::core::note::Skey;
use crate::core::origin::Origin;
use crate::core::part::{Key, RecordMacKey, Sealed, SealingKey};
use crate::core::position::{Partition, Position};
use crate::core::record::Record;
use crate::core::rules::{Claim, LogRules};
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;
use crate::journal::{self, Advance, Commit, Entry, Fate, Journal, Live, OutboxChange, PositionRow};
use crate::keyring::{Keyring, Mark, SubjectRef};

/// Classes that every log has, before the configured ones.
pub(super) const OPERATOR: u32 = 0;
/// The class of records that are no event of ours.
pub(super) const QUARANTINE: u32 = 1;

/// What sources may know of the log; they ask from their own threads.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The declared topics.
    pub(super) topics: Topics,
    /// The committed positions.
    pub(super) positions: BTreeMap<Partition, PositionRow>,
}

/// Shared between the writer, which changes it at commits, and the sources.
pub(super) type SharedKnown = Arc<Mutex<Known>>;

/// The open log.
pub struct Writer {
    origin: Origin,
    oid: Hash,
    key: Skey,
    pub(super) journal: Journal,
    pub(super) keyring: Keyring,
    rules: LogRules,
    /// The rules after the last sealed segment: what the next one starts from.
    sealed_rules: LogRules,
    tree: Tree,
    prev: Hash,
    topics: Topics,
    epoch: Epoch,
    known: SharedKnown,
    waiting: Waiting,
    counts: Counts,
    pending: Pending,
    /// A commit the disk had no room for.
    unsent: Option<Box<Commit>>,
    recorded_at: Timestamp,
    /// Set until the first entry of this process: then kind 22 goes before it.
    software: Option<String>,
    random: Random,
    pub(super) reader: Reader,
}

/// The newest epoch, and the keys of its classes.
pub(super) struct Epoch {
    pub(super) number: u64,
    pub(super) classes: Vec<String>,
    pub(super) keys: Vec<Key>,
    pub(super) opened_at: Timestamp,
    pub(super) operator: SealingKey,
    pub(super) record_mac: RecordMacKey,
}

/// What the next commit holds.
#[derive(Default)]
struct Pending {
    entries: Vec<Entry>,
    leaf_bytes: usize,
    frame_bytes: usize,
    positions: BTreeMap<Partition, PositionRow>,
    rows: BTreeMap<String, Option<Vec<u8>>>,
    outbox: Vec<OutboxChange>,
}

/// Random bytes of the operating system, drawn in large blocks: a system call for each part would cost more than its
/// encryption.
struct Random {
    block: Vec<u8>,
    at: usize,
}

impl Random {
    const BLOCK: usize = 64 * 1024;

    fn new() -> Random {
        Random { block: vec![0; Random::BLOCK], at: Random::BLOCK }
    }

    /// `N` bytes that were never given before; they are wiped from the block.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SidecarError> {
        if self.at + N > self.block.len() {
            rand::rngs::SysRng.try_fill_bytes(&mut self.block).map_err(|_| SidecarError::NoRandom)?;
            self.at = 0;
        }
        let Some(bytes) = self.block.get_mut(self.at..self.at + N) else { return Err(SidecarError::NoRandom) };
        let mut taken = [0; N];
        taken.copy_from_slice(bytes);
        bytes.fill(0);
        self.at += N;
        Ok(taken)
    }
}

/// How many entries the log has, by kind and by reason: for `status` and metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Entries by the name of their kind.
    pub entries: BTreeMap<String, u64>,
    /// Quarantined records by reason.
    pub quarantined: BTreeMap<String, u64>,
    /// Declared ranges without entries by reason.
    pub gaps: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, view: &LeafView<'_>) {
        let count = |of: &mut BTreeMap<String, u64>, name: &str| match of.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(of.insert(name.to_owned(), 1)),
        };
        count(&mut self.entries, kind_name(view.kind));
        match (view.kind, view.body()) {
            (4, Ok(Body::Quarantined { reason })) => count(&mut self.quarantined, reason.as_str()),
            (3, Ok(Body::Gap(ranges))) => ranges.iter().for_each(|range| count(&mut self.gaps, range.reason.as_str())),
            _ => {}
        }
    }
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
const ROW_EPOCH: &str = "epoch-opened-at";
const ROW_COUNTS: &str = "counts";
const ROW_KEYRING: &str = "keyring-mark";

/// What a log is opened with.
pub struct Opening {
    /// Its name.
    pub origin: Origin,
    /// Its key.
    pub key: Skey,
    /// Its journal.
    pub journal: Journal,
    /// Its keyring, not yet asked for anything.
    pub keyring: Keyring,
}

impl Writer {
    /// Begins a log in an empty journal: log-opened and the first epoch, durable on return.
    ///
    /// # Errors
    /// Those of journal and keyring.
    pub fn create(
        opening: Opening,
        recovery: &str,
        classes: &[String],
        now: Timestamp,
    ) -> Result<Writer, SidecarError> {
        let Opening { origin, key, journal, mut keyring } = opening;
        let mut names = vec!["operator".to_owned(), "quarantine".to_owned()];
        names.extend(classes.iter().filter(|class| !names.contains(class)).cloned().collect::<Vec<_>>());
        keyring.open_epoch(0, &names)?;
        let epoch = Epoch::load(&mut keyring, origin.oid(), 0, names.clone(), now)?;
        let opened = crate::core::leaf::Opened {
            vkey: key.vkey().to_string(),
            origin: origin.clone(),
            recovery: recovery.to_owned(),
            continues: None,
        };
        let mut writer = Writer::new(origin, key, journal, keyring, epoch, now, vec![Seq(1)])?;
        writer.software = None;
        writer.push(Body::LogOpened(Box::new(opened)), None, Vec::new())?;
        writer.push(Body::EpochOpened { epoch: 0, classes: names }, None, Vec::new())?;
        writer.note_epoch(0, Seq(1), now);
        writer.commit()?;
        writer.software = Some(software());
        Ok(writer)
    }

    fn new(
        origin: Origin,
        key: Skey,
        journal: Journal,
        keyring: Keyring,
        epoch: Epoch,
        now: Timestamp,
        epochs: Vec<Seq>,
    ) -> Result<Writer, SidecarError> {
        Ok(Writer {
            reader: Reader::new(origin.oid(), epochs)?,
            oid: origin.oid(),
            origin,
            key,
            journal,
            keyring,
            rules: LogRules::new(),
            sealed_rules: LogRules::new(),
            tree: Tree::new(),
            prev: Hash::ZERO,
            topics: Topics::default(),
            epoch,
            known: SharedKnown::default(),
            waiting: Waiting::default(),
            counts: Counts::default(),
            unsent: None,
            pending: Pending::default(),
            recorded_at: now,
            software: Some(software()),
            random: Random::new(),
        })
    }

    /// Goes on with a log: takes the state its last commit left, and counts what the keyring had not yet counted.
    ///
    /// # Errors
    /// A halt where journal, keyring and key do not belong together.
    pub fn open(opening: Opening) -> Result<Writer, SidecarError> {
        let Opening { origin, key, journal, mut keyring } = opening;
        let state = journal.state();
        let rules = own("the saved rules of the log", LogRules::from_bytes(&journal.rules()?))?;
        let vkey = rules.key().map(ToString::to_string).unwrap_or_default();
        if vkey != key.vkey().to_string() {
            return Err(SidecarError::OtherKey { expected: vkey, found: key.vkey().to_string() });
        }
        if let Some(mark) = journal.row(ROW_KEYRING)? {
            keyring.require(Mark(be64(&mark)))?;
        }
        let (number, classes) = rules.epoch().map(|(number, classes)| (number, classes.to_vec())).unwrap_or_default();
        let opened_at = journal.row(ROW_EPOCH)?.map_or(state.recorded_at, |bytes| Timestamp(be64(&bytes)));
        let epoch = Epoch::load(&mut keyring, origin.oid(), number, classes, opened_at)?;
        let topic = |(_, value): (String, Vec<u8>)| serde_json::from_slice::<TopicRow>(&value).ok();
        let topics = journal.rows(topics::ROW_PREFIX)?.into_iter().filter_map(topic).collect();
        let positions = journal.positions()?.into_iter().collect();
        let epochs = journal.rows(ROW_EPOCHS)?.into_iter().map(|(_, seq)| Seq(be64(&seq))).collect();
        let mut writer = Writer::new(origin, key, journal, keyring, epoch, state.recorded_at, epochs)?;
        writer.rules = rules;
        let sealed =
            writer.journal.rows(ROW_SEALED_RULES)?.into_iter().flat_map(|(_, value)| value).collect::<Vec<u8>>();
        if !sealed.is_empty() {
            writer.sealed_rules = own("the saved rules of the last segment", LogRules::from_bytes(&sealed))?;
        }
        writer.tree = state.tree.clone();
        writer.prev = state.prev;
        writer.topics = Topics::new(topics);
        writer.known = Arc::new(Mutex::new(Known { topics: writer.topics.clone(), positions }));
        if let Some(counts) = writer.journal.row(ROW_COUNTS)? {
            writer.counts = serde_json::from_slice(&counts).unwrap_or_default();
        }
        writer.recount()?;
        Ok(writer)
    }

    /// Brings the keyring's counts of records, and what waits for the next seal, up to the journal's end.
    fn recount(&mut self) -> Result<(), SidecarError> {
        let size = self.journal.state().size();
        if self.keyring.counted_to() > size {
            self.keyring.recount();
        }
        let counted = self.keyring.counted_to();
        for entry in self.journal.entries(counted.next_seq(), size)? {
            let entry = entry?;
            let view = own("a stored leaf", LeafView::decode(&entry.leaf))?;
            let Some((part, frame)) = first_part(&view, &entry.frames).filter(|_| view.src.is_some()) else { continue };
            let operator = self.reader.operator(&mut self.keyring, entry.seq, part, frame)?;
            for key in operator.iter().flat_map(|part| &part.keys).filter(|key| key.class != QUARANTINE) {
                if let Ok(subject) = <[u8; 16]>::try_from(key.subject_ref.as_slice()) {
                    self.keyring.count(SubjectRef(subject), entry.seq)?;
                }
            }
        }
        self.await_seal()
    }

    /// Counts anew what waits for the next seal: at open, and after a seal that left entries behind.
    pub(super) fn await_seal(&mut self) -> Result<(), SidecarError> {
        let state = self.journal.state();
        self.waiting = Waiting::default();
        for entry in self.journal.entries(state.sealed.tree.size().next_seq(), state.size())? {
            let entry = entry?;
            let view = own("a stored leaf", LeafView::decode(&entry.leaf))?;
            let mut at = None;
            if let Some((part, frame)) = first_part(&view, &entry.frames).filter(|_| self.waiting.oldest.is_none()) {
                let operator = self.reader.operator(&mut self.keyring, entry.seq, part, frame)?;
                at = operator.map(|part| Timestamp(part.recorded_at));
            }
            self.wait(view.kind, &entry.frames, at);
        }
        Ok(())
    }

    /// Counts an entry among those that wait for the next seal.
    fn wait(&mut self, kind: u64, frames: &[Vec<u8>], at: Option<Timestamp>) {
        self.waiting.frame_bytes += frames.iter().map(|frame| u64::try_from(frame.len()).unwrap_or(0)).sum::<u64>();
        if !is_own(kind) {
            self.waiting.entries += 1;
            self.waiting.oldest = self.waiting.oldest.or(at);
        }
    }

    /// What waits for the next seal.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// The rules after the last sealed segment.
    pub(super) fn sealed_rules(&self) -> &LogRules {
        &self.sealed_rules
    }

    /// Notes, for the next commit, that a segment ends with these rules.
    pub(super) fn set_sealed_rules(&mut self, rules: LogRules) {
        let bytes = rules.to_bytes();
        let chunks = bytes.chunks(journal::ROW_BYTES_MAX).map(|chunk| Some(chunk.to_vec()));
        // Rules only grow, so no chunk of an earlier one stays behind.
        for (n, chunk) in chunks.enumerate() {
            self.put_row(&format!("{ROW_SEALED_RULES}{n:04}"), chunk);
        }
        self.sealed_rules = rules;
    }

    /// Lets go of the log, its last head written out.
    ///
    /// # Errors
    /// `Journal` where the head file could not be written; nothing is lost.
    pub fn close(self) -> Result<(), SidecarError> {
        Ok(self.journal.close()?)
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
        const TOLERANCE: u64 = 1_000_000;
        let newest = self.recorded_at;
        if now.plus(TOLERANCE) < newest && !self.pending_clock_step(newest) {
            self.push(Body::ClockStep { after: now, before: newest }, None, Vec::new())?;
            self.put_row(ROW_CLOCK, Some(newest.0.to_be_bytes().to_vec()));
        }
        self.recorded_at = newest.max(now);
        Ok(self.recorded_at)
    }

    /// Whether this very step back was already written down.
    fn pending_clock_step(&self, newest: Timestamp) -> bool {
        let written = self.pending.rows.get(ROW_CLOCK).cloned().or_else(|| self.journal.row(ROW_CLOCK).ok());
        written.flatten().is_some_and(|bytes| be64(&bytes) == newest.0)
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

    /// The key of parts of `class` in the newest epoch.
    pub(super) fn sealing_key(&self, class: u32, subject: Option<&Key>) -> Result<SealingKey, SidecarError> {
        let key = usize::try_from(class).ok().and_then(|class| self.epoch.keys.get(class));
        let key = key.ok_or_else(|| SidecarError::KeyGone(format!("class {class} of epoch {}", self.epoch.number)))?;
        Ok(SealingKey::new(key, subject))
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
        self.accept(&bytes, frames)?;
        Ok(seq)
    }

    /// Takes the bytes of the next leaf, exactly as an audit will.
    fn accept(&mut self, leaf: &[u8], frames: Vec<Vec<u8>>) -> Result<Option<Claim>, SidecarError> {
        let view = own("a leaf about to be written", LeafView::decode(leaf))?;
        let leaf_hash = Hash::leaf(leaf);
        let claim = self.rules.accept(&view, leaf_hash)?;
        self.counts.add(&view);
        self.wait(view.kind, &frames, Some(self.recorded_at));
        self.tree.append(leaf_hash);
        self.prev = leaf_hash;
        self.pending.leaf_bytes += leaf.len();
        self.pending.frame_bytes += frames.iter().map(Vec::len).sum::<usize>();
        self.pending.entries.push(Entry { leaf: leaf.to_vec(), frames });
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

    /// Makes sure that `class` has an index and that the epoch is of this month; opens a new epoch (kind 18) if not.
    pub(super) fn class(&mut self, class: &str, now: Timestamp) -> Result<u32, SidecarError> {
        let is_new = !self.epoch.classes.iter().any(|known| known == class);
        if is_new || month(now) > month(self.epoch.opened_at) {
            let mut classes = self.epoch.classes.clone();
            if is_new {
                classes.push(class.to_owned());
            }
            let number = self.epoch.number + 1;
            self.keyring.open_epoch(number, &classes)?;
            self.epoch = Epoch::load(&mut self.keyring, self.oid, number, classes.clone(), now)?;
            let seq = self.push(Body::EpochOpened { epoch: number, classes }, None, Vec::new())?;
            self.reader.begin_epoch(seq);
            self.note_epoch(number, seq, now);
        }
        let index = self.epoch.classes.iter().position(|known| known == class).unwrap_or(usize::MAX);
        Ok(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn note_epoch(&mut self, number: u64, seq: Seq, now: Timestamp) {
        self.put_row(&format!("{ROW_EPOCHS}{number:08}"), Some(seq.0.to_be_bytes().to_vec()));
        self.put_row(ROW_EPOCH, Some(now.0.to_be_bytes().to_vec()));
    }

    /// Moves a position with the next commit.
    pub(super) fn set_position(&mut self, partition: Partition, row: PositionRow) {
        self.pending.positions.insert(partition, row);
    }

    /// Where a partition stands, the next commit included.
    pub(super) fn position(&self, partition: Partition) -> Option<PositionRow> {
        let pending = self.pending.positions.get(&partition).cloned();
        pending.or_else(|| lock(&self.known).positions.get(&partition).cloned())
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

    /// Whether the next commit is as large as one may be.
    pub(super) fn is_commit_due(&self) -> bool {
        let pending = &self.pending;
        pending.entries.len() + ENTRIES_SPARE > journal::COMMIT_ENTRIES_MAX
            || pending.leaf_bytes + LEAF_SPARE > journal::COMMIT_LEAF_BYTES_MAX
            || pending.frame_bytes > COMMIT_FRAME_BYTES
            || pending.rows.len() + pending.positions.len() + pending.outbox.len() > journal::COMMIT_ROWS_MAX / 2
    }

    /// Commit point 1. On return everything pushed so far is durable.
    ///
    /// # Errors
    /// Those of keyring and journal. The writer is then to be dropped: what it holds in memory is ahead of the disk.
    pub(super) fn commit(&mut self) -> Result<(), SidecarError> {
        self.commit_with(None)
    }

    /// Tries again what a full disk left unwritten, if anything.
    ///
    /// # Errors
    /// As `commit`.
    pub(super) fn commit_again(&mut self) -> Result<(), SidecarError> {
        match self.unsent.take() {
            Some(unsent) => self.send(unsent),
            None => Ok(()),
        }
    }

    /// The same with a seal (commit point 2).
    pub(super) fn commit_with(&mut self, seal: Option<journal::Seal>) -> Result<(), SidecarError> {
        self.commit_again()?;
        let pending = std::mem::take(&mut self.pending);
        let mark = self.keyring.sync()?;
        let mut commit = Commit { seal, outbox: pending.outbox, ..Commit::default() };
        commit.rows = pending.rows.into_iter().collect();
        if !pending.entries.is_empty() {
            let head = Head { origin: self.origin.clone(), size: self.tree.size(), root: self.tree.root() };
            commit.live = Some(Live { tree: self.tree.clone(), note: sign_live(&head, &self.key) });
            commit.entries = pending.entries;
            commit.rules = Some(self.rules.to_bytes());
            commit.recorded_at = Some(self.recorded_at);
            commit.rows.push((ROW_COUNTS.to_owned(), serde_json::to_vec(&self.counts).ok()));
            commit.rows.push((ROW_KEYRING.to_owned(), Some(mark.0.to_be_bytes().to_vec())));
        }
        for (partition, row) in &pending.positions {
            let expected = lock(&self.known).positions.get(partition).map(|row| row.next_offset);
            commit.positions.push(Advance { partition: *partition, expected, row: row.clone() });
        }
        self.send(Box::new(commit))
    }

    /// Appends a commit; one that found no room is kept, and nothing goes before it.
    fn send(&mut self, commit: Box<Commit>) -> Result<(), SidecarError> {
        match self.journal.append(&commit) {
            Ok(_) => {
                let mut known = lock(&self.known);
                known.positions.extend(commit.positions.into_iter().map(|advance| (advance.partition, advance.row)));
                known.topics = self.topics.clone();
                Ok(())
            }
            Err(error) => {
                if error.fate() == Fate::Retry {
                    self.unsent = Some(commit);
                }
                Err(error.into())
            }
        }
    }
}

/// Room left in a commit for entries that come with others: started, clock-step, epoch-opened, declarations.
const ENTRIES_SPARE: usize = 16;
const LEAF_SPARE: usize = 64 * 1024;
/// Frame bytes after which a commit is made: a bound on memory, well below the journal's own.
const COMMIT_FRAME_BYTES: usize = 16 << 20;
const ROW_CLOCK: &str = "clock-step";

impl Epoch {
    fn load(
        keyring: &mut Keyring,
        oid: Hash,
        number: u64,
        classes: Vec<String>,
        opened_at: Timestamp,
    ) -> Result<Epoch, SidecarError> {
        let mut keys = Vec::with_capacity(classes.len());
        for class in 0..u32::try_from(classes.len()).unwrap_or(u32::MAX) {
            let gone = || SidecarError::KeyGone(format!("class {class} of epoch {number}"));
            keys.push(keyring.epoch_key(class, number)?.ok_or_else(gone)?);
        }
        let Some(operator) = keys.first() else {
            return Err(SidecarError::KeyGone(format!("class 0 of epoch {number}")));
        };
        let record_mac = RecordMacKey::new(operator, oid);
        let operator = SealingKey::new(operator, None);
        Ok(Epoch { number, classes, keys, opened_at, operator, record_mac })
    }
}

/// Name and version, as kind 22 has them.
fn software() -> String {
    format!("pinfold {}", env!("CARGO_PKG_VERSION"))
}

/// A lock is poisoned only if a thread panicked while holding it; what is inside is then still whole, because it is
/// changed by single inserts.
pub(super) fn lock(known: &SharedKnown) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is kept beside a position: which record was the last, under which epoch's key its MAC is, and what the source
/// wants to know again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Memo {
    /// The offset of the last archived record; gaps may follow it.
    pub(super) last: Option<u64>,
    /// The epoch at its entry.
    pub(super) epoch: u64,
    /// The source's own.
    pub(super) state: Vec<u8>,
}

impl Memo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let last = self.last.map_or(u64::MAX, |last| last);
        [&last.to_be_bytes()[..], &self.epoch.to_be_bytes(), &self.state].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Memo {
        let (head, state) = bytes.split_at_checked(16).unwrap_or((&[], &[]));
        let (last, epoch) = head.split_at_checked(8).unwrap_or((&[], &[]));
        let last = Some(be64(last)).filter(|last| !head.is_empty() && *last != u64::MAX);
        Memo { last, epoch: be64(epoch), state: state.to_vec() }
    }
}

/// Bytes of our own that must read.
pub(super) fn own<T>(doing: &'static str, read: Result<T, crate::core::finding::Refused>) -> Result<T, SidecarError> {
    read.map_err(|refused| SidecarError::Own { doing, refused })
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Months since year 0, UTC.
fn month(at: Timestamp) -> i32 {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    let date = jiff::Timestamp::from_microsecond(micros).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    date.map_or(0, |date| i32::from(date.year()) * 12 + i32::from(date.month()))
}
