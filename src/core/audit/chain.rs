//! The segments in order: does each go on from the ones before.

use super::super::checkpoint::{Form, Head, Statement};
use super::super::completeness::Source;
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::keychange::Revocation;
use super::super::note::Vkey;
use super::super::rules::{Claim, Fault};
use super::super::segment::{Seal, skip_of};
use super::super::seq::{Seq, Size};
use super::check::{Checked, Contents, Outcome, Step, check_from, replay, root_at};
use super::heads::Shown;
use super::{Audit, Joined, Signer};

impl Audit<'_> {
    pub(super) fn join_segment(&mut self, checked: Checked) {
        let Checked { segment, outcome, findings } = checked;
        match outcome {
            Outcome::Missing => {
                self.findings.add(Some(segment), Fault::of(Code::SegmentMissing, "proof file", "a file", "none"));
                self.lose();
            }
            Outcome::Broken => {
                self.findings.append(findings);
                self.lose();
            }
            Outcome::Read(contents) => {
                if let Some(fault) = self.start_fault(&contents.seal) {
                    // Its own word for where it starts is wrong, so whatever was computed from that is too.
                    self.findings.add(Some(segment), fault);
                    let again = check_from(self.archive, segment, self.input, self.tree.as_ref());
                    self.findings.append(again.findings);
                    match again.outcome {
                        Outcome::Read(contents) => self.join_contents(segment, *contents),
                        _ => self.lose(),
                    }
                    return;
                }
                self.findings.append(findings);
                self.join_contents(segment, *contents);
            }
        }
    }

    /// What depends on a segment that could not be read makes no finding.
    fn lose(&mut self) {
        self.rules.lose();
        self.tree = None;
        self.last = None;
        self.segments.push(None);
    }

    fn start_fault(&self, seal: &Seal) -> Option<Fault> {
        let tree = self.tree.as_ref()?;
        if seal.first != tree.size() {
            return Some(Fault::of(Code::SealLink, "first of the Seal", tree.size(), seal.first));
        }
        let folded = |peaks: &[_]| format!("{peaks:?}");
        (seal.peaks != tree.peaks())
            .then(|| Fault::of(Code::RootMismatch, "peaks of the Seal", folded(tree.peaks()), folded(&seal.peaks)))
    }

    fn join_contents(&mut self, segment: u64, contents: Contents) {
        let Contents { cid, seal, tree, peaks_fault, first_prev, last, steps, has_payload_file, anchors, bytes } =
            contents;
        self.findings.add_all(segment, peaks_fault);
        let first = self.tree.as_ref().map_or(seal.first, |tree| tree.size());
        if let (Some(last), Some((seq, prev))) = (self.last, first_prev)
            && last != prev
        {
            self.findings.add(Some(segment), Fault::at(seq, Code::ChainLink, "prev", last, prev));
        }
        self.check_links(segment, &seal);
        self.rules.begin_segment(first, &seal.sources);
        match steps {
            Some(steps) => steps.into_iter().for_each(|step| self.step(segment, step)),
            None => self.replay(segment),
        }
        self.check_sources(segment, &seal);
        self.check_origin(segment, &seal);
        let size = tree.as_ref().map_or(Size(seal.first.0.saturating_add(seal.count)), |tree| tree.size());
        let root = tree.as_ref().map(|tree| tree.root());
        let signer = self.check_checkpoint(segment, &seal, size, root);
        match (seal.payload.is_some(), has_payload_file) {
            (true, false) => {
                let is_sampled = self.input.payload_sample.as_ref().is_none_or(|sample| sample.contains(&segment));
                self.payload_absent.extend(is_sampled.then_some(segment));
            }
            (_, true) => self.has_payload_files = true,
            (false, false) => {}
        }
        self.anchors.extend(anchors);
        self.bytes += bytes;
        self.tree = tree;
        self.last = last;
        let checkpoint = Hash::of(seal.checkpoint.as_bytes());
        let payload = seal.payload;
        self.segments.push(Some(Joined { seal: cid, payload, first, size, root, checkpoint, signer, is_named: false }));
    }

    fn check_links(&mut self, segment: u64, seal: &Seal) {
        let known = |named: u64| {
            let named = usize::try_from(named).ok().and_then(|named| self.segments.get(named));
            named.and_then(Option::as_ref).map(|joined| joined.seal)
        };
        let links = [
            ("prev_seal", seal.prev_seal, segment.checked_sub(1)),
            ("skip", seal.skip, (segment > 0).then(|| skip_of(segment))),
        ];
        let mut faults = Vec::new();
        for (name, found, named) in links {
            let expected = named.map(|named| (named, known(named)));
            let is_sound = match (expected, found) {
                (None, found) => found.is_none(),
                (Some(_), None) => false,
                (Some((_, None)), Some(_)) => true,
                (Some((_, Some(expected))), Some(found)) => expected == found,
            };
            if !is_sound {
                let expected = match expected {
                    Some((named, Some(cid))) => format!("{cid} of segment {named}"),
                    Some((named, None)) => format!("the seal of segment {named}"),
                    None => "null".to_owned(),
                };
                let found = found.map_or_else(|| "null".to_owned(), |cid| cid.to_string());
                faults.push(Fault::of(Code::SealLink, format!("{name} of the Seal"), expected, found));
            }
        }
        self.findings.add_all(segment, faults);
    }

    fn replay(&mut self, segment: u64) {
        let (archive, input) = (self.archive, self.input);
        if let Err(fault) = replay(archive, segment, input, |step| self.step(segment, step)) {
            self.findings.add(Some(segment), fault);
            self.rules.lose();
        }
    }

    fn step(&mut self, segment: u64, step: Step) {
        match step {
            Step::Event(seq, position) => {
                let fault = self.rules.event(seq, position);
                self.findings.add_all(segment, fault);
            }
            Step::Unknown => self.rules.lose(),
            Step::Entry(entry) => {
                let (seq, src, body) = *entry;
                let mut faults = Vec::new();
                let claim = self.rules.apply(seq, src, &body, &mut faults);
                if let Some(claim) = claim {
                    faults.extend(self.settle(segment, seq, claim));
                }
                self.findings.add_all(segment, faults);
            }
        }
    }

    /// Compares what an entry says about segments with the segments.
    fn settle(&mut self, current: u64, seq: Seq, claim: Claim) -> Option<Fault> {
        match claim {
            Claim::Sealed { segment, .. } if segment >= current => {
                Some(Fault::at(seq, Code::SealLink, "segment-sealed", "an earlier segment", segment))
            }
            Claim::Sealed { segment, seal, payload } => {
                let joined = usize::try_from(segment).ok().and_then(|named| self.segments.get_mut(named));
                let joined = joined.and_then(Option::as_mut)?;
                joined.is_named = true;
                let show = |seal, payload: Option<_>| match payload {
                    Some(payload) => format!("seal {seal} with payload {payload}"),
                    None => format!("seal {seal} without payload"),
                };
                let (expected, found) = (show(joined.seal, joined.payload), show(seal, payload));
                (expected != found).then(|| Fault::at(seq, Code::SealLink, "segment-sealed", expected, found))
            }
            Claim::Pruned { first, last } if first > last || last > current => {
                let found = format!("segments {first} to {last}");
                Some(Fault::at(seq, Code::NonCanonical, "pruned", format!("segments up to {current}"), found))
            }
            Claim::Pruned { first, last } => {
                self.pruned.push((first, last));
                None
            }
            Claim::Revoked(revocation) => self.settle_revocation(current, seq, *revocation),
        }
    }

    /// A revocation vouches for a tree of this log; of another one it changes nothing.
    fn settle_revocation(&mut self, current: u64, seq: Seq, revocation: Revocation) -> Option<Fault> {
        let vouched = &revocation.vouched;
        let root = match self.shown(vouched.size) {
            Shown::Root(root) => Ok(Some(root)),
            Shown::Failed(fault) => Err(fault),
            // Within this segment, which is not joined yet.
            Shown::Beyond | Shown::Lost => root_at(self.archive, current, vouched.size, self.input, self.tree.as_ref()),
        };
        match root {
            Err(fault) => return Some(fault),
            Ok(Some(root)) if root != vouched.root => {
                self.rules.refuse_key();
                let place = format!("tree of {} vouched for", vouched.size);
                return Some(Fault::at(seq, Code::RootMismatch, place, root, vouched.root));
            }
            Ok(_) => {}
        }
        // With the recovery key at hand the note counts as if the verifier had brought it.
        if self.input.recovery.is_some() {
            self.revocations.push(revocation);
        }
        None
    }

    fn check_sources(&mut self, segment: u64, seal: &Seal) {
        let mut faults = Vec::new();
        let expected = self.rules.end_segment(&mut faults);
        self.findings.add_all(segment, faults);
        let Some(expected) = expected else { return };
        let is_compared = |row: &&Source| !self.rules.completeness().is_faulted(row.partition);
        let expected: Vec<&Source> = expected.iter().filter(is_compared).collect();
        let found: Vec<&Source> = seal.sources.iter().filter(is_compared).collect();
        if expected != found {
            let differs = expected.iter().zip(&found).position(|(expected, found)| expected != found);
            let at = differs.unwrap_or(expected.len().min(found.len()));
            let show = |rows: &[&Source]| rows.get(at).map_or_else(|| "no further row".to_owned(), |row| show_row(row));
            let place = format!("sources of the Seal, row {at}");
            self.findings.add(Some(segment), Fault::of(Code::SealLink, place, show(&expected), show(&found)));
        }
    }

    /// One log has one origin: that of kind 1, of every seal, of every checkpoint.
    fn check_origin(&mut self, segment: u64, seal: &Seal) {
        let origin = self.rules.origin().or(self.origin.as_ref()).unwrap_or(&seal.origin).clone();
        if origin != seal.origin {
            let fault = Fault::of(Code::WrongOrigin, "origin of the Seal", &origin, &seal.origin);
            self.findings.add(Some(segment), fault);
        }
        self.origin = Some(origin);
    }

    /// Reads the checkpoint of a segment that ends at `size` with `root`; says who signed it, whatever it says.
    fn check_checkpoint(&mut self, segment: u64, seal: &Seal, size: Size, root: Option<Hash>) -> Signer {
        let (head, key) = match self.open_checkpoint(seal, size) {
            Ok(opened) => opened,
            Err(fault) => {
                self.findings.add(Some(segment), fault);
                return Signer::Refused;
            }
        };
        if head.size != size || root.is_some_and(|root| root != head.root) {
            let expected = format!("size {size}, root {}", root.unwrap_or(head.root));
            let found = format!("size {}, root {}", head.size, head.root);
            self.findings.add(Some(segment), Fault::of(Code::RootMismatch, "checkpoint", expected, found));
        }
        key.map_or(Signer::Unknown, |key| self.signed_by(key))
    }

    fn open_checkpoint(&self, seal: &Seal, size: Size) -> Result<(Head, Option<Vkey>), Fault> {
        let refused = |refused| Fault::refused(None, "checkpoint", refused);
        let statement = Statement::parse(&seal.checkpoint).map_err(refused)?;
        if statement.form == Form::Live || !statement.has_one_line() {
            return Err(refused(Refused::non_canonical("not a checkpoint with one signature line")));
        }
        if let Some(origin) = self.origin.as_ref().filter(|origin| **origin != statement.head.origin) {
            return Err(Fault::of(Code::WrongOrigin, "checkpoint", origin, &statement.head.origin));
        }
        let key = self.signer(&statement, self.rules.key_at(size)).map_err(refused)?.cloned();
        Ok((statement.head, key))
    }

    /// Who signed `statement`: `expected`, or, where it is not known whose turn it was, any key that is known.
    /// `None` where the signer is not known and nothing can be said against him.
    pub(super) fn signer<'k>(
        &'k self,
        statement: &Statement<'_>,
        expected: Option<&'k Vkey>,
    ) -> Result<Option<&'k Vkey>, Refused> {
        let key = expected.or_else(|| {
            let mut keys = self.rules.keys().chain(&self.input.vkeys);
            keys.find(|key| statement.note.signatures.iter().any(|line| key.is_named_by(line)))
        });
        key.map(|key| statement.verify(key).map(|()| key)).transpose()
    }
}

fn show_row(row: &Source) -> String {
    let Source { partition, first, next, entries } = row;
    format!("partition {partition} from {first} to {next} with {entries} entries")
}
