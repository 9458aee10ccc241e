//! What every campaign needs: its size and seed, chance that can be repeated, and the end of a run that went well.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::binary::Log;
use crate::ledger;
use crate::peer::feed::{Expected, Feed};

/// A number from the environment: `scripts/campaign` sets the larger ones.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Chance of a campaign, from its seed (`PINFOLD_CAMPAIGN_SEED`).
pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn seeded() -> Chance {
        let seed = number("PINFOLD_CAMPAIGN_SEED", 1);
        eprintln!("seed {seed}");
        Chance(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    /// Lets a random time pass: the moment of a fault, not a wait for anything.
    pub(crate) fn pass(&mut self, ms_max: u64) {
        std::thread::sleep(Duration::from_millis(self.below(ms_max)));
    }
}

/// Nothing that a status said before is gone from one after a crash.
pub(crate) fn assert_nothing_lost(before: &Value, after: &Value) {
    let number = |status: &Value, path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    for path in ["/size", "/sealed/segments", "/sealed/size", "/quarantined", "/gaps"] {
        assert!(number(after, path) >= number(before, path), "{path} fell: {before}\n{after}");
    }
    let next = |status: &Value, topic: &Value, partition: &Value| {
        let mut rows = status["sources"].as_array().into_iter().flatten();
        rows.find(|row| row["topic"] == *topic && row["partition"] == *partition)
            .and_then(|row| row["next_offset"].as_u64())
    };
    for row in before["sources"].as_array().into_iter().flatten() {
        let (topic, partition) = (&row["topic"], &row["partition"]);
        assert!(
            next(after, topic, partition) >= next(before, topic, partition),
            "{topic} {partition}: {before}\n{after}"
        );
    }
}

/// Brings a log to its end and asserts that all of the feed is there: folded, pinned, registered, found and verified.
/// Gives the number of records.
pub(crate) fn finish(log: &Log, feed: &Feed, targets: &[&str], registries: &[&str]) -> usize {
    let idle = log.ok(&["run", "--until-idle", "--timeout", "300s"]);
    let again = log.ok(&["run", "--until-idle", "--timeout", "300s"]);
    assert_eq!(
        (&again["accepted"], &again["size"], &again["root"]),
        (&0.into(), &idle["size"], &idle["root"]),
        "a second run changes nothing"
    );
    let status = log.status();
    let held = feed.held();
    for row in status["sources"].as_array().unwrap() {
        let place =
            (row["topic"].as_str().unwrap().to_owned(), i32::try_from(row["partition"].as_i64().unwrap()).unwrap());
        assert_eq!(row["next_offset"], held[&place], "{place:?}: {status}");
    }
    assert_eq!((status["sources"].as_array().unwrap().len(), &status["gaps"]), (held.len(), &0.into()), "{status}");
    let segments = &status["sealed"]["segments"];
    targets.iter().for_each(|name| assert_eq!(status["pinned"][name], *segments, "{name}: {status}"));
    registries.iter().for_each(|name| assert_eq!(status["registered"][name], *segments, "{name}: {status}"));

    let records = ledger::check_whole(feed, &log.path("data/registry.sqlite"));
    assert_eq!(records as u64, held.values().sum::<u64>());
    let events = status["entries"]["event"].as_u64().unwrap_or(0) + status["quarantined"].as_u64().unwrap();
    assert_eq!(events, records as u64, "{status}");
    for (place, count) in &held {
        let sound = |offset: &u64| matches!(feed.record(place, *offset).expected, Expected::Event(_));
        let offset = (0..*count).rev().find(sound).expect("an event in each partition");
        let id = format!("event_id={}-{}-{offset}", place.0, place.1);
        let found = log.lines(&["query", "provenance", "--param", "event_source=urn:feed", "--param", &id]);
        assert_eq!(found.len(), 1, "{id}: {found:?}");
        assert_eq!((&found[0]["topic"], &found[0]["record_offset"]), (&place.0.as_str().into(), &offset.into()));
        assert_eq!(found[0]["verified_copies"], targets.len(), "{found:?}");
    }
    for view in ["v_missing_segments", "v_broken_links", "v_offset_gaps", "v_bad_keys"] {
        assert_eq!(log.lines(&["query", view]), Vec::<Value>::new(), "{view}");
    }
    records
}
