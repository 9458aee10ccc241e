//! The committer: one thread that makes a commit durable while the next one is being made.
//!
//! At most one commit is under way, so that they are durable in their order; who needs to know waits with `finish`.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::error::SidecarError;
use crate::journal::{Commit, JournalError};

/// What came of a commit, with the commit itself: one that found no room is sent again.
pub(super) type Outcome = (Box<Commit>, Result<(), JournalError>);

/// The thread and the commit it has.
pub(super) struct Committer {
    commits: Option<Sender<Box<Commit>>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
}

impl Committer {
    /// Starts the thread. `append` returns when the commit is durable.
    ///
    /// # Errors
    /// `Thread` where the system gives none.
    pub(super) fn start(
        append: impl Fn(&Commit) -> Result<(), JournalError> + Send + 'static,
    ) -> Result<Committer, SidecarError> {
        let (commits, queue) = channel::<Box<Commit>>();
        let (sender, outcomes) = channel();
        let work = move || {
            for commit in queue {
                let result = append(&commit);
                if sender.send((commit, result)).is_err() {
                    // The log was let go of.
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(work);
        let thread = Some(thread.map_err(SidecarError::Thread)?);
        Ok(Committer { commits: Some(commits), outcomes, thread, is_busy: false })
    }

    /// Begins a commit. The one before must be finished.
    pub(super) fn begin(&mut self, commit: Box<Commit>) {
        assert!(!self.is_busy, "one commit at a time");
        self.is_busy = true;
        if let Some(commits) = &self.commits {
            // If the thread were gone, `finish` would say so.
            let _ = commits.send(commit);
        }
    }

    /// Waits for the commit under way, if there is one. A panic of the thread is a bug and goes on here.
    pub(super) fn finish(&mut self) -> Option<Outcome> {
        if !std::mem::take(&mut self.is_busy) {
            return None;
        }
        match self.outcomes.recv() {
            Ok(outcome) => Some(outcome),
            Err(_) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => resume_unwind(panic),
                _ => resume_unwind(Box::new("the committer is gone")),
            },
        }
    }
}

impl Drop for Committer {
    /// A commit under way is made durable before the journal is let go of.
    fn drop(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
