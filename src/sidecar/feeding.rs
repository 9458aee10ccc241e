//! Feeding the log from one source to its end, beside whatever else the loop does.
//!
//! A source that is fed is one intake among the others and gets its part of every step. That it fails is the business of
//! who feeds it, not of the loop.

use std::sync::Arc;
use std::time::Duration;

use super::error::SidecarError;
use super::intake::{Intake, TopicRule, Totals};
use super::{Progress, Sidecar};
use crate::core::time::Timestamp;
use crate::ingest::{Budget, Source};

/// A source being fed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feed(u64);

/// How far a feed is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fed {
    /// What was folded of it.
    pub totals: Totals,
    /// Whether that is all of it, durable. It was let go of then.
    pub is_done: bool,
}

impl Sidecar {
    /// Begins to fold one source to its end: every step does a part. Two feeds of one topic must not overlap.
    pub fn feed(&mut self, source: Box<dyn Source>, rules: Arc<[TopicRule]>) -> Feed {
        self.attach(source, rules);
        self.feeds += 1;
        if let Some(intake) = self.intakes.last_mut() {
            intake.feed = Some(Feed(self.feeds));
            if self.paused.is_some() {
                intake.source().pause();
            }
        }
        Feed(self.feeds)
    }

    /// How far a feed is. One that is done, or that failed, is let go of with this answer.
    ///
    /// # Errors
    /// Why it ended before its end. What was folded until then is kept.
    pub fn fed(&mut self, feed: Feed) -> Result<Fed, SidecarError> {
        let Some(intake) = self.intakes.iter_mut().find(|intake| intake.feed == Some(feed)) else {
            return Ok(Fed { totals: Totals::default(), is_done: true });
        };
        let (totals, is_done, failed) = (intake.totals(), intake.is_idle(), intake.failed.take());
        if is_done || failed.is_some() {
            self.intakes.retain(|intake| intake.feed != Some(feed));
        }
        failed.map_or(Ok(Fed { totals, is_done }), Err)
    }

    /// Ends a feed where it is: what the source gave so far is still folded, and the same source goes on from there.
    pub fn let_go(&mut self, feed: Feed) {
        let is_it = |intake: &&mut Intake| intake.feed == Some(feed);
        self.intakes.iter_mut().filter(is_it).for_each(Intake::stop);
    }

    /// Whether a source is being fed.
    pub fn is_feeding(&self) -> bool {
        self.intakes.iter().any(|intake| intake.feed.is_some())
    }

    /// Every source's part of a step; whether there was anything to do.
    pub(super) fn step_intakes(&mut self, mut budget: Budget, now: Timestamp) -> Result<bool, SidecarError> {
        if self.is_feeding() {
            // A source that has nothing must not keep one waiting that has.
            budget.wait = Duration::ZERO;
        }
        let (mut worked, is_alone) = (false, self.intakes.len() == 1);
        for intake in self.intakes.iter_mut().filter(|intake| intake.failed.is_none()) {
            match intake.step(&mut self.writer, &self.workers, budget, is_alone, now) {
                Ok(has_worked) => worked |= has_worked,
                Err(error @ SidecarError::Source(_)) if intake.feed.is_some() => {
                    intake.failed = Some(error);
                    worked = true;
                }
                Err(error) => return Err(error),
            }
        }
        self.intakes.retain(|intake| !intake.is_gone());
        Ok(worked)
    }

    /// Folds one source to its end while nothing else drives the loop, and seals what became full. `None` where nothing
    /// could be done for `patience` microseconds.
    ///
    /// # Errors
    /// As `step` and `fed`.
    pub fn ingest(
        &mut self,
        source: Box<dyn Source>,
        rules: Arc<[TopicRule]>,
        now: impl Fn() -> Timestamp,
        patience: u64,
    ) -> Result<Option<Totals>, SidecarError> {
        let feed = self.feed(source, rules);
        let (mut worked_at, mut totals) = (now(), None);
        loop {
            if totals.is_none() {
                totals = Some(self.fed(feed)?).filter(|fed| fed.is_done).map(|fed| fed.totals);
            }
            if totals.is_some() && !self.is_sealing() {
                return Ok(totals);
            }
            match self.step(now()) {
                Ok(Progress::Worked) => worked_at = now(),
                Ok(Progress::Waited) if now().since(worked_at) > patience => {
                    self.let_go(feed);
                    return Ok(totals);
                }
                Ok(Progress::Waited) => {}
                Err(error) => {
                    self.let_go(feed);
                    return Err(error);
                }
            }
        }
    }

    /// What intake has done since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for intake in self.intakes.iter().map(Intake::totals) {
            totals.folded.add(intake.folded);
            totals.duplicates += intake.duplicates;
            totals.gaps += intake.gaps;
        }
        totals
    }
}
