//! Which key signs at which size: kind 1 and the key changes after it (kind 8).

use super::super::finding::Code;
use super::super::keychange::{KeyChange, Standing};
use super::super::leaf::{KeyStep, Opened};
use super::super::note::Vkey;
use super::super::origin::Origin;
use super::super::seq::{Seq, Size};
use super::{Claim, Fault};

/// The keys of a log so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Keys {
    /// From which size on each key signs, ascending; `None` where the entry that names it is not known.
    pub(super) spans: Vec<(Size, Option<Vkey>)>,
    pub(super) recovery: Option<Vkey>,
}

impl Keys {
    /// Takes kind 1.
    pub(super) fn open(&mut self, seq: Seq, opened: &Opened) -> Option<Fault> {
        let (log, recovery) = (opened.origin.as_str().to_owned(), format!("{}/recovery", opened.origin));
        let read = |vkey: &str, name: &str| vkey.parse::<Vkey>().ok().filter(|vkey| vkey.name() == name);
        let key = read(&opened.vkey, &log);
        self.recovery = read(&opened.recovery, &recovery);
        let is_sound = key.is_some() && self.recovery.is_some();
        self.spans = vec![(seq.size(), key)];
        let expected = || format!("vkeys of {log} and {recovery}");
        let found = || format!("{} and {}", opened.vkey, opened.recovery);
        (!is_sound).then(|| Fault::at(seq, Code::NonCanonical, "log-opened", expected(), found()))
    }

    /// Takes kind 8. A note that is refused changes no key: who signs on with the old one is not to blame twice.
    pub(super) fn change(
        &mut self,
        seq: Seq,
        origin: Option<&Origin>,
        note: &str,
        step: KeyStep,
        faults: &mut Vec<Fault>,
    ) -> Option<Claim> {
        match self.check(seq, origin, note, step) {
            Ok((new, claim)) => {
                self.spans.push((seq.size(), Some(new)));
                claim
            }
            Err(fault) => {
                faults.push(fault);
                None
            }
        }
    }

    fn check(
        &self,
        seq: Seq,
        origin: Option<&Origin>,
        note: &str,
        step: KeyStep,
    ) -> Result<(Vkey, Option<Claim>), Fault> {
        let current = self.at(seq.size());
        let standing = Standing { origin, seq, current, recovery: self.recovery.as_ref() };
        let change = KeyChange::open(step, note, &standing)
            .map_err(|refused| Fault::refused(Some(seq), "key-changed", refused))?;
        let claim = match &change {
            KeyChange::Rotated(_) => None,
            KeyChange::Revoked(revocation) => Some(Claim::Revoked(Box::new(revocation.clone()))),
        };
        Ok((change.new_key().clone(), claim))
    }

    /// The key of size `size`.
    pub(super) fn at(&self, size: Size) -> Option<&Vkey> {
        self.spans.iter().rev().find(|(from, _)| *from <= size).and_then(|(_, key)| key.as_ref())
    }

    /// Takes the newest change back.
    pub(super) fn refuse(&mut self) {
        self.spans.pop();
    }

    /// Entries after the first `size` are not known: any of them may have changed the key.
    pub(super) fn lose(&mut self, size: Size) {
        self.spans.push((Size(size.0.saturating_add(1)), None));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Vkey> {
        self.spans.iter().filter_map(|(_, key)| key.as_ref())
    }

    pub(super) fn first(&self) -> Option<&Vkey> {
        self.spans.first().filter(|(from, _)| *from == Size(1)).and_then(|(_, key)| key.as_ref())
    }

    pub(super) fn recovery(&self) -> Option<&Vkey> {
        self.recovery.as_ref()
    }
}
