//! Evidence bundles: the tamper table, on which our check and `check.py` must give the same exit code, row by row.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use pinfold::core::checkpoint::{Head, sign_checkpoint};
use pinfold::core::finding::Refused;
use pinfold::core::hash::Hash;
use pinfold::core::keychange::{Revocation, Rotation};
use pinfold::core::leaf::{Body, GapRange, GapReason, KeyStep, Leaf, Opened, PartRef, Topic, TopicSource, TopicWhy};
use pinfold::core::merkle::{inclusion_proof, nodes_of, root_of};
use pinfold::core::note::{Skey, Vkey, sign_note};
use pinfold::core::origin::Origin;
use pinfold::core::position::{Partition, Position};
use pinfold::core::proof::bundle::{self, Closed, Contents};
use pinfold::core::proof::tar::{self, File};
use pinfold::core::proof::{Extra, Proof};
use pinfold::core::seq::{Seq, Size};

const ORIGIN: &str = "example.com/test/bundle";
const CHECK_PY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/core/proof/bundle/check.py");
/// The range of the bundle of these tests.
const RANGE: (u64, u64) = (8, 14);

fn key(name: &str, n: u8) -> Skey {
    Skey::from_seed(name, &[n; 32]).unwrap()
}

fn recovery(origin: &str) -> Skey {
    key(&format!("{origin}/recovery"), 9)
}

/// A log in memory: its leaves as bytes, and the openings of their parts.
struct Log {
    origin: String,
    leaves: Vec<Vec<u8>>,
    bodies: BTreeMap<u64, Vec<u8>>,
    key: Skey,
}

impl Log {
    /// Opens the log, declares a topic of two partitions and the offsets before it, rotates the key, and folds: the range
    /// has events on both partitions, an entry of ours, a gap, and one gap that was declared long before.
    fn new(origin: &str, is_revoked: bool) -> Log {
        let mut log = Log { origin: origin.to_owned(), leaves: vec![], bodies: BTreeMap::new(), key: key(origin, 1) };
        let (vkey, recovery_vkey) = (log.key.vkey().to_string(), recovery(origin).vkey().to_string());
        let opened = Opened { vkey, origin: log.name(), recovery: recovery_vkey, continues: None };
        log.push(Body::LogOpened(Box::new(opened)));
        log.push(Body::EpochOpened { epoch: 0, classes: vec!["operator".to_owned(), "quarantine".to_owned()] });
        let topic = Topic {
            why: TopicWhy::New,
            name: "consent <b>&amp;</b> ü".to_owned(),
            shared: false,
            source: TopicSource::Kafka,
            cluster: "c".to_owned(),
            replaces: None,
            topic_id: String::new(),
            topic_no: 0,
            partitions: 2,
        };
        log.push(Body::TopicDeclared(Box::new(topic)));
        log.gap(&[
            (0, 0, 4, GapReason::BeforeThisLog),
            (1, 0, 0, GapReason::BeforeThisLog),
            (1, 3, 3, GapReason::Aborted),
        ]);
        log.event(0, 5);
        log.rotate();
        if is_revoked {
            log.revoke();
        } else {
            log.rotate();
        }
        log.event(1, 1);
        // The range begins.
        log.event(0, 6);
        log.event(1, 2);
        log.gap(&[(0, 7, 8, GapReason::TransactionMarker)]);
        log.push(Body::Started { software: "pinfold 0.1.0".to_owned() });
        log.event(1, 4);
        log.event(0, 9);
        // And ends.
        log.event(0, 10);
        log.push(Body::Started { software: "pinfold 0.1.0".to_owned() });
        log
    }

    fn name(&self) -> Origin {
        Origin::new(&self.origin).unwrap()
    }

    fn seq(&self) -> Seq {
        Seq(self.leaves.len() as u64)
    }

    fn push_with(&mut self, body: Body, src: Option<Position>, parts: Vec<PartRef>) {
        let prev = self.leaves.last().map_or(Hash::ZERO, |leaf| Hash::leaf(leaf));
        let leaf = Leaf { seq: self.seq(), src, prev, body, parts };
        self.leaves.push(leaf.encode().unwrap());
    }

    fn push(&mut self, body: Body) {
        self.push_with(body, None, vec![]);
    }

    fn event(&mut self, partition: u64, offset: u64) {
        let seq = self.seq().0;
        let body = format!("what entry {seq} says").into_bytes();
        let ctx = |part: u32| [&self.name().oid().0[..], &seq.to_be_bytes(), &part.to_be_bytes()].concat();
        let part = |part: u32, body: &[u8]| PartRef {
            commitment: Hash::of_all(&[b"pinfold/v1/commit\0", &ctx(part), &r(seq), body]),
            digest: Hash::of(&[&ctx(part)[..], b"frame"].concat()),
        };
        let parts = vec![part(0, b"operator"), part(1, &body)];
        self.bodies.insert(seq, body);
        self.push_with(Body::Event, Some(Position { topic_no: 0, partition, offset }), parts);
    }

    fn gap(&mut self, ranges: &[(u64, u64, u64, GapReason)]) {
        let range = |&(partition, first, last, reason): &(u64, u64, u64, GapReason)| GapRange {
            partition: Partition { topic_no: 0, partition },
            first,
            last,
            reason,
        };
        self.push(Body::Gap(ranges.iter().map(range).collect()));
    }

    fn rotate(&mut self) {
        let new = key(&self.origin, self.leaves.len() as u8);
        let (old, new_vkey) = (self.key.vkey().clone(), new.vkey().clone());
        let rotation = Rotation { origin: self.name(), seq: self.seq(), old, new: new_vkey };
        let note = rotation.sign(&self.key, &new);
        self.push(Body::KeyChanged { note, step: KeyStep::Rotated });
        self.key = new;
    }

    fn revoke(&mut self) {
        let new = key(&self.origin, 0xaa);
        let vouched = self.head(self.leaves.len());
        let revocation = Revocation { vouched, old: self.key.vkey().clone(), new: new.vkey().clone() };
        let note = revocation.sign(&recovery(&self.origin), &new);
        self.push(Body::KeyChanged { note, step: KeyStep::Revoked });
        self.key = new;
    }

    fn hashes(&self, size: usize) -> Vec<Hash> {
        self.leaves[..size].iter().map(|leaf| Hash::leaf(leaf)).collect()
    }

    fn head(&self, size: usize) -> Head {
        Head { origin: self.name(), size: Size(size as u64), root: root_of(&self.hashes(size)) }
    }

    fn checkpoint(&self) -> String {
        sign_checkpoint(&self.head(self.leaves.len()), &self.key)
    }

    fn proof(&self, seq: u64, checkpoint: &str) -> Proof {
        let hashes = self.hashes(self.leaves.len());
        let path = inclusion_proof(Seq(seq), Size(hashes.len() as u64), nodes_of(&hashes)).unwrap();
        let leaf = self.leaves[seq as usize].clone();
        Proof { extra: Extra::Leaf { leaf }, index: Seq(seq), hashes: path, checkpoint: checkpoint.to_owned() }
    }

    /// The bundle of the range, with part 1 of three events disclosed.
    fn contents(&self) -> Contents {
        let checkpoint = self.checkpoint();
        let context = [0, 2, 3, 5, 6];
        let mut proofs: Vec<Proof> =
            context.into_iter().chain(RANGE.0..RANGE.1).map(|seq| self.proof(seq, &checkpoint)).collect();
        for proof in &mut proofs {
            let seq = proof.index.0;
            if let Some(body) = self.bodies.get(&seq).filter(|_| seq >= RANGE.0 && seq != 9) {
                *proof = bundle::disclosing(proof.clone(), r(seq), body.clone(), 1);
            }
        }
        let closed = [((Seq(9), 1), Closed::NotHeld), ((Seq(9), 0), Closed::NoPayload)];
        Contents {
            first: Seq(RANGE.0),
            next: Seq(RANGE.1),
            proofs,
            tokens: vec![b"token".to_vec()],
            closed: closed.into(),
        }
    }

    fn bundle(&self) -> Vec<u8> {
        bundle::write::<Refused>(&self.contents(), |signer, text| {
            assert_eq!(signer, self.key.vkey());
            Ok(sign_note(text, &[&self.key]))
        })
        .unwrap()
    }
}

/// The random bytes of the openings of an entry.
fn r(seq: u64) -> [u8; 32] {
    [seq as u8; 32]
}

/// Makes the manifest and its note anew, as whoever holds `key` can.
fn resign(files: &mut Vec<File>, key: &Skey) {
    files.retain(|file| file.name != "manifest.note");
    let at = files.iter().position(|file| file.name == "manifest.json").unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&files[at].bytes).unwrap();
    let listed = files.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, file)| {
        let digest = Hash::of(&file.bytes).to_string();
        format!(
            "{{\n      \"name\": \"{}\",\n      \"bytes\": {},\n      \"sha256\": \"{digest}\"\n    }}",
            file.name,
            file.bytes.len()
        )
    });
    let listed = listed.collect::<Vec<_>>().join(",\n    ");
    let field = |manifest: &mut serde_json::Value, name: &str| manifest[name].take();
    let mut text = String::from("{\n");
    for name in ["format", "origin", "size", "root", "first", "next"] {
        text += &format!("  \"{name}\": {},\n", field(&mut manifest, name));
    }
    text += &format!("  \"files\": [\n    {listed}\n  ]\n}}\n");
    files[at].bytes = text.into_bytes();
    let manifest = files.remove(at);
    let head = String::from_utf8(file(files, "checkpoint").bytes.clone()).unwrap();
    let mut lines = head.lines();
    let (origin, size) = (lines.next().unwrap().to_owned(), lines.next().unwrap().to_owned());
    let digest = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Hash::of(&manifest.bytes).0);
    let note = sign_note(&format!("pinfold/v1/evidence\n{origin}\n{size}\n{digest}\n"), &[key]);
    files.push(manifest);
    files.push(File { name: "manifest.note".to_owned(), bytes: note.into_bytes() });
}

fn file<'f>(files: &'f mut [File], name: &str) -> &'f mut File {
    files.iter_mut().find(|file| file.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn replace(files: &mut [File], name: &str, from: &str, to: &str) {
    let file = file(files, name);
    let text = String::from_utf8(file.bytes.clone()).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    file.bytes = text.replacen(from, to, 1).into_bytes();
}

fn remove(files: &mut Vec<File>, name: &str) {
    let before = files.len();
    files.retain(|file| file.name != name);
    assert_eq!(files.len() + 1, before, "{name}");
}

/// A tar of these files, whatever is in them.
fn tar_of(files: &[File]) -> Vec<u8> {
    tar::write(files).unwrap()
}

/// Both checkers, on a tar with these vkeys. Python is started once a test: that is most of what a row costs.
struct Checkers {
    dir: tempfile::TempDir,
    python: RefCell<(Child, BufReader<ChildStdout>)>,
}

/// Calls `main` of the checker for each line: the arguments, parted by tabs. Answers with the exit code and what it said.
const DRIVER: &str = "
import contextlib, importlib.util, io, sys
spec = importlib.util.spec_from_file_location('check', sys.argv[1])
check = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(check)
for line in sys.stdin:
    sys.argv, said = ['check.py', *line.rstrip('\\n').split('\\t')], io.StringIO()
    with contextlib.redirect_stdout(said):
        code = check.main()
    print(code, said.getvalue().strip().replace('\\n', ' '), flush=True)
";

impl Checkers {
    fn new() -> Checkers {
        let mut child = Command::new("python3")
            .args(["-c", DRIVER, CHECK_PY])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, which scripts/setup installs");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Checkers { dir: tempfile::tempdir().unwrap(), python: RefCell::new((child, lines)) }
    }

    fn ours(tar: &[u8], vkeys: &[String]) -> (i32, String) {
        let vkeys: Vec<Vkey> = vkeys.iter().map(|vkey| vkey.parse().unwrap()).collect();
        let recovery = vkeys.iter().find(|vkey| vkey.name().ends_with("/recovery"));
        let log: Vec<Vkey> = vkeys.iter().filter(|vkey| !vkey.name().ends_with("/recovery")).cloned().collect();
        match bundle::check(tar, &log, recovery) {
            Ok(_) => (10, String::new()),
            Err(refused) => (i32::from(refused.code.exit().unwrap()), refused.to_string()),
        }
    }

    /// `pinfold check`, with these vkeys and nothing else.
    fn binary(&self, tar: &[u8], vkeys: &[String]) -> (i32, String) {
        let (bundle, vkey) = self.files(tar, vkeys);
        let mut check = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        check.args(["check", "--json"]).arg(bundle).arg("--vkey").arg(vkey).current_dir(self.dir.path());
        let output = check.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn files(&self, tar: &[u8], vkeys: &[String]) -> (PathBuf, PathBuf) {
        let (bundle, vkey) = (self.dir.path().join("x.evidence.tar"), self.dir.path().join("x.vkey"));
        fs::write(&bundle, tar).unwrap();
        fs::write(&vkey, vkeys.iter().map(|vkey| format!("{vkey}\n")).collect::<String>()).unwrap();
        (bundle, vkey)
    }

    fn python(&self, tar: &[u8], vkeys: &[String]) -> (i32, String) {
        let (bundle, vkey) = self.files(tar, vkeys);
        let mut python = self.python.borrow_mut();
        let mut stdin = python.0.stdin.as_ref().unwrap();
        writeln!(stdin, "{}\t--vkey\t{}", bundle.display(), vkey.display()).unwrap();
        let mut answer = String::new();
        python.1.read_line(&mut answer).unwrap();
        let (code, said) = answer.trim().split_once(' ').unwrap_or_else(|| panic!("{answer:?}"));
        (code.parse().unwrap(), said.to_owned())
    }

    /// One row of the table.
    fn row(&self, what: &str, tar: &[u8], vkeys: &[String], exit: i32) {
        let (ours, binary, python) = (Checkers::ours(tar, vkeys), self.binary(tar, vkeys), self.python(tar, vkeys));
        println!("{exit}  {what}\n      {}\n      {}", ours.1, python.1);
        let exits = (ours.0, binary.0, python.0);
        assert_eq!(exits, (exit, exit, exit), "{what}: {} | {} | {}", ours.1, binary.1, python.1);
    }
}

impl Drop for Checkers {
    fn drop(&mut self) {
        let python = self.python.get_mut();
        drop(python.0.kill());
        drop(python.0.wait());
    }
}

fn vkeys(keys: &[&Skey]) -> Vec<String> {
    keys.iter().map(|key| key.vkey().to_string()).collect()
}

#[test]
fn the_same_contents_give_the_same_bytes_and_both_checkers_take_them() {
    let (log, checkers) = (Log::new(ORIGIN, false), Checkers::new());
    let bundle = log.bundle();
    assert!(bundle == log.bundle(), "byte for byte");
    let (first, stranger) = (key(ORIGIN, 1), key(ORIGIN, 77));
    for held in [vec![&first], vec![&log.key], vec![&first, &recovery(ORIGIN)], vec![&stranger, &log.key]] {
        checkers.row("a sound bundle", &bundle, &vkeys(&held), 10);
    }
    let middle = key(ORIGIN, 5);
    checkers.row("a key in the middle", &bundle, &vkeys(&[&middle]), 40);
    checkers.row("another log's key", &bundle, &vkeys(&[&key("other/log", 1)]), 40);
    checkers.row("no vkey", &bundle, &[], 50);
    checkers.row("only the recovery vkey", &bundle, &vkeys(&[&recovery(ORIGIN)]), 50);
    let other = key(&format!("{ORIGIN}/recovery"), 8);
    checkers.row("another recovery vkey", &bundle, &vkeys(&[&first, &other]), 40);
    let shown = bundle::check(&bundle, &[first.vkey().clone()], None).unwrap();
    assert_eq!((shown.first, shown.next, shown.disclosed(), shown.proven.len()), (Seq(8), Seq(14), 3, 11));
}

#[test]
fn a_revocation_on_the_way_needs_the_recovery_key_or_the_newest() {
    let (log, checkers) = (Log::new(ORIGIN, true), Checkers::new());
    let (bundle, first) = (log.bundle(), key(ORIGIN, 1));
    checkers.row("revoked, with the recovery vkey", &bundle, &vkeys(&[&first, &recovery(ORIGIN)]), 10);
    checkers.row("revoked, with the newest vkey", &bundle, &vkeys(&[&log.key]), 10);
    checkers.row("revoked, with the first vkey alone", &bundle, &vkeys(&[&first]), 50);
}

#[test]
fn every_file_changed_removed_added_or_moved_is_found_by_both() {
    let (log, checkers) = (Log::new(ORIGIN, false), Checkers::new());
    let (bundle, held) = (log.bundle(), vkeys(&[&key(ORIGIN, 1), &recovery(ORIGIN)]));
    let files = tar::read(&bundle).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<File>)| {
        let mut files = files.clone();
        change(&mut files);
        tar_of(&files)
    };
    for (n, name) in files.iter().map(|file| file.name.clone()).enumerate() {
        let flip = |files: &mut Vec<File>| {
            let middle = files[n].bytes.len() / 2;
            files[n].bytes[middle] ^= 1;
        };
        checkers.row(&format!("{name}: a byte flipped"), &changed(&flip), &held, 40);
        checkers.row(&format!("{name}: removed"), &changed(&|files| drop(files.remove(n))), &held, 20);
        let more = changed(&|files| files[n].bytes.push(b'\n'));
        checkers.row(&format!("{name}: a byte more"), &more, &held, 40);
        if n > 0 {
            checkers.row(&format!("{name}: moved"), &changed(&|files| files.swap(n - 1, n)), &held, 40);
        }
    }
    let extra = File { name: "notes.txt".to_owned(), bytes: b"trust me".to_vec() };
    checkers.row("a file added", &changed(&|files| files.insert(3, extra.clone())), &held, 40);
    checkers.row("a file renamed", &changed(&|files| files[3].name = "3.tlog-prooF".to_owned()), &held, 40);
    // What is left then is no bundle: it claims no range. Ours says what its proofs show, the other one refuses it.
    let proofs = changed(&|files| files.retain(|file| file.name.ends_with("-proof")));
    assert_eq!((checkers.binary(&proofs, &held).0, checkers.python(&proofs, &held).0), (10, 20));
    checkers.row("nothing in it", &tar_of(&[]), &held, 40);
    for (what, tar) in [
        ("cut", bundle[..bundle.len() - 512].to_vec()),
        ("cut within a file", bundle[..700].to_vec()),
        ("empty", vec![]),
        ("bytes behind it", [&bundle[..], &[0; 512]].concat()),
        ("a time in a header", [&bundle[..140], b"1", &bundle[141..]].concat()),
        ("an owner in a header", [&bundle[..110], b"7", &bundle[111..]].concat()),
        ("no tar", vec![b'x'; 4096]),
    ] {
        checkers.row(what, &tar, &held, 40);
    }
    // Ours alone: bytes all over the tar.
    for at in (0..bundle.len()).step_by(17) {
        let mut changed = bundle.clone();
        changed[at] ^= 1;
        let (exit, why) = Checkers::ours(&changed, &held);
        assert!(exit == 40 || exit == 20, "byte {at}: {exit} {why}");
    }
}

#[test]
fn what_whoever_holds_the_key_can_make_anew_is_held_against_the_entries() {
    let (log, checkers) = (Log::new(ORIGIN, false), Checkers::new());
    let (other, bundle) = (Log::new("other/log", false), log.bundle());
    let held = vkeys(&[&key(ORIGIN, 1), &recovery(ORIGIN)]);
    let row = |what: &str, signer: &Skey, exit: i32, change: &dyn Fn(&mut Vec<File>)| {
        let mut files = tar::read(&bundle).unwrap();
        change(&mut files);
        resign(&mut files, signer);
        checkers.row(what, &tar_of(&files), &held, exit);
    };
    let own = &log.key;
    row("made anew by the log's key", own, 10, &|_| {});
    row("the manifest signed by another key", &key(ORIGIN, 77), 40, &|_| {});
    row("the manifest signed by the key before", &key(ORIGIN, 5), 40, &|_| {});
    row("the manifest signed by another log's key", &other.key, 40, &|_| {});
    row("a record removed", own, 40, &|files| remove(files, "9.tlog-proof"));
    row("the range cut to hide it", own, 40, &|files| {
        remove(files, "13.tlog-proof");
        replace(files, "manifest.json", "\"next\": 14", "\"next\": 13");
    });
    row("the range turned around", own, 40, &|files| {
        replace(files, "manifest.json", "\"next\": 14", "\"next\": 7");
    });
    row("a change of key left out", own, 40, &|files| remove(files, "5.tlog-proof"));
    row("the first entry left out", own, 40, &|files| remove(files, "0.tlog-proof"));
    row("a gap left out", own, 20, &|files| remove(files, "3.tlog-proof"));
    row("a proof of another log", own, 40, &|files| {
        file(files, "9.tlog-proof").bytes = other.proof(9, &log.checkpoint()).to_text().into_bytes();
    });
    row("a proof under another log's checkpoint", own, 40, &|files| {
        file(files, "9.tlog-proof").bytes = other.proof(9, &other.checkpoint()).to_text().into_bytes();
    });
    row("a proof of another entry", own, 40, &|files| {
        file(files, "9.tlog-proof").bytes = log.proof(8, &log.checkpoint()).to_text().into_bytes();
    });
    let forged = sign_checkpoint(&log.head(log.leaves.len()), &key(ORIGIN, 77));
    let rechecked = |files: &mut Vec<File>, checkpoint: &str| {
        let old = log.checkpoint();
        for file in files.iter_mut().filter(|file| file.name.ends_with("-proof") || file.name == "checkpoint") {
            file.bytes = String::from_utf8(file.bytes.clone()).unwrap().replace(&old, checkpoint).into_bytes();
        }
    };
    row("a checkpoint by another key", own, 40, &|files| rechecked(files, &forged));
    let cosigned = format!("{}{}", log.checkpoint(), key("witness.example", 3).sign("of something"));
    row("a checkpoint with a cosignature", own, 10, &|files| rechecked(files, &cosigned));
    let twice = format!("{}{}", log.checkpoint(), own.sign(&log.head(log.leaves.len()).text()));
    row("a checkpoint signed twice", own, 40, &|files| rechecked(files, &twice));
    let older = sign_checkpoint(&log.head(15), own);
    row("an older checkpoint", own, 40, &|files| rechecked(files, &older));
    row("a checkpoint beside the proofs'", own, 40, &|files| {
        file(files, "checkpoint").bytes = cosigned.clone().into_bytes();
    });
    let opened = |r: [u8; 32], body: &[u8], part: u32| {
        let proof = bundle::disclosing(log.proof(8, &log.checkpoint()), r, body.to_vec(), part);
        proof.to_text().into_bytes()
    };
    let open = |bytes: Vec<u8>| move |files: &mut Vec<File>| file(files, "8.tlog-proof").bytes = bytes.clone();
    row("another content claimed", own, 40, &open(opened(r(8), b"what entry 8 never said", 1)));
    row("another random value", own, 40, &open(opened(r(7), b"what entry 8 says", 1)));
    row("another part claimed", own, 40, &open(opened(r(8), b"what entry 8 says", 0)));
    row("a part that is not there", own, 40, &open(opened(r(8), b"what entry 8 says", 2)));
    row("the disclosure taken away", own, 40, &open(log.proof(8, &log.checkpoint()).to_text().into_bytes()));
    row("keys.json changed", own, 40, &|files| replace(files, "keys.json", "rotated", "revoked"));
    row("completeness.json changed", own, 40, &|files| {
        replace(files, "completeness.json", "\"entries\": 2", "\"entries\": 3")
    });
    row("completeness.json of another form", own, 40, &|files| replace(files, "completeness.json", "\n", "\n "));
    row("an undisclosed part left out", own, 40, &|files| {
        let text = String::from_utf8(file(files, "undisclosed.txt").bytes.clone()).unwrap();
        let first = text.lines().next().unwrap().to_owned();
        replace(files, "undisclosed.txt", &format!("{first}\n"), "");
    });
    row("an unknown reason", own, 40, &|files| replace(files, "undisclosed.txt", "not-held", "not-ours"));
    row("another known reason", own, 10, &|files| replace(files, "undisclosed.txt", "not-held", "not-asked"));
    for name in ["keys.json", "completeness.json", "undisclosed.txt", "checkpoint"] {
        if name != "checkpoint" {
            row(&format!("{name} left out"), own, 40, &|files| remove(files, name));
        }
    }
    row("the report rewritten", own, 10, &|files| file(files, "report.html").bytes = b"<p>all is well".to_vec());
    row("a manifest of another checkpoint", own, 40, &|files| {
        let root = log.checkpoint().lines().nth(2).unwrap().to_owned();
        replace(files, "manifest.json", &root, log.head(3).text().lines().nth(2).unwrap());
    });
    row("another form of manifest", own, 50, &|files| {
        replace(files, "manifest.json", "pinfold-evidence/1", "pinfold-evidence/2");
    });
}

#[test]
fn a_log_that_breaks_its_own_rules_convicts_itself() {
    let checkers = Checkers::new();
    let held = vkeys(&[&key(ORIGIN, 1)]);
    let sound = Log::new(ORIGIN, false);
    // Such bundles are not written: they are put together by hand, over a tree the log did sign.
    let row = |what: &str, exit: i32, change: &dyn Fn(&mut Log)| {
        let mut log = Log::new(ORIGIN, false);
        change(&mut log);
        let mut files = tar::read(&sound.bundle()).unwrap();
        let checkpoint = log.checkpoint();
        for file in files.iter_mut() {
            if let Some(seq) = file.name.strip_suffix(".tlog-proof") {
                file.bytes = log.proof(seq.parse().unwrap(), &checkpoint).to_text().into_bytes();
            }
        }
        let root = |checkpoint: &str| format!("\"{}\"", checkpoint.lines().nth(2).unwrap());
        replace(&mut files, "manifest.json", &root(&sound.checkpoint()), &root(&checkpoint));
        file(&mut files, "checkpoint").bytes = checkpoint.into_bytes();
        resign(&mut files, &log.key);
        assert!(
            bundle::write::<Refused>(&log.contents(), |_, text| Ok(sign_note(text, &[&log.key]))).is_err(),
            "{what}"
        );
        checkers.row(what, &tar_of(&files), &held, exit);
    };
    let edit = |seq: usize, edit: &dyn Fn(&mut Leaf)| {
        let mut leaf = Leaf::decode(&sound.leaves[seq]).unwrap();
        edit(&mut leaf);
        leaf.encode().unwrap()
    };
    let at = |offset| move |leaf: &mut Leaf| leaf.src.as_mut().unwrap().offset = offset;
    row("an offset skipped without a word", 20, &|log| log.leaves[13] = edit(13, &at(10)));
    row("an offset twice", 40, &|log| log.leaves[13] = edit(13, &at(6)));
    row("an offset that was declared a gap", 40, &|log| log.leaves[13] = edit(13, &at(8)));
    row("a leaf of another version", 50, &|log| {
        let mut leaf = log.leaves[13].clone();
        assert_eq!(&leaf[..4], b"\xa7\x61v\x01");
        leaf[3] = 2;
        log.leaves[13] = leaf;
    });
    row("an entry under another seq", 40, &|log| log.leaves[13] = edit(13, &|leaf| leaf.seq = Seq(12)));
    row("a rotation by the new key alone", 40, &|log| {
        log.leaves[5] = edit(5, &|leaf| {
            let Body::KeyChanged { note, .. } = &mut leaf.body else { panic!() };
            let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
            *note = sign_note(&text, &[&key(ORIGIN, 5), &key(ORIGIN, 5)]);
        });
    });
    row("a rotation for another entry", 40, &|log| {
        log.leaves[5] = edit(5, &|leaf| {
            let rotation = Rotation {
                origin: Origin::new(ORIGIN).unwrap(),
                seq: Seq(4),
                old: key(ORIGIN, 1).vkey().clone(),
                new: key(ORIGIN, 5).vkey().clone(),
            };
            let note = rotation.sign(&key(ORIGIN, 1), &key(ORIGIN, 5));
            leaf.body = Body::KeyChanged { note, step: KeyStep::Rotated };
        });
    });
}

#[test]
fn check_py_is_short_and_stands_alone() {
    let text = fs::read_to_string(CHECK_PY).unwrap();
    assert!(text.lines().count() <= 200, "{} lines", text.lines().count());
    assert!(text.lines().all(|line| line.chars().count() <= 120));
    let imports: Vec<&str> = text.lines().filter(|line| line.contains("import")).collect();
    assert_eq!(imports, ["import argparse, base64, hashlib, json, pathlib, re, subprocess, sys, tempfile"]);
    assert_eq!(text, bundle::CHECK_PY);
}
