//! The configuration as it is understood: every value with where it came from, secrets masked.

use serde_json::{Value as Json, json};
use toml::{Table, Value};

use crate::config::{CameFrom, Config, Loaded, MASK};
use crate::ingest::is_secret;

/// The text of `config show`: TOML that reads back, a comment behind each value.
pub(in super::super) fn text(loaded: &Loaded) -> String {
    let mut out = format!("# {} with its variables\n", loaded.path.display());
    write(&mut out, loaded, "", "", &masked(&loaded.config));
    out.trim_end().to_owned()
}

/// The object of `config show`.
pub(super) fn json(loaded: &Loaded) -> Json {
    let word = |from: &CameFrom| match from {
        CameFrom::File => "file".to_owned(),
        CameFrom::Variable(name) => name.clone(),
    };
    let from: serde_json::Map<_, _> = loaded.from.iter().map(|(key, from)| (key.clone(), json!(word(from)))).collect();
    json!({ "path": loaded.path, "config": masked(&loaded.config), "from": from })
}

/// All values, without secrets.
fn masked(config: &Config) -> Table {
    let mut table = Table::try_from(config).unwrap_or_default();
    mask(&mut table);
    table
}

fn mask(table: &mut Table) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => mask(inner),
            Value::Array(items) => items.iter_mut().filter_map(Value::as_table_mut).for_each(mask),
            Value::String(text) if is_secret(key) => MASK.clone_into(text),
            Value::String(text) => *text = without_userinfo(text),
            _ => {}
        }
    }
}

/// An address without the name and password before its host.
fn without_userinfo(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/').unwrap_or((rest, "")).0.rsplit_once('@') {
            Some((userinfo, _)) => {
                format!("{scheme}://{MASK}@{}", rest.get(userinfo.len() + 1..).unwrap_or_default())
            }
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// One table: its values, then the tables in it. `header` is its name in TOML, `prefix` its place in `from`.
fn write(out: &mut String, loaded: &Loaded, header: &str, prefix: &str, table: &Table) {
    let inner = |value: &Value| value.is_table() || is_list_of_tables(value);
    for (key, value) in table.iter().filter(|(_, value)| !inner(value)) {
        let from = match loaded.from.get(&join(prefix, key)) {
            Some(CameFrom::File) => "file",
            Some(CameFrom::Variable(name)) => name,
            None => "default",
        };
        out.push_str(&format!("{:<40} # {from}\n", format!("{} = {value}", quoted(key))));
    }
    for (key, value) in table.iter().filter(|(_, value)| inner(value)) {
        let header = join(header, &quoted(key));
        match value {
            Value::Table(inner) if inner.is_empty() => {}
            Value::Table(inner) => {
                if inner.values().any(|value| !value.is_table()) {
                    out.push_str(&format!("\n[{header}]\n"));
                }
                write(out, loaded, &header, &join(prefix, key), inner);
            }
            Value::Array(items) => {
                for (at, inner) in items.iter().enumerate().filter_map(|(at, item)| Some((at, item.as_table()?))) {
                    out.push_str(&format!("\n[[{header}]]\n"));
                    write(out, loaded, &header, &format!("{}[{at}]", join(prefix, key)), inner);
                }
            }
            _ => {}
        }
    }
}

fn is_list_of_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(Value::is_table))
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn quoted(key: &str) -> String {
    let is_bare = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { key.to_owned() } else { format!("\"{key}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_user_and_nothing_else() {
        for (text, shown) in [
            ("http://app:hunter2@node:5001/x@y", "http://(secret)@node:5001/x@y"),
            ("http://node:5001", "http://node:5001"),
            ("p@ss", "p@ss"),
        ] {
            assert_eq!(without_userinfo(text), shown);
        }
    }
}
