//! The log of 700 entries in `tests/vectors/pinfold-v1/log`: read, audited, and made again to the byte.

use std::io::Cursor;
use std::path::Path;

use pinfold::core::audit::{AuditInput, File, Report};
use pinfold::core::car::Limits;
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::codec;
use pinfold::core::hash::Hash;
use pinfold::core::leaf::LeafView;
use pinfold::core::merkle::Tree;
use pinfold::core::note::{Cosigner, Note};
use pinfold::core::origin::Origin;
use pinfold::core::rules::LogRules;
use pinfold::core::segment::build::{Builder, Built, Spools, Start};
use pinfold::core::segment::read::{Frames, Proof};
use pinfold::core::segment::{Anchor, Seal, skip_of};
use pinfold::core::time::Timestamp;
use pinfold::core::witness::Policy;
use serde_json::Value;

use super::memory::{Memory, input, name};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pinfold-v1/log");

pub(crate) fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(DIR).join("expected.json")).unwrap()).unwrap()
}

pub(crate) fn archive() -> Memory {
    Memory::read(Path::new(DIR))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn uint(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn verifier(expected: &Value, known_head: bool) -> AuditInput {
    let mut input = input(&[text(&expected["vkey"])], Some(text(&expected["recovery"])), &[text(&expected["witness"])]);
    input.known_head = known_head.then(|| text(&expected["known_head"]).to_owned());
    input
}

/// The leaves of a segment with the frames of each, as a journal would hold them.
pub(crate) fn entries(archive: &Memory, segment: u64) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut proof = Proof::open(archive.file(segment, File::Proof).unwrap(), Limits::default()).unwrap();
    let payload = archive.file(segment, File::Payload);
    let mut frames = payload.map(|payload| Frames::open(payload, Limits::default()).unwrap());
    let mut entries = Vec::new();
    while let Some(page) = proof.page().unwrap() {
        let mut rest = page.bytes;
        while !rest.is_empty() {
            let (leaf, after) = LeafView::decode_prefix(rest).unwrap();
            let mut own = Vec::new();
            for _ in 0..leaf.part_count() {
                let mut frame = Vec::new();
                frames.as_mut().unwrap().take(|piece| frame.extend_from_slice(piece)).unwrap().unwrap();
                own.push(frame);
            }
            entries.push((rest[..rest.len() - after.len()].to_vec(), own));
            rest = after;
        }
    }
    entries
}

type Files = Spools<Vec<u8>>;

/// A segment made of the leaves and frames in its files.
pub(crate) fn build(archive: &Memory, start: Start, checkpoint: &str) -> Built<Vec<u8>> {
    let mut builder = Builder::new(start.clone(), Files::default());
    for (leaf, frames) in entries(archive, start.segment) {
        builder.add(&leaf, &frames.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    }
    assert!(builder.may_end());
    builder.finish().unwrap().seal(checkpoint.to_owned()).unwrap()
}

#[test]
fn the_same_leaves_and_frames_give_the_same_files() {
    let (archive, expected) = (archive(), expected());
    let origin = Origin::new("example.com/audit/main").unwrap();
    let (mut rules, mut tree, mut seals) = (LogRules::new(), Tree::new(), Vec::<Cid>::new());
    for segment in 0..3 {
        let at = usize::try_from(segment).unwrap();
        let expected = &expected["segments"][at];
        let link = |n: u64| seals.get(usize::try_from(n).unwrap()).copied();
        let start = Start {
            origin: origin.clone(),
            segment,
            prev_seal: segment.checked_sub(1).and_then(link),
            skip: Some(segment).filter(|n| *n > 0).map(skip_of).and_then(link),
            tree,
            rules,
        };
        let built = build(&archive, start, text(&expected["checkpoint"]));
        assert_eq!(built.cid.to_string(), text(&expected["seal"]));
        assert_eq!(built.seal.payload.unwrap().to_string(), text(&expected["payload"]));
        assert_eq!(built.tree.root().to_string(), text(&expected["root"]));
        let (mut proof, mut payload) = (Vec::new(), Vec::new());
        let len = built.write_proof(Cursor::new(&built.spools.pages), &mut proof).unwrap();
        assert_eq!(len, proof.len() as u64);
        let Spools { frame_pages, raw, .. } = &built.spools;
        let len = built.write_payload(Cursor::new(frame_pages), Cursor::new(raw), &mut payload).unwrap();
        assert_eq!(len, Some(payload.len() as u64));
        assert_eq!(Hash::of(&proof).to_string(), text(&expected["proof_car_sha256"]));
        assert_eq!(Hash::of(&payload).to_string(), text(&expected["payload_car_sha256"]));
        assert_eq!(Some(&proof[..]), archive.file(segment, File::Proof));
        assert_eq!(Some(&payload[..]), archive.file(segment, File::Payload));
        check_seal(&built.seal, expected);
        // A journal goes on from stored rules as well as from those in memory.
        assert_eq!(LogRules::from_bytes(&built.rules.to_bytes()), Ok(built.rules.clone()));
        (rules, tree) = (built.rules, built.tree);
        seals.push(built.cid);
    }
    assert!(rules.is_closed());
}

fn check_seal(seal: &Seal, expected: &Value) {
    let peaks: Vec<String> = seal.peaks.iter().map(ToString::to_string).collect();
    assert_eq!(serde_json::json!(peaks), expected["peaks"]);
    assert_eq!((seal.first.0, seal.count), (uint(&expected["first"]), uint(&expected["count"])));
    let row = |s: &pinfold::core::completeness::Source| {
        serde_json::json!([s.partition.topic_no, s.partition.partition, s.first, s.next, s.entries])
    };
    assert_eq!(Value::from(seal.sources.iter().map(row).collect::<Vec<_>>()), expected["sources"]);
    assert_eq!(Seal::decode(&seal.encode()).as_ref(), Ok(seal));
}

#[test]
fn pages_and_frames_are_cut_where_the_vector_says() {
    let (archive, expected) = (archive(), expected());
    for segment in 0..3 {
        let expected = &expected["segments"][usize::try_from(segment).unwrap()];
        let mut proof = Proof::open(archive.file(segment, File::Proof).unwrap(), Limits::default()).unwrap();
        let mut pages = Vec::new();
        while let Some(page) = proof.page().unwrap() {
            let block = [&codec::encode(&vec![(); page.count])[..head_len(page.count)], page.bytes].concat();
            pages.push(serde_json::json!([page.first.0, Cid::of(Codec::DagCbor, &block).to_string()]));
        }
        assert_eq!(Value::from(pages), expected["pages"]);
        let mut frames = Frames::open(archive.file(segment, File::Payload).unwrap(), Limits::default()).unwrap();
        let (mut count, mut bytes) = (0, 0);
        while frames.take(|piece| bytes += piece.len() as u64).unwrap().is_some() {
            count += 1;
        }
        assert_eq!((count, bytes), (uint(&expected["frames"]), uint(&expected["frame_bytes"])));
    }
}

fn head_len(count: usize) -> usize {
    match count {
        0..24 => 1,
        24..256 => 2,
        _ => 3,
    }
}

fn check(report: &Report, exit: u8) {
    assert_eq!((report.exit, report.findings_total), (exit, 0), "{:?}", report.findings);
    assert_eq!(report.first_bad_seq, None);
}

#[test]
fn verify_gives_the_result_of_the_vector() {
    let (archive, expected) = (archive(), expected());
    let report = archive.audit(&verifier(&expected, true));
    check(&report, 0);
    let result = &expected["result_with_known_head"];
    assert_eq!(report.verdict(), result["verdict"]);
    assert_eq!(report.origin.as_ref().unwrap().as_str(), result["origin"]);
    assert_eq!((report.size.0, report.segments), (uint(&result["size"]), uint(&result["segments"])));
    assert_eq!(report.root.unwrap().to_string(), result["root"]);
    assert_eq!(report.is_closed, result["closed"]);
    let next = report.next.iter().map(|(partition, next)| (partition.to_string(), Value::from(*next)));
    assert_eq!(Value::from(next.collect::<serde_json::Map<_, _>>()), result["next"]);
    let anchors = report.anchors.iter().map(|seen| {
        let time = seen.time.map(|time| time.0 / 1_000_000);
        serde_json::json!({"kind": seen.kind.as_str(), "authority": seen.authority, "segment": seen.segment, "time": time})
    });
    assert_eq!(Value::from(anchors.collect::<Vec<_>>()), result["anchors"]);
    assert!(report.unproven.is_empty());
    check(&archive.audit(&verifier(&expected, false)), 10);
}

#[test]
fn without_payload_files_the_report_says_what_is_unproven() {
    let (mut archive, expected) = (archive(), expected());
    (0..3).for_each(|segment| drop(archive.files.remove(&name(segment, File::Payload))));
    let report = archive.audit(&verifier(&expected, false));
    check(&report, u8::try_from(uint(&expected["exit_without_payload_files"])).unwrap());
    assert_eq!(serde_json::json!(report.unproven), expected["unproven_without_payload_files"]);
}

#[test]
fn a_closed_log_is_confirmed_by_the_quorum_over_its_newest_checkpoint_only() {
    let (mut archive, expected) = (archive(), expected());
    let verifier = verifier(&expected, false);
    let (known, other) = (verifier.witnesses.first().unwrap(), Cosigner::from_seed("w.example/2", &[9; 32]).unwrap());
    let with = |quorum: &str| {
        let witnesses = format!("witness a {known}\nwitness b {}\n", other.vkey());
        let policy = Policy::parse(format!("{witnesses}{quorum}\n").as_bytes()).unwrap();
        let witnesses = policy.witnesses.iter().map(|witness| witness.vkey.clone()).collect();
        AuditInput { quorum: Some(policy), witnesses, ..verifier.clone() }
    };
    // The only anchor is of segment 1: it proves a time, not that nothing came after.
    check(&archive.audit(&with("quorum a")), 10);
    let proof = Proof::open(archive.file(2, File::Proof).unwrap(), Limits::default()).unwrap();
    let mut anchor = Anchor::of(proof.cid(), &proof.seal().checkpoint);
    let seed: Hash = text(&witness_key()["seed"]).parse().unwrap();
    let witness = Cosigner::from_seed(known.name(), &seed.0).unwrap();
    let (at, signed) = (Timestamp(1_767_225_600_000_000), Note::parse(&anchor.checkpoint).unwrap().text.to_owned());
    anchor.add_lines(&witness.cosign(&signed, at)).unwrap();
    archive.files.insert(name(2, File::Anchor), anchor.to_car());
    for (quorum, exit) in [
        ("quorum a", 0),
        ("quorum b", 10),
        ("group any any a b\nquorum any", 0),
        ("group all all a b\nquorum all", 10),
        ("quorum none", 10),
    ] {
        let report = archive.audit(&with(quorum));
        assert_eq!((report.exit, report.fresh.map(|fresh| fresh.source)), (exit, (exit == 0).then_some("anchors")));
    }
    // A line of a witness that does not hold is a finding, whoever else signed.
    anchor.add_lines(&other.cosign("another text\n", at)).unwrap();
    archive.files.insert(name(2, File::Anchor), anchor.to_car());
    assert_eq!(archive.audit(&with("quorum a")).exit, 40);
}

/// The private key of the vectors' witness.
fn witness_key() -> Value {
    let notes = Path::new(DIR).with_file_name("notes.json");
    let notes: Value = serde_json::from_slice(&std::fs::read(notes).unwrap()).unwrap();
    notes["keys"].as_array().unwrap().iter().find(|key| key["name"] == "witness").unwrap().clone()
}

#[test]
fn a_builder_refuses_what_the_audit_would_find() {
    let archive = archive();
    let origin = Origin::new("example.com/audit/main").unwrap();
    let start = Start { origin, segment: 0, prev_seal: None, skip: None, tree: Tree::new(), rules: LogRules::new() };
    let entries = entries(&archive, 0);
    let with_parts = entries.iter().position(|(_, frames)| !frames.is_empty()).unwrap();
    let add = |skip: Option<usize>, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut builder = Builder::new(start.clone(), Files::default());
        for (at, (leaf, frames)) in entries.iter().enumerate().take(with_parts + 1).filter(|(at, _)| Some(*at) != skip)
        {
            let mut frames = frames.clone();
            if at == with_parts {
                change(&mut frames);
            }
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            if let Err(error) = builder.add(leaf, &frames) {
                return error.to_string();
            }
        }
        String::new()
    };
    assert_eq!(add(None, &|_| ()), "");
    assert!(add(Some(1), &|_| ()).contains("seq-gap"));
    assert!(add(None, &|frames| frames[0][9] ^= 1).contains("frame-digest"));
    assert!(add(None, &|frames| drop(frames.pop())).contains("non-canonical"));
    let mut builder = Builder::new(start.clone(), Files::default());
    builder.add(&entries[0].0, &[]).unwrap();
    let other = expected()["segments"][0]["checkpoint"].as_str().unwrap().to_owned();
    assert!(builder.finish().unwrap().seal(other).unwrap_err().to_string().contains("root-mismatch"));
    assert!(Builder::new(start.clone(), Files::default()).finish().is_err());
}
