//! From the segments of a log, in order, to their rows.
//!
//! One segment is not enough: topics, keys, times and pins are stated in earlier ones, so the fold carries them. Not a
//! check of the log: what it is given has passed the audit, or was written by us. Parts are opened by the caller, who
//! has the keys; what cannot be opened is left out, never guessed.

mod passed;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::opened::{Opened, Wanted, event_time, open_parts};
use super::pins::Pins;
use super::{ContestedRow, EntryRow, GapRow, KeyRow, PinRow, QuarantinedRow, SegmentRow, SegmentRows, SourceRow};
use crate::core::checkpoint::Statement;
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;
use crate::core::leaf::{Body, GapRange, LeafView, Topic};
use crate::core::note::{Note, Vkey};
use crate::core::origin::Origin;
use crate::core::position::{Partition, Position};
use crate::core::segment::Seal;
use crate::core::seq::Seq;
use crate::core::time::Timestamp;

/// Why a segment has no rows.
#[derive(Debug, thiserror::Error)]
pub enum FoldError<E> {
    /// The caller could not say what a part holds.
    #[error("opening part {part} of entry {seq}")]
    Part {
        /// The entry.
        seq: Seq,
        /// The part.
        part: u32,
        /// What the caller said.
        source: E,
    },
    /// The bytes are not of a sound log, or hold what the schema has no row for.
    #[error("entry {seq}: {refused}")]
    Refused {
        /// The entry.
        seq: Seq,
        /// What was wrong.
        refused: Refused,
    },
}

/// One segment as the fold takes it.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// The CID of the seal.
    pub cid: Cid,
    /// The seal.
    pub seal: &'a Seal,
    /// The length of the proof CAR.
    pub proof_bytes: u64,
    /// The length of the payload CAR; `None` where there is none, or it is not at hand.
    pub payload_bytes: Option<u64>,
    /// The `at` its kind 5 entry repeats, where that is known.
    pub sealed_at: Option<Timestamp>,
    /// The `at` its kind 7 entry for the registry in question repeats, where that is known.
    pub registered_at: Option<Timestamp>,
}

/// What the segments so far say that later rows need. Memory: a few hundred bytes a segment, nothing an entry.
#[derive(Clone, Debug)]
pub struct Fold {
    origin: Arc<str>,
    topics: Vec<TopicNames>,
    keys: BTreeMap<Arc<str>, KeyRow>,
    pins: Pins,
    /// The anchors that entries state, by segment.
    anchored: BTreeMap<u64, Vec<Cid>>,
    clock: Clock,
    has_erasures: bool,
}

#[derive(Clone, Debug)]
struct TopicNames {
    cluster_id: Arc<str>,
    topic: Arc<str>,
    topic_id: Arc<str>,
}

/// The time of the log: the latest any entry stated. It never falls.
#[derive(Clone, Copy, Debug)]
struct Clock {
    now: Option<Timestamp>,
    /// Whether no operator part was left closed since.
    is_exact: bool,
}

impl Fold {
    /// The fold before the first segment of a log.
    pub fn new(origin: &Origin) -> Fold {
        Fold {
            origin: Arc::from(origin.as_str()),
            topics: Vec::new(),
            keys: BTreeMap::new(),
            pins: Pins::default(),
            anchored: BTreeMap::new(),
            clock: Clock { now: None, is_exact: true },
            has_erasures: false,
        }
    }

    /// The pins stated so far of one segment, one row a target.
    pub fn pins_of(&self, seal: Cid) -> Vec<PinRow> {
        self.pins.rows_of(&self.origin, seal)
    }

    /// The anchors of a segment that entries so far state, oldest first.
    pub fn anchors_of(&self, segment: u64) -> &[Cid] {
        self.anchored.get(&segment).map_or(&[], Vec::as_slice)
    }

    /// The `at` of the newest kind 5 entry so far: a pin older than that is stated by now.
    pub fn sealed_at(&self) -> Option<Timestamp> {
        self.pins.sealed_at()
    }

    /// The `at` of the kind 5 entry of each segment so far, by seal.
    pub fn sealed_times(&self) -> &BTreeMap<Cid, Timestamp> {
        self.pins.sealed_times()
    }

    /// The `at` of the kind 7 entry of each segment for this registry so far, by seal.
    pub fn registered_times(&self, registrar: &str) -> BTreeMap<Cid, Timestamp> {
        self.pins.registered_times(registrar)
    }

    /// The rows of the next segment. `leaves` are the stored leaf bytes, in order; `open` gives the body of a part, or
    /// `None` where its key or its frame is gone.
    ///
    /// # Errors
    /// `Part` with the error of `open`; `Refused` for leaves that cannot follow. After an error the fold is of no use.
    pub fn segment<'l, B: AsRef<[u8]>, E>(
        &mut self,
        sealed: &Sealed<'_>,
        leaves: impl IntoIterator<Item = &'l [u8]>,
        mut open: impl FnMut(Wanted<'_>) -> Result<Option<B>, E>,
    ) -> Result<SegmentRows, FoldError<E>> {
        let mut rows = self.begin(sealed)?;
        for leaf in leaves {
            self.leaf(leaf, &mut rows, &mut open)?;
        }
        backdate(&mut rows);
        self.end(sealed, &mut rows)?;
        Ok(rows)
    }

    /// Begins the next segment: its own row, and nothing else yet. For a caller that gives the leaves one by one; then
    /// come [`Fold::leaf`] for each, and [`Fold::end`].
    ///
    /// # Errors
    /// `Refused` for a seal whose checkpoint does not parse.
    pub fn begin<E>(&mut self, sealed: &Sealed<'_>) -> Result<SegmentRows, FoldError<E>> {
        let refused = |refused| FoldError::Refused { seq: sealed.seal.first.next_seq(), refused };
        let segment = self.segment_row(sealed).map_err(refused)?;
        self.pins.sealed(sealed.cid, sealed.seal.payload);
        Ok(SegmentRows {
            segment,
            sources: Vec::new(),
            entries: Vec::new(),
            gaps: Vec::new(),
            contested: Vec::new(),
            quarantined: Vec::new(),
            keys: Vec::new(),
            pins: Vec::new(),
            anchors: Vec::new(),
            anchored: Vec::new(),
        })
    }

    /// Adds the rows of the next leaf. Entries may be taken out in between: [`Fold::take_entries`].
    ///
    /// # Errors
    /// As [`Fold::segment`].
    pub fn leaf<B: AsRef<[u8]>, E>(
        &mut self,
        leaf: &[u8],
        rows: &mut SegmentRows,
        mut open: impl FnMut(Wanted<'_>) -> Result<Option<B>, E>,
    ) -> Result<(), FoldError<E>> {
        let next = Seq(rows.segment.first_seq);
        let view = LeafView::decode(leaf).map_err(|refused| FoldError::Refused { seq: next, refused })?;
        let seq = view.seq;
        let refused = |refused| FoldError::Refused { seq, refused };
        let opened = open_parts(&view, &mut open)?;
        let body = view.body().map_err(refused)?;
        self.clock.tick(&body, &opened);
        let seal_cid = rows.segment.seal_cid;
        let entry = self.entry(&view, &body, Hash::leaf(leaf), seal_cid, &opened).map_err(refused)?;
        self.state(&entry, &view, &body, rows).map_err(refused)?;
        rows.entries.push(entry);
        Ok(())
    }

    /// Takes the entries so far out of `rows`, so that a segment need not be held whole. One that stands before the first
    /// time the log states, and whose successor that states it is not among them, has a time that nobody can say.
    pub fn take_entries(rows: &mut SegmentRows) -> Vec<EntryRow> {
        backdate(rows);
        let mut entries = std::mem::take(&mut rows.entries);
        for entry in entries.iter_mut().take_while(|entry| entry.recorded_at == Timestamp(0)) {
            entry.is_timed = false;
        }
        entries
    }

    /// Ends a segment: what only its last leaf completes.
    ///
    /// # Errors
    /// `Refused` for a source of a topic nobody declared.
    pub fn end<E>(&mut self, sealed: &Sealed<'_>, rows: &mut SegmentRows) -> Result<(), FoldError<E>> {
        let refused = |refused| FoldError::Refused { seq: sealed.seal.first.next_seq(), refused };
        rows.sources = self.sources(sealed).map_err(refused)?;
        rows.keys.sort_by(|a, b| (a.declared_seq, &a.key_id).cmp(&(b.declared_seq, &b.key_id)));
        rows.pins = self.pins.changed(&self.origin);
        Ok(())
    }

    /// The signing keys so far, as they now stand.
    pub fn keys(&self) -> Vec<KeyRow> {
        self.keys.values().cloned().collect()
    }

    /// Whether an entry so far may have emptied rows: an erasure, or the end of a retention.
    pub fn has_erasures(&self) -> bool {
        self.has_erasures
    }

    fn segment_row(&self, sealed: &Sealed<'_>) -> Result<SegmentRow, Refused> {
        let seal = sealed.seal;
        let statement = Statement::parse(&seal.checkpoint)?;
        let signature = statement.note.signatures.first();
        let signature = signature.ok_or_else(|| Refused::non_canonical("checkpoint: no signature"))?;
        Ok(SegmentRow {
            seal_cid: sealed.cid,
            origin: Arc::clone(&self.origin),
            segment_no: seal.segment,
            first_seq: seal.first.0,
            last_seq: (seal.first.0 + seal.count).saturating_sub(1),
            entry_count: seal.count,
            payload_cid: seal.payload,
            prev_seal_cid: seal.prev_seal,
            root: statement.head.root,
            checkpoint: Arc::from(seal.checkpoint.as_str()),
            key_id: Arc::from(hex::encode(signature.id)),
            format_version: 1,
            proof_bytes: sealed.proof_bytes,
            payload_bytes: sealed.payload_bytes,
            sealed_at: sealed.sealed_at,
            registered_at: sealed.registered_at,
        })
    }

    /// One row for each partition that moved. Two topic numbers may share their names (a topic truncated and adopted
    /// within the segment): their ranges begin at the same offset only if both are new here, and are then one row, from
    /// the lower to the higher end, with all their entries.
    fn sources(&self, sealed: &Sealed<'_>) -> Result<Vec<SourceRow>, Refused> {
        let mut rows: BTreeMap<_, SourceRow> = BTreeMap::new();
        for source in &sealed.seal.sources {
            let names = self.topic(source.partition)?.clone();
            let partition_no = source.partition.partition;
            let last_offset = source.next.saturating_sub(1);
            let key = (names.cluster_id, names.topic, names.topic_id, partition_no, source.first);
            let row = rows.entry(key).or_insert_with_key(|(cluster_id, topic, topic_id, ..)| SourceRow {
                seal_cid: sealed.cid,
                origin: Arc::clone(&self.origin),
                cluster_id: Arc::clone(cluster_id),
                topic: Arc::clone(topic),
                topic_id: Arc::clone(topic_id),
                partition_no,
                first_offset: source.first,
                last_offset,
                record_count: 0,
            });
            row.last_offset = row.last_offset.max(last_offset);
            row.record_count += source.entries;
        }
        Ok(rows.into_values().collect())
    }

    fn topic(&self, partition: Partition) -> Result<&TopicNames, Refused> {
        let topic = usize::try_from(partition.topic_no).ok().and_then(|number| self.topics.get(number));
        topic.ok_or_else(|| Refused::non_canonical(format!("topic {} was not declared", partition.topic_no)))
    }

    fn entry(
        &self,
        view: &LeafView<'_>,
        body: &Body,
        leaf_hash: Hash,
        seal_cid: Cid,
        opened: &Opened,
    ) -> Result<EntryRow, Refused> {
        let names = view.src.map(|src| self.topic(src.partition())).transpose()?;
        let name = |of: fn(&TopicNames) -> &Arc<str>| names.map(|names| Arc::clone(of(names)));
        let event = opened.event.as_ref();
        Ok(EntryRow {
            origin: Arc::clone(&self.origin),
            seq: view.seq.0,
            seal_cid,
            leaf_hash,
            kind: body.kind_name(),
            cluster_id: name(|names| &names.cluster_id),
            topic: name(|names| &names.topic),
            topic_id: name(|names| &names.topic_id),
            partition_no: view.src.map(|src| src.partition),
            record_offset: view.src.map(|src| src.offset),
            record_time: opened.record_time,
            event_source: event.and_then(|event| column(&event.source, 1024)),
            event_id: event.and_then(|event| column(&event.id, 1024)),
            event_type: event.and_then(|event| column(&event.r#type, 255)),
            tenant: event.and_then(|event| column(&event.tenant_id, 255)),
            event_time: event.and_then(|event| event.time.as_ref()).and_then(event_time),
            // 0 until `backdate` knows the first time stated.
            recorded_at: self.clock.now.unwrap_or_default(),
            duplicate_of: None,
            erased_by: None,
            is_open: opened.is_open,
            is_timed: self.clock.is_exact,
        })
    }

    /// Takes in what an entry states, and the rows that are about it alone.
    fn state(
        &mut self,
        entry: &EntryRow,
        view: &LeafView<'_>,
        body: &Body,
        rows: &mut SegmentRows,
    ) -> Result<(), Refused> {
        let seq = entry.seq;
        match body {
            Body::LogOpened(opened) => self.new_key(seq, &opened.vkey, rows)?,
            Body::KeyChanged { note, .. } => self.change_key(seq, note, rows)?,
            Body::TopicDeclared(topic) => self.declare(topic)?,
            Body::Gap(ranges) => rows.gaps.push(self.gap(seq, ranges)?),
            Body::Overlap { first, last, partition, .. } => {
                let names = self.topic(*partition)?;
                rows.contested.push(ContestedRow {
                    origin: Arc::clone(&self.origin),
                    seq,
                    cluster_id: Arc::clone(&names.cluster_id),
                    topic: Arc::clone(&names.topic),
                    topic_id: Arc::clone(&names.topic_id),
                    partition_no: partition.partition,
                    first_offset: *first,
                    last_offset: *last,
                });
            }
            Body::Quarantined { reason } => rows.quarantined.push(QuarantinedRow {
                origin: Arc::clone(&self.origin),
                seq,
                reason: reason.as_str(),
                cluster_id: entry.cluster_id.clone(),
                topic: entry.topic.clone(),
                partition_no: view.src.map(|Position { partition, .. }| partition),
                record_offset: entry.record_offset,
                recorded_at: entry.recorded_at,
                resolved_seq: None,
                is_timed: entry.is_timed,
            }),
            Body::SegmentSealed { at, seal, .. } => self.pins.stated(*seal, *at),
            Body::Pinned { at, cid, bytes, target } => self.pins.pinned(*cid, target, *bytes, *at),
            Body::Registered { at, seal, registrar, .. } => self.pins.registered(*seal, registrar, *at),
            Body::ReplicationAudit { at, failed: 0, target, .. } => self.pins.audited(target, *at),
            Body::Anchored { cid, segment } => {
                self.anchored.entry(*segment).or_default().push(*cid);
                rows.anchored.push(*segment);
            }
            Body::Erasure { .. } | Body::RetentionExpired { .. } => self.has_erasures = true,
            _ => {}
        }
        Ok(())
    }

    fn declare(&mut self, topic: &Topic) -> Result<(), Refused> {
        let part = |text: &str, chars_max| column(text, chars_max).unwrap_or_default();
        let names = TopicNames {
            cluster_id: part(&topic.cluster, 255),
            topic: part(&topic.name, 255),
            topic_id: part(&topic.topic_id, 64),
        };
        let number = usize::try_from(topic.topic_no).unwrap_or(usize::MAX);
        let count = self.topics.len();
        match self.topics.get_mut(number) {
            Some(known) => *known = names,
            None if number == count => self.topics.push(names),
            None => return Err(Refused::non_canonical(format!("topic {} is declared out of turn", topic.topic_no))),
        }
        Ok(())
    }

    /// The schema has one row a gap entry, so the writer states each range in an entry of its own. A log of another
    /// writer that does not is sound, and has no rows here.
    fn gap(&self, seq: u64, ranges: &[GapRange]) -> Result<GapRow, Refused> {
        let [range] = ranges else {
            let what = format!("{} gap ranges in one entry: the registry has a row for one", ranges.len());
            return Err(Refused::new(Code::LimitExceeded, what));
        };
        let names = self.topic(range.partition)?;
        Ok(GapRow {
            origin: Arc::clone(&self.origin),
            seq,
            cluster_id: Arc::clone(&names.cluster_id),
            topic: Arc::clone(&names.topic),
            topic_id: Arc::clone(&names.topic_id),
            partition_no: range.partition.partition,
            first_offset: range.first,
            last_offset: range.last,
            reason: range.reason.as_str(),
        })
    }

    fn new_key(&mut self, seq: u64, vkey: &str, rows: &mut SegmentRows) -> Result<(), Refused> {
        let key_id: Arc<str> = Arc::from(vkey.parse::<Vkey>()?.key_id_hex());
        let row = self.keys.entry(Arc::clone(&key_id)).or_insert_with(|| KeyRow {
            origin: Arc::clone(&self.origin),
            key_id,
            vkey: Arc::from(vkey),
            from_seq: seq,
            not_after_seq: None,
            declared_seq: seq,
            reason: None,
        });
        let row = row.clone();
        rows.keys.push(row);
        Ok(())
    }

    /// Both notes end with the old and the new vkey; their third line is the entry's seq, or the size vouched for
    /// (format.md, Tree, checkpoint, keys).
    fn change_key(&mut self, seq: u64, note: &str, rows: &mut SegmentRows) -> Result<(), Refused> {
        let text = Note::parse(note)?.text;
        let lines: Vec<&str> = text.lines().collect();
        let (old, new, size, reason) = match lines.as_slice() {
            ["pinfold/v1/rotate", _, size, old, new] => (old, new, size, "rotated"),
            ["pinfold/v1/revoke", _, size, _, old, new] => (old, new, size, "revoked"),
            _ => return Err(Refused::non_canonical("key change: neither a rotation nor a revocation")),
        };
        let size: i64 = size.parse().map_err(|_| Refused::non_canonical("key change: size"))?;
        let old = old.parse::<Vkey>()?.key_id_hex();
        if let Some(row) = self.keys.get_mut(old.as_str()) {
            // A checkpoint of size n is a segment that ends at n - 1.
            row.not_after_seq = Some(size - 1);
            row.reason = Some(reason);
            rows.keys.retain(|known| known.key_id != row.key_id);
            rows.keys.push(row.clone());
        }
        self.new_key(seq, new, rows)
    }
}

impl Clock {
    /// Takes in the time an entry states, if it states one.
    fn tick(&mut self, body: &Body, opened: &Opened) {
        let stated = match body {
            Body::SegmentSealed { at, .. }
            | Body::Pinned { at, .. }
            | Body::Registered { at, .. }
            | Body::ReplicationAudit { at, .. }
            | Body::Observed { at, .. } => Some(*at),
            _ => opened.recorded_at,
        };
        self.now = self.now.max(stated);
        if opened.is_operator_closed {
            self.is_exact = false;
        } else if opened.recorded_at.is_some() {
            self.is_exact = true;
        }
    }
}

/// Entries before the first time a log states have that time: they were written together.
fn backdate(rows: &mut SegmentRows) {
    let first = rows.entries.iter().map(|entry| entry.recorded_at).find(|at| *at > Timestamp(0));
    let Some(first) = first else { return };
    for entry in rows.entries.iter_mut().take_while(|entry| entry.recorded_at == Timestamp(0)) {
        entry.recorded_at = first;
    }
    for row in rows.quarantined.iter_mut().filter(|row| row.recorded_at == Timestamp(0)) {
        row.recorded_at = first;
    }
}

/// A text as a VARCHAR of so many characters holds it: cut, because a text too long for one engine must not stop the
/// registration of everything after it. Absent where empty.
pub(super) fn column(text: &str, chars_max: usize) -> Option<Arc<str>> {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(at, _)| at);
    text.get(..end).filter(|text| !text.is_empty()).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{DAY, Log, first_segment, second_segment};
    use super::*;
    use crate::core::leaf::GapReason;

    #[test]
    fn a_record_is_found_by_its_event_and_a_closed_part_says_nothing() {
        let rows = first_segment(&mut Log::new(), 2);
        let [event, _, _, nobody, erased, quarantined] = rows.entries.get(4..10).unwrap() else { panic!() };
        assert_eq!((event.kind, event.event_id.as_deref()), ("event", Some("e-0 \"ü\" ?")));
        assert_eq!((event.cluster_id.as_deref(), event.record_offset), (Some("cluster-1"), Some(10)));
        assert_eq!(event.event_time, Some(Timestamp(1_767_225_599_123_456)));
        assert!(event.is_open && event.is_timed);
        assert_eq!(nobody.event_id.as_deref(), Some("nobody"));
        assert_eq!((erased.event_id.as_deref(), erased.is_open), (None, false));
        assert_eq!(quarantined.record_time, Some(Timestamp(1_767_225_598_765_000)));
        assert_eq!(rows.quarantined.first().unwrap().reason, "undecodable");
    }

    #[test]
    fn times_never_fall_and_entries_before_the_first_one_get_it() {
        let mut log = Log::new();
        let first = first_segment(&mut log, 2);
        let second = second_segment(&mut log, &first);
        let times: Vec<_> = first.entries.iter().chain(&second.entries).map(|entry| entry.recorded_at).collect();
        assert!(times.is_sorted());
        assert_eq!(times.get(..5).unwrap(), [DAY.plus(1_000); 5]);
    }

    #[test]
    fn sources_and_gaps_add_up_to_every_offset() {
        let rows = first_segment(&mut Log::new(), 3);
        let source = rows.sources.first().unwrap();
        let gaps: u64 = rows.gaps.iter().map(|gap| gap.last_offset - gap.first_offset + 1).sum();
        assert_eq!((source.first_offset, source.last_offset + 1), (0, source.record_count + gaps));
        assert_eq!(rows.gaps.iter().map(|gap| gap.reason).collect::<Vec<_>>(), ["before this log", "retention loss"]);
    }

    #[test]
    fn later_segments_state_pins_times_and_the_end_of_keys() {
        let mut log = Log::new();
        let first = first_segment(&mut log, 1);
        let second = second_segment(&mut log, &first);
        let seal = first.segment.seal_cid;
        let [pin] = second.pins.as_slice() else { panic!() };
        assert_eq!((pin.seal_cid, pin.contents, pin.verified_bytes), (seal, "proof+payload", Some(300)));
        assert_eq!(log.fold.pins_of(seal), second.pins);
        assert_eq!(log.fold.sealed_times().get(&seal).copied(), first.segment.sealed_at);
        assert_eq!(log.fold.registered_times("local").get(&seal).copied(), first.segment.registered_at);
        let [old, new] = second.keys.as_slice() else { panic!() };
        let changed = second.segment.first_seq + 5;
        assert_eq!((old.not_after_seq, old.reason), (Some(i64::try_from(changed).unwrap() - 1), Some("rotated")));
        assert_eq!((new.from_seq, &new.key_id), (changed, &second.segment.key_id));
        assert_eq!(first.keys.first().unwrap().key_id, first.segment.key_id);
    }

    #[test]
    fn a_gap_entry_of_several_ranges_has_no_row_and_is_refused() {
        let mut log = Log::new();
        first_segment(&mut log, 1);
        let range = |first| GapRange {
            partition: Partition { topic_no: 0, partition: 3 },
            first,
            last: first,
            reason: GapReason::Unattributed,
        };
        let fold = &log.fold;
        assert!(fold.gap(9, &[range(90)]).is_ok());
        assert_eq!(fold.gap(9, &[range(90), range(92)]).unwrap_err().code, Code::LimitExceeded);
    }

    #[test]
    fn a_text_longer_than_its_column_is_cut_between_characters() {
        assert_eq!(column("äöü", 2).as_deref(), Some("äö"));
        assert_eq!(column("äö", 2).as_deref(), Some("äö"));
        assert_eq!(column("", 2), None);
    }
}
