//! The kill campaign: `kill -9` of the real sidecar at random moments while Kafka keeps producing.
//!
//! `scripts/campaign kill --rounds N --seed S` runs it longer. After each crash a new process must open the log, with
//! everything that was said before it, a sound archive, and of every partition a beginning, once and in order.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::binary::Log;
use crate::campaign::{self, Chance};
use crate::ledger::{self, Looked};
use crate::peer::feed::Feed;
use crate::peer::kafka;

/// Small segments and short waits, so that every stage is met by a kill.
fn log(feed: &Feed) -> Log {
    let log = Log::new("example.com/test/kill");
    log.set("entries_max = 65536", "entries_max = 700");
    log.set("age_max = \"10m\"", "age_max = \"1s\"");
    log.set("entries_min = 256", "entries_min = 1");
    log.add(&feed.source(kafka::shared(), "group"));
    log.pin_to_folder();
    log
}

#[test]
fn killed_at_any_moment_every_record_is_there_once_and_in_order() {
    let rounds = campaign::number("PINFOLD_CAMPAIGN_ROUNDS", 10);
    let feed = Feed::new(kafka::shared(), "kill", 3, 200);
    let log = log(&feed);
    let (mut chance, mut looked) = (Chance::seeded(), Looked::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| feed.keep_sending(&stop));
        // Also when a round fails, so that the failure is seen.
        let _stop = StopAtEnd(&stop);
        for round in 0..rounds {
            kill_once(&log, &feed, &mut chance, &mut looked, round);
        }
    });
    let status = log.status();
    let records = campaign::finish(&log, &feed, &["vault"], &["local"]);
    let (exit, report) = log.answer(&["verify", "--registry"]);
    assert_eq!((exit, &report["first_bad_seq"]), (10, &serde_json::Value::Null), "{report}");
    let folded = status["size"].as_u64().unwrap();
    assert!(folded > rounds * 10, "the kills left no time to fold: {folded} entries");
    eprintln!("kill: {rounds} rounds, {folded} entries at the last kill, {records} records at the end");
}

/// One life: started, seen or not, killed, opened again and looked at. Of the rows only the new ones: all of them are
/// looked at in the end.
fn kill_once(log: &Log, feed: &Feed, chance: &mut Chance, looked: &mut Looked, round: u64) {
    let mut running = log.launch();
    let mut before = None;
    // Some die while they start.
    if !round.is_multiple_of(3) {
        running.address();
        chance.pass(2_000);
        before = Some(log.status());
    }
    chance.pass(700);
    assert!(running.is_running(), "round {round}: it ended by itself: {}", running.said());
    running.kill();

    let after = log.status();
    if let Some(before) = before {
        campaign::assert_nothing_lost(&before, &after);
    }
    assert_eq!((&after["halted"], &after["gaps"]), (&serde_json::Value::Null, &0.into()), "round {round}: {after}");
    // What would come while we look would only make the log longer.
    let _hold = feed.hold();
    let rows = ledger::rows(&log.path("data/registry.sqlite"), looked.next_seq);
    assert_eq!(looked.faults(feed, &rows), Vec::<String>::new(), "round {round}");
    if after["sealed"]["segments"] != 0 {
        let (exit, report) = log.verify(&log.path("data/archive"));
        assert_eq!(exit, 10, "round {round}: {report}");
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
