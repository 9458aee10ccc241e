//! The kinds of entries and what each shows in clear.
//!
//! Spec: format.md, the table of kinds and the codes below it. Map fields stand in wire order.

use super::super::cid::Cid;
use super::super::hash::Hash;
use super::super::origin::Origin;
use super::super::position::Partition;
use super::super::seq::Size;
use super::super::time::Timestamp;

/// Makes an enum of codes, its numbers and the words the format page has for them.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The number in the leaf.
            pub fn code(self) -> u64 {
                match self { $($name::$variant => $code,)* }
            }

            /// The words of the format page, which SQL, metrics and messages show.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The one with this number, if there is one.
            pub fn from_code(code: u64) -> Option<$name> {
                match code { $($code => Some($name::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// Why a topic is declared (kind 2).
    TopicWhy {
        /// Seen for the first time.
        New = 0 "new",
        /// Deleted and made again at the broker.
        Recreated = 1 "re-created",
        /// Its log was cut and written anew.
        Truncated = 2 "truncated",
        /// The same name at another cluster.
        ClusterChanged = 3 "cluster changed",
        /// More partitions, the same topic number.
        MorePartitions = 4 "more partitions",
    }
}
codes! {
    /// Why broker offsets have no entry (kind 3).
    GapReason {
        /// Not known.
        Unattributed = 0 "unattributed",
        /// Older than this log.
        BeforeThisLog = 1 "before this log",
        /// In the predecessor, or under the replaced topic number.
        Continued = 2 "continued",
        /// Folded by another member of the fleet.
        OtherMember = 3 "other member",
        /// A control record of a transaction.
        TransactionMarker = 4 "transaction marker",
        /// A record of an aborted transaction.
        Aborted = 5 "aborted",
        /// Removed by compaction.
        Compaction = 6 "compaction",
        /// Removed by retention before it was read.
        RetentionLoss = 7 "retention loss",
    }
}
codes! {
    /// Why a record is quarantined (kind 4).
    QuarantineReason {
        /// No format we know.
        Undecodable = 0 "undecodable",
        /// An event type we do not know.
        UnknownType = 1 "unknown type",
        /// An enum code we do not know.
        UnknownCode = 2 "unknown code",
        /// A field with a value it cannot have.
        InvalidValue = 3 "invalid value",
        /// An event that must name a person and does not.
        NoSubject = 4 "no subject",
        /// Identifiers of two known people in one subject.
        SubjectConflict = 5 "subject conflict",
        /// More bytes than `record_bytes_max`.
        TooLarge = 6 "too large",
        /// More people than `subjects_per_event_max`.
        TooManySubjects = 7 "too many subjects",
    }
}
codes! {
    /// What happened to the log's key (kind 8).
    KeyStep {
        /// Old and new key signed the change.
        Rotated = 0 "rotated",
        /// The recovery key and the new one did.
        Revoked = 1 "revoked",
    }
}
codes! {
    /// Where an erasure stands (kind 9).
    ErasureStep {
        /// Asked for.
        Requested = 0 "requested",
        /// Not done, on a stated ground.
        Refused = 1 "refused",
        /// Signed by the officers.
        Approved = 2 "approved",
        /// The keys are gone.
        KeysDestroyed = 3 "keys destroyed",
        /// Everything is done.
        Completed = 4 "completed",
    }
}
codes! {
    /// What was restored (kind 13).
    RestoredWhat {
        /// The keyring, from a backup of this head.
        Keyring = 0 "keyring restored",
        /// The journal was rebuilt, and this live head lost.
        Journal = 1 "journal rebuilt",
    }
}
codes! {
    /// Why a log is closed (kind 21).
    CloseWhy {
        /// It ended.
        Ended = 0 "ended",
        /// Its key was stolen.
        KeyCompromised = 1 "key compromised",
        /// A successor goes on.
        Continued = 2 "continued",
    }
}

/// Where a topic's records come from (kind 2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TopicSource {
    /// A Kafka or Redpanda topic.
    Kafka,
    /// A file or stream read by `ingest`; the record number is the offset.
    File,
    /// An HTTP intake that counts its own offsets.
    Intake,
}

impl TopicSource {
    /// The text in the leaf.
    pub fn as_str(self) -> &'static str {
        match self {
            TopicSource::Kafka => "kafka",
            TopicSource::File => "file",
            TopicSource::Intake => "intake",
        }
    }

    /// The one with this text, if there is one.
    pub fn from_text(text: &str) -> Option<TopicSource> {
        [TopicSource::Kafka, TopicSource::File, TopicSource::Intake].into_iter().find(|source| source.as_str() == text)
    }
}

/// A declared topic (kind 2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Why it is declared.
    pub why: TopicWhy,
    /// Its name at the broker, or an alias: it is public.
    pub name: String,
    /// Whether other logs fold it too.
    pub shared: bool,
    /// Where its records come from.
    pub source: TopicSource,
    /// The cluster id, empty where there is none.
    pub cluster: String,
    /// The earlier topic number it follows; itself where it has more partitions.
    pub replaces: Option<u64>,
    /// The broker's id of the topic, empty where there is none.
    pub topic_id: String,
    /// Our number of it.
    pub topic_no: u64,
    /// How many partitions it has.
    pub partitions: u64,
}

/// Broker offsets without an entry (kind 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GapRange {
    /// Where.
    pub partition: Partition,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// Why.
    pub reason: GapReason,
}

/// What the broker holds of a partition (kind 19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Which partition.
    pub partition: Partition,
    /// The lowest offset it still has.
    pub low: u64,
    /// The offset its next record gets, as far as transactions are stable.
    pub end: u64,
}

/// The log this one goes on from (kind 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Continues {
    /// The predecessor's origin.
    pub origin: Origin,
    /// Its last size.
    pub size: Size,
    /// Its root at that size.
    pub root: Hash,
    /// Its last seal.
    pub seal: Cid,
}

/// The first entry of a log (kind 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The first key, as a vkey.
    pub vkey: String,
    /// The log's name.
    pub origin: Origin,
    /// The vkey that can revoke a stolen key.
    pub recovery: String,
    /// The predecessor, if any.
    pub continues: Option<Continues>,
}

/// The kind of an entry with what it shows in clear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// 0: a decoded record.
    Event,
    /// 1: the first entry.
    LogOpened(Box<Opened>),
    /// 2: a topic, before its first use.
    TopicDeclared(Box<Topic>),
    /// 3: 1 to 256 ranges of offsets without an entry.
    Gap(Vec<GapRange>),
    /// 4: a record that is no event of ours.
    Quarantined {
        /// Why.
        reason: QuarantineReason,
    },
    /// 5: an earlier range of entries was sealed.
    SegmentSealed {
        /// When.
        at: Timestamp,
        /// Its Seal.
        seal: Cid,
        /// Its Payload, if any entry has parts.
        payload: Option<Cid>,
        /// Its number.
        segment: u64,
    },
    /// 6: a CAR was pinned and read back.
    Pinned {
        /// When.
        at: Timestamp,
        /// The root pinned.
        cid: Cid,
        /// The bytes read back.
        bytes: u64,
        /// The target's configured name.
        target: String,
    },
    /// 7: a segment's rows are in a registry.
    Registered {
        /// When.
        at: Timestamp,
        /// The segment's Seal.
        seal: Cid,
        /// What the registry answered.
        receipt: String,
        /// The registry's configured name.
        registrar: String,
    },
    /// 8: the log's key changed.
    KeyChanged {
        /// The signed note.
        note: String,
        /// How.
        step: KeyStep,
    },
    /// 9: a step of an erasure.
    Erasure {
        /// Which.
        step: ErasureStep,
    },
    /// 10: a hold was placed or released.
    Hold,
    /// 11: the epoch key of a class was destroyed.
    RetentionExpired {
        /// The class, as its index.
        class: u64,
        /// The epoch.
        epoch: u64,
        /// First and last segment whose payload is gone, if any.
        pruned: Option<(u64, u64)>,
    },
    /// 13: a keyring or journal was restored.
    Restored {
        /// The root of that head.
        root: Hash,
        /// Its size.
        size: Size,
        /// What was restored.
        what: RestoredWhat,
    },
    /// 14: the wall clock was set back.
    ClockStep {
        /// What it says now.
        after: Timestamp,
        /// What it had said.
        before: Timestamp,
    },
    /// 15: someone read personal content.
    Access,
    /// 16: blocks of a target were fetched and hashed.
    ReplicationAudit {
        /// When.
        at: Timestamp,
        /// How many failed.
        failed: u64,
        /// The target's configured name.
        target: String,
        /// How many were fetched.
        sampled: u64,
    },
    /// 17: offsets that another member may have folded too.
    Overlap {
        /// The last of them.
        last: u64,
        /// The first of them.
        first: u64,
        /// The other member's log, if known.
        origin: Option<Origin>,
        /// Which partition.
        partition: Partition,
    },
    /// 18: a new epoch of operator keys.
    EpochOpened {
        /// Its number.
        epoch: u64,
        /// The retention classes, by index.
        classes: Vec<String>,
    },
    /// 19: what the broker holds.
    Observed {
        /// When.
        at: Timestamp,
        /// 1 to 400 partitions.
        ends: Vec<End>,
    },
    /// 20: a checkpoint got cosignatures or time stamps.
    Anchored {
        /// The Anchor.
        cid: Cid,
        /// The segment of that checkpoint.
        segment: u64,
    },
    /// 21: the last entry.
    LogClosed {
        /// Why.
        why: CloseWhy,
    },
    /// 22: the software started.
    Started {
        /// Name and version.
        software: String,
    },
    /// 23: an officer was added or removed.
    Officer,
}

/// The names of the kinds by number; `""` where the number is never used.
const KIND_NAMES: [&str; 24] = [
    "event",
    "log-opened",
    "topic-declared",
    "gap",
    "quarantined",
    "segment-sealed",
    "pinned",
    "registered",
    "key-changed",
    "erasure",
    "hold",
    "retention-expired",
    "",
    "restored",
    "clock-step",
    "access",
    "replication-audit",
    "overlap",
    "epoch-opened",
    "observed",
    "anchored",
    "log-closed",
    "started",
    "officer",
];

impl Body {
    /// The number of the kind.
    pub fn kind(&self) -> u64 {
        match self {
            Body::Event => 0,
            Body::LogOpened(_) => 1,
            Body::TopicDeclared(_) => 2,
            Body::Gap(_) => 3,
            Body::Quarantined { .. } => 4,
            Body::SegmentSealed { .. } => 5,
            Body::Pinned { .. } => 6,
            Body::Registered { .. } => 7,
            Body::KeyChanged { .. } => 8,
            Body::Erasure { .. } => 9,
            Body::Hold => 10,
            Body::RetentionExpired { .. } => 11,
            Body::Restored { .. } => 13,
            Body::ClockStep { .. } => 14,
            Body::Access => 15,
            Body::ReplicationAudit { .. } => 16,
            Body::Overlap { .. } => 17,
            Body::EpochOpened { .. } => 18,
            Body::Observed { .. } => 19,
            Body::Anchored { .. } => 20,
            Body::LogClosed { .. } => 21,
            Body::Started { .. } => 22,
            Body::Officer => 23,
        }
    }

    /// The name of the kind, as SQL and commands show it.
    pub fn kind_name(&self) -> &'static str {
        kind_name(self.kind())
    }

    /// Whether it is one of our own entries, which alone never cause a seal and are no backlog.
    pub fn is_own(&self) -> bool {
        is_own(self.kind())
    }
}

/// The name of the kind with this number; `""` for a number that is no kind.
pub fn kind_name(kind: u64) -> &'static str {
    usize::try_from(kind).ok().and_then(|kind| KIND_NAMES.get(kind)).copied().unwrap_or("")
}

/// Whether the kind is one of our own entries: 5 to 7, 14, 16, 19, 20, 22.
pub fn is_own(kind: u64) -> bool {
    matches!(kind, 5..=7 | 14 | 16 | 19 | 20 | 22)
}
