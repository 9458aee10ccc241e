//! Where to begin in a partition: our position against what the broker still has. Pure.

use super::super::{GapWhy, Held};

/// What is known when a partition is assigned.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    /// Our position, if this log has read the partition.
    pub(super) held: Option<Held>,
    /// The broker's low watermark.
    pub(super) low: u64,
    /// The broker's last stable offset.
    pub(super) end: u64,
    /// The group's committed offset, in a shared group.
    pub(super) committed: Option<u64>,
    /// Where the configuration begins where nothing is held; within low..=end.
    pub(super) start: u64,
}

/// Where to begin, and what that leaves out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Begin {
    /// The first offset to fetch: `next`, or the last archived record before it.
    pub(super) fetch: u64,
    /// The next offset to deliver.
    pub(super) next: u64,
    /// The last archived record.
    pub(super) last: Option<Last>,
    /// What is left out, in order.
    pub(super) gaps: Vec<(u64, u64, GapWhy)>,
}

/// The last archived record: whether the broker can still show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Last {
    /// It is read again first.
    Reread(u64),
    /// Retention took it.
    Gone(u64),
}

impl Last {
    /// Its offset.
    pub(super) fn offset(self) -> u64 {
        match self {
            Last::Reread(offset) | Last::Gone(offset) => offset,
        }
    }
}

/// Begins, or says at which offset the broker ends although we are beyond it.
pub(super) fn begin(at: &Situation) -> Result<Begin, u64> {
    match &at.held {
        // A group that read further than the broker now has, read another history.
        _ if at.committed.is_some_and(|committed| committed > at.end) => Err(at.end),
        Some(held) if held.next > at.end => Err(at.end),
        Some(held) => Ok(go_on(held, at)),
        None => Ok(begin_anew(at)),
    }
}

fn go_on(held: &Held, at: &Situation) -> Begin {
    let mut next = held.next;
    let mut gaps = Vec::new();
    let committed = at.committed.unwrap_or(0);
    if committed > next {
        gaps.push((next, committed - 1, GapWhy::OtherMember));
        next = committed;
    }
    if at.low > next {
        gaps.push((next, at.low - 1, GapWhy::RetentionLoss));
        next = at.low;
    }
    let last = held.last.map(|last| if last >= at.low { Last::Reread(last) } else { Last::Gone(last) });
    let fetch = if let Some(Last::Reread(last)) = last { last } else { next };
    Begin { fetch, next, last, gaps }
}

fn begin_anew(at: &Situation) -> Begin {
    let mut gaps = Vec::new();
    let next = match at.committed {
        // What the group committed, another log holds.
        Some(committed) => committed.clamp(at.low, at.end),
        None => at.start.clamp(at.low, at.end),
    };
    if next > 0 {
        let why = if at.committed.is_some() { GapWhy::OtherMember } else { GapWhy::BeforeThisLog };
        gaps.push((0, next - 1, why));
    }
    Begin { fetch: next, next, last: None, gaps }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `held` = (next, last); the answer as "fetch next last gaps" or the end the broker has.
    fn check(held: Option<(u64, u64)>, low: u64, end: u64, committed: Option<u64>, start: u64, expected: &str) {
        let held = held.map(|(next, last)| Held { next, last: Some(last), state: Vec::new() });
        let found = match begin(&Situation { held, low, end, committed, start }) {
            Ok(Begin { fetch, next, last, gaps }) => format!("{fetch} {next} {last:?} {gaps:?}"),
            Err(end) => format!("ends at {end}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_new_partition_begins_where_the_configuration_says() {
        check(None, 0, 9, None, 0, "0 0 None []");
        check(None, 4, 9, None, 4, "4 4 None [(0, 3, BeforeThisLog)]");
        check(None, 4, 9, None, 9, "9 9 None [(0, 8, BeforeThisLog)]");
        check(None, 4, 9, Some(6), 4, "6 6 None [(0, 5, OtherMember)]");
    }

    #[test]
    fn a_held_partition_goes_on_after_its_last_record() {
        check(Some((5, 4)), 0, 9, None, 0, "4 5 Some(Reread(4)) []");
        check(Some((7, 4)), 0, 9, None, 0, "4 7 Some(Reread(4)) []");
        check(Some((9, 8)), 0, 9, None, 0, "8 9 Some(Reread(8)) []");
    }

    #[test]
    fn what_retention_took_is_said_to_be_lost() {
        check(Some((5, 4)), 5, 9, None, 0, "5 5 Some(Gone(4)) []");
        check(Some((5, 4)), 7, 9, None, 0, "7 7 Some(Gone(4)) [(5, 6, RetentionLoss)]");
        check(Some((5, 4)), 9, 9, None, 0, "9 9 Some(Gone(4)) [(5, 8, RetentionLoss)]");
    }

    #[test]
    fn what_another_member_read_is_its_own() {
        check(Some((5, 4)), 0, 9, Some(7), 0, "4 7 Some(Reread(4)) [(5, 6, OtherMember)]");
        check(Some((5, 4)), 8, 9, Some(7), 0, "8 8 Some(Gone(4)) [(5, 6, OtherMember), (7, 7, RetentionLoss)]");
        check(Some((5, 4)), 0, 9, Some(3), 0, "4 5 Some(Reread(4)) []");
    }

    #[test]
    fn a_broker_that_ends_before_us_is_refused() {
        check(Some((5, 4)), 0, 4, None, 0, "ends at 4");
        check(Some((1, 0)), 0, 0, None, 0, "ends at 0");
        check(Some((3, 2)), 0, 4, Some(5), 0, "ends at 4");
        check(None, 0, 4, Some(5), 0, "ends at 4");
    }
}
