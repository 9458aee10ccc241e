//! `ingest`: a file is fed to the log in the steps of the loop, beside whatever else it does.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{Failure, open};
use super::{not_in_time, record_format, summary};
use crate::ingest::replay::Replay;
use crate::sidecar::{Feed, Sidecar, SidecarError, Totals};

/// A file of which nothing could be folded for this long is given up, where no time-out was given.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often who asked is told how far it is. That it is gone shows then.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// A file being fed, or waiting for its turn: two feeds of one topic must not overlap, so they go one after the other.
pub(super) struct Feeding {
    feed: Option<Feed>,
    started: Instant,
    totals: Totals,
    moved_at: Instant,
    said_at: Instant,
}

impl Feeding {
    pub(super) fn new() -> Feeding {
        let now = Instant::now();
        Feeding { feed: None, started: now, totals: Totals::default(), moved_at: now, said_at: now }
    }

    /// The answer, once the file is folded to its end.
    ///
    /// # Errors
    /// Why it will not be; what was folded until then is kept.
    pub(super) fn settle(
        &mut self,
        sidecar: &mut Sidecar,
        file: (&Path, &str, Option<&str>),
        patience: Option<Duration>,
    ) -> Result<Option<Value>, Failure> {
        let Some(feed) = self.feed else {
            if !sidecar.is_feeding() {
                self.feed = Some(begin(sidecar, file)?);
                (self.started, self.moved_at) = (Instant::now(), Instant::now());
            }
            return Ok(None);
        };
        let fed = sidecar.fed(feed)?;
        if fed.is_done {
            return Ok(Some(summary(sidecar, fed.totals, self.started.elapsed())));
        }
        if fed.totals != self.totals {
            (self.totals, self.moved_at) = (fed.totals, Instant::now());
        }
        if self.moved_at.elapsed() > patience.unwrap_or(PATIENCE) {
            self.end(sidecar);
            return Err(not_in_time(sidecar));
        }
        Ok(None)
    }

    /// Ends it where it is.
    pub(super) fn end(&mut self, sidecar: &mut Sidecar) {
        if let Some(feed) = self.feed.take() {
            sidecar.let_go(feed);
        }
    }

    /// How far it is, now and then.
    pub(super) fn progress(&mut self) -> Option<Value> {
        if self.said_at.elapsed() < SAY_EVERY {
            return None;
        }
        self.said_at = Instant::now();
        let Totals { folded, duplicates, .. } = self.totals;
        let (accepted, quarantined) = (folded.accepted, folded.quarantined_total());
        Some(json!({ "accepted": accepted, "duplicates": duplicates, "quarantined": quarantined }))
    }
}

fn begin(sidecar: &mut Sidecar, (path, topic, format): (&Path, &str, Option<&str>)) -> Result<Feed, Failure> {
    let rules = open::file_rules(topic);
    let positions = sidecar.positions(&rules);
    let format = format.map(record_format).transpose()?;
    let source = if path == Path::new("-") {
        Replay::stdin("file", topic, format, &positions)
    } else {
        Replay::open("file", topic, path, format, &positions)
    };
    Ok(sidecar.feed(Box::new(source.map_err(SidecarError::from)?), rules))
}
