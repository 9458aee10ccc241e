//! The table of the drill: what was done, by whom, what the verifier held, and what he found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pinfold::core::audit::Report;
use pinfold::core::finding::{Code, Refused};
use serde_json::Value;

/// What an attacker needs for a change.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// Whoever can write the files.
    Keeper,
    /// Who holds the log's private key as well.
    Key,
    /// Who holds a key of his own.
    Stranger,
    /// Who can write a registry.
    Registrar,
    /// Who runs the IPFS node.
    Node,
    /// Who hands over a proof or a disclosure.
    Prover,
    /// Nobody: an honest state that looks like something.
    Nobody,
}

impl By {
    fn words(self) -> &'static str {
        match self {
            By::Keeper => "keeper of the files",
            By::Key => "keeper with the log's key",
            By::Stranger => "stranger with a key",
            By::Registrar => "keeper of the registry",
            By::Node => "keeper of the node",
            By::Prover => "who shows it",
            By::Nobody => "nobody",
        }
    }
}

/// What was answered, whoever answered.
pub(super) struct Seen {
    exit: i64,
    findings: Vec<Found>,
}

struct Found {
    code: String,
    segment: Option<u64>,
    seq: Option<u64>,
    place: String,
}

impl From<&Report> for Seen {
    fn from(report: &Report) -> Seen {
        let found = report.findings.iter().map(|finding| Found {
            code: finding.code.to_string(),
            segment: finding.segment,
            seq: finding.seq.map(|seq| seq.0),
            place: finding.place.clone(),
        });
        Seen { exit: report.exit.into(), findings: found.collect() }
    }
}

impl From<&(i32, Value)> for Seen {
    fn from((exit, report): &(i32, Value)) -> Seen {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = report["findings"].as_array().unwrap_or_else(|| panic!("{exit} {report}"));
        let found = findings.iter().map(|finding| Found {
            code: text(&finding["code"]),
            segment: finding["segment"].as_u64(),
            seq: finding["seq"].as_u64(),
            place: text(&finding["place"]),
        });
        Seen { exit: (*exit).into(), findings: found.collect() }
    }
}

/// A proof has no report: the refusal is all.
impl From<&Refused> for Seen {
    fn from(refused: &Refused) -> Seen {
        let found = Found { code: refused.code.to_string(), segment: None, seq: None, place: refused.what.clone() };
        Seen { exit: refused.code.exit().map_or(0, i64::from), findings: vec![found] }
    }
}

/// What must be found.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    code: Option<Code>,
    segment: Option<u64>,
    seq: Option<u64>,
    exit: i64,
}

impl Expected {
    /// Nothing: the bytes are whole in themselves.
    pub(super) fn nothing(exit: i64) -> Expected {
        Expected { code: None, segment: None, seq: None, exit }
    }

    pub(super) fn of(code: Code, exit: i64) -> Expected {
        Expected { code: Some(code), segment: None, seq: None, exit }
    }

    /// In this segment.
    pub(super) fn in_segment(self, segment: usize) -> Expected {
        Expected { segment: Some(segment as u64), ..self }
    }

    /// At this entry.
    pub(super) fn at(self, seq: u64) -> Expected {
        Expected { seq: Some(seq), ..self }
    }
}

/// Many changes of one kind: how many there were, how often each code was the first finding, and the exits.
#[derive(Default)]
pub(super) struct Sweep {
    pub(super) changes: usize,
    codes: BTreeMap<String, usize>,
    exits: BTreeSet<u8>,
}

impl Sweep {
    /// So many changes, none of which was found yet.
    pub(super) fn of(changes: usize) -> Sweep {
        Sweep { changes, ..Sweep::default() }
    }

    /// Takes the first finding of one change.
    pub(super) fn found(&mut self, code: Code, exit: u8) {
        *self.codes.entry(code.to_string()).or_default() += 1;
        self.exits.insert(exit);
    }
}

/// The table as it grows.
#[derive(Default)]
pub(super) struct Table {
    text: String,
    codes: BTreeSet<String>,
    rows: usize,
    wrong: Vec<String>,
}

impl Table {
    /// Begins a group of rows.
    pub(super) fn group(&mut self, name: &str, words: &str) {
        write!(self.text, "\n### {name}\n\n{words}\n\n").unwrap();
        self.text += "| tamper | by | the verifier holds | found | named place | exit |\n";
        self.text += "| --- | --- | --- | --- | --- | --- |\n";
    }

    /// Compares what was seen with what must be, and writes the row.
    pub(super) fn row(&mut self, tamper: &str, by: By, holds: &str, expected: Expected, seen: impl Into<Seen>) {
        let seen = seen.into();
        let is_it = |found: &&Found| {
            expected.code.is_none_or(|code| code.as_str() == found.code)
                && (expected.segment.is_none() || expected.segment == found.segment)
                && (expected.seq.is_none() || expected.seq == found.seq)
        };
        let found = seen.findings.iter().find(is_it);
        if seen.exit != expected.exit || found.is_some() != expected.code.is_some() {
            let all = seen.findings.iter().map(|found| format!("{} {}", found.code, place(found)));
            let all = all.collect::<Vec<_>>().join("; ");
            let code = expected.code.map_or("nothing", Code::as_str);
            let wanted = (code, expected.segment, expected.seq, expected.exit);
            self.wrong.push(format!("{tamper} ({holds}): expected {wanted:?}, found {} {all}", seen.exit));
        }
        self.codes.extend(found.map(|found| found.code.clone()));
        let (code, place) = found.map_or(("-".to_owned(), "-".to_owned()), |found| {
            (format!("`{}`", found.code), place(found).replace('|', "\\|"))
        });
        self.rows += 1;
        let by = by.words();
        writeln!(self.text, "| {tamper} | {by} | {holds} | {code} | {place} | {} |", seen.exit).unwrap();
    }

    /// Writes a row of many changes at once, all of which must have been found.
    pub(super) fn sweep(&mut self, tamper: &str, by: By, holds: &str, place: &str, sweep: &Sweep) {
        let found: usize = sweep.codes.values().sum();
        if found != sweep.changes || found == 0 {
            self.wrong.push(format!("{tamper}: {found} of {} found", sweep.changes));
        }
        self.codes.extend(sweep.codes.keys().cloned());
        self.rows += 1;
        let mut codes: Vec<_> = sweep.codes.iter().collect();
        codes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let codes = codes.iter().map(|(code, count)| format!("`{code}` {count}")).collect::<Vec<_>>().join(", ");
        let exits = sweep.exits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (by, changes) = (by.words(), sweep.changes);
        writeln!(self.text, "| {tamper}: {found} of {changes} found | {by} | {holds} | {codes} | {place} | {exits} |")
            .unwrap();
    }

    /// The rows in Markdown, and the codes they show.
    ///
    /// # Panics
    /// If a row is not as it must be.
    pub(super) fn end(self) -> (String, BTreeSet<Code>) {
        assert!(self.wrong.is_empty(), "{} of {} rows:\n{}", self.wrong.len(), self.rows, self.wrong.join("\n"));
        let shown = Code::ALL.into_iter().filter(|code| self.codes.contains(code.as_str()));
        (self.text, shown.collect())
    }
}

fn place(found: &Found) -> String {
    let segment = found.segment.map_or_else(String::new, |segment| format!("segment {segment}, "));
    let seq = found.seq.map_or_else(String::new, |seq| format!("seq {seq}, "));
    format!("{segment}{seq}{}", found.place)
}
