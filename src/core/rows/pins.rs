//! What entries say about earlier segments: sealed, pinned, registered, audited, and when.
//!
//! Not a view of any pin target: only what the log states of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PinRow;
use crate::core::cid::Cid;
use crate::core::time::Timestamp;

/// A CAR on a target: the bytes read back, and the `at` of the first and the last kind 6 entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Copy {
    bytes: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// A segment on a target.
#[derive(Clone, Default, Debug)]
struct Pin {
    proof: Option<Copy>,
    payload: Option<Copy>,
    audited_at: Option<Timestamp>,
}

/// The statements so far.
#[derive(Clone, Default, Debug)]
pub(super) struct Pins {
    seals_by_root: BTreeMap<Cid, Cid>,
    pins: BTreeMap<(Cid, Arc<str>), Pin>,
    changed: BTreeSet<(Cid, Arc<str>)>,
    sealed: BTreeMap<Cid, Timestamp>,
    registered: BTreeMap<(Arc<str>, Cid), Timestamp>,
}

impl Pins {
    /// A segment the log has.
    pub(super) fn sealed(&mut self, seal: Cid, payload: Option<Cid>) {
        self.seals_by_root.insert(seal, seal);
        self.seals_by_root.extend(payload.map(|payload| (payload, seal)));
    }

    /// Kind 5.
    pub(super) fn stated(&mut self, seal: Cid, at: Timestamp) {
        self.sealed.insert(seal, at);
    }

    /// Kind 6. A root of no segment of ours is an anchor's, or nobody's: no row.
    pub(super) fn pinned(&mut self, root: Cid, target: &str, bytes: u64, at: Timestamp) {
        let Some(seal) = self.seals_by_root.get(&root) else { return };
        let key = (*seal, Arc::from(target));
        let pin = self.pins.entry(key.clone()).or_default();
        let copy = if root == *seal { &mut pin.proof } else { &mut pin.payload };
        let first_at = copy.map_or(at, |copy| copy.first_at);
        *copy = Some(Copy { bytes, first_at, last_at: at });
        self.changed.insert(key);
    }

    /// Kind 7.
    pub(super) fn registered(&mut self, seal: Cid, registrar: &str, at: Timestamp) {
        self.registered.insert((Arc::from(registrar), seal), at);
    }

    /// Kind 16 without a failure: the sample stands for the whole target. One with failures names no segment; the
    /// repair states each again.
    pub(super) fn audited(&mut self, target: &str, at: Timestamp) {
        for (key, pin) in self.pins.iter_mut().filter(|((_, pinned), _)| **pinned == *target) {
            pin.audited_at = Some(at);
            self.changed.insert(key.clone());
        }
    }

    pub(super) fn sealed_at(&self) -> Option<Timestamp> {
        self.sealed.values().max().copied()
    }

    pub(super) fn sealed_times(&self) -> &BTreeMap<Cid, Timestamp> {
        &self.sealed
    }

    pub(super) fn registered_times(&self, registrar: &str) -> BTreeMap<Cid, Timestamp> {
        let of_registrar = self.registered.iter().filter(|((name, _), _)| **name == *registrar);
        of_registrar.map(|((_, seal), at)| (*seal, *at)).collect()
    }

    pub(super) fn rows_of(&self, origin: &Arc<str>, seal: Cid) -> Vec<PinRow> {
        let of_seal = self.pins.iter().filter(|((pinned, _), _)| *pinned == seal);
        of_seal.filter_map(|((seal, target), pin)| pin.row(origin, *seal, target)).collect()
    }

    /// The rows that changed since this was last asked.
    pub(super) fn changed(&mut self, origin: &Arc<str>) -> Vec<PinRow> {
        let changed = std::mem::take(&mut self.changed);
        let rows = changed.iter().filter_map(|key| self.pins.get(key)?.row(origin, key.0, &key.1));
        rows.collect()
    }
}

impl Pin {
    /// The row; none while only the payload is stated.
    fn row(&self, origin: &Arc<str>, seal_cid: Cid, target: &Arc<str>) -> Option<PinRow> {
        let proof = self.proof?;
        let copies = || [Some(proof), self.payload].into_iter().flatten();
        Some(PinRow {
            seal_cid,
            target: Arc::clone(target),
            origin: Arc::clone(origin),
            contents: if self.payload.is_some() { "proof+payload" } else { "proof" },
            status: "verified",
            verified_bytes: Some(copies().map(|copy| copy.bytes).sum()),
            pinned_at: copies().map(|copy| copy.first_at).max(),
            verified_at: copies().map(|copy| copy.last_at).max().max(self.audited_at),
        })
    }
}

/// The row of a pin just made, before any sealed entry states it: what the kind 6 entries, which repeat `at`, will say.
/// `proof` and `payload` are the bytes read back of each CAR.
pub fn pin_row(origin: &str, seal_cid: Cid, target: &str, proof: u64, payload: Option<u64>, at: Timestamp) -> PinRow {
    PinRow {
        seal_cid,
        target: Arc::from(target),
        origin: Arc::from(origin),
        contents: if payload.is_some() { "proof+payload" } else { "proof" },
        status: "verified",
        verified_bytes: Some(proof + payload.unwrap_or(0)),
        pinned_at: Some(at),
        verified_at: Some(at),
    }
}
