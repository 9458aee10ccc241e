//! Which broker offsets are accounted for, and what each fault in that is.
//!
//! Every offset of every partition, from 0, is an entry or lies in a declared gap, exactly once. Knows nothing of
//! topics (`rules` asks whether a partition was declared) nor of what the broker had. Spec: format.md, Completeness.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::finding::Code;
use super::position::{Partition, Position};

/// A row of `sources`: how far one partition moved in one segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Source {
    /// The partition.
    pub partition: Partition,
    /// The next offset when the segment began.
    pub first: u64,
    /// The next offset when it ended.
    pub next: u64,
    /// The entries of the partition in it; the other offsets lie in gaps.
    pub entries: u64,
}

/// The first fault of one partition; later ones are consequences and not reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetFault {
    /// `offset-gap` or `offset-overlap`.
    pub code: Code,
    /// The partition.
    pub partition: Partition,
    /// The next offset that was not accounted for.
    pub expected: u64,
    /// The offset that came instead.
    pub found: u64,
}

/// The account of all partitions of one log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Completeness {
    tracks: BTreeMap<(u64, u64), Track>,
    /// Some segment before could not be read: a partition met for the first time goes on where it is met.
    is_adopting: bool,
}

/// The account of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Track {
    next: u64,
    /// Declared ranges at or after `next`, ascending and apart.
    holes: VecDeque<(u64, u64)>,
    /// The end of the newest declared range.
    declared_to: Option<u64>,
    /// `next` when the segment began.
    first: u64,
    entries: u64,
    is_faulted: bool,
}

impl Completeness {
    /// Accounts for one entry.
    pub fn entry(&mut self, position: Position) -> Option<OffsetFault> {
        let (partition, offset) = (position.partition(), position.offset);
        let track = self.track(partition, offset);
        track.close_holes();
        let expected = track.next;
        track.entries += 1;
        // Declared ranges ascend, so those that end before the offset are a prefix. None starts at or before `next`.
        let passed = track.holes.partition_point(|(_, last)| *last < offset);
        let is_declared = track.holes.get(passed).is_some_and(|(first, _)| *first <= offset);
        if offset < expected || is_declared {
            return track.fault(Code::OffsetOverlap, partition, expected, offset);
        }
        track.next = offset + 1;
        if offset == expected {
            return None;
        }
        track.holes.drain(..passed);
        track.fault(Code::OffsetGap, partition, expected, offset)
    }

    /// Accounts for a declared range; the caller has checked that `first <= last`.
    pub fn gap(&mut self, partition: Partition, first: u64, last: u64) -> Option<OffsetFault> {
        let track = self.track(partition, first);
        let expected = track.declared_to.map_or(track.next, |declared_to| track.next.max(declared_to + 1));
        if first < expected {
            return track.fault(Code::OffsetOverlap, partition, expected, first);
        }
        track.holes.push_back((first, last));
        track.declared_to = Some(last);
        None
    }

    /// Ends a segment: the rows of its `sources`, sorted, and the partitions whose declared ranges were not reached.
    pub fn end_segment(&mut self) -> (Vec<Source>, Vec<OffsetFault>) {
        let (mut sources, mut faults) = (Vec::new(), Vec::new());
        for (&(topic_no, partition), track) in &mut self.tracks {
            let partition = Partition { topic_no, partition };
            track.close_holes();
            if let Some(&(first, _)) = track.holes.front() {
                faults.extend(track.fault(Code::OffsetGap, partition, track.next, first));
            }
            if track.next != track.first {
                sources.push(Source { partition, first: track.first, next: track.next, entries: track.entries });
            }
            track.first = track.next;
            track.entries = 0;
        }
        (sources, faults)
    }

    /// Goes on after a segment that could not be read: `sources` of the next one say where its partitions stand.
    pub fn resume(&mut self, sources: &[Source]) {
        self.tracks.clear();
        self.is_adopting = true;
        self.adopt(sources);
    }

    /// After [`Completeness::resume`], at the start of each segment: partitions not met since then stand where its
    /// `sources` say.
    pub fn adopt(&mut self, sources: &[Source]) {
        if self.is_adopting {
            for source in sources {
                self.track(source.partition, source.first);
            }
        }
    }

    /// The next offset of `partition`: 0 if it was never met. Declared ranges that start there count only once an
    /// entry, or the end of the segment, has passed them.
    pub fn next(&self, partition: Partition) -> u64 {
        self.tracks.get(&(partition.topic_no, partition.partition)).map_or(0, |track| track.next)
    }

    /// All partitions met so far with their next offsets, sorted.
    pub fn positions(&self) -> impl Iterator<Item = (Partition, u64)> + '_ {
        self.tracks.iter().map(|(&(topic_no, partition), track)| (Partition { topic_no, partition }, track.next))
    }

    /// Whether a segment may end here: no declared range waits for entries before it.
    pub fn has_open_holes(&self) -> bool {
        self.tracks.values().any(|track| {
            let mut next = track.next;
            track.holes.iter().any(|(first, last)| {
                let is_open = *first != next;
                next = last + 1;
                is_open
            })
        })
    }

    /// Whether `partition` had a fault, after which nothing of it is compared.
    pub fn is_faulted(&self, partition: Partition) -> bool {
        self.tracks.get(&(partition.topic_no, partition.partition)).is_some_and(|track| track.is_faulted)
    }

    fn track(&mut self, partition: Partition, met_at: u64) -> &mut Track {
        let start = if self.is_adopting { met_at } else { 0 };
        let key = (partition.topic_no, partition.partition);
        self.tracks.entry(key).or_insert_with(|| Track { next: start, first: start, ..Track::default() })
    }
}

impl Track {
    /// While a declared range starts at `next`, the offset after it is next.
    fn close_holes(&mut self) {
        while let Some(&(first, last)) = self.holes.front()
            && first == self.next
        {
            self.holes.pop_front();
            self.next = last + 1;
        }
    }

    fn fault(&mut self, code: Code, partition: Partition, expected: u64, found: u64) -> Option<OffsetFault> {
        let is_first = !std::mem::replace(&mut self.is_faulted, true);
        is_first.then_some(OffsetFault { code, partition, expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const VECTORS: &str = include_str!("../../tests/vectors/pinfold-v1/completeness.json");

    fn uint(value: &Value) -> u64 {
        value.as_u64().unwrap()
    }

    fn check(case: &Value) {
        let name = case["name"].as_str().unwrap();
        let mut account = Completeness::default();
        let (mut faults, mut sources) = (Vec::new(), Vec::new());
        for event in case["events"].as_array().unwrap() {
            if event[0] == "end" {
                assert_eq!(account.clone().end_segment().1.is_empty(), !account.has_open_holes() || !faults.is_empty());
                let (rows, at_end) = account.end_segment();
                faults.extend(at_end);
                let row = |s: Source| [s.partition.topic_no, s.partition.partition, s.first, s.next, s.entries];
                sources.push(rows.into_iter().map(row).collect::<Vec<_>>());
                continue;
            }
            let partition = Partition { topic_no: uint(&event[1]), partition: uint(&event[2]) };
            faults.extend(match event[0].as_str() {
                Some("entry") => account.entry(partition.at(uint(&event[3]))),
                Some("gap") => account.gap(partition, uint(&event[3]), uint(&event[4])),
                other => panic!("{other:?}"),
            });
            let stored = serde_cbor::to_vec(&account).unwrap();
            assert_eq!(serde_cbor::from_slice::<Completeness>(&stored).unwrap(), account, "{name}");
        }
        let found: Vec<Value> = faults
            .iter()
            .map(|f| serde_json::json!([f.code.as_str(), f.partition.topic_no, f.partition.partition]))
            .collect();
        assert_eq!(Value::from(found), case["findings"], "{name}");
        if let Some(expected) = case.get("sources") {
            assert_eq!(serde_json::json!(sources), *expected, "{name}");
        }
        if let Some(expected) = case.get("next") {
            let next: serde_json::Map<String, Value> =
                account.positions().map(|(partition, next)| (partition.to_string(), next.into())).collect();
            assert_eq!(Value::from(next), *expected, "{name}");
        }
    }

    #[test]
    fn the_vectors_hold() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() > 30);
        cases.iter().for_each(check);
    }

    #[test]
    fn after_an_unreadable_segment_the_account_goes_on_from_the_next_ones_sources() {
        let partition = Partition { topic_no: 0, partition: 3 };
        let other = Partition { topic_no: 1, partition: 0 };
        let mut account = Completeness::default();
        assert_eq!(account.entry(partition.at(0)), None);
        account.resume(&[Source { partition, first: 7, next: 9, entries: 2 }]);
        assert_eq!(account.entry(partition.at(7)), None);
        assert_eq!(account.entry(other.at(40)), None);
        let overlap = OffsetFault { code: Code::OffsetOverlap, partition, expected: 8, found: 7 };
        assert_eq!(account.entry(partition.at(7)), Some(overlap));
        assert!(account.is_faulted(partition) && !account.is_faulted(other));
    }
}
