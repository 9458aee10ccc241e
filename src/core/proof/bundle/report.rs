//! `report.html`: a bundle for people to read and print.
//!
//! One page, no script, nothing loaded from anywhere. It says only what the other files say, and shows what is disclosed
//! field by field as protobuf has it on the wire: a rendering, not the evidence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::scope::{Keys, Row, topics};
use super::{Closed, Contents, LIMITS};
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::leaf::{Body, GapReason};
use crate::core::note::to_base64;
use crate::core::proof::Proven;

/// Entries shown one by one, at most: a page that no printer ends helps nobody.
const ENTRIES_SHOWN: usize = 1_000;
/// Fields inside each other that are shown as such.
const NESTED_MAX: usize = 8;

const STYLE: &str = "body{font:15px/1.45 Georgia,serif;max-width:60em;margin:2em auto;padding:0 1em;color:#111}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid #999}\
table{border-collapse:collapse;width:100%;font-size:.85em}th,td{text-align:left;vertical-align:top;padding:.2em .6em .2em 0;\
border-bottom:1px solid #ddd}code,pre{font:.85em/1.4 monospace;overflow-wrap:anywhere;white-space:pre-wrap}\
@media print{body{margin:0;max-width:none;font-size:10pt}h2{break-after:avoid}tr,pre{break-inside:avoid}\
thead{display:table-header-group}}@page{margin:18mm}";

/// The page.
pub(super) fn html(contents: &Contents, head: &Head, keys: &Keys, rows: &[Row], proven: &[Proven]) -> String {
    let topics = topics(proven);
    let in_range = |proven: &&Proven| contents.first <= proven.leaf.seq && proven.leaf.seq < contents.next;
    let entries: Vec<&Proven> = proven.iter().filter(in_range).collect();
    let mut page = Page(String::new());
    let last = contents.next.0.saturating_sub(1);
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Evidence</title><style>");
    page.raw(STYLE);
    page.raw("</style></head><body>\n");
    page.tag("h1", &format!("Entries {} to {last} of {}", contents.first, head.origin));
    page.tag("p", "This page is the operator's rendering. The evidence is in the other files of the bundle, and is checked with a public key of the log from another channel: README.txt says how.");
    page.tag("h2", "Checkpoint");
    page.table(&["size", "root"], &[vec![head.size.to_string(), to_base64(&head.root.0)]]);
    page.tag("h2", "Keys of the log");
    let key = |row: &super::scope::KeyRow| vec![row.seq.to_string(), row.by.to_owned(), row.vkey.clone()];
    let mut key_rows: Vec<Vec<String>> = keys.rows.iter().map(key).collect();
    key_rows.push(vec![String::new(), "recovery".to_owned(), keys.recovery.clone()]);
    page.table(&["from entry", "by", "vkey"], &key_rows);
    page.tag("h2", "Entries");
    let shown: Vec<Vec<String>> = entries.iter().take(ENTRIES_SHOWN).map(|proven| entry_row(proven, &topics)).collect();
    page.table(&["entry", "kind", "record", "leaf hash", "parts", "disclosed"], &shown);
    if entries.len() > ENTRIES_SHOWN {
        page.tag("p", &format!("and {} more, each in its own .tlog-proof", entries.len() - ENTRIES_SHOWN));
    }
    page.tag("h2", "Nothing is missing");
    page.tag("p", "Every offset of these partitions from the first to the last below is an entry of the range, or declared in the log with a reason.");
    let of = |row: &Row| partition_row(row, &topics);
    page.table(&["topic", "partition", "offsets", "entries", "declared"], &rows.iter().map(of).collect::<Vec<_>>());
    page.gaps(&entries, &topics);
    page.disclosed(&entries);
    page.closed(contents, &entries);
    page.tag("h2", "What this does not prove");
    page.tag("pre", LIMITS);
    page.raw("</body></html>\n");
    page.0
}

fn entry_row(proven: &Proven, topics: &BTreeMap<u64, String>) -> Vec<String> {
    let leaf = &proven.leaf;
    let record = leaf.src.map(|src| format!("{} / {} / {}", topic(topics, src.topic_no), src.partition, src.offset));
    let disclosed = proven.disclosed.as_ref().map(|disclosed| format!("part {}", disclosed.part));
    vec![
        leaf.seq.to_string(),
        leaf.body.kind_name().to_owned(),
        record.unwrap_or_default(),
        leaf.encode().map(|bytes| Hash::leaf(&bytes).to_string()).unwrap_or_default(),
        leaf.parts.len().to_string(),
        disclosed.unwrap_or_default(),
    ]
}

fn partition_row(row: &Row, topics: &BTreeMap<u64, String>) -> Vec<String> {
    let declared =
        row.declared.iter().map(|range| (range.last - range.first).saturating_add(1)).fold(0, u64::saturating_add);
    let offsets = format!("{} to {}", row.first, row.next.saturating_sub(1));
    let (entries, partition) = (row.entries.to_string(), row.partition.to_string());
    vec![topic(topics, row.topic_no), partition, offsets, entries, declared.to_string()]
}

fn topic(topics: &BTreeMap<u64, String>, number: u64) -> String {
    topics.get(&number).cloned().unwrap_or_else(|| format!("topic {number}"))
}

struct Page(String);

impl Page {
    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                // A text from a record must not reorder or hide what stands beside it.
                c if c.is_control() && c != '\n'
                    || ('\u{202a}'..='\u{202e}').contains(&c)
                    || ('\u{2066}'..='\u{2069}').contains(&c) =>
                {
                    self.0.push('\u{fffd}');
                }
                c => self.0.push(c),
            }
        }
    }

    fn tag(&mut self, tag: &str, text: &str) {
        self.raw(&format!("<{tag}>"));
        self.text(text);
        self.raw(&format!("</{tag}>\n"));
    }

    fn table(&mut self, names: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            self.tag("p", "none");
            return;
        }
        self.raw("<table><thead><tr>");
        names.iter().for_each(|name| self.tag("th", name));
        self.raw("</tr></thead><tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for cell in row {
                self.raw("<td><code>");
                self.text(cell);
                self.raw("</code></td>");
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody></table>\n");
    }

    fn gaps(&mut self, entries: &[&Proven], topics: &BTreeMap<u64, String>) {
        let mut rows = Vec::new();
        for proven in entries {
            let Body::Gap(ranges) = &proven.leaf.body else { continue };
            for range in ranges {
                let reason: GapReason = range.reason;
                let offsets = format!("{} to {}", range.first, range.last);
                let topic = topic(topics, range.partition.topic_no);
                let partition = range.partition.partition.to_string();
                rows.push(vec![proven.leaf.seq.to_string(), topic, partition, offsets, reason.as_str().to_owned()]);
            }
        }
        self.tag("h2", "Gaps declared in the range");
        self.table(&["entry", "topic", "partition", "offsets", "reason"], &rows);
    }

    fn disclosed(&mut self, entries: &[&Proven]) {
        self.tag("h2", "Disclosed");
        let disclosed: Vec<_> =
            entries.iter().filter_map(|proven| Some((proven, proven.disclosed.as_ref()?))).collect();
        if disclosed.is_empty() {
            self.tag("p", "nothing");
        }
        for (proven, part) in disclosed.into_iter().take(ENTRIES_SHOWN) {
            self.tag("h3", &format!("Entry {}, part {}", proven.leaf.seq, part.part));
            let mut text = String::new();
            fields(&part.body, 0, &mut text);
            self.tag("pre", &text);
        }
        self.tag("p", "Field numbers are those of proto/pinfold/v1 in Pinfold's source.");
    }

    fn closed(&mut self, contents: &Contents, entries: &[&Proven]) {
        let mut counts: BTreeMap<Closed, u64> = BTreeMap::new();
        for proven in entries {
            let opened = proven.disclosed.as_ref().map(|disclosed| disclosed.part);
            for part in (0u32..).take(proven.leaf.parts.len()).filter(|part| Some(*part) != opened) {
                let why = contents.closed.get(&(proven.leaf.seq, part)).copied().unwrap_or(Closed::NotAsked);
                *counts.entry(why).or_default() += 1;
            }
        }
        self.tag("h2", "Not disclosed");
        self.tag("p", "Each of these parts is in undisclosed.txt with its digest.");
        let row = |(why, count): (Closed, u64)| vec![why.as_str().to_owned(), count.to_string()];
        self.table(&["why", "parts"], &counts.into_iter().map(row).collect::<Vec<_>>());
    }
}

/// The fields of a protobuf message, one a line: numbers, texts, and messages inside where they read as such.
fn fields(message: &[u8], depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for (number, value) in wire(message).unwrap_or_default() {
        // Writing into a string cannot fail.
        let _ = match value {
            Wire::Number(value) => writeln!(text, "{indent}{number}: {value}"),
            Wire::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(words) if words.chars().all(|c| !c.is_control() || c == '\n') => {
                    writeln!(text, "{indent}{number}: \"{words}\"")
                }
                _ if depth < NESTED_MAX && wire(bytes).is_some() => {
                    let _ = writeln!(text, "{indent}{number}:");
                    fields(bytes, depth + 1, text);
                    continue;
                }
                _ => writeln!(text, "{indent}{number}: {}", hex::encode(bytes)),
            },
        };
    }
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields on the wire; `None` for bytes that are no message.
fn wire(mut rest: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let fixed = |rest: &mut &[u8], bytes: usize| {
            let (value, after) = rest.split_at_checked(bytes)?;
            *rest = after;
            Some(value.iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)))
        };
        let value = match tag & 7 {
            0 => Wire::Number(varint(&mut rest)?),
            1 => Wire::Number(fixed(&mut rest, 8)?),
            5 => Wire::Number(fixed(&mut rest, 4)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                Wire::Bytes(bytes)
            }
            _ => return None,
        };
        fields.push((Some(tag >> 3).filter(|number| *number > 0)?, value));
    }
    Some(fields)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_field_by_field_and_what_is_none_in_hex() {
        let mut text = String::new();
        // 1: 300, 2: "hi", 3: { 1: 7 }, 4: bytes that are neither text nor a message.
        fields(&[0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x1a, 2, 0x08, 7, 0x22, 2, 0xff, 0xff], 0, &mut text);
        assert_eq!(text, "1: 300\n2: \"hi\"\n3:\n  1: 7\n4: ffff\n");
    }

    #[test]
    fn a_text_cannot_become_markup_or_turn_the_line_around() {
        let mut page = Page(String::new());
        page.tag("p", "<script>\"&\u{202e}x\u{0}");
        assert_eq!(page.0, "<p>&lt;script&gt;&quot;&amp;\u{fffd}x\u{fffd}</p>\n");
    }
}
