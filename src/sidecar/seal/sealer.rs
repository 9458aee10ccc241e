//! The sealer: cuts one segment at a time from journal bytes, on a thread of its own, while the fold goes on.
//!
//! What it needs was fixed before it began: the range, and the state the range starts from. It reads the journal beside
//! the committer (what a range holds never changes, and neither pruning nor compaction touches what is not sealed),
//! signs the checkpoint, and ends with both files durable. It commits nothing: files without the journal's word are
//! nobody's, and the next start removes them.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::files::{self, Files};
use crate::core::checkpoint::sign_checkpoint;
use crate::core::merkle::Tree;
use crate::core::note::Skey;
use crate::core::rules::LogRules;
use crate::core::segment::build::{Builder, Start};
use crate::core::seq::Size;
use crate::journal::{Journal, SealRow};
use crate::sidecar::error::SidecarError;

/// The thread, and what it has.
#[derive(Default)]
pub(in crate::sidecar) struct Sealer {
    thread: Option<JoinHandle<Result<Cut, SidecarError>>>,
    /// Whether the last segment could not be cut. The next try is waited for: a full archive stops the fold.
    has_failed: bool,
}

/// A segment to be cut.
pub(super) struct Plan {
    pub(super) journal: Arc<Journal>,
    /// The log's keys, shared: the segment's end says which of them signs.
    pub(super) keys: Vec<Arc<Skey>>,
    /// The archive folder.
    pub(super) archive: PathBuf,
    /// What it takes from the segments before it.
    pub(super) start: Start,
    /// Where it ends at the latest: everything before is committed.
    pub(super) end: Size,
    /// Where it ends at the earliest, unless its frames outgrow a segment.
    pub(super) reach: Size,
    /// Frame bytes after which it ends earlier.
    pub(super) bytes_max: u64,
}

/// A segment whose files are durable.
pub(super) struct Cut {
    pub(super) row: SealRow,
    /// The tree at its end.
    pub(super) tree: Tree,
    /// The rules at its end.
    pub(super) rules: LogRules,
}

impl Sealer {
    /// Whether a segment is being cut, or cut and not yet taken.
    pub(in crate::sidecar) fn is_busy(&self) -> bool {
        self.thread.is_some()
    }

    /// Whether `finish` would not wait.
    pub(super) fn is_done(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Whether the last segment could not be cut.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Begins to cut a segment. The one before must be finished.
    ///
    /// # Errors
    /// `Thread` where the system gives none.
    pub(super) fn begin(&mut self, plan: Plan) -> Result<(), SidecarError> {
        assert!(!self.is_busy(), "one segment at a time");
        let thread = std::thread::Builder::new().name("sealer".to_owned()).spawn(move || plan.cut());
        self.thread = Some(thread.map_err(SidecarError::Thread)?);
        Ok(())
    }

    /// Waits for the segment under way, if there is one. A panic of the thread is a bug and goes on here.
    ///
    /// # Errors
    /// Those of the journal, `Build`, `File`.
    pub(super) fn finish(&mut self) -> Result<Option<Cut>, SidecarError> {
        let Some(thread) = self.thread.take() else { return Ok(None) };
        let cut = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        self.has_failed = cut.is_err();
        cut.map(Some)
    }
}

impl Drop for Sealer {
    /// The journal is let go of when nobody reads it any more.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Frame bytes after which a segment ends even before its reach: well below what a segment may hold.
const REACH_BYTES_MAX: u64 = 256 << 20;

impl Plan {
    fn cut(self) -> Result<Cut, SidecarError> {
        let Plan { journal, keys, archive, start, end, reach, bytes_max } = self;
        let (first, segment) = (start.tree.size().next_seq(), start.segment);
        let mut builder = Builder::new(start, files::spools(&archive)?);
        for entry in journal.entries(first, end)? {
            let entry = entry?;
            let frames: Vec<&[u8]> = entry.frames.iter().map(Vec::as_slice).collect();
            builder.add(&entry.leaf, &frames)?;
            let bytes_max = if entry.seq.size() < reach { bytes_max.max(REACH_BYTES_MAX) } else { bytes_max };
            if builder.frame_bytes() >= bytes_max && builder.may_end() {
                break;
            }
        }
        let unsigned = builder.finish()?;
        let signer = unsigned.signer().ok_or_else(|| SidecarError::KeyGone(format!("segment {segment}")))?;
        let key = keys.iter().find(|key| key.vkey() == signer);
        let key = key.ok_or_else(|| SidecarError::KeyGone(format!("segment {segment}, to be signed by {signer}")))?;
        let checkpoint = sign_checkpoint(unsigned.head(), key);
        let mut built = unsigned.seal(checkpoint)?;
        files::write(&mut built, &Files::of(&archive, segment))?;
        let (count, payload, root) = (built.seal.count, built.seal.payload, built.tree.root());
        let row = SealRow { segment, first, count, root, seal: built.cid, payload };
        Ok(Cut { row, tree: built.tree, rules: built.rules })
    }
}
