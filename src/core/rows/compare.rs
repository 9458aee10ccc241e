//! Rows made from the bytes against rows a registry holds: each disagreement is a finding.
//!
//! Not the reading of either side. What the bytes at hand cannot say (an erased part, a time no sealed entry states
//! yet) is not compared, and the row that could not be compared is not called sound by it.

use std::collections::BTreeMap;

use super::table::Cell;
use super::{Column, KeyRow, PinRow, Role, Row, SegmentRows, Table, Value};
use crate::core::finding::Code;
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
    let mut differences = Vec::new();
    table(std::slice::from_ref(&expected.segment), found, &mut differences);
    table(&expected.sources, found, &mut differences);
    table(&expected.entries, found, &mut differences);
    table(&expected.gaps, found, &mut differences);
    table(&expected.contested, found, &mut differences);
    table(&expected.quarantined, found, &mut differences);
    // A registry gives all keys of a log: those of other segments are not ours to judge here.
    let declared = KeyRow::TABLE.columns.iter().position(|column| column.name == "declared_seq");
    let range = expected.segment.first_seq.value()..=expected.segment.last_seq.value();
    let is_ours = |row: &Vec<Value>| {
        let declared = declared.and_then(|at| row.get(at));
        let is_expected =
            expected.keys.iter().any(|key| key_of(&KeyRow::TABLE, &key.values()) == key_of(&KeyRow::TABLE, row));
        is_expected || declared.is_some_and(|declared| range.contains(declared))
    };
    let keys = found.tables.get(KeyRow::TABLE.name).into_iter().flatten().filter(|row| is_ours(row)).cloned().collect();
    let keys = FoundRows { tables: BTreeMap::from([(KeyRow::TABLE.name, keys)]) };
    table(&expected.keys, &keys, &mut differences);
    differences
}

/// Compares the pins the log states of one segment with the rows of a registry. A row the log does not state is extra
/// if it claims to be from before `sealed_before`, the `at` of the newest kind 5 entry: its entry would be in the
/// archive. A younger one waits for the next seal.
pub fn compare_pins(stated: &[PinRow], found: &FoundRows, sealed_before: Timestamp) -> Vec<Difference> {
    let mut differences = Vec::new();
    table(stated, found, &mut differences);
    let column = PinRow::TABLE.columns.iter().position(|column| column.name == "pinned_at");
    let waits = |key: &str| {
        found.tables.get(PinRow::TABLE.name).into_iter().flatten().any(|row| {
            let pinned_at = column.and_then(|at| row.get(at));
            key_text(&PinRow::TABLE, row) == key && pinned_at >= Some(&Value::Time(sealed_before))
        })
    };
    differences.retain(|difference| difference.code != Code::RegistryExtra || !waits(&difference.key));
    differences
}

fn table<R: Row>(expected: &[R], found: &FoundRows, differences: &mut Vec<Difference>) {
    let shape = R::TABLE;
    let mut rows: BTreeMap<Vec<Value>, Vec<&Vec<Value>>> = BTreeMap::new();
    for row in found.tables.get(shape.name).into_iter().flatten() {
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
        if let Some((column, expected, found)) = held.iter().find_map(|held| first_difference(row, &cells, held)) {
            differences.push(Difference {
                column: Some(column.name),
                expected,
                found,
                ..difference(Code::RegistryDiffers, &shape, &cells)
            });
        }
    }
    differences.extend(rows.values().flatten().map(|row| difference(Code::RegistryExtra, &shape, row)));
}

/// The first column in which `held` is not what the bytes say: the column, the expected and the found text.
fn first_difference<R: Row>(row: &R, cells: &[Value], held: &[Value]) -> Option<(&'static Column, String, String)> {
    let pairs = R::TABLE.columns.iter().zip(cells.iter().zip(held));
    pairs
        .filter(|(column, _)| row.knows(column))
        .find(|(_, (cell, held))| cell != held)
        .map(|(column, (cell, held))| (column, cell.to_string(), held.to_string()))
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
    cells.map(|(column, cell)| format!("{}={cell}", column.name)).collect::<Vec<_>>().join(" ")
}
