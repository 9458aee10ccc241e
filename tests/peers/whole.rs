//! The whole line on real peers: Kafka in, Kubo and registries out, the sidecar killed and its peers failing on the way.
//!
//! `PINFOLD_WHOLE_EVENTS` sets the records of the first test; `scripts/campaign whole` runs it with 200,000.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::binary::{Log, Running};
use crate::campaign;
use crate::peer::feed::Feed;
use crate::peer::front::Fault;
use crate::peer::kafka;
use crate::peer::kubo::Node;
use crate::peer::snowflake::Warehouse;
use crate::registry::{TABLES, rows_of_sqlite};

/// Sends so many records to each partition, in portions, so that the sidecar reads while they come.
fn send(feed: &Feed, each: u64) {
    let portion = (each / 20).max(1);
    (0..each).step_by(usize::try_from(portion).unwrap()).for_each(|sent| feed.send(portion.min(each - sent)));
}

/// Lets the sidecar fold until `size`, and kills it.
fn kill_at(log: &Log, size: u64) {
    let mut running = log.start();
    log.wait(&mut running, "folding", |status| status["size"].as_u64().unwrap() >= size);
    assert!(running.kill());
}

/// Waits until everything is folded, pinned and registered as far as age seals it.
fn wait_done(log: &Log, running: &mut Running, records: u64) -> Value {
    log.wait(running, "everything done", |status| {
        let segments = &status["sealed"]["segments"];
        let is_everywhere = |lanes: &Value| lanes.as_object().unwrap().values().all(|done| done == segments);
        let lag = status["sources"].as_array().unwrap().iter().map(|row| row["lag"].as_u64().unwrap_or(1)).sum::<u64>();
        let folded = status["entries"]["event"].as_u64().unwrap_or(0) + status["quarantined"].as_u64().unwrap();
        folded == records && lag == 0 && is_everywhere(&status["pinned"]) && is_everywhere(&status["registered"])
    })
}

#[test]
fn everything_that_was_produced_is_folded_pinned_registered_and_proved() {
    let events = campaign::number("PINFOLD_WHOLE_EVENTS", 20_000);
    let begun = Instant::now();
    let feed = Feed::new(kafka::shared(), "whole", 4, (events / 10).max(1));
    // Without a password: `verify --from-ipfs` asks as a stranger would.
    let mut node = Node::with(|config| {
        config["Datastore"]["HashOnRead"] = json!(true);
        config["Datastore"]["Spec"]["mounts"][0]["sync"] = json!(true);
    });
    let log = Log::new("example.com/test/whole");
    log.set("entries_max = 65536", &format!("entries_max = {}", (events / 8).min(65_536)));
    log.set("age_max = \"10m\"", "age_max = \"2s\"");
    log.set("entries_min = 256", "entries_min = 1");
    log.add(&feed.source(kafka::shared(), "group"));
    log.add(&format!("[pin.kubo]\nkind = \"kubo\"\nurl = \"{}\"\n", node.url()));
    let memory = std::thread::scope(|scope| {
        scope.spawn(|| send(&feed, events / 8));
        kill_at(&log, events / 8);
        node.stop();
        kill_at(&log, events / 3);
        kill_at(&log, events / 2);
        node.up();
        kill_at(&log, events * 3 / 4);
        let mut running = log.start();
        wait_done(&log, &mut running, events / 8 * 8);
        let memory = running.memory_peak_kib();
        assert_eq!(running.terminate().code(), Some(0), "{}", running.said());
        memory
    });
    let took = begun.elapsed().as_secs_f64();
    let records = campaign::finish(&log, &feed, &["kubo"], &["local"]);
    assert_exports_equal_the_files(&log, &node);
    assert_verdicts_agree(&log, &node);
    let status = log.status();
    eprintln!(
        "whole: {records} records, {} entries, {} segments, {} quarantined; {took:.1} s with 4 kills; VmHWM {} MiB",
        status["size"],
        status["sealed"]["segments"],
        status["quarantined"],
        memory / 1024
    );
}

/// `ipfs dag export` of each CID of the registry is the archive's file, byte for byte.
fn assert_exports_equal_the_files(log: &Log, node: &Node) {
    let segments = log.lines(&["query", "segments"]);
    assert!(segments.len() > 2, "{segments:?}");
    for row in &segments {
        let number = row["segment_no"].as_u64().unwrap();
        for (column, kind) in [("seal_cid", "proof"), ("payload_cid", "payload")] {
            let Some(cid) = row[column].as_str() else { continue };
            let file = std::fs::read(log.path(&format!("data/archive/{number:06}.{kind}.car"))).unwrap();
            assert!(node.ipfs(&["dag", "export", cid]).stdout == file, "segment {number}: {kind}");
        }
    }
}

/// `verify` of the directory, of the node, and of the log with its registry say the same of the archive.
fn assert_verdicts_agree(log: &Log, node: &Node) {
    let segments = log.lines(&["query", "segments"]);
    let newest = segments.iter().max_by_key(|row| row["segment_no"].as_u64()).unwrap();
    let (vkey, url) = (log.path("keys/log.vkey"), node.url());
    let of_node = ["verify", "--from-ipfs", &url, "--cid", newest["seal_cid"].as_str().unwrap(), "--vkey"];
    let answers = [
        log.verify(&log.path("data/archive")),
        log.answer(&[&of_node[..], &[vkey.to_str().unwrap()]].concat()),
        log.answer(&["verify", "--registry"]),
    ];
    for (exit, report) in &answers {
        assert_eq!((*exit, &report["first_bad_seq"]), (10, &Value::Null), "{report}");
        for field in ["size", "root", "segments"] {
            assert_eq!(report[field], answers[0].1[field], "{field}: {report}");
        }
        let errors = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "error");
        assert_eq!(errors.count(), 0, "{report}");
    }
    assert_eq!(answers[0].1["root"], newest["root"]);
}

#[test]
fn snowflake_beside_sqlite_has_the_same_rows_after_every_fault() {
    let events = campaign::number("PINFOLD_WAREHOUSE_EVENTS", 1_600);
    let feed = Feed::new(kafka::shared(), "warehouse", 4, 100);
    let warehouse = Warehouse::start();
    let log = Log::new("example.com/test/warehouse");
    log.set("entries_max = 65536", "entries_max = 500");
    log.set("age_max = \"10m\"", "age_max = \"1s\"");
    log.set("entries_min = 256", "entries_min = 1");
    log.add(&feed.source(kafka::shared(), "static"));
    log.pin_to_folder();
    log.add(&warehouse.config(&log.path("keys")));
    log.ok(&["registry", "init"]);
    let faults = [
        Fault::Runs(3),
        Fault::TooMany,
        Fault::ServerError,
        Fault::ErrorAfterExecute,
        Fault::Silent,
        Fault::DropAfterExecute,
        Fault::AcknowledgeOnly,
    ];
    for fault in faults {
        warehouse.front.fail("MERGE INTO entries", fault);
        warehouse.front.fail("MERGE INTO segments", fault);
    }
    warehouse.front.fail("MERGE INTO registration_hwm", Fault::DropAfterExecute);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&feed, events / 8));
        kill_at(&log, events / 4);
        let mut running = log.start();
        log.wait(&mut running, "a registration", |status| status["registered"]["hub"].as_u64().unwrap() > 0);
        assert!(running.kill());
        let mut running = log.start();
        wait_done(&log, &mut running, events / 8 * 8);
        assert_eq!(running.terminate().code(), Some(0), "{}", running.said());
    });
    campaign::finish(&log, &feed, &["vault"], &["local", "hub"]);
    assert_eq!(warehouse.front.unmet(), 0, "faults nobody met");
    assert_eq!(warehouse.front.violations(), Vec::<String>::new());
    assert_rows_equal(&warehouse, &log.path("data"));
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert!([0, 10].contains(&exit), "{report}");
}

/// What the official connector reads from Snowflake is what SQLite holds; only the moment of registration is its own.
fn assert_rows_equal(warehouse: &Warehouse, data: &Path) {
    let plain = |mut row: Value| {
        row.as_object_mut().unwrap().remove("registered_at");
        row
    };
    let theirs: Vec<Value> = warehouse.read(&TABLES).into_iter().map(plain).collect();
    let ours: Vec<Value> = rows_of_sqlite(data).into_iter().map(plain).collect();
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
    // The comparison sees a row too many, and a row that differs.
    assert_ne!(theirs, [&ours[..], &ours[..1]].concat());
    assert!(ours.iter().any(|row| row["table"] == "entries"));
}
