//! The port `Registrar`: where segments, entries and their CIDs become rows that governance queries run on.
//!
//! Not the rows themselves (`core::rows` makes them) and not the outbox that decides when to register (the sidecar).
//! Two implementations ship: `sqlite`, embedded and the default, and `snowflake`, over its SQL API.
//! Contract: the registry schema, version 1, in `registry/sql`.

use std::ops::ControlFlow;

use uuid::Uuid;

use crate::core::cid::Cid;
use crate::core::hash::Hash;
use crate::core::origin::Origin;
use crate::core::rows::{
    AnchorRow, ContestedRow, EntryRow, FoundRows, GapRow, KeyRow, LogRow, PinRow, QuarantinedRow, Row, SegmentRow,
    SegmentRows, SourceRow, Table, Value,
};
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;

pub mod query;
pub mod snowflake;
mod sql;
pub mod sqlite;

pub use query::{Filter, Query, WRONG_DUPLICATES};

/// The version of the schema this program writes and reads.
pub const SCHEMA_VERSION: i64 = 1;

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It does not know us: key, user, role or clock. Nothing was written; an operator has to act.
    #[error("registry {registry}: {doing}: not permitted: {what}")]
    Auth {
        /// The registry's name in the configuration.
        registry: String,
        /// What was being done.
        doing: String,
        /// What it answered.
        what: String,
    },
    /// It could not be reached, was busy, or answered in a way that says nothing. It may have done what was asked:
    /// ask again with the same request id.
    #[error("registry {registry}: {doing}: {what}")]
    Retry {
        /// The registry's name in the configuration.
        registry: String,
        /// What was being done.
        doing: String,
        /// What happened.
        what: String,
    },
    /// It understood and refused: a missing table, no warehouse, a full disk.
    #[error("registry {registry}: {doing}: refused ({code}): {what}")]
    Refused {
        /// The registry's name in the configuration.
        registry: String,
        /// What was being done.
        doing: String,
        /// Its own code for it.
        code: String,
        /// What it answered.
        what: String,
    },
    /// Its tables are of another version, or not there.
    #[error("registry {registry}: schema version {found}, expected {SCHEMA_VERSION}")]
    Schema {
        /// The registry's name in the configuration.
        registry: String,
        /// The version found, or `none`.
        found: String,
    },
    /// It has another fact under a key of ours.
    #[error("registry {registry}: {table} {key}: {column}: expected {expected}, found {found}")]
    Differs {
        /// The registry's name in the configuration.
        registry: String,
        /// The table.
        table: &'static str,
        /// The key of the row.
        key: String,
        /// The first column that differs.
        column: &'static str,
        /// What we were to write.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Its fence names a head that is not of our tree: somebody else writes this log, or we were rolled back.
    #[error("registry {registry}: {origin}: fork at size {size}: expected root {expected}, found {found}")]
    Fork {
        /// The registry's name in the configuration.
        registry: String,
        /// The log.
        origin: String,
        /// The size both heads are of.
        size: Size,
        /// Our root at that size.
        expected: Hash,
        /// The root it has.
        found: Hash,
    },
    /// The question cannot be asked like this.
    #[error("query {query}: {what}")]
    Usage {
        /// The query's name.
        query: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl RegistryError {
    /// Whether our own state is in doubt, so that the loop stops until a person decides. Everything else is theirs: it
    /// is tried again, and seen.
    pub fn is_halt(&self) -> bool {
        matches!(self, RegistryError::Differs { .. } | RegistryError::Fork { .. })
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            RegistryError::Auth { .. } => "check the user's public key, role and grants there, and the clock here",
            RegistryError::Retry { .. } => "it is tried again; pinfold doctor says whether the registry answers",
            RegistryError::Refused { .. } => "see what it answered; pinfold registry init makes missing tables",
            RegistryError::Schema { .. } => "run pinfold registry init, or apply the DDL of docs/registry.md",
            RegistryError::Differs { .. } => {
                "run pinfold verify --registry; pinfold registry rebuild writes the rows anew"
            }
            RegistryError::Fork { .. } => {
                "another writer has this log, or it was rolled back: run pinfold verify --registry"
            }
            RegistryError::Usage { .. } => "run pinfold query without a name for the list of questions",
        }
    }
}

/// A head a registry has seen: the fence of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    /// The size of the released checkpoint.
    pub size: Size,
    /// Its root.
    pub root: Hash,
}

/// That a registry holds what it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The registry's own word for it, public: the `receipt` of a kind 7 entry.
    pub text: String,
}

/// A place rows are registered at.
///
/// Every call blocks, on disk or network: call it from a thread that may (`spawn_blocking`), never from an async task.
/// On `Ok` the rows are durable there and were read back. Every call may be repeated, with the same request id after a
/// failure or a crash, and adds nothing twice. Several may run at once, but of one log one writer at a time.
pub trait Registrar: Send + Sync {
    /// Its name in the configuration, the `registrar` of kind 7 entries.
    fn name(&self) -> &str;

    /// Makes the tables and views that are missing, or, where the operator applies the DDL, checks that they are there.
    ///
    /// # Errors
    /// `Schema` where they are of another version or missing and not ours to make.
    fn init(&self) -> Result<(), RegistryError>;

    /// Asks whether the tables are there and of our version. Makes nothing.
    ///
    /// # Errors
    /// `Schema` where they are not; `Retry`, `Refused` or `Auth`.
    fn check(&self) -> Result<(), RegistryError>;

    /// Begins a segment: writes its own row, whose times must both be known. Then come its entries in windows, as many
    /// as the caller likes, and `end_segment`; until that is `Ok` the receipt says nothing. `request` was stored before,
    /// so that a repetition after a crash, which begins with the first window again, carries it again.
    ///
    /// # Errors
    /// `Differs` where the row, or an entry of its range, is there of another segment: the segment's own row is written
    /// all the same, so that both halves of a fork are seen, and nothing else is, so that they do not mix.
    fn begin_segment(&self, segment: &SegmentRow, request: Uuid) -> Result<Receipt, RegistryError>;

    /// Writes entries of a segment that was begun, in order of their seqs: those that are missing.
    ///
    /// # Errors
    /// `Differs` where one is there with other content.
    fn register_entries(&self, entries: &[EntryRow], request: Uuid) -> Result<(), RegistryError>;

    /// Ends a segment: writes all its other rows, those that are missing. Its entries were written before.
    ///
    /// # Errors
    /// As `register_entries`.
    fn end_segment(&self, rows: &SegmentRows, request: Uuid) -> Result<(), RegistryError>;

    /// Writes all rows of a segment that is held whole.
    ///
    /// # Errors
    /// Those of the three steps.
    fn register(&self, rows: &SegmentRows, request: Uuid) -> Result<Receipt, RegistryError> {
        let receipt = self.begin_segment(&rows.segment, request)?;
        self.register_entries(&rows.entries, request)?;
        self.end_segment(rows, request)?;
        Ok(receipt)
    }

    /// Writes pins as they now stand.
    ///
    /// # Errors
    /// As `register_entries`.
    fn register_pins(&self, pins: &[PinRow], request: Uuid) -> Result<(), RegistryError>;

    /// Writes anchors as they now stand.
    ///
    /// # Errors
    /// As `register_entries`.
    fn register_anchors(&self, anchors: &[AnchorRow], request: Uuid) -> Result<(), RegistryError>;

    /// Writes the log's heartbeat.
    ///
    /// # Errors
    /// `Retry`, `Refused` or `Auth`.
    fn heartbeat(&self, log: &LogRow, request: Uuid) -> Result<(), RegistryError>;

    /// Drops every row of the log, whoever wrote it; the fence stays, because what was shown was shown. Rows of other
    /// logs are not touched.
    ///
    /// # Errors
    /// `Retry`, `Refused` or `Auth`: some rows may be gone then.
    fn forget(&self, origin: &Origin, request: Uuid) -> Result<(), RegistryError>;

    /// The log's fence: the last head registered, which must be a prefix of ours. None for a log it does not know.
    ///
    /// # Errors
    /// `Differs` where it names two.
    fn head(&self, origin: &Origin) -> Result<Option<Fence>, RegistryError>;

    /// Moves the fence from `from` to `to` if it is at `from` (none: not there yet), and answers with where it then is:
    /// `to`, or another one, which the caller checks against its own tree. Call it after `end_segment`.
    ///
    /// # Errors
    /// `Fork` where it is at the size of `from` or `to` with another root.
    fn advance(
        &self,
        origin: &Origin,
        from: Option<Fence>,
        to: Fence,
        at: Timestamp,
        request: Uuid,
    ) -> Result<Fence, RegistryError>;

    /// Streams the answer, a row at a time, cells in the order of `query.columns`, until `each` breaks off or `limit`
    /// rows were given. Reads what is committed; needs no write access.
    ///
    /// # Errors
    /// `Retry`, `Refused` or `Auth`.
    fn query(
        &self,
        query: &Query,
        filters: &[Filter],
        limit: Option<u64>,
        each: &mut dyn FnMut(&[Value]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError>;

    /// The rows of a table that pass the filters, for an audit. The caller's filters keep them few.
    ///
    /// # Errors
    /// As `query`.
    fn rows(&self, table: &Table, filters: &[Filter]) -> Result<Vec<Vec<Value>>, RegistryError> {
        let mut rows = Vec::new();
        self.query(&Query::of_table(table), filters, None, &mut |row| {
            rows.push(row.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// All rows it holds of one segment, for an audit: by CID where a table names it, else by the range of entries.
    ///
    /// # Errors
    /// As `query`.
    fn rows_of(&self, origin: &Origin, seal: &Cid, first: Seq, last: Seq) -> Result<FoundRows, RegistryError> {
        let of_seal = [Filter::equal("seal_cid", text(&seal.to_string()))];
        let of_log = [Filter::equal("origin", text(origin.as_str()))];
        let seq = |value: Seq| Value::Int(i64::try_from(value.0).unwrap_or(i64::MAX));
        let [log] = of_log.clone();
        let of_range = [log, Filter::at_least("seq", seq(first)), Filter::at_most("seq", seq(last))];
        let mut found = FoundRows::default();
        for (table, filters) in [
            (SegmentRow::TABLE, &of_seal[..]),
            (SourceRow::TABLE, &of_seal),
            (PinRow::TABLE, &of_seal),
            (AnchorRow::TABLE, &of_seal),
            (EntryRow::TABLE, &of_range),
            (GapRow::TABLE, &of_range),
            (ContestedRow::TABLE, &of_range),
            (QuarantinedRow::TABLE, &of_range),
            (KeyRow::TABLE, &of_log),
        ] {
            let rows = self.rows(&table, filters)?;
            found.tables.insert(table.name, rows);
        }
        Ok(found)
    }

    /// The segments it holds of a log: number and seal, by number. Two of one number are a fork.
    ///
    /// # Errors
    /// As `query`.
    fn seals(&self, origin: &Origin) -> Result<Vec<(u64, String)>, RegistryError> {
        let mut seals = Vec::new();
        let filters = [Filter::equal("origin", text(origin.as_str()))];
        self.query(&query::SEALS, &filters, None, &mut |row| {
            if let [Value::Int(number), Value::Text(seal)] = row {
                seals.push((u64::try_from(*number).unwrap_or(u64::MAX), seal.to_string()));
            }
            ControlFlow::Continue(())
        })?;
        Ok(seals)
    }
}

/// The tables with rows of a log. Entries come before their segments: what is half gone shows as missing.
const TABLES: [&str; 10] = [
    EntryRow::TABLE.name,
    SourceRow::TABLE.name,
    GapRow::TABLE.name,
    ContestedRow::TABLE.name,
    QuarantinedRow::TABLE.name,
    KeyRow::TABLE.name,
    PinRow::TABLE.name,
    AnchorRow::TABLE.name,
    LogRow::TABLE.name,
    SegmentRow::TABLE.name,
];

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// What a fence found at `found` means to someone who moved it from `from` to `to`.
///
/// # Errors
/// `Fork` where one size has two roots.
fn judge(
    registry: &str,
    origin: &Origin,
    from: Option<Fence>,
    to: Fence,
    found: Fence,
) -> Result<Fence, RegistryError> {
    let ours = [Some(to), from].into_iter().flatten().find(|ours| ours.size == found.size);
    match ours {
        Some(ours) if ours.root != found.root => Err(RegistryError::Fork {
            registry: registry.to_owned(),
            origin: origin.to_string(),
            size: found.size,
            expected: ours.root,
            found: found.root,
        }),
        _ => Ok(found),
    }
}

/// A fence as read.
///
/// # Errors
/// `Differs` where its cells are no size and root: nobody but a registrar writes them.
fn fence_of(registry: &str, origin: &Origin, size: i64, root: &str) -> Result<Fence, RegistryError> {
    match (u64::try_from(size), root.parse()) {
        (Ok(size), Ok(root)) => Ok(Fence { size: Size(size), root }),
        _ => Err(RegistryError::Differs {
            registry: registry.to_owned(),
            table: "registration_hwm",
            key: format!("origin={origin}"),
            column: "root",
            expected: "a size and a root".to_owned(),
            found: format!("{size} {root}"),
        }),
    }
}
