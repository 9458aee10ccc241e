//! What the verifier knows from outside: his keys, revocations in hand, a head he has seen.

use super::super::checkpoint::Statement;
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::keychange::Revocation;
use super::super::note::Vkey;
use super::super::rules::Fault;
use super::super::seq::{Seq, Size};
use super::check::root_at;
use super::report::Fresh;
use super::{Audit, Joined};

/// Whether the archive shows the tree of some size.
pub(super) enum Shown {
    Root(Hash),
    /// It ends before, and its newest segment is sound: there is no such tree here.
    Beyond,
    /// It is in a segment that is missing or broken: nothing depends on it.
    Lost,
    /// It is in a segment that was read, and cannot be read again.
    Failed(Fault),
}

impl Audit<'_> {
    /// The verifier's vkey is that of kind 1 or of the newest checkpoint; his recovery vkey is that of kind 1.
    pub(super) fn check_keys(&mut self) {
        if self.segments.is_empty() {
            let fault = Fault::of(Code::Unreachable, "archive", "a segment", "none");
            self.findings.add(None, fault);
            return;
        }
        if self.input.vkeys.is_empty() {
            self.findings.add(None, Fault::of(Code::Unreachable, "vkey", "the log's vkey, from outside", "none"));
        } else if let Some(first) = self.rules.first_key() {
            let newest = self.segments.iter().rev().flatten().next().and_then(|joined| self.key_of(joined));
            let is_trusted = |vkey: &Vkey| vkey == first || Some(vkey) == newest;
            if !self.input.vkeys.iter().any(is_trusted) {
                let held: Vec<String> = self.input.vkeys.iter().map(ToString::to_string).collect();
                let newest = newest.map_or_else(String::new, |newest| format!(" or {newest}"));
                let fault = Fault::of(Code::UnknownKey, "vkey", format!("{first}{newest}"), held.join(", "));
                self.findings.add(None, fault);
            }
        }
        let (held, named) = (self.input.recovery.as_ref(), self.rules.recovery());
        if let (Some(held), Some(named)) = (held, named)
            && held != named
        {
            self.findings.add(None, Fault::of(Code::UnknownKey, "recovery vkey", named, held));
        }
    }

    /// What a revoked key signed counts up to the vouched size, and only in the vouched tree.
    pub(super) fn check_revocations(&mut self) {
        if self.input.recovery.is_none() && !self.input.revoked.is_empty() {
            let fault = Fault::of(Code::Unreachable, "revocation in hand", "the recovery vkey, from outside", "none");
            self.findings.add(None, fault);
        }
        for revocation in self.revocations.clone() {
            let vouched = &revocation.vouched;
            let shown = self.shown(vouched.size);
            let is_other_tree = matches!(shown, Shown::Root(root) if root != vouched.root);
            match shown {
                Shown::Beyond => {
                    let place = format!("tree of {} vouched for by a revocation", vouched.size);
                    let size = self.newest().map_or(Size(0), |newest| newest.size);
                    self.findings.add(None, Fault::of(Code::Unreachable, place, vouched.root, format!("size {size}")));
                }
                Shown::Failed(fault) => self.findings.add(None, fault),
                Shown::Root(_) | Shown::Lost => {}
            }
            let faults: Vec<(u64, Fault)> = (0..)
                .zip(&self.segments)
                .filter_map(|(segment, joined)| Some((segment, joined.as_ref()?)))
                .filter(|(_, joined)| self.key_of(joined) == Some(&revocation.old))
                .filter(|(_, joined)| joined.size > vouched.size || is_other_tree)
                .map(|(segment, joined)| (segment, revoked(&revocation, joined.size)))
                .collect();
            faults.into_iter().for_each(|(segment, fault)| self.findings.add(Some(segment), fault));
        }
    }

    /// The entry in which a revoked key gave the log to another key than the note's, beyond the vouched size, and that key.
    ///
    /// An owner who rotated and later revoked the old key has such an entry, and so has a thief who rotates first and then
    /// signs no checkpoint with the stolen key. Format version 1 tells them apart by the verifier's vkeys alone.
    pub(super) fn handed_on(&self, revocation: &Revocation) -> Option<(Seq, &Vkey)> {
        let spans: Vec<(Size, &Vkey)> = self.rules.key_spans().collect();
        let next = spans.windows(2).find_map(|pair| match pair {
            [(_, old), next] if **old == revocation.old => Some(*next),
            _ => None,
        });
        let (from, new) = next?;
        let is_theirs = from > revocation.vouched.size && *new != revocation.new;
        is_theirs.then(|| (Seq(from.0.saturating_sub(1)), new))
    }

    /// The known head is of this tree, and none is newer. Confirms the newest checkpoint where it is that.
    pub(super) fn check_known_head(&mut self) -> Option<Fresh> {
        let size = self.check_head(self.input.known_head.as_deref()?, "known head", true)?;
        let is_newest = self.newest().is_some_and(|newest| newest.size == size);
        is_newest.then_some(Fresh { source: "known-head", size })
    }

    /// The log's own head file is of this tree as far as the archive goes. It confirms nothing.
    pub(super) fn check_own_head(&mut self) {
        if let Some(note) = self.input.own_head.as_deref() {
            self.check_head(note, "head file", false);
        }
    }

    /// Compares a head with this tree; `reaches` says whether the archive must go as far. Gives its size where the archive
    /// shows that tree.
    fn check_head(&mut self, note: &str, place: &str, reaches: bool) -> Option<Size> {
        let statement = Statement::parse(note).ok()?;
        let head = &statement.head;
        if let Some(origin) = self.origin.as_ref().filter(|origin| **origin != head.origin) {
            let fault = Fault::of(Code::WrongOrigin, place, origin, &head.origin);
            self.findings.add(None, fault);
            return None;
        }
        if let Err(fault) = self.check_signer(&statement, place) {
            self.findings.add(None, fault);
            return None;
        }
        match self.shown(head.size) {
            Shown::Root(root) if root == head.root => return Some(head.size),
            Shown::Root(root) => {
                let place = format!("{place} of size {}", head.size);
                self.findings.add(None, Fault::of(Code::Forked, place, head.root, root));
            }
            Shown::Beyond if reaches => {
                let size = self.newest().map_or(Size(0), |newest| newest.size);
                let fault = Fault::of(Code::RolledBack, place, format!("size {}", head.size), format!("size {size}"));
                self.findings.add(None, fault);
            }
            Shown::Failed(fault) => self.findings.add(None, fault),
            Shown::Beyond | Shown::Lost => {}
        }
        None
    }

    fn check_signer(&self, statement: &Statement<'_>, place: &str) -> Result<(), Fault> {
        let size = statement.head.size;
        let is_within = size <= self.rules.size();
        let expected = self.rules.key_at(size).filter(|_| is_within);
        let refused = |refused: Refused| Fault::refused(None, place, refused);
        let Some(key) = self.signer(statement, expected).map_err(refused)? else { return Ok(()) };
        match self.revocations.iter().find(|revocation| revocation.old == *key && size > revocation.vouched.size) {
            Some(revocation) => Err(revoked(revocation, size)),
            None => Ok(()),
        }
    }

    pub(super) fn shown(&self, size: Size) -> Shown {
        if size == Size(0) {
            return Shown::Root(Hash::EMPTY_ROOT);
        }
        let is_within = |joined: &&Joined| joined.first < size && size <= joined.size;
        let within = (0..)
            .zip(&self.segments)
            .find_map(|(segment, joined)| joined.as_ref().filter(is_within).map(|joined| (segment, joined)));
        let (segment, joined): (u64, &Joined) = match within {
            Some(within) => within,
            None if self.segments.last().is_none_or(|last| last.as_ref().is_some_and(|last| last.size < size)) => {
                return Shown::Beyond;
            }
            None => return Shown::Lost,
        };
        let root = match joined.size == size {
            true => Ok(joined.root),
            false => root_at(self.archive, segment, size, self.input, None),
        };
        root.map_or_else(Shown::Failed, |root| root.map_or(Shown::Lost, Shown::Root))
    }
}

fn revoked(revocation: &Revocation, size: Size) -> Fault {
    let place = format!("checkpoint of size {size} by {}", revocation.old.key_id_hex());
    let expected = format!("up to size {} in the tree {}", revocation.vouched.size, revocation.vouched.root);
    Fault::of(Code::RevokedKey, place, expected, format!("size {size}"))
}
