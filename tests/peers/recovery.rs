//! Recovery with real parts: an archive fetched back from Kubo, a node that knows a wiped log, another Kafka cluster.

use std::fs;

use crate::line::{Log, event};
use crate::peer::{kafka, kubo};

#[test]
fn a_wiped_log_is_known_to_its_node_and_comes_back_from_it() {
    let broker = kafka::shared();
    let node = kubo::Node::start();
    broker.create_topic("recovery", 1);
    broker.produce("recovery", 0, &(0..80).map(|i| event("recovery", i)).collect::<Vec<_>>());
    let log = Log::new(&broker.brokers(), &["recovery"], &node);
    log.lines(&["run", "--until-idle", "--timeout", "120s"], 0);
    let segments = log.lines(&["query", "segments"], 0);
    let seal = segments[0]["seal_cid"].as_str().unwrap().to_owned();
    let config = fs::read_to_string(log.path("pinfold.toml")).unwrap();
    fs::write(log.path("pinfold.toml"), config.replace("create = false", "create = true")).unwrap();
    for gone in ["data", "heads"] {
        fs::remove_dir_all(log.path(gone)).unwrap();
    }
    let refused = log.lines(&["run", "--until-idle", "--timeout", "60s"], 4).pop().unwrap();
    assert_eq!(refused["error"]["code"], "known-origin", "{refused}");
    assert!(refused["error"]["hint"].as_str().unwrap().contains("pinfold rebuild --from-ipfs"), "{refused}");
    // The node asks for a password, which no argument carries: it is that of the target with this url.
    let rebuilt = log.lines(&["rebuild", "--from-ipfs", &node.url(), "--cid", &seal, "--yes"], 0).pop().unwrap();
    assert_eq!((&rebuilt["segments"], &rebuilt["lost"]), (&1.into(), &serde_json::Value::Null), "{rebuilt}");
    let idle = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!((&idle["accepted"], &idle["gaps"]), (&0.into(), &0.into()), "positions are those of the seal: {idle}");
    broker.produce("recovery", 0, &(80..90).map(|i| event("recovery", i)).collect::<Vec<_>>());
    let idle = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!((&idle["accepted"], &idle["pinned"]), (&10.into(), &2.into()), "{idle}");
}

#[test]
fn a_topic_at_another_cluster_halts_until_it_is_adopted() {
    let (old, new) = (kafka::Kafka::start(), kafka::Kafka::start());
    let node = kubo::Node::start();
    let events = |from: usize, to: usize| (from..to).map(|i| event("moved", i)).collect::<Vec<_>>();
    for (broker, to) in [(&old, 20), (&new, 35)] {
        broker.create_topic("moved", 1);
        broker.produce("moved", 0, &events(0, to));
    }
    let log = Log::new(&old.brokers(), &["moved"], &node);
    log.lines(&["run", "--until-idle", "--timeout", "120s"], 0);
    let config = fs::read_to_string(log.path("pinfold.toml")).unwrap();
    fs::write(log.path("pinfold.toml"), config.replace(&old.brokers(), &new.brokers())).unwrap();
    for _ in 0..2 {
        let halted = log.lines(&["run", "--until-idle", "--timeout", "120s"], 4).pop().unwrap();
        assert!(halted["error"]["hint"].as_str().unwrap().contains("pinfold topic adopt"), "{halted}");
    }
    assert_eq!(log.lines(&["status"], 4)[0]["halted"]["code"], "cluster-changed");
    let adopted = log.lines(&["topic", "adopt"], 0).pop().unwrap();
    assert_eq!((&adopted["adopted"][0]["topic_no"], &adopted["adopted"][0]["replaces"]), (&1.into(), &0.into()));
    assert_eq!(log.lines(&["topic", "adopt"], 1)[0]["error"]["code"], "nothing-to-adopt");
    let idle = log.lines(&["run", "--until-idle", "--timeout", "120s"], 0).pop().unwrap();
    assert_eq!((&idle["accepted"], &idle["gaps"]), (&35.into(), &0.into()), "all of it, under the new number: {idle}");
    let topics = log.lines(&["topic", "list"], 0);
    assert_eq!((&topics[0]["is_replaced"], &topics[1]["is_replaced"]), (&true.into(), &false.into()));
    let (archive, vkey) = (log.path("data/archive"), log.path("keys/log.vkey"));
    log.lines(&["verify", archive.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()], 10);
}
