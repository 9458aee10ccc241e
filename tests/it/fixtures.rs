//! The frozen fixtures of every format version: they open, verify and are written again as the same bytes, for ever.
//!
//! Only copies are opened. Each check is shown to catch a planted change. The maker (`freeze`) makes new ones in a
//! temporary directory in every run and puts them through the same checks; `scripts/freeze-fixtures` keeps them.
//! What each file is: `tests/fixtures/v1/README.md`.

mod checks;
mod log;
mod pieces;
mod records;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pinfold::core::audit::File;
use pinfold::core::car::Limits;
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::hash::Hash;
use pinfold::core::segment::read::Proof;
use rusqlite::Connection;
use serde_json::Value;

pub(crate) use pieces::blocks;

use crate::binary::Log;
use crate::memory::Memory;
use checks::{check_blocks, check_leaves, check_notes, check_parts};
use story::KEYS;

/// What a check found wrong.
type Checked = Result<(), String>;

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn is(what: &str, holds: bool) -> Checked {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Every file below `dir`, by its path there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

const SUMS: &str = "SHA256SUMS";
/// The words about the fixtures may be bettered.
const WORDS: &str = "README.md";

fn sums(files: &BTreeMap<String, Vec<u8>>) -> String {
    let line = |(name, bytes): (&String, &Vec<u8>)| format!("{}  {name}\n", Hash::of(bytes));
    files.iter().filter(|(name, _)| ![SUMS, WORDS].contains(&name.as_str())).map(line).collect()
}

fn check_sums(files: &BTreeMap<String, Vec<u8>>) -> Checked {
    let frozen = String::from_utf8(files[SUMS].clone()).unwrap();
    let found = sums(files);
    let differing =
        frozen.lines().find(|line| !found.contains(line)).or(found.lines().find(|line| !frozen.contains(line)));
    differing.map_or(Ok(()), |line| Err(format!("frozen as something else: {line}")))
}

#[test]
fn every_file_is_what_was_frozen() {
    let mut files = files(&frozen());
    assert_eq!(check_sums(&files), Ok(()));
    for name in files.keys().filter(|name| ![SUMS, WORDS].contains(&name.as_str())).cloned().collect::<Vec<_>>() {
        let sound = files[&name].clone();
        files.get_mut(&name).unwrap().push(0);
        assert!(check_sums(&files).is_err(), "{name} changed");
        files.remove(&name);
        assert!(check_sums(&files).is_err(), "{name} gone");
        files.insert(name, sound);
    }
    files.insert("one-more".to_owned(), Vec::new());
    assert!(check_sums(&files).is_err(), "a file more");
}

/// Whether `found` says what `expected` does. It may say more: later versions add fields, and never rename.
fn says(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, expected)| found.get(name).is_some_and(|found| says(found, expected)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| says(found, expected))
        }
        (found, expected) => found == expected,
    }
}

fn check_answers(dir: &Path, found: &BTreeMap<String, Vec<Value>>) -> Checked {
    for (name, text) in files(dir).iter().filter(|(name, _)| name.starts_with("log/")) {
        let lines = std::str::from_utf8(text).unwrap().lines();
        let expected: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let found = found.get(name).ok_or_else(|| format!("{name}: no such question"))?;
        is(&format!("{name}: {} answers instead of {}", found.len(), expected.len()), found.len() == expected.len())?;
        for (found, expected) in found.iter().zip(&expected) {
            is(&format!("{name}: {found} instead of {expected}"), says(found, expected))?;
        }
    }
    Ok(())
}

fn check_log(dir: &Path) {
    let log = log::unpacked(dir);
    let mut answers = log::answers(&log);
    assert_eq!(check_answers(dir, &answers), Ok(()));
    let archive = Memory::read(&log.path("data/archive"));
    assert!(log::built_again(&archive) == archive.files, "the archive is made again as it was");
    // The check sees an answer that is another, and one that is missing.
    let rows = answers.get_mut("log/show.ndjson").unwrap();
    rows[3]["leaf_hash"] = "00".into();
    assert!(check_answers(dir, &answers).is_err());
    answers.get_mut("log/show.ndjson").unwrap().remove(3);
    assert!(check_answers(dir, &answers).is_err());
}

/// What the log must hold for its fixtures to mean anything.
fn check_story(dir: &Path) {
    let lines = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let shown = lines("log/show.ndjson");
    let of = |kind: &str| shown.iter().filter(|entry| entry["kind"] == kind).collect::<Vec<_>>();
    for kind in [
        "event",
        "log-opened",
        "topic-declared",
        "gap",
        "quarantined",
        "segment-sealed",
        "pinned",
        "registered",
        "restored",
        "clock-step",
        "overlap",
        "epoch-opened",
        "observed",
        "started",
    ] {
        assert!(!of(kind).is_empty(), "no {kind}");
    }
    let codes = |kind: &str, name: &str| -> BTreeSet<u64> {
        of(kind).iter().map(|entry| entry["clear"][name].as_u64().unwrap()).collect()
    };
    assert_eq!(codes("quarantined", "reason"), (0..8).collect::<BTreeSet<u64>>());
    assert_eq!(codes("topic-declared", "why"), BTreeSet::from([0, 2, 3, 4]));
    let gap = |entry: &&Value| entry["clear"]["ranges"][0][4].as_u64().unwrap();
    assert_eq!(of("gap").iter().map(gap).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 3, 7]));
    assert!(of("event").iter().any(|entry| entry["parts"].as_array().unwrap().len() == 4), "about three people");
    let segments = lines("log/query/segments.ndjson").len();
    assert!(segments >= 5 && shown.last().unwrap()["segment"].is_null(), "segments and an unsealed tail");
    let algorithms: BTreeSet<u64> =
        lines("log/parts.ndjson").iter().map(|part| part["alg"].as_u64().unwrap()).collect();
    assert!(algorithms.contains(&2));
}

#[test]
fn leaves_parts_notes_and_blocks_are_read_and_written_as_ever() {
    check_leaves(&frozen());
    check_parts(&frozen());
    check_notes(&frozen());
    check_blocks(&frozen());
}

#[test]
fn the_log_opens_verifies_and_answers_as_ever() {
    check_story(&frozen());
    check_log(&frozen());
}

/// A head that was shown before.
fn known_head(log: &Log) -> String {
    let archive = Memory::read(&log.path("data/archive"));
    let newest = archive.segments() - 1;
    let proof = Proof::open(archive.file(newest, File::Proof).unwrap(), Limits::default()).unwrap();
    let path = log.dir.path().join("known-head");
    std::fs::write(&path, &proof.seal().checkpoint).unwrap();
    path.to_str().unwrap().to_owned()
}

/// More of it, of somebody who is known and of somebody who is not.
fn goes_on(log: &Log) {
    let known_head = known_head(log);
    let before = log.status();
    let lines = ["ada", "zoe"].map(|name| {
        serde_json::json!({
            "specversion": "1.0", "id": format!("later of {name}"), "source": "urn:later", "type": "com.maily.consent.v1",
            "data": {
                "subject": { "identifiers": [{ "type": "email", "value": format!("{name}@example.org") }] },
                "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_WITHDRAWN" }],
            },
        })
        .to_string()
    });
    let file = log.dir.path().join("later.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    assert_eq!(log.ok(&["ingest", file.to_str().unwrap()])["accepted"], 2);
    let done = log.ok(&["run", "--until-idle"]);
    assert!(done["size"].as_u64() > before["size"].as_u64(), "{done}");
    let status = log.status();
    // An old tail is sealed at once, the new records after it.
    let segments = |status: &Value| status["sealed"]["segments"].as_u64().unwrap();
    assert!(segments(&status) > segments(&before), "{status}");
    assert_eq!(
        (&status["pinned"]["vault"], &status["registered"]["local"]),
        (&segments(&status).into(), &segments(&status).into())
    );
    let archive = log.path("data/archive");
    let vkey = log::vkey(log);
    let (exit, report) =
        log.answer(&["verify", archive.to_str().unwrap(), "--vkey", &vkey, "--known-head", &known_head]);
    assert_eq!((exit, &report["findings_total"]), (10, &0.into()), "beyond the known head: {report}");
    let (exit, report) = log.answer(&["verify", "--registry"]);
    let codes: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    assert_eq!((exit, codes), (10, vec![&Value::from("unsealed-tail")]), "{report}");
}

#[test]
fn the_log_goes_on_from_where_it_stood() {
    goes_on(&log::unpacked(&frozen()));
}

#[test]
fn the_log_is_rebuilt_from_its_archive_and_goes_on() {
    let log = log::unpacked(&frozen());
    std::fs::remove_dir_all(log.path("data/journal")).unwrap();
    std::fs::remove_file(log.path("data/registry.sqlite")).unwrap();
    log.ok(&["rebuild", "--accept-lost-tail", "--yes"]);
    log.ok(&["registry", "rebuild", "--yes"]);
    goes_on(&log);
}

/// The file whose name begins so, of the log.
fn one_of(log: &Log, dir: &str, prefix: &str) -> PathBuf {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(log.path(dir)).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    found.sort();
    found.pop().unwrap_or_else(|| panic!("{dir} has no {prefix}"))
}

/// Changes one byte, so far from the start in hundredths.
fn change(path: &Path, hundredths: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = (bytes.len() * hundredths / 100).min(bytes.len() - 1);
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_change_of_any_file_of_the_log_is_noticed() {
    let sound = log::unpacked(&frozen());
    let copy = || {
        let log = Log { dir: tempfile::tempdir().unwrap() };
        crate::binary::copy_tree(&sound.path(""), &log.path(""));
        log
    };
    assert_eq!(copy().answer(&["verify"]).0, 10);
    // The store: all of its first half, because a byte may lie where nothing is kept.
    let zero = |path: PathBuf| {
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[..half].fill(0x5a);
        std::fs::write(path, bytes).unwrap();
    };
    type Plant<'a> = &'a dyn Fn(&Log);
    let refuses_to_open: [(&str, Plant<'_>); 13] = [
        ("configuration", &|log| log.set("entries_min = 256", "entrys_min = 256")),
        ("log key", &|log| change(&one_of(log, KEYS, "log.key"), 60)),
        ("KEK", &|log| change(&one_of(log, KEYS, "kek"), 0)),
        ("version", &|log| change(&log.path("data/VERSION"), 0)),
        ("current", &|log| change(&log.path("data/journal/CURRENT"), 0)),
        ("store", &|log| zero(one_of(log, "data/journal", "sled-").join("db"))),
        ("frames", &|log| change(&one_of(log, "data/journal/frames", ""), 99)),
        ("head", &|log| change(&log.path("heads/head"), 60)),
        ("manifest", &|log| change(&log.path("keyring/manifest"), 50)),
        ("epochs", &|log| change(&log.path("keyring/epochs"), 80)),
        ("write-ahead file", &|log| change(&one_of(log, "keyring", "wal."), 60)),
        ("root shard", &|log| change(&one_of(log, "keyring/shards", "00000000."), 60)),
        ("journal rolled back", &|log| {
            std::fs::remove_dir_all(log.path("data/journal")).unwrap();
        }),
    ];
    for (what, plant) in refuses_to_open {
        let log = copy();
        plant(&log);
        let (exit, answer) = log.answer(&["status"]);
        assert!([2, 4].contains(&exit), "{what} changed: {exit} {answer}");
    }
    let finds: [(&str, i32, &str, Plant<'_>); 5] = [
        ("proof", 40, "block-hash", &|log| change(&log.path("data/archive/000002.proof.car"), 90)),
        ("payload", 40, "block-hash", &|log| change(&log.path("data/archive/000000.payload.car"), 90)),
        ("registry", 30, "registry-differs", &|log| {
            let edit = "UPDATE entries SET leaf_hash = replace(leaf_hash, '0', '1') WHERE seq = 9";
            let edited = Connection::open(log.path("data/registry.sqlite")).unwrap().execute(edit, []).unwrap();
            assert_eq!(edited, 1);
        }),
        ("registry row gone", 30, "registry-missing", &|log| {
            let edit = "DELETE FROM gaps WHERE first_offset = (SELECT MIN(first_offset) FROM gaps)";
            assert!(Connection::open(log.path("data/registry.sqlite")).unwrap().execute(edit, []).unwrap() > 0);
        }),
        ("segment gone", 20, "segment-missing", &|log| {
            std::fs::remove_file(log.path("data/archive/000001.proof.car")).unwrap();
            std::fs::remove_file(log.path("data/archive/000001.payload.car")).unwrap();
        }),
    ];
    for (what, code, finding, plant) in finds {
        let log = copy();
        plant(&log);
        let (exit, report) = log.answer(&["verify"]);
        assert_eq!(exit, code, "{what}: {report}");
        let findings = report["findings"].as_array().unwrap();
        assert!(findings.iter().any(|found| found["code"] == finding), "{what}: {report}");
    }
    // The shards of people: what they held opens nothing any more.
    let log = copy();
    change(&one_of(&log, "keyring/shards", "0000"), 60);
    assert!(log::keyring(&log).check().is_err(), "a shard changed");
    assert!(log::keyring(&sound).check().is_ok());
}

#[test]
fn a_torn_end_is_cut_and_nothing_is_lost() {
    let log = log::unpacked(&frozen());
    let before = log.status();
    for path in [one_of(&log, "data/journal/frames", ""), one_of(&log, "keyring", "wal.")] {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&[0, 0, 1, 0, 7, 7, 7]);
        std::fs::write(&path, bytes).unwrap();
    }
    let after = log.status();
    assert_eq!((&after["size"], &after["root"]), (&before["size"], &before["root"]));
    goes_on(&log);
}

/// The fixtures that are functions of constants.
fn small() -> BTreeMap<String, Vec<u8>> {
    let pretty = |value: &Value| (serde_json::to_string_pretty(value).unwrap() + "\n").into_bytes();
    let segment = pieces::segment();
    let mut files = BTreeMap::from([
        ("leaves.json".to_owned(), pretty(&pieces::leaves())),
        ("parts.json".to_owned(), pretty(&pieces::parts())),
        ("notes.json".to_owned(), pretty(&pieces::notes())),
        ("blocks/segment.proof.car".to_owned(), segment.proof_car.clone()),
        ("blocks/segment.anchor.car".to_owned(), segment.anchor.to_car()),
        ("blocks/entry-4.tlog-proof".to_owned(), segment.proof.to_text().into_bytes()),
    ]);
    let mut says = serde_json::Map::new();
    for (name, block) in pieces::named_blocks(&segment) {
        let cid = Cid::of(Codec::DagCbor, &block).to_string();
        says.insert(name.to_owned(), serde_json::json!({ "cid": cid, "says": pieces::json_of_block(&block) }));
        files.insert(format!("blocks/{name}.cbor"), block);
    }
    files.insert("blocks/blocks.json".to_owned(), pretty(&says.into()));
    files
}

/// Makes every fixture in `dir`, which holds nothing but words: nothing is ever overwritten.
fn make(dir: &Path) -> Checked {
    if let Some(name) = files(dir).into_keys().find(|name| name != WORDS) {
        return Err(format!("{} is frozen already: it has {name}", dir.display()));
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create_new(&path).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        println!("{:>8} {name}", bytes.len());
    };
    small().iter().for_each(|(name, bytes)| write(name, bytes));
    write("log.tar.gz", &log::packed());
    for (name, answers) in log::answers(&log::unpacked(dir)) {
        let text: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
        write(&name, text.as_bytes());
    }
    write(SUMS, sums(&files(dir)).as_bytes());
    Ok(())
}

/// In a temporary directory, so that the maker works when it is needed; with `PINFOLD_FREEZE=1` for good.
#[test]
fn freeze() {
    let temporary = tempfile::tempdir().unwrap();
    let is_for_good = std::env::var_os("PINFOLD_FREEZE").is_some_and(|set| set == "1");
    let dir = if is_for_good { frozen() } else { temporary.path().to_owned() };
    std::fs::create_dir_all(&dir).unwrap();
    assert_eq!(make(&dir), Ok(()));
    check_leaves(&dir);
    check_parts(&dir);
    check_notes(&dir);
    check_blocks(&dir);
    check_story(&dir);
    check_log(&dir);
    assert!(make(&dir).is_err(), "what is there is never overwritten");
}
