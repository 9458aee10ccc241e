//! What nothing proves, though nothing may have been found: what is not here, and what only missing entries could confirm.
//!
//! Not findings: a partial archive is proven as far as it goes, and its reader must know how far that is.

use super::{Audit, Joined, Signer};

/// Lines, at most: whoever is told a hundred things that are not shown needs no more.
const LINES_MAX: usize = 100;

impl Audit<'_> {
    pub(super) fn unproven(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.runs(Option::is_none).into_iter().map(|run| self.absent(run)).collect();
        let is_strange = |joined: &Joined| joined.signer == Signer::Unknown;
        lines.extend(self.runs(|joined| joined.as_ref().is_some_and(is_strange)).into_iter().map(|(first, last)| {
            let whose = plural("checkpoint", first, last);
            format!("{whose}: signed by a key that no entry here names, and no vkey at hand is")
        }));
        for revocation in &self.revocations {
            let handed_on = self.handed_on(revocation).filter(|(_, new)| !self.input.vkeys.contains(new));
            lines.extend(handed_on.map(|(seq, new)| {
                let old = revocation.old.key_id_hex();
                format!(
                    "entry {seq}: the revoked key {old} gave the log to {new}, which neither the revocation nor a vkey at \
                     hand names: a thief who rotates first would write the same"
                )
            }));
        }
        if !self.has_payload_files {
            // The payload a seal names is held by the frames themselves, or by the kind 5 entry of a later segment.
            let is_unnamed = |joined: &Joined| joined.payload.is_some() && !joined.is_named;
            let newest = self.next_segment().checked_sub(1);
            let runs = self.runs(|joined| joined.as_ref().is_some_and(is_unnamed));
            lines.extend(runs.into_iter().map(|(first, last)| {
                let whose = plural("payload", first, last);
                if first == last && Some(last) == newest { format!("{whose}, the newest") } else { whose }
            }));
        }
        let more = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        lines.extend((more > 0).then(|| format!("and {more} more")));
        lines
    }

    /// A run of segments that are missing or could not be read, with the entries that are known to be in it.
    fn absent(&self, (first, last): (u64, u64)) -> String {
        let joined = |segment: u64| {
            let at = usize::try_from(segment).ok();
            at.and_then(|at| self.segments.get(at)).and_then(Option::as_ref)
        };
        let from = match first.checked_sub(1) {
            Some(before) => joined(before).map_or(0, |joined| joined.size.0),
            None => 0,
        };
        let which = plural("", first, last);
        match joined(last + 1) {
            Some(next) if next.first.0 > from => format!(
                "{which}, entries {from} to {}: nothing is shown about them, and offsets are accounted for anew after them",
                next.first.0 - 1
            ),
            _ => format!("{which}, entries from {from} on: nothing is shown about them"),
        }
    }

    /// The runs of neighbouring segments that are `such`, as first and last.
    fn runs(&self, such: impl Fn(&Option<Joined>) -> bool) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (segment, _) in (0..).zip(&self.segments).filter(|(_, joined)| such(joined)) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == segment => *last = segment,
                _ => runs.push((segment, segment)),
            }
        }
        runs
    }
}

/// `what of segment 5`, or of several; without `what` the segments alone.
fn plural(what: &str, first: u64, last: u64) -> String {
    match (what, first == last) {
        ("", true) => format!("segment {first}"),
        ("", false) => format!("segments {first} to {last}"),
        (what, true) => format!("{what} of segment {first}"),
        (what, false) => format!("{what}s of segments {first} to {last}"),
    }
}
