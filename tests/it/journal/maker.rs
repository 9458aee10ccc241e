//! A log of known content for the tests of the journal: entry n is the same in every run, so that what comes back can
//! be compared with what must be there without remembering it.

use std::sync::Arc;

use pinfold::core::checkpoint::{Head, sign_live};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, Leaf, Opened, PartRef};
use pinfold::core::merkle::Tree;
use pinfold::core::note::{Skey, Vkey};
use pinfold::core::origin::Origin;
use pinfold::core::position::Partition;
use pinfold::core::seq::{Seq, Size};
use pinfold::core::time::Timestamp;
use pinfold::journal::{Advance, Commit, Entry, Journal, Live, Places, PositionRow, Seal, SealRow};

/// All events come from this partition; the offset of an entry is its seq. One without frames is of our own.
pub(crate) const PARTITION: Partition = Partition { topic_no: 0, partition: 0 };

/// Makes the next commits of the log.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) origin: Origin,
    key: Arc<Skey>,
    pub(crate) tree: Tree,
    pub(crate) prev: Hash,
    /// Frames of entry n.
    frames: fn(u64) -> Vec<Vec<u8>>,
}

impl Maker {
    pub(crate) fn new(frames: fn(u64) -> Vec<Vec<u8>>) -> Maker {
        let origin = Origin::new("example.com/audit/test").unwrap();
        let key = Arc::new(Skey::from_seed(origin.as_str(), &[7; 32]).unwrap());
        Maker { origin, key, tree: Tree::new(), prev: Hash::ZERO, frames }
    }

    pub(crate) fn vkeys(&self) -> Vec<Vkey> {
        vec![self.key.vkey().clone()]
    }

    pub(crate) fn size(&self) -> u64 {
        self.tree.size().0
    }

    pub(crate) fn create(&self, places: &Places) -> Journal {
        Journal::create(places, &self.origin).unwrap()
    }

    pub(crate) fn open(&self, places: &Places) -> Result<Journal, pinfold::journal::JournalError> {
        // A child that another test of this process is about to start holds, between fork and exec, a copy of every
        // open file, the owner's lock among them.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(2);
        loop {
            match Journal::open(places, &self.origin, &self.vkeys()) {
                Err(pinfold::journal::JournalError::InUse(_)) if std::time::Instant::now() < patience => {
                    std::thread::yield_now();
                }
                opened => return opened,
            }
        }
    }

    /// The next entry.
    fn entry(&mut self) -> Entry {
        let seq = Seq(self.size());
        let frames = if seq.0 < 2 { Vec::new() } else { (self.frames)(seq.0) };
        let part = |frame: &Vec<u8>| PartRef { commitment: Hash::of(&seq.0.to_be_bytes()), digest: Hash::of(frame) };
        let parts = frames.iter().map(part).collect();
        let (src, body) = match opening(seq.0, &self.origin, &self.key) {
            Some(body) => (None, body),
            None if frames.is_empty() => (None, Body::Started { software: "test".to_owned() }),
            None => (Some(PARTITION.at(seq.0)), Body::Event),
        };
        let leaf = Leaf { seq, src, prev: self.prev, body, parts }.encode().unwrap();
        self.prev = Hash::leaf(&leaf);
        self.tree.append(self.prev);
        Entry { leaf, frames }
    }

    /// The next `count` entries with position and live head. The saved rules are the size as text.
    pub(crate) fn commit(&mut self, count: u64) -> Commit {
        let before = self.size();
        let entries: Vec<Entry> = (0..count).map(|_| self.entry()).collect();
        let note =
            sign_live(&Head { origin: self.origin.clone(), size: self.tree.size(), root: self.tree.root() }, &self.key);
        let row = PositionRow { next_offset: self.size(), record_mac: Some(self.prev), memo: Vec::new() };
        Commit {
            entries,
            live: Some(Live { tree: self.tree.clone(), note }),
            positions: vec![Advance { partition: PARTITION, expected: (before > 0).then_some(before), row }],
            rules: Some(self.size().to_string().into_bytes()),
            recorded_at: Some(Timestamp(self.size())),
            ..Commit::default()
        }
    }

    /// Everything after the last seal as the next segment; the caller has committed it.
    pub(crate) fn seal(&self, journal: &Journal) -> Commit {
        let sealed = journal.state().sealed.clone();
        let first = sealed.tree.size().0;
        let row = SealRow {
            segment: sealed.segments,
            first: Seq(first),
            count: self.size() - first,
            root: self.tree.root(),
            seal: Cid::of(Codec::DagCbor, &self.size().to_be_bytes()),
            payload: None,
        };
        Commit { seal: Some(Seal { row, tree: self.tree.clone() }), ..Commit::default() }
    }
}

/// The first two entries of a log.
pub(crate) fn opening(seq: u64, origin: &Origin, key: &Skey) -> Option<Body> {
    let recovery = Skey::from_seed(&format!("{origin}/recovery"), &[9; 32]).unwrap().vkey().to_string();
    let vkey = key.vkey().to_string();
    let classes = ["operator", "quarantine"].map(str::to_owned).to_vec();
    match seq {
        0 => Some(Body::LogOpened(Box::new(Opened { vkey, origin: origin.clone(), recovery, continues: None }))),
        1 => Some(Body::EpochOpened { epoch: 0, classes }),
        _ => None,
    }
}

/// A maker brought to `size` without a journal: what such a log must look like.
pub(crate) fn at(frames: fn(u64) -> Vec<Vec<u8>>, size: u64) -> Maker {
    let mut maker = Maker::new(frames);
    (0..size).for_each(|_| drop(maker.entry()));
    maker
}

/// The invariants: state, positions and rules are those of the log at its size, and every entry held is the one it must
/// be, with its frames.
pub(crate) fn check(journal: &Journal, frames: fn(u64) -> Vec<Vec<u8>>) {
    let state = journal.state();
    let expected = at(frames, state.size().0);
    assert_eq!((&state.tree, state.prev), (&expected.tree, expected.prev), "tree at {}", state.size());
    let next = journal.position(PARTITION).unwrap().map(|row| row.next_offset);
    assert_eq!(next, (state.size() > Size(0)).then_some(state.size().0));
    if state.size() > Size(0) {
        assert_eq!(journal.rules().unwrap(), state.size().to_string().into_bytes());
    }
    let mut maker = at(frames, state.kept_from.0);
    let mut count = 0;
    for entry in journal.entries(state.kept_from, state.size()).unwrap() {
        let (entry, expected) = (entry.unwrap(), maker.entry());
        assert_eq!((&entry.leaf, &entry.frames), (&expected.leaf, &expected.frames), "entry {}", entry.seq);
        count += 1;
    }
    assert_eq!(count, state.size().0 - state.kept_from.0);
}

pub(crate) fn places(dir: &std::path::Path) -> Places {
    Places { data: dir.join("data"), heads: dir.join("heads") }
}

/// No frames on every third entry, else one or two of up to a few hundred bytes.
pub(crate) fn small(seq: u64) -> Vec<Vec<u8>> {
    let frame = |part: u64| vec![u8::try_from((seq + part) % 251).unwrap(); usize::try_from(seq % 300).unwrap() + 1];
    (0..seq % 3).map(frame).collect()
}
