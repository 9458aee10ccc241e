//! Reading what a leaf shows in clear, with every rule that one leaf can break alone.
//!
//! Spec: format.md, the table of kinds and the text below it.

use super::super::codec::{Cursor, TEXT_MAX};
use super::super::finding::Refused;
use super::super::origin::Origin;
use super::super::position::Partition;
use super::super::seq::{Seq, Size};
use super::super::time::Timestamp;
use super::body::{
    Body, CloseWhy, Continues, End, ErasureStep, GapRange, GapReason, KeyStep, Opened, QuarantineReason, RestoredWhat,
    Topic, TopicSource, TopicWhy,
};

/// The rules that need the head of the leaf: where a kind may stand, its `src`, its number of parts.
pub(super) fn check_kind(kind: u64, seq: Seq, has_src: bool, parts: usize) -> Result<(), Refused> {
    let refused = |what: &str| Err(Refused::non_canonical(format!("kind {kind}: {what}")));
    let parts_fit = match kind {
        0 => parts >= 1,
        4 | 9 => parts == 2,
        10 | 15 | 23 => parts == 1,
        _ => parts == 0,
    };
    if !parts_fit {
        return refused("another number of parts than the kind has");
    }
    if has_src != matches!(kind, 0 | 4) {
        return refused("`src` set where it is null, or null where it is set");
    }
    if (seq.0 == 0) != (kind == 1) {
        return refused("log-opened stands at seq 0, and nowhere else");
    }
    if seq.0 == 1 && kind != 18 {
        return refused("epoch-opened stands at seq 1");
    }
    Ok(())
}

/// What kind 0 has in `clear`.
pub(super) fn check_null(clear: &[u8]) -> Result<(), Refused> {
    if clear == [0xf6] { Ok(()) } else { Err(Refused::non_canonical("a `clear` where the kind has none")) }
}

fn list_of<T>(
    cursor: &mut Cursor<'_>,
    most: usize,
    read: impl Fn(&mut Cursor<'_>) -> Result<T, Refused>,
) -> Result<Vec<T>, Refused> {
    let count = cursor.array()?;
    if !(1..=most).contains(&count) {
        return Err(Refused::non_canonical("a list of none or of more than the kind allows"));
    }
    (0..count).map(|_| read(cursor)).collect()
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Refused> {
    cursor.text(TEXT_MAX).map(str::to_owned)
}

fn origin(cursor: &mut Cursor<'_>) -> Result<Origin, Refused> {
    Origin::new(cursor.text(TEXT_MAX)?)
}

fn range(first: u64, last: u64) -> Result<(), Refused> {
    if first <= last { Ok(()) } else { Err(Refused::non_canonical("a range that ends before it starts")) }
}

/// A code of one of the enums of the format.
fn code<T>(cursor: &mut Cursor<'_>, from_code: impl Fn(u64) -> Option<T>) -> Result<T, Refused> {
    let code = cursor.uint()?;
    from_code(code).ok_or_else(|| Refused::non_canonical(format!("code {code} is unknown")))
}

fn topic_source(cursor: &mut Cursor<'_>) -> Result<TopicSource, Refused> {
    TopicSource::from_text(cursor.text(TEXT_MAX)?)
        .ok_or_else(|| Refused::non_canonical("topic: source of another name"))
}

impl Body {
    /// Reads `clear` of a leaf of `kind`.
    ///
    /// # Errors
    /// `non-canonical` with the rule broken.
    pub(super) fn decode(kind: u64, clear: &[u8]) -> Result<Body, Refused> {
        let mut cursor = Cursor::new(clear);
        let body = match kind {
            0 | 10 | 15 | 23 => {
                check_null(clear)?;
                cursor.null();
                match kind {
                    0 => Body::Event,
                    10 => Body::Hold,
                    15 => Body::Access,
                    _ => Body::Officer,
                }
            }
            1 | 2 | 3 | 4 | 17 | 18 | 19 => Body::decode_intake(kind, &mut cursor)?,
            5 | 6 | 7 | 13 | 14 | 16 | 20 | 22 => Body::decode_own(kind, &mut cursor)?,
            8 | 9 | 11 | 21 => Body::decode_life(kind, &mut cursor)?,
            _ => return Err(Refused::non_canonical(format!("kind {kind} is unknown"))),
        };
        cursor.end()?;
        Ok(body)
    }

    /// What the log says of itself, its topics and its epochs.
    fn decode_intake(kind: u64, cursor: &mut Cursor<'_>) -> Result<Body, Refused> {
        match kind {
            1 => Opened::read(cursor).map(|opened| Body::LogOpened(Box::new(opened))),
            2 => Topic::read(cursor).map(|topic| Body::TopicDeclared(Box::new(topic))),
            3 => {
                cursor.map_of(1)?;
                cursor.key("ranges")?;
                list_of(cursor, 256, GapRange::read).map(Body::Gap)
            }
            4 => {
                cursor.map_of(1)?;
                cursor.key("reason")?;
                Ok(Body::Quarantined { reason: code(cursor, QuarantineReason::from_code)? })
            }
            17 => {
                cursor.map_of(5)?;
                cursor.key("last")?;
                let last = cursor.uint()?;
                cursor.key("first")?;
                let first = cursor.uint()?;
                range(first, last)?;
                cursor.key("origin")?;
                let origin = cursor.or_null(origin)?;
                cursor.key("topic_no")?;
                let topic_no = cursor.uint()?;
                cursor.key("partition")?;
                Ok(Body::Overlap { last, first, origin, partition: Partition { topic_no, partition: cursor.uint()? } })
            }
            18 => {
                cursor.map_of(2)?;
                cursor.key("epoch")?;
                let epoch = cursor.uint()?;
                cursor.key("classes")?;
                let classes = list_of(cursor, usize::MAX, text)?;
                check_classes(&classes)?;
                Ok(Body::EpochOpened { epoch, classes })
            }
            _ => {
                cursor.map_of(2)?;
                cursor.key("at")?;
                let at = Timestamp(cursor.uint()?);
                cursor.key("ends")?;
                Ok(Body::Observed { at, ends: list_of(cursor, 400, End::read)? })
            }
        }
    }

    /// What the software writes about its own work.
    fn decode_own(kind: u64, cursor: &mut Cursor<'_>) -> Result<Body, Refused> {
        cursor.map_of(match kind {
            22 => 1,
            14 | 20 => 2,
            13 => 3,
            _ => 4,
        })?;
        if matches!(kind, 5..=7 | 16) {
            cursor.key("at")?;
            let at = Timestamp(cursor.uint()?);
            return Body::decode_timed(kind, at, cursor);
        }
        match kind {
            13 => {
                cursor.key("root")?;
                let root = cursor.hash()?;
                cursor.key("size")?;
                let size = Size(cursor.uint()?);
                cursor.key("what")?;
                Ok(Body::Restored { root, size, what: code(cursor, RestoredWhat::from_code)? })
            }
            14 => {
                cursor.key("after")?;
                let after = Timestamp(cursor.uint()?);
                cursor.key("before")?;
                Ok(Body::ClockStep { after, before: Timestamp(cursor.uint()?) })
            }
            20 => {
                cursor.key("cid")?;
                let cid = cursor.cid()?;
                cursor.key("segment")?;
                Ok(Body::Anchored { cid, segment: cursor.uint()? })
            }
            _ => {
                cursor.key("software")?;
                Ok(Body::Started { software: text(cursor)? })
            }
        }
    }

    fn decode_timed(kind: u64, at: Timestamp, cursor: &mut Cursor<'_>) -> Result<Body, Refused> {
        match kind {
            5 => {
                cursor.key("seal")?;
                let seal = cursor.cid()?;
                cursor.key("payload")?;
                let payload = cursor.or_null(Cursor::cid)?;
                cursor.key("segment")?;
                Ok(Body::SegmentSealed { at, seal, payload, segment: cursor.uint()? })
            }
            6 => {
                cursor.key("cid")?;
                let cid = cursor.cid()?;
                cursor.key("bytes")?;
                let bytes = cursor.uint()?;
                cursor.key("target")?;
                Ok(Body::Pinned { at, cid, bytes, target: text(cursor)? })
            }
            7 => {
                cursor.key("seal")?;
                let seal = cursor.cid()?;
                cursor.key("receipt")?;
                let receipt = text(cursor)?;
                cursor.key("registrar")?;
                Ok(Body::Registered { at, seal, receipt, registrar: text(cursor)? })
            }
            _ => {
                cursor.key("failed")?;
                let failed = cursor.uint()?;
                cursor.key("target")?;
                let target = text(cursor)?;
                cursor.key("sampled")?;
                Ok(Body::ReplicationAudit { at, failed, target, sampled: cursor.uint()? })
            }
        }
    }

    /// Keys, erasures, expiries and the end.
    fn decode_life(kind: u64, cursor: &mut Cursor<'_>) -> Result<Body, Refused> {
        cursor.map_of(match kind {
            8 => 2,
            11 => 3,
            _ => 1,
        })?;
        match kind {
            8 => {
                cursor.key("note")?;
                let note = text(cursor)?;
                cursor.key("step")?;
                Ok(Body::KeyChanged { note, step: code(cursor, KeyStep::from_code)? })
            }
            9 => {
                cursor.key("step")?;
                Ok(Body::Erasure { step: code(cursor, ErasureStep::from_code)? })
            }
            11 => {
                cursor.key("class")?;
                let class = cursor.uint()?;
                cursor.key("epoch")?;
                let epoch = cursor.uint()?;
                cursor.key("pruned")?;
                let pruned = cursor.or_null(|cursor| {
                    cursor.array_of(2)?;
                    let (first, last) = (cursor.uint()?, cursor.uint()?);
                    range(first, last).map(|()| (first, last))
                })?;
                Ok(Body::RetentionExpired { class, epoch, pruned })
            }
            _ => {
                cursor.key("why")?;
                Ok(Body::LogClosed { why: code(cursor, CloseWhy::from_code)? })
            }
        }
    }
}

fn check_classes(classes: &[String]) -> Result<(), Refused> {
    let starts = classes.iter().map(String::as_str).take(2).eq(["operator", "quarantine"]);
    let mut sorted: Vec<&String> = classes.iter().collect();
    sorted.sort_unstable();
    if !starts || sorted.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Refused::non_canonical("classes: not distinct, or not starting with operator, quarantine"));
    }
    Ok(())
}

impl Opened {
    fn read(cursor: &mut Cursor<'_>) -> Result<Opened, Refused> {
        cursor.map_of(4)?;
        cursor.key("vkey")?;
        let vkey = text(cursor)?;
        cursor.key("origin")?;
        let name = origin(cursor)?;
        cursor.key("recovery")?;
        let recovery = text(cursor)?;
        cursor.key("continues")?;
        let continues = cursor.or_null(|cursor| {
            cursor.array_of(4)?;
            let origin = origin(cursor)?;
            Ok(Continues { origin, size: Size(cursor.uint()?), root: cursor.hash()?, seal: cursor.cid()? })
        })?;
        Ok(Opened { vkey, origin: name, recovery, continues })
    }
}

impl Topic {
    fn read(cursor: &mut Cursor<'_>) -> Result<Topic, Refused> {
        cursor.map_of(9)?;
        cursor.key("why")?;
        let why = code(cursor, TopicWhy::from_code)?;
        cursor.key("name")?;
        let name = text(cursor)?;
        cursor.key("shared")?;
        let shared = cursor.bool()?;
        cursor.key("source")?;
        let source = topic_source(cursor)?;
        cursor.key("cluster")?;
        let cluster = text(cursor)?;
        cursor.key("replaces")?;
        let replaces = cursor.or_null(Cursor::uint)?;
        cursor.key("topic_id")?;
        let topic_id = text(cursor)?;
        cursor.key("topic_no")?;
        let topic_no = cursor.uint()?;
        cursor.key("partitions")?;
        let partitions = cursor.uint()?;
        let replaces_fits = match (why, replaces) {
            (TopicWhy::New, None) => true,
            (TopicWhy::New, Some(_)) | (_, None) => false,
            (TopicWhy::MorePartitions, Some(no)) => no == topic_no,
            (_, Some(no)) => no < topic_no,
        };
        if !replaces_fits {
            return Err(Refused::non_canonical("topic: `replaces` does not fit `why`"));
        }
        Ok(Topic { why, name, shared, source, cluster, replaces, topic_id, topic_no, partitions })
    }
}

impl GapRange {
    fn read(cursor: &mut Cursor<'_>) -> Result<GapRange, Refused> {
        cursor.array_of(5)?;
        let partition = Partition { topic_no: cursor.uint()?, partition: cursor.uint()? };
        let (first, last) = (cursor.uint()?, cursor.uint()?);
        range(first, last)?;
        Ok(GapRange { partition, first, last, reason: code(cursor, GapReason::from_code)? })
    }
}

impl End {
    fn read(cursor: &mut Cursor<'_>) -> Result<End, Refused> {
        cursor.array_of(4)?;
        let partition = Partition { topic_no: cursor.uint()?, partition: cursor.uint()? };
        Ok(End { partition, low: cursor.uint()?, end: cursor.uint()? })
    }
}
