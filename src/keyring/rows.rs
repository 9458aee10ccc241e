//! Sorted rows of one width: what a shard holds, on disk and in memory.
//!
//! A table is an array of rows, each a key and a value of fixed lengths, sorted by key, no key twice. The file holds the
//! array as it is; memory searches it in place, so that a million people cost little more than their bytes. New rows
//! gather, as they come, in a small second array that is merged now and then. Every buffer is wiped before it is freed, and none is
//! ever grown in place, which would leave a copy behind.

use std::cmp::Ordering;

use zeroize::{Zeroize, Zeroizing};

/// A table of the shard format. The discriminant is its number in files; numbers are never used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Table {
    /// tag 16 -> subject_ref 16. Who an identifier names; dies with the person.
    Lookups = 1,
    /// subject_ref 16, tag 16 -> nothing. A person's look-ups, so that erasure finds them all.
    Tags = 2,
    /// subject_ref 16, class be32 -> key 32.
    Keys = 3,
    /// subject_ref 16 -> count be64, seq be64: records counted, and the place of the last.
    Counts = 4,
    /// tag 16, class be32 -> erased_at be64, keep_until be64 (microseconds). Reserved for erasure.
    Tombstones = 5,
    /// address 16, hold 16 -> log be32, seq be64, part be32, alg u8, frame key 32. Reserved for holds.
    Held = 6,
    /// log be32, class be32, epoch be64 -> key 32. Shard 0 only.
    EpochKeys = 7,
    /// class be32 -> SHA-256 of its name. Shard 0 only.
    Classes = 8,
    /// log be32 -> SHA-256 of its origin. Shard 0 only.
    Logs = 9,
    /// 1 or 2, be32 -> secret 32: the pepper of look-ups, the pepper of tombstones. Shard 0 only.
    Peppers = 10,
}

/// Every table, in file order.
pub(super) const TABLES: [Table; 10] = [
    Table::Lookups,
    Table::Tags,
    Table::Keys,
    Table::Counts,
    Table::Tombstones,
    Table::Held,
    Table::EpochKeys,
    Table::Classes,
    Table::Logs,
    Table::Peppers,
];

impl Table {
    /// The table of this number.
    pub(super) fn of(number: u8) -> Option<Table> {
        TABLES.into_iter().find(|table| *table as u8 == number)
    }

    /// Its place in `TABLES`.
    pub(super) fn index(self) -> usize {
        usize::from(self as u8) - 1
    }

    /// Bytes of a key, and of a whole row.
    pub(super) const fn widths(self) -> (usize, usize) {
        match self {
            Table::Lookups => (16, 32),
            Table::Tags => (32, 32),
            Table::Keys => (20, 52),
            Table::Counts => (16, 32),
            Table::Tombstones => (20, 36),
            Table::Held => (32, 81),
            Table::EpochKeys => (16, 48),
            Table::Classes | Table::Logs | Table::Peppers => (4, 36),
        }
    }

    /// Whether its rows stand in shard 0; all others stand where the first 16 bytes of their key say.
    pub(super) fn is_of_root(self) -> bool {
        matches!(self, Table::EpochKeys | Table::Classes | Table::Logs | Table::Peppers)
    }

    /// Whether a row of it counts against the limit of a shard.
    pub(super) fn is_weighed(self) -> bool {
        matches!(self, Table::Lookups | Table::Keys | Table::Tombstones | Table::Held)
    }
}

/// Rows gathered before they are merged: few enough to look through, many enough to pay for a merge.
const FRESH_ROWS: usize = 32;

/// One table's rows.
pub(super) struct Rows {
    key: usize,
    width: usize,
    sorted: Zeroizing<Vec<u8>>,
    /// The leads of the first and the last of `sorted`.
    span: (u64, u64),
    /// As they came.
    fresh: Zeroizing<Vec<u8>>,
    /// The leads of `fresh`, to look through in one go.
    leads: Zeroizing<Vec<u64>>,
}

impl Rows {
    pub(super) fn new(table: Table) -> Rows {
        let (key, width) = table.widths();
        let (sorted, fresh, leads) = (Zeroizing::default(), Zeroizing::default(), Zeroizing::default());
        Rows { key, width, sorted, span: (0, 0), fresh, leads }
    }

    /// Rows as a file holds them, or `None` if they are not whole, sorted and distinct.
    pub(super) fn read(table: Table, bytes: &[u8]) -> Option<Rows> {
        let mut rows = Rows::new(table);
        if !bytes.len().is_multiple_of(rows.width) {
            return None;
        }
        let mut before: Option<&[u8]> = None;
        for row in bytes.chunks_exact(rows.width) {
            let key = row.get(..rows.key)?;
            if before.is_some_and(|before| before >= key) {
                return None;
            }
            before = Some(key);
        }
        rows.set_sorted(Zeroizing::new(bytes.to_vec()));
        Some(rows)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sorted.is_empty() && self.fresh.is_empty()
    }

    /// Bytes held in memory.
    pub(super) fn bytes(&self) -> usize {
        self.sorted.capacity() + self.fresh.capacity()
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        if let Some(at) = self.find_fresh(key) {
            return self.fresh.get(at + self.key..at + self.width);
        }
        let at = self.find_sorted(key)?;
        self.sorted.get(at + self.key..at + self.width)
    }

    /// Sets the value of `key`; whether the key is new.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> bool {
        assert!(key.len() == self.key && key.len() + value.len() == self.width, "a row has its table's width");
        if let Some(at) = self.find_fresh(key) {
            overwrite(&mut self.fresh, at + self.key, value);
            return false;
        }
        if let Some(at) = self.find_sorted(key) {
            overwrite(&mut self.sorted, at + self.key, value);
            return false;
        }
        if self.fresh.capacity() == 0 {
            self.fresh = Zeroizing::new(Vec::with_capacity(FRESH_ROWS * self.width));
            self.leads = Zeroizing::new(Vec::with_capacity(FRESH_ROWS));
        }
        self.fresh.extend_from_slice(key);
        self.fresh.extend_from_slice(value);
        self.leads.push(lead(key));
        if self.leads.len() == FRESH_ROWS {
            self.settle();
        }
        true
    }

    /// Where in `fresh` the row of `key` starts.
    fn find_fresh(&self, key: &[u8]) -> Option<usize> {
        let wanted = lead(key);
        let candidates = self.leads.iter().enumerate().filter(|(_, lead)| **lead == wanted);
        let mut starts = candidates.map(|(index, _)| index * self.width);
        starts.find(|at| self.fresh.get(*at..at + self.key) == Some(key))
    }

    /// Where in `sorted` the row of `key` starts.
    fn find_sorted(&self, key: &[u8]) -> Option<usize> {
        search(&self.sorted, self.width, self.span, key)
    }

    fn set_sorted(&mut self, sorted: Zeroizing<Vec<u8>>) {
        let lead_at = |at: usize| sorted.get(at..at + self.key).map_or(0, lead);
        self.span = (lead_at(0), lead_at(sorted.len().saturating_sub(self.width)));
        self.sorted = sorted;
    }

    /// Merges the fresh rows, so that `as_bytes` is all there is.
    pub(super) fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut rows: Vec<&[u8]> = self.fresh.chunks_exact(self.width).collect();
        rows.sort_unstable();
        let fresh = Zeroizing::new(rows.concat());
        self.set_sorted(merged(&self.sorted, &fresh, self.key, self.width));
        self.fresh.as_mut_slice().zeroize();
        self.fresh.clear();
        self.leads.as_mut_slice().zeroize();
        self.leads.clear();
    }

    /// Adds the rows of `newer`, which win where both have a key.
    pub(super) fn absorb(&mut self, newer: &mut Rows) {
        self.settle();
        newer.settle();
        if !newer.is_empty() {
            self.set_sorted(merged(&self.sorted, &newer.sorted, self.key, self.width));
        }
    }

    /// All rows. Call `settle` first.
    pub(super) fn as_bytes(&self) -> &[u8] {
        debug_assert!(self.fresh.is_empty());
        &self.sorted
    }

    /// All rows, one at a time, the fresh ones last.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.sorted.chunks_exact(self.width).chain(self.fresh.chunks_exact(self.width))
    }

    /// Only the rows that `keep` accepts.
    pub(super) fn filtered(&self, table: Table, mut keep: impl FnMut(&[u8]) -> bool) -> Rows {
        let mut kept = Zeroizing::new(Vec::with_capacity(self.sorted.len()));
        for row in self.as_bytes().chunks_exact(self.width).filter(|row| keep(row)) {
            kept.extend_from_slice(row);
        }
        let mut rows = Rows::new(table);
        rows.set_sorted(kept);
        rows
    }
}

/// Where in `rows` the row of `key` starts. `span`: the leads of the first row and the last.
///
/// Keys are random, so where a key lies between the first and the last says where its row is within a few: two guesses,
/// steps outward from there, then halving. Halving alone would wait for memory at every step.
fn search(rows: &[u8], width: usize, span: (u64, u64), key: &[u8]) -> Option<usize> {
    let row = |index: usize| rows.get(index * width..index * width + key.len()).unwrap_or_default();
    let wanted = lead(key);
    let compare = |index: usize| lead(row(index)).cmp(&wanted).then_with(|| row(index).cmp(key));
    let (mut low, mut high) = (0, rows.len() / width);
    // All rows before `low` are less than the key, none from `high` on is the key.
    if high > FRESH_ROWS {
        let at = guess(wanted, high - 1, span, |index| lead(row(index)));
        let mut step = 2;
        if compare(at).is_lt() {
            low = at + 1;
            while low + step < high {
                let probe = low + step;
                if compare(probe).is_lt() {
                    (low, step) = (probe + 1, 2 * step);
                } else {
                    high = probe + 1;
                    break;
                }
            }
        } else {
            high = at + 1;
            while low + step < high {
                let probe = high - 1 - step;
                if compare(probe).is_lt() {
                    low = probe + 1;
                    break;
                }
                (high, step) = (probe + 1, 2 * step);
            }
        }
    }
    while low < high {
        let middle = low.midpoint(high);
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle * width),
        }
    }
    None
}

/// The index, at most `last`, where a key that starts with `wanted` should be if keys are spread evenly over `span`.
fn guess(wanted: u64, last: usize, (least, most): (u64, u64), lead_of: impl Fn(usize) -> u64) -> usize {
    let rows = |distance: u64| {
        let rows = u128::from(distance) * last as u128 / u128::from(most - least).max(1);
        usize::try_from(rows).unwrap_or(last)
    };
    let first = rows(wanted.clamp(least, most) - least).min(last);
    let found = lead_of(first);
    if found < wanted { (first + rows(wanted - found)).min(last) } else { first.saturating_sub(rows(found - wanted)) }
}

/// The first 8 bytes as a number that orders like them.
fn lead(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |lead| u64::from_be_bytes(*lead))
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}

/// Both arrays as one; `newer` wins where both have a key.
fn merged(older: &[u8], newer: &[u8], key: usize, width: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(older.len() + newer.len()));
    let (mut left, mut right) = (older.chunks_exact(width).peekable(), newer.chunks_exact(width).peekable());
    loop {
        let from_left = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => match a.get(..key).cmp(&b.get(..key)) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => {
                    left.next();
                    false
                }
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        let row = if from_left { left.next() } else { right.next() };
        out.extend_from_slice(row.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_a_sorted_map_and_survive_the_file(puts in prop::collection::vec((0u16..300, any::<u128>()), 0..400), newer in 0usize..400) {
            let key = |n: u16| u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
            let (mut rows, mut late, mut model) = (Rows::new(Table::Counts), Rows::new(Table::Counts), BTreeMap::new());
            for (i, (n, value)) in puts.iter().enumerate() {
                let into = if i < newer { &mut rows } else { &mut late };
                into.put(&key(*n), &value.to_be_bytes());
                model.insert(key(*n), value.to_be_bytes());
            }
            rows.absorb(&mut late);
            for n in 0..300 {
                prop_assert_eq!(rows.get(&key(n)), model.get(&key(n)).map(|v| v.as_slice()));
            }
            let expected: Vec<u8> = model.iter().flat_map(|(k, v)| [*k, *v].concat()).collect();
            prop_assert_eq!(rows.as_bytes(), &expected);
            prop_assert_eq!(rows.iter().count(), model.len());
            prop_assert_eq!(Rows::read(Table::Counts, &expected).map(|rows| rows.iter().count()), Some(model.len()));
        }
    }

    #[test]
    fn rows_that_are_cut_unsorted_or_double_are_refused() {
        let rows = [[1u8; 32], [2; 32]].concat();
        assert!(Rows::read(Table::Lookups, &rows).is_some());
        assert!(Rows::read(Table::Lookups, &rows[..63]).is_none());
        assert!(Rows::read(Table::Lookups, &[[2u8; 32], [1; 32]].concat()).is_none());
        assert!(Rows::read(Table::Lookups, &[[1u8; 32], [1; 32]].concat()).is_none());
    }

    #[test]
    fn table_numbers_and_widths_are_those_of_the_format() {
        for (index, table) in TABLES.into_iter().enumerate() {
            assert_eq!((table.index(), Table::of(table as u8)), (index, Some(table)));
        }
        assert_eq!(Table::of(0), None);
        assert_eq!(Table::of(11), None);
    }
}
