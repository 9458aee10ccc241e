//! A log opened with two partitions, and what may follow.

use super::super::leaf::{CloseWhy, End, GapRange, GapReason, Leaf, Opened, PartRef, Topic, TopicSource, TopicWhy};
use super::super::note::Skey;
use super::super::time::Timestamp;
use super::*;

fn opened() -> Body {
    let vkey = |name: &str| Skey::from_seed(name, &[7; 32]).unwrap().vkey().to_string();
    let origin = Origin::new("example.com/log").unwrap();
    let (vkey, recovery) = (vkey("example.com/log"), vkey("example.com/log/recovery"));
    Body::LogOpened(Box::new(Opened { vkey, origin, recovery, continues: None }))
}

fn epoch(epoch: u64, classes: &[&str]) -> Body {
    let classes = ["operator", "quarantine"].iter().chain(classes).map(|class| (*class).to_owned()).collect();
    Body::EpochOpened { epoch, classes }
}

fn topic(why: TopicWhy, topic_no: u64, partitions: u64, replaces: Option<u64>) -> Body {
    let [name, cluster, topic_id] = ["orders", "c", "t"].map(str::to_owned);
    let source = TopicSource::Kafka;
    Body::TopicDeclared(Box::new(Topic {
        why,
        name,
        shared: false,
        source,
        cluster,
        replaces,
        topic_id,
        topic_no,
        partitions,
    }))
}

fn new(topic_no: u64, partitions: u64) -> Body {
    topic(TopicWhy::New, topic_no, partitions, None)
}

fn at(topic_no: u64, partition: u64) -> Partition {
    Partition { topic_no, partition }
}

fn gap(partition: Partition, first: u64, last: u64) -> Body {
    Body::Gap(vec![GapRange { partition, first, last, reason: GapReason::Unattributed }])
}

fn observed(partition: Partition) -> Body {
    Body::Observed { at: Timestamp(1), ends: vec![End { partition, low: 0, end: 9 }] }
}

fn closed() -> Body {
    Body::LogClosed { why: CloseWhy::Ended }
}

/// Opens a log, then adds entries; each must be taken but the last, whose code is given back.
fn check(entries: Vec<(Option<Position>, Body)>) -> Option<Code> {
    let mut rules = LogRules::new();
    let start = [(None, opened()), (None, epoch(0, &[])), (None, new(0, 2))];
    let count = start.len() + entries.len();
    for (n, (src, body)) in start.into_iter().chain(entries).enumerate() {
        let part = PartRef { commitment: Hash::ZERO, digest: Hash::ZERO };
        let parts = if src.is_some() { vec![part] } else { vec![] };
        let leaf = Leaf { seq: rules.size().next_seq(), src, prev: rules.last(), body, parts }.encode().unwrap();
        let restored = LogRules::from_bytes(&rules.to_bytes()).unwrap();
        assert_eq!(restored, rules);
        match rules.accept(&LeafView::decode(&leaf).unwrap(), Hash::leaf(&leaf)) {
            Ok(_) => assert_eq!(rules.last(), Hash::leaf(&leaf)),
            Err(fault) => {
                assert_eq!(n + 1, count, "refused before the last entry: {fault}");
                assert_eq!(fault.seq, Some(Seq(n as u64)));
                return Some(fault.code);
            }
        }
    }
    None
}

fn own(bodies: impl IntoIterator<Item = Body>) -> Option<Code> {
    check(bodies.into_iter().map(|body| (None, body)).collect())
}

fn events(positions: &[Position]) -> Option<Code> {
    check(positions.iter().map(|position| (Some(*position), Body::Event)).collect())
}

const REFUSED: Option<Code> = Some(Code::NonCanonical);

#[test]
fn offsets_follow_one_another_in_each_partition() {
    assert_eq!(events(&[at(0, 0).at(0), at(0, 1).at(0), at(0, 0).at(1)]), None);
    assert_eq!(events(&[at(0, 0).at(0), at(0, 0).at(2)]), Some(Code::OffsetGap));
    assert_eq!(events(&[at(0, 0).at(0), at(0, 0).at(0)]), Some(Code::OffsetOverlap));
    assert_eq!(own([gap(at(0, 0), 0, 4), gap(at(0, 0), 4, 5)]), Some(Code::OffsetOverlap));
}

#[test]
fn only_declared_topics_and_partitions_are_named() {
    for undeclared in [at(0, 2), at(1, 0)] {
        assert_eq!(events(&[undeclared.at(0)]), REFUSED);
        assert_eq!(own([gap(undeclared, 0, 1)]), REFUSED);
        assert_eq!(own([observed(undeclared)]), REFUSED);
        let overlap = Body::Overlap { last: 1, first: 0, origin: None, partition: undeclared };
        assert_eq!(own([overlap]), REFUSED);
    }
    assert_eq!(own([observed(at(0, 1))]), None);
}

#[test]
fn topics_are_numbered_densely_and_only_grow() {
    assert_eq!(own([new(1, 1), topic(TopicWhy::Recreated, 2, 1, Some(1))]), None);
    assert_eq!(own([new(2, 1)]), REFUSED);
    assert_eq!(own([new(0, 3)]), REFUSED);
    let more = |topic_no, partitions| topic(TopicWhy::MorePartitions, topic_no, partitions, Some(topic_no));
    assert_eq!(own([more(0, 3), observed(at(0, 2))]), None);
    assert_eq!(own([more(0, 2)]), REFUSED);
    assert_eq!(own([more(1, 2)]), REFUSED);
}

#[test]
fn epochs_are_numbered_densely_and_keep_their_classes() {
    assert_eq!(own([epoch(1, &["a"]), epoch(2, &["a", "b"])]), None);
    assert_eq!(own([epoch(0, &[])]), REFUSED);
    assert_eq!(own([epoch(2, &[])]), REFUSED);
    assert_eq!(own([epoch(1, &["a"]), epoch(2, &["b"])]), REFUSED);
}

#[test]
fn nothing_follows_log_closed() {
    assert_eq!(own([closed()]), None);
    assert_eq!(own([closed(), new(1, 1)]), REFUSED);
    assert_eq!(own([closed(), closed()]), REFUSED);
}

#[test]
fn an_entry_out_of_place_is_refused() {
    let leaf = |seq, prev| Leaf { seq: Seq(seq), src: None, prev, body: opened(), parts: vec![] };
    let accept = |leaf: &Leaf| {
        let mut bytes = leaf.encode();
        // Kind 1 stands at seq 0 alone, so for another place another kind is needed.
        if bytes.is_err() {
            bytes = Leaf { body: closed(), ..leaf.clone() }.encode();
        }
        let bytes = bytes.unwrap();
        LogRules::new().accept(&LeafView::decode(&bytes).unwrap(), Hash::leaf(&bytes)).unwrap_err().code
    };
    assert_eq!(accept(&leaf(9, Hash::ZERO)), Code::SeqGap);
    let with_prev = Leaf { seq: Seq(0), ..leaf(0, Hash::of(b"x")) };
    if with_prev.encode().is_ok() {
        assert_eq!(accept(&with_prev), Code::ChainLink);
    }
}

#[test]
fn what_may_depend_on_lost_entries_makes_no_finding() {
    let mut rules = LogRules::new();
    let mut faults = Vec::new();
    rules.apply(Seq(0), None, &opened(), &mut faults);
    rules.lose();
    rules.begin_segment(Size(50), &[Source { partition: at(3, 0), first: 7, next: 9, entries: 2 }]);
    assert_eq!(rules.event(Seq(50), at(3, 0).at(7)), None);
    rules.apply(Seq(51), None, &epoch(4, &["a"]), &mut faults);
    rules.apply(Seq(52), None, &new(5, 1), &mut faults);
    assert_eq!(faults, []);
    assert_eq!(rules.key_at(Size(51)), None);
    assert_eq!(rules.event(Seq(53), at(3, 0).at(9)).map(|fault| fault.code), Some(Code::OffsetGap));
}

#[test]
fn stored_bytes_that_are_not_ours_are_refused() {
    let bytes = LogRules::new().to_bytes();
    assert!(LogRules::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(LogRules::from_bytes(b"").is_err());
}
