//! One request to a registry, and what came of it. It runs beside the loop and may take its time.

use uuid::Uuid;

use super::rows::{Folded, Work};
use crate::core::origin::Origin;
use crate::core::rows::{AnchorRow, LogRow, PinRow};
use crate::registry::{Fence, Receipt, Registrar};
use crate::sidecar::error::SidecarError;
use crate::sidecar::outbox::Task;

/// What is sent.
pub(super) enum Request {
    Meet,
    Again { request: Uuid, drops_rows: bool },
    Segment { work: Box<Work>, from: Option<Fence>, to: Fence, report: Box<Report> },
    Pins { pins: Vec<PinRow>, request: Uuid, names: Vec<(u64, String)> },
    Anchors { anchors: Vec<AnchorRow>, request: Uuid, tasks: Vec<(u64, Task)> },
    Heartbeat(Box<Report>),
}

/// What was done.
pub(super) enum Done {
    /// It was asked for the log's fence.
    Met(Option<Fence>),
    /// It has a segment.
    Registered { segment: u64, receipt: Receipt, fence: Fence },
    /// It knows of pins: segment and task name of each.
    Pins(Vec<(u64, String)>),
    /// It knows of anchors: segment and task of each.
    Anchors(Vec<(u64, Task)>),
    /// It took the heartbeat.
    Heard,
    /// It can be given all segments.
    Ready,
}

/// A head of ours, to be reported.
pub(super) struct Report {
    pub(super) log: LogRow,
    pub(super) request: Uuid,
}

impl Request {
    /// Sends it; blocks. `folded` is the registry's fold, and goes on with a segment that was registered.
    ///
    /// # Errors
    /// Those of the registry; for a segment also those of its rows.
    pub(super) fn send(
        self,
        registrar: &dyn Registrar,
        origin: &Origin,
        folded: &mut Folded,
    ) -> Result<Done, SidecarError> {
        match self {
            Request::Meet => {
                registrar.init()?;
                Ok(Done::Met(registrar.head(origin)?))
            }
            Request::Again { request, drops_rows } => {
                if drops_rows {
                    registrar.forget(origin, request)?;
                }
                Ok(Done::Ready)
            }
            Request::Segment { work, from, to, report } => {
                let (segment, request, at) = (work.row.segment, work.request, work.registered_at);
                let (receipt, ahead) = work.register(folded, registrar)?;
                let fence = registrar.advance(origin, from, to, at, request)?;
                registrar.heartbeat(&report.log, report.request)?;
                *folded = ahead;
                Ok(Done::Registered { segment, receipt, fence })
            }
            Request::Pins { pins, request, names } => {
                registrar.register_pins(&pins, request)?;
                Ok(Done::Pins(names))
            }
            Request::Anchors { anchors, request, tasks } => {
                registrar.register_anchors(&anchors, request)?;
                Ok(Done::Anchors(tasks))
            }
            Request::Heartbeat(report) => {
                registrar.heartbeat(&report.log, report.request)?;
                Ok(Done::Heard)
            }
        }
    }
}
