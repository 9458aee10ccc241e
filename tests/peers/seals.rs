//! The walk over the seals of a long log on a real node. `PINFOLD_SEALS` sets how many there are.

use std::time::Instant;

use pinfold::archive::kubo::seals::Seals;
use pinfold::archive::kubo::{Kubo, Reach, Settings};
use pinfold::core::car;
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::origin::Origin;
use pinfold::core::segment::{Seal, skip_of};
use pinfold::core::seq::Size;

use crate::peer::kubo::Node;

/// Seals of so many segments, linked as a log links them; nothing else of it.
fn chain(count: u64) -> Vec<(Cid, Vec<u8>)> {
    let mut seals: Vec<(Cid, Vec<u8>)> = Vec::new();
    let leaves = Cid::of(Codec::DagCbor, b"\x80");
    for segment in 0..count {
        let seal_of = |n: u64| seals[usize::try_from(n).unwrap()].0;
        let seal = Seal {
            skip: (segment > 0).then(|| seal_of(skip_of(segment))),
            count: 256,
            first: Size(segment * 256),
            peaks: Vec::new(),
            leaves,
            origin: Origin::new("example.com/test/seals").unwrap(),
            payload: None,
            segment,
            sources: Vec::new(),
            prev_seal: segment.checked_sub(1).map(seal_of),
            checkpoint: format!("example.com/test/seals\n{}\n", (segment + 1) * 256),
        };
        let block = seal.encode();
        seals.push((Cid::of(Codec::DagCbor, &block), block));
    }
    seals
}

#[tokio::test]
async fn a_long_chain_of_seals_is_walked_over_skip_and_a_lost_one_hides_nothing() {
    let count: u64 = std::env::var("PINFOLD_SEALS").map_or(400, |count| count.parse().unwrap());
    let node = Node::start();
    let seals = chain(count);
    let newest = seals.last().unwrap().0;
    let mut file = car::header(newest);
    for (cid, block) in &seals {
        file.extend(car::block_head(*cid, block.len()));
        file.extend(block);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seals.car");
    std::fs::write(&path, file).unwrap();
    let imported = node.ipfs(&["dag", "import", "--pin-roots=false", path.to_str().unwrap()]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));

    let kubo =
        Kubo::new(Settings { credentials: Some(Node::credentials()), ..Settings::new("kubo", node.url()) }).unwrap();
    let mut found = Seals::new();
    let begun = Instant::now();
    kubo.seals(newest, Reach::Node, u64::MAX, &mut found).await;
    eprintln!("seals: {count} walked in {:.1} s", begun.elapsed().as_secs_f64());
    for (segment, (cid, _)) in (0..).zip(&seals) {
        assert_eq!(found[cid].as_ref().unwrap().segment, segment);
    }
    assert_eq!(found.len(), seals.len());

    // Without one seal in the middle: all others are found over the links around it.
    let lost = seals[usize::try_from(count / 2 + 1).unwrap()].0;
    std::fs::remove_file(node.block_file(lost)).unwrap();
    let mut found = Seals::new();
    kubo.seals(newest, Reach::Node, u64::MAX, &mut found).await;
    assert!(found[&lost].is_err());
    assert_eq!(found.values().filter(|seal| seal.is_ok()).count(), seals.len() - 1);
}

#[tokio::test]
async fn a_newest_seal_of_a_number_beyond_the_limit_leads_nowhere() {
    let node = Node::start();
    let seals = chain(3);
    let (newest, block) = seals.last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal");
    std::fs::write(&path, block).unwrap();
    let put = node.ipfs(&["block", "put", "--cid-codec=dag-cbor", "--mhtype=sha2-256", path.to_str().unwrap()]);
    assert!(put.status.success());
    let kubo =
        Kubo::new(Settings { credentials: Some(Node::credentials()), ..Settings::new("kubo", node.url()) }).unwrap();
    let mut found = Seals::new();
    kubo.seals(*newest, Reach::Node, 2, &mut found).await;
    assert_eq!(found.len(), 1, "its links were not followed");
}
