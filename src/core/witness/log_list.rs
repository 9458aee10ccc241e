//! The list of logs a witness serves: their origins, keys and how often they may ask.
//!
//! Spec: c2sp.org/tlog-list, `logs/v0`. Wider in two ways: `qpd` and `contact` may be missing, and several items may have
//! one origin, each with a vkey, as after a rotation. Stricter in one: a line nobody understands is an error, because a
//! misspelt `origin` would open the door to another log.

use std::collections::BTreeMap;

use crate::core::finding::Refused;
use crate::core::note::{Note, Signature, Vkey};

/// The first line that is neither empty nor a comment.
const HEADER: &str = "logs/v0";

/// What a witness knows of a log beforehand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// The keys it may sign with; at least one.
    pub vkeys: Vec<Vkey>,
    /// How many checkpoints it may show a day; the largest of its items, where any says.
    pub requests_per_day: Option<u32>,
}

impl Log {
    /// The first line of the note that is a sound signature of one of the keys. No other line matters.
    pub fn signature_of<'a, 'n>(&self, note: &'a Note<'n>) -> Option<&'a Signature<'n>> {
        note.signatures.iter().find(|line| self.vkeys.iter().any(|vkey| vkey.signed(note.text, line)))
    }
}

/// The logs by their origins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogList(BTreeMap<String, Log>);

/// An item as far as it was read.
struct Item {
    vkey: Vkey,
    origin: Option<String>,
    requests_per_day: Option<u32>,
    has_contact: bool,
}

impl LogList {
    /// Reads a list.
    ///
    /// # Errors
    /// `non-canonical` with the number of the line.
    pub fn parse(text: &str) -> Result<LogList, Refused> {
        let mut list = LogList::default();
        let mut item: Option<Item> = None;
        let mut lines = text.split('\n').map(|line| line.trim_matches([' ', '\t'])).zip(1..);
        let mut lines = lines.by_ref().filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        match lines.next() {
            Some((HEADER, _)) => {}
            _ => return Err(Refused::non_canonical(format!("log list: does not begin with `{HEADER}`"))),
        }
        for (line, number) in lines {
            let refused = |what: &str| Refused::non_canonical(format!("log list: line {number}: {what}"));
            let (key, value) = line.split_once(' ').ok_or_else(|| refused("not a word and a value"))?;
            let value = value.trim_start_matches([' ', '\t']);
            if key == "vkey" {
                let vkey = value.parse().map_err(|e: Refused| refused(&e.what))?;
                list.take(item.replace(Item { vkey, origin: None, requests_per_day: None, has_contact: false }));
                continue;
            }
            let item = item.as_mut().ok_or_else(|| refused("comes before the first vkey"))?;
            item.set(key, value).map_err(refused)?;
        }
        list.take(item);
        Ok(list)
    }

    fn take(&mut self, item: Option<Item>) {
        let Some(Item { vkey, origin, requests_per_day, .. }) = item else { return };
        let origin = origin.unwrap_or_else(|| vkey.name().to_owned());
        let log = self.0.entry(origin).or_insert(Log { vkeys: Vec::new(), requests_per_day: None });
        log.requests_per_day = log.requests_per_day.max(requests_per_day);
        if !log.vkeys.contains(&vkey) {
            log.vkeys.push(vkey);
        }
    }

    /// The log of an origin.
    pub fn get(&self, origin: &str) -> Option<&Log> {
        self.0.get(origin)
    }

    /// All logs with their origins.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Log)> {
        self.0.iter().map(|(origin, log)| (origin.as_str(), log))
    }
}

impl Item {
    /// Takes the next line of the item; the order is fixed.
    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let (has_limit, has_contact) = (self.requests_per_day.is_some(), self.has_contact);
        match key {
            "origin" if self.origin.is_none() && !has_limit && !has_contact => self.origin = Some(value.to_owned()),
            "qpd" if !has_limit && !has_contact => self.requests_per_day = Some(read_limit(value)?),
            "contact" if !has_contact => self.has_contact = true,
            "origin" | "qpd" | "contact" => return Err("twice, or not in the order vkey, origin, qpd, contact"),
            _ => return Err("not one of vkey, origin, qpd, contact"),
        }
        Ok(())
    }
}

fn read_limit(text: &str) -> Result<u32, &'static str> {
    let limit = text.parse().ok().filter(|limit: &u32| limit.to_string() == text);
    limit.filter(|limit| (1..1 << 31).contains(limit)).ok_or("a number that is not a decimal from 1 to 2^31 - 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::note::{Skey, sign_note};

    fn key(name: &str, seed: u8) -> Skey {
        Skey::from_seed(name, &[seed; 32]).unwrap()
    }

    fn what(text: &str) -> String {
        LogList::parse(text).unwrap_err().what
    }

    #[test]
    fn the_form_of_the_spec_is_read() {
        let (foo, bar) = (key("foo.example/log", 1), key("bar.example/key", 2));
        let text = format!(
            "#\n# Revision: 1\n#\nlogs/v0\n\n# first\nvkey {}\nqpd 86400\ncontact https://foo.example/contact\n\n\
             \tvkey {} \norigin not the name of the key\n\tqpd 24\n\tcontact sysadmin (at) bar.example",
            foo.vkey(),
            bar.vkey()
        );
        let list = LogList::parse(&text).unwrap();
        assert_eq!(list.iter().count(), 2);
        let log = list.get("not the name of the key").unwrap();
        assert_eq!((log.requests_per_day, &log.vkeys[..]), (Some(24), &[bar.vkey().clone()][..]));
        assert_eq!(list.get("foo.example/log").unwrap().requests_per_day, Some(86_400));
        assert_eq!(list.get("bar.example/key"), None);
    }

    #[test]
    fn a_rotated_log_has_both_keys_and_either_signs() {
        let (old, new, other) = (key("a.b/log", 1), key("a.b/log", 2), key("a.b/log", 3));
        let text = format!("logs/v0\nvkey {0}\nqpd 2\nvkey {1}\nqpd 9\nvkey {0}\n", old.vkey(), new.vkey());
        let list = LogList::parse(&text).unwrap();
        let log = list.get("a.b/log").unwrap();
        assert_eq!((log.vkeys.len(), log.requests_per_day), (2, Some(9)));
        let signed = |keys: &[&Skey]| log.signature_of(&Note::parse(&sign_note("text\n", keys)).unwrap()).is_some();
        assert!(signed(&[&old]) && signed(&[&new]) && signed(&[&other, &old]));
        assert!(!signed(&[&other]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let vkey = key("a.b/log", 1).vkey().to_string();
        assert_eq!(LogList::parse("logs/v0").unwrap(), LogList::default());
        for bad in ["", "logs/v1\n", "# logs/v0\n", "vkey x\n"] {
            assert!(what(bad).contains("does not begin"), "{bad}");
        }
        for (bad, expected) in [
            ("qpd 1", "line 2: comes before"),
            ("vkey nonsense", "line 2: vkey: not"),
            (&format!("vkey {vkey}\norigni a"), "line 3: not one of"),
            (&format!("vkey {vkey}\nqpd 0"), "line 3: a number"),
            (&format!("vkey {vkey}\nqpd 01"), "line 3: a number"),
            (&format!("vkey {vkey}\nqpd 2147483648"), "line 3: a number"),
            (&format!("vkey {vkey}\nqpd 1\norigin a"), "line 4: twice, or not"),
            (&format!("vkey {vkey}\ncontact a\ncontact b"), "line 4: twice, or not"),
            (&format!("vkey {vkey}\norigin"), "line 3: not a word"),
        ] {
            assert!(
                what(&format!("logs/v0\n{bad}\n")).contains(expected),
                "{bad}: {}",
                what(&format!("logs/v0\n{bad}\n"))
            );
        }
    }
}
