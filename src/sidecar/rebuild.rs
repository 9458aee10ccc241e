//! The journal made anew from an archive: every segment read again, everything the journal keeps derived from it.
//!
//! Not the audit, which the caller makes first over the same bytes, and not the putting in place, which is the
//! journal's. What cannot be derived is the tail behind the last seal: it is folded again from the broker, with other
//! hashes, so a head of it that is known outside is lost and said so (kind 13). Spec: overview.md, "The straight line" 7.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::contested::GroupMark;
use super::counts::Counts;
use super::error::SidecarError;
use super::memo::Memo;
use super::outbox::Task;
use super::reader::{Reader, count_people, first_part};
use super::seal::Files;
use super::stated::Stated;
use super::stored::Stored;
use super::topics::Topics;
use super::writer::{self, Writer, own};
use crate::archive::anchor::supersedes;
use crate::core::car::Limits;
use crate::core::checkpoint::{Head, Statement, sign_live};
use crate::core::cid::Cid;
use crate::core::hash::Hash;
use crate::core::leaf::{Body, LeafView, RestoredWhat};
use crate::core::merkle::Tree;
use crate::core::note::{Skey, Vkey};
use crate::core::origin::Origin;
use crate::core::position::Partition;
use crate::core::rules::LogRules;
use crate::core::segment::read::Proof;
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;
use crate::journal::{OutboxRow, PositionRow, ROW_BYTES_MAX, Restored, SealRow, Sealed};
use crate::keyring::{Keyring, SubjectRef};
use crate::proto::v1::OperatorPart;

/// What a rebuilt journal still has to say, in a row of it until it is said.
const ROW_RESTORED: &str = "restored";

/// The log as its archive has it, up to the last seal.
pub struct Retraced {
    origin: Origin,
    keyring: Keyring,
    rules: LogRules,
    tree: Tree,
    prev: Hash,
    seals: Vec<SealRow>,
    reader: Reader,
    counts: Counts,
    topics: Topics,
    epochs: Vec<Seq>,
    /// When the newest epoch was opened, as the first record after it says.
    epoch_opened_at: Option<Timestamp>,
    recorded_at: Timestamp,
    positions: BTreeMap<Partition, PositionRow>,
    stated: Stated,
    /// Keys the operator parts name and the keyring lacks.
    keys_missing: u64,
    /// Whether an entry says that keys were destroyed.
    has_destroyed_keys: bool,
    /// The roots at the sizes asked for.
    roots: BTreeMap<Size, Hash>,
}

/// Entries that the rebuilt journal begins with.
#[derive(Serialize, Deserialize)]
struct Unsaid {
    at: Timestamp,
    /// The lost head: size, and root in hex.
    lost: Option<(u64, String)>,
    /// Segments whose kind 5 entry was lost with the tail.
    sealed: Vec<u64>,
}

impl Retraced {
    /// Reads the segments of `archive`, which was audited, in order. `sizes` are those whose roots will be asked for.
    /// The keyring opens operator parts: positions need their record MACs, people their counts. Nothing is written.
    ///
    /// # Errors
    /// A halt where the keyring does not open what the archive holds; `File` where the archive cannot be read.
    pub fn read(
        origin: &Origin,
        mut keyring: Keyring,
        archive: &Path,
        segments: u64,
        sizes: &[Size],
    ) -> Result<Retraced, SidecarError> {
        // Counts of the lost tail would be counted twice.
        keyring.recount();
        let mut retraced = Retraced {
            origin: origin.clone(),
            keyring,
            rules: LogRules::new(),
            tree: Tree::new(),
            prev: Hash::ZERO,
            seals: Vec::new(),
            reader: Reader::new(origin.oid(), Vec::new())?,
            counts: Counts::default(),
            topics: Topics::default(),
            epochs: Vec::new(),
            epoch_opened_at: None,
            recorded_at: Timestamp(0),
            positions: BTreeMap::new(),
            stated: Stated::default(),
            keys_missing: 0,
            has_destroyed_keys: false,
            roots: sizes.iter().map(|size| (*size, Hash::ZERO)).collect(),
        };
        retraced.note_root();
        for segment in 0..segments {
            retraced.segment(archive, segment)?;
        }
        if retraced.keys_missing > 0 && !retraced.has_destroyed_keys {
            // An older copy would meet known people as strangers, and give their records other keys.
            let what = format!("{} keys that the archive's entries name", retraced.keys_missing);
            return Err(SidecarError::KeyGone(what));
        }
        let size = retraced.tree.size();
        retraced.roots.retain(|known, _| *known <= size);
        Ok(retraced)
    }

    /// The number of entries.
    pub fn size(&self) -> Size {
        self.tree.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The key of that size.
    pub fn key(&self) -> Option<&Vkey> {
        self.rules.key()
    }

    /// The roots at the sizes asked for, those beyond the archive left out.
    pub fn roots(&self) -> &BTreeMap<Size, Hash> {
        &self.roots
    }

    /// A registry that knows nothing of the log is a newcomer, whatever it once had: it gets all rows.
    pub fn forget_registry(&mut self, name: &str) {
        self.stated.forget_registry(name);
    }

    fn note_root(&mut self) {
        if let Some(root) = self.roots.get_mut(&self.tree.size()) {
            *root = self.tree.root();
        }
    }

    fn segment(&mut self, archive: &Path, segment: u64) -> Result<(), SidecarError> {
        let row = seal_row(archive, segment)?;
        let stored = Stored::read(archive, &row)?;
        for leaf in &stored.leaves {
            let view = own("a leaf of the archive", LeafView::decode(leaf))?;
            let leaf_hash = Hash::leaf(leaf);
            self.rules.accept(&view, leaf_hash)?;
            self.counts.add(&view);
            self.tree.append(leaf_hash);
            self.prev = leaf_hash;
            self.note_root();
            let frame = stored.frame(view.seq, 0).map(<[u8]>::to_vec);
            let operator = match first_part(&view, frame.as_slice()).filter(|_| view.src.is_some()) {
                Some((part, frame)) => {
                    let operator = self.reader.operator(&mut self.keyring, view.seq, part, frame)?;
                    self.keys_missing += u64::from(operator.is_none());
                    operator
                }
                None => None,
            };
            self.record(&view, operator)?;
        }
        let mut faults = Vec::new();
        self.rules.end_segment(&mut faults);
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault.into());
        }
        self.seals.push(row);
        Ok(())
    }

    /// Takes what an entry says that the journal keeps.
    fn record(&mut self, view: &LeafView<'_>, operator: Option<OperatorPart>) -> Result<(), SidecarError> {
        if let Some(operator) = &operator {
            self.saw(Timestamp(operator.recorded_at));
            self.epoch_opened_at = self.epoch_opened_at.or(Some(Timestamp(operator.recorded_at)));
            count_people(&mut self.keyring, operator, view.seq)?;
            self.keys_missing += keys_missing(&mut self.keyring, operator)?;
        }
        if let Some(position) = view.src {
            let memo = Memo { last: Some(position.offset), epoch: self.epoch(), state: Vec::new() }.encode();
            let record_mac = operator.and_then(|operator| Some(Hash(operator.record_mac.try_into().ok()?)));
            let row = PositionRow { next_offset: position.offset + 1, record_mac, memo };
            self.positions.insert(position.partition(), row);
            return Ok(());
        }
        let body = own("a leaf of the archive", view.body())?;
        match &body {
            Body::TopicDeclared(topic) => drop(self.topics.declare(topic)),
            Body::EpochOpened { .. } => {
                self.epochs.push(view.seq);
                self.reader.begin_epoch(view.seq);
                self.epoch_opened_at = None;
            }
            Body::Gap(ranges) => {
                for range in ranges {
                    self.positions.entry(range.partition).or_default().next_offset = range.last + 1;
                }
            }
            Body::SegmentSealed { at, .. }
            | Body::Pinned { at, .. }
            | Body::Registered { at, .. }
            | Body::Observed { at, .. } => self.saw(*at),
            Body::ClockStep { before, .. } => self.saw(*before),
            Body::Erasure { .. } | Body::RetentionExpired { .. } => self.has_destroyed_keys = true,
            _ => {}
        }
        self.stated.take(&body);
        Ok(())
    }

    fn saw(&mut self, at: Timestamp) {
        self.recorded_at = self.recorded_at.max(at);
    }

    fn epoch(&self) -> u64 {
        self.rules.epoch().map_or(0, |(number, _)| number)
    }

    /// What the journal is rebuilt from, with the keyring brought up to it, durably. `lost` is the newest head known
    /// outside that lies beyond the archive.
    ///
    /// # Errors
    /// Those of the keyring. What was done until then harms no journal: an older one counts on from there.
    pub fn restore(
        mut self,
        key: &Skey,
        lost: Option<&Head>,
        now: Timestamp,
    ) -> Result<(Restored, Keyring), SidecarError> {
        let size = self.tree.size();
        self.keyring.sync()?;
        self.keyring.fold(size)?;
        let at = self.recorded_at.max(now);
        let unstated = self.seals.iter().filter(|row| self.stated.sealed_at(row.seal).is_none());
        let unsaid = Unsaid {
            at,
            lost: lost.map(|head| (head.size.0, head.root.to_string())),
            sealed: unstated.map(|row| row.segment).collect(),
        };
        let head = Head { origin: self.origin.clone(), size, root: self.tree.root() };
        let restored = Restored {
            sealed: Sealed { segments: self.seals.len() as u64, tree: self.tree.clone(), prev: self.prev },
            live: sign_live(&head, key),
            recorded_at: at,
            positions: self.positions.iter().map(|(partition, row)| (*partition, row.clone())).collect(),
            rules: self.rules.to_bytes(),
            outbox: self.outbox(at),
            rows: self.rows(&unsaid),
            seals: self.seals,
        };
        Ok((restored, self.keyring))
    }

    /// Segments that a target or registry of the log lacks, as far as the log says. One that the log never named is a
    /// newcomer, and gets everything when the log is opened.
    fn outbox(&self, at: Timestamp) -> Vec<OutboxRow> {
        let payloads: BTreeSet<Cid> = self.seals.iter().filter_map(|row| row.payload).collect();
        let mut tasks = Vec::new();
        for row in &self.seals {
            let since = self.stated.sealed_at(row.seal).unwrap_or(at);
            let lacking = self.stated.targets().filter(|target| !self.stated.is_pinned(target, row, &payloads));
            tasks.extend(lacking.map(|target| (row.segment, Task::Pin { target: target.clone(), since })));
            let lacking = self.stated.registries().filter(|name| self.stated.registered_at(name, row.seal).is_none());
            tasks.extend(lacking.map(|registry| (row.segment, register(registry, since))));
        }
        let row = |(segment, task): (u64, Task)| OutboxRow { segment, name: task.name(), value: task.encode() };
        tasks.into_iter().map(row).collect()
    }

    /// Shared partitions go on from the archive's end: what the group has committed beyond it may have been in the lost
    /// tail alone.
    fn marks(&self) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let is_shared = |place: &Partition| self.topics.get(place.topic_no).is_some_and(|topic| topic.shared);
        let mark = |row: &PositionRow| GroupMark { confirmed: row.next_offset, is_alone: true }.encode();
        let shared = self.positions.iter().filter(move |(place, _)| is_shared(place));
        shared.map(move |(place, row)| (GroupMark::row(*place), mark(row)))
    }

    fn rows(&self, unsaid: &Unsaid) -> Vec<(String, Vec<u8>)> {
        let be64 = |number: u64| number.to_be_bytes().to_vec();
        let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
        for (topic_no, _) in self.topics.rows() {
            let (name, value) = self.topics.journal_row(topic_no);
            rows.extend(value.map(|value| (name, value)));
        }
        rows.extend(self.marks());
        rows.extend((0u64..).zip(&self.epochs).map(|(n, seq)| (writer::epoch_row(n), be64(seq.0))));
        let opened_at = self.epoch_opened_at.unwrap_or(self.recorded_at);
        rows.push((writer::ROW_EPOCH.to_owned(), be64(opened_at.0)));
        rows.push((writer::ROW_COUNTS.to_owned(), serde_json::to_vec(&self.counts).unwrap_or_default()));
        rows.push((writer::ROW_KEYRING.to_owned(), be64(self.keyring.mark().0)));
        let rules = self.rules.to_bytes();
        let chunks = (0..).zip(rules.chunks(ROW_BYTES_MAX));
        rows.extend(chunks.map(|(n, chunk)| (writer::sealed_rules_row(n), chunk.to_vec())));
        let pins = self.stated.targets().map(|target| Task::Pin { target: target.clone(), since: unsaid.at });
        let registries = self.stated.registries().map(|registry| register(registry, unsaid.at));
        let segments = be64(self.seals.len() as u64);
        rows.extend(pins.chain(registries).map(|task| (format!("since/{}", task.name()), segments.clone())));
        rows.push((ROW_RESTORED.to_owned(), serde_json::to_vec(unsaid).unwrap_or_default()));
        rows
    }
}

fn register(registry: &str, since: Timestamp) -> Task {
    Task::Register { registry: registry.to_owned(), request: None, at: None, since, is_stated: false }
}

/// How many keys the part names that the keyring does not have.
fn keys_missing(keyring: &mut Keyring, operator: &OperatorPart) -> Result<u64, SidecarError> {
    let mut missing = 0;
    for key in &operator.keys {
        if let Ok(subject) = <[u8; 16]>::try_from(key.subject_ref.as_slice()) {
            missing += u64::from(keyring.key_of(SubjectRef(subject), key.class)?.is_none());
        }
    }
    Ok(missing)
}

/// The row of a segment, from its Seal.
pub(super) fn seal_row(archive: &Path, segment: u64) -> Result<SealRow, SidecarError> {
    let path = Files::of(archive, segment).proof;
    let file = File::open(&path).map_err(SidecarError::file("reading", &path))?;
    let proof = own("a proof CAR of the archive", Proof::open(file, Limits::default()))?;
    let (cid, seal) = (proof.cid(), proof.seal());
    let root = own("a checkpoint of the archive", Statement::parse(&seal.checkpoint))?.head.root;
    let (first, count, payload) = (seal.first.next_seq(), seal.count, seal.payload);
    Ok(SealRow { segment, first, count, root, seal: cid, payload })
}

impl Writer {
    /// Writes the entries a rebuilt journal begins with, once: the lost head (kind 13), and the kind 5 entries that were
    /// lost with the tail. The row that asks for them goes in the same commit.
    ///
    /// # Errors
    /// Those of `push` and of a commit.
    pub(super) fn say_what_was_restored(&mut self) -> Result<(), SidecarError> {
        let Some(row) = self.journal.row(ROW_RESTORED)? else { return Ok(()) };
        let damaged = || crate::journal::JournalError::Damaged {
            place: format!("row {ROW_RESTORED}"),
            expected: "what a rebuild left to say".to_owned(),
            found: format!("{} bytes", row.len()),
        };
        let unsaid: Unsaid = serde_json::from_slice(&row).map_err(|_| damaged())?;
        if let Some((size, root)) = &unsaid.lost {
            let root = root.parse().map_err(|_| damaged())?;
            self.push(Body::Restored { root, size: Size(*size), what: RestoredWhat::Journal }, None, Vec::new())?;
        }
        for segment in unsaid.sealed {
            let Some(row) = self.journal.seal(segment)? else { continue };
            let body = Body::SegmentSealed { at: unsaid.at, seal: row.seal, payload: row.payload, segment };
            self.push(body, None, Vec::new())?;
            if self.is_commit_due() {
                self.commit()?;
            }
        }
        self.put_row(ROW_RESTORED, None);
        self.commit()
    }
}

/// Copies of the segments of `from` in the archive folder `to`, durable on return. A file that is there and holds
/// something else is kept under another name: it may be evidence. Gives how many files were written.
///
/// # Errors
/// `File` where the disk fails.
pub fn refill(from: &Path, to: &Path, segments: u64) -> Result<u64, SidecarError> {
    std::fs::create_dir_all(to).map_err(SidecarError::file("making", to))?;
    let mut written = 0;
    for segment in 0..segments {
        let (source, target) = (Files::of(from, segment), Files::of(to, segment));
        let pairs = [(source.proof, target.proof), (source.payload, target.payload), (source.anchor, target.anchor)];
        for (source, target) in pairs {
            if !source.is_file() || is_same(&source, &target).map_err(SidecarError::file("comparing", &target))? {
                continue;
            }
            if supersedes(&target, &source) {
                // Ours says all that the copy says: what others signed is not thrown away.
                continue;
            }
            if target.exists() {
                let aside = free_name(&target);
                std::fs::rename(&target, &aside).map_err(SidecarError::file("putting aside", &target))?;
            }
            let temporary = target.with_extension("tmp");
            let copy = || {
                let mut out = File::create(&temporary)?;
                std::io::copy(&mut File::open(&source)?, &mut out)?;
                out.sync_all()?;
                std::fs::rename(&temporary, &target)
            };
            copy().map_err(SidecarError::file("writing", &target))?;
            written += 1;
        }
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(SidecarError::file("syncing", to))?;
    Ok(written)
}

/// A name beside `path` that nobody has.
fn free_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = (1..).map(|n| path.with_file_name(format!("{name}.old-{n}"))).find(|path| !path.exists());
    free.unwrap_or_else(|| path.with_extension("old"))
}

fn is_same(one: &Path, other: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    if !other.exists() || std::fs::metadata(one)?.len() != std::fs::metadata(other)?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut here, mut there) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    loop {
        let read = one.read(&mut here)?;
        let Some((here, there)) = here.get(..read).zip(there.get_mut(..read)).filter(|_| read > 0) else {
            return Ok(true);
        };
        other.read_exact(there)?;
        if here != there {
            return Ok(false);
        }
    }
}
