//! What waits for the next seal, kept as entries come and go, so that no seal has to read the journal for it.
//!
//! The range of a segment is fixed before the segment is cut: what comes meanwhile waits for the one after it. So it
//! must be known of any place in the log what waits behind it, and since when.

use std::collections::VecDeque;

use crate::core::leaf::is_own;
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;

/// What waits for the next seal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Waiting {
    /// Entries that are not our own: only they start the clock.
    pub(super) entries: u64,
    /// The frame bytes of all entries.
    pub(super) frame_bytes: u64,
    /// When they were recorded, oldest first. One run for each time: as many as batches came, not as entries.
    runs: VecDeque<Run>,
}

/// Entries that are not our own and were recorded together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    last: Seq,
    at: Timestamp,
}

impl Waiting {
    /// Counts the next entry. `at` is when it was recorded; unknown, it was with those before it.
    pub(super) fn add(&mut self, seq: Seq, kind: u64, frame_bytes: u64, at: Option<Timestamp>) {
        self.frame_bytes += frame_bytes;
        if is_own(kind) {
            return;
        }
        self.entries += 1;
        match (self.runs.back_mut(), at) {
            (Some(run), Some(at)) if run.at == at => run.last = seq,
            (Some(run), None) => run.last = seq,
            (_, Some(at)) => self.runs.push_back(Run { last: seq, at }),
            (None, None) => {}
        }
    }

    /// When the oldest entry that is not our own was recorded.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.runs.front().map(|run| run.at)
    }

    /// Entries up to `end` are sealed: so many that are not our own, with so many frame bytes.
    pub(super) fn sealed(&mut self, end: Size, entries: u64, frame_bytes: u64) {
        self.entries = self.entries.saturating_sub(entries);
        self.frame_bytes = self.frame_bytes.saturating_sub(frame_bytes);
        while self.runs.front().is_some_and(|run| run.last < end.next_seq()) {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: u64 = 0;
    const SEALED: u64 = 5;

    fn waiting(entries: &[(u64, u64, u64)]) -> Waiting {
        let mut waiting = Waiting::default();
        for (seq, kind, at) in entries {
            waiting.add(Seq(*seq), *kind, 10, Some(Timestamp(*at)));
        }
        waiting
    }

    /// Whatever the place of the cut, what is left is what a new count of the entries behind it finds.
    #[test]
    fn what_a_seal_leaves_is_what_a_recount_finds() {
        let entries = [
            (0, EVENT, 1),
            (1, EVENT, 1),
            (2, SEALED, 2),
            (3, EVENT, 3),
            (4, SEALED, 4),
            (5, SEALED, 5),
            (6, EVENT, 6),
        ];
        for end in 0..=entries.len() {
            let mut left = waiting(&entries);
            let (before, behind) = entries.split_at(end);
            let sealed = waiting(before);
            left.sealed(Size(end as u64), sealed.entries, sealed.frame_bytes);
            assert_eq!(left, waiting(behind), "sealed up to {end}");
        }
    }

    #[test]
    fn our_own_entries_start_no_clock_and_a_time_nobody_knows_is_the_one_before() {
        let mut own = waiting(&[(0, SEALED, 1), (1, SEALED, 2)]);
        assert_eq!((own.entries, own.oldest(), own.frame_bytes), (0, None, 20));
        own.add(Seq(2), EVENT, 0, None);
        assert_eq!((own.entries, own.oldest()), (1, None));
        own.add(Seq(3), EVENT, 0, Some(Timestamp(9)));
        own.add(Seq(4), EVENT, 0, None);
        assert_eq!((own.entries, own.oldest()), (3, Some(Timestamp(9))));
        own.sealed(Size(4), 2, 20);
        assert_eq!((own.entries, own.oldest()), (1, Some(Timestamp(9))));
    }
}
