//! The rows of anchors: each file as it now stands, when a registry has its segment.

use std::path::Path;

use super::request::Request;
use super::{Outbox, PINS_MAX, Registry, SidecarError, Task, own};
use crate::core::rows::{AnchorRow, anchor_rows};
use crate::sidecar::anchoring;

impl Registry {
    /// Anchors of segments this registry has, not yet told.
    pub(super) fn anchors(&self, outbox: &Outbox, archive: &Path) -> Result<Option<Request>, SidecarError> {
        let (mut anchors, mut tasks, mut first) = (Vec::new(), Vec::new(), None);
        let is_ours =
            |task: &Task| matches!(task, Task::RegisterAnchor { registry, .. } if *registry == self.lane.name);
        for (segment, task) in outbox.tasks(is_ours).take(PINS_MAX) {
            let Task::RegisterAnchor { request, .. } = task else { continue };
            if outbox.get(segment, &format!("register/{}", self.lane.name)).is_some() {
                continue;
            }
            anchors.extend(rows_of(archive, segment)?);
            tasks.push((segment, task.clone()));
            first = first.or(Some(*request));
        }
        Ok(first.map(|request| Request::Anchors { anchors, request, tasks }))
    }
}

/// The rows of the anchor of a segment; none where its file is gone.
///
/// # Errors
/// `File`; a halt where it does not read.
pub(super) fn rows_of(archive: &Path, segment: u64) -> Result<Vec<AnchorRow>, SidecarError> {
    match anchoring::file::read(archive, segment)? {
        Some(anchor) => own("an anchor CAR of the archive", anchor_rows(&anchor)),
        None => Ok(Vec::new()),
    }
}
