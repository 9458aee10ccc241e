//! Whether a registry says of every record of a feed what it must: once, in order, as what it is.
//!
//! The one checker of the campaigns. It reads `v_provenance` and `quarantined` as any program would, and it is shown to
//! see a lost, doubled, displaced and changed row before its word counts.

use std::collections::BTreeMap;
use std::path::Path;

use crate::peer::feed::{Expected, Feed, Place};

/// A record as the registry has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) said: Expected,
}

/// The records of a registry from an entry on, in the order of the log.
pub(crate) fn rows(registry: &Path, from: u64) -> Vec<Row> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(registry, flags).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    let select = "SELECT p.seq, p.topic, p.partition_no, p.record_offset, p.event_id, q.reason FROM v_provenance p \
                  LEFT JOIN quarantined q ON q.origin = p.origin AND q.seq = p.seq \
                  WHERE p.record_offset IS NOT NULL AND p.seq >= ?1 ORDER BY p.seq";
    let mut statement = connection.prepare(select).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        let said = match row.get::<_, Option<String>>(5)? {
            Some(reason) => Expected::Quarantined(known(&reason)),
            None => Expected::Event(row.get::<_, Option<String>>(4)?.unwrap_or_default()),
        };
        Ok(Row { seq: row.get(0)?, place: (row.get(1)?, row.get(2)?), offset: row.get(3)?, said })
    };
    statement.query_map([from], row).unwrap().map(Result::unwrap).collect()
}

fn known(reason: &str) -> &'static str {
    ["undecodable", "unknown type"].into_iter().find(|known| *known == reason).unwrap_or("another reason")
}

/// How far a registry was looked through.
#[derive(Default)]
pub(crate) struct Looked {
    /// The entry after the last row.
    pub(crate) next_seq: u64,
    next: BTreeMap<Place, u64>,
}

impl Looked {
    /// What is wrong with the next rows: of every partition they go on with the next record, once and in order.
    pub(crate) fn faults(&mut self, feed: &Feed, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        for row in rows {
            let Row { seq, place, offset, said } = row;
            if *seq < self.next_seq {
                faults.push(format!("entry {seq}: twice"));
            }
            self.next_seq = seq + 1;
            let expected = self.next.entry(place.clone()).or_insert(0);
            if offset != expected {
                faults.push(format!("entry {seq}: {place:?} offset {offset}, expected {expected}"));
            }
            *expected = offset + 1;
            if *said != feed.record(place, *offset).expected {
                faults.push(format!("entry {seq}: {place:?} offset {offset} is {said:?}"));
            }
        }
        faults
    }
}

/// What is wrong with all rows, where `held` is what each partition holds.
fn faults(feed: &Feed, rows: &[Row], held: &BTreeMap<Place, u64>) -> Vec<String> {
    let mut looked = Looked::default();
    let mut faults = looked.faults(feed, rows);
    for (place, count) in held {
        let found = looked.next.get(place).copied().unwrap_or(0);
        if found != *count {
            faults.push(format!("{place:?}: {count} records, {found} entries"));
        }
    }
    faults
}

/// Asserts that the registry holds the whole feed, with a checker that is first shown to see what it must see.
pub(crate) fn check_whole(feed: &Feed, registry: &Path) -> usize {
    let (rows, held) = (rows(registry, 0), feed.held());
    assert_eq!(faults(feed, &rows, &held), Vec::<String>::new());
    prove(feed, &rows, &held);
    rows.len()
}

/// Plants each fault into sound rows.
fn prove(feed: &Feed, rows: &[Row], held: &BTreeMap<Place, u64>) {
    let middle = rows.len() / 2;
    let planted = |what: &str, plant: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = rows.to_vec();
        plant(&mut rows);
        assert!(!faults(feed, &rows, held).is_empty(), "the checker does not see: {what}");
    };
    planted("a lost record", &|rows| drop(rows.remove(middle)));
    planted("the last record lost", &|rows| drop(rows.pop()));
    planted("a doubled row", &|rows| rows.insert(middle, rows[middle].clone()));
    planted("a record folded twice", &|rows| {
        let again = Row { seq: rows[rows.len() - 1].seq + 1, ..rows[middle].clone() };
        rows.push(again);
    });
    planted("two records in the wrong order", &|rows| {
        let other = rows.iter().rposition(|row| row.place == rows[middle].place && row.seq != rows[middle].seq);
        let other = other.expect("a partition of two records");
        let (a, b) = (rows[middle].offset, rows[other].offset);
        (rows[middle].offset, rows[other].offset) = (b, a);
    });
    planted("another event", &|rows| rows[middle].said = Expected::Event("another".to_owned()));
    planted("an event that became a quarantined record", &|rows| {
        let event = rows.iter().position(|row| matches!(row.said, Expected::Event(_))).expect("an event");
        rows[event].said = Expected::Quarantined("undecodable");
    });
}
