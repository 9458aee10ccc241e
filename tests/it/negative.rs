//! Single changes to a small sound log, made by an independent program, and the finding each must give.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pinfold::core::audit::{AuditInput, File};
use pinfold::core::car::Limits;
use pinfold::core::leaf::LeafView;
use pinfold::core::segment::read::Proof;
use serde::Deserialize;

use super::memory::{Memory, input, name};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pinfold-v1/negative");

#[derive(Deserialize)]
struct Cases {
    vkeys: Vec<String>,
    recovery: String,
    witnesses: Vec<String>,
    known_head_for_exit_0: String,
    sound: Vec<Case>,
    cases: Vec<Case>,
}

/// Changes of a file, each an offset, the bytes deleted, and those inserted in hex; none: the file is gone.
type Patch = Option<Vec<(usize, usize, String)>>;

#[derive(Deserialize)]
struct Case {
    name: String,
    code: Option<String>,
    #[serde(default)]
    also: Vec<String>,
    exit: u8,
    patch: BTreeMap<String, Patch>,
    #[serde(default)]
    verify: Verify,
}

#[derive(Deserialize, Default)]
struct Verify {
    vkeys: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    recovery: Option<Option<String>>,
    revoked: Option<Vec<String>>,
    known_head: Option<String>,
}

/// Tells a null from a field that is not there.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(value).map(Some)
}

fn cases() -> Cases {
    serde_json::from_slice(&std::fs::read(Path::new(DIR).join("cases.json")).unwrap()).unwrap()
}

fn base() -> Memory {
    Memory::read(&Path::new(DIR).join("base"))
}

fn base_input(cases: &Cases, verify: &Verify) -> AuditInput {
    let vkeys = verify.vkeys.as_ref().unwrap_or(&cases.vkeys);
    let recovery = verify.recovery.clone().unwrap_or_else(|| Some(cases.recovery.clone()));
    let vkeys: Vec<&str> = vkeys.iter().map(String::as_str).collect();
    let witnesses: Vec<&str> = cases.witnesses.iter().map(String::as_str).collect();
    AuditInput {
        revoked: verify.revoked.clone().unwrap_or_default(),
        known_head: verify.known_head.clone(),
        ..input(&vkeys, recovery.as_deref(), &witnesses)
    }
}

fn patched(case: &Case) -> Memory {
    let mut archive = base();
    for (file, patches) in &case.patch {
        let Some(patches) = patches else {
            archive.files.remove(file).unwrap();
            continue;
        };
        let old = archive.files.get(file).cloned().unwrap_or_default();
        let (mut new, mut at) = (Vec::new(), 0);
        for (offset, deleted, inserted) in patches {
            new.extend_from_slice(&old[at..*offset]);
            new.extend(hex::decode(inserted).unwrap());
            at = offset + deleted;
        }
        new.extend_from_slice(&old[at..]);
        archive.files.insert(file.clone(), new);
    }
    archive
}

#[test]
fn every_change_gives_its_finding_and_verdict_and_no_other() {
    let cases = cases();
    assert!(cases.cases.len() >= 140 && cases.sound.len() >= 11);
    let mut wrong = Vec::new();
    for case in cases.sound.iter().chain(&cases.cases) {
        let input = base_input(&cases, &case.verify);
        let report = patched(case).audit(&input);
        // Whether a segment keeps its entries or is read twice must make no difference.
        assert_eq!(patched(case).audit(&AuditInput { kept_bytes_max: 0, ..input }), report, "{}", case.name);
        let expected: BTreeSet<&str> = case.code.iter().chain(&case.also).map(String::as_str).collect();
        let found: BTreeSet<&str> = report.codes.iter().map(|code| code.as_str()).collect();
        if report.exit != case.exit || found != expected {
            let findings: Vec<String> = report.findings.iter().map(|f| format!("{f:?}")).collect();
            wrong.push(format!(
                "{}: expected {} {expected:?}, found {} {found:?}\n    {}",
                case.name,
                case.exit,
                report.exit,
                findings.join("\n    ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_base_is_sound_and_confirmed_by_a_known_head() {
    let cases = cases();
    let mut input = base_input(&cases, &Verify::default());
    assert_eq!(base().audit(&input).exit, 10);
    input.known_head = Some(cases.known_head_for_exit_0.clone());
    let report = base().audit(&input);
    assert_eq!((report.exit, report.verdict(), report.findings.as_slice()), (0, "valid", &[][..]));
}

#[test]
fn no_changed_byte_in_any_file_is_taken_and_no_prefix() {
    let cases = cases();
    let input = base_input(&cases, &Verify::default());
    let sound = base();
    for (name, bytes) in &sound.files {
        for at in 0..bytes.len() {
            let mut changed = sound.clone();
            let flip = 1 << (at % 8);
            changed.files.get_mut(name).unwrap()[at] ^= flip;
            let exit = changed.audit(&input).exit;
            assert!(![0, 10].contains(&exit), "{name} byte {at} xor {flip}: {exit}");
        }
        for len in (0..bytes.len()).step_by(7) {
            let mut cut = sound.clone();
            cut.files.get_mut(name).unwrap().truncate(len);
            assert_eq!(cut.audit(&input).exit, 20, "{name} cut at {len}");
        }
    }
}

#[test]
fn all_findings_count_beyond_those_that_are_listed() {
    let cases = cases();
    let case = cases.cases.iter().find(|case| case.name == "a bit of a leaf").unwrap();
    let input = AuditInput { findings_max: 0, ..base_input(&cases, &Verify::default()) };
    let report = patched(case).audit(&input);
    assert_eq!((report.exit, report.findings.len(), report.findings_total), (40, 0, 1));
}

#[test]
fn a_usage_error_is_told_from_a_finding() {
    let cases = cases();
    let archive = base();
    for verify in [
        Verify { known_head: Some("no note".to_owned()), ..Verify::default() },
        Verify { revoked: Some(vec![cases.known_head_for_exit_0.clone()]), ..Verify::default() },
    ] {
        let input = base_input(&cases, &verify);
        assert!(pinfold::core::audit::Audit::new(&archive, &input).is_err());
    }
}

#[test]
fn a_changed_entry_is_named_though_only_its_page_is_hashed() {
    let cases = cases();
    let input = base_input(&cases, &Verify::default());
    let sound = base();
    let (mut named, mut exactly) = (0, 0);
    for segment in 0..sound.segments() {
        let file = sound.file(segment, File::Proof).unwrap();
        let mut proof = Proof::open(file, Limits::default()).unwrap();
        while let Some(page) = proof.page().unwrap() {
            let mut rest = page.bytes;
            for _ in 0..page.count {
                let (leaf, after) = LeafView::decode_prefix(rest).unwrap();
                let bytes = &rest[..rest.len() - after.len()];
                let start = file.windows(bytes.len()).position(|window| window == bytes).unwrap();
                for at in (0..bytes.len()).step_by(5) {
                    let mut changed = sound.clone();
                    changed.files.get_mut(&name(segment, File::Proof)).unwrap()[start + at] ^= 1;
                    let report = changed.audit(&input);
                    let found = report.first_bad_seq.unwrap().0;
                    let is_named = found == leaf.seq.0 || found + 1 == leaf.seq.0;
                    assert!(is_named && report.exit == 40, "seq {} byte {at}: {found}", leaf.seq);
                    (named, exactly) = (named + 1, exactly + usize::from(found == leaf.seq.0));
                }
                rest = after;
            }
        }
    }
    assert!(named > 200 && exactly * 10 > named * 8, "{exactly} of {named}");
}
