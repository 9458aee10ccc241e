//! The journal through its one door: what was committed is there, what is not as it was is refused.

pub(crate) mod maker;

mod crash;
mod powercut;

use std::fs;
use std::path::Path;

use maker::{Maker, PARTITION, at, check, places, small};
use pinfold::core::seq::{Seq, Size};
use pinfold::core::time::Timestamp;
use pinfold::journal::{Commit, Compacted, Fate, Halt, Journal, JournalError, OutboxChange, Places, Restored};

/// A journal of three commits, the second one sealed, closed.
fn closed(dir: &Path) -> (Maker, Places) {
    let (mut maker, places) = (Maker::new(small), places(dir));
    let journal = maker.create(&places);
    journal.append(&maker.commit(1)).unwrap();
    journal.append(&maker.commit(300)).unwrap();
    journal.append(&maker.seal(&journal)).unwrap();
    journal.append(&maker.commit(200)).unwrap();
    journal.close().unwrap();
    (maker, places)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let (path, to) = (item.as_ref().unwrap().path(), to.join(item.unwrap().file_name()));
        if path.is_dir() { copy(&path, &to) } else { assert!(fs::copy(&path, &to).is_ok()) }
    }
}

fn refused(maker: &Maker, places: &Places) -> JournalError {
    match maker.open(places) {
        Ok(journal) => panic!("opened at size {}", journal.state().size()),
        Err(e) => {
            assert!(!e.hint().is_empty());
            e
        }
    }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    fn frames(seq: u64) -> Vec<Vec<u8>> {
        if seq == 40 { vec![vec![1; 3 << 20], Vec::new()] } else { small(seq) }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = (Maker::new(frames), places(dir.path()));
    let journal = maker.create(&places);
    check(&journal, frames);
    for count in [1, 64, 500, 1, 4096] {
        journal.append(&maker.commit(count)).unwrap();
    }
    check(&journal, frames);
    assert!(matches!(maker.open(&places), Err(JournalError::InUse(_))));
    journal.close().unwrap();
    let journal = maker.open(&places).unwrap();
    check(&journal, frames);
    let from: Vec<_> = journal.entries(Seq(39), Size(42)).unwrap().map(|entry| entry.unwrap().frames.len()).collect();
    assert_eq!(from, [0, 2, 2]);
    journal.append(&maker.commit(10)).unwrap();
    check(&journal, frames);
}

#[test]
fn rows_and_rules_of_every_size_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = (Maker::new(small), places(dir.path()));
    let change = |segment, name: &str, value: Option<&[u8]>| OutboxChange {
        segment,
        name: name.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let mut journal = maker.create(&places);
    for rules in [100_000usize, 16_384, 16_385, 0, 5] {
        let outbox = vec![change(2, "pin/kubo", Some(b"id")), change(1, "sealed", Some(b"")), change(9, "gone", None)];
        let rows = vec![("topic/a".to_owned(), Some(vec![7; 16 * 1024])), ("other".to_owned(), None)];
        journal.append(&Commit { rules: Some(vec![3; rules]), outbox, rows, ..Commit::default() }).unwrap();
        journal.close().unwrap();
        journal = maker.open(&places).unwrap();
        assert_eq!(journal.rules().unwrap(), vec![3; rules]);
    }
    let names: Vec<_> = journal.outbox().unwrap().into_iter().map(|row| (row.segment, row.name)).collect();
    assert_eq!(names, [(1, "sealed".to_owned()), (2, "pin/kubo".to_owned())]);
    assert_eq!(journal.rows("topic/").unwrap(), [("topic/a".to_owned(), vec![7; 16 * 1024])]);
    assert_eq!(journal.row("topic/a").unwrap(), Some(vec![7; 16 * 1024]));
    journal.append(&Commit { outbox: vec![change(2, "pin/kubo", None)], ..Commit::default() }).unwrap();
    assert_eq!(journal.outbox().unwrap().len(), 1);
}

#[test]
fn a_position_that_moved_refuses_the_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(small);
    let journal = maker.create(&places(dir.path()));
    journal.append(&maker.commit(5)).unwrap();
    let before = maker.clone();
    for expected in [None, Some(4), Some(6)] {
        let mut commit = before.clone().commit(3);
        commit.positions[0].expected = expected;
        let e = journal.append(&commit).unwrap_err();
        assert!(matches!(e, JournalError::Moved { found: Some(5), .. }), "{e}");
        assert_eq!(e.fate(), Fate::Halt);
        check(&journal, small);
    }
    journal.append(&maker.commit(3)).unwrap();
    check(&journal, small);
}

#[test]
fn commits_that_do_not_continue_the_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(small);
    let journal = maker.create(&places(dir.path()));
    journal.append(&maker.commit(5)).unwrap();
    let good = maker.clone().commit(2);
    let mut other = at(small, 7);
    let (mut stale, mut unsigned, mut short, mut other_tree) = (good.clone(), good.clone(), good.clone(), good.clone());
    stale.recorded_at = Some(Timestamp(4));
    unsigned.live = None;
    drop(short.entries.pop());
    other_tree.live = other.commit(1).live;
    let seal_of_nothing = maker.seal(&journal);
    journal.append(&seal_of_nothing.clone()).unwrap();
    let early = Maker::new(small).commit(2);
    for commit in [stale, unsigned, short, other_tree, early, seal_of_nothing, maker.clone().commit(4097)] {
        let e = journal.append(&commit).unwrap_err();
        assert!(matches!(e, JournalError::Unfit { .. }), "{e}");
        check(&journal, small);
    }
    journal.append(&good).unwrap();
}

#[test]
fn a_seal_over_another_tree_is_refused_however_much_was_committed_behind_it() {
    refuse_another_tree(&[]);
    refuse_another_tree(&[5]);
    refuse_another_tree(&[4096, 1, 4096]);
}

fn refuse_another_tree(behind: &[u64]) {
    let dir = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(small);
    let journal = maker.create(&places(dir.path()));
    journal.append(&maker.commit(5)).unwrap();
    let at_five = maker.clone();
    for count in behind {
        journal.append(&maker.commit(*count)).unwrap();
    }
    let mut seal = at_five.seal(&journal);
    let mut other = Maker::new(|_| vec![b"x".to_vec()]);
    drop(other.commit(5));
    seal.seal.as_mut().unwrap().tree = other.tree.clone();
    seal.seal.as_mut().unwrap().row.root = other.tree.root();
    let e = journal.append(&seal).unwrap_err();
    assert!(matches!(e, JournalError::Unfit { .. }), "{e}");
    journal.append(&at_five.seal(&journal)).unwrap();
    assert_eq!(journal.state().sealed.prev, at_five.prev);
    assert_eq!(journal.seal(0).unwrap().unwrap().root, at_five.tree.root());
}

#[test]
fn a_halt_is_repeated_until_resume() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = closed(dir.path());
    let text = |s: &str| s.to_owned();
    let halt = Halt { code: text("cid"), message: text("m"), hint: text("pinfold resume"), since: Timestamp(1) };
    let journal = maker.open(&places).unwrap();
    journal.halt(halt.clone()).unwrap();
    drop(journal);
    let journal = maker.open(&places).unwrap();
    assert_eq!(journal.state().halted, Some(halt.clone()));
    let e = journal.append(&maker.clone().commit(1)).unwrap_err();
    assert!(matches!(&e, JournalError::Halted(found) if *found == halt), "{e}");
    journal.append(&Commit { resume: true, ..maker.commit(1) }).unwrap();
    drop(journal);
    let journal = maker.open(&places).unwrap();
    assert_eq!(journal.state().halted, None);
    journal.append(&maker.commit(1)).unwrap();
}

#[test]
fn pruning_and_compaction_keep_what_is_not_archived() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = closed(dir.path());
    let journal = maker.open(&places).unwrap();
    assert!(matches!(journal.prune(Size(302)), Err(JournalError::Unfit { .. })));
    let reader = journal.leaves(Seq(0), Size(501)).unwrap();
    journal.prune(Size(200)).unwrap();
    assert!(matches!(journal.entries(Seq(199), Size(201)), Err(JournalError::NotHeld { .. })));
    assert_eq!(journal.compact().unwrap(), Compacted::Busy);
    drop(reader);
    let Compacted::Done { .. } = journal.compact().unwrap() else { panic!("busy") };
    check(&journal, small);
    journal.append(&maker.commit(10)).unwrap();
    drop(journal);
    let journal = maker.open(&places).unwrap();
    check(&journal, small);
    journal.append(&maker.seal(&journal)).unwrap();
    journal.prune(Size(maker.size())).unwrap();
    journal.compact().unwrap();
    drop(journal);
    let journal = maker.open(&places).unwrap();
    check(&journal, small);
    journal.append(&maker.commit(300)).unwrap();
    check(&journal, small);
    assert_eq!(journal.seal(0).unwrap().map(|row| row.count), Some(301));
}

#[test]
fn a_compaction_that_was_interrupted_leaves_the_old_store() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    copy(&places.journal().join("sled-000001"), &places.journal().join("sled-000002"));
    fs::write(places.journal().join("sled-000002/db"), b"half").unwrap();
    check(&maker.open(&places).unwrap(), small);
    assert!(!places.journal().join("sled-000002").exists());
}

#[test]
fn entries_are_read_while_others_are_appended() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = closed(dir.path());
    let journal = maker.open(&places).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..5).for_each(|_| check_range(&journal)));
        (0..20).for_each(|_| drop(journal.append(&maker.commit(50)).unwrap()));
        reader.join().unwrap();
    });
    check(&journal, small);
}

fn check_range(journal: &Journal) {
    assert_eq!(journal.entries(Seq(0), Size(501)).unwrap().map(Result::unwrap).count(), 501);
}

#[test]
fn a_wiped_volume_is_not_a_new_log() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    let create = || Journal::create(&places, &maker.origin).map(drop).unwrap_err();
    assert!(matches!(create(), JournalError::Exists(_)));
    fs::remove_dir_all(&places.data).unwrap();
    assert!(matches!(refused(&maker, &places), JournalError::Missing(_)));
    let e = create();
    assert!(matches!(e, JournalError::HeadKnown { size: Size(501), .. }), "{e}");
    fs::remove_file(places.head()).unwrap();
    assert!(matches!(create(), JournalError::HeadKnown { .. }));
}

#[test]
fn a_journal_rolled_back_behind_its_head_is_refused_naming_both() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = closed(dir.path());
    let (old, root) = (dir.path().join("old"), maker.tree.root());
    copy(&places.data, &old);
    let journal = maker.open(&places).unwrap();
    journal.append(&maker.commit(1)).unwrap();
    drop(journal);
    fs::remove_dir_all(&places.data).unwrap();
    copy(&old, &places.data);
    // After a kill `latest` alone knows; after a power cut it may be torn and `head` alone does.
    let e = refused(&maker, &places);
    let (text, newer) = (e.to_string(), maker.tree.root());
    assert!(matches!(e, JournalError::Behind { size: Size(501), head_size: Size(502), .. }), "{text}");
    assert!(text.contains(&root.to_string()) && text.contains(&newer.to_string()), "{text}");
    fs::write(places.latest(), b"torn").unwrap();
    check(&maker.open(&places).unwrap(), small);
}

#[test]
fn a_head_of_another_tree_or_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    let heads = places.heads.clone();
    let fork = tempfile::tempdir().unwrap();
    let mut other = Maker::new(|_| Vec::new());
    let other_places = maker::places(fork.path());
    let journal = other.create(&other_places);
    for count in [301, 200] {
        journal.append(&other.commit(count)).unwrap();
    }
    journal.close().unwrap();
    fs::remove_dir_all(&heads).unwrap();
    copy(&other_places.heads, &heads);
    let e = refused(&maker, &places);
    assert!(matches!(e, JournalError::Forked { size: Size(501), .. }), "{e}");
    fs::remove_file(places.latest()).unwrap();
    fs::write(places.head(), b"no note").unwrap();
    assert!(matches!(refused(&maker, &places), JournalError::Damaged { .. }));
    let elsewhere = pinfold::core::origin::Origin::new("example.com/other").unwrap();
    fs::remove_file(places.head()).unwrap();
    let e = Journal::open(&places, &elsewhere, &maker.vkeys()).map(drop).unwrap_err();
    assert!(matches!(e, JournalError::WrongOrigin { .. }), "{e}");
    let e = Journal::open(&places, &maker.origin, &[]).map(drop).unwrap_err();
    assert!(matches!(e, JournalError::Damaged { .. }), "{e}");
}

#[test]
fn a_head_older_than_the_last_seal_counts_while_its_entries_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = (Maker::new(small), places(dir.path()));
    let journal = maker.create(&places);
    journal.append(&maker.commit(100)).unwrap();
    journal.append(&maker.seal(&journal)).unwrap();
    journal.append(&maker.commit(50)).unwrap();
    let old = fs::read(places.latest()).unwrap();
    for count in [50, 100] {
        journal.append(&maker.commit(count)).unwrap();
        journal.append(&maker.seal(&journal)).unwrap();
    }
    journal.close().unwrap();
    let put_back = || {
        fs::write(places.head(), &old).unwrap();
        fs::write(places.latest(), &old).unwrap();
    };
    put_back();
    let journal = maker.open(&places).unwrap();
    journal.prune(Size(200)).unwrap();
    journal.close().unwrap();
    put_back();
    let e = refused(&maker, &places);
    assert!(matches!(e, JournalError::HeadTooOld { head_size: Size(150), .. }), "{e}");
}

#[test]
fn another_layout_and_missing_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    let good = dir.path().join("good");
    copy(&places.data, &good);
    let cases: [(&str, Option<&[u8]>); 6] = [
        ("VERSION", Some(b"2\n")),
        ("VERSION", None),
        ("journal/CURRENT", None),
        ("journal/CURRENT", Some(b"7\n")),
        ("journal/sled-000001/db", None),
        ("journal/frames/000000.frames", None),
    ];
    for (name, bytes) in cases {
        match bytes {
            None => fs::remove_file(places.data.join(name)).unwrap(),
            Some(bytes) => fs::write(places.data.join(name), bytes).unwrap(),
        }
        let e = refused(&maker, &places);
        assert!(matches!(e, JournalError::Layout { .. } | JournalError::Damaged { .. }), "{name}: {e}");
        assert_eq!(e.fate(), Fate::Halt);
        fs::remove_dir_all(&places.data).unwrap();
        copy(&good, &places.data);
    }
    check(&maker.open(&places).unwrap(), small);
}

#[test]
fn no_changed_byte_of_unsealed_frames_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    let path = places.journal().join("frames/000000.frames");
    let good = fs::read(&path).unwrap();
    let first: usize = (0..301).flat_map(small).map(|frame| frame.len() + 4).sum();
    for at in (first..good.len()).step_by((good.len() - first) / 20) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let e = refused(&maker, &places);
        assert!(matches!(e, JournalError::Damaged { .. }), "byte {at}: {e}");
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(refused(&maker, &places), JournalError::Damaged { .. }));
    fs::write(&path, [&good[..], b"leftover of a commit that never happened"].concat()).unwrap();
    check(&maker.open(&places).unwrap(), small);
    assert_eq!(fs::read(&path).unwrap(), good);
}

/// sled cuts its own log where a checksum fails, silently. What it gives us then is an older state, and the head outside
/// says so.
#[test]
fn a_changed_byte_of_the_store_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    let good = dir.path().join("good");
    copy(&places.data, &good);
    let db = places.journal().join("sled-000001/db");
    let bytes = fs::read(&db).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refusals = 0;
    for at in (0..used).step_by(used / 24) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        fs::write(&db, &bad).unwrap();
        match maker.open(&places) {
            Ok(journal) => assert_eq!(journal.state().size().0, maker.size(), "byte {at}"),
            Err(e) => {
                assert_eq!(e.fate(), Fate::Halt, "byte {at}: {e}");
                refusals += 1;
            }
        }
        fs::remove_dir_all(&places.data).unwrap();
        copy(&good, &places.data);
    }
    assert!(refusals > 0, "no change was noticed");
    fs::write(&db, &bytes[..used / 2]).unwrap();
    assert_eq!(refused(&maker, &places).fate(), Fate::Halt);
}

#[test]
fn a_rebuilt_journal_ends_at_the_last_seal_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut maker, places) = closed(dir.path());
    let journal = maker.open(&places).unwrap();
    journal.append(&maker.seal(&journal)).unwrap();
    let (state, mut restored_maker) = (journal.state(), maker.clone());
    let seals = (0..2).map(|segment| journal.seal(segment).unwrap().unwrap()).collect();
    let restored = Restored {
        sealed: state.sealed.clone(),
        live: state.live.clone().unwrap(),
        recorded_at: state.recorded_at,
        seals,
        positions: journal.positions().unwrap(),
        rules: journal.rules().unwrap(),
        outbox: Vec::new(),
        rows: vec![("topic".to_owned(), b"x".to_vec())],
    };
    journal.append(&maker.commit(20)).unwrap();
    journal.close().unwrap();
    let rebuild = |restored: &Restored, accept| {
        Journal::rebuild(&places, &maker.origin, &maker.vkeys(), restored, |_| None, accept)
    };
    let e = rebuild(&restored, false).map(drop).unwrap_err();
    assert!(matches!(e, JournalError::Behind { size: Size(501), head_size: Size(521), .. }), "{e}");
    let mut other = restored.clone();
    other.seals.truncate(1);
    assert!(matches!(rebuild(&other, true), Err(JournalError::Damaged { .. })));
    check(&maker.open(&places).unwrap(), small);
    assert_eq!(Journal::known_heads(&places, &maker.origin, &maker.vkeys()).unwrap()[0].1.size, Size(521));
    drop(rebuild(&restored, true).unwrap());
    assert!(places.data.join("journal.old-1").is_dir());
    let journal = maker.open(&places).unwrap();
    check(&journal, small);
    assert_eq!((journal.state().size(), journal.state().kept_from), (Size(501), Seq(501)));
    assert_eq!(journal.row("topic").unwrap(), Some(b"x".to_vec()));
    journal.append(&restored_maker.commit(100)).unwrap();
    drop(journal);
    check(&maker.open(&places).unwrap(), small);
}

#[test]
fn positions_are_listed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, places) = closed(dir.path());
    let positions = maker.open(&places).unwrap().positions().unwrap();
    assert_eq!(positions.iter().map(|(p, row)| (*p, row.next_offset)).collect::<Vec<_>>(), [(PARTITION, 501)]);
}
