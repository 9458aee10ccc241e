//! Where in the file a key stands: line and column, for errors that the types do not give a place.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The byte where `key` (dotted, `topic[0]` for the first of a list) begins in `text`, or where the deepest table on the
/// way to it does; none for a text that does not parse or does not know even its first part.
pub(super) fn of_key(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    for part in key.split('.') {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((at, value)) = table.iter().find(|(known, _)| known.get_ref() == name) else { break };
        found = Some(at.span().start);
        let value = match (value.get_ref(), index) {
            (DeValue::Array(items), Some(index)) => items.get(index),
            _ => Some(value),
        };
        match value.map(Spanned::get_ref) {
            Some(DeValue::Table(inner)) => table = inner,
            _ => break,
        }
    }
    found
}

/// Line and column of a byte, both counted from 1.
pub(super) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or_default();
    (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, key: &str) -> Option<(usize, usize)> {
        of_key(text, key).map(|byte| line_and_column(text, byte))
    }

    #[test]
    fn a_key_is_found_however_deep_or_else_its_table() {
        let text = "[a]\nx = 1\n[b.c]\n  y = { z = 2 }\n[[b.d]]\nk = 1\n[[b.d]]\n k = 2\n";
        assert_eq!(place(text, "a.x"), Some((2, 1)));
        assert_eq!(place(text, "b.c.y.z"), Some((4, 9)));
        assert_eq!(place(text, "b.d[1].k"), Some((8, 2)));
        assert_eq!(place(text, "a.absent"), Some((1, 2)));
        assert_eq!(place(text, "absent.x"), None);
    }
}
