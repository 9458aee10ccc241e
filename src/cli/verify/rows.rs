//! Every row of every registry against the bytes: segment by segment, a window of entries at a time.
//!
//! The rows are made again from the audited segments, with the same fold that made them, and compared both ways: what
//! must be there is, once, and nothing else is. A segment beyond a registry's fence may be there, or not, or in part.
//! Times, pins and anchors of a segment are stated in later ones, so these tables come last. Memory: a few hundred bytes a segment.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, Read};
use std::ops::ControlFlow;

use super::keys::Keys;
use super::registries::{End, Met, judge_fence};
use crate::core::audit::{Archive, CheckStatus, File, Report};
use crate::core::car::Limits;
use crate::core::cid::Cid;
use crate::core::finding::Code;
use crate::core::leaf::{Body, LeafView};
use crate::core::origin::Origin;
use crate::core::rows::{
    AnchorRow, ContestedRow, Difference, EntryRow, Fold, FoldError, GapRow, KeyRow, PinRow, QuarantinedRow, Row,
    Sealed, SegmentRow, SegmentRows, SourceRow, Table, Value, anchor_rows, compare_anchors, compare_keys, compare_pins,
    compare_rows, extra,
};
use crate::core::rules::Fault;
use crate::core::segment::read::{FrameKey, Frames, Proof, read_anchor};
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::registry::{Filter, Registrar, RegistryError, WRONG_DUPLICATES};

/// Entries compared at once.
const WINDOW: usize = 4096;
/// Segments whose own rows are compared at once.
const SEGMENT_WINDOW: usize = 256;

/// What is compared with the registries.
pub(super) struct Subject<'a> {
    pub(super) archive: &'a dyn Archive,
    pub(super) origin: &'a Origin,
    pub(super) limits: Limits,
    /// Payloads that are looked at; all where absent.
    pub(super) payload_sample: Option<&'a BTreeSet<u64>>,
    pub(super) now: Timestamp,
    /// Whether segments were added since the audit began.
    pub(super) has_grown: &'a dyn Fn() -> bool,
}

/// Compares all registries that were met, and says how each check went.
pub(super) fn compare(subject: &Subject<'_>, mut keys: Keys, met: &[Met], report: &mut Report) {
    let mut walk = Walk {
        subject,
        fold: Fold::new(subject.origin),
        segments: Vec::new(),
        sides: met.iter().map(Side::new).collect(),
        closed: 0,
    };
    let seals = report.seals.clone();
    let mut stopped = None;
    for (segment, seal) in (0..).zip(&seals) {
        let read = seal.ok_or_else(|| "it could not be read".to_owned());
        if let Err(why) = read.and_then(|seal| walk.segment(segment, seal, &mut keys, report)) {
            stopped = Some(format!("segments from {segment} on were not compared: segment {segment}: {why}"));
            break;
        }
    }
    keys.report(report);
    walk.finish(&keys, stopped, report);
}

/// The walk over the segments.
struct Walk<'a> {
    subject: &'a Subject<'a>,
    fold: Fold,
    segments: Vec<SegmentRow>,
    sides: Vec<Side<'a>>,
    /// Entries with a part that stayed closed.
    closed: u64,
}

/// One registry, compared.
struct Side<'a> {
    met: &'a Met,
    /// The fold as far as this registry must have it, once that is behind us.
    at_fence: Option<Fold>,
    trouble: Option<String>,
    rows: u64,
    /// Whether rows of entries, or the events they name, are not as the log says: what follows from them is no finding.
    has_other_events: bool,
}

impl<'a> Walk<'a> {
    /// Compares one segment, all but what later ones state of it.
    fn segment(&mut self, segment: u64, seal: Cid, keys: &mut Keys, report: &mut Report) -> Result<(), String> {
        let subject = self.subject;
        let open = |file| subject.archive.open(segment, file).map_err(|error| error.to_string());
        let source = open(File::Proof)?.ok_or("its proof file is gone")?;
        let mut proof = Proof::open(source, subject.limits).map_err(|refused| refused.to_string())?;
        if proof.cid() != seal {
            return Err("it changed while it was verified".to_owned());
        }
        let head = proof.seal().clone();
        for side in &mut self.sides {
            if side.at_fence.is_none() && !side.must_have(segment, head.first.0 + head.count) {
                side.at_fence = Some(self.fold.clone());
            }
        }
        let sealed = Sealed {
            cid: seal,
            seal: &head,
            proof_bytes: 0,
            payload_bytes: None,
            sealed_at: None,
            registered_at: None,
        };
        let payload_bytes = Cell::new(0);
        let is_wanted = subject.payload_sample.is_none_or(|sample| sample.contains(&segment));
        let payload = if is_wanted && head.payload.is_some() { open(File::Payload)? } else { None };
        let counted = payload.map(|source| Counted { source, bytes: &payload_bytes });
        let frames = counted.and_then(|source| Frames::open(source, subject.limits).ok());
        let mut frames = Stream { frames: frames.filter(|frames| Some(frames.cid()) == head.payload) };
        let mut rows = self.fold.begin(&sealed).map_err(told)?;
        while let Some(page) = proof.page().map_err(|refused| refused.to_string())? {
            let mut rest = page.bytes;
            for _ in 0..page.count {
                let (view, after) = LeafView::decode_prefix(rest).map_err(|refused| refused.to_string())?;
                let leaf = rest.get(..rest.len() - after.len()).unwrap_or_default();
                rest = after;
                if matches!(view.body(), Ok(Body::EpochOpened { .. })) {
                    keys.begin_epoch(view.seq);
                }
                let opened = self.fold.leaf(leaf, &mut rows, |wanted| {
                    let frame = frames.take(FrameKey { seq: wanted.seq, part: wanted.part.into() });
                    Ok(frame.and_then(|frame| keys.open(segment, &wanted, &frame)))
                });
                opened.map_err(told)?;
                if rows.entries.len() >= WINDOW {
                    self.entries(segment, &mut rows, report);
                }
            }
        }
        self.entries(segment, &mut rows, report);
        self.fold.end(&sealed, &mut rows).map_err(told)?;
        rows.segment.proof_bytes = proof.bytes_taken();
        rows.segment.payload_bytes = frames.end().then(|| payload_bytes.get());
        self.tables(segment, &rows, report);
        self.segments.push(rows.segment);
        Ok(())
    }

    /// Compares the entries so far, and lets them go.
    fn entries(&mut self, segment: u64, rows: &mut SegmentRows, report: &mut Report) {
        let entries = Fold::take_entries(rows);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        self.closed += entries.iter().filter(|entry| !entry.is_open).count() as u64;
        let filters = range(self.subject.origin, first.seq, last.seq);
        let end = rows.segment.last_seq + 1;
        for side in &mut self.sides {
            side.compare(segment, end, &EntryRow::TABLE, &filters, report, |found| compare_rows(&entries, found));
        }
    }

    /// Compares the tables that a segment alone determines.
    fn tables(&mut self, segment: u64, rows: &SegmentRows, report: &mut Report) {
        let SegmentRow { seal_cid, first_seq, last_seq, .. } = rows.segment;
        let of_seal = [Filter::equal("seal_cid", Value::Text(seal_cid.to_string().into()))];
        let of_range = range(self.subject.origin, first_seq, last_seq);
        let end = last_seq + 1;
        for side in &mut self.sides {
            let mut compare = |table: Table, filters: &[Filter], compare: &dyn Fn(&[Vec<Value>]) -> Vec<Difference>| {
                side.compare(segment, end, &table, filters, report, compare);
            };
            compare(SourceRow::TABLE, &of_seal, &|found| compare_rows(&rows.sources, found));
            compare(GapRow::TABLE, &of_range, &|found| compare_rows(&rows.gaps, found));
            compare(ContestedRow::TABLE, &of_range, &|found| compare_rows(&rows.contested, found));
            compare(QuarantinedRow::TABLE, &of_range, &|found| compare_rows(&rows.quarantined, found));
        }
    }

    /// Compares what is known only at the end, looks for rows of nothing, and says how each check went.
    fn finish(mut self, keys: &Keys, stopped: Option<String>, report: &mut Report) {
        let ends: Vec<End> = self.segments.iter().map(|row| End { size: row.last_seq + 1, root: row.root }).collect();
        for mut side in std::mem::take(&mut self.sides) {
            let place = side.met.place();
            judge_fence(side.met, &ends, self.stated(&side), stopped.is_none(), report);
            self.segment_rows(&mut side, report);
            if stopped.is_none() {
                self.last_tables(&mut side, report);
                self.strays(&mut side, report);
            }
            if let Some(trouble) = side.trouble.take() {
                report.add(&place, None, Fault::of(Code::Unreachable, &place, "an answer", trouble));
            }
            if side.met.registrar.is_none() {
                continue;
            }
            let detail = match &stopped {
                Some(why) => why.clone(),
                None => format!("{} rows were compared with {} segments", side.rows, self.segments.len()),
            };
            report.conclude(&place, if stopped.is_some() { CheckStatus::Skipped } else { CheckStatus::Ok }, &detail);
            if self.closed > 0 {
                let detail = format!(
                    "{}: event columns and times of {} entries were not compared",
                    keys.why_closed(),
                    self.closed
                );
                report.conclude(&format!("{place}, sealed columns"), CheckStatus::Skipped, &detail);
            }
        }
    }

    /// The entries that the log, or its journal, says this registry has.
    fn stated(&self, side: &Side<'_>) -> u64 {
        let registered = self.fold.registered_times(&side.met.name);
        let is_stated = |row: &&SegmentRow| row.segment_no < side.met.told || registered.contains_key(&row.seal_cid);
        self.segments.iter().filter(is_stated).map(|row| row.last_seq + 1).max().unwrap_or(0)
    }

    /// The rows of the segments themselves, with the times that later entries state.
    fn segment_rows(&self, side: &mut Side<'_>, report: &mut Report) {
        let (sealed, registered) = (self.fold.sealed_times(), self.fold.registered_times(&side.met.name));
        for window in self.segments.chunks(SEGMENT_WINDOW) {
            let (Some(first), Some(last)) = (window.first(), window.last()) else { continue };
            let timed = |row: &SegmentRow| SegmentRow {
                sealed_at: sealed.get(&row.seal_cid).copied(),
                registered_at: registered.get(&row.seal_cid).copied(),
                ..row.clone()
            };
            let expected: Vec<SegmentRow> = window.iter().map(timed).collect();
            let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
            let filters = [
                of_origin(self.subject.origin),
                Filter::at_least("segment_no", number(first.segment_no)),
                Filter::at_most("segment_no", number(last.segment_no)),
            ];
            let Some(found) = side.rows(&SegmentRow::TABLE, &filters) else { return };
            for difference in compare_rows(&expected, &found) {
                let of = window.iter().find(|row| difference.key == format!("seal_cid={}", row.seal_cid));
                let is_required = of.is_none_or(|row| side.must_have(row.segment_no, row.last_seq + 1));
                if is_required || difference.code != Code::RegistryMissing {
                    side.add(of.map(|row| row.segment_no), difference, report);
                }
            }
        }
    }

    /// Keys and pins: statements that change as the log goes on.
    fn last_tables(&self, side: &mut Side<'_>, report: &mut Report) {
        let at_fence = side.at_fence.take().unwrap_or_else(|| self.fold.clone());
        let origin = of_origin(self.subject.origin);
        if let Some(found) = side.rows(&KeyRow::TABLE, std::slice::from_ref(&origin)) {
            // Between the fence and the end either state may stand.
            let earlier = compare_keys(&at_fence.keys(), &found);
            for difference in compare_keys(&self.fold.keys(), &found) {
                if earlier.iter().any(|earlier| (&earlier.key, earlier.code) == (&difference.key, difference.code)) {
                    side.add(None, difference, report);
                }
            }
        }
        let sealed_before = at_fence.sealed_at().unwrap_or_default();
        for row in &self.segments {
            let filters = [Filter::equal("seal_cid", Value::Text(row.seal_cid.to_string().into()))];
            let Some(found) = side.rows(&PinRow::TABLE, &filters) else { return };
            let stated = at_fence.pins_of(row.seal_cid);
            for difference in compare_pins(&stated, &found, sealed_before, self.subject.now) {
                side.add(Some(row.segment_no), difference, report);
            }
            // The rows before the file: a running sidecar writes the file first, and it only grows.
            let Some(found) = side.rows(&AnchorRow::TABLE, &filters) else { return };
            let Some(file) = self.anchor_rows(row.segment_no) else { continue };
            let newest = file.first().and_then(|row| row.anchor_cid);
            let is_required = newest.is_some_and(|cid| at_fence.anchors_of(row.segment_no).contains(&cid));
            let stated = self.fold.anchors_of(row.segment_no);
            for difference in compare_anchors(&file, stated, is_required, &found) {
                side.add(Some(row.segment_no), difference, report);
            }
        }
        self.derived_columns(side, report);
    }

    /// The rows of a segment's anchor file as it now is, none where there is none; `None` where it does not read, which
    /// the audit has said.
    fn anchor_rows(&self, segment: u64) -> Option<Vec<AnchorRow>> {
        let Some(source) = self.subject.archive.open(segment, File::Anchor).ok()? else { return Some(Vec::new()) };
        let (_, anchor) = read_anchor(source, self.subject.limits).ok()?;
        anchor_rows(&anchor).ok()
    }

    /// Columns that the registry fills from its other rows: compared with those, which are compared with the log.
    fn derived_columns(&self, side: &mut Side<'_>, report: &mut Report) {
        if self.fold.has_erasures() {
            return;
        }
        let origin = of_origin(self.subject.origin);
        let emptied = [origin.clone(), Filter::at_least("erased_by", Value::Text("".into()))];
        let resolved = [origin.clone(), Filter::at_least("resolved_seq", Value::Int(i64::MIN))];
        for (table, column, filters) in
            [(EntryRow::TABLE, "erased_by", emptied), (QuarantinedRow::TABLE, "resolved_seq", resolved)]
        {
            for row in side.rows(&table, &filters).unwrap_or_default() {
                let (expected, found) = ("NULL".to_owned(), "a value".to_owned());
                let difference = extra(&table, &row);
                let difference =
                    Difference { code: Code::RegistryDiffers, column: Some(column), expected, found, ..difference };
                side.add(difference.seq.and_then(|seq| self.segment_of(seq)), difference, report);
            }
        }
        let fence = side.met.fence.map_or(0, |fence| fence.size.0);
        let is_asked = side.trouble.is_none() && !side.has_other_events;
        let registrar = side.met.registrar.clone().filter(|_| is_asked);
        let Some(registrar) = registrar else { return };
        let asked = registrar.query(&WRONG_DUPLICATES, &[origin], None, &mut |row| {
            let [_, Value::Int(seq), stated, expected] = row else { return ControlFlow::Continue(()) };
            let seq = u64::try_from(*seq).ok().filter(|seq| *seq < fence);
            let Some(seq) = seq else { return ControlFlow::Continue(()) };
            let difference = Difference {
                code: Code::RegistryDiffers,
                table: EntryRow::TABLE.name,
                key: format!("seq={seq}"),
                seq: Some(seq),
                column: Some("duplicate_of"),
                expected: shown(expected),
                found: shown(stated),
            };
            side.add(self.segment_of(seq), difference, report);
            ControlFlow::Continue(())
        });
        side.trouble = asked.err().map(|error| error.to_string());
    }

    /// Rows of this log that belong to no segment of it. While segments are being added nobody can tell them from new
    /// ones; those of a tail that is missing here are not extra.
    fn strays(&self, side: &mut Side<'_>, report: &mut Report) {
        let size = self.segments.last().map_or(0, |row| row.last_seq + 1);
        let fence = side.met.fence.map_or(0, |fence| fence.size.0);
        let mut strays: Vec<Difference> = Vec::new();
        let from = i64::try_from(size).unwrap_or(i64::MAX);
        let count = i64::try_from(self.segments.len()).unwrap_or(i64::MAX);
        let origin = of_origin(self.subject.origin);
        for (table, column, from) in [
            (EntryRow::TABLE, "seq", from),
            (GapRow::TABLE, "seq", from),
            (ContestedRow::TABLE, "seq", from),
            (QuarantinedRow::TABLE, "seq", from),
            (SegmentRow::TABLE, "segment_no", count),
        ] {
            for filter in [Filter::at_least(column, Value::Int(from)), Filter::at_most(column, Value::Int(-1))] {
                let found = side.rows(&table, &[origin.clone(), filter]).unwrap_or_default();
                strays.extend(found.iter().map(|row| extra(&table, row)));
            }
        }
        let seals: BTreeSet<String> = self.segments.iter().map(|row| row.seal_cid.to_string()).collect();
        for table in [SourceRow::TABLE, PinRow::TABLE, AnchorRow::TABLE] {
            let mut of_nothing = Vec::new();
            side.each(&table, std::slice::from_ref(&origin), &mut |row| {
                let seal = row.first().map(Value::to_string).unwrap_or_default();
                if !seals.contains(&seal) {
                    of_nothing.push(extra(&table, row));
                }
            });
            strays.extend(of_nothing);
        }
        if !strays.is_empty() && fence <= size && !(self.subject.has_grown)() {
            strays.into_iter().for_each(|stray| side.add(None, stray, report));
        }
    }

    fn segment_of(&self, seq: u64) -> Option<u64> {
        let at = self.segments.partition_point(|row| row.last_seq < seq);
        self.segments.get(at).map(|row| row.segment_no)
    }
}

impl<'a> Side<'a> {
    fn new(met: &'a Met) -> Side<'a> {
        Side { met, at_fence: None, trouble: None, rows: 0, has_other_events: false }
    }

    /// Whether this registry has no excuse for a row of a segment that ends at `end`.
    fn must_have(&self, segment: u64, end: u64) -> bool {
        segment < self.met.told || self.met.fence.is_some_and(|fence| end <= fence.size.0)
    }

    /// Asks, unless an answer failed already.
    fn ask<T>(&mut self, ask: impl FnOnce(&dyn Registrar) -> Result<T, RegistryError>) -> Option<T> {
        let registrar = self.met.registrar.as_ref().filter(|_| self.trouble.is_none())?;
        match ask(&**registrar) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.trouble = Some(error.to_string());
                None
            }
        }
    }

    fn rows(&mut self, table: &Table, filters: &[Filter]) -> Option<Vec<Vec<Value>>> {
        let found = self.ask(|registrar| registrar.rows(table, filters))?;
        self.rows += found.len() as u64;
        Some(found)
    }

    fn each(&mut self, table: &Table, filters: &[Filter], each: &mut dyn FnMut(&[Value])) {
        self.ask(|registrar| {
            registrar.query(&crate::registry::Query::of_table(table), filters, None, &mut |row| {
                each(row);
                ControlFlow::Continue(())
            })
        });
    }

    /// Reads rows of a segment that ends at `end` and compares them.
    fn compare(
        &mut self,
        segment: u64,
        end: u64,
        table: &Table,
        filters: &[Filter],
        report: &mut Report,
        compare: impl FnOnce(&[Vec<Value>]) -> Vec<Difference>,
    ) {
        let Some(found) = self.rows(table, filters) else { return };
        let is_required = self.must_have(segment, end);
        for difference in compare(&found) {
            if is_required || difference.code != Code::RegistryMissing {
                self.add(Some(segment), difference, report);
            }
        }
    }

    fn add(&mut self, segment: Option<u64>, difference: Difference, report: &mut Report) {
        let Difference { code, table, key, seq, column, expected, found } = difference;
        let check = self.met.place();
        let is_of_event = column.is_none_or(|column| matches!(column, "event_source" | "event_id"));
        self.has_other_events |= table == EntryRow::TABLE.name && is_of_event;
        let place = match column {
            Some(column) => format!("{check}: {table}.{column} of {key}"),
            None => format!("{check}: {table}"),
        };
        let (expected, found) = match code {
            Code::RegistryMissing => (format!("a row {key}"), "none".to_owned()),
            Code::RegistryExtra => ("no such row".to_owned(), format!("a row {key}")),
            Code::RegistryDouble => (format!("one row {key}"), "more than one".to_owned()),
            _ => (expected, found),
        };
        report.add(&check, segment, Fault { code, seq: seq.map(Seq), place, expected, found });
    }
}

/// The frames of a payload, each where its part is asked for; none once the file is at fault, which the audit says.
struct Stream<R> {
    frames: Option<Frames<R>>,
}

impl<R: Read> Stream<R> {
    /// Takes the frame of a part; those before it are passed over.
    fn take(&mut self, key: FrameKey) -> Option<Vec<u8>> {
        loop {
            let frames = self.frames.as_mut()?;
            let mut frame = Vec::new();
            let taken = match frames.peek() {
                Ok(Some(next)) if next > key => return None,
                Ok(None) => return None,
                Ok(Some(_)) => frames.take(|piece| frame.extend_from_slice(piece)),
                Err(refused) => Err(refused),
            };
            match taken {
                Ok(Some(taken)) if taken == key => return Some(frame),
                Ok(_) => {}
                Err(_) => self.frames = None,
            }
        }
    }

    /// Reads to the end; true where the file was read whole.
    fn end(&mut self) -> bool {
        while let Some(frames) = &mut self.frames {
            match frames.take(|_| ()) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => self.frames = None,
            }
        }
        false
    }
}

/// Counts what is read.
struct Counted<'c, R> {
    source: R,
    bytes: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buffer)?;
        self.bytes.set(self.bytes.get() + len as u64);
        Ok(len)
    }
}

fn told(error: FoldError<Infallible>) -> String {
    error.to_string()
}

fn of_origin(origin: &Origin) -> Filter {
    Filter::equal("origin", Value::Text(origin.as_str().into()))
}

fn range(origin: &Origin, first: u64, last: u64) -> [Filter; 3] {
    let seq = |seq: u64| Value::Int(i64::try_from(seq).unwrap_or(i64::MAX));
    [of_origin(origin), Filter::at_least("seq", seq(first)), Filter::at_most("seq", seq(last))]
}

fn shown(value: &Value) -> String {
    if *value == Value::Null { "NULL".to_owned() } else { value.to_string().chars().take(80).collect() }
}
