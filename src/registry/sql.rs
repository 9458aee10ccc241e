//! The portable DDL, rendered for each engine.
//!
//! Not a migration tool: version 1 is made whole or not at all. The text is `sql/tables.sql` and `sql/views.sql`;
//! engines differ in one type and one view.

/// An engine the text is rendered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// TIMESTAMP is TEXT of fixed width, which compares as time does.
    Sqlite,
    /// TIMESTAMP is TIMESTAMP_NTZ(6): the session's zone must not touch it.
    Snowflake,
}

const TABLES: &str = include_str!("sql/tables.sql");
const VIEWS: &str = include_str!("sql/views.sql");

/// The statements that make the schema where it is missing, in order, without the row of `schema_version`.
pub(super) fn ddl(dialect: Dialect) -> Vec<String> {
    let v_now = match dialect {
        Dialect::Sqlite => "CREATE VIEW v_now AS SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z' AS now_at",
        Dialect::Snowflake => "CREATE VIEW v_now AS SELECT CAST(SYSDATE() AS TIMESTAMP_NTZ(6)) AS now_at",
    };
    let tables = statements(TABLES).into_iter().map(|statement| match dialect {
        Dialect::Sqlite => statement.replace(" TIMESTAMP", " TEXT"),
        Dialect::Snowflake => statement.replace(" TIMESTAMP", " TIMESTAMP_NTZ(6)"),
    });
    let all = tables.chain([v_now.to_owned()]).chain(statements(VIEWS));
    all.map(|statement| {
        let statement = statement.replacen("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1);
        statement.replacen("CREATE VIEW ", "CREATE VIEW IF NOT EXISTS ", 1)
    })
    .collect()
}

/// The statements of a text, without comments (which may hold semicolons; no string literal of ours holds `--`).
fn statements(text: &str) -> Vec<String> {
    let bare = text.lines().map(|line| line.split("--").next().unwrap_or("").trim_end());
    let bare = bare.collect::<Vec<_>>().join("\n");
    bare.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_makes_one_table_or_view_of_the_contract() {
        for dialect in [Dialect::Sqlite, Dialect::Snowflake] {
            let ddl = ddl(dialect);
            assert_eq!(ddl.len(), 12 + 1 + 6);
            for statement in ddl {
                assert!(statement.starts_with("CREATE ") && statement.contains("IF NOT EXISTS"), "{statement}");
                assert!(!statement.contains(';') && !statement.contains("--"), "{statement}");
                assert!(!statement.contains(" TIMESTAMP ") && !statement.contains(" TIMESTAMP,"), "{statement}");
            }
        }
    }
}
