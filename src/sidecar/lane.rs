//! A lane: one pin target or registry, with at most one request under way and a back-off of its own.
//!
//! What is outside may be slow or gone for days; folding goes on meanwhile. So requests run beside the loop, which
//! only starts them and takes their answers. Delays grow to a limit and are spread, so that a fleet does not knock on
//! a node that comes back all at once.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::core::time::Timestamp;

const DELAY_FIRST_MS: u64 = 500;
const DELAY_MAX_MS: u64 = 60_000;

/// What is known of one target or registry.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// Its configured name.
    pub name: String,
    /// Whether a segment is not done without it.
    pub is_required: bool,
    /// Whether a request is under way.
    pub(super) is_busy: bool,
    /// Failures since the last success.
    pub failures: u32,
    /// The last failure, in words; empty after a success.
    pub trouble: String,
    /// What a person can do about it.
    pub hint: String,
    /// When the last request succeeded.
    pub last_success: Option<Timestamp>,
    next_try: Timestamp,
}

impl Lane {
    /// A lane that has not been tried.
    pub(super) fn new(name: &str, is_required: bool) -> Lane {
        Lane { name: name.to_owned(), is_required, ..Lane::default() }
    }

    /// Whether a request may be started.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        !self.is_busy && now >= self.next_try
    }

    /// Something changed that may have been the reason of its failures: no use in waiting.
    pub(super) fn try_now(&mut self) {
        self.next_try = Timestamp(0);
    }

    /// A request was answered as it should be.
    pub(super) fn succeeded(&mut self, now: Timestamp) {
        let Lane { name, is_required, .. } = std::mem::take(self);
        *self = Lane { last_success: Some(now), ..Lane::new(&name, is_required) };
    }

    /// A request failed; `spread` is any number, drawn by the caller.
    pub(super) fn failed(&mut self, now: Timestamp, trouble: String, hint: String, spread: u64) {
        self.is_busy = false;
        self.next_try = now.plus(1000 * delay_ms(self.failures, spread));
        self.failures = self.failures.saturating_add(1);
        (self.trouble, self.hint) = (trouble, hint);
    }
}

/// Half a doubling delay, and up to as much again by `spread`.
fn delay_ms(failures: u32, spread: u64) -> u64 {
    let full = DELAY_FIRST_MS.saturating_mul(1 << failures.min(16)).min(DELAY_MAX_MS);
    full / 2 + spread % (full / 2 + 1)
}

/// Answers of requests that ran beside the loop.
pub(super) struct Answers<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    /// Those that were looked at and not yet taken.
    early: VecDeque<T>,
}

impl<T> Answers<T> {
    pub(super) fn new() -> Answers<T> {
        let (sender, receiver) = channel();
        Answers { sender, receiver, early: VecDeque::new() }
    }

    /// Where a request puts its answer.
    pub(super) fn sender(&self) -> Sender<T> {
        self.sender.clone()
    }

    /// The next one that has come, without waiting.
    pub(super) fn next(&mut self) -> Option<T> {
        self.early.pop_front().or_else(|| self.receiver.try_recv().ok())
    }

    /// Whether one that is wanted has come.
    pub(super) fn has_come(&mut self, is_wanted: impl Fn(&T) -> bool) -> bool {
        self.early.extend(self.receiver.try_iter());
        self.early.iter().any(is_wanted)
    }

    /// The next one that is wanted and has come, without waiting; the others stay in their order.
    pub(super) fn next_wanted(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.early.extend(self.receiver.try_iter());
        let at = self.early.iter().position(is_wanted)?;
        self.early.remove(at)
    }

    /// Waits until one has come, at most so long.
    pub(super) fn wait(&mut self, wait: Duration) {
        if self.early.is_empty() {
            self.early.extend(self.receiver.recv_timeout(wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_a_limit_and_are_spread() {
        for (failures, least, most) in [(0, 250, 500), (1, 500, 1000), (6, 16_000, 32_000), (40, 30_000, 60_000)] {
            assert_eq!(delay_ms(failures, 0), least);
            assert!((0..1000).map(|spread| delay_ms(failures, spread * 97)).all(|ms| (least..=most).contains(&ms)));
        }
    }

    #[test]
    fn a_lane_waits_after_a_failure_and_forgets_it_after_a_success() {
        let mut lane = Lane::new("kubo", true);
        lane.failed(Timestamp(0), "refused".into(), "start it".into(), 0);
        assert!(!lane.is_due(Timestamp(249_999)) && lane.is_due(Timestamp(250_000)));
        lane.succeeded(Timestamp(300_000));
        assert!(lane.is_due(Timestamp(300_000)) && lane.failures == 0 && lane.trouble.is_empty() && lane.is_required);
    }
}
