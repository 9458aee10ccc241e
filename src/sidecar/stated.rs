//! What the log's own entries say was done with its segments: sealed, pinned, registered, anchored (kinds 5, 6, 7, 20).
//!
//! For whoever has lost the outbox, or wants to do its work again: what is stated here is done, and when. Not a view of
//! any target or registry, only of the log's word.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::cid::Cid;
use crate::core::leaf::Body;
use crate::core::time::Timestamp;
use crate::journal::SealRow;

/// A root on a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pinned {
    /// The bytes read back.
    pub(super) bytes: u64,
    /// When, last.
    pub(super) at: Timestamp,
}

/// The statements so far.
#[derive(Clone, Default, Debug)]
pub(super) struct Stated {
    sealed: BTreeMap<Cid, Timestamp>,
    pinned: BTreeMap<String, BTreeMap<Cid, Pinned>>,
    registered: BTreeMap<String, BTreeMap<Cid, Timestamp>>,
    anchored: BTreeMap<u64, Cid>,
}

impl Stated {
    /// Takes an entry; other kinds say nothing here.
    pub(super) fn take(&mut self, body: &Body) {
        match body {
            Body::SegmentSealed { at, seal, .. } => drop(self.sealed.insert(*seal, *at)),
            Body::Pinned { at, cid, bytes, target } => {
                self.pinned.entry(target.clone()).or_default().insert(*cid, Pinned { bytes: *bytes, at: *at });
            }
            Body::Registered { at, seal, registrar, .. } => {
                self.registered.entry(registrar.clone()).or_default().insert(*seal, *at);
            }
            Body::Anchored { cid, segment } => drop(self.anchored.insert(*segment, *cid)),
            _ => {}
        }
    }

    /// The newest anchor of a segment.
    pub(super) fn anchor(&self, segment: u64) -> Option<Cid> {
        self.anchored.get(&segment).copied()
    }

    /// When the segment was sealed.
    pub(super) fn sealed_at(&self, seal: Cid) -> Option<Timestamp> {
        self.sealed.get(&seal).copied()
    }

    /// When the registry had the segment.
    pub(super) fn registered_at(&self, registrar: &str, seal: Cid) -> Option<Timestamp> {
        self.registered.get(registrar)?.get(&seal).copied()
    }

    /// The proof of the segment on a target, and its payload where that is there too.
    pub(super) fn pin(&self, target: &str, row: &SealRow) -> Option<(Pinned, Option<Pinned>)> {
        let pinned = self.pinned.get(target)?;
        Some((*pinned.get(&row.seal)?, row.payload.and_then(|payload| pinned.get(&payload).copied())))
    }

    /// Whether a target has all of the segment that it gets. One that never got a payload gets proofs only.
    pub(super) fn is_pinned(&self, target: &str, row: &SealRow, payloads: &BTreeSet<Cid>) -> bool {
        let Some((_, payload)) = self.pin(target, row) else { return false };
        let gets_payloads =
            self.pinned.get(target).is_some_and(|roots| roots.keys().any(|root| payloads.contains(root)));
        row.payload.is_none() || payload.is_some() || !gets_payloads
    }

    /// Every target named.
    pub(super) fn targets(&self) -> impl Iterator<Item = &String> {
        self.pinned.keys()
    }

    /// Forgets what is stated of a registry.
    pub(super) fn forget_registry(&mut self, name: &str) {
        self.registered.remove(name);
    }

    /// Every registry named.
    pub(super) fn registries(&self) -> impl Iterator<Item = &String> {
        self.registered.keys()
    }
}
