//! The tail of the log: what waits for the next seal, entry by entry, so that a seal need not read again what it leaves.
//!
//! Rebuilt from the journal at open; afterwards it grows with every entry and loses those that a segment has taken.

use std::collections::VecDeque;

use super::Waiting;
use crate::core::leaf::is_own;
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;

/// One entry of the tail.
#[derive(Clone, Copy, Debug)]
struct One {
    frame_bytes: u64,
    is_own: bool,
    /// When it was recorded, where that is known without opening it.
    at: Option<Timestamp>,
}

/// The entries behind the last seal.
#[derive(Debug, Default)]
pub(super) struct Tail {
    first: Size,
    entries: VecDeque<One>,
    waiting: Waiting,
}

impl Tail {
    /// The tail of a log sealed up to `sealed`, before any of its entries.
    pub(super) fn new(sealed: Size) -> Tail {
        Tail { first: sealed, ..Tail::default() }
    }

    /// Whether it begins where the last seal ends.
    pub(super) fn is_behind(&self, sealed: Size) -> bool {
        self.first == sealed
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, kind: u64, frames: &[Vec<u8>], at: Option<Timestamp>) {
        let frame_bytes = frames.iter().map(|frame| u64::try_from(frame.len()).unwrap_or(0)).sum::<u64>();
        let one = One { frame_bytes, is_own: is_own(kind), at };
        self.waiting.frame_bytes += frame_bytes;
        if !one.is_own {
            self.waiting.entries += 1;
            self.waiting.oldest = self.waiting.oldest.or(at);
        }
        self.entries.push_back(one);
    }

    /// Lets go of what is sealed by now. `time` says when an entry was recorded that was not read yet.
    ///
    /// # Errors
    /// Those of `time`.
    pub(super) fn sealed<E>(
        &mut self,
        sealed: Size,
        mut time: impl FnMut(Seq) -> Result<Option<Timestamp>, E>,
    ) -> Result<(), E> {
        while self.first < sealed {
            self.first = Size(self.first.0 + 1);
            let Some(one) = self.entries.pop_front() else { continue };
            self.waiting.frame_bytes -= one.frame_bytes;
            self.waiting.entries -= u64::from(!one.is_own);
        }
        self.waiting.oldest = None;
        for (seq, one) in (self.first.0..).zip(&mut self.entries).filter(|(_, one)| !one.is_own) {
            if one.at.is_none() {
                one.at = time(Seq(seq))?;
            }
            if one.at.is_some() {
                self.waiting.oldest = one.at;
                break;
            }
        }
        Ok(())
    }

    /// Gives what waits a time where none of it says one: none of it is younger than `newest`, and it must be sealed some time.
    pub(super) fn date(&mut self, newest: Timestamp) {
        if self.waiting.entries > 0 {
            self.waiting.oldest = self.waiting.oldest.or(Some(newest));
        }
    }

    /// All of it together.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of our own, of others with a known time, and of others whose time has to be asked for.
    fn tail() -> Tail {
        let mut tail = Tail::new(Size(10));
        let frames = |bytes: usize| vec![vec![0; bytes]];
        tail.push(5, &[], None);
        tail.push(0, &frames(7), None);
        tail.push(0, &frames(8), None);
        tail.push(5, &[], None);
        tail.push(0, &frames(9), Some(Timestamp(30)));
        tail
    }

    /// Entries, oldest and bytes after a seal up to `size`, and what had to be asked for.
    fn check(size: u64, expected: (u64, Option<u64>, u64), asked: &[u64]) {
        let (mut tail, mut questions) = (tail(), Vec::new());
        let time = |seq: Seq| {
            questions.push(seq.0);
            // The key of entry 11 has expired.
            Ok::<_, ()>((seq.0 != 11).then_some(Timestamp(20)))
        };
        tail.sealed(Size(size), time).unwrap();
        let Waiting { entries, oldest, frame_bytes } = tail.waiting();
        assert_eq!((entries, oldest.map(|at| at.0), frame_bytes), expected, "sealed up to {size}");
        assert_eq!(questions, asked, "sealed up to {size}");
    }

    #[test]
    fn what_says_no_time_waits_from_the_newest_one_known() {
        let mut tail = Tail::new(Size(10));
        tail.date(Timestamp(7));
        assert_eq!(tail.waiting().oldest, None, "nothing waits");
        tail.push(15, &[vec![0; 9]], None);
        tail.date(Timestamp(7));
        assert_eq!((tail.waiting().entries, tail.waiting().oldest), (1, Some(Timestamp(7))));
    }

    #[test]
    fn what_a_segment_leaves_is_counted_without_reading_it() {
        check(10, (3, Some(20), 24), &[11, 12]);
        check(12, (2, Some(20), 17), &[12]);
        check(13, (1, Some(30), 9), &[]);
        check(15, (0, None, 0), &[]);
    }
}
