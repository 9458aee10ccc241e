//! A place in the broker: topic number, partition, offset.
//!
//! The topic number is ours (kind 2 declares it), so that a re-created topic never continues an old one.

use std::fmt;

/// One partition of one declared topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition {
    /// The log's own number of the topic, counted from 0 (kind 2).
    pub topic_no: u64,
    /// The partition's number at the broker.
    pub partition: u64,
}

/// One record of one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The log's own number of the topic, counted from 0 (kind 2).
    pub topic_no: u64,
    /// The partition's number at the broker.
    pub partition: u64,
    /// The record's offset in it.
    pub offset: u64,
}

impl Position {
    /// The partition it lies in.
    pub fn partition(self) -> Partition {
        Partition { topic_no: self.topic_no, partition: self.partition }
    }
}

impl Partition {
    /// The record at `offset`.
    pub fn at(self, offset: u64) -> Position {
        Position { topic_no: self.topic_no, partition: self.partition, offset }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic_no, self.partition)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic_no, self.partition, self.offset)
    }
}
