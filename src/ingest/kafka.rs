//! The source Redpanda (or any Kafka): one consumer on a thread of its own, its records in a bounded buffer.
//!
//! Exactly-once rests on the journal: where to begin is asked from [`Positions`] before a partition is assigned, what
//! arrives is in order and without a silent hole, and group offsets are committed only after the caller says durable.
//! It never resets a position, never skips and never declares a topic anew without saying so. Not in here: comparing the
//! last record, writing gaps, halting.
//!
//! Header names that contain a zero byte arrive cut at it: librdkafka hands them out as C strings.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, mpsc::RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::buffer::Buffer;
use self::worker::{Command, Worker};
use super::{Arrival, Budget, End, Positions, Reached, Source, SourceError, Standing, Trouble};

mod assign;
mod begin;
mod buffer;
mod duty;
mod native;
mod options;
pub mod probe;
mod read;
mod trouble;
mod worker;

pub use self::options::{Assignment, Options, Start, TopicFilter};

/// A consumer of one cluster.
pub struct Kafka {
    name: String,
    buffer: Arc<Buffer>,
    commands: Option<Sender<Command>>,
    worker: Option<JoinHandle<()>>,
    /// Partitions were given out as revoked; the next `poll` says that they are made durable.
    owes_release: bool,
    is_paused: bool,
}

impl Kafka {
    /// Starts the consumer. It needs no broker to answer: that none does is [`Source::trouble`].
    pub fn start(options: Options, positions: Arc<dyn Positions>) -> Result<Kafka, SourceError> {
        let name = options.name.clone();
        let buffer = Arc::new(Buffer::default());
        let (sender, receiver) = mpsc::channel();
        let worker = Worker::new(options, positions, Arc::clone(&buffer), receiver)?;
        let thread = std::thread::Builder::new().name(format!("kafka-{name}")).spawn(move || worker.run());
        let worker = thread.map_err(|fault| SourceError::Client {
            source_name: name.clone(),
            reason: format!("no thread: {fault}"),
        })?;
        Ok(Kafka { name, buffer, commands: Some(sender), worker: Some(worker), owes_release: false, is_paused: false })
    }

    fn send(&self, command: Command) -> Result<(), SourceError> {
        let sent = self.commands.as_ref().and_then(|commands| commands.send(command).ok());
        sent.ok_or_else(|| self.is_gone())
    }

    fn is_gone(&self) -> SourceError {
        SourceError::Client { source_name: self.name.clone(), reason: "the consumer's thread has ended".to_owned() }
    }
}

impl Source for Kafka {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, budget: Budget) -> Result<Vec<Arrival>, SourceError> {
        if std::mem::take(&mut self.owes_release) {
            self.send(Command::Released)?;
        }
        let arrivals = self.buffer.take(budget, self.is_paused)?;
        self.owes_release = matches!(arrivals.last(), Some(Arrival::Revoked { .. }));
        if arrivals.is_empty() && self.worker.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(self.is_gone());
        }
        Ok(arrivals)
    }

    fn committed(&mut self, reached: &[Reached]) -> Result<(), SourceError> {
        self.send(Command::Commit(reached.to_vec()))
    }

    fn committed_before_seal(&mut self, reached: &[Reached], wait: Duration) -> Result<Standing, SourceError> {
        let (answer, answered) = mpsc::channel();
        self.send(Command::CommitBeforeSeal(reached.to_vec(), answer))?;
        match answered.recv_timeout(wait) {
            Ok(standing) => Ok(standing),
            Err(RecvTimeoutError::Timeout) => Ok(Standing::Unknown),
            Err(RecvTimeoutError::Disconnected) => Err(self.is_gone()),
        }
    }

    fn pause(&mut self) {
        self.is_paused = true;
        // A thread that is gone delivers nothing either; `poll` says so.
        let _ = self.send(Command::Pause);
    }

    fn resume(&mut self) {
        self.is_paused = false;
        let _ = self.send(Command::Resume);
    }

    fn reconnect(&mut self) {
        let _ = self.send(Command::Reconnect);
    }

    fn is_idle(&self) -> bool {
        !self.owes_release && self.buffer.is_idle()
    }

    fn ends(&self) -> Vec<End> {
        self.buffer.ends()
    }

    fn trouble(&self) -> Option<Trouble> {
        self.buffer.trouble()
    }
}

impl Drop for Kafka {
    /// Ends the thread and closes the consumer. A static member does not leave its group: it is expected back.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
