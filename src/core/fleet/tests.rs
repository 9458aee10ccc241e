//! Members as a few words each; every fault is planted once.

use super::super::hash::Hash;
use super::super::leaf::{Leaf, Opened, PartRef, TopicWhy};
use super::super::note::Skey;
use super::super::time::Timestamp;
use super::*;

/// A log of topic `t` at cluster `c`, made of words: `0-9` entries, `3:0-9` a gap of reason 3, `x4-5` an overlap,
/// `e7` an observed end, `cut` another number for the topic because its history was cut, `new` because it was made
/// again under id `u`. A word may begin with `p1/` for partition 1.
fn member(origin: &str, words: &str) -> Member {
    let mut log = Log { member: Member::new(origin), seq: 2, topic_no: 0 };
    log.declare(TopicWhy::New, None, "t");
    for word in words.split_whitespace() {
        log.word(word);
    }
    log.member
}

struct Log {
    member: Member,
    seq: u64,
    topic_no: u64,
}

impl Log {
    fn word(&mut self, word: &str) {
        let (partition, word) = match word.strip_prefix("p1/") {
            Some(rest) => (1, rest),
            None => (0, word),
        };
        let partition = Partition { topic_no: self.topic_no, partition };
        match word {
            "cut" => return self.next(TopicWhy::Truncated, "t"),
            "new" => return self.next(TopicWhy::Recreated, "u"),
            _ => {}
        }
        if let Some(range) = word.strip_prefix('x') {
            let (first, last) = range_of(range);
            return self.push(None, Body::Overlap { last, first, origin: None, partition });
        }
        if let Some(end) = word.strip_prefix('e') {
            let ends = vec![End { partition, low: 0, end: end.parse().unwrap() }];
            return self.push(None, Body::Observed { at: Timestamp(1), ends });
        }
        if let Some((reason, range)) = word.split_once(':') {
            let (first, last) = range_of(range);
            let reason = GapReason::from_code(reason.parse().unwrap()).unwrap();
            return self.push(None, Body::Gap(vec![GapRange { partition, first, last, reason }]));
        }
        let (first, last) = range_of(word);
        (first..=last).for_each(|offset| self.push(Some(partition.at(offset)), Body::Event));
    }

    fn next(&mut self, why: TopicWhy, topic_id: &str) {
        let replaces = Some(self.topic_no);
        self.topic_no += 1;
        self.declare(why, replaces, topic_id);
    }

    fn declare(&mut self, why: TopicWhy, replaces: Option<u64>, topic_id: &str) {
        // The name may be an alias: what is the same topic says its id.
        let name = format!("alias of {}", self.member.origin());
        let (cluster, topic_id, topic_no) = ("c".to_owned(), topic_id.to_owned(), self.topic_no);
        let source = TopicSource::Kafka;
        let topic = Topic { why, name, shared: true, source, cluster, replaces, topic_id, topic_no, partitions: 2 };
        self.push(None, Body::TopicDeclared(Box::new(topic)));
    }

    fn push(&mut self, src: Option<super::super::position::Position>, body: Body) {
        let part = PartRef { commitment: Hash::ZERO, digest: Hash::ZERO };
        let parts = if src.is_some() { vec![part, part] } else { Vec::new() };
        let bytes = Leaf { seq: Seq(self.seq), src, prev: Hash::ZERO, body, parts }.encode().unwrap();
        self.member.take(&LeafView::decode(&bytes).unwrap());
        self.seq += 1;
    }
}

fn range_of(text: &str) -> (u64, u64) {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    (first.parse().unwrap(), last.parse().unwrap())
}

/// The findings of logs a, b, c, ... as "code first-last".
fn check(logs: &[&str], expected: &[&str]) -> Vec<Row> {
    let members: Vec<Member> =
        (b'a'..).zip(logs).map(|(name, log)| member(&char::from(name).to_string(), log)).collect();
    let (faults, rows) = super::check(&members);
    let shown = |fault: &Fault| {
        let (_, offsets) = fault.place.split_once("offsets ").unwrap();
        format!("{} {}", fault.code, offsets.replace(" to ", "-"))
    };
    assert_eq!(faults.iter().map(shown).collect::<Vec<_>>(), expected, "{logs:?}");
    rows
}

#[test]
fn members_that_hold_what_the_others_point_to_are_whole() {
    let rows = check(&["0-9 3:10-19 20-29", "3:0-9 10-19 3:20-29 30-31 e32"], &[]);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.next, row.end, row.entries, row.overlapping, row.logs), (32, Some(32), 32, 0, 2));
    assert_eq!((row.topic.as_str(), row.topic_id.as_str(), row.partition), ("alias of a", "t", 0));
    // Reasons that end count as accounted for: retention, markers, before the fleet.
    check(&["1:0-4 5-9 4:10 11-12", "3:0-12 13"], &[]);
    check(&["0-3", "p1/0-3"], &[]);
}

#[test]
fn a_hole_that_every_member_points_away_from_is_found() {
    check(&["0-9", "3:0-12 13-20"], &["offset-gap 10-12"]);
    check(&["3:0-9 10", "3:0-9 3:10 11"], &["offset-gap 0-9", "offset-gap 0-9"]);
    check(
        &["0-3 3:4-9 10", "3:0-5 6-7 3:8-10 11"],
        &["offset-gap 4-5", "offset-gap 8-9", "offset-gap 4-5", "offset-gap 8-9"],
    );
    // A log that is not among those given leaves its part open, and the same offsets of another partition are no help.
    check(&["3:0-9 10-12"], &["offset-gap 0-9"]);
    check(&["p1/0-9", "3:0-9 10"], &["offset-gap 0-9"]);
    // One cannot point to oneself.
    check(&["0-9 cut 3:0-9 10"], &["offset-gap 0-9"]);
}

#[test]
fn an_overlap_counts_only_where_some_log_declares_it() {
    check(&["0-9", "3:0-4 5-12"], &["offset-overlap 5-9"]);
    let rows = check(&["0-9 x5-9", "3:0-4 5-12"], &[]);
    assert_eq!((rows[0].overlapping, rows[0].contested, rows[0].entries), (5, 5, 13));
    check(&["0-9", "3:0-4 5-12 x0-7"], &["offset-overlap 8-9"]);
    check(&["0-9 x5-9", "3:0-4 5-12", "3:0-6 7-8 3:9 3:10-12 13"], &[]);
    check(&["0-9", "0-9", "0-9 x0-9"], &[]);
    check(&["0-4", "p1/0-4"], &[]);
}

#[test]
fn another_history_and_another_topic_have_offsets_of_their_own() {
    // The second history of a cut topic repeats offsets of the first.
    check(&["0-9 cut 0-6", "3:0-9 10"], &[]);
    check(&["0-9 new 0-6", "3:0-9 10-12"], &[]);
    // What follows a cut may be of a member that met it, or of one that did not.
    check(&["0-9 cut 3:0-3 4-5", "0-3 x0-3"], &[]);
}

#[test]
fn what_is_continued_stands_under_the_replaced_number_or_in_the_predecessor() {
    check(&["0-9 new 2:0-4 5-6"], &[]);
    check(&["0-2 new 2:0-4 5-6"], &["offset-gap 3-4"]);
    let opened = |origin: &str| {
        let vkey = |name: &str| Skey::from_seed(name, &[7; 32]).unwrap().vkey().to_string();
        let continues = super::super::leaf::Continues {
            origin: Origin::new("example.com/a").unwrap(),
            size: super::super::seq::Size(1),
            root: Hash::ZERO,
            seal: super::super::cid::Cid::of(super::super::cid::Codec::DagCbor, b""),
        };
        let (name, recovery) = (Origin::new(origin).unwrap(), vkey(&format!("{origin}/recovery")));
        Body::LogOpened(Box::new(Opened { vkey: vkey(origin), origin: name, recovery, continues: Some(continues) }))
    };
    let predecessor = member("example.com/a", "0-9");
    let mut successor = Log { member: Member::new("example.com/b"), seq: 0, topic_no: 0 };
    successor.push(None, opened("example.com/b"));
    successor.seq = 2;
    successor.declare(TopicWhy::New, None, "t");
    successor.word("2:0-9");
    successor.word("10-12");
    assert_eq!(super::check(&[predecessor, successor.member.clone()]).0, []);
    assert_eq!(super::check(&[successor.member]).0.len(), 1, "the predecessor is not here");
}
