//! From Kafka to the durable log, against a bare consumer of the same topics: `scripts/bench-kafka [EVENTS]`.
//!
//! Both read the same records in one run, so the ratio holds where absolute figures move with the machine. Small in
//! `scripts/test`, where it proves only that the bench works: there the binary is not optimised.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::binary::{Log, memory_peak_kib, watched};
use crate::campaign;
use crate::cpu::{self, Threads};
use crate::peer::feed::Feed;
use crate::peer::kafka;

const PARTITIONS: i32 = 4;

#[test]
fn from_kafka_to_the_durable_log_against_a_bare_consumer() {
    let each = campaign::number("PINFOLD_BENCH_EVENTS", 4_000).div_ceil(8);
    let records = each * 8;
    let feed = Feed::new(kafka::shared(), "bench", PARTITIONS, (records / 10).max(1)).with_context();
    // Protobuf is what producers are asked to send; CloudEvents in JSON cost several times as much to read.
    let feed = if campaign::number("PINFOLD_BENCH_JSON", 0) == 0 { feed.in_protobuf() } else { feed };
    (0..each).step_by(2_000).for_each(|sent| feed.send((each - sent).min(2_000)));
    let log = Log::new("example.com/bench/kafka");
    log.set("listen = \"127.0.0.1:0\"", "listen = \"\"");
    // The durable log alone, unless the whole line is asked for.
    if campaign::number("PINFOLD_BENCH_REGISTRY", 0) == 0 {
        let sqlite = "[registry.local]\nkind = \"sqlite\"\npath = \"data/registry.sqlite\"\nrequired = true\n";
        log.set(sqlite, "");
    }
    log.add(&feed.source(kafka::shared(), "static"));

    let (before, bytes) = consume(&feed, records);
    let (summary, memory_kib, threads) = fold(&log, records);
    let (after, _) = consume(&feed, records);
    let bare = before.min(after).as_secs_f64();
    let seconds = summary["seconds"].as_f64().unwrap();
    let folded = summary["accepted"].as_u64().unwrap() + summary["quarantined"].as_u64().unwrap();
    let (journal, keyring) = (size_of(&log.path("data/journal")), size_of(&log.path("keyring")));
    log.ok(&["run", "--until-idle", "--timeout", "600s"]);
    let archive = size_of(&log.path("data/archive"));
    let rate = folded as f64 / seconds;
    let ratio = rate / (records as f64 / bare);
    let per_byte = |of: u64, events: u64| of as f64 / (bytes as f64 / records as f64 * events as f64);
    eprintln!(
        "bench-kafka: {folded} of {records} records of {} B in {seconds:.2} s: {rate:.0} records/s, VmHWM {} MiB\n\
         bare consumer: {:.0} records/s ({:.2} s, {:.2} s); ratio {ratio:.2} (aim 0.40, floor 0.25)\n\
         {}\n\
         bytes per raw event byte: journal {:.2}, keyring {:.2}, archive {:.2}",
        bytes / records,
        memory_kib / 1024,
        records as f64 / bare,
        before.as_secs_f64(),
        after.as_secs_f64(),
        cpu::per_event(&Threads::new(), &threads, folded),
        per_byte(journal, folded),
        per_byte(keyring, folded),
        per_byte(archive, records),
    );
    assert!(folded <= records && folded + 100 >= records, "{summary}");
    // The floor is for an optimised binary on a quiet machine; `scripts/bench-kafka` asks for it.
    let floor = campaign::number("PINFOLD_BENCH_FLOOR_PERCENT", 0) as f64 / 100.0;
    assert!(ratio >= floor, "ratio {ratio:.2}, floor {floor:.2}");
}

/// Reads every record with the consumer alone, configured as ours is; gives the time and the bytes of the values.
fn consume(feed: &Feed, records: u64) -> (Duration, u64) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka::shared().brokers()).set("group.id", "bare").set("log_level", "2");
    client.set("enable.auto.commit", "false").set("isolation.level", "read_committed").set("check.crcs", "true");
    client.set("queued.max.messages.kbytes", "16384").set("fetch.queue.backoff.ms", "10");
    let begun = Instant::now();
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    for topic in feed.topics() {
        (0..PARTITIONS).for_each(|n| list.add_partition_offset(&topic, n, Offset::Beginning).unwrap());
    }
    consumer.assign(&list).unwrap();
    let (mut read, mut bytes) = (0, 0);
    while read < records {
        assert!(begun.elapsed() < Duration::from_secs(600), "{read} of {records} records");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message.unwrap().payload().map_or(0, <[u8]>::len) as u64;
            read += 1;
        }
    }
    (begun.elapsed(), bytes)
}

/// Runs the sidecar until the log has so many entries; gives its summary, the most memory it held, and the CPU time of
/// its threads.
fn fold(log: &Log, size: u64) -> (Value, u64, Threads) {
    let size = size.to_string();
    let mut command = log.command(&["run", "--until-size", &size, "--timeout", "1200s"]);
    let (mut memory, mut threads) = (0, Threads::new());
    let output = watched(&mut command, |pid| {
        memory = memory.max(memory_peak_kib(pid));
        threads.extend(cpu::of(pid));
    });
    assert!(output.status.success());
    (serde_json::from_slice(&output.stdout).unwrap(), memory, threads)
}

/// Bytes a directory takes on the disk: blocks, because sled's file has holes.
fn size_of(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let bytes = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { size_of(&entry.path()) } else { meta.blocks() * 512 }
    };
    entries.map(bytes).sum()
}
