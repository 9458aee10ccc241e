//! The answer of `verify`: the JSON of surface.md, and a few lines for people.

use serde_json::{Value, json};

use super::stamps;
use crate::core::audit::{AnchorSeen, Check, Finding, Report};

/// The JSON object.
pub(in crate::cli) fn json(report: &Report, exit: u8, seconds: f64) -> Value {
    let size = report.size.0;
    json!({
        "verdict": report.verdict(),
        "exit": exit,
        "origin": report.origin.as_ref().map(ToString::to_string),
        "size": size,
        "root": report.root.map(|root| root.to_string()),
        "segments": report.segments,
        "first_bad_seq": report.first_bad_seq.map(|seq| seq.0),
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "findings_total": report.findings_total,
        "anchors": report.anchors.iter().map(anchor).collect::<Vec<_>>(),
        "fresh": report.fresh.as_ref().map(|fresh| json!({ "source": fresh.source, "size": fresh.size.0 })),
        "pruned": report.pruned.iter().map(|(first, last)| last - first + 1).sum::<u64>(),
        "unproven": report.unproven,
        "closed": report.is_closed,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "entries_per_second": per_second(size, seconds),
    })
}

/// Whole entries a second; a rate needs no more digits.
pub(super) fn per_second(size: u64, seconds: f64) -> u64 {
    let micros = std::time::Duration::from_secs_f64(seconds.max(1e-6)).as_micros();
    u64::try_from(u128::from(size) * 1_000_000 / micros.max(1)).unwrap_or(u64::MAX)
}

fn check(check: &Check) -> Value {
    json!({ "name": check.name, "status": check.status.as_str(), "detail": check.detail })
}

pub(super) fn finding(finding: &Finding) -> Value {
    json!({
        "code": finding.code.as_str(),
        "severity": finding.severity.as_str(),
        "seq": finding.seq.map(|seq| seq.0),
        "segment": finding.segment,
        "place": finding.place,
        "expected": finding.expected,
        "found": finding.found,
        "hint": finding.hint,
    })
}

pub(super) fn anchor(anchor: &AnchorSeen) -> Value {
    json!({
        "kind": anchor.kind.as_str(),
        "authority": anchor.authority,
        "size": anchor.size.0,
        "time": anchor.time.map(|at| at.to_string()),
    })
}

/// The lines for people.
pub(super) fn text(report: &Report, seconds: f64) -> String {
    let origin = report.origin.as_ref().map_or_else(|| "(no origin)".to_owned(), ToString::to_string);
    let first = format!(
        "{}: {} ({} entries in {} segments, {seconds:.1} s)",
        origin,
        report.verdict(),
        report.size,
        report.segments
    );
    std::iter::once(first).chain(lines(report)).collect::<Vec<_>>().join("\n")
}

/// The lines below the first.
pub(in crate::cli) fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(root) = report.root {
        lines.push(format!("  root {root}"));
    }
    for check in &report.checks {
        lines.push(format!("  {:<8} {}  {}", check.status.as_str(), check.name, check.detail));
    }
    lines.extend(report.findings.iter().map(finding_text));
    let more = report.findings_total.saturating_sub(report.findings.len() as u64);
    if more > 0 {
        lines.push(format!("  and {more} more findings (--findings-max)"));
    }
    lines.extend(stamps::newest(report));
    lines.extend(report.unproven.iter().map(|what| format!("  unproven: {what}")));
    match (&report.fresh, report.exit) {
        (Some(fresh), _) => lines.push(format!("  confirmed by {} at size {}", fresh.source, fresh.size)),
        (None, 10) => lines.push(
            "  unanchored: nothing outside the archive says that this is the newest; give --known-head".to_owned(),
        ),
        _ => {}
    }
    lines
}

/// A finding, and what to do about it on a line of its own.
pub(super) fn finding_text(finding: &Finding) -> String {
    let seq = finding.seq.map_or_else(String::new, |seq| format!(" seq {seq}"));
    let segment = finding.segment.map_or_else(String::new, |segment| format!(" segment {segment}"));
    let Finding { hint, .. } = finding;
    let [place, expected, found] = [&finding.place, &finding.expected, &finding.found].map(|text| plain(text));
    let hint = if hint.is_empty() { String::new() } else { format!("\n    hint: {hint}") };
    format!("  {}{segment}{seq} {place}: expected {expected}, found {found}{hint}", finding.code.as_str())
}

/// Text without what would move a terminal's cursor: names and words of an archive may be anybody's.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
