//! What a registry holds of a segment: the rows, and how two sides of a row compare.
//!
//! Rows are a function of the log (its seals, leaves and opened parts), so a registrar writes them and an audit makes
//! them again and compares. Not SQL: the text and its dialects are `registry`. The contract is the registry schema,
//! version 1; a field here is a column there, in the same order and of the same name.

use std::fmt;
use std::sync::Arc;

use super::time::Timestamp;

mod anchors;
mod compare;
mod fold;
mod opened;
mod pins;
#[cfg(test)]
pub(crate) mod sample;
mod table;

pub use anchors::anchor_rows;
pub use compare::{Difference, FoundRows, compare, compare_anchors, compare_keys, compare_pins, compare_rows, extra};
pub use fold::{Fold, FoldError, Sealed};
pub use opened::Wanted;
pub use pins::pin_row;
pub use table::{
    AnchorRow, ContestedRow, EntryRow, GapRow, KeyRow, LogRow, PinRow, QuarantinedRow, SegmentRow, SourceRow,
};

/// One cell.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A BIGINT; every number of the format fits.
    Int(i64),
    /// A VARCHAR: hashes in hex, CIDs in base32.
    Text(Arc<str>),
    /// A TIMESTAMP: UTC, microseconds.
    Time(Timestamp),
}

impl fmt::Display for Value {
    /// The text people and CSV files see; NULL is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Int(n) => n.fmt(f),
            Value::Text(text) => f.write_str(text),
            Value::Time(at) => at.fmt(f),
        }
    }
}

/// The type of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `BIGINT`.
    Int,
    /// `VARCHAR`.
    Text,
    /// `TIMESTAMP`, UTC, microseconds.
    Time,
}

/// What writing a row again does to a column of the row that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Part of the primary key.
    Key,
    /// Never changes: another value is another fact under the same key, and nothing is written.
    Fixed,
    /// Stays as first written. Either `leaf_hash` or `seal_cid` beside it already commits to it, or an erasure may
    /// have emptied it since.
    Kept,
    /// Takes the new value: the latest statement of the log holds.
    Moves,
    /// Takes a value once the log states one, and is never emptied by an older row.
    Fills,
}

/// A column of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What writing it again does.
    pub role: Role,
}

/// A table of the registry as the registrar writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its columns, in the order of the schema.
    pub columns: &'static [Column],
}

impl Table {
    /// The columns of one role.
    pub fn columns_of(&self, role: Role) -> impl Iterator<Item = &'static Column> + use<> {
        self.columns.iter().filter(move |column| column.role == role)
    }
}

/// A row of a table.
pub trait Row {
    /// The table it belongs to.
    const TABLE: Table;

    /// The cells, one for each column of `TABLE`, in its order.
    fn values(&self) -> Vec<Value>;

    /// Whether the caller could establish this column. What it could not is compared with nothing.
    fn knows(&self, column: &Column) -> bool {
        let _ = column;
        true
    }
}

/// Everything a registry gets for one segment, except its pins, which come when they are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentRows {
    /// The segment itself.
    pub segment: SegmentRow,
    /// The offsets it covers, a row for each partition that moved.
    pub sources: Vec<SourceRow>,
    /// Its entries, by seq.
    pub entries: Vec<EntryRow>,
    /// The gaps it declares.
    pub gaps: Vec<GapRow>,
    /// The ranges it says another member folded too.
    pub contested: Vec<ContestedRow>,
    /// Its quarantined records.
    pub quarantined: Vec<QuarantinedRow>,
    /// The signing keys it introduces, and those it ends as they now stand.
    pub keys: Vec<KeyRow>,
    /// The pins of this and earlier segments that its entries state, as they now stand.
    pub pins: Vec<PinRow>,
    /// The anchors of earlier segments that its entries state, each as its file now stands. The fold leaves them out,
    /// because entries name the file and do not repeat it: whoever has the archive fills them in.
    pub anchors: Vec<AnchorRow>,
    /// The segments whose anchors its entries state.
    pub anchored: Vec<u64>,
}
