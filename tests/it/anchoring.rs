//! Witnesses in the loop: what they sign is kept, pinned, registered and found again; who fails holds up nobody but,
//! where the quorum is required, the registries; and a crash at any step loses nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pinfold::anchor::{AnchorError, Authority, Witness};
use pinfold::archive::{Contents, Folder, Pinner};
use pinfold::core::car::Limits;
use pinfold::core::cid::Cid;
use pinfold::core::decode::Format;
use pinfold::core::hash::Hash;
use pinfold::core::note::{Note, Skey};
use pinfold::core::origin::Origin;
use pinfold::core::rows::{AnchorRow, Row, Value, anchor_rows, compare_anchors};
use pinfold::core::segment::Anchor;
use pinfold::core::segment::read::read_anchor;
use pinfold::core::seq::Seq;
use pinfold::core::synthetic::{Encoding, Generator};
use pinfold::core::time::Timestamp;
use pinfold::core::witness::Policy;
use pinfold::ingest::replay::Replay;
use pinfold::journal::{Journal, JournalError, Places};
use pinfold::keyring::{Kek, Keyring};
use pinfold::registry::sqlite::Sqlite;
use pinfold::registry::{Filter, Registrar};
use pinfold::sidecar::{Anchors, Opening, Quorum, Sidecar, SidecarError, TopicRule, Which, Writer};
use serde_json::Value as Json;

use crate::binary::copy_tree;
use crate::embedded;
use crate::stub_witness::{Mood, StubWitness};

const ORIGIN: &str = "example.com/anchoring";

/// A log below a directory, opened again and again, with its witnesses.
struct Log {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    kek: Kek,
    witnesses: Vec<StubWitness>,
    is_required: bool,
}

fn key() -> Skey {
    Skey::from_seed(ORIGIN, &[1; 32]).unwrap()
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(now.as_micros()).unwrap())
}

impl Log {
    fn new(witnesses: u8, is_required: bool) -> Log {
        let dir = tempfile::tempdir().unwrap();
        let kek = Kek::generate().unwrap();
        let origin = Origin::new(ORIGIN).unwrap();
        let keyring = Keyring::create(&dir.path().join("keyring"), &kek, origin.oid()).unwrap();
        let places = Places { data: dir.path().join("data"), heads: dir.path().join("heads") };
        let journal = Journal::create(&places, &origin).unwrap();
        let recovery = Skey::from_seed(&format!("{ORIGIN}/recovery"), &[2; 32]).unwrap().vkey().to_string();
        let opening = Opening { origin, key: key(), journal, keyring };
        let classes = ["consent_proof".to_owned()];
        Writer::create(opening, &recovery, &classes, now()).unwrap().close().unwrap();
        for name in ["vault", "registry"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let witness = |n: u8| StubWitness::new(&format!("witness.example/{n}"), 10 + n, key().vkey());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Log { dir, runtime, kek, witnesses: (0..witnesses).map(witness).collect(), is_required }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Two of them, or the one there is.
    fn policy(&self) -> Policy {
        let lines: String = (0..).zip(&self.witnesses).map(|(n, stub)| stub.line(&format!("w{n}"))).collect();
        let names: Vec<String> = (0..self.witnesses.len()).map(|n| format!("w{n}")).collect();
        let text = format!("{lines}group all {} {}\nquorum all\n", names.len().min(2), names.join(" "));
        Policy::parse(text.as_bytes()).unwrap()
    }

    fn anchors(&self) -> Anchors {
        let policy = self.policy();
        let authority = |witness: &pinfold::core::witness::policy::Witness| -> Arc<dyn Authority> {
            let url = witness.url.as_deref().unwrap();
            Arc::new(Witness::new(witness.vkey.clone(), url, Duration::from_secs(5)).unwrap())
        };
        let authorities = policy.witnesses.iter().map(authority).collect();
        Anchors { authorities, quorum: Some(Quorum { policy, is_required: self.is_required }) }
    }

    fn open(&self) -> Sidecar {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Sidecar, SidecarError> {
        let origin = Origin::new(ORIGIN).unwrap();
        let keyring = Keyring::open(&self.path("keyring"), &self.kek, origin.oid()).unwrap();
        let places = Places { data: self.path("data"), heads: self.path("heads") };
        // A request of the sidecar before may be at its consistency proof still, and lets go of the journal then.
        let begun = std::time::Instant::now();
        let journal = loop {
            match Journal::open(&places, &origin, std::slice::from_ref(key().vkey())) {
                Err(JournalError::InUse(_)) if begun.elapsed() < Duration::from_secs(30) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let writer = Writer::open(Opening { origin, key: key(), journal, keyring }).unwrap();
        let folder = Folder::new("vault", self.path("vault"), Contents::Proof);
        let targets: Vec<(bool, Arc<dyn Pinner>)> = vec![(true, Arc::new(folder))];
        let settings = embedded::settings(&self.path("data/archive"));
        let registries: Vec<(bool, Arc<dyn Registrar>)> = vec![(true, Arc::new(self.registry()))];
        Sidecar::anchored(writer, targets, self.anchors(), registries, settings, self.runtime.handle())
    }

    fn registry(&self) -> Sqlite {
        Sqlite::open("local", &self.path("registry/rows.sqlite")).unwrap()
    }

    /// A segment of a few events.
    fn segment(&self, sidecar: &mut Sidecar, seed: u64) {
        let mut generator = Generator::new(seed, 10, now());
        let lines: Vec<Vec<u8>> =
            (0..5 + 3 * seed).map(|_| generator.record(Encoding::CloudEventsJson).value.unwrap()).collect();
        let name = format!("events-{seed}.ndjson");
        std::fs::write(self.path(&name), lines.join(&b'\n')).unwrap();
        let rules: Arc<[TopicRule]> = Arc::from([embedded::rule(Which::All, &name, Format::Auto)]);
        let source = Replay::open("file", &name, &self.path(&name), None, &sidecar.positions(&rules)).unwrap();
        sidecar.ingest(Box::new(source), rules, now, u64::MAX).unwrap();
        assert!(sidecar.seal_now(now()).unwrap());
    }

    fn anchor(&self, dir: &str, segment: u64) -> Option<(Cid, Anchor)> {
        let path = self.path(dir).join(format!("{segment:06}.anchor.car"));
        let file = std::fs::File::open(path).ok()?;
        Some(read_anchor(file, Limits::default()).unwrap())
    }

    /// The anchors that kind 20 entries name, by segment, oldest first.
    fn stated(&self, sidecar: &Sidecar, segment: u64) -> Vec<Cid> {
        let is_of = |entry: &&Json| entry["kind"] == "anchored" && entry["clear"]["segment"] == segment;
        entries(sidecar).iter().filter(is_of).map(|entry| cid(&entry["clear"]["cid"])).collect()
    }

    /// Everything that must hold of a segment that so many witnesses have spoken about.
    fn check(&self, sidecar: &Sidecar, segment: u64, witnesses: usize) {
        let (newest, anchor) = self.anchor("data/archive", segment).expect("an anchor");
        let note = Note::parse(&anchor.checkpoint).unwrap();
        let policy = self.policy();
        let signed = policy.witnesses.iter().filter(|witness| !witness.vkey.verify(&note).unwrap().is_empty()).count();
        assert_eq!(signed, witnesses, "segment {segment}");
        let stated = self.stated(sidecar, segment);
        assert_eq!(stated.last(), Some(&newest), "the newest kind 20 names the file");
        assert_eq!(self.anchor("vault", segment).map(|(cid, _)| cid), Some(newest), "the target has the newest");
        let is_pinned = |entry: &Json| entry["kind"] == "pinned" && cid(&entry["clear"]["cid"]) == newest;
        assert!(entries(sidecar).iter().any(is_pinned), "a kind 6 says so");
        let rows = anchor_rows(&anchor).unwrap();
        assert_eq!(rows.len(), witnesses);
        let of_seal = [Filter::equal("seal_cid", Value::Text(anchor.seal.to_string().into()))];
        let found = self.registry().rows(&AnchorRow::TABLE, &of_seal).unwrap();
        assert_eq!(compare_anchors(&rows, &stated, true, &found), vec![], "segment {segment}");
    }
}

/// Every entry, as `show` has it.
fn entries(sidecar: &Sidecar) -> Vec<Json> {
    (0..sidecar.size().0).map(|seq| sidecar.show(Seq(seq)).unwrap().unwrap()).collect()
}

fn cid(shown: &Json) -> Cid {
    shown.as_str().unwrap().parse().unwrap()
}

/// Steps until nothing is left to do.
fn settle(sidecar: &mut Sidecar) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !(sidecar.is_idle() && sidecar.open_tasks() == 0) {
        sidecar.step(now()).unwrap();
        assert!(std::time::Instant::now() < end, "never idle: {:?}", sidecar.status(now(), true));
    }
}

#[test]
fn what_witnesses_sign_is_archived_stated_pinned_and_registered() {
    let log = Log::new(3, true);
    let mut sidecar = log.open();
    for seed in 0..4 {
        log.segment(&mut sidecar, seed);
        settle(&mut sidecar);
    }
    for segment in 0..4 {
        log.check(&sidecar, segment, 3);
    }
    let status = sidecar.status(now(), true);
    let size = sidecar.size();
    assert_eq!((status.sealed.segments, status.registered["local"]), (4, 4));
    assert_eq!(status.witnessed.map(|witnessed| (witnessed.segments, witnessed.mode)), Some((4, "fail-closed")));
    assert!(status.anchored.values().all(|segments| *segments == 4), "{:?}", status.anchored);
    assert_eq!(log.witnesses[0].size(), status.sealed.size);
    assert!(status.waiting_for.is_empty());
    // A kind 20 alone never causes a seal, nor anything else.
    for _ in 0..20 {
        sidecar.step(now()).unwrap();
    }
    assert_eq!((sidecar.size(), sidecar.status(now(), true).sealed.segments), (size, 4));
    assert_eq!(log.witnesses[0].answered(), [200, 200, 200, 200], "the size it signed last is remembered");
    sidecar.close().unwrap();
    // A process that starts anew remembers none, and asks.
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 5);
    settle(&mut sidecar);
    assert_eq!(log.witnesses[0].answered()[4..], [409, 200]);
    log.check(&sidecar, 4, 3);
    sidecar.close().unwrap();
}

#[test]
fn fail_closed_registers_nothing_before_the_quorum_and_fail_open_says_what_is_missing() {
    for is_required in [true, false] {
        let log = Log::new(2, is_required);
        log.witnesses[1].is(Mood::Down);
        let mut sidecar = log.open();
        log.segment(&mut sidecar, 1);
        let name = log.witnesses[1].vkey.rsplit_once('+').unwrap().0.to_owned();
        let is_told = |sidecar: &Sidecar| {
            let status = sidecar.status(now(), true);
            let registered = status.registered["local"];
            status.waiting_for.contains_key(&format!("witness {name}")) && (is_required || registered == 1)
        };
        while !is_told(&sidecar) || log.anchor("vault", 0).is_none() {
            sidecar.step(now()).unwrap();
        }
        for _ in 0..20 {
            sidecar.step(now()).unwrap();
        }
        let status = sidecar.status(now(), true);
        assert_eq!(status.registered["local"], u64::from(!is_required));
        assert_eq!(status.witnessed.unwrap().segments, 0);
        let told = &status.waiting_for[&format!("witness {name}")];
        assert!(told.contains("1 segments lack the quorum") && told.contains("503"), "{told}");
        let rows = log.registry().rows(&AnchorRow::TABLE, &[]).map_or(0, |rows| rows.len());
        assert_eq!(rows, usize::from(!is_required), "what the other witness said is registered with its segment");
        log.witnesses[1].is(Mood::Sound);
        settle(&mut sidecar);
        // It is tried again after its delay, and idle does not wait for who fails.
        while sidecar.status(now(), true).witnessed.unwrap().segments == 0 || !sidecar.is_idle() {
            sidecar.step(now()).unwrap();
        }
        assert_eq!(sidecar.status(now(), true).registered["local"], 1);
        log.check(&sidecar, 0, 2);
        let stated = log.stated(&sidecar, 0);
        assert_eq!(stated.len(), 2, "one entry for each version");
        sidecar.close().unwrap();
    }
}

/// The log with three witnesses, in which every run is cut after so many steps, until one is not.
#[test]
fn a_crash_after_any_step_loses_nothing() {
    let log = Log::new(2, true);
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 1);
    settle(&mut sidecar);
    log.segment(&mut sidecar, 2);
    sidecar.close().unwrap();
    let before = kept(&log);
    let mut is_whole = false;
    for steps in 0.. {
        if is_whole {
            break;
        }
        restore(&log, &before);
        let mut sidecar = log.open();
        for _ in 0..steps {
            sidecar.step(now()).unwrap();
        }
        is_whole = sidecar.is_idle() && sidecar.open_tasks() == 0;
        // No close: what is not durable is gone.
        drop(sidecar);
        let mut sidecar = log.open();
        settle(&mut sidecar);
        for segment in 0..2 {
            log.check(&sidecar, segment, 2);
        }
        sidecar.close().unwrap();
    }
}

/// What a crash between two of our own instructions leaves: a half file, and a whole one that no entry names yet.
#[test]
fn files_that_no_entry_names_yet_are_gone_on_from() {
    let log = Log::new(2, true);
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 1);
    sidecar.close().unwrap();
    let before = kept(&log);
    let mut sidecar = log.open();
    settle(&mut sidecar);
    sidecar.close().unwrap();
    let written = std::fs::read(log.path("data/archive/000000.anchor.car")).unwrap();
    restore(&log, &before);
    std::fs::write(log.path("data/archive/000000.anchor.tmp"), b"half a fi").unwrap();
    std::fs::write(log.path("data/archive/000000.anchor.car"), &written).unwrap();
    let mut sidecar = log.open();
    assert_eq!(sidecar.status(now(), true).witnessed.unwrap().segments, 1, "what was signed counts");
    settle(&mut sidecar);
    log.check(&sidecar, 0, 2);
    let (_, anchor) = log.anchor("data/archive", 0).unwrap();
    assert_eq!(anchor.claims().unwrap().len(), 4, "what was kept is repeated, what was asked again stands behind it");
    assert!(!log.path("data/archive/000000.anchor.tmp").exists());
    sidecar.close().unwrap();
    // A file of ours that does not read is a doubt about our own state.
    std::fs::write(log.path("data/archive/000000.anchor.car"), &written[..written.len() - 1]).unwrap();
    assert!(log.try_open().err().unwrap().is_halt());
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let log = Log::new(1, true);
    log.witnesses[0].is(Mood::Mute);
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 1);
    while log.witnesses[0].size() == 0 {
        sidecar.step(now()).unwrap();
    }
    drop(sidecar);
    log.witnesses[0].is(Mood::Sound);
    let mut sidecar = log.open();
    settle(&mut sidecar);
    log.check(&sidecar, 0, 1);
    sidecar.close().unwrap();
}

#[test]
fn a_witness_that_holds_another_history_halts_the_log() {
    for (hold, is_fork) in [
        (&(|_: u64, second: u64| (second, b"other".as_slice())) as &dyn Fn(u64, u64) -> (u64, &'static [u8]), true),
        (&|first, _| (first, b"other"), true),
        (&|first, _| (first - 1, b"other"), false),
        (&|_, second| (second + 1, b"other"), false),
    ] {
        let log = Log::new(1, true);
        let mut sidecar = log.open();
        log.segment(&mut sidecar, 1);
        settle(&mut sidecar);
        let first = log.witnesses[0].size();
        log.segment(&mut sidecar, 2);
        let second = sidecar.status(now(), true).sealed.size;
        let (size, root) = hold(first, second);
        log.witnesses[0].hold(size, Hash::of(root));
        let error = loop {
            if let Err(error) = sidecar.step(now()) {
                break error;
            }
        };
        let SidecarError::Anchor(told) = &error else { panic!("{error}") };
        assert_eq!(matches!(told, AnchorError::Forked { .. }), is_fork, "{error}");
        assert!(error.is_halt() && error.to_string().contains(&format!("size {size}")), "{error}");
        drop(sidecar);
        let sidecar = log.open();
        assert!(sidecar.refuse_if_halted().is_err(), "every start repeats it");
        assert_eq!(sidecar.status(now(), true).registered["local"], 1);
    }
}

/// Yesterday's copy of everything: the witness is the one thing that cannot be put back.
#[test]
fn a_log_rolled_back_with_all_its_copies_is_stopped_by_its_witness() {
    let log = Log::new(1, false);
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 1);
    settle(&mut sidecar);
    sidecar.close().unwrap();
    let before = kept(&log);
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 2);
    settle(&mut sidecar);
    sidecar.close().unwrap();
    restore(&log, &before);
    let mut sidecar = log.open();
    log.segment(&mut sidecar, 3);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    let error = loop {
        if let Err(error) = sidecar.step(now()) {
            break error;
        }
        assert!(std::time::Instant::now() < end);
    };
    assert!(matches!(error, SidecarError::Anchor(AnchorError::Foreign { .. })), "{error}");
}

/// A witness that came later is shown the newest checkpoint, which covers the others.
#[test]
fn a_newcomer_signs_the_newest_checkpoint() {
    let mut log = Log::new(1, true);
    let mut sidecar = log.open();
    for seed in 1..4 {
        log.segment(&mut sidecar, seed);
        settle(&mut sidecar);
    }
    sidecar.close().unwrap();
    log.witnesses.push(StubWitness::new("witness.example/new", 99, key().vkey()));
    let mut sidecar = log.open();
    assert_eq!(sidecar.status(now(), true).witnessed.unwrap().segments, 0, "the new policy asks for both");
    settle(&mut sidecar);
    assert_eq!(sidecar.status(now(), true).witnessed.unwrap().segments, 3);
    log.check(&sidecar, 2, 2);
    log.check(&sidecar, 1, 1);
    // One that has left the policy leaves no work behind.
    log.witnesses[0].is(Mood::Down);
    log.segment(&mut sidecar, 4);
    sidecar.close().unwrap();
    log.witnesses.remove(0);
    let mut sidecar = log.open();
    settle(&mut sidecar);
    assert_eq!(sidecar.status(now(), true).witnessed.unwrap().segments, 4);
    sidecar.close().unwrap();
}

const PARTS: [&str; 5] = ["data", "heads", "keyring", "vault", "registry"];

/// A copy of all of it beside the log.
fn kept(log: &Log) -> PathBuf {
    let before = log.path("before");
    std::fs::create_dir(&before).unwrap();
    for name in PARTS {
        copy_tree(&log.path(name), &before.join(name));
    }
    before
}

fn restore(log: &Log, from: &Path) {
    for name in PARTS {
        let _ = std::fs::remove_dir_all(log.path(name));
        copy_tree(&from.join(name), &log.path(name));
    }
}
