//! Rows made from the bytes against rows a registry holds: each disagreement is a finding.
//!
//! Not the reading of either side. What the bytes at hand cannot say (an erased part, a time no sealed entry states
//! yet) is not compared, and the row that could not be compared is not called sound by it.

use std::collections::BTreeMap;

use super::table::Cell;
use super::{
    AnchorRow, Column, ContestedRow, EntryRow, GapRow, KeyRow, PinRow, QuarantinedRow, Role, Row, SegmentRow,
    SegmentRows, SourceRow, Table, Value,
};
use crate::core::cid::Cid;
use crate::core::finding::Code;
use crate::core::hash::Hash;
use crate::core::time::Timestamp;

/// The rows a registry holds of one segment, as read: for each table its rows, cells in the table's column order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoundRows {
    /// Table name to rows, in any order, doubles included.
    pub tables: BTreeMap<&'static str, Vec<Vec<Value>>>,
}

/// One disagreement of a registry with the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// `registry-differs`, `registry-missing`, `registry-extra` or `registry-double`.
    pub code: Code,
    /// The table.
    pub table: &'static str,
    /// The row's key, `column=value` joined by spaces.
    pub key: String,
    /// The entry it is about, where the table is keyed by seq.
    pub seq: Option<u64>,
    /// The first column that differs, for `registry-differs`.
    pub column: Option<&'static str>,
    /// What the bytes say, empty where they say nothing.
    pub expected: String,
    /// What the registry says, empty where it says nothing.
    pub found: String,
}

/// Compares a segment's rows with what a registry holds of it. Pins are compared over the whole log: `compare_pins`.
pub fn compare(expected: &SegmentRows, found: &FoundRows) -> Vec<Difference> {
    let held = |table: Table| found.tables.get(table.name).map(Vec::as_slice).unwrap_or_default();
    let mut differences = compare_rows(std::slice::from_ref(&expected.segment), held(SegmentRow::TABLE));
    differences.extend(compare_rows(&expected.sources, held(SourceRow::TABLE)));
    differences.extend(compare_rows(&expected.entries, held(EntryRow::TABLE)));
    differences.extend(compare_rows(&expected.gaps, held(GapRow::TABLE)));
    differences.extend(compare_rows(&expected.contested, held(ContestedRow::TABLE)));
    differences.extend(compare_rows(&expected.quarantined, held(QuarantinedRow::TABLE)));
    // A registry gives all keys of a log: those of other segments are not ours to judge here.
    let declared = KeyRow::TABLE.columns.iter().position(|column| column.name == "declared_seq");
    let range = expected.segment.first_seq.value()..=expected.segment.last_seq.value();
    let is_ours = |row: &&Vec<Value>| {
        let declared = declared.and_then(|at| row.get(at));
        let is_expected =
            expected.keys.iter().any(|key| key_of(&KeyRow::TABLE, &key.values()) == key_of(&KeyRow::TABLE, row));
        is_expected || declared.is_some_and(|declared| range.contains(declared))
    };
    let keys: Vec<_> = held(KeyRow::TABLE).iter().filter(is_ours).cloned().collect();
    differences.extend(compare_rows(&expected.keys, &keys));
    differences
}

/// Compares rows with those a registry holds where they should be, in any order: a row for each key, and no other.
pub fn compare_rows<R: Row>(expected: &[R], found: &[Vec<Value>]) -> Vec<Difference> {
    compare_columns(expected, found, R::knows)
}

/// Compares all keys of a log with all a registry holds of it. Unlike the keys of one segment these are final: a key
/// that no entry ended has no end.
pub fn compare_keys(expected: &[KeyRow], found: &[Vec<Value>]) -> Vec<Difference> {
    compare_columns(expected, found, |_, _| true)
}

/// Compares the pins the log states of one segment with the rows of a registry. `sealed_before` is the `at` of the
/// newest kind 5 entry, `now` the time of the comparison: a row that claims to be from between the two, and later than
/// what the log states of it, waits for the next seal. It is not extra, and may have moved on.
pub fn compare_pins(
    stated: &[PinRow],
    found: &[Vec<Value>],
    sealed_before: Timestamp,
    now: Timestamp,
) -> Vec<Difference> {
    let claimed = PinRow::TABLE.columns.iter().position(|column| column.name == "verified_at");
    let waits = |row: &Vec<Value>| {
        let Some(Value::Time(at)) = claimed.and_then(|at| row.get(at)) else { return false };
        let known = stated.iter().find(|pin| key_of(&PinRow::TABLE, &pin.values()) == key_of(&PinRow::TABLE, row));
        let is_later = known.is_none_or(|pin| pin.verified_at < Some(*at));
        is_later && (sealed_before..=now).contains(at)
    };
    let waiting: Vec<String> = found.iter().filter(|row| waits(row)).map(|row| key_text(&PinRow::TABLE, row)).collect();
    let moves = |name: &str| PinRow::TABLE.columns_of(Role::Moves).any(|column| column.name == name);
    let mut differences = compare_rows(stated, found);
    differences.retain(|difference| {
        let may_wait = match difference.code {
            Code::RegistryExtra => true,
            Code::RegistryDiffers => difference.column.is_some_and(moves),
            _ => false,
        };
        !may_wait || !waiting.contains(&difference.key)
    });
    differences
}

/// Compares what the anchor file of a segment says with the rows of a registry. `stated` are the CIDs that entries give
/// to anchors of this segment: a registry may still be at one of them. `is_required`: whether it must have those of the
/// file. Without the file nobody can say what a stated anchor holds, and its rows are not extra.
pub fn compare_anchors(file: &[AnchorRow], stated: &[Cid], is_required: bool, found: &[Vec<Value>]) -> Vec<Difference> {
    let place = AnchorRow::TABLE.columns.iter().position(|column| column.name == "anchor_cid");
    let cell = |cid: &Cid| Value::Text(cid.to_string().into());
    let stated: Vec<Value> = stated.iter().map(cell).collect();
    let is_stated = |row: &Vec<Value>| place.and_then(|at| row.get(at)).is_some_and(|cid| stated.contains(cid));
    let newest = file.first().and_then(|row| row.anchor_cid.as_ref()).map(cell);
    let Some(newest) = newest else {
        return found.iter().filter(|row| !is_stated(row)).map(|row| extra(&AnchorRow::TABLE, row)).collect();
    };
    let raised = |row: &Vec<Value>| {
        let mut raised = row.clone();
        if let Some(cid) = place.and_then(|at| raised.get_mut(at)).filter(|_| is_stated(row)) {
            *cid = newest.clone();
        }
        raised
    };
    let found: Vec<Vec<Value>> = found.iter().map(raised).collect();
    let mut differences = compare_rows(file, &found);
    differences.retain(|difference| is_required || difference.code != Code::RegistryMissing);
    differences
}

/// A row that stands for nothing in the log.
pub fn extra(table: &Table, row: &[Value]) -> Difference {
    difference(Code::RegistryExtra, table, row)
}

fn compare_columns<'f, R: Row>(
    expected: &[R],
    found: &'f [Vec<Value>],
    knows: impl Fn(&R, &Column) -> bool,
) -> Vec<Difference> {
    let shape = R::TABLE;
    let mut differences = Vec::new();
    let mut rows: BTreeMap<Vec<Value>, Vec<&Vec<Value>>> = BTreeMap::new();
    for row in found {
        rows.entry(key_of(&shape, row)).or_default().push(row);
    }
    for row in expected {
        let cells = row.values();
        let Some(held) = rows.remove(&key_of(&shape, &cells)) else {
            differences.push(difference(Code::RegistryMissing, &shape, &cells));
            continue;
        };
        if held.len() > 1 {
            differences.push(difference(Code::RegistryDouble, &shape, &cells));
        }
        let pairs = |held: &'f Vec<Value>| shape.columns.iter().zip(cells.iter().zip(held));
        let mut pairs = held.into_iter().flat_map(pairs);
        let differs = pairs.find(|(column, (cell, held))| cell != held && knows(row, column));
        if let Some((column, (expected, found))) = differs {
            differences.push(Difference {
                column: Some(column.name),
                expected: shown(column, expected),
                found: shown(column, found),
                ..difference(Code::RegistryDiffers, &shape, &cells)
            });
        }
    }
    differences.extend(rows.values().flatten().map(|row| extra(&shape, row)));
    differences
}

/// Columns that come from inside a sealed part: a report must not carry what they hold.
const SEALED_COLUMNS: &[&str] = &["event_source", "event_id", "event_type", "tenant"];
/// Characters of a cell a report shows: it may be anybody's text.
const SHOWN_CHARS_MAX: usize = 80;

/// A cell as a report shows it: of a sealed column only a hash, of any other the beginning.
fn shown(column: &Column, value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        Value::Text(text) if SEALED_COLUMNS.contains(&column.name) => format!("SHA-256 {}", Hash::of(text.as_bytes())),
        value => value.to_string().chars().take(SHOWN_CHARS_MAX).collect(),
    }
}

fn difference(code: Code, shape: &Table, cells: &[Value]) -> Difference {
    let seq = shape.columns.iter().zip(cells).find_map(|(column, cell)| match (column.name, cell) {
        ("seq", Value::Int(seq)) => u64::try_from(*seq).ok(),
        _ => None,
    });
    let key = key_text(shape, cells);
    Difference { code, table: shape.name, key, seq, column: None, expected: String::new(), found: String::new() }
}

fn key_of(shape: &Table, cells: &[Value]) -> Vec<Value> {
    let cells = shape.columns.iter().zip(cells);
    cells.filter(|(column, _)| column.role == Role::Key).map(|(_, cell)| cell.clone()).collect()
}

fn key_text(shape: &Table, cells: &[Value]) -> String {
    let cells = shape.columns.iter().zip(cells).filter(|(column, _)| column.role == Role::Key);
    cells.map(|(column, cell)| format!("{}={}", column.name, shown(column, cell))).collect::<Vec<_>>().join(" ")
}
