//! A log driven by hand: records in memory as a source, and a loop that does nothing by itself.
//!
//! For tests and benches that hold the clock and decide each step. Not the real binary: that is `binary`.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pinfold::core::decode::{Format, Limits};
use pinfold::core::identity::{Form, Rules};
use pinfold::core::note::Skey;
use pinfold::core::origin::Origin;
use pinfold::core::time::Timestamp;
use pinfold::ingest::{Arrival, Budget, End, Reached, Source, SourceError, SourceKind, Standing, Topic, Trouble};
use pinfold::journal::{Journal, Places};
use pinfold::keyring::{Kek, Keyring};
use pinfold::sidecar::{Opening, Settings, TopicRule, Which, Writer};

/// Records that are given out together or not at all.
const PIECE: usize = 1_000;

/// Arrivals in memory, as a source.
pub(crate) struct Embedded {
    arrivals: VecDeque<Arrival>,
    /// What the broker holds (kind 19).
    pub(crate) ends: Vec<End>,
    /// What the broker says before a seal.
    pub(crate) standing: Standing,
}

impl Embedded {
    pub(crate) fn new(arrivals: impl IntoIterator<Item = Arrival>) -> Embedded {
        let arrivals = arrivals.into_iter().flat_map(pieces).collect();
        Embedded { arrivals, ends: Vec::new(), standing: Standing::Held }
    }
}

/// Many records as several arrivals: cut once, not in every poll.
fn pieces(arrival: Arrival) -> Vec<Arrival> {
    let Arrival::Records { topic, partition, records, state } = arrival else { return vec![arrival] };
    let (mut records, mut pieces) = (records.into_iter().peekable(), Vec::new());
    while records.peek().is_some() {
        let (topic, state) = (Arc::clone(&topic), state.clone());
        pieces.push(Arrival::Records { topic, partition, records: records.by_ref().take(PIECE).collect(), state });
    }
    pieces
}

impl Source for Embedded {
    fn name(&self) -> &str {
        "redpanda"
    }

    fn poll(&mut self, budget: Budget) -> Result<Vec<Arrival>, SourceError> {
        let (mut given, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(arrival) = self.arrivals.pop_front() {
            if let Arrival::Records { records, .. } = &arrival {
                count += records.len();
                bytes += records.iter().map(|arrived| arrived.record.len()).sum::<usize>();
                if !given.is_empty() && (count > budget.records_max || bytes > budget.bytes_max) {
                    self.arrivals.push_front(arrival);
                    break;
                }
            }
            given.push(arrival);
        }
        Ok(given)
    }

    fn committed(&mut self, _: &[Reached]) -> Result<(), SourceError> {
        Ok(())
    }

    fn committed_before_seal(&mut self, _: &[Reached], _: Duration) -> Result<Standing, SourceError> {
        Ok(self.standing)
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    fn is_idle(&self) -> bool {
        self.arrivals.is_empty()
    }

    fn ends(&self) -> Vec<End> {
        self.ends.clone()
    }

    fn trouble(&self) -> Option<Trouble> {
        None
    }
}

/// A new log below `dir`, whose keys nobody needs again.
pub(crate) fn log(dir: &Path, name: &str, start: Timestamp) -> Writer {
    let origin = Origin::new(name).expect("a sound origin");
    let key = key(name);
    let recovery = Skey::from_seed(&format!("{name}/recovery"), &[2; 32]).expect("a sound name").vkey().to_string();
    let kek = Kek::generate().expect("random bytes");
    let keyring = Keyring::create(&dir.join("keyring"), &kek, origin.oid()).expect("an empty directory");
    let places = Places { data: dir.join("data"), heads: dir.join("heads") };
    let journal = Journal::create(&places, &origin).expect("an empty directory");
    let opening = Opening { origin, key, journal, keyring };
    Writer::create(opening, &recovery, &["consent_proof".to_owned()], start).expect("a new log")
}

/// The key of such a log.
pub(crate) fn key(name: &str) -> Skey {
    Skey::from_seed(name, &[1; 32]).expect("a sound name")
}

/// A topic at a broker.
pub(crate) fn topic(name: &str, cluster: &str, partitions: u32) -> Topic {
    Topic {
        name: name.to_owned(),
        origin: SourceKind::Kafka,
        cluster: cluster.to_owned(),
        topic_id: format!("id of {name}"),
        partitions,
        shared: false,
    }
}

/// How every topic is folded; called `alias` in the log where that is not empty.
pub(crate) fn rule(which: Which, alias: &str, format: Format) -> TopicRule {
    TopicRule { which, alias: alias.to_owned(), format, class: "consent_proof".to_owned() }
}

/// Settings under which nothing is sealed, paused or dropped unless it is asked for.
pub(crate) fn settings(archive: &Path) -> Settings {
    Settings {
        entries_max: 65_536,
        bytes_max: u64::MAX,
        age_max: u64::MAX,
        entries_min: u64::MAX,
        age_limit: u64::MAX,
        observe_every: u64::MAX,
        disk_free_min: 0,
        backlog_max: u64::MAX,
        audits: pinfold::sidecar::Schedule {
            every: 0,
            wanted: pinfold::sidecar::Wanted { blocks: None, repairs: false },
        },
        copies_min: 1,
        tenant: String::new(),
        keep_journal: None,
        archive: archive.to_owned(),
        identity: Rules { email: Form::Lower, phone: Form::E164, other: Form::Verbatim },
        limits: Limits::default(),
        threads: 1,
    }
}
