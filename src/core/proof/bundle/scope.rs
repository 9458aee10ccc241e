//! What the entries of a bundle say together: whose keys they are, which offsets they account for, what stays closed.
//!
//! Computed when a bundle is written and again when it is checked, so these files of it can say nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Closed, pretty};
use crate::core::checkpoint::Head;
use crate::core::completeness::{Completeness, OffsetFault, Source};
use crate::core::finding::{Code, Refused};
use crate::core::keychange::{KeyChange, Standing};
use crate::core::leaf::{Body, KeyStep};
use crate::core::note::Vkey;
use crate::core::position::Partition;
use crate::core::proof::Proven;
use crate::core::seq::Seq;

/// What the verifier holds.
#[derive(Clone, Copy)]
pub(super) struct Trust<'a> {
    pub(super) vkeys: &'a [Vkey],
    pub(super) recovery: Option<&'a Vkey>,
}

/// The keys of the log up to the checkpoint, as its own entries name them.
pub(super) struct Keys {
    pub(super) rows: Vec<KeyRow>,
    pub(super) recovery: String,
    signer: Vkey,
}

/// One key.
#[derive(Serialize)]
pub(super) struct KeyRow {
    pub(super) seq: u64,
    pub(super) by: &'static str,
    pub(super) vkey: String,
}

impl Keys {
    /// Walks from the first entry over every change of key. With `trust` the walk must begin or end at a vkey held.
    ///
    /// # Errors
    /// Those of [`KeyChange::open`]; `wrong-origin`, `unknown-key`, `unreachable`.
    pub(super) fn of(head: &Head, proven: &[Proven], trust: Option<Trust<'_>>) -> Result<Keys, Refused> {
        let opened = match proven.first().map(|proven| &proven.leaf.body) {
            Some(Body::LogOpened(opened)) if opened.origin == head.origin => opened,
            _ => return Err(Refused::new(Code::WrongOrigin, "evidence: the first entry opens no such log")),
        };
        let recovery = trust.and_then(|trust| trust.recovery);
        if recovery.is_some_and(|held| held.to_string() != opened.recovery) {
            return Err(Refused::new(Code::UnknownKey, "evidence: the recovery vkey is another one"));
        }
        if trust.is_some_and(|trust| trust.vkeys.is_empty()) {
            return Err(Refused::new(Code::Unreachable, "evidence: no vkey of the log"));
        }
        let first: Vkey = opened.vkey.parse()?;
        let mut rows = vec![KeyRow { seq: 0, by: "log-opened", vkey: opened.vkey.clone() }];
        let (mut signer, mut is_unsure) = (first.clone(), false);
        for Proven { leaf, .. } in proven {
            let Body::KeyChanged { note, step } = &leaf.body else { continue };
            let standing = Standing { origin: Some(&head.origin), seq: leaf.seq, current: Some(&signer), recovery };
            let change = KeyChange::open(*step, note, &standing)?;
            is_unsure |= *step == KeyStep::Revoked && recovery.is_none();
            let by = if *step == KeyStep::Revoked { "revoked" } else { "rotated" };
            rows.push(KeyRow { seq: leaf.seq.0, by, vkey: change.new_key().to_string() });
            signer = change.new_key().clone();
        }
        match trust {
            Some(trust) if trust.vkeys.contains(&signer) => {}
            Some(trust) if !trust.vkeys.contains(&first) => {
                return Err(Refused::new(Code::UnknownKey, "evidence: the vkey is neither the first nor the newest"));
            }
            Some(_) if is_unsure => {
                let what = "evidence: a revocation, and no recovery vkey to check it by";
                return Err(Refused::new(Code::Unreachable, what));
            }
            _ => {}
        }
        Ok(Keys { rows, recovery: opened.recovery.clone(), signer })
    }

    /// The key of the checkpoint.
    pub(super) fn signer(&self) -> &Vkey {
        &self.signer
    }

    /// `keys.json`.
    pub(super) fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct File<'a> {
            keys: &'a [KeyRow],
            recovery: &'a str,
        }
        pretty(&File { keys: &self.rows, recovery: &self.recovery })
    }
}

/// One partition with entries or declared ranges in the range.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) topic_no: u64,
    pub(super) partition: u64,
    /// Its lowest offset in the range.
    pub(super) first: u64,
    /// The offset after the last that is accounted for.
    pub(super) next: u64,
    /// How many of them are entries.
    pub(super) entries: u64,
    /// The others.
    pub(super) declared: Vec<Declared>,
}

/// A declared range, cut at the row's first offset.
#[derive(Serialize)]
pub(super) struct Declared {
    seq: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The code of the format.
    reason: u64,
}

/// Accounts for every offset between the first and the last of each partition, by the rules of the log itself.
///
/// # Errors
/// `offset-gap`, `offset-overlap`.
pub(super) fn completeness(first: Seq, next: Seq, proven: &[Proven]) -> Result<Vec<Row>, Refused> {
    let is_in_range = |seq: Seq| first <= seq && seq < next;
    let mut rows: BTreeMap<Partition, Row> = BTreeMap::new();
    let mut meet = |partition: Partition, offset: u64| {
        let (topic_no, number) = (partition.topic_no, partition.partition);
        let row = Row { topic_no, partition: number, first: offset, next: 0, entries: 0, declared: Vec::new() };
        let row = rows.entry(partition).or_insert(row);
        row.first = row.first.min(offset);
    };
    for Proven { leaf, .. } in proven.iter().filter(|proven| is_in_range(proven.leaf.seq)) {
        match (&leaf.src, &leaf.body) {
            (Some(src), _) => meet(src.partition(), src.offset),
            (None, Body::Gap(ranges)) => ranges.iter().for_each(|range| meet(range.partition, range.first)),
            _ => {}
        }
    }
    let mut account = Completeness::default();
    let start = |(partition, row): (&Partition, &Row)| Source {
        partition: *partition,
        first: row.first,
        next: row.first,
        entries: 0,
    };
    account.resume(&rows.iter().map(start).collect::<Vec<_>>());
    for Proven { leaf, .. } in proven.iter().filter(|proven| proven.leaf.seq < next) {
        if let (Some(src), true) = (leaf.src, is_in_range(leaf.seq)) {
            account.entry(src).map_or(Ok(()), |fault| Err(refuse(&fault)))?;
            rows.entry(src.partition()).and_modify(|row| row.entries += 1);
        } else if let Body::Gap(ranges) = &leaf.body {
            for range in ranges {
                let Some(row) = rows.get_mut(&range.partition).filter(|row| range.last >= row.first) else { continue };
                let first = range.first.max(row.first);
                account.gap(range.partition, first, range.last).map_or(Ok(()), |fault| Err(refuse(&fault)))?;
                let (seq, reason) = (leaf.seq.0, range.reason.code());
                row.declared.push(Declared { seq, first, last: range.last, reason });
            }
        }
    }
    // A range that waits for entries behind ours is not ours to judge.
    let _ = account.end_segment();
    for (partition, row) in &mut rows {
        row.next = account.next(*partition);
        let next = row.next;
        row.declared.retain(|declared| declared.first < next);
    }
    Ok(rows.into_values().collect())
}

fn refuse(fault: &OffsetFault) -> Refused {
    let what = format!("evidence: partition {}: expected {}, found {}", fault.partition, fault.expected, fault.found);
    Refused::new(fault.code, what)
}

/// `undisclosed.txt`: a line for each part of the range that stays closed, with its digest and why; `None` where `why`
/// has no answer.
pub(super) fn undisclosed(
    first: Seq,
    next: Seq,
    proven: &[Proven],
    mut why: impl FnMut(Seq, u32) -> Option<Closed>,
) -> Option<String> {
    let mut text = String::new();
    for Proven { leaf, disclosed, .. } in
        proven.iter().filter(|proven| first <= proven.leaf.seq && proven.leaf.seq < next)
    {
        for (part, reference) in (0u32..).zip(&leaf.parts) {
            if disclosed.as_ref().is_some_and(|disclosed| disclosed.part == part) {
                continue;
            }
            let why = why(leaf.seq, part)?;
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{} {part} {} {}", leaf.seq, reference.digest, why.as_str());
        }
    }
    Some(text)
}

/// The names of the topics a bundle declares, by number.
pub(super) fn topics(proven: &[Proven]) -> BTreeMap<u64, String> {
    let declared = proven.iter().filter_map(|proven| match &proven.leaf.body {
        Body::TopicDeclared(topic) => Some((topic.topic_no, topic.name.clone())),
        _ => None,
    });
    declared.collect()
}
