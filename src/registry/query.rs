//! The questions a registry answers: every view and table by name, and `provenance`.
//!
//! Not free SQL: a question is a `SELECT` of named columns, narrowed by equality on any of them, so it means the same
//! on every engine, and no text of a user ever becomes SQL. Answers are typed here, because engines disagree on what a
//! TIMESTAMP looks like.

use std::borrow::Cow;

use super::RegistryError;
use crate::core::rows::{
    AnchorRow, ContestedRow, EntryRow, GapRow, KeyRow, Kind, LogRow, PinRow, QuarantinedRow, Row, SegmentRow,
    SourceRow, Table, Value,
};
use crate::core::time::Timestamp;

/// A question by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// Its name for `pinfold query`.
    pub name: &'static str,
    /// One line on what it answers.
    pub about: &'static str,
    /// The columns of the answer, in order, with their types. Each can narrow the question.
    pub columns: Cow<'static, [(&'static str, Kind)]>,
    /// The view or table.
    from: &'static str,
    /// What orders the answer.
    order_by: &'static str,
}

/// A narrowing of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// A column of the question.
    pub column: &'static str,
    /// How it compares.
    pub how: How,
    /// With what.
    pub value: Value,
}

/// How a column compares with the value of a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The same.
    Equal,
    /// The same or more.
    AtLeast,
    /// The same or less.
    AtMost,
}

impl Filter {
    /// `column = value`
    pub fn equal(column: &'static str, value: Value) -> Filter {
        Filter { column, how: How::Equal, value }
    }

    /// `column >= value`
    pub fn at_least(column: &'static str, value: Value) -> Filter {
        Filter { column, how: How::AtLeast, value }
    }

    /// `column <= value`
    pub fn at_most(column: &'static str, value: Value) -> Filter {
        Filter { column, how: How::AtMost, value }
    }
}

impl Query {
    /// Every question, in the order they are listed.
    pub fn all() -> Vec<Query> {
        let tables = TABLES.iter().map(|(table, about)| Query { about, ..Query::of_table(table) });
        VIEWS.iter().cloned().chain(tables).collect()
    }

    /// The question of this name.
    ///
    /// # Errors
    /// `Usage` where there is none.
    pub fn named(name: &str) -> Result<Query, RegistryError> {
        Query::all().into_iter().find(|query| query.name == name).ok_or_else(|| RegistryError::Usage {
            query: name.to_owned(),
            what: "no such question; without a name they are listed".to_owned(),
        })
    }

    /// The rows of a table, all its columns.
    pub fn of_table(table: &Table) -> Query {
        let columns = table.columns.iter().map(|column| (column.name, column.kind)).collect();
        Query { name: table.name, about: "", columns: Cow::Owned(columns), from: table.name, order_by: "1, 2" }
    }

    /// Makes filters of `--param` pairs, column and text.
    ///
    /// # Errors
    /// `Usage` for a column the answer does not have, or a text that is not of its type.
    pub fn filters<'a>(
        &self,
        params: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<Filter>, RegistryError> {
        params.into_iter().map(|(name, text)| self.filter(name, text)).collect()
    }

    fn filter(&self, name: &str, text: &str) -> Result<Filter, RegistryError> {
        let usage = |what: String| RegistryError::Usage { query: self.name.to_owned(), what };
        let Some((column, kind)) = self.columns.iter().find(|(column, _)| *column == name) else {
            let columns = self.columns.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ");
            return Err(usage(format!("no parameter {name}: it takes {columns}")));
        };
        let value = match kind {
            Kind::Text => Some(Value::Text(text.into())),
            Kind::Int => text.parse().ok().map(Value::Int),
            Kind::Time => Timestamp::parse_rfc3339(text).map(Value::Time),
        };
        let expected = if *kind == Kind::Int { "a whole number" } else { "an RFC 3339 time with a zone" };
        Ok(Filter::equal(column, value.ok_or_else(|| usage(format!("parameter {name}: not {expected}")))?))
    }

    /// The view or table that answers.
    #[cfg(test)]
    pub(super) fn from(&self) -> &'static str {
        self.from
    }

    /// The SELECT, with `placeholder(kind)` for each filter in turn.
    pub(super) fn select(
        &self,
        filters: &[Filter],
        limit: Option<u64>,
        mut placeholder: impl FnMut(&Value) -> String,
    ) -> String {
        let columns = self.columns.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ");
        let mut sql = format!("SELECT {columns} FROM {}", self.from);
        for (at, filter) in filters.iter().enumerate() {
            let word = if at == 0 { "WHERE" } else { "AND" };
            let how = match filter.how {
                How::Equal => "=",
                How::AtLeast => ">=",
                How::AtMost => "<=",
            };
            sql.push_str(&format!(" {word} {} {how} {}", filter.column, placeholder(&filter.value)));
        }
        sql.push_str(&format!(" ORDER BY {}", self.order_by));
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        sql
    }
}

macro_rules! view {
    ($name:literal, $from:literal, $order_by:literal, $about:literal, $($column:ident $kind:ident),* $(,)?) => {
        Query {
            name: $name,
            about: $about,
            columns: Cow::Borrowed(&[$((stringify!($column), Kind::$kind)),*]),
            from: $from,
            order_by: $order_by,
        }
    };
}

/// Number and seal of each segment: what an audit asks first.
pub(super) static SEALS: Query = view!("seals", "segments", "segment_no, seal_cid", "", segment_no Int, seal_cid Text);

/// Entries whose `duplicate_of` is not the first entry of the log with the same event source and id: what it is, and
/// what it should be. For an audit that has compared those two columns with the log.
pub static WRONG_DUPLICATES: Query = view!(
    "duplicates",
    "(SELECT origin, seq, stated, expected FROM \
     (SELECT origin, seq, duplicate_of AS stated, CASE WHEN event_id IS NULL OR event_source IS NULL OR first_seq = seq \
      THEN NULL ELSE first_seq END AS expected FROM \
      (SELECT origin, seq, event_id, event_source, duplicate_of, \
       MIN(seq) OVER (PARTITION BY origin, event_source, event_id) AS first_seq FROM entries) e) d \
     WHERE COALESCE(stated, -1) <> COALESCE(expected, -1)) w",
    "origin, seq", "", origin Text, seq Int, stated Int, expected Int,
);

macro_rules! provenance {
    ($name:literal, $about:literal) => {
        view!(
            $name, "v_provenance", "origin, seq", $about,
            event_source Text, event_id Text, event_type Text, tenant Text, cluster_id Text, topic Text, topic_id Text,
            partition_no Int, record_offset Int, record_time Time, event_time Time, recorded_at Time, kind Text,
            duplicate_of Int, erased_by Text, origin Text, seq Int, leaf_hash Text, segment_no Int, seal_cid Text,
            payload_cid Text, root Text, key_id Text, sealed_at Time, registered_at Time, verified_copies Int,
            verified_at Time, anchors Int,
        )
    };
}

static VIEWS: [Query; 8] = [
    provenance!(
        "provenance",
        "where one event is: broker position, entry, segment, CID, pins (event_source=, event_id=)"
    ),
    provenance!("v_provenance", "every entry with its segment, its CID and how many verified copies there are"),
    view!(
        "v_missing_segments", "v_missing_segments", "origin, first_missing",
        "segments a log reported or must have, and the registry lacks: head, middle, tail",
        origin Text, first_missing Int, last_missing Int, place Text,
    ),
    view!(
        "v_broken_links", "v_broken_links", "origin, segment_no, seal_cid, reason",
        "segments that do not join the one before, forks, and ranges that do not add up",
        origin Text, segment_no Int, seal_cid Text, prev_seal_cid Text, reason Text,
    ),
    view!(
        "v_offset_gaps", "v_offset_gaps", "cluster_id, topic, topic_id, partition_no, first_offset",
        "broker offsets neither recorded nor declared as a gap, over all logs",
        cluster_id Text, topic Text, topic_id Text, partition_no Int, first_offset Int, last_offset Int, missing Int,
        place Text, origin Text, seal_cid Text,
    ),
    view!(
        "v_under_replicated", "v_under_replicated", "origin, segment_no",
        "segments with fewer verified copies than the log promises",
        origin Text, segment_no Int, seal_cid Text, payload_cid Text, copies_min Int, proof_copies Int,
        payload_copies Int, oldest_check_at Time,
    ),
    view!(
        "v_bad_keys", "v_bad_keys", "origin, segment_no, seal_cid",
        "segments signed by a key that was unknown, not yet valid or revoked",
        origin Text, segment_no Int, seal_cid Text, key_id Text, reason Text,
    ),
    view!("v_now", "v_now", "now_at", "the registry's own clock, UTC", now_at Time),
];

const TABLES: [(&Table, &str); 10] = [
    (&LogRow::TABLE, "one row a log: how far it is by its own word, and when to worry"),
    (&SegmentRow::TABLE, "one row a segment: CIDs, checkpoint, range, times"),
    (&SourceRow::TABLE, "the broker offsets each segment covers"),
    (&PinRow::TABLE, "where each segment is pinned, and when that was last verified"),
    (&AnchorRow::TABLE, "what witnesses and time-stamp authorities said about each segment's checkpoint"),
    (&EntryRow::TABLE, "one row an entry, control entries too"),
    (&GapRow::TABLE, "declared gaps with their reasons"),
    (&ContestedRow::TABLE, "offset ranges another member may have recorded too"),
    (&QuarantinedRow::TABLE, "records archived as they came, with the reason"),
    (&KeyRow::TABLE, "the signing keys of each log and the entries they are good for"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_columns_of_the_answer_and_of_their_type() {
        let query = Query::named("provenance").unwrap();
        let filters = query.filters([("event_id", "e-1"), ("partition_no", "3")]).unwrap();
        let sql = query.select(&filters, Some(5), |_| "?".to_owned());
        assert!(
            sql.ends_with("FROM v_provenance WHERE event_id = ? AND partition_no = ? ORDER BY origin, seq LIMIT 5")
        );
        for (name, text) in [("partition_no", "three"), ("recorded_at", "2026-01-01T00:00:00"), ("1=1 --", "x")] {
            let error = query.filters([(name, text)]).unwrap_err();
            assert!(matches!(error, RegistryError::Usage { .. }), "{error}");
        }
        assert!(matches!(Query::named("v_nothing"), Err(RegistryError::Usage { .. })));
    }
}
