//! What the pages show is what is: the worked example of `proto/README.md` is read off the page, byte by byte, and the
//! configuration of `README.md` is one. What it shows of the demo is compared in `demo.rs`.

use pinfold::core::car::Limits;
use pinfold::core::checkpoint::open_checkpoint;
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, Leaf, PartRef};
use pinfold::core::merkle;
use pinfold::core::part::{self, Key, Place, SealingKey, Zstd};
use pinfold::core::segment::read::Proof;
use pinfold::core::seq::{Seq, Size};
use pinfold::proto::v1::OperatorPart;
use prost::Message;

const README: &str = include_str!("../../proto/README.md");

/// The fenced blocks with this info string; of hex, the bytes.
fn blocks(info: &str) -> Vec<String> {
    let fence = format!("```{info}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn bytes(name: &str) -> Vec<u8> {
    let [block] = blocks(&format!("hex {name}")).try_into().unwrap_or_else(|found| panic!("{name}: {found:?}"));
    hex::decode(block.split_whitespace().collect::<String>()).unwrap()
}

fn hashes(name: &str) -> Vec<Hash> {
    bytes(name).chunks(32).map(|hash| Hash(hash.try_into().unwrap())).collect()
}

/// The blocks of the CAR, in the order of the page.
fn car() -> Vec<u8> {
    let lines = README.split("```hex car").skip(1).map(|rest| rest.split("```").next().unwrap());
    let hex: String = lines.flat_map(|block| block.split_once('\n').unwrap().1.split_whitespace()).collect();
    hex::decode(hex).unwrap()
}

#[test]
fn the_segment_is_the_vector_and_verifies_by_what_the_page_says() {
    let car = car();
    assert!(car == include_bytes!("../vectors/pinfold-v1/negative/base/000000.proof.car"), "the file, whole");
    let mut proof = Proof::open(car.as_slice(), Limits::default()).unwrap();
    let seal = proof.seal().clone();
    assert_eq!((seal.count, seal.first, seal.segment, seal.peaks.len(), seal.sources.len()), (4, Size(0), 0, 0, 1));
    assert!(seal.payload.is_some() && seal.prev_seal.is_none() && seal.skip.is_none());

    let leaves: Vec<Vec<u8>> = blocks("hex car leaf")
        .iter()
        .map(|block| hex::decode(block.split_whitespace().collect::<String>()).unwrap())
        .collect();
    let page = proof.page().unwrap().expect("a page");
    assert!(page.bytes == leaves.concat() && page.count == 4, "the leaves of the page");
    let leaf_hashes: Vec<Hash> = leaves.iter().map(|leaf| Hash::leaf(leaf)).collect();
    assert_eq!(leaf_hashes, hashes("leaf-hashes"));
    let kinds: Vec<u64> = leaves.iter().map(|leaf| Leaf::decode(leaf).unwrap().body.kind()).collect();
    assert_eq!(kinds, [1, 18, 2, 0]);

    let nodes = hashes("nodes");
    let root = merkle::root_of(&leaf_hashes);
    assert_eq!(nodes, [Hash::node(leaf_hashes[0], leaf_hashes[1]), Hash::node(leaf_hashes[2], leaf_hashes[3]), root]);
    assert!(merkle::verify_inclusion(leaf_hashes[3], Seq(3), Size(4), &[leaf_hashes[2], nodes[0]], root));

    let checkpoint = blocks("text checkpoint").remove(0);
    assert_eq!(checkpoint, seal.checkpoint);
    let Body::LogOpened(opened) = Leaf::decode(&leaves[0]).unwrap().body else { panic!("kind 1") };
    assert_eq!(open_checkpoint(&checkpoint, &opened.vkey.to_string().parse().unwrap()).unwrap().root, root);
}

#[test]
fn the_part_opens_with_its_keys() {
    let place = Place { oid: hashes("oid")[0], seq: Seq(1092), part: 0 };
    assert_eq!(place.oid, Hash::of(b"example.com/audit/main"));
    let key = SealingKey::new(&Key(bytes("epoch-key").try_into().unwrap()), None);
    let [commitment, digest] = hashes("part-ref").try_into().unwrap();
    let frame = bytes("part-frame");
    let mut zstd = Zstd::new(pinfold::proto::DICT_1).unwrap();
    let opened = part::open(&place, &key, &mut zstd, PartRef { commitment, digest }, &frame).unwrap();
    let body: Vec<u8> = (0..92u32).map(|i| u8::try_from((7 * i + 3) % 251).unwrap()).collect();
    assert_eq!((&*opened.body, opened.r.to_vec()), (&body, bytes("part-r")));
    assert_eq!(frame[1..13], bytes("part-nonce"));
}

/// HKDF once more, by the text of the page and not by our code.
#[test]
fn the_key_of_the_part_is_derived_as_the_page_says() {
    let salt = aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, &bytes("epoch-key"));
    let info = [b"pinfold/v1/key\0".as_slice(), &bytes("oid"), &1092u64.to_be_bytes(), &0u32.to_be_bytes(), &[1]];
    let mut key = [0; 32];
    salt.extract(&[0; 32]).expand(&info, aws_lc_rs::hkdf::HKDF_SHA256).unwrap().fill(&mut key).unwrap();
    assert_eq!(key.to_vec(), bytes("part-key"));
}

#[test]
fn the_body_says_what_the_page_says() {
    let part = OperatorPart::decode(bytes("operator-part").as_slice()).unwrap();
    assert_eq!(
        (part.recorded_at, part.source.as_str(), part.decoder.as_str()),
        (1_767_225_600_000_000, "kafka", "protobuf")
    );
    assert_eq!(part.keys.iter().map(|key| (key.subject_ref.len(), key.class)).collect::<Vec<_>>(), [(16, 2), (0, 2)]);
    assert!(part.event.is_empty() && part.record_mac.len() == 32);
}

#[test]
fn the_configuration_of_the_readme_is_sound() {
    let page = include_str!("../../README.md");
    let config: String = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pinfold.toml");
    let check = |config: &str| {
        std::fs::write(&path, config).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(["config", "check", "--offline", "--config"]).arg(&path).output().unwrap()
    };
    let done = check(&config);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(config.matches("\n[").count(), 8, "all of it was read");
    assert_eq!(check(&config.replace("age_max", "age_mx")).status.code(), Some(2));
}
