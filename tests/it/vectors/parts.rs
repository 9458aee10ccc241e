//! `parts.json` and `keys.json`: padding, sealed parts, frames to refuse, record MACs and affected sets.

use pinfold::core::hash::Hash;
use pinfold::core::leaf::PartRef;
use pinfold::core::part::{self, Key, Place, RecordMacKey, SealingKey, Zstd};
use pinfold::core::record::{Header, Record};
use pinfold::core::seq::Seq;
use serde_json::Value;

use super::{hex, json, list};

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn hash(value: &Value) -> Hash {
    value.as_str().unwrap().parse().unwrap()
}

fn place(vectors: &Value, case: &Value) -> Place {
    Place {
        oid: hash(&vectors["oid"]),
        seq: Seq(case["seq"].as_u64().unwrap()),
        part: u32::try_from(number(&case["part"])).unwrap(),
    }
}

fn key(vectors: &Value, with_subject: bool) -> SealingKey {
    let subject = Key(array(&vectors["subject_key"]));
    SealingKey::new(&Key(array(&vectors["epoch_key"])), with_subject.then_some(&subject))
}

#[test]
fn padding_steps() {
    for case in list(&json("parts.json")["padding"]) {
        assert_eq!(part::padded_len(0, number(&case["n"])), number(&case["part_0"]));
        assert_eq!(part::padded_len(1, number(&case["n"])), number(&case["part_1"]));
        assert_eq!(part::padded_len(7, number(&case["n"])), number(&case["part_1"]));
    }
}

#[test]
fn parts_are_sealed_to_the_same_bytes_and_open() {
    let vectors = json("parts.json");
    let mut zstd = Zstd::new(b"").unwrap();
    for case in list(&vectors["parts"]) {
        let body: Vec<u8> = (0..number(&case["body_len"])).map(|i| u8::try_from((7 * i + 3) % 251).unwrap()).collect();
        let random = [hex(&case["r"]), hex(&case["nonce"])].concat().try_into().unwrap();
        let (place, key) = (place(&vectors, case), key(&vectors, case["subject_key"].as_bool().unwrap()));
        let sealed = part::seal(&place, &key, None, &body, &random).unwrap();
        assert_eq!(sealed.part.digest, hash(&case["digest"]), "{}", body.len());
        assert_eq!(sealed.part.commitment, hash(&case["commitment"]));
        assert_eq!(sealed.frame.len(), number(&case["frame_len"]));
        if let Some(frame) = case["frame"].as_str() {
            assert_eq!(hex::encode(&sealed.frame), frame);
        }
        let opened = part::open(&place, &key, &mut zstd, sealed.part, &sealed.frame).unwrap();
        assert_eq!((&*opened.body, opened.r), (&body, array(&case["r"])));
    }
}

#[test]
fn frames_to_refuse_are_refused_with_their_code() {
    let vectors = json("parts.json");
    let mut zstd = Zstd::new(b"").unwrap();
    let place = place(&vectors, &vectors["refused_at"]);
    for case in list(&vectors["refused"]) {
        let expected = PartRef { commitment: hash(&case["commitment"]), digest: hash(&case["digest"]) };
        let found = part::open(&place, &key(&vectors, true), &mut zstd, expected, &hex(&case["frame"]));
        assert_eq!(found.unwrap_err().code.as_str(), case["code"], "{}", case["name"]);
    }
}

#[test]
fn record_macs() {
    let vectors = json("keys.json");
    let oid = Hash::of(vectors["origin"].as_str().unwrap().as_bytes());
    let key = RecordMacKey::new(&Key(array(&vectors["epoch_key_class_0"])), oid);
    for case in list(&vectors["record_mac"]) {
        let optional = |value: &Value| (!value.is_null()).then(|| hex(value));
        let header = |pair: &Value| Header { name: hex(&pair[0]), value: optional(&pair[1]) };
        let record = Record {
            key: optional(&case["key"]),
            value: optional(&case["value"]),
            headers: list(&case["headers"]).map(header).collect(),
            timestamp_ms: case["timestamp_ms"].as_i64().unwrap(),
            timestamp_type: 0,
        };
        assert_eq!(key.record_mac(&record), hash(&case["record_mac"]), "{}", case["name"]);
    }
}

#[test]
fn affected_sets() {
    let vectors = json("keys.json");
    for case in list(&vectors["affected_set"]) {
        let seqs: Vec<Seq> = list(&case["seqs"]).map(|seq| Seq(seq.as_u64().unwrap())).collect();
        assert_eq!(part::affected_set(&array(&vectors["salt"]), &seqs), hash(&case["affected_set"]));
    }
}
