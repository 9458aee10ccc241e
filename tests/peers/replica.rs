//! Audits of a real node's copy: what it lost is found, put back by the healing recipe and stated, also from its copy to
//! our own archive.

use serde_json::Value;

use crate::binary::Log;
use crate::peer::kubo::Node;

/// A log of two segments on a node.
fn pinned_log(node: &Node) -> Log {
    let log = Log::new("example.com/test/replica");
    let (user, password) = Node::credentials();
    log.add(&format!(
        "[pin.kubo]\nkind = \"kubo\"\nurl = \"{}\"\nuser = \"{user}\"\npassword_file = \"keys/kubo\"\n",
        node.url()
    ));
    std::fs::write(log.path("keys/kubo"), password).unwrap();
    for n in 0..2 {
        log.ingest_events(&format!("events{n}"), 20);
        log.ok(&["run", "--until-idle", "--timeout", "120s"]);
    }
    log
}

fn kubo(answer: &Value) -> &Value {
    &answer["replicas"]["kubo"]
}

/// The seal and the payload of a segment.
fn roots(log: &Log, segment: u64) -> [pinfold::core::cid::Cid; 2] {
    let row = log.ok(&["query", "segments", "--registry", "local", "--param", &format!("segment_no={segment}")]);
    ["seal_cid", "payload_cid"].map(|column| row[column].as_str().unwrap().parse().unwrap())
}

#[test]
fn a_node_that_lost_or_altered_blocks_is_found_out_and_healed() {
    // Without hashing on reads the node serves what it finds, with it the node refuses: both must be noticed.
    for node in [Node::start(), Node::with(|_| {})] {
        let log = pinned_log(&node);
        let clean = log.ok(&["pin", "--audit"]);
        let sampled = kubo(&clean)["sampled"].as_u64().unwrap();
        assert!(sampled >= 10 && kubo(&clean)["failed"] == 0, "{clean}");

        let [[seal, _], [_, payload]] = [0, 1].map(|segment| roots(&log, segment));
        let altered = node.block_file(seal);
        let mut block = std::fs::read(&altered).unwrap();
        block[40] ^= 1;
        std::fs::write(&altered, block).unwrap();
        std::fs::remove_file(node.block_file(payload)).unwrap();
        let (exit, found) = log.answer(&["pin", "--audit"]);
        assert_eq!(
            (exit, &kubo(&found)["failed"], &kubo(&found)["damaged_files"]),
            (1, &2.into(), &2.into()),
            "{found}"
        );

        let repaired = log.ok(&["pin", "--audit", "--repair"]);
        assert_eq!(kubo(&repaired)["repaired_files"], 2, "{repaired}");
        let again = log.ok(&["pin", "--audit"]);
        assert_eq!((&kubo(&again)["sampled"], &kubo(&again)["failed"]), (&sampled.into(), &0.into()), "{again}");
        assert_eq!(log.status()["entries"]["replication-audit"], 4);

        // A pin that is gone: the blocks are there, until the node cleans up.
        node.ipfs(&["pin", "rm", &seal.to_string()]);
        let (exit, found) = log.answer(&["pin", "--audit"]);
        assert_eq!((exit, &kubo(&found)["damaged_files"]), (1, &1.into()), "{found}");
        log.ok(&["pin", "--repair"]);
        log.ok(&["pin", "--audit"]);
    }
}

#[test]
fn our_own_archive_comes_back_from_the_node() {
    let node = Node::start();
    let log = pinned_log(&node);
    let lost = ["000000.proof.car", "000001.payload.car"].map(|name| log.path(&format!("data/archive/{name}")));
    let sound = lost.clone().map(|path| std::fs::read(path).unwrap());
    lost.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let restored = log.ok(&["pin", "--repair"]);
    assert_eq!(kubo(&restored)["restored_files"], 2, "{restored}");
    assert_eq!(lost.map(|path| std::fs::read(path).unwrap()), sound, "the same bytes");
}
