//! A registry given all segments: one that came later, or one that is written anew (`registry rebuild`).
//!
//! One durable task asks for it. When the registry has dropped the log's rows, if it was to, the same commit that ends the task
//! puts a registration of every segment in its place, with the times its entries of kinds 5 and 7 state; so a crash at
//! any point is gone on from, and the rows come out as they were. The fence stays: what was shown was shown.

use std::path::Path;

use super::{Folded, Outbox, Registry, SidecarError, Task, Timestamp, Writer, random_uuid};
use crate::core::leaf::LeafView;
use crate::journal::SealRow;
use crate::registry::Fence;
use crate::sidecar::stated::Stated;
use crate::sidecar::stored::Reading;

impl Registry {
    /// Whether all segments are to be registered anew: then, whether rows are to be dropped first.
    pub(super) fn is_to_drop(&self, outbox: &Outbox) -> Option<bool> {
        match outbox.get(0, &again(&self.lane.name, Timestamp(0), false).name()) {
            Some(Task::Again { drops_rows, .. }) => Some(*drops_rows),
            _ => None,
        }
    }

    /// The fence after a segment is registered: never back.
    pub(super) fn fence_after(fence: Option<Fence>, row: &SealRow) -> Fence {
        let to = Fence { size: row.end(), root: row.root };
        fence.filter(|fence| fence.size >= to.size).unwrap_or(to)
    }

    /// Rows that had to go are gone: registers every segment, and the pins and anchors that no segment states yet.
    pub(super) fn register_all(
        &mut self,
        writer: &mut Writer,
        outbox: &mut Outbox,
        archive: &Path,
    ) -> Result<(), SidecarError> {
        let state = writer.journal.state();
        let registry = self.lane.name.clone();
        let (sealed, tail) = stated(writer, archive)?;
        for segment in 0..state.sealed.segments {
            let Some(row) = writer.journal.seal(segment)? else { continue };
            let one_of = |of: &dyn Fn(&Stated) -> Option<Timestamp>| of(&tail).or(of(&sealed));
            let since = one_of(&|stated| stated.sealed_at(row.seal)).unwrap_or(state.recorded_at);
            let at = one_of(&|stated| stated.registered_at(&registry, row.seal));
            let request = at.map(|_| random_uuid(writer)).transpose()?;
            let task = Task::Register { registry: registry.clone(), request, at, since, is_stated: at.is_some() };
            outbox.put(writer, segment, task);
            for target in tail.targets() {
                let Some((proof, payload)) = tail.pin(target, &row) else { continue };
                let task = Task::RegisterPin {
                    registry: registry.clone(),
                    target: target.clone(),
                    request: random_uuid(writer)?,
                    at: proof.at,
                    proof_bytes: proof.bytes,
                    payload_bytes: payload.map(|payload| payload.bytes),
                };
                outbox.put(writer, segment, task);
            }
            if let Some(cid) = tail.anchor(segment) {
                let (request, cid) = (random_uuid(writer)?, cid.to_string());
                outbox.put(writer, segment, Task::RegisterAnchor { registry: registry.clone(), cid, request, since });
            }
            if writer.is_commit_due() {
                writer.commit()?;
            }
        }
        outbox.end(writer, 0, &again(&registry, Timestamp(0), false).name());
        self.folded = Some(Folded::new(writer.origin()));
        writer.commit()
    }
}

/// The task that asks for all segments, at segment 0.
pub(in crate::sidecar) fn again(registry: &str, since: Timestamp, drops_rows: bool) -> Task {
    Task::Again { registry: registry.to_owned(), since, drops_rows }
}

/// What the archived segments state, and what the entries behind them do.
fn stated(writer: &Writer, archive: &Path) -> Result<(Stated, Stated), SidecarError> {
    let (mut sealed, mut tail) = (Stated::default(), Stated::default());
    let state = writer.journal.state();
    for segment in 0..state.sealed.segments {
        let Some(row) = writer.journal.seal(segment)? else { continue };
        let mut leaves = Reading::open(archive, &SealRow { payload: None, ..row })?;
        while let Some(entry) = leaves.next()? {
            take(&mut sealed, &entry.leaf)?;
        }
    }
    for entry in writer.journal.leaves(state.sealed.tree.size().next_seq(), state.size())? {
        take(&mut tail, &entry?.leaf)?;
    }
    Ok((sealed, tail))
}

fn take(stated: &mut Stated, leaf: &[u8]) -> Result<(), SidecarError> {
    let view = super::own("a stored leaf", LeafView::decode(leaf))?;
    if matches!(view.kind, 5..=7 | 20) {
        stated.take(&super::own("a stored leaf", view.body())?);
    }
    Ok(())
}
