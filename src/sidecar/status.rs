//! What `status` answers: where the log stands, stage by stage, and who is missing.
//!
//! Numbers and names only: topics and clusters are public (kind 2), people and event ids are not in it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::lane::Lane;
use super::{Audited, Pause, ReplicaStatus, Sidecar};
use crate::anchor::AnchorKind;
use crate::core::time::Timestamp;
use crate::journal::Halt;

/// The answer of `status`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The log.
    pub origin: String,
    /// `running`, `paused`, `halted` or `stopped`.
    pub state: &'static str,
    /// The version of the software.
    pub version: &'static str,
    /// The number of entries.
    pub size: u64,
    /// The root over them, hex.
    pub root: String,
    /// The id of the log's key, hex.
    pub key_id: String,
    /// What is sealed.
    pub sealed: SealedStatus,
    /// What may be shown: verified on a pin target, or with none in the archive folder.
    pub released: SealedStatus,
    /// Segments each target has, all before it included.
    pub pinned: BTreeMap<String, u64>,
    /// Segments each registry has, all before it included.
    pub registered: BTreeMap<String, u64>,
    /// Segments each witness and time-stamp authority has spoken about, all before it included.
    pub anchored: BTreeMap<String, u64>,
    /// What the quorum of the witness policy covers, where the log has one.
    pub witnessed: Option<WitnessedStatus>,
    /// The age of the oldest thing not yet done.
    pub oldest_open_seconds: u64,
    /// The positions.
    pub sources: Vec<PositionStatus>,
    /// Quarantined records.
    pub quarantined: u64,
    /// Declared ranges of offsets without entries.
    pub gaps: u64,
    /// Why it stopped, if it did.
    pub halted: Option<HaltStatus>,
    /// Why intake is paused, if it is.
    pub paused: Option<&'static str>,
    /// Who does not answer, with the words of the last failure.
    pub waiting_for: BTreeMap<String, String>,
    /// The last audit of each pin target.
    pub replicas: BTreeMap<String, ReplicaRow>,
    /// Entries by kind.
    pub entries: BTreeMap<String, u64>,
    /// Quarantined records by reason.
    pub quarantined_by_reason: BTreeMap<String, u64>,
    /// Declared ranges by reason.
    pub gaps_by_reason: BTreeMap<String, u64>,
    /// Stage, name and second of the last request that succeeded, in this process.
    pub last_success: Vec<(&'static str, String, u64)>,
    /// Free bytes of the data directory.
    pub disk_free_bytes: u64,
}

/// A declared topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicStatus {
    /// The log's number of it.
    pub topic_no: u64,
    /// What the log says of it.
    #[serde(flatten)]
    pub topic: super::TopicRow,
}

/// A number of sealed segments, from the first on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SealedStatus {
    /// Segments.
    pub segments: u64,
    /// Entries in them.
    pub size: u64,
}

/// What the quorum covers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WitnessedStatus {
    /// Segments whose checkpoint, or a later one, enough witnesses have signed.
    pub segments: u64,
    /// `fail-open`, or `fail-closed`: nothing else is registered.
    pub mode: &'static str,
}

/// Where a partition stands.
#[derive(Clone, Debug, Serialize)]
pub struct PositionStatus {
    /// What delivers it: the configured name while it is attached, else the kind of source.
    pub source: String,
    /// The topic's name in the log.
    pub topic: String,
    /// The broker's cluster.
    pub cluster_id: String,
    /// The partition.
    pub partition: u64,
    /// The next offset to fold.
    pub next_offset: u64,
    /// Records behind the last stable offset; null where nobody can tell.
    pub lag: Option<u64>,
}

/// The last audit of a pin target.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaRow {
    /// When; null before the first.
    pub audited_at: Option<String>,
    /// What it found.
    #[serde(flatten)]
    pub found: Audited,
}

impl From<&ReplicaStatus> for ReplicaRow {
    fn from(last: &ReplicaStatus) -> ReplicaRow {
        let ReplicaStatus { at, found } = last.clone();
        ReplicaRow { audited_at: (found.sampled > 0).then(|| at.to_string()), found }
    }
}

/// A halt.
#[derive(Clone, Debug, Serialize)]
pub struct HaltStatus {
    /// A short word.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The next command.
    pub hint: String,
    /// When.
    pub since: String,
}

impl From<&Halt> for HaltStatus {
    fn from(halt: &Halt) -> HaltStatus {
        let Halt { code, message, hint, since } = halt.clone();
        HaltStatus { code, message, hint, since: since.to_string() }
    }
}

impl Sidecar {
    /// Where the log stands. `is_running`: whether a loop drives it.
    pub fn status(&self, now: Timestamp, is_running: bool) -> Status {
        let journal = self.writer.journal.state();
        let segments = journal.sealed.segments;
        let done = |lane: &Lane| {
            (lane.name.clone(), self.outbox.first_open(|task| task.is_stage_of(&lane.name)).unwrap_or(segments))
        };
        let spoken = |lane: &Lane| {
            let open = self.outbox.first_open(|task| task.is_question_to(&lane.name));
            (lane.name.clone(), open.unwrap_or(segments))
        };
        let oldest_task = self.outbox.tasks(|_| true).map(|(_, task)| task.since()).min();
        let oldest = self.writer.waiting().oldest.into_iter().chain(oldest_task).min();
        let counts = self.writer.counts();
        let state = match (&journal.halted, is_running, self.paused) {
            (Some(_), _, _) => "halted",
            (None, false, _) => "stopped",
            (None, true, Some(_)) => "paused",
            (None, true, None) => "running",
        };
        Status {
            origin: self.writer.origin().to_string(),
            state,
            version: env!("CARGO_PKG_VERSION"),
            size: journal.size().0,
            root: journal.tree.root().to_string(),
            key_id: self.writer.key().vkey().key_id_hex(),
            sealed: SealedStatus { segments, size: journal.sealed.tree.size().0 },
            released: self.released_status(),
            pinned: self.pinning.lanes().map(done).collect(),
            registered: self.registering.lanes().map(done).collect(),
            anchored: self.anchoring.lanes().map(|(_, lane)| spoken(lane)).collect(),
            witnessed: self.anchoring.witnessed().map(|(segments, is_required)| WitnessedStatus {
                segments,
                mode: if is_required { "fail-closed" } else { "fail-open" },
            }),
            oldest_open_seconds: oldest.map_or(0, |oldest| now.since(oldest) / 1_000_000),
            sources: self.positions_status(),
            quarantined: counts.quarantined.values().sum(),
            gaps: counts.gaps.values().sum(),
            halted: journal.halted.as_ref().map(HaltStatus::from),
            paused: self.paused.map(Pause::as_str),
            waiting_for: self.waiting_for(),
            replicas: self.replicas().map(|(name, last)| (name, ReplicaRow::from(last))).collect(),
            entries: counts.entries.clone(),
            quarantined_by_reason: counts.quarantined.clone(),
            gaps_by_reason: counts.gaps.clone(),
            last_success: self.last_success(),
            disk_free_bytes: self.disk_free().unwrap_or(0),
        }
    }

    /// The declared topics, by number.
    pub fn topics_status(&self) -> Vec<TopicStatus> {
        let rows = self.writer.topics().rows();
        rows.map(|(topic_no, topic)| TopicStatus { topic_no, topic: topic.clone() }).collect()
    }

    fn released_status(&self) -> SealedStatus {
        let segments = self.released();
        // A seal that does not read shows nothing; whoever needs it halts.
        let last = segments.checked_sub(1).and_then(|last| self.writer.journal.seal(last).ok().flatten());
        SealedStatus { segments: last.as_ref().map_or(0, |_| segments), size: last.map_or(0, |row| row.end().0) }
    }

    fn last_success(&self) -> Vec<(&'static str, String, u64)> {
        let at = |stage: &'static str, lane: &Lane| Some((stage, lane.name.clone(), lane.last_success?.0 / 1_000_000));
        let pins = self.pinning.lanes().filter_map(|lane| at("pin", lane));
        let anchors = self.anchoring.lanes().filter_map(|(_, lane)| at("anchor", lane));
        let audits = self.auditing_lanes().filter_map(|lane| at("audit", lane));
        let registries = self.registering.lanes().filter_map(|lane| at("register", lane));
        pins.chain(anchors).chain(audits).chain(registries).collect()
    }

    fn positions_status(&self) -> Vec<PositionStatus> {
        let known = self.writer.known();
        let known = super::known::lock(&known);
        let lags: BTreeMap<_, _> = self.intakes.iter().flat_map(|intake| intake.lags(&self.writer)).collect();
        let row = |(partition, row): (&crate::core::position::Partition, &crate::journal::PositionRow)| {
            let topic = known.topics.get(partition.topic_no)?;
            let lag = lags.get(partition);
            Some(PositionStatus {
                source: lag.map_or_else(|| topic.source.clone(), |(source, _)| source.clone()),
                topic: topic.name.clone(),
                cluster_id: topic.cluster.clone(),
                partition: partition.partition,
                next_offset: row.next_offset,
                lag: lag.map(|(_, lag)| *lag),
            })
        };
        known.positions.iter().filter_map(row).collect()
    }

    /// Who does not answer or cannot be used, with the words of the last failure.
    pub fn waiting_for(&self) -> BTreeMap<String, String> {
        let lanes = |what: &'static str, lane: &Lane| (format!("{what} {}", lane.name), lane.trouble.clone());
        let pins = self.pinning.lanes().map(|lane| lanes("pin", lane));
        let registries = self.registering.lanes().map(|lane| lanes("registry", lane));
        let sources = self.intakes.iter().filter_map(super::intake::Intake::trouble);
        let disk = self.trouble.iter().map(|error| ("log".to_owned(), error.to_string()));
        let all = pins.chain(self.missing_authorities()).chain(registries).chain(sources).chain(disk);
        let mut troubles: BTreeMap<String, String> = all.filter(|(_, trouble)| !trouble.is_empty()).collect();
        troubles.extend(self.replica_trouble());
        troubles
    }

    /// Authorities that do not answer. A witness is missed only while the quorum is: of five, one may be away for years.
    fn missing_authorities(&self) -> Vec<(String, String)> {
        let released = self.released();
        let behind = self.anchoring.witnessed().map_or(0, |(witnessed, _)| released.saturating_sub(witnessed));
        let failing = self.anchoring.lanes().filter(|(_, lane)| !lane.trouble.is_empty());
        let missed = failing.filter(|(kind, _)| *kind != AnchorKind::Witness || behind > 0);
        let told = |(kind, lane): (AnchorKind, &Lane)| match kind {
            AnchorKind::Witness => {
                (format!("witness {}", lane.name), format!("{behind} segments lack the quorum: {}", lane.trouble))
            }
            AnchorKind::Tsa => (format!("timestamp {}", lane.name), lane.trouble.clone()),
        };
        missed.map(told).collect()
    }
}
