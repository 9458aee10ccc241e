//! Worker threads for what can be done in any order: decoding, and sealing parts.
//!
//! Not the place where order is made: whoever gives out jobs takes their results in the order it wants. Each thread
//! keeps a zstd context, because loading the dictionary costs more than compressing an event.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::error::SidecarError;
use super::writer::own;
use crate::core::part::Zstd;
use crate::proto::DICT_1;

type Job = Box<dyn FnOnce(&mut Zstd) + Send>;

/// A few threads that take jobs, oldest first.
pub(super) struct Workers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// A result that is on its way.
pub(super) struct Pending<T>(Receiver<std::thread::Result<T>>);

impl Workers {
    /// Starts `threads` of them, at least one.
    ///
    /// # Errors
    /// `Own` where the dictionary does not load; `Thread` where the system gives no thread.
    pub(super) fn start(threads: usize) -> Result<Workers, SidecarError> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut workers = Workers { jobs: Some(jobs), threads: Vec::new() };
        for n in 0..threads.max(1) {
            let mut zstd = own("the dictionary of the format", Zstd::new(DICT_1))?;
            let queue = Arc::clone(&queue);
            let work = move || {
                // The lock is held only while waiting for a job, never while doing one.
                while let Ok(job) = next(&queue) {
                    job(&mut zstd);
                }
            };
            let thread = std::thread::Builder::new().name(format!("worker-{n}")).spawn(work);
            workers.threads.push(thread.map_err(SidecarError::Thread)?);
        }
        Ok(workers)
    }

    /// How many threads there are.
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Gives out a job.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce(&mut Zstd) -> T + Send + 'static) -> Pending<T> {
        let (sender, receiver) = channel();
        let job = move |zstd: &mut Zstd| {
            // Nobody waits any more when the log is let go of.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(|| job(zstd))));
        };
        if let Some(jobs) = &self.jobs {
            // The threads live as long as `jobs`; if this failed, `take` would say so.
            let _ = jobs.send(Box::new(job));
        }
        Pending(receiver)
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Result<Job, std::sync::mpsc::RecvError> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv()
}

impl<T> Pending<T> {
    /// Waits for the result. A panic of the job is a bug and goes on here.
    pub(super) fn take(self) -> T {
        match self.0.recv() {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(gone) => resume_unwind(Box::new(format!("a worker thread is gone: {gone}"))),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Its jobs' panics were sent to who waits for them.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_to_who_asked_in_whatever_order_they_are_taken() {
        let workers = Workers::start(2).unwrap();
        let pending: Vec<_> = (0..100).map(|n| workers.run(move |_| n * n)).collect();
        for (n, pending) in pending.into_iter().enumerate().rev() {
            assert_eq!(pending.take(), n * n);
        }
    }

    #[test]
    fn a_panic_goes_on_in_who_waits_and_the_threads_live_on() {
        let workers = Workers::start(1).unwrap();
        let bad = workers.run(|_| assert!(std::hint::black_box(false), "planted"));
        assert!(catch_unwind(AssertUnwindSafe(|| bad.take())).is_err());
        assert_eq!(workers.run(|_| 7).take(), 7);
    }
}
