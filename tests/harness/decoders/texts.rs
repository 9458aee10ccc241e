//! Decoders of texts: notes and what is in them, proofs, policies, lists, JSON events, the configuration.

use std::collections::BTreeMap;
use std::path::Path;

use pinfold::config;
use pinfold::core::checkpoint::{Form, Head, Statement};
use pinfold::core::cid::Cid;
use pinfold::core::decode::{Format, Limits, decode};
use pinfold::core::keychange::{Revocation, Rotation};
use pinfold::core::leaf::Leaf;
use pinfold::core::note::{Note, Vkey, WitnessVkey};
use pinfold::core::proof::{Proof, check_disclosure};
use pinfold::core::record::Record;
use pinfold::core::witness::{LogList, Policy, Submission, TreeHead, open_answer, open_size};

use super::{same_text, seeds};

pub(super) fn note(bytes: &[u8]) {
    same_text(
        bytes,
        |text| Some(Note::parse(text).ok()?.to_owned_lines()),
        |(text, lines)| {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            format!("{text}\n{lines}")
        },
    );
}

/// A note apart: its text, and its lines written anew.
trait OwnedLines {
    fn to_owned_lines(&self) -> (String, Vec<String>);
}

impl OwnedLines for Note<'_> {
    fn to_owned_lines(&self) -> (String, Vec<String>) {
        (self.text.to_owned(), self.signatures.iter().map(ToString::to_string).collect())
    }
}

pub(super) fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same_text(bytes, |text| Head::from_text(text).ok(), Head::text);
    let strict = Statement::parse(text);
    let lax = Note::parse(text);
    if let Ok(statement) = &strict {
        let lax = lax.as_ref().expect("a statement is a note");
        if statement.form == Form::Checkpoint {
            let head = TreeHead::parse(lax.text).expect("what a log's own reader takes, a witness takes");
            let own = &statement.head;
            assert_eq!((head.origin, head.size, head.root), (own.origin.as_str(), own.size, own.root));
        }
        for vkey in seeds::vkeys() {
            let _ = statement.verify(vkey);
        }
    }
    if let Ok(note) = lax {
        let _ = TreeHead::parse(note.text);
    }
}

pub(super) fn vkey(bytes: &[u8]) {
    let log = same_text(bytes, |text| text.parse::<Vkey>().ok(), ToString::to_string);
    let witness = same_text(bytes, |text| text.parse::<WitnessVkey>().ok(), ToString::to_string);
    assert!(log.is_none() || witness.is_none(), "one vkey is of one type");
}

pub(super) fn key_change(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(rotation) = Rotation::open(text) {
        assert!(text.starts_with(&rotation.text()), "{text}");
    }
    for recovery in seeds::vkeys() {
        if let Ok(revocation) = Revocation::open(text, recovery) {
            assert!(text.starts_with(&revocation.text()), "{text}");
        }
    }
}

pub(super) fn cid(bytes: &[u8]) {
    // Of another base another text is written; of ours the same.
    let is_ours = |text: &str| text.starts_with('b').then(|| text.parse::<Cid>().ok()).flatten();
    same_text(bytes, is_ours, ToString::to_string);
    if let Some(cid) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Cid>().ok()) {
        assert_eq!(cid.to_string().parse(), Ok(cid));
    }
    if let Ok(cid) = Cid::from_bytes(bytes) {
        assert_eq!(cid.to_bytes()[..], *bytes);
    }
}

pub(super) fn proof(bytes: &[u8]) {
    if let Some(proof) = same_text(bytes, |text| Proof::parse(text).ok(), Proof::to_text) {
        for vkey in seeds::vkeys() {
            if let Ok(proven) = proof.check(vkey) {
                assert_eq!(proven.leaf.encode().as_deref(), Ok(proof.extra.leaf()));
            }
        }
    }
}

pub(super) fn disclosure(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for vkey in seeds::vkeys() {
        if let Ok((leaf, disclosed)) = check_disclosure(text, vkey) {
            assert_eq!(Leaf::decode(&disclosed.leaf), Ok(leaf));
        }
    }
}

pub(super) fn policy(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(bytes) else { return };
    // More signatures never make a policy fail.
    let met: Vec<bool> = (0..=policy.witnesses.len()).map(|signed| policy.is_met(|index| index < signed)).collect();
    assert!(met.is_sorted(), "{met:?}");
    assert_eq!(policy.asks_for_none(), met.first() == Some(&true));
}

pub(super) fn add_checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same_text(bytes, |text| Some(Submission::parse(text).ok()?.to_text()), Clone::clone);
    if let Ok(submission) = Submission::parse(text)
        && let Ok(note) = Note::parse(submission.checkpoint)
    {
        let _ = TreeHead::parse(note.text);
    }
}

pub(super) fn witness_answer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same_text(bytes, |text| open_size(text).ok(), |size| format!("{size}\n"));
    let (checkpoint, vkey) = seeds::asked();
    if let Ok(lines) = open_answer(&checkpoint, text, &vkey) {
        assert!(lines.lines().all(|line| text.lines().any(|answered| answered == line)));
    }
}

pub(super) fn log_list(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(list) = LogList::parse(text) else { return };
    // Written out by item and read again it is the same list.
    let mut written = "logs/v0\n".to_owned();
    for (origin, log) in list.iter() {
        for vkey in &log.vkeys {
            let limit = log.requests_per_day.map(|limit| format!("qpd {limit}\n")).unwrap_or_default();
            written.push_str(&format!("vkey {vkey}\norigin {origin}\n{limit}"));
        }
    }
    assert_eq!(LogList::parse(&written).as_ref(), Ok(&list), "{written}");
}

pub(super) fn cloudevents(bytes: &[u8]) {
    let record = Record { value: Some(bytes.to_vec()), ..Record::default() };
    for format in [Format::CloudEvents, Format::Auto] {
        let _ = decode(&record, format, &Limits::default());
    }
}

pub(super) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("pinfold.toml");
    if let Err(error) = config::parse(path, text, &BTreeMap::new()) {
        // What is said of it is made from it: it must not fail either.
        assert!(!error.to_string().is_empty());
        let _ = error.hint();
    }
}
