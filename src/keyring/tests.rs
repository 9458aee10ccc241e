//! The keyring as a whole: what survives which crash, what is refused, what stands in no file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tempfile::TempDir;

use super::shard::SHARD_KEYS_MAX;
use super::*;

const OID: Hash = Hash([0xa1; 32]);

/// A keyring in a directory of its own, and what it was told: the one door of these tests.
struct World {
    dir: TempDir,
    kek: Rc<Kek>,
    keyring: Option<Keyring>,
    /// Person -> (surrogate, keys of classes 2 and 3), as handed out and synced.
    people: BTreeMap<u32, (SubjectRef, Key, Key)>,
}

/// The identifiers of person `n`; nobody else has them.
fn identifiers(n: u32) -> [String; 2] {
    [format!("email:person-{n}@example.org"), format!("phone:+4930{n:07}")]
}

impl World {
    fn new() -> World {
        let (dir, kek) = (tempfile::tempdir().unwrap(), Rc::new(Kek::generate().unwrap()));
        let keyring = Some(Keyring::create(&dir.path().join("k"), &kek, OID).unwrap());
        World { dir, kek, keyring, people: BTreeMap::new() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("k")
    }

    fn ring(&mut self) -> &mut Keyring {
        self.keyring.as_mut().unwrap()
    }

    /// Resolves people `from..to` and syncs them as one group.
    fn add(&mut self, people: std::ops::Range<u32>) -> Result<Mark, KeyringError> {
        let mut added = Vec::new();
        let ring = self.keyring.as_mut().unwrap();
        for n in people {
            let subject = ring.subject(&identifiers(n))?.reference;
            added.push((n, (subject, ring.subject_key(subject, 2)?, ring.subject_key(subject, 3)?)));
        }
        let mark = ring.sync()?;
        self.people.extend(added);
        Ok(mark)
    }

    /// A closed keyring of the same files.
    fn copy(&mut self) -> World {
        self.close();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("k/shards")).unwrap();
        for path in files(&self.path()) {
            fs::copy(&path, dir.path().join("k").join(path.strip_prefix(self.path()).unwrap())).unwrap();
        }
        World { dir, kek: Rc::clone(&self.kek), keyring: None, people: self.people.clone() }
    }

    fn close(&mut self) {
        self.keyring = None;
    }

    fn try_open(&mut self) -> Result<(), KeyringError> {
        self.keyring = None;
        self.keyring = Some(Keyring::open(&self.path(), &self.kek, OID)?);
        Ok(())
    }

    fn reopen(&mut self) {
        self.try_open().unwrap();
        self.check();
    }

    /// Everybody synced is who they were, with the keys they had; files are private and the only ones there.
    fn check(&mut self) {
        let ring = self.keyring.as_mut().unwrap();
        for (n, (subject, two, three)) in &self.people {
            assert_eq!(ring.find(&identifiers(*n)).unwrap(), Some(*subject), "person {n}");
            assert_eq!(ring.key_of(*subject, 2).unwrap().as_ref(), Some(two), "person {n}");
            assert_eq!(ring.key_of(*subject, 3).unwrap().as_ref(), Some(three), "person {n}");
        }
        ring.check().unwrap();
        assert!(ring.store.slots.iter().skip(1).all(|slot| {
            slot.entry.len == 0
                || slot
                    .base
                    .as_ref()
                    .is_none_or(|base| base.weight_of(slot.entry.shard) <= SHARD_KEYS_MAX || !slot.recent.is_empty())
        }));
        let named = ring.store.slots.iter().filter(|slot| slot.entry.len != 0).count();
        let shards = files(&self.path()).iter().filter(|path| path.parent() != Some(&self.path())).count();
        assert_eq!(shards, named, "shard files that the manifest does not name");
        for path in files(&self.path()) {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            assert!(path.extension() != Some("tmp".as_ref()), "{}", path.display());
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn wal(world: &World) -> PathBuf {
    let is_wal = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("wal.");
    let found: Vec<_> = files(&world.path()).into_iter().filter(is_wal).collect();
    assert_eq!(found.len(), 1);
    found[0].clone()
}

fn is_damaged(result: Result<(), KeyringError>) -> bool {
    matches!(result, Err(KeyringError::Damaged { .. } | KeyringError::Version { .. } | KeyringError::WrongKek))
}

/// Opens, demands the mark and reads everything.
fn open_and_check(world: &mut World, mark: Mark) -> Result<(), KeyringError> {
    world.try_open()?;
    world.ring().require(mark)?;
    world.ring().check()
}

#[test]
fn people_keys_epochs_and_quarantine_survive_a_reopening_with_and_without_a_fold() {
    let mut world = World::new();
    world.add(0..40).unwrap();
    world.ring().open_epoch(0, &["operator", "quarantine", "consent"]).unwrap();
    let epoch = world.ring().epoch_key(2, 0).unwrap().unwrap();
    let (held, key) = world.ring().quarantine().unwrap();
    world.ring().sync().unwrap();
    for fold in [false, true] {
        if fold {
            world.ring().fold(Size(0)).unwrap();
        }
        world.reopen();
        assert_eq!(world.ring().epoch_key(2, 0).unwrap().as_ref(), Some(&epoch));
        assert_eq!(world.ring().epoch_key(2, 1).unwrap(), None);
        assert_eq!(world.ring().epoch_key(3, 0).unwrap(), None);
        assert_eq!(world.ring().key_of(held, 1).unwrap().as_ref(), Some(&key));
        assert_eq!(world.ring().key_of(held, 2).unwrap(), None);
    }
    // Opened again after a crash before the entry: the same keys, for frames may have been sealed under them.
    world.ring().open_epoch(0, &["operator", "quarantine", "consent"]).unwrap();
    assert_eq!(world.ring().epoch_key(2, 0).unwrap().as_ref(), Some(&epoch));
}

#[test]
fn identifiers_of_two_people_conflict_and_a_new_one_joins_the_known() {
    let mut world = World::new();
    world.add(0..2).unwrap();
    let [first, second] = [0, 1].map(|n| identifiers(n)[0].clone());
    let stranger = "external:77".to_owned();
    let result = world.ring().subject(&[first.clone(), second, stranger.clone()]);
    assert!(matches!(result, Err(KeyringError::Conflict)));
    assert_eq!(world.ring().find(std::slice::from_ref(&stranger)).unwrap(), None, "a conflict left a look-up behind");
    let joined = world.ring().subject(&[stranger.clone(), first, stranger.clone()]).unwrap();
    assert_eq!(joined, Subject { reference: world.people[&0].0, is_new: false });
    world.ring().sync().unwrap();
    world.reopen();
    assert_eq!(world.ring().find(&[stranger]).unwrap(), Some(joined.reference));
    assert!(matches!(world.ring().subject::<&str>(&[]), Err(KeyringError::NoIdentifiers)));
}

#[test]
fn shards_split_and_none_holds_more_than_its_limit() {
    let mut world = World::new();
    let before = world.ring().store.slots.len();
    for round in 0..6 {
        world.add(round * 100..(round + 1) * 100).unwrap();
        world.ring().fold(Size(0)).unwrap();
        world.check();
    }
    assert!(world.ring().store.slots.len() > before + 100, "no shard split");
    let epochs: Vec<u64> = world.ring().store.epochs.all().collect();
    assert_eq!(epochs.len(), world.ring().store.slots.len(), "KEK epochs of split shards were not destroyed");
    world.reopen();
    world.add(10_000..10_100).unwrap();
    world.reopen();
}

#[test]
fn a_small_cache_changes_nothing_but_time() {
    let mut world = World::new();
    world.add(0..500).unwrap();
    world.ring().fold(Size(0)).unwrap();
    world.close();
    let ring = Keyring::open(&world.path(), &world.kek, OID).unwrap().with_cache_bytes(4096);
    world.keyring = Some(ring);
    world.check();
    world.add(500..700).unwrap();
    world.check();
    assert!(world.ring().store.slots.iter().filter(|slot| slot.base.is_some() && slot.entry.len > 0).count() < 20);
    world.reopen();
}

#[test]
fn counts_are_right_after_a_crash_at_any_entry_if_the_rest_is_replayed() {
    // Entry seq is about person (seq * seq) % 7, so some have many and some few.
    let person = |seq: u64| u32::try_from(seq * seq % 7).unwrap();
    let expected = |upto: u64| (0..=upto).filter(|seq| person(*seq) == person(upto)).count() as u64;
    for crash in [0u64, 1, 5, 20, 39] {
        let mut world = World::new();
        world.add(0..7).unwrap();
        let subjects: Vec<SubjectRef> = world.people.values().map(|known| known.0).collect();
        let of = |seq: u64| subjects[person(seq) as usize];
        for seq in 0..crash {
            assert_eq!(world.ring().count(of(seq), Seq(seq)).unwrap(), expected(seq));
            if seq == 10 {
                world.ring().fold(Size(11)).unwrap();
            }
        }
        // Counted, never committed: the crash takes it back.
        world.ring().count(of(crash + 1), Seq(crash)).unwrap();
        world.reopen();
        assert_eq!(world.ring().counted_to(), Size(if crash > 10 { 11 } else { 0 }));
        for seq in 0..40 {
            let counted = world.ring().count(of(seq), Seq(seq));
            if seq < world.ring().counted_to().0 {
                assert!(
                    matches!(counted, Err(KeyringError::CountedAlready { .. })) || counted.unwrap() == expected(seq)
                );
            } else {
                assert_eq!(counted.unwrap(), expected(seq), "seq {seq} after a crash at {crash}");
                assert_eq!(world.ring().count(of(seq), Seq(seq)).unwrap(), expected(seq), "the same record twice");
            }
        }
    }
}

#[test]
fn another_log_shares_people_but_neither_counts_nor_epoch_keys() {
    let mut world = World::new();
    world.add(0..3).unwrap();
    let subject = world.people[&0].0;
    world.ring().open_epoch(0, &["operator", "quarantine"]).unwrap();
    let key = world.ring().epoch_key(0, 0).unwrap();
    world.ring().count(subject, Seq(5)).unwrap();
    world.ring().fold(Size(6)).unwrap();
    world.close();

    let mut other = Keyring::open(&world.path(), &world.kek, Hash([2; 32])).unwrap();
    assert_eq!((other.counted_to(), other.epoch_key(0, 0).unwrap()), (Size(0), None));
    assert_eq!(other.find(&identifiers(0)).unwrap(), Some(subject));
    assert!(matches!(other.open_epoch(0, &["operator", "other"]), Err(KeyringError::OtherClass { class: 1 })));
    other.open_epoch(0, &["operator", "quarantine", "marketing"]).unwrap();
    assert_ne!(other.epoch_key(0, 0).unwrap(), key);
    assert_eq!(other.count(subject, Seq(0)).unwrap(), 1);
    other.fold(Size(1)).unwrap();
    drop(other);

    world.reopen();
    assert_eq!(world.ring().epoch_key(0, 0).unwrap(), key);
    assert_eq!(world.ring().counted_to(), Size(0), "counts of the other log were taken for ours");
    assert_eq!(world.ring().count(subject, Seq(0)).unwrap(), 1);
    world.ring().fold(Size(1)).unwrap();
    world.ring().recount();
    assert_eq!((world.ring().counted_to(), world.ring().count(subject, Seq(0)).unwrap()), (Size(0), 1));
}

#[test]
fn opening_for_another_log_to_read_changes_no_file() {
    let mut world = World::new();
    world.add(0..10).unwrap();
    world.close();
    let before: Vec<_> = files(&world.path()).iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let mut other = Keyring::open(&world.path(), &world.kek, Hash([2; 32])).unwrap();
    assert!(other.find(&identifiers(3)).unwrap().is_some());
    drop(other);
    let after: Vec<_> = files(&world.path()).iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert_eq!(before, after);
}

#[test]
fn a_write_ahead_file_cut_anywhere_opens_with_the_groups_before_and_a_mark_refuses_what_is_missing() {
    let mut world = World::new();
    let (mut ends, mut marks) = (Vec::new(), Vec::new());
    for group in 0..3 {
        marks.push(world.add(group..group + 1).unwrap());
        ends.push(fs::metadata(wal(&world)).unwrap().len());
    }
    world.close();
    let (path, whole) = (wal(&world), fs::read(wal(&world)).unwrap());
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let complete = ends.iter().filter(|end| **end <= cut as u64).count();
        if cut < 68 {
            assert!(is_damaged(world.try_open()), "a head cut at {cut} was taken");
            continue;
        }
        world.try_open().unwrap();
        for (n, (subject, ..)) in world.people.clone() {
            let found = world.ring().find(&identifiers(n)).unwrap();
            assert_eq!(found, ((n as usize) < complete).then_some(subject), "person {n}, cut at {cut}");
        }
        for (group, mark) in marks.iter().enumerate() {
            assert_eq!(world.ring().require(*mark).is_ok(), group < complete, "mark {mark}, cut at {cut}");
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), cut as u64, "opening changed the file");
        if cut % 97 == 0 {
            // Going on after the cut: the torn end is gone for good.
            let ring = world.ring();
            let new = ring.subject(&["email:new@example.org"]).unwrap().reference;
            ring.sync().unwrap();
            world.try_open().unwrap();
            assert_eq!(world.ring().find(&["email:new@example.org"]).unwrap(), Some(new));
        }
    }
}

#[test]
fn garbage_after_the_last_group_is_cut_but_a_damaged_group_before_a_whole_one_is_refused() {
    let mut world = World::new();
    for group in 0..3 {
        world.add(group * 3..group * 3 + 3).unwrap();
    }
    world.close();
    let (path, whole) = (wal(&world), fs::read(wal(&world)).unwrap());
    for tail in [&b"\0\0\0\0"[..], b"KGRP", &[0xff; 5000], &whole[68..200]] {
        fs::write(&path, [&whole, tail].concat()).unwrap();
        world.reopen();
        world.add(0..3).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), whole.len() + tail.len(), "nothing new, yet the file changed");
    }
    let last = whole.windows(4).rposition(|window| window == b"KGRP").unwrap();
    for at in 0..last {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        assert!(is_damaged(world.try_open()), "byte {at} of {} changed", whole.len());
    }
    let mut removed = whole.clone();
    let first = whole.windows(4).position(|window| window == b"KGRP").unwrap();
    let second = first + 4 + whole[first + 4..].windows(4).position(|window| window == b"KGRP").unwrap();
    removed.drain(first..second);
    fs::write(&path, &removed).unwrap();
    assert!(is_damaged(open_and_check(&mut world, Mark(4))), "a group cut out of the middle was not missed");
}

#[test]
fn every_changed_byte_of_every_file_is_refused_with_the_files_name() {
    let mut world = World::new();
    world.add(0..4).unwrap();
    world.ring().fold(Size(0)).unwrap();
    let mark = world.add(4..6).unwrap();
    world.close();
    let mut tried = 0;
    for path in files(&world.path()).into_iter().filter(|path| !path.ends_with("lock")) {
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            // Every byte of heads and ends, then one in 23: the content is one ciphertext.
            if at > 80 && at + 80 < whole.len() && at % 23 != 0 {
                continue;
            }
            tried += 1;
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            let refused = open_and_check(&mut world, mark);
            let is_named = match &refused {
                Err(KeyringError::Damaged { file, .. } | KeyringError::Version { file, .. }) => path.ends_with(file),
                // The last group: torn or damaged, the journal's mark knows. The KEK's id in `epochs`.
                Err(KeyringError::Behind { .. }) => path == wal(&world),
                Err(KeyringError::WrongKek) => path.ends_with("epochs"),
                // The keyring's id stands in the manifest, and decides how all else opens.
                _ => false,
            };
            let is_id = path.ends_with("manifest") && (12..28).contains(&at);
            assert!(is_named || (is_id && refused.is_err()), "byte {at} of {}: {refused:?}", path.display());
        }
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(open_and_check(&mut world, mark).is_err(), "{} cut at {cut}", path.display());
        }
        fs::remove_file(&path).unwrap();
        assert!(open_and_check(&mut world, mark).is_err(), "{} removed", path.display());
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(tried > 1000);
    world.reopen();
}

#[test]
fn an_older_copy_of_any_file_or_of_the_whole_directory_is_refused() {
    let mut world = World::new();
    let copy = |world: &World| -> Vec<(PathBuf, Vec<u8>)> {
        files(&world.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    world.add(0..100).unwrap();
    world.ring().fold(Size(0)).unwrap();
    let old = copy(&world);
    world.add(100..300).unwrap();
    world.ring().fold(Size(0)).unwrap();
    let mark = world.add(300..310).unwrap();
    world.close();
    let new = copy(&world);
    let put_back =
        |files: &[(PathBuf, Vec<u8>)]| files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    for name in ["manifest", "epochs"] {
        put_back(&old.iter().filter(|(path, _)| path.ends_with(name)).cloned().collect::<Vec<_>>());
        assert!(is_damaged(open_and_check(&mut world, mark)), "an old {name}");
        put_back(&new);
    }
    // All of it: whole in itself, so only the journal's mark knows.
    world.close();
    fs::remove_dir_all(world.path()).unwrap();
    fs::create_dir_all(world.path().join("shards")).unwrap();
    put_back(&old);
    assert!(matches!(open_and_check(&mut world, mark), Err(KeyringError::Behind { .. })));
}

/// Runs `change` on copies of the same keyring, ending the process at its first, second, ... change of the disk.
fn crash_everywhere(prepare: impl Fn(&mut World), change: impl Fn(&mut World) -> Result<(), KeyringError>) {
    let mut prepared = World::new();
    prepare(&mut prepared);
    for steps in 1.. {
        let mut world = prepared.copy();
        world.try_open().unwrap();
        world.ring().store.disk.fuse.light(steps);
        let result = change(&mut world);
        let is_burnt = world.ring().store.disk.fuse.is_burnt();
        assert_eq!(result.is_err(), is_burnt, "step {steps}");
        world.reopen();
        world.add(90_000..90_002).unwrap();
        world.ring().fold(Size(0)).unwrap();
        world.reopen();
        if !is_burnt {
            assert!(steps > 3, "the fuse never burnt");
            return;
        }
    }
}

#[test]
fn a_crash_between_any_two_changes_of_a_fold_with_splits_loses_nobody() {
    crash_everywhere(
        |world| {
            world.add(0..4).unwrap();
            world.ring().fold(Size(0)).unwrap();
            // Enough in one shard that it splits, and few others, so that there are few steps.
            let is_in_first = |world: &mut World, n: &u32| world.ring().tag(&identifiers(*n)[0])[0] == 0;
            let crowd: Vec<u32> = (4..).filter(|n| is_in_first(world, n)).take(SHARD_KEYS_MAX + 2).collect();
            for n in crowd {
                world.add(n..n + 1).unwrap();
            }
        },
        |world| world.ring().fold(Size(0)),
    );
}

#[test]
fn a_crash_at_any_change_of_a_sync_leaves_all_of_the_group_or_nothing() {
    crash_everywhere(|world| assert!(world.add(0..5).is_ok()), |world| world.add(5..9).map(drop));
    // The same over a torn end.
    let prepare = |world: &mut World| {
        world.add(0..5).unwrap();
        world.close();
        let path = wal(world);
        fs::write(&path, [fs::read(&path).unwrap(), b"KGRP torn".to_vec()].concat()).unwrap();
    };
    crash_everywhere(prepare, |world| world.add(5..9).map(drop));
}

#[test]
fn after_a_failed_sync_the_owner_writes_nothing_more() {
    let mut world = World::new();
    // Write and sync are the steps of a group; the second fails.
    world.ring().store.disk.fuse.light(3);
    assert!(world.add(0..3).is_err());
    let len = fs::metadata(wal(&world)).unwrap().len();
    assert!(matches!(world.ring().sync(), Err(KeyringError::Poisoned)));
    assert!(matches!(world.ring().fold(Size(0)), Err(KeyringError::Poisoned)));
    assert_eq!(fs::metadata(wal(&world)).unwrap().len(), len);
}

#[test]
fn what_a_split_left_behind_opens_under_no_kek_epoch_that_is_left() {
    let mut world = World::new();
    world.add(0..200).unwrap();
    world.ring().fold(Size(0)).unwrap();
    let before = world.ring().store.slots.iter().map(|slot| slot.entry.clone()).collect::<Vec<_>>();
    world.add(200..700).unwrap();
    world.ring().fold(Size(0)).unwrap();
    let store = &world.ring().store;
    let gone = before.iter().filter(|old| store.slots.iter().all(|slot| slot.entry.shard != old.shard));
    let mut tried = 0;
    for entry in gone {
        let opened =
            shard::Dek::unwrap(&store.epochs, store.manifest.keyring, entry.shard, entry.epoch, &entry.wrapped);
        assert!(opened.is_err(), "the key of a shard that was split still opens");
        tried += 1;
    }
    assert!(tried > 50);
}

#[test]
fn no_identifier_hash_surrogate_or_key_stands_in_any_file_or_text() {
    let mut world = World::new();
    world.add(0..40).unwrap();
    world.ring().open_epoch(0, &["operator", "quarantine"]).unwrap();
    world.ring().sync().unwrap();
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for (n, (subject, two, three)) in &world.people {
        for identifier in identifiers(*n) {
            secrets.push(world.keyring.as_ref().unwrap().tag(&identifier)[..12].to_vec());
            secrets.push(Hash::of(identifier.as_bytes()).0[..12].to_vec());
            secrets.push(identifier.into_bytes());
        }
        secrets.extend([&subject.0[..12], &two.0[..12], &three.0[..12]].map(<[u8]>::to_vec));
    }
    for class in 0..2 {
        secrets.push(world.ring().epoch_key(class, 0).unwrap().unwrap().0[..12].to_vec());
    }
    for pepper in [PEPPER_LOOKUP, PEPPER_TOMBSTONE] {
        secrets.push(world.ring().store.get::<32>(Table::Peppers, &pepper).unwrap().unwrap()[..12].to_vec());
    }
    let hex: Vec<Vec<u8>> = secrets.iter().map(|secret| hex::encode(secret).into_bytes()).collect();
    secrets.extend(hex);
    let search = |world: &World, when: &str| {
        let texts = format!("{:?} {:?}", world.keyring, world.people.values().collect::<Vec<_>>());
        let mut places: Vec<(String, Vec<u8>)> = vec![("debug".to_owned(), texts.into_bytes())];
        for path in files(&world.path()) {
            places.push((path.display().to_string(), path.display().to_string().into_bytes()));
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
        for (place, bytes) in &places {
            for secret in &secrets {
                assert!(
                    !bytes.windows(secret.len()).any(|window| window == secret),
                    "a secret stands in {place} {when}"
                );
            }
        }
    };
    search(&world, "in the write-ahead file");
    world.ring().fold(Size(0)).unwrap();
    search(&world, "after a fold");
    assert_eq!(fs::metadata(world.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(world.path().join("shards")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_second_owner_a_wrong_kek_a_full_or_an_empty_directory_are_refused() {
    let mut world = World::new();
    assert!(matches!(Keyring::open(&world.path(), &world.kek, OID), Err(KeyringError::Busy { .. })));
    assert!(matches!(Keyring::create(&world.path(), &world.kek, OID), Err(KeyringError::Exists { .. })));
    world.close();
    assert!(matches!(Keyring::create(&world.path(), &world.kek, OID), Err(KeyringError::Exists { .. })));
    let other = Kek::generate().unwrap();
    assert!(matches!(Keyring::open(&world.path(), &other, OID), Err(KeyringError::WrongKek)));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Keyring::open(empty.path(), &other, OID), Err(KeyringError::Missing { .. })));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "opening made something");
    world.reopen();
}
