//! Rewritten broker history: it halts, every start repeats it, and only `adopt` goes on, under a new topic number.

use std::sync::Arc;
use std::time::Duration;

use pinfold::core::decode::Format;
use pinfold::core::note::Skey;
use pinfold::core::origin::Origin;
use pinfold::core::record::Record;
use pinfold::core::time::Timestamp;
use pinfold::ingest::{Again, Arrival, Arrived, Positions};
use pinfold::journal::{Journal, JournalError, Places};
use pinfold::keyring::{Kek, Keyring};
use pinfold::sidecar::{Opening, Settings, Sidecar, SidecarError, TopicRule, Which, Writer};

use crate::embedded::{self, Embedded};

const DAY: Timestamp = Timestamp(1_767_225_600_000_000);

fn record(value: &str) -> Record {
    Record { value: Some(value.as_bytes().to_vec()), ..Record::default() }
}

/// In the place of a value: there is no record, and the topic is not compacted.
const GONE: &str = "gone";
/// In the place of a value: there is no record, perhaps by compaction.
const COMPACTED: &str = "compacted";

/// A broker whose one partition holds these values from offset 0, met from where the log stands.
fn broker(cluster: &str, values: &[&str], positions: &dyn Positions) -> Embedded {
    let topic = Arc::new(embedded::topic("consent", cluster, 1));
    let held = positions.held(&topic, 0);
    let (next, last) = held.as_ref().map_or((0, None), |held| (held.next, held.last));
    let mut arrivals = vec![Arrival::Assigned { topic: Arc::clone(&topic), partition: 0, held }];
    let at = |offset: u64| values.get(usize::try_from(offset).unwrap()).copied();
    if let Some((offset, value)) = last.and_then(|last| Some((last, at(last)?))) {
        let again = match value {
            GONE => Again::Absent,
            COMPACTED => Again::Compacted,
            value => Again::Record(record(value)),
        };
        arrivals.push(Arrival::Last { topic: Arc::clone(&topic), partition: 0, offset, again });
    }
    let records = (next..).map_while(|offset| Some(Arrived { offset, record: record(at(offset)?), cut: None }));
    let (records, state) = (records.collect(), Vec::new());
    arrivals.push(Arrival::Records { topic, partition: 0, records, state });
    Embedded::new(arrivals)
}

pub(crate) struct Place {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap(),
        };
        let (origin, key, places) = place.parts();
        let kek = Kek::generate().unwrap();
        kek.write(&place.dir.path().join("kek")).unwrap();
        let keyring = Keyring::create(&place.dir.path().join("keyring"), &kek, origin.oid()).unwrap();
        let journal = Journal::create(&places, &origin).unwrap();
        let recovery = Skey::from_seed("example.com/adopt/recovery", &[8; 32]).unwrap().vkey().to_string();
        let opening = Opening { origin, key, journal, keyring };
        Writer::create(opening, &recovery, &["consent_proof".to_owned()], DAY).unwrap().close().unwrap();
        place
    }

    fn parts(&self) -> (Origin, Skey, Places) {
        let origin = Origin::new("example.com/adopt").unwrap();
        let key = Skey::from_seed(origin.as_str(), &[7; 32]).unwrap();
        (origin, key, Places { data: self.dir.path().join("data"), heads: self.dir.path().join("heads") })
    }

    pub(crate) fn open(&self) -> Sidecar {
        let (origin, key, places) = self.parts();
        let kek = Kek::read(&self.dir.path().join("kek")).unwrap();
        // A child of another test may hold a copy of the lock between fork and exec.
        let end = std::time::Instant::now() + Duration::from_secs(5);
        let journal = loop {
            match Journal::open(&places, &origin, std::slice::from_ref(key.vkey())) {
                Err(JournalError::InUse(_)) if std::time::Instant::now() < end => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let keyring = Keyring::open(&self.dir.path().join("keyring"), &kek, origin.oid()).unwrap();
        let writer = Writer::open(Opening { origin, key, journal, keyring }).unwrap();
        let settings = Settings { entries_min: 1, ..embedded::settings(&self.dir.path().join("archive")) };
        Sidecar::new(writer, Vec::new(), Vec::new(), settings, self.runtime.handle()).unwrap()
    }

    /// Reads everything the broker has.
    fn fold(&self, cluster: &str, values: &[&str]) -> Result<u64, SidecarError> {
        let mut sidecar = self.open();
        sidecar.refuse_if_halted()?;
        let rules: Arc<[TopicRule]> = Arc::from([embedded::rule(Which::All, "", Format::Auto)]);
        let broker = broker(cluster, values, &sidecar.positions(&rules));
        sidecar.attach(Box::new(broker), rules);
        sidecar.step(DAY)?;
        let folded = sidecar.totals().folded;
        sidecar.close()?;
        Ok(folded.accepted + folded.quarantined_total())
    }

    /// Number, whether it is replaced, and cluster of every topic.
    fn topics(&self) -> Vec<(u64, bool, String)> {
        let topics = self.open().topics_status();
        topics.into_iter().map(|row| (row.topic_no, row.topic.is_replaced, row.topic.cluster)).collect()
    }
}

#[test]
fn another_last_record_halts_and_adopting_reads_the_topic_under_a_new_number() {
    let place = Place::new();
    assert_eq!(place.fold("c", &["a", "b", "c"]).unwrap(), 3);
    assert_eq!(place.fold("c", &["a", "b", "c", "d"]).unwrap(), 1, "the same history goes on");
    assert!(place.open().adopt().unwrap().is_empty(), "nothing to adopt");
    let rewritten = ["a", "b", "X", "Y", "Z"];
    for _ in 0..2 {
        let error = place.fold("c", &rewritten).unwrap_err();
        assert!(error.is_halt() && error.hint().contains("pinfold topic adopt"), "{error}: {}", error.hint());
    }
    // `resume` alone decides nothing: the next start finds the same.
    place.open().resume().unwrap();
    assert_eq!(place.fold("c", &rewritten).unwrap_err().code(), "rewritten-history");
    let size = place.open().size().0;
    let adopted = place.open().adopt().unwrap();
    let [one] = adopted.as_slice() else { panic!("{adopted:?}") };
    assert_eq!((one.topic_no, one.replaces, one.why), (1, 0, "truncated"));
    // The process that adopts says that it started, and declares.
    let entry = place.open().show(pinfold::core::seq::Seq(size + 1)).unwrap().unwrap();
    assert_eq!((&entry["kind"], &entry["clear"]["replaces"]), (&"topic-declared".into(), &0.into()), "{entry}");
    assert_eq!(place.fold("c", &rewritten).unwrap(), 5, "all of it, under the new number");
    assert_eq!(place.topics(), [(0, true, "c".to_owned()), (1, false, "c".to_owned())]);
    assert!(place.open().adopt().unwrap().is_empty(), "adopted once");
}

#[test]
fn a_last_record_that_is_gone_halts_unless_compaction_may_have_taken_it() {
    let place = Place::new();
    place.fold("c", &["a", "b"]).unwrap();
    assert_eq!(place.fold("c", &["a", COMPACTED, "c"]).unwrap(), 1, "compaction proves nothing");
    let error = place.fold("c", &["a", "b", GONE, "d"]).unwrap_err();
    assert_eq!((error.code(), error.is_halt()), ("rewritten-history", true));
    assert_eq!(
        error.to_string(),
        "topic consent, partition 0: the record that was archived from offset 2 is gone, though the topic is not compacted"
    );
    assert_eq!(place.open().adopt().unwrap().len(), 1);
    assert_eq!(place.fold("c", &["a", "b", "X"]).unwrap(), 3);
}

#[test]
fn another_cluster_halts_and_is_adopted_by_its_own_name() {
    let place = Place::new();
    place.fold("c", &["a"]).unwrap();
    assert_eq!(place.fold("d", &["a", "b"]).unwrap_err().code(), "cluster-changed");
    assert_eq!(place.open().adopt().unwrap()[0].why, "cluster changed");
    assert_eq!(place.fold("d", &["a", "b"]).unwrap(), 2);
    assert_eq!(place.topics(), [(0, true, "c".to_owned()), (1, false, "d".to_owned())]);
}
