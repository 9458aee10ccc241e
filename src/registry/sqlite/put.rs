//! Writing rows that may be there already.
//!
//! Not an overwrite: a row is inserted, or found the same in its fixed columns, or refused.

use rusqlite::{Connection, OptionalExtension, Transaction, params_from_iter};

use super::{Role, Row, Table, Value, cell, failure};
use crate::core::rows::{EntryRow, SegmentRow};
use crate::registry::RegistryError;

/// Puts `rows` into their table.
///
/// # Errors
/// `Differs` at the first row that is there with another fixed column; `Retry` and `Refused` as SQLite says.
pub(super) fn rows<R: Row>(registry: &str, transaction: &Transaction<'_>, rows: &[R]) -> Result<(), RegistryError> {
    let table = R::TABLE;
    let doing = format!("writing {}", table.name);
    let failed = |error: rusqlite::Error| failure(registry, &doing, &error);
    let mut statement = transaction.prepare_cached(&upsert(&table)).map_err(failed)?;
    for row in rows {
        let cells = row.values();
        // No change: it is there and has nothing to update, or it is there and differs.
        if statement.execute(params_from_iter(&cells)).map_err(failed)? == 0 {
            check(registry, transaction, &table, &cells)?;
        }
    }
    Ok(())
}

/// Looks for an entry of this range that another segment has: the windows before it would be written, and the halves of
/// a fork would stand mixed.
///
/// # Errors
/// `Differs` where there is one; `Retry` and `Refused` as SQLite says.
pub(super) fn refuse_fork(registry: &str, connection: &Connection, segment: &SegmentRow) -> Result<(), RegistryError> {
    let select =
        "SELECT seq, seal_cid FROM entries WHERE origin = ?1 AND seq BETWEEN ?2 AND ?3 AND seal_cid <> ?4 LIMIT 1";
    let expected = segment.seal_cid.to_string();
    let range = (&*segment.origin, bigint(segment.first_seq), bigint(segment.last_seq), &expected);
    let found = connection.query_row(select, range, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    let found = found.optional().map_err(|error| failure(registry, "looking for a fork", &error))?;
    let Some((seq, found)) = found else { return Ok(()) };
    Err(RegistryError::Differs {
        registry: registry.to_owned(),
        table: "entries",
        key: format!("origin={} seq={seq}", segment.origin),
        column: "seal_cid",
        expected,
        found,
    })
}

/// Names the first entry of the log with the same event, for each of `entries` that repeats one.
///
/// # Errors
/// `Retry` and `Refused` as SQLite says.
pub(super) fn duplicates(
    registry: &str,
    transaction: &Transaction<'_>,
    entries: &[EntryRow],
) -> Result<(), RegistryError> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let update = "UPDATE entries SET duplicate_of = \
                    (SELECT MIN(o.seq) FROM entries o WHERE o.event_id = entries.event_id \
                       AND o.event_source = entries.event_source AND o.origin = entries.origin AND o.seq < entries.seq) \
                  WHERE origin = ?1 AND seq BETWEEN ?2 AND ?3 AND event_id IS NOT NULL AND duplicate_of IS NULL";
    let range = (&*first.origin, bigint(first.seq), bigint(last.seq));
    transaction.execute(update, range).map_err(|error| failure(registry, "finding duplicates", &error))?;
    Ok(())
}

fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn upsert(table: &Table) -> String {
    let list = |columns: &mut dyn Iterator<Item = String>| columns.collect::<Vec<_>>().join(", ");
    let names = list(&mut table.columns.iter().map(|column| column.name.to_owned()));
    let places = list(&mut table.columns.iter().map(|_| "?".to_owned()));
    let keys = list(&mut table.columns_of(Role::Key).map(|column| column.name.to_owned()));
    let moves = table.columns_of(Role::Moves).map(|column| format!("{0} = excluded.{0}", column.name));
    let fills = table.columns_of(Role::Fills);
    let fills = fills.map(|column| format!("{0} = COALESCE(excluded.{0}, {1}.{0})", column.name, table.name));
    let updates = list(&mut moves.chain(fills));
    let fixed = table.columns_of(Role::Fixed).map(|column| format!("{1}.{0} IS excluded.{0}", column.name, table.name));
    let fixed = fixed.collect::<Vec<_>>().join(" AND ");
    let conflict = match (updates.is_empty(), fixed.is_empty()) {
        (true, _) => "DO NOTHING".to_owned(),
        (false, true) => format!("DO UPDATE SET {updates}"),
        (false, false) => format!("DO UPDATE SET {updates} WHERE {fixed}"),
    };
    format!("INSERT INTO {} ({names}) VALUES ({places}) ON CONFLICT ({keys}) {conflict}", table.name)
}

/// Compares the fixed columns of a row that is there.
fn check(registry: &str, transaction: &Transaction<'_>, table: &Table, cells: &[Value]) -> Result<(), RegistryError> {
    let keyed = || table.columns.iter().zip(cells).filter(|(column, _)| column.role == Role::Key);
    let names = table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let keys = keyed().map(|(column, _)| format!("{} = ?", column.name)).collect::<Vec<_>>().join(" AND ");
    let select = format!("SELECT {names} FROM {} WHERE {keys}", table.name);
    let found = transaction.prepare_cached(&select).and_then(|mut statement| {
        statement.query_row(params_from_iter(keyed().map(|(_, value)| value)), |row| {
            let columns = table.columns.iter().enumerate();
            columns.map(|(at, column)| Ok(cell(column.kind, row.get_ref(at)?))).collect::<Result<Vec<_>, _>>()
        })
    });
    let found = found.map_err(|error| failure(registry, "reading back", &error))?;
    let differing = table
        .columns
        .iter()
        .zip(cells.iter().zip(&found))
        .find(|(column, (cell, found))| column.role == Role::Fixed && cell != found);
    let Some((column, (expected, found))) = differing else { return Ok(()) };
    let key = keyed().map(|(column, value)| format!("{}={value}", column.name)).collect::<Vec<_>>().join(" ");
    Err(RegistryError::Differs {
        registry: registry.to_owned(),
        table: table.name,
        key,
        column: column.name,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
