//! Every part of the log vector opens with the keys it comes with, and with no other.

use std::collections::BTreeMap;

use pinfold::core::finding::Code;
use pinfold::core::leaf::{Body, Leaf};
use pinfold::core::origin::Origin;
use pinfold::core::part::{self, Key, Place, SealingKey, Zstd};
use pinfold::proto::{DICT_1, v1};
use prost::Message as _;
use serde_json::Value;

use super::log_vector::{archive, entries, expected};

type Epochs = BTreeMap<(u64, u64), Key>;
type Subjects = BTreeMap<(Vec<u8>, u64), Key>;

fn key(value: &Value) -> Key {
    Key(hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap())
}

fn keys(expected: &Value) -> (Epochs, Subjects) {
    let list = |name: &str| expected[name].as_array().unwrap().clone();
    let uint = |value: &Value| value.as_u64().unwrap();
    let epochs = list("epoch_keys");
    let epochs = epochs.iter().map(|k| ((uint(&k["class"]), uint(&k["epoch"])), key(&k["key"])));
    let subject_ref = |k: &Value| hex::decode(k["subject_ref"].as_str().unwrap()).unwrap();
    let subjects = list("subject_keys");
    let subjects = subjects.iter().map(|k| ((subject_ref(k), uint(&k["class"])), key(&k["key"])));
    (epochs.collect(), subjects.collect())
}

#[test]
fn every_part_but_the_filler_opens_with_its_keys() {
    let (archive, (epochs, subjects)) = (archive(), keys(&expected()));
    let oid = Origin::new("example.com/audit/main").unwrap().oid();
    let mut zstd = Zstd::new(DICT_1).unwrap();
    let (mut epoch, mut opened, mut fillers) = (0, 0, 0);
    for segment in 0..3 {
        for (bytes, frames) in entries(&archive, segment) {
            let leaf = Leaf::decode(&bytes).unwrap();
            if let Body::EpochOpened { epoch: number, .. } = leaf.body {
                epoch = number;
            }
            let mut named = Vec::new();
            for (at, (part, frame)) in leaf.parts.iter().zip(&frames).enumerate() {
                let place = Place { oid, seq: leaf.seq, part: u32::try_from(at).unwrap() };
                let sealing = match named.get(at.wrapping_sub(1)) {
                    Some(v1::PartKey { subject_ref, .. }) if subject_ref.is_empty() => {
                        fillers += 1;
                        continue;
                    }
                    Some(v1::PartKey { subject_ref, class }) => {
                        let class = u64::from(*class);
                        SealingKey::new(&epochs[&(class, epoch)], Some(&subjects[&(subject_ref.clone(), class)]))
                    }
                    None => SealingKey::new(&epochs[&(0, epoch)], None),
                };
                let body = part::open(&place, &sealing, &mut zstd, *part, frame).unwrap().body;
                if at == 0 && leaf.src.is_some() {
                    named = v1::OperatorPart::decode(&body[..]).unwrap().keys;
                    assert_eq!(named.len() + 1, leaf.parts.len());
                }
                let elsewhere = Place { part: place.part + 1, ..place };
                let refused = part::open(&elsewhere, &sealing, &mut zstd, *part, frame).unwrap_err();
                assert_eq!(refused.code, Code::Commitment);
                opened += 1;
            }
        }
    }
    assert_eq!((opened, fillers), (68, 1));
}
