//! The port `Source`: where records come from, in which order, and what is missing between them.
//!
//! It is not a place that decides: positions are the journal's, the comparison of a record with the one we archived is
//! the caller's, and so is the halt. A source never moves past anything without saying so (format.md, "Completeness").
//! Two implementations ship: `kafka` (Redpanda, feature `kafka`) and `replay` (files and standard input).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::record::Record;

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod replay;
mod secret;

pub use secret::is_secret;

/// The largest record held whole, in bytes of key, value and headers. An entry's frames end at 64 MiB, and memory is
/// bounded; what is larger arrives as [`Cut`].
pub const RECORD_BYTES_WHOLE_MAX: usize = 32 * 1024 * 1024;

/// Where records come from, pulled by the loop at its own pace.
///
/// Contract for an implementer:
/// - Nothing is delivered twice within one assignment, and per partition the arrivals stand in offset order: first
///   [`Arrival::Assigned`], then at most one [`Arrival::Last`], then records, each hole before the record after it.
/// - Start positions come from [`Positions`], read when everything delivered of that partition has been answered by
///   another `poll`: a caller that makes arrivals durable before it polls again loses and doubles nothing.
/// - [`Arrival::Revoked`] is given up by the next `poll`, not before (within the bounds of the broker's patience).
/// - Outages are no errors: the source retries by itself and says so in [`Source::trouble`]. An error ends the source.
pub trait Source: Send {
    /// The name of the source in the configuration.
    fn name(&self) -> &str;

    /// What has arrived, at most `budget`; waits up to `budget.wait` for the first arrival. Empty is a normal answer.
    fn poll(&mut self, budget: Budget) -> Result<Vec<Arrival>, SourceError>;

    /// Tells the broker how far we are, after the entries are durable. Returns at once; a failure is no loss, because
    /// the journal's positions are the ones that count.
    fn committed(&mut self, reached: &[Reached]) -> Result<(), SourceError>;

    /// The same before a seal, answered by the broker: whether the partitions are still ours. Waits up to `wait`.
    fn committed_before_seal(&mut self, reached: &[Reached], wait: Duration) -> Result<Standing, SourceError>;

    /// Stops the delivery of records and gaps, keeps the membership and still gives out revocations: go on polling.
    fn pause(&mut self);

    /// Goes on after [`Source::pause`].
    fn resume(&mut self);

    /// Connects anew, with passwords and certificates as their files now hold them. What was delivered counts as it did;
    /// the partitions are given up and assigned again. A source without a connection does nothing.
    fn reconnect(&mut self) {}

    /// Whether every assigned partition is read to its last stable offset and everything read was delivered.
    fn is_idle(&self) -> bool;

    /// The ends of the assigned partitions as last seen; what kind 19 states and what lag is measured against.
    fn ends(&self) -> Vec<End>;

    /// What keeps the source from reading just now, in words for `/readyz` and `status`.
    fn trouble(&self) -> Option<Trouble>;
}

/// The journal's answer to "where do we stand in this partition". Asked from the source's own thread.
///
/// The implementer compares `topic` with what it declared (kind 2): another topic id or cluster is another topic, with a
/// new number and no position.
pub trait Positions: Send + Sync {
    /// Our position, or none when this log has never read this partition of this very topic.
    fn held(&self, topic: &Topic, partition: u32) -> Option<Held>;

    /// Whether the partition goes on from our own position even where the group has committed a higher offset: what was
    /// folded up to that one is lost, or of a history that was cut.
    fn is_alone(&self, _: &Topic, _: u32) -> bool {
        false
    }
}

/// A partition's position in the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The offset that comes next.
    pub next: u64,
    /// The offset of the last archived record; none if only gaps were written.
    pub last: Option<u64>,
    /// What the source gave in [`Arrival::Records`] for the last archived record; empty where it gave nothing.
    pub state: Vec<u8>,
}

/// The facts of a topic at its broker: what kind 2 declares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// The topic's name.
    pub name: String,
    /// What kind of source it is.
    pub origin: SourceKind,
    /// The broker's cluster id; empty where there is none.
    pub cluster: String,
    /// The broker's id of this very topic, base64 as Kafka prints it; empty where there is none.
    pub topic_id: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Whether other logs may fold it too.
    pub shared: bool,
}

/// The kinds of source that kind 2 knows and this port has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// A broker.
    Kafka,
    /// A file or standard input.
    File,
}

impl SourceKind {
    /// The word in the leaf of kind 2.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceKind::Kafka => "kafka",
            SourceKind::File => "file",
        }
    }
}

/// How much one `poll` may return.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Records at most.
    pub records_max: usize,
    /// Bytes of records at most; a single larger record still comes, alone.
    pub bytes_max: usize,
    /// How long to wait for the first arrival.
    pub wait: Duration,
}

/// One thing a source has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The partition is ours from now on.
    Assigned {
        /// The topic as it is now; its `partitions` may have grown since it was declared.
        topic: Arc<Topic>,
        /// The partition.
        partition: u32,
        /// What [`Positions`] answered, so that the caller can see which position this assignment continues.
        held: Option<Held>,
    },
    /// The partition is given up with the next `poll`: make durable and commit what you hold of it.
    Revoked {
        /// The topic.
        topic: Arc<Topic>,
        /// The partition.
        partition: u32,
        /// Whether it was lost without a word (session expired): another member may have read on already.
        is_lost: bool,
    },
    /// What the broker has at the last archived offset now. Another record than the one archived is rewritten history.
    Last {
        /// The topic.
        topic: Arc<Topic>,
        /// The partition.
        partition: u32,
        /// Its offset, [`Held::last`].
        offset: u64,
        /// What was found there.
        again: Again,
    },
    /// Records, offsets rising, without a hole between them.
    Records {
        /// The topic.
        topic: Arc<Topic>,
        /// The partition.
        partition: u32,
        /// The records.
        records: Vec<Arrived>,
        /// To be stored with the position of each of them and given back in [`Held::state`]; often empty.
        state: Vec<u8>,
    },
    /// Offsets that will not come: a gap of kind 3, to be written before what follows.
    Gap {
        /// The topic.
        topic: Arc<Topic>,
        /// The partition.
        partition: u32,
        /// The first missing offset.
        first: u64,
        /// The last missing offset.
        last: u64,
        /// Why, as far as can be known.
        why: GapWhy,
    },
    /// Offsets that will come although the group has committed them: another member may have them too (kind 17).
    Contested {
        /// The topic.
        topic: Arc<Topic>,
        /// The partition.
        partition: u32,
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// The topic has more partitions than before (kind 2, why 4).
    Grown {
        /// The topic with its new number of partitions.
        topic: Arc<Topic>,
    },
}

/// What stands at the last archived offset when it is read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Again {
    /// A record, whole: to be compared by `record_mac`.
    Record(Record),
    /// A record above [`RECORD_BYTES_WHOLE_MAX`].
    Cut(Cut),
    /// Nothing: retention took it. That proves nothing.
    Expired,
    /// Nothing, though older offsets are kept and the topic is not compacted: rewritten history.
    Absent,
    /// Nothing, in a topic that is compacted, or whose settings the broker does not show us. That proves nothing.
    Compacted,
}

/// One record and its offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Its offset.
    pub offset: u64,
    /// The record as delivered. If `cut` is set: key, value and headers are absent.
    pub record: Record,
    /// Set if the record was too large to be held; it is to be quarantined as too large.
    pub cut: Option<Cut>,
}

/// What stands for a record above [`RECORD_BYTES_WHOLE_MAX`]: enough to recognise it, nothing to open.
///
/// Records above `record_bytes_max` and up to that limit arrive whole and are quarantined whole; this is the last resort
/// that keeps memory bounded and the stream going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The bytes of its value.
    pub bytes: u64,
    /// SHA-256 of its value.
    pub sha256: [u8; 32],
}

/// Why offsets are missing, as the source can know it (kind 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GapWhy {
    /// Transaction marker, aborted record or compaction: the client cannot tell.
    Unattributed,
    /// Before the place where this log was told to begin.
    BeforeThisLog,
    /// Read by another member of the group.
    OtherMember,
    /// The broker's low watermark is past them: certain loss.
    RetentionLoss,
}

impl GapWhy {
    /// The code in the leaf of kind 3.
    pub fn code(self) -> u64 {
        match self {
            GapWhy::Unattributed => 0,
            GapWhy::BeforeThisLog => 1,
            GapWhy::OtherMember => 3,
            GapWhy::RetentionLoss => 7,
        }
    }
}

/// How far the log is in a partition: everything below `next` is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that comes next.
    pub next: u64,
}

/// The broker's answer to a commit before a seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The commit was taken: the partitions are ours.
    Held,
    /// The group has moved on: the range is contested, to be declared by kind 17.
    Contested,
    /// No answer in time: try again.
    Unknown,
}

/// Where an assigned partition stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The partition.
    pub partition: u32,
    /// The offset that comes next in what was delivered.
    pub next: u64,
    /// The broker's low watermark.
    pub low: u64,
    /// The last stable offset; never below `next`.
    pub end: u64,
}

impl End {
    /// Records (and holes) between here and the last stable offset.
    pub fn lag(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }
}

/// Why a source cannot read at the moment. It goes on trying.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// What it is about.
    pub kind: TroubleKind,
    /// The sentence for a person: what was tried, and the broker's own words.
    pub message: String,
}

/// The kinds of trouble, by who can end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TroubleKind {
    /// No broker answers.
    Unreachable,
    /// The broker refuses the name, the password or the certificate.
    Authentication,
    /// A configured topic does not exist or may not be read.
    Topic,
    /// The broker answers, with an error that may pass.
    Broker,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What ends a source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SourceError {
    /// An option that would break exactly-once, or that librdkafka refuses.
    #[error("source {source_name}: option `{option}`: {why}")]
    Option {
        /// The source's name in the configuration.
        source_name: String,
        /// The option.
        option: String,
        /// Why it is refused.
        why: String,
    },
    /// The broker's history is not the one we archived.
    #[error("source {source_name}: topic {topic}, partition {partition}: we are at offset {position}, but {found}")]
    Rewritten {
        /// The source's name in the configuration.
        source_name: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Our position.
        position: u64,
        /// What the broker has instead.
        found: String,
    },
    /// A file whose beginning is no longer what was read.
    #[error(
        "source {source_name}: the first {records} records differ from those that were read: expected {expected} after {bytes} bytes, found {found}"
    )]
    PrefixChanged {
        /// The source's name in the configuration.
        source_name: String,
        /// How many records the log holds of it.
        records: u64,
        /// How many bytes they were.
        bytes: u64,
        /// Their SHA-256, in hex.
        expected: String,
        /// What is there now: a SHA-256 in hex, or that the file ends earlier.
        found: String,
    },
    /// The group has given our membership to another process.
    #[error("source {source_name}: {instance} was taken over by another process: {reason}")]
    Fenced {
        /// The source's name in the configuration.
        source_name: String,
        /// Our `group.instance.id`.
        instance: String,
        /// The broker's words.
        reason: String,
    },
    /// A file that cannot be cut into records.
    #[error("source {source_name}: record {record} at byte {byte}: {why}")]
    Malformed {
        /// The source's name in the configuration.
        source_name: String,
        /// The record's number, from 0.
        record: u64,
        /// Where in the file it begins.
        byte: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file that cannot be read.
    #[error("source {source_name}: reading {path}: {reason}")]
    Read {
        /// The source's name in the configuration.
        source_name: String,
        /// Its path.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The client library could not be started or its thread is gone.
    #[error("source {source_name}: {reason}")]
    Client {
        /// The source's name in the configuration.
        source_name: String,
        /// The library's words.
        reason: String,
    },
}

impl SourceError {
    /// The next command for a person, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SourceError::Option { .. } => Some("remove the option from `librdkafka`; see `pinfold config check`"),
            SourceError::Rewritten { .. } => {
                Some("if the broker's history is to be taken as new: `pinfold topic adopt`")
            }
            SourceError::PrefixChanged { .. } => {
                Some("a changed file is another source: give it another name with `--as NAME`")
            }
            SourceError::Fenced { .. } => Some("give each member a name of its own, or stop the other process"),
            SourceError::Malformed { .. } => Some("name the file's format with `--format ndjson|json|protobuf`"),
            SourceError::Read { .. } | SourceError::Client { .. } => None,
        }
    }

    /// Whether our own state is in doubt, so that every start must repeat the refusal until a person decides.
    pub fn is_halt(&self) -> bool {
        matches!(self, SourceError::Rewritten { .. } | SourceError::PrefixChanged { .. } | SourceError::Fenced { .. })
    }
}
