//! Segments that have their rows already: a process that goes on needs what they state, not their rows.
//!
//! Their parts stay closed. Only the time of the log stands in one, and as it never falls the last one says it.

use prost::Message;

use super::{Fold, FoldError, Sealed};
use crate::core::finding::Refused;
use crate::core::leaf::LeafView;
use crate::core::rows::Wanted;
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::proto::v1::OperatorPart;

impl Fold {
    /// Takes in the next segment without its rows, and but for the time that records state. Before [`Fold::segment`]
    /// comes the next: [`Fold::tell_time`].
    ///
    /// # Errors
    /// `Refused` for leaves that cannot follow. After an error the fold is of no use.
    pub fn pass<'l, E>(
        &mut self,
        sealed: &Sealed<'_>,
        leaves: impl IntoIterator<Item = &'l [u8]>,
    ) -> Result<(), FoldError<E>> {
        let mut rows = self.begin(sealed)?;
        for leaf in leaves {
            let seq = sealed.seal.first.next_seq();
            let view = LeafView::decode(leaf).map_err(|refused| FoldError::Refused { seq, refused })?;
            if !is_record(&view) {
                self.leaf(leaf, &mut rows, |_| Ok(None::<Vec<u8>>))?;
                rows.entries.clear();
            }
        }
        self.pins.changed(&self.origin);
        Ok(())
    }

    /// After [`Fold::pass`] of the last segment: takes the time of the log from its records, the last one first. `open`
    /// gives the body of an operator part, or `None` where its key or its frame is gone. False where the segment holds
    /// no record: then the one before it has to be asked, up to the first that holds one.
    ///
    /// # Errors
    /// As [`Fold::segment`].
    pub fn tell_time<'l, B: AsRef<[u8]>, E>(
        &mut self,
        leaves: impl DoubleEndedIterator<Item = &'l [u8]>,
        mut open: impl FnMut(Wanted<'_>) -> Result<Option<B>, E>,
    ) -> Result<bool, FoldError<E>> {
        let mut has_record = false;
        for leaf in leaves.rev() {
            let view = LeafView::decode(leaf).map_err(|refused| FoldError::Refused { seq: Seq(0), refused })?;
            let (seq, part) = (view.seq, view.parts().next());
            if !is_record(&view) {
                continue;
            }
            let wanted = part.map(|sealed| Wanted { seq, part: 0, sealed, key: None });
            let body = wanted.map(&mut open).transpose().map_err(|source| FoldError::Part { seq, part: 0, source })?;
            // Whether times are exact the last record says; the time itself, the last one that opens.
            if !std::mem::replace(&mut has_record, true) {
                self.clock.is_exact = body.as_ref().is_some_and(Option::is_some);
            }
            let Some(body) = body.flatten() else { continue };
            let operator = OperatorPart::decode(body.as_ref()).map_err(|_| FoldError::Refused {
                seq,
                refused: Refused::non_canonical("operator part: not a message".to_owned()),
            })?;
            self.clock.now = self.clock.now.max(Some(Timestamp(operator.recorded_at)));
            break;
        }
        Ok(has_record)
    }
}

/// Whether the parts of an entry are a record's.
fn is_record(view: &LeafView<'_>) -> bool {
    matches!(view.kind, 0 | 4)
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::{Log, first_segment, second_segment};

    /// The rows of a segment after another, which was folded or passed; `event` adds to the first before it is sealed.
    fn check(opened: usize, closed: usize) {
        let logs = [Log::new(), Log::new()].map(|mut log| {
            let first = first_segment(&mut log, 1);
            log.event("open");
            for _ in 0..closed {
                log.append(pinfold::core::leaf::Body::Event, &[None]);
            }
            log.seal();
            (log, first)
        });
        let [(mut folded, first), (mut passed, _)] = logs;
        assert_eq!(passed.pass_all(), opened);
        let [expected, found] = [&mut folded, &mut passed].map(|log| {
            log.append(pinfold::core::leaf::Body::Event, &[None]);
            second_segment(log, &first)
        });
        assert_eq!(found, expected);
        assert_eq!(found.entries.first().map(|entry| entry.is_timed), Some(false));
        assert_eq!(passed.fold.sealed_times(), folded.fold.sealed_times());
    }

    #[test]
    fn what_was_passed_serves_like_what_was_folded_and_one_part_is_opened() {
        check(1, 0);
        check(3, 2);
    }

    #[test]
    fn a_segment_without_records_leaves_the_time_to_the_one_before() {
        let [mut folded, mut passed] = [Log::new(), Log::new()];
        let first = [&mut folded, &mut passed].map(|log| {
            let first = first_segment(log, 1);
            log.rotate(3);
            log.seal();
            first
        });
        assert_eq!(passed.pass_all(), 1);
        let rows = [&mut folded, &mut passed].map(|log| second_segment(log, &first[0]));
        assert_eq!(rows[1], rows[0]);
    }
}
