//! The tables and their rows: one declaration gives the struct, the column list and the cells.
//!
//! Not the DDL: a test of `registry` holds the two together, column by column.

use std::sync::Arc;

use super::{Column, Kind, Role, Row, Table, Value};
use crate::core::cid::Cid;
use crate::core::hash::Hash;
use crate::core::time::Timestamp;

/// A Rust type that is a cell: the column's type, and the value.
pub(super) trait Cell {
    const KIND: Kind;
    fn value(&self) -> Value;
}

impl Cell for u64 {
    const KIND: Kind = Kind::Int;
    fn value(&self) -> Value {
        // A `uint` of the format is below 2^53; anything else cannot stand in a BIGINT either.
        Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Cell for i64 {
    const KIND: Kind = Kind::Int;
    fn value(&self) -> Value {
        Value::Int(*self)
    }
}

impl Cell for Arc<str> {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value {
        Value::Text(Arc::clone(self))
    }
}

impl Cell for &'static str {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value {
        Value::Text(Arc::from(*self))
    }
}

impl Cell for Hash {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value {
        Value::Text(Arc::from(self.to_string()))
    }
}

impl Cell for Cid {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Value {
        Value::Text(Arc::from(self.to_string()))
    }
}

impl Cell for Timestamp {
    const KIND: Kind = Kind::Time;
    fn value(&self) -> Value {
        Value::Time(*self)
    }
}

impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::value)
    }
}

/// Declares a row: `role name: type` in the order of the schema, `beside` what the table does not hold. The optional
/// `knows` says which columns this very row can answer for.
macro_rules! row {
    ($(#[$doc:meta])* $row:ident in $table:literal { $($(#[$about:meta])* $role:ident $field:ident: $type:ty,)* }
     $(beside { $($(#[$beside_about:meta])* $beside:ident: $beside_type:ty,)* })?
     $(knows($self:ident, $column:ident) $knows:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $row {
            $($(#[$about])* pub $field: $type,)*
            $($($(#[$beside_about])* pub $beside: $beside_type,)*)?
        }

        impl Row for $row {
            const TABLE: Table = Table {
                name: $table,
                columns: &[$(Column { name: stringify!($field), kind: <$type as Cell>::KIND, role: Role::$role },)*],
            };

            fn values(&self) -> Vec<Value> {
                vec![$(self.$field.value(),)*]
            }

            $(fn knows(&$self, $column: &Column) -> bool { $knows })?
        }
    };
}

row! {
    /// One segment. Keyed by CID, not by number: both halves of a fork stay visible.
    SegmentRow in "segments" {
        /// The CID of the seal.
        Key seal_cid: Cid,
        /// The log.
        Fixed origin: Arc<str>,
        /// Its number, from 0.
        Fixed segment_no: u64,
        /// Its first entry.
        Fixed first_seq: u64,
        /// Its last entry, inclusive.
        Fixed last_seq: u64,
        /// How many entries it has.
        Fixed entry_count: u64,
        /// The CID of the payload, none when no entry has parts.
        Fixed payload_cid: Option<Cid>,
        /// The seal before, none for segment 0.
        Fixed prev_seal_cid: Option<Cid>,
        /// The root its checkpoint signs.
        Fixed root: Hash,
        /// The signed note.
        Fixed checkpoint: Arc<str>,
        /// The id of the key that signed it, hex.
        Fixed key_id: Arc<str>,
        /// The `v` of the seal.
        Fixed format_version: u64,
        /// The length of the proof CAR.
        Fixed proof_bytes: u64,
        /// The length of the payload CAR.
        Fixed payload_bytes: Option<u64>,
        /// The `at` of its kind 5 entry; none while no sealed entry states it.
        Moves sealed_at: Option<Timestamp>,
        /// The `at` of its kind 7 entry for this registry; none while no sealed entry states it.
        Moves registered_at: Option<Timestamp>,
    }
    knows(self, column) match column.name {
        "sealed_at" => self.sealed_at.is_some(),
        "registered_at" => self.registered_at.is_some(),
        "payload_bytes" => self.payload_bytes.is_some() || self.payload_cid.is_none(),
        _ => true,
    }
}

row! {
    /// The offsets of one partition a segment accounts for.
    SourceRow in "segment_sources" {
        /// The segment.
        Key seal_cid: Cid,
        /// The log.
        Fixed origin: Arc<str>,
        /// The broker's cluster.
        Key cluster_id: Arc<str>,
        /// The topic's name as the log declares it.
        Key topic: Arc<str>,
        /// The topic's id at the broker, or empty.
        Key topic_id: Arc<str>,
        /// The partition.
        Key partition_no: u64,
        /// The `next` before the segment.
        Key first_offset: u64,
        /// The `next` after it, less one.
        Fixed last_offset: u64,
        /// The entries among them; the rest are declared gaps.
        Fixed record_count: u64,
    }
}

row! {
    /// One segment on one pin target.
    PinRow in "segment_pins" {
        /// The segment.
        Key seal_cid: Cid,
        /// The pin target's name.
        Key target: Arc<str>,
        /// The log.
        Fixed origin: Arc<str>,
        /// `proof` or `proof+payload`.
        Moves contents: &'static str,
        /// `verified`: read back and hashed. Nothing else is ever stated.
        Moves status: &'static str,
        /// The bytes read back.
        Moves verified_bytes: Option<u64>,
        /// The `at` of the kind 6 entry that completed it.
        Moves pinned_at: Option<Timestamp>,
        /// That, or the `at` of the last kind 16 entry of the target without a failure.
        Moves verified_at: Option<Timestamp>,
    }
}

row! {
    /// What one authority said about the checkpoint of one segment.
    AnchorRow in "anchors" {
        /// The segment.
        Key seal_cid: Cid,
        /// `witness` or `tsa`.
        Key kind: &'static str,
        /// The name of the witness's key, or the authority as its token names it.
        Key authority: Arc<str>,
        /// The log.
        Fixed origin: Arc<str>,
        /// The size of the checkpoint.
        Fixed size: u64,
        /// The newest anchor that says it.
        Moves anchor_cid: Option<Cid>,
        /// When it says it was said, first.
        Fixed anchored_at: Timestamp,
    }
}

row! {
    /// One entry, control entries too.
    EntryRow in "entries" {
        /// The log.
        Key origin: Arc<str>,
        /// Its place.
        Key seq: u64,
        /// Its segment.
        Fixed seal_cid: Cid,
        /// Its leaf hash.
        Fixed leaf_hash: Hash,
        /// The kind's name.
        Fixed kind: &'static str,
        /// The cluster of its record.
        Kept cluster_id: Option<Arc<str>>,
        /// The topic of its record.
        Kept topic: Option<Arc<str>>,
        /// The topic's id.
        Kept topic_id: Option<Arc<str>>,
        /// The partition of its record.
        Kept partition_no: Option<u64>,
        /// The offset of its record.
        Kept record_offset: Option<u64>,
        /// The broker's time of the record, where the record was kept.
        Kept record_time: Option<Timestamp>,
        /// The event's source.
        Kept event_source: Option<Arc<str>>,
        /// The event's id.
        Kept event_id: Option<Arc<str>>,
        /// The event's type.
        Kept event_type: Option<Arc<str>>,
        /// The tenant the event names.
        Kept tenant: Option<Arc<str>>,
        /// The event's own time.
        Kept event_time: Option<Timestamp>,
        /// When it was folded; never falls within a log.
        Kept recorded_at: Timestamp,
        /// The first entry of the log with the same event source and id. Filled by the registry, which knows them.
        Kept duplicate_of: Option<u64>,
        /// The erasure that emptied the event columns.
        Fills erased_by: Option<Arc<str>>,
    }
    beside {
        /// Whether every part that could answer was opened; else the event columns say nothing.
        is_open: bool,
        /// Whether every time before it could be read; else `recorded_at` is only a lower bound.
        is_timed: bool,
    }
    knows(self, column) match column.name {
        "record_time" | "event_source" | "event_id" | "event_type" | "tenant" | "event_time" => self.is_open,
        "recorded_at" => self.is_timed,
        // These two take the registry's other rows, or the erasures, into account.
        "duplicate_of" | "erased_by" => false,
        _ => true,
    }
}

row! {
    /// A declared range of offsets without entries.
    GapRow in "gaps" {
        /// The log.
        Key origin: Arc<str>,
        /// The entry that declares it.
        Key seq: u64,
        /// The broker's cluster.
        Fixed cluster_id: Arc<str>,
        /// The topic.
        Fixed topic: Arc<str>,
        /// The topic's id, or empty.
        Fixed topic_id: Arc<str>,
        /// The partition.
        Fixed partition_no: u64,
        /// The first offset.
        Fixed first_offset: u64,
        /// The last offset, inclusive.
        Fixed last_offset: u64,
        /// Why, by name.
        Fixed reason: &'static str,
    }
}

row! {
    /// A range of offsets that another member may have folded too.
    ContestedRow in "contested_ranges" {
        /// The log.
        Key origin: Arc<str>,
        /// The entry that says so.
        Key seq: u64,
        /// The broker's cluster.
        Fixed cluster_id: Arc<str>,
        /// The topic.
        Fixed topic: Arc<str>,
        /// The topic's id, or empty.
        Fixed topic_id: Arc<str>,
        /// The partition.
        Fixed partition_no: u64,
        /// The first offset.
        Fixed first_offset: u64,
        /// The last offset, inclusive.
        Fixed last_offset: u64,
    }
}

row! {
    /// A record archived as it came.
    QuarantinedRow in "quarantined" {
        /// The log.
        Key origin: Arc<str>,
        /// Its entry.
        Key seq: u64,
        /// Why, by name.
        Fixed reason: &'static str,
        /// The broker's cluster.
        Fixed cluster_id: Option<Arc<str>>,
        /// The topic.
        Fixed topic: Option<Arc<str>>,
        /// The partition.
        Fixed partition_no: Option<u64>,
        /// The offset.
        Fixed record_offset: Option<u64>,
        /// When it was folded.
        Kept recorded_at: Timestamp,
        /// The entry a later retry made of it.
        Fills resolved_seq: Option<u64>,
    }
    beside {
        /// Whether every time before it could be read; else `recorded_at` is only a lower bound.
        is_timed: bool,
    }
    knows(self, column) match column.name {
        "recorded_at" => self.is_timed,
        "resolved_seq" => self.resolved_seq.is_some(),
        _ => true,
    }
}

row! {
    /// A signing key of the log.
    KeyRow in "signing_keys" {
        /// The log.
        Key origin: Arc<str>,
        /// The key's id, hex.
        Key key_id: Arc<str>,
        /// The whole vkey.
        Fixed vkey: Arc<str>,
        /// The first entry after which a checkpoint may carry its signature.
        Fixed from_seq: u64,
        /// The last entry of the last checkpoint it may have signed; -1 where none was vouched for.
        Fills not_after_seq: Option<i64>,
        /// The entry that introduced it.
        Fixed declared_seq: u64,
        /// Why it ended: `rotated` or `revoked`.
        Fills reason: Option<&'static str>,
    }
    knows(self, column) match column.name {
        // A later segment may have ended it.
        "not_after_seq" | "reason" => self.reason.is_some(),
        _ => true,
    }
}

row! {
    /// The registrar's heartbeat: how far the log is, by its own word. Not audited.
    LogRow in "logs" {
        /// The log.
        Key origin: Arc<str>,
        /// The tenant of the configuration.
        Moves tenant: Option<Arc<str>>,
        /// The keyring the log's surrogates come from.
        Moves keyring_id: Arc<str>,
        /// The format it writes.
        Moves format_version: u64,
        /// How many pin targets each segment needs.
        Moves copies_min: u64,
        /// How old the last verification may be, seconds.
        Moves verify_max_age_s: u64,
        /// The size of the last released checkpoint.
        Moves reported_size: u64,
        /// Its root.
        Moves reported_root: Hash,
        /// The segments up to it.
        Moves reported_segments: u64,
        /// When this was said.
        Moves reported_at: Timestamp,
        /// When to worry if nothing newer was said.
        Moves silent_after: Timestamp,
        /// The program and its version.
        Moves software: Option<Arc<str>>,
    }
}
