//! The pipe: records stay in it over many steps, and the source is told of nothing before it is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pinfold::core::decode::Format;
use pinfold::core::record::Record;
use pinfold::core::time::Timestamp;
use pinfold::ingest::{
    Arrival, Arrived, Budget, End, Positions, Reached, Source, SourceError, Standing, Topic, Trouble,
};
use pinfold::sidecar::{Progress, Sidecar, TopicRule, Which};

use crate::embedded;

const DAY: Timestamp = Timestamp(1_767_225_600_000_000);
const PARTITIONS: u32 = 3;
/// Records of a partition, more than a commit takes.
const RECORDS: u64 = 6_000;

/// What the source was told, in order; the test reads it after each step.
type Told = Arc<Mutex<Vec<Reached>>>;

/// Gives a few records of each partition in turn, and at last an error, if it has one.
struct Trickle {
    topic: Arc<Topic>,
    next: BTreeMap<u32, u64>,
    each: u64,
    told: Told,
    error: Option<SourceError>,
}

impl Trickle {
    fn new(each: u64, error: Option<SourceError>) -> (Trickle, Told) {
        let (topic, told) = (Arc::new(embedded::topic("consent", "pipe", PARTITIONS)), Told::default());
        (Trickle { topic, next: BTreeMap::new(), each, told: Arc::clone(&told), error }, told)
    }
}

fn record(offset: u64) -> Record {
    Record { value: Some(format!("no event of ours, {offset}").into_bytes()), ..Record::default() }
}

impl Source for Trickle {
    fn name(&self) -> &str {
        "trickle"
    }

    fn poll(&mut self, _: Budget) -> Result<Vec<Arrival>, SourceError> {
        let topic = || Arc::clone(&self.topic);
        if self.next.is_empty() {
            self.next = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
            return Ok((0..PARTITIONS)
                .map(|partition| Arrival::Assigned { topic: topic(), partition, held: None })
                .collect());
        }
        let mut arrivals = Vec::new();
        for (partition, next) in &mut self.next {
            let end = RECORDS.min(*next + self.each);
            let records: Vec<_> =
                (*next..end).map(|offset| Arrived { offset, record: record(offset), cut: None }).collect();
            *next = end;
            if !records.is_empty() {
                arrivals.push(Arrival::Records {
                    topic: Arc::clone(&self.topic),
                    partition: *partition,
                    records,
                    state: Vec::new(),
                });
            }
        }
        let ended = if arrivals.is_empty() { self.error.take() } else { None };
        ended.map_or(Ok(arrivals), Err)
    }

    fn committed(&mut self, reached: &[Reached]) -> Result<(), SourceError> {
        self.told.lock().unwrap().extend_from_slice(reached);
        Ok(())
    }

    fn committed_before_seal(&mut self, _: &[Reached], _: Duration) -> Result<Standing, SourceError> {
        Ok(Standing::Held)
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    fn is_idle(&self) -> bool {
        self.next.values().all(|next| *next == RECORDS) && !self.next.is_empty()
    }

    fn ends(&self) -> Vec<End> {
        Vec::new()
    }

    fn trouble(&self) -> Option<Trouble> {
        None
    }
}

struct Driven {
    sidecar: Sidecar,
    rules: Arc<[TopicRule]>,
    _runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Driven {
    fn new() -> Driven {
        let dir = tempfile::tempdir().unwrap();
        let writer = embedded::log(dir.path(), "example.com/pipe", DAY);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let settings = embedded::settings(&dir.path().join("archive"));
        let sidecar = Sidecar::new(writer, Vec::new(), Vec::new(), settings, runtime.handle()).unwrap();
        let rules = Arc::from([embedded::rule(Which::All, "", Format::Auto)]);
        Driven { sidecar, rules, _runtime: runtime, _dir: dir }
    }

    /// One step; what the source was told in it must be durable.
    fn step(&mut self, told: &Told) -> Result<Progress, pinfold::sidecar::SidecarError> {
        let topic = embedded::topic("consent", "pipe", PARTITIONS);
        let before = told.lock().unwrap().len();
        let progress = self.sidecar.step(DAY);
        for reached in &told.lock().unwrap()[before..] {
            // What a source may begin from is what is durable.
            let held = self.sidecar.positions(&self.rules).held(&topic, reached.partition).map_or(0, |held| held.next);
            assert!(
                reached.next <= held,
                "partition {} was told of {}, durable is {held}",
                reached.partition,
                reached.next
            );
        }
        progress
    }
}

/// The last word to the source, by partition.
fn last_told(told: &Told) -> BTreeMap<u32, u64> {
    told.lock().unwrap().iter().map(|reached| (reached.partition, reached.next)).collect()
}

#[test]
fn the_source_is_told_what_is_durable_while_more_keeps_coming_and_of_everything_in_the_end() {
    let mut log = Driven::new();
    let (source, told) = Trickle::new(700, None);
    log.sidecar.attach(Box::new(source), Arc::clone(&log.rules));
    let mut told_meanwhile = false;
    while !log.sidecar.is_read() {
        log.step(&told).unwrap();
        told_meanwhile |= last_told(&told).values().any(|next| (1..RECORDS).contains(next));
    }
    assert!(told_meanwhile, "it must not wait until nothing more comes");
    assert_eq!(last_told(&told), (0..PARTITIONS).map(|partition| (partition, RECORDS)).collect());
    assert_eq!(log.step(&told).unwrap(), Progress::Waited);
    assert_eq!(log.sidecar.totals().folded.quarantined_total(), u64::from(PARTITIONS) * RECORDS);
}

#[test]
fn a_stop_makes_durable_what_is_in_the_pipe() {
    let mut log = Driven::new();
    let (source, told) = Trickle::new(2_000, None);
    log.sidecar.attach(Box::new(source), Arc::clone(&log.rules));
    // One step declares, the next takes records of every partition and leaves some in the pipe.
    for _ in 0..2 {
        log.step(&told).unwrap();
    }
    let folded = log.sidecar.size();
    log.sidecar.settle().unwrap();
    let settled = log.sidecar.size();
    assert!(folded < settled, "the pipe was empty already: {folded}");
    assert_eq!(settled, log.sidecar.writer().size());
}

#[test]
fn what_came_before_a_sources_error_is_durable_when_it_is_said() {
    let mut log = Driven::new();
    let error = SourceError::Client { source_name: "trickle".to_owned(), reason: "planted".to_owned() };
    let (source, told) = Trickle::new(RECORDS, Some(error));
    log.sidecar.attach(Box::new(source), Arc::clone(&log.rules));
    let said = (0..1_000).find_map(|_| log.step(&told).err()).unwrap();
    assert!(said.to_string().contains("planted"), "{said}");
    assert_eq!(last_told(&told), (0..PARTITIONS).map(|partition| (partition, RECORDS)).collect());
}
