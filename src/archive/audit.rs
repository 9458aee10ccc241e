//! The audit of a whole archive on several threads, with memory that does not grow with it.
//!
//! Only the division of the work: what is looked at, and what it means, is `core::audit`. Each thread checks a fixed
//! share of the segments, every `threads`-th, and is at most one ahead of what is joined; the joining is in order.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::core::audit::{Archive, Audit, AuditInput, Report, check_segment};
use crate::core::finding::Refused;

/// Audits the first `segments` segments of `archive` on `threads` threads beside this one, which joins them and calls
/// `joined` after each.
///
/// # Errors
/// Those of [`Audit::new`].
///
/// # Panics
/// If a thread does: what it would have found is not known.
pub fn audit(
    archive: &dyn Archive,
    segments: u64,
    input: &AuditInput,
    threads: usize,
    mut joined: impl FnMut(&Audit<'_>),
) -> Result<Report, Refused> {
    let mut audit = Audit::new(archive, input)?;
    let threads = threads.max(1);
    thread::scope(|scope| {
        let mut shares = Vec::new();
        for first in (0..segments).take(threads) {
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || {
                // The receiver is gone only when this thread's own work is no longer wanted.
                let is_wanted = |segment| sender.send(check_segment(archive, segment, input)).is_ok();
                (first..segments).step_by(threads).all(is_wanted)
            });
            shares.push(receiver);
        }
        for (_, share) in (0..segments).zip(shares.iter().cycle()) {
            // A thread that ends early has panicked, and the scope panics with it.
            let Ok(checked) = share.recv() else { return };
            audit.join(checked);
            joined(&audit);
        }
    });
    Ok(audit.finish())
}
