//! Two million entries with nothing kept: the journal stays small.

use crate::journal::maker::opening;
use pinfold::core::checkpoint::{Head, sign_live};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, Leaf};
use pinfold::core::merkle::Tree;
use pinfold::core::note::Skey;
use pinfold::core::origin::Origin;
use pinfold::core::seq::{Seq, Size};
use pinfold::journal::{COMMIT_ENTRIES_MAX, Commit, Entry, Journal, Live, Places, Seal, SealRow};

const ENTRIES: u64 = 2_000_000;
const SEGMENT: u64 = 65_536;
const DISK_BYTES_MAX: u64 = 64 << 20;

#[test]
fn two_million_entries_with_nothing_kept_stay_under_64_mib() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places { data: dir.path().join("data"), heads: dir.path().join("heads") };
    let origin = Origin::new("example.com/soak").unwrap();
    let key = Skey::from_seed(origin.as_str(), &[1; 32]).unwrap();
    let journal = Journal::create(&places, &origin).unwrap();
    let (mut tree, mut prev) = (Tree::new(), Hash::ZERO);
    let mut peak = 0;
    while tree.size().0 < ENTRIES {
        let next = tree.size().0;
        let entries: Vec<Entry> = (next..ENTRIES.min(next + COMMIT_ENTRIES_MAX as u64))
            .map(|seq| entry(seq, &origin, &key, &mut prev, &mut tree))
            .collect();
        let note = sign_live(&Head { origin: origin.clone(), size: tree.size(), root: tree.root() }, &key);
        journal
            .append(&Commit { entries, live: Some(Live { tree: tree.clone(), note }), ..Commit::default() })
            .unwrap();
        let sealed = journal.state().sealed.clone();
        if tree.size().0 - sealed.tree.size().0 >= SEGMENT || tree.size().0 == ENTRIES {
            seal(&journal, &tree);
            journal.prune(tree.size()).unwrap();
            if journal.is_compaction_due().unwrap() {
                journal.compact().unwrap();
            }
            peak = peak.max(journal.disk_bytes().unwrap());
        }
    }
    journal.close().unwrap();
    let journal = Journal::open(&places, &origin, &[key.vkey().clone()]).unwrap();
    assert_eq!((journal.state().size(), journal.state().kept_from), (Size(ENTRIES), Seq(ENTRIES)));
    let bytes = journal.disk_bytes().unwrap();
    println!("{ENTRIES} entries: {} KiB at the end, {} KiB at most after a seal", bytes >> 10, peak >> 10);
    assert!(bytes < DISK_BYTES_MAX, "{bytes} bytes");
    assert!(peak < 2 * DISK_BYTES_MAX, "{peak} bytes");
}

fn entry(seq: u64, origin: &Origin, key: &Skey, prev: &mut Hash, tree: &mut Tree) -> Entry {
    let body = if seq < 2 { opening(seq, origin, key) } else { None };
    let body = body.unwrap_or_else(|| Body::Started { software: "pinfold".to_owned() });
    let leaf = Leaf { seq: Seq(seq), src: None, prev: *prev, body, parts: Vec::new() }.encode().unwrap();
    *prev = Hash::leaf(&leaf);
    tree.append(*prev);
    Entry { leaf, frames: Vec::new() }
}

fn seal(journal: &Journal, tree: &Tree) {
    let sealed = journal.state().sealed.clone();
    let (first, size) = (sealed.tree.size().0, tree.size().0);
    let row = SealRow {
        segment: sealed.segments,
        first: Seq(first),
        count: size - first,
        root: tree.root(),
        seal: Cid::of(Codec::DagCbor, &size.to_be_bytes()),
        payload: None,
    };
    journal.append(&Commit { seal: Some(Seal { row, tree: tree.clone() }), ..Commit::default() }).unwrap();
}
