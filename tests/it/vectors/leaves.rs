//! `leaves.json`: a leaf of every kind, the longest one, and leaves a reader must not take.

use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, Leaf, LeafView};
use pinfold::core::position::Position;
use pinfold::core::seq::Seq;

use super::{hex, json, list};

#[test]
fn every_kind_reads_as_the_vectors_say_and_writes_the_same_bytes() {
    let mut kinds = std::collections::BTreeSet::new();
    for case in list(&json("leaves.json")["leaves"]) {
        let name = &case["name"];
        let Some(bytes) = case["leaf"].as_str().map(|text| hex::decode(text).unwrap()) else { continue };
        let leaf = Leaf::decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(leaf.encode().unwrap(), bytes, "{name}");
        assert_eq!(Hash::leaf(&bytes).to_string(), case["leaf_hash"], "{name}");
        assert_eq!(leaf.body.kind(), case["kind"], "{name}");
        assert_eq!(leaf.seq.0, case["seq"], "{name}");
        assert_eq!(leaf.prev.to_string(), case["prev"], "{name}");
        assert_eq!(leaf.parts.len(), case["parts"], "{name}");
        for (i, part) in leaf.parts.iter().enumerate() {
            assert_eq!(part.commitment, Hash::of(format!("commitment {i}").as_bytes()), "{name}");
            assert_eq!(part.digest, Hash::of(format!("digest {i}").as_bytes()), "{name}");
        }
        let src = leaf.src.map(|p| serde_json::json!([p.topic_no, p.partition, p.offset]));
        assert_eq!(src.unwrap_or_default(), case["src"], "{name}");
        kinds.insert(leaf.body.kind());
    }
    // Kind 12 is never used.
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (0..24).filter(|k| *k != 12).collect::<Vec<u64>>());
}

#[test]
fn long_leaves_are_written_as_the_vectors_hash_them() {
    for case in list(&json("leaves.json")["leaves"]).filter(|case| case["leaf"].is_null()) {
        let part = |i: usize| pinfold::core::leaf::PartRef {
            commitment: Hash::of(format!("commitment {i}").as_bytes()),
            digest: Hash::of(format!("digest {i}").as_bytes()),
        };
        let (body, src) = match case["kind"].as_u64() {
            Some(0) => {
                let at = |i: usize| case["src"][i].as_u64().unwrap();
                (Body::Event, Some(Position { topic_no: at(0), partition: at(1), offset: at(2) }))
            }
            _ => {
                let range = |i| pinfold::core::leaf::GapRange {
                    partition: pinfold::core::position::Partition { topic_no: 0, partition: i },
                    first: (1 << 53) - 2,
                    last: (1 << 53) - 1,
                    reason: pinfold::core::leaf::GapReason::RetentionLoss,
                };
                (Body::Gap((0..256).map(range).collect()), None)
            }
        };
        let count = usize::try_from(case["parts"].as_u64().unwrap()).unwrap();
        let leaf = Leaf { seq: Seq(9), src, prev: Hash::of(b"prev"), body, parts: (0..count).map(part).collect() };
        let bytes = leaf.encode().unwrap();
        assert_eq!(bytes.len(), usize::try_from(case["bytes"].as_u64().unwrap()).unwrap());
        assert_eq!(Hash::leaf(&bytes).to_string(), case["leaf_hash"]);
    }
}

#[test]
fn the_longest_leaf_fits_and_one_byte_more_does_not() {
    let vector = &json("leaves.json")["longest"];
    let leaf = |n: usize| {
        let mut classes = vec!["operator".to_owned(), "quarantine".to_owned()];
        classes.extend(["a", "b", "c"].map(|letter| letter.repeat(4096)));
        classes.push("d".repeat(n));
        let body = Body::EpochOpened { epoch: 0, classes };
        Leaf { seq: Seq(9), src: None, prev: Hash::of(b"prev"), body, parts: Vec::new() }
    };
    let fits = usize::try_from(vector["fits"].as_u64().unwrap()).unwrap();
    let bytes = leaf(fits).encode().unwrap();
    assert_eq!(bytes.len(), usize::try_from(vector["bytes"].as_u64().unwrap()).unwrap());
    assert_eq!(Hash::leaf(&bytes).to_string(), vector["leaf_hash"]);
    assert_eq!(leaf(fits + 1).encode().unwrap_err().code.as_str(), "non-canonical");
}

#[test]
fn leaves_to_refuse_are_refused_with_their_code() {
    for case in list(&json("leaves.json")["refused"]) {
        match LeafView::decode(&hex(&case["leaf"])) {
            Ok(_) => panic!("{}: taken", case["name"]),
            Err(refused) => assert_eq!(refused.code.as_str(), case["code"], "{}: {refused}", case["name"]),
        }
    }
}
