//! The outbox: what is still to be done with a sealed segment, one small row of the journal a task.
//!
//! A row is made with the seal, changed before a request is sent (so that a repetition carries the same request id and
//! time), and removed with the entry that says it is done. No row is left when a segment is done everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::SidecarError;
use super::writer::Writer;
use crate::core::time::Timestamp;
use crate::journal::{Journal, JournalError};

/// All open tasks, by segment and name: the journal's rows, and those of the next commit.
#[derive(Debug, Default)]
pub(super) struct Outbox(BTreeMap<(u64, String), Task>);

impl Outbox {
    /// The journal's rows.
    ///
    /// # Errors
    /// The journal's own; a row that does not read is damage.
    pub(super) fn load(journal: &Journal) -> Result<Outbox, SidecarError> {
        let mut tasks = BTreeMap::new();
        for row in journal.outbox()? {
            let damaged = || JournalError::Damaged {
                place: format!("outbox row {} of segment {}", row.name, row.segment),
                expected: "a task".to_owned(),
                found: format!("{} bytes", row.value.len()),
            };
            let task = Task::decode(&row.value).ok_or_else(damaged)?;
            tasks.insert((row.segment, row.name), task);
        }
        Ok(Outbox(tasks))
    }

    /// Sets a task, with the next commit.
    pub(super) fn put(&mut self, writer: &mut Writer, segment: u64, task: Task) {
        writer.put_outbox(segment, &task.name(), Some(task.encode()));
        self.0.insert((segment, task.name()), task);
    }

    /// Ends a task, with the next commit.
    pub(super) fn end(&mut self, writer: &mut Writer, segment: u64, name: &str) {
        writer.put_outbox(segment, name, None);
        self.0.remove(&(segment, name.to_owned()));
    }

    /// The tasks that `is_wanted` picks, oldest segment first.
    pub(super) fn tasks(&self, is_wanted: impl Fn(&Task) -> bool) -> impl Iterator<Item = (u64, &Task)> {
        self.0.iter().filter(move |(_, task)| is_wanted(task)).map(|((segment, _), task)| (*segment, task))
    }

    /// The task of `segment` with this name.
    pub(super) fn get(&self, segment: u64, name: &str) -> Option<&Task> {
        self.0.get(&(segment, name.to_owned()))
    }

    /// Segments that a pin target has, all before it included, of so many sealed ones.
    pub(super) fn pinned_to(&self, name: &str, sealed: u64) -> u64 {
        self.first_open(|task| matches!(task, Task::Pin { target, .. } if target == name)).unwrap_or(sealed)
    }

    /// The first segment that still has a task, `is_wanted` given.
    pub(super) fn first_open(&self, is_wanted: impl Fn(&Task) -> bool) -> Option<u64> {
        self.tasks(is_wanted).map(|(segment, _)| segment).next()
    }
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub(super) enum Task {
    /// Pin the segment's CARs to a target.
    Pin {
        /// The target's name.
        target: String,
        /// When the segment was sealed.
        since: Timestamp,
    },
    /// Register the segment's rows.
    Register {
        /// The registry's name.
        registry: String,
        /// The id of the request, chosen before it is first sent.
        request: Option<Uuid>,
        /// The time the row and the kind 7 entry repeat, chosen with it.
        at: Option<Timestamp>,
        /// When the segment was sealed.
        since: Timestamp,
        /// Whether an entry states it already, from before the registry was written anew.
        #[serde(default)]
        is_stated: bool,
    },
    /// Register all segments, again or for the first time.
    Again {
        /// The registry's name.
        registry: String,
        /// When it was asked for.
        since: Timestamp,
        /// Whether every row of the log is dropped first.
        drops_rows: bool,
    },
    /// Ask an authority about the segment's checkpoint.
    Anchor {
        /// The authority's name.
        authority: String,
        /// When the segment was sealed.
        since: Timestamp,
    },
    /// Pin the segment's anchor to a target.
    PinAnchor {
        /// The target's name.
        target: String,
        /// The CID of the anchor; a newer one takes the place of its task.
        cid: String,
        /// When it was written.
        since: Timestamp,
    },
    /// Tell a registry, which has the segment, what its anchor says.
    RegisterAnchor {
        /// The registry's name.
        registry: String,
        /// The CID of the anchor; a newer one takes the place of its task.
        cid: String,
        /// The id of the request.
        request: Uuid,
        /// When it was written.
        since: Timestamp,
    },
    /// Tell a registry, which has the segment, of a pin that came later.
    RegisterPin {
        /// The registry's name.
        registry: String,
        /// The target's name.
        target: String,
        /// The id of the request.
        request: Uuid,
        /// When the last CAR was pinned.
        at: Timestamp,
        /// The bytes read back of the proof CAR.
        proof_bytes: u64,
        /// The bytes read back of the payload CAR, where the target has one.
        payload_bytes: Option<u64>,
    },
}

impl Task {
    /// The name of its row.
    pub(super) fn name(&self) -> String {
        match self {
            Task::Pin { target, .. } => format!("pin/{target}"),
            Task::Register { registry, .. } => format!("register/{registry}"),
            Task::Again { registry, .. } => format!("again/{registry}"),
            Task::RegisterPin { registry, target, .. } => format!("register-pin/{registry}/{target}"),
            Task::Anchor { authority, .. } => format!("anchor/{authority}"),
            Task::PinAnchor { target, .. } => format!("pin-anchor/{target}"),
            Task::RegisterAnchor { registry, .. } => format!("register-anchor/{registry}"),
        }
    }

    /// Whether it is work of the target or registry of this name.
    pub(super) fn is_for(&self, lane: &str) -> bool {
        match self {
            Task::Pin { target, .. } | Task::PinAnchor { target, .. } => target == lane,
            Task::Register { registry, .. }
            | Task::Again { registry, .. }
            | Task::RegisterPin { registry, .. }
            | Task::RegisterAnchor { registry, .. } => registry == lane,
            // An authority may have the name of a target or registry.
            Task::Anchor { .. } => false,
        }
    }

    /// Whether a segment counts as not yet there while this task of the target or registry is open.
    pub(super) fn is_stage_of(&self, lane: &str) -> bool {
        match self {
            Task::Pin { target, .. } => target == lane,
            Task::Register { registry, .. } | Task::Again { registry, .. } => registry == lane,
            Task::RegisterPin { .. } | Task::Anchor { .. } | Task::PinAnchor { .. } | Task::RegisterAnchor { .. } => {
                false
            }
        }
    }

    /// Whether it is a question to an authority: a segment is done, and may be dropped, without its answer.
    pub(super) fn is_question(&self) -> bool {
        matches!(self, Task::Anchor { .. })
    }

    /// Whether it is a question to the authority of this name.
    pub(super) fn is_question_to(&self, name: &str) -> bool {
        matches!(self, Task::Anchor { authority, .. } if *authority == *name)
    }

    /// When the work was to be done first.
    pub(super) fn since(&self) -> Timestamp {
        match self {
            Task::Pin { since, .. }
            | Task::Register { since, .. }
            | Task::Again { since, .. }
            | Task::Anchor { since, .. }
            | Task::PinAnchor { since, .. }
            | Task::RegisterAnchor { since, .. }
            | Task::RegisterPin { at: since, .. } => *since,
        }
    }

    /// The value of its row.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a row.
    pub(super) fn decode(value: &[u8]) -> Option<Task> {
        serde_json::from_slice(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_read_back_and_their_rows_have_names_of_their_own() {
        let tasks = [
            Task::Pin { target: "kubo".into(), since: Timestamp(1) },
            Task::Register {
                registry: "local".into(),
                request: Some(Uuid::nil()),
                at: Some(Timestamp(7)),
                since: Timestamp(1),
                is_stated: false,
            },
            Task::Again { registry: "local".into(), since: Timestamp(1), drops_rows: true },
            Task::RegisterPin {
                registry: "local".into(),
                target: "kubo".into(),
                request: Uuid::nil(),
                at: Timestamp(7),
                proof_bytes: 9,
                payload_bytes: None,
            },
            Task::Anchor { authority: "w.example/1+00".into(), since: Timestamp(1) },
            Task::PinAnchor { target: "kubo".into(), cid: "bafy".into(), since: Timestamp(1) },
            Task::RegisterAnchor {
                registry: "local".into(),
                cid: "bafy".into(),
                request: Uuid::nil(),
                since: Timestamp(1),
            },
        ];
        let mut names: Vec<String> = tasks.iter().map(Task::name).collect();
        for task in &tasks {
            assert_eq!(Task::decode(&task.encode()).as_ref(), Some(task));
        }
        names.dedup();
        assert_eq!(names.len(), 7);
    }
}
