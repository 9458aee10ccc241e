//! The statements of the Snowflake registrar, and cells as its API writes them.
//!
//! A batch of rows is one bind: a JSON array of objects `{"c0": .., "c1": ..}`, a key for each column that is not
//! NULL (a JSON null would be a VARIANT of its own). Row counts of the service are not used: what was written is
//! read back.

use serde_json::{Map, Value as Json};

use crate::core::rows::{Kind, Role, Table, Value};
use crate::core::time::Timestamp;

/// The batch as a row source with the table's column names.
fn batch(table: &Table) -> String {
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let text = format!("CAST(f.value:c{at} AS VARCHAR)");
        format!("{} AS {}", cast(&text, column.kind), column.name)
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    format!("(SELECT {columns} FROM (SELECT PARSE_JSON(CAST(? AS VARCHAR)) AS j) p, LATERAL FLATTEN(input => p.j) f)")
}

/// A text expression as a value of the kind.
pub(super) fn cast(text: &str, kind: Kind) -> String {
    match kind {
        Kind::Text => text.to_owned(),
        Kind::Int => format!("CAST({text} AS BIGINT)"),
        Kind::Time => format!("CAST({text} AS TIMESTAMP_NTZ(6))"),
    }
}

/// The rows of a batch as its bind.
pub(super) fn bind(rows: &[Vec<Value>]) -> String {
    let object = |row: &Vec<Value>| {
        let cells = row.iter().enumerate().filter(|(_, value)| **value != Value::Null);
        let cells = cells.map(|(at, value)| (format!("c{at}"), Json::String(write(value))));
        Json::Object(cells.collect::<Map<_, _>>())
    };
    Json::Array(rows.iter().map(object).collect()).to_string()
}

/// Inserts the rows of the batch that are missing, and updates those that are there and agree.
pub(super) fn merge(table: &Table) -> String {
    let names = table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let values = table.columns.iter().map(|column| format!("s.{}", column.name)).collect::<Vec<_>>().join(", ");
    let moves = table.columns_of(Role::Moves).map(|column| format!("{0} = s.{0}", column.name));
    let fills = table.columns_of(Role::Fills).map(|column| format!("{0} = COALESCE(s.{0}, t.{0})", column.name));
    let updates = moves.chain(fills).collect::<Vec<_>>().join(", ");
    let fixed =
        table.columns_of(Role::Fixed).map(|column| format!(" AND t.{0} IS NOT DISTINCT FROM s.{0}", column.name));
    let matched = match updates.is_empty() {
        true => String::new(),
        false => format!("WHEN MATCHED{} THEN UPDATE SET {updates} ", fixed.collect::<String>()),
    };
    format!(
        "MERGE INTO {} t USING {} s ON {} {matched}WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})",
        table.name,
        batch(table),
        keys_match(table),
    )
}

/// The first row of the batch that is not in the table as it should be: whether it is there, and all columns found.
pub(super) fn check(table: &Table) -> String {
    let found = table.columns.iter().enumerate().map(|(at, column)| format!("t.{} AS f{at}", column.name));
    let wanted = table.columns.iter().enumerate().map(|(at, column)| format!("s.{} AS w{at}", column.name));
    let columns = wanted.chain(found).collect::<Vec<_>>().join(", ");
    let stated = table.columns_of(Role::Fixed).chain(table.columns_of(Role::Moves));
    let differs = stated.map(|column| format!(" OR t.{0} IS DISTINCT FROM s.{0}", column.name)).collect::<String>();
    let key = table.columns_of(Role::Key).next().map_or("", |column| column.name);
    format!(
        "SELECT {columns} FROM {} s LEFT JOIN {} t ON {} WHERE t.{key} IS NULL{differs} LIMIT 1",
        batch(table),
        table.name,
        keys_match(table),
    )
}

fn keys_match(table: &Table) -> String {
    table.columns_of(Role::Key).map(|column| format!("t.{0} = s.{0}", column.name)).collect::<Vec<_>>().join(" AND ")
}

/// Names the first entry of the log with the same event, for each entry of a segment that repeats one.
pub(super) const DUPLICATES: &str = "MERGE INTO entries t USING (SELECT n.origin AS origin, n.seq AS seq, MIN(o.seq) AS first_seq \
     FROM entries n JOIN entries o ON o.origin = n.origin AND o.event_source = n.event_source \
     AND o.event_id = n.event_id AND o.seq < n.seq WHERE n.seal_cid = CAST(? AS VARCHAR) GROUP BY n.origin, n.seq) d \
     ON t.origin = d.origin AND t.seq = d.seq WHEN MATCHED THEN UPDATE SET duplicate_of = d.first_seq";

/// An entry of a range that is of another segment: origin, first and last seq, seal.
pub(super) const FORK: &str = "SELECT seq, seal_cid FROM entries WHERE origin = CAST(? AS VARCHAR) AND seq >= CAST(? AS BIGINT) \
     AND seq <= CAST(? AS BIGINT) AND seal_cid <> CAST(? AS VARCHAR) ORDER BY seq LIMIT 1";

/// The fence: origin, new size, root and time; old size and root, or -1 and '' for none.
pub(super) const ADVANCE: &str = "MERGE INTO registration_hwm t USING (SELECT CAST(? AS VARCHAR) AS origin, CAST(? AS BIGINT) AS size, \
     CAST(? AS VARCHAR) AS root, CAST(? AS TIMESTAMP_NTZ(6)) AS updated_at, CAST(? AS BIGINT) AS from_size, \
     CAST(? AS VARCHAR) AS from_root) s ON t.origin = s.origin \
     WHEN MATCHED AND t.size = s.from_size AND t.root = s.from_root \
     THEN UPDATE SET size = s.size, root = s.root, updated_at = s.updated_at \
     WHEN NOT MATCHED AND s.from_size = -1 \
     THEN INSERT (origin, size, root, updated_at) VALUES (s.origin, s.size, s.root, s.updated_at)";

/// Where the fence is: one row, or none.
pub(super) const FENCE: &str = "SELECT size, root FROM registration_hwm WHERE origin = CAST(? AS VARCHAR)";

/// Drops all rows of a log from a table.
pub(super) fn forget(table: &str) -> String {
    format!("DELETE FROM {table} WHERE origin = CAST(? AS VARCHAR)")
}

/// A cell as a text bind.
pub(super) fn write(value: &Value) -> String {
    match value {
        // TIMESTAMP_NTZ has no zone, and `Z` would be read as one.
        Value::Time(at) => at.to_string().replace('T', " ").replace('Z', ""),
        value => value.to_string(),
    }
}

/// A cell as read. What is not of the column's type stays text, so that an audit sees it.
pub(super) fn read(kind: Kind, cell: Option<&str>) -> Value {
    let Some(cell) = cell else { return Value::Null };
    let value = match kind {
        Kind::Text => None,
        Kind::Int => cell.parse().ok().map(Value::Int),
        Kind::Time => read_time(cell).map(Value::Time),
    };
    value.unwrap_or_else(|| Value::Text(cell.into()))
}

/// A TIMESTAMP_NTZ: seconds with nine digits, as the service writes it, or `YYYY-MM-DD HH:MM:SS[.f]`.
fn read_time(cell: &str) -> Option<Timestamp> {
    if cell.contains(':') {
        return Timestamp::parse_rfc3339(&format!("{}Z", cell.replace(' ', "T").trim_end_matches('Z')));
    }
    let (seconds, fraction) = cell.split_once('.').unwrap_or((cell, ""));
    let micros = format!("{fraction:0<6}");
    let micros: u64 = micros.get(..6)?.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms_and_written_without_a_zone() {
        let at = Timestamp(1_767_225_600_000_001);
        assert_eq!(write(&Value::Time(at)), "2026-01-01 00:00:00.000001");
        for cell in ["2026-01-01 00:00:00.000001", "1767225600.000001000", "2026-01-01T00:00:00.000001Z"] {
            assert_eq!(read(Kind::Time, Some(cell)), Value::Time(at), "{cell}");
        }
        assert_eq!(read(Kind::Time, Some("1767225600")), Value::Time(Timestamp(1_767_225_600_000_000)));
        assert_eq!(read(Kind::Time, Some("yesterday")), Value::Text("yesterday".into()));
        assert_eq!(read(Kind::Int, Some("x")), Value::Text("x".into()));
    }

    #[test]
    fn a_null_is_left_out_of_the_bind() {
        let rows = [vec![Value::Text("a\"?".into()), Value::Null, Value::Int(-1)]];
        assert_eq!(bind(&rows), r#"[{"c0":"a\"?","c2":"-1"}]"#);
    }
}
