//! Whether the logs of a fleet, together, account for every offset of every partition, each once.
//!
//! The members of a consumer group each write a log of their own and say of what they did not read that another member
//! has it (kind 3, reason 3). One log cannot show that, all of them together can: every such range must be in another
//! member's log, as entries or under a reason that ends there; and an offset that two logs hold must be declared
//! (kind 17). What a log says of itself (dense, signed, no hole) is the audit's to find, before this.
//! A partition is one by the cluster's and the topic's id: names may be aliases. Spec: format.md, Completeness.

mod ranges;

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Code;
use super::leaf::{Body, End, GapRange, GapReason, LeafView, Topic, TopicSource};
use super::origin::Origin;
use super::position::Partition;
use super::rules::Fault;
use super::seq::Seq;
use ranges::Ranges;

/// What one log says of offsets, gathered leaf by leaf.
#[derive(Clone, Debug, Default)]
pub struct Member {
    origin: String,
    /// The predecessor it goes on from.
    continues: Option<Origin>,
    topics: BTreeMap<u64, Known>,
    tracks: BTreeMap<Partition, Track>,
}

/// A topic as one log declared it.
#[derive(Clone, Debug)]
struct Known {
    stream: Stream,
    name: String,
    /// How often its history was found cut, under the same id: offsets of another history are other offsets.
    history: u64,
    replaces: Option<u64>,
}

/// A topic of a broker, the same in all logs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Stream {
    cluster: String,
    /// The topic's id; its name where the broker gives none.
    topic: String,
}

/// One partition under one topic number of one log.
#[derive(Clone, Debug, Default)]
struct Track {
    entries: Vec<(u64, u64)>,
    /// Gaps whose reason says that nobody has a record there.
    ended: Vec<(u64, u64)>,
    /// Gaps that point to another log, or to another number of this one, and where that is said.
    pointing: Vec<(GapRange, Seq)>,
    contested: Vec<(u64, u64)>,
    /// The end at the broker, as observed last.
    end: Option<u64>,
}

/// How a partition stands in the whole fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The cluster's id.
    pub cluster: String,
    /// A name of the topic in a log.
    pub topic: String,
    /// The topic's id.
    pub topic_id: String,
    /// The partition.
    pub partition: u64,
    /// The next offset of the log that has come furthest.
    pub next: u64,
    /// The end at the broker, as the newest observation of any log has it (kind 19).
    pub end: Option<u64>,
    /// Offsets with an entry in some log.
    pub entries: u64,
    /// Offsets with entries in two logs or more.
    pub overlapping: u64,
    /// Offsets declared as perhaps in two logs (kind 17).
    pub contested: u64,
    /// How many logs have entries of it.
    pub logs: u64,
}

impl Member {
    /// A log of this name, before its first leaf.
    pub fn new(origin: &str) -> Member {
        Member { origin: origin.to_owned(), ..Member::default() }
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Takes the next leaf. One that does not read says nothing here: the audit names it.
    pub fn take(&mut self, leaf: &LeafView<'_>) {
        if let Some(src) = leaf.src {
            extend(&mut self.track(src.partition()).entries, src.offset, src.offset);
            return;
        }
        match leaf.body() {
            Ok(Body::LogOpened(opened)) => self.continues = opened.continues.map(|before| before.origin),
            Ok(Body::TopicDeclared(topic)) => self.declare(&topic),
            Ok(Body::Gap(ranges)) => ranges.into_iter().for_each(|range| self.gap(range, leaf.seq)),
            Ok(Body::Overlap { first, last, partition, .. }) => self.track(partition).contested.push((first, last)),
            Ok(Body::Observed { ends, .. }) => ends.into_iter().for_each(|end| self.observed(end)),
            _ => {}
        }
    }

    fn track(&mut self, partition: Partition) -> &mut Track {
        self.tracks.entry(partition).or_default()
    }

    fn declare(&mut self, topic: &Topic) {
        // What files and intakes count is theirs alone.
        if topic.source != TopicSource::Kafka {
            return;
        }
        let id = if topic.topic_id.is_empty() { &topic.name } else { &topic.topic_id };
        let stream = Stream { cluster: topic.cluster.clone(), topic: id.clone() };
        let replaced = topic.replaces.filter(|no| *no != topic.topic_no);
        let before = replaced.and_then(|no| self.topics.get(&no)).filter(|before| before.stream == stream);
        let history = before.map_or(0, |before| before.history + 1);
        let known = Known { stream, name: topic.name.clone(), history, replaces: replaced };
        // More partitions, the same number: it stays what it is.
        self.topics.entry(topic.topic_no).or_insert(known);
    }

    fn gap(&mut self, range: GapRange, seq: Seq) {
        let track = self.track(range.partition);
        match range.reason {
            GapReason::OtherMember | GapReason::Continued => track.pointing.push((range, seq)),
            _ => extend(&mut track.ended, range.first, range.last),
        }
    }

    fn observed(&mut self, end: End) {
        self.track(end.partition).end = Some(end.end);
    }

    /// All tracks of the broker's partitions.
    fn tracks(&self) -> impl Iterator<Item = (Partition, &Known, &Track)> {
        self.tracks
            .iter()
            .filter_map(|(partition, track)| Some((*partition, self.topics.get(&partition.topic_no)?, track)))
    }
}

impl Track {
    fn entries(&self) -> Ranges {
        Ranges::of(self.entries.clone())
    }

    /// Offsets it accounts for without pointing elsewhere.
    fn held(&self) -> Ranges {
        Ranges::of([&self.entries[..], &self.ended].concat())
    }

    fn next(&self) -> u64 {
        let pointing = self.pointing.iter().map(|(range, _)| range.last);
        let last = self.entries.iter().chain(&self.ended).map(|(_, last)| *last).chain(pointing).max();
        last.map_or(0, |last| last + 1)
    }
}

/// Adds a range to those before it: one entry after the other makes one range.
fn extend(ranges: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    match ranges.last_mut() {
        Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
        _ => ranges.push((first, last)),
    }
}

/// A track with its log.
#[derive(Clone, Copy)]
struct Placed<'a> {
    member: usize,
    origin: &'a str,
    partition: Partition,
    known: &'a Known,
    track: &'a Track,
}

/// Checks the members together: what is wrong, and how each partition stands. The logs have names of their own.
pub fn check(members: &[Member]) -> (Vec<Fault>, Vec<Row>) {
    let mut partitions: BTreeMap<(&Stream, u64), Vec<Placed<'_>>> = BTreeMap::new();
    for (number, member) in members.iter().enumerate() {
        for (partition, known, track) in member.tracks() {
            let placed = Placed { member: number, origin: &member.origin, partition, known, track };
            partitions.entry((&known.stream, partition.partition)).or_default().push(placed);
        }
    }
    let (mut faults, mut rows) = (Vec::new(), Vec::new());
    for ((stream, partition), tracks) in partitions {
        for placed in &tracks {
            faults.extend(unheld(members, placed, &tracks));
        }
        let contested = Ranges::of(tracks.iter().flat_map(|placed| placed.track.contested.iter().copied()).collect());
        let (overlapping, undeclared) = overlaps(&tracks, &contested);
        faults.extend(undeclared);
        let logs: BTreeSet<usize> =
            tracks.iter().filter(|placed| !placed.track.entries.is_empty()).map(|placed| placed.member).collect();
        let entries: Vec<Ranges> = tracks.iter().map(|placed| placed.track.entries()).collect();
        let name = tracks.first().map(|placed| placed.known.name.clone()).unwrap_or_default();
        rows.push(Row {
            cluster: stream.cluster.clone(),
            topic: name,
            topic_id: stream.topic.clone(),
            partition,
            next: tracks.iter().map(|placed| placed.track.next()).max().unwrap_or(0),
            end: tracks.iter().filter_map(|placed| placed.track.end).max(),
            entries: Ranges::union(&entries).count(),
            overlapping: overlapping.count(),
            contested: contested.count(),
            logs: logs.len() as u64,
        });
    }
    (faults, rows)
}

/// The ranges of which one log says that another has them, and none has.
fn unheld(members: &[Member], placed: &Placed<'_>, tracks: &[Placed<'_>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (range, seq) in &placed.track.pointing {
        let held: Vec<Ranges> = match range.reason {
            GapReason::Continued => continued(members, placed, tracks),
            _ => tracks.iter().filter(|other| other.member != placed.member).map(|other| other.track.held()).collect(),
        };
        let missing = Ranges::of(vec![(range.first, range.last)]).without(&Ranges::union(&held));
        faults.extend(missing.iter().map(|(first, last)| {
            let expected = "an entry, or a reason of its own, in the log that has them";
            let found = format!("only the word of {} ({})", placed.origin, range.reason.as_str());
            Fault::at(*seq, Code::OffsetGap, placed.place(first, last), expected, found)
        }));
    }
    faults
}

/// What the replaced number of the same log accounts for, and the log it goes on from.
fn continued(members: &[Member], placed: &Placed<'_>, tracks: &[Placed<'_>]) -> Vec<Ranges> {
    let Some(member) = members.get(placed.member) else { return Vec::new() };
    let before = placed.known.replaces.map(|topic_no| Partition { topic_no, ..placed.partition });
    let replaced = before.and_then(|partition| member.tracks.get(&partition));
    let predecessor = member.continues.as_ref().map(Origin::as_str);
    let of_predecessor = tracks.iter().filter(|other| Some(other.origin) == predecessor).map(|other| other.track);
    replaced.into_iter().chain(of_predecessor).map(Track::held).collect()
}

/// The offsets that two logs have entries of, in one history; and where no log declares that.
fn overlaps(tracks: &[Placed<'_>], contested: &Ranges) -> (Ranges, Vec<Fault>) {
    let (mut overlapping, mut faults) = (Vec::new(), Vec::new());
    for (number, one) in tracks.iter().enumerate() {
        let is_pair = |other: &&Placed<'_>| other.member != one.member && other.known.history == one.known.history;
        for other in tracks.iter().take(number).filter(is_pair) {
            let both = one.track.entries().within(&other.track.entries());
            faults.extend(both.without(contested).iter().map(|(first, last)| {
                let found = format!("entries in {} and {}", other.origin, one.origin);
                let expected = "entries in one log, or a declared overlap";
                Fault::of(Code::OffsetOverlap, one.place(first, last), expected, found)
            }));
            overlapping.extend(both.iter());
        }
    }
    (Ranges::of(overlapping), faults)
}

impl Placed<'_> {
    fn place(&self, first: u64, last: u64) -> String {
        let Known { name, stream, .. } = self.known;
        format!(
            "topic {name} of cluster {}, partition {}, offsets {first} to {last}",
            stream.cluster, self.partition.partition
        )
    }
}

#[cfg(test)]
mod tests;
