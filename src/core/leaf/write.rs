//! Writing what a leaf shows in clear.
//!
//! `serde_cbor` does not sort: the pairs below stand in wire order, shorter keys first, then bytewise.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::origin::Origin;
use super::body::{Body, End, GapRange};

/// Writes the pairs of a map in the order given.
macro_rules! map {
    ($serializer:ident, $len:literal, $($key:literal: $value:expr),* $(,)?) => {{
        let mut map = $serializer.serialize_map(Some($len))?;
        $(map.serialize_entry($key, &$value)?;)*
        map.end()
    }};
}

impl Serialize for Body {
    /// Writes `clear`: null, or a map with its fields in wire order.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Body::Event | Body::Hold | Body::Access | Body::Officer => serializer.serialize_none(),
            Body::LogOpened(opened) => {
                let continues = opened.continues.as_ref().map(|c| (c.origin.as_str(), c.size.0, c.root, c.seal));
                let (origin, recovery) = (opened.origin.as_str(), &opened.recovery);
                map!(serializer, 4, "vkey": opened.vkey, "origin": origin, "recovery": recovery, "continues": continues)
            }
            Body::TopicDeclared(t) => map!(serializer, 9, "why": t.why.code(), "name": t.name, "shared": t.shared,
                "source": t.source.as_str(), "cluster": t.cluster, "replaces": t.replaces, "topic_id": t.topic_id,
                "topic_no": t.topic_no, "partitions": t.partitions),
            Body::Gap(ranges) => {
                let item =
                    |r: &GapRange| (r.partition.topic_no, r.partition.partition, r.first, r.last, r.reason.code());
                map!(serializer, 1, "ranges": ranges.iter().map(item).collect::<Vec<_>>())
            }
            Body::Quarantined { reason } => map!(serializer, 1, "reason": reason.code()),
            Body::SegmentSealed { at, seal, payload, segment } => {
                map!(serializer, 4, "at": at, "seal": seal, "payload": payload, "segment": segment)
            }
            Body::Pinned { at, cid, bytes, target } => {
                map!(serializer, 4, "at": at, "cid": cid, "bytes": bytes, "target": target)
            }
            Body::Registered { at, seal, receipt, registrar } => {
                map!(serializer, 4, "at": at, "seal": seal, "receipt": receipt, "registrar": registrar)
            }
            Body::KeyChanged { note, step } => map!(serializer, 2, "note": note, "step": step.code()),
            Body::Erasure { step } => map!(serializer, 1, "step": step.code()),
            Body::RetentionExpired { class, epoch, pruned } => {
                map!(serializer, 3, "class": class, "epoch": epoch, "pruned": pruned)
            }
            Body::Restored { root, size, what } => {
                map!(serializer, 3, "root": root, "size": size.0, "what": what.code())
            }
            Body::ClockStep { after, before } => map!(serializer, 2, "after": after, "before": before),
            Body::ReplicationAudit { at, failed, target, sampled } => {
                map!(serializer, 4, "at": at, "failed": failed, "target": target, "sampled": sampled)
            }
            Body::Overlap { last, first, origin, partition } => map!(serializer, 5, "last": last, "first": first,
                "origin": origin.as_ref().map(Origin::as_str), "topic_no": partition.topic_no,
                "partition": partition.partition),
            Body::EpochOpened { epoch, classes } => map!(serializer, 2, "epoch": epoch, "classes": classes),
            Body::Observed { at, ends } => {
                let item = |e: &End| (e.partition.topic_no, e.partition.partition, e.low, e.end);
                map!(serializer, 2, "at": at, "ends": ends.iter().map(item).collect::<Vec<_>>())
            }
            Body::Anchored { cid, segment } => map!(serializer, 2, "cid": cid, "segment": segment),
            Body::LogClosed { why } => map!(serializer, 1, "why": why.code()),
            Body::Started { software } => map!(serializer, 1, "software": software),
        }
    }
}
