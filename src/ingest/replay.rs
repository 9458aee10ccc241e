//! The source of recorded input: a file or standard input, read once from its beginning.
//!
//! The record number from 0 is the offset, in partition 0 of a topic with the name the caller gives. The position keeps
//! a hash of the bytes up to the last record, so that a second run over the same file adds nothing, a file that grew
//! adds its new records, and a file whose beginning changed is refused. It does not follow a growing file.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::split::{Fault, Piece, Splitter};
use super::{
    Again, Arrival, Arrived, Budget, Cut, End, Held, Positions, Reached, Source, SourceError, SourceKind, Standing,
    Topic, Trouble,
};
use crate::core::record::Record;

pub mod split;

pub use self::split::Format;

/// One read asks for this much; from a pipe less may come, and what came is delivered before the next read blocks.
const READ_BYTES: usize = 1024 * 1024;
/// Skipping what the log already holds only hashes, so one `poll` may skip more bytes than it may deliver.
const SKIP_FACTOR: usize = 16;
/// Bytes of the state: a length and a SHA-256.
const STATE_BYTES: usize = 8 + 32;

/// A file or standard input as a source.
pub struct Replay {
    name: String,
    path: String,
    topic: Arc<Topic>,
    held: Option<Held>,
    splitter: Splitter<Box<dyn Read + Send>>,
    next: u64,
    /// The last record the log holds, where only that one can be compared.
    last: Option<Arrived>,
    /// Read before it was known whether the beginning is unchanged.
    ahead: Vec<Arrived>,
    is_compared: bool,
    is_assigned: bool,
    is_paused: bool,
    is_at_end: bool,
    /// A fault met after sound records, for the next poll.
    broken: Option<SourceError>,
}

impl Replay {
    /// Opens a file. `topic` names it in the log; `format` none means: by extension, else by the first bytes.
    pub fn open(
        name: &str,
        topic: &str,
        path: &Path,
        format: Option<Format>,
        positions: &dyn Positions,
    ) -> Result<Replay, SourceError> {
        let shown = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|fault| SourceError::Read {
            source_name: name.to_owned(),
            path: shown.clone(),
            reason: fault.to_string(),
        })?;
        Replay::read(name, topic, &shown, Box::new(file), format.or_else(|| Format::of_extension(path)), positions)
    }

    /// Reads standard input.
    pub fn stdin(
        name: &str,
        topic: &str,
        format: Option<Format>,
        positions: &dyn Positions,
    ) -> Result<Replay, SourceError> {
        Replay::read(name, topic, "standard input", Box::new(io::stdin()), format, positions)
    }

    /// Reads any input; `path` is what errors call it.
    pub fn read(
        name: &str,
        topic: &str,
        path: &str,
        input: Box<dyn Read + Send>,
        format: Option<Format>,
        positions: &dyn Positions,
    ) -> Result<Replay, SourceError> {
        let topic = Arc::new(Topic {
            name: topic.to_owned(),
            origin: SourceKind::File,
            cluster: String::new(),
            topic_id: String::new(),
            partitions: 1,
            shared: false,
        });
        let (first, input) = split::first_bytes(input).map_err(|fault| SourceError::Read {
            source_name: name.to_owned(),
            path: path.to_owned(),
            reason: fault.to_string(),
        })?;
        let input: Box<dyn Read + Send> = Box::new(io::Cursor::new(first).chain(input));
        let splitter = Splitter::new(BufReader::with_capacity(READ_BYTES, input), format);
        let held = positions.held(&topic, 0);
        let (name, path) = (name.to_owned(), path.to_owned());
        Ok(Replay {
            name,
            path,
            topic,
            held,
            splitter,
            next: 0,
            last: None,
            ahead: Vec::new(),
            is_compared: false,
            is_assigned: false,
            is_paused: false,
            is_at_end: false,
            broken: None,
        })
    }

    /// Reads past the records the log holds; true when done. Their bytes must be those that were read before.
    ///
    /// The state is of the end of the arrival they came with. If only a part of that arrival became durable, the other
    /// part is read and held until the state has been compared.
    fn skip_held(&mut self, bytes_max: usize) -> Result<bool, SourceError> {
        let Some(held) = self.held.clone().filter(|_| !self.is_compared) else { return Ok(true) };
        let read_before = held.state.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let stop = self.splitter.byte().saturating_add(u64::try_from(bytes_max).unwrap_or(u64::MAX));
        while self.next < held.next || self.splitter.record_end_byte() < read_before {
            if self.splitter.byte() >= stop {
                return Ok(false);
            }
            let Some(piece) = self.splitter.next().map_err(|fault| self.broken(fault))? else {
                return Err(self.changed(&held, format!("the end after {} records", self.next)));
            };
            if held.state.is_empty() && held.last == Some(self.next) {
                self.last = Some(arrived(self.next, piece));
            } else if self.next >= held.next {
                self.ahead.push(arrived(self.next, piece));
            }
            self.next += 1;
        }
        if held.state.is_empty() {
            // A journal made anew from its archive has no hash of the bytes: the last record vouches for them.
            self.is_compared = true;
            return Ok(true);
        }
        if self.state() != held.state {
            return Err(self.changed(&held, hex::encode(self.splitter.record_end().1)));
        }
        self.is_compared = true;
        Ok(true)
    }

    /// Records until the budget is used up or the next read could block.
    fn gather(&mut self, budget: Budget) -> Result<Vec<Arrived>, SourceError> {
        if !self.ahead.is_empty() {
            return Ok(std::mem::take(&mut self.ahead));
        }
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        while records.len() < budget.records_max && bytes < budget.bytes_max {
            if !records.is_empty() && self.splitter.would_read() {
                break;
            }
            match self.splitter.next() {
                Ok(Some(piece)) => {
                    bytes = bytes.saturating_add(piece.held_bytes());
                    records.push(arrived(self.next, piece));
                    self.next += 1;
                }
                Ok(None) => {
                    self.is_at_end = true;
                    break;
                }
                // The sound records before it come first; the next poll gives the fault.
                Err(fault) => {
                    let broken = self.broken(fault);
                    if records.is_empty() {
                        return Err(broken);
                    }
                    self.broken = Some(broken);
                    break;
                }
            }
        }
        Ok(records)
    }

    /// What the position keeps: bytes up to the end of the last record, and their hash.
    fn state(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(STATE_BYTES);
        let (bytes, hash) = self.splitter.record_end();
        state.extend_from_slice(&bytes.to_be_bytes());
        state.extend_from_slice(&hash);
        state
    }

    fn changed(&self, held: &Held, found: String) -> SourceError {
        let (bytes, hash) = held.state.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        SourceError::PrefixChanged {
            source_name: self.name.clone(),
            records: held.next,
            bytes: u64::from_be_bytes(*bytes),
            expected: hex::encode(hash),
            found,
        }
    }

    fn broken(&self, fault: Fault) -> SourceError {
        let (source_name, record) = (self.name.clone(), self.next);
        match fault {
            Fault::Malformed { byte, why } => SourceError::Malformed { source_name, record, byte, why },
            Fault::Read(fault) => SourceError::Read { source_name, path: self.path.clone(), reason: fault.to_string() },
        }
    }
}

impl Source for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, budget: Budget) -> Result<Vec<Arrival>, SourceError> {
        if self.is_paused || self.is_at_end {
            return Ok(Vec::new());
        }
        if !self.is_assigned {
            self.is_assigned = true;
            return Ok(vec![Arrival::Assigned {
                topic: Arc::clone(&self.topic),
                partition: 0,
                held: self.held.clone(),
            }]);
        }
        if !self.skip_held(budget.bytes_max.saturating_mul(SKIP_FACTOR))? {
            return Ok(Vec::new());
        }
        if let Some(Arrived { offset, record, cut }) = self.last.take() {
            let again = cut.map_or(Again::Record(record), Again::Cut);
            return Ok(vec![Arrival::Last { topic: Arc::clone(&self.topic), partition: 0, offset, again }]);
        }
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let records = self.gather(budget)?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Arrival::Records { topic: Arc::clone(&self.topic), partition: 0, records, state: self.state() }])
    }

    fn committed(&mut self, _reached: &[Reached]) -> Result<(), SourceError> {
        Ok(())
    }

    fn committed_before_seal(&mut self, _reached: &[Reached], _wait: Duration) -> Result<Standing, SourceError> {
        Ok(Standing::Held)
    }

    fn pause(&mut self) {
        self.is_paused = true;
    }

    fn resume(&mut self) {
        self.is_paused = false;
    }

    fn is_idle(&self) -> bool {
        self.is_at_end
    }

    fn ends(&self) -> Vec<End> {
        // A file has no end of its own until it is read: what was read is what is known.
        let topic = Arc::clone(&self.topic);
        vec![End { topic, partition: 0, next: self.next, low: 0, end: self.next }]
    }

    fn trouble(&self) -> Option<Trouble> {
        None
    }
}

fn arrived(offset: u64, piece: Piece) -> Arrived {
    let empty = Record { timestamp_ms: -1, timestamp_type: 2, ..Record::default() };
    match piece {
        Piece::Whole(value) => Arrived { offset, record: Record { value: Some(value), ..empty }, cut: None },
        Piece::Cut { bytes, sha256 } => Arrived { offset, record: empty, cut: Some(Cut { bytes, sha256 }) },
    }
}

#[cfg(test)]
mod tests;
