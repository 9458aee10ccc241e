//! Every byte of every file of a small archive, and every cell of every row made from it, changed in turn.
//!
//! Three segments with proof, payload and anchor, in memory. The verifier's vkeys are the root of trust: they are what
//! he holds, so nobody else can change them.

use std::collections::BTreeSet;
use std::convert::Infallible;

use pinfold::core::audit::{AuditInput, File};
use pinfold::core::finding::Code;
use pinfold::core::rows::{Column, Difference, Fold, KeyRow, Row, Sealed, Value, compare_keys, compare_rows};
use pinfold::core::time::Timestamp;

use super::forge::{self, DAY, Entries, Says, Written};
use super::table::{By, Sweep, Table};
use crate::memory::{Memory, name};

const SEGMENTS: usize = 3;
const BYTES_MAX: usize = 64 << 10;
const HOLDS: &str = "vkey, the witness's vkey";

pub(super) fn rows(table: &mut Table) {
    table.group("Every byte", "A small archive of three segments, one bit in each byte in turn; rows of a registry cell by cell, every byte of a text.");
    let entries = forge::entries(SEGMENTS, 2);
    let mut written = forge::write(&entries, &forge::by(&forge::key(1)));
    for segment in 0..SEGMENTS {
        let checkpoint = written.checkpoint(segment).to_owned();
        let anchor = forge::anchor(written.seals[segment].0, &checkpoint, &forge::cosigned_line(&checkpoint));
        written.archive.files.insert(name(segment as u64, File::Anchor), anchor);
    }
    let input = AuditInput {
        vkeys: vec![forge::key(1).vkey().clone()],
        recovery: Some(forge::recovery().vkey().clone()),
        witnesses: vec![forge::witness().vkey().clone()],
        ..AuditInput::default()
    };
    let report = written.archive.audit(&input);
    assert_eq!((report.exit, report.findings_total, report.anchors.len()), (10, 0, SEGMENTS), "{:?}", report.findings);
    let bytes: usize = written.archive.files.values().map(Vec::len).sum();
    assert!(bytes <= BYTES_MAX && written.archive.files.len() == 3 * SEGMENTS, "{bytes}");
    for (file, what) in [(File::Proof, "proof"), (File::Payload, "payload"), (File::Anchor, "anchor")] {
        let sweep = flips(&written.archive, file, &input);
        table.sweep(&format!("each byte of each {what} file"), By::Keeper, HOLDS, "its segment, each time", &sweep);
    }
    registry(&entries, &written, table);
}

/// Flips a bit of each byte of these files in turn, on all cores.
fn flips(archive: &Memory, file: File, input: &AuditInput) -> Sweep {
    let files = (0..SEGMENTS as u64).map(|segment| name(segment, file));
    let places = files.flat_map(|name| (0..archive.files[&name].len()).map(move |at| (name.clone(), at)));
    let places: Vec<(String, usize)> = places.collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = std::thread::scope(|scope| {
        let flips = |share: Vec<(String, usize)>| {
            scope.spawn(move || share.iter().map(|(name, at)| flip(archive, name, *at, input)).collect::<Vec<_>>())
        };
        let shares = places.chunks(places.len().div_ceil(threads)).map(<[_]>::to_vec);
        let workers: Vec<_> = shares.map(flips).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sweep = Sweep::of(places.len());
    found.into_iter().flatten().for_each(|(code, exit)| sweep.found(code, exit));
    sweep
}

/// The first finding of one flip and the exit, if it is found in the segment it is in.
fn flip(archive: &Memory, name: &str, at: usize, input: &AuditInput) -> Option<(Code, u8)> {
    let mut changed = archive.clone();
    changed.files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
    let report = changed.audit(input);
    let first = report.findings.first().filter(|first| first.segment == name[..6].parse().ok())?;
    (![0, 10].contains(&report.exit)).then_some((first.code, report.exit))
}

/// The rows of the small log, each cell of each of them changed in turn.
fn registry(entries: &Entries, written: &Written, table: &mut Table) {
    let mut fold = Fold::new(&forge::origin());
    let (mut seq, mut cells, mut keys) = (0, Cells::default(), Vec::new());
    for (segment, entries) in entries.iter().enumerate() {
        let (cid, seal) = &written.seals[segment];
        let car_bytes = |file| written.archive.file(segment as u64, file).map(|car| car.len() as u64);
        let sealed = Sealed {
            cid: *cid,
            seal,
            proof_bytes: car_bytes(File::Proof).unwrap(),
            payload_bytes: car_bytes(File::Payload),
            sealed_at: Some(DAY.plus(seal.segment)),
            registered_at: Some(DAY.plus(seal.segment + 1)),
        };
        let leaves = &written.leaves[seq..seq + entries.len()];
        let first = seq as u64;
        let opened = fold.segment(&sealed, leaves.iter().map(Vec::as_slice), |wanted| {
            let entry = &entries[usize::try_from(wanted.seq.0 - first).unwrap()];
            let bodies = forge::bodies(wanted.seq.0, entry.src.unwrap());
            Ok::<_, Infallible>(bodies.into_iter().nth(usize::try_from(wanted.part).unwrap()))
        });
        let rows = opened.unwrap();
        assert!(rows.entries.iter().filter(|row| row.kind == "event").all(|row| row.is_open), "every part opens");
        cells.change(std::slice::from_ref(&rows.segment));
        cells.change(&rows.sources);
        cells.change(&rows.entries);
        cells.change(&rows.gaps);
        keys.extend(rows.keys);
        seq += entries.len();
    }
    assert!(matches!(entries[1][0].says, Says::SealBefore) && !keys.is_empty());
    cells.change_keys(&keys);
    // What a registry fills from its other rows has rows of its own below.
    assert_eq!(cells.unknown, BTreeSet::from(["duplicate_of", "erased_by"]));
    let place = "its table, column and key, each time";
    table.sweep("each cell of each registry row", By::Registrar, "vkey, keyring", place, &cells.sweep);
}

#[derive(Default)]
struct Cells {
    sweep: Sweep,
    unknown: BTreeSet<&'static str>,
}

impl Cells {
    /// Changes each cell of `rows` that they can answer for.
    fn change<R: Row>(&mut self, rows: &[R]) {
        let is_known = |row: usize, column: &Column| rows[row].knows(column);
        self.change_each(rows, is_known, compare_rows);
    }

    /// The same for the keys of a whole log, which are final.
    fn change_keys(&mut self, keys: &[KeyRow]) {
        self.change_each(keys, |_, _| true, compare_keys);
    }

    fn change_each<R: Row>(
        &mut self,
        rows: &[R],
        is_known: impl Fn(usize, &Column) -> bool,
        compare: fn(&[R], &[Vec<Value>]) -> Vec<Difference>,
    ) {
        let sound: Vec<Vec<Value>> = rows.iter().map(Row::values).collect();
        assert_eq!(compare(rows, &sound), [], "untouched");
        for row in 0..rows.len() {
            for (at, column) in R::TABLE.columns.iter().enumerate() {
                if !is_known(row, column) {
                    self.unknown.insert(column.name);
                    continue;
                }
                for other in others(&sound[row][at]) {
                    let mut held = sound.clone();
                    held[row][at] = other;
                    self.sweep.changes += 1;
                    let found = compare(rows, &held).into_iter().find(|found| {
                        found.table == R::TABLE.name && found.column.is_none_or(|found| found == column.name)
                    });
                    if let Some(found) = found {
                        self.sweep.found(found.code, found.code.exit().unwrap());
                    }
                }
            }
        }
    }
}

/// A cell with another value: of a text every byte in turn.
fn others(cell: &Value) -> Vec<Value> {
    match cell {
        Value::Null => vec![Value::Int(7), Value::Text("x".into()), Value::Time(Timestamp(1))],
        Value::Int(n) => vec![Value::Int(n + 1), Value::Int(n ^ (1 << 40)), Value::Null],
        Value::Time(at) => vec![Value::Time(at.plus(1)), Value::Null],
        Value::Text(text) => {
            let flip = |at: usize| {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= 1;
                Value::Text(String::from_utf8(bytes).unwrap().into())
            };
            (0..text.len()).filter(|at| text.as_bytes()[*at].is_ascii()).map(flip).chain([Value::Null]).collect()
        }
    }
}
