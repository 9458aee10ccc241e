//! What is left to do: for `--until-idle`, and for commands that push one stage.

use super::Sidecar;
use super::error::SidecarError;
use super::intake::Intake;
use super::outbox::Task;
use super::registering::again::again;
use crate::core::time::Timestamp;

impl Sidecar {
    /// Whether everything is read, sealed, pinned and registered, as far as it is required. What is left are our own
    /// entries, which never cause a segment.
    pub fn is_idle(&self) -> bool {
        let is_done = self.open_tasks() == 0 && self.open_questions() == 0;
        self.is_read() && self.writer.waiting().entries == 0 && !self.is_busy() && is_done
    }

    /// Whether every source is read to its end.
    pub fn is_read(&self) -> bool {
        self.intakes.iter().all(Intake::is_idle)
    }

    /// Whether entries wait for a seal.
    pub fn has_waiting(&self) -> bool {
        self.writer.waiting().entries > 0
    }

    fn is_busy(&self) -> bool {
        self.is_sealing() || self.pinning.is_busy() || self.anchoring.is_busy() || self.registering.is_busy()
    }

    /// Tasks left of required targets and registries.
    pub fn open_tasks(&self) -> usize {
        let lanes = || self.pinning.lanes().chain(self.registering.lanes());
        let is_required = |task: &Task| lanes().any(|lane| lane.is_required && task.is_for(&lane.name));
        self.outbox.tasks(is_required).count()
    }

    /// Questions left to authorities that answer. One that does not is seen, and waited for by nobody but, where the
    /// quorum is required, the registries.
    pub fn open_questions(&self) -> usize {
        let answers = |task: &Task| {
            let mut lanes = self.anchoring.lanes();
            lanes.any(|(_, lane)| lane.failures == 0 && task.is_question_to(&lane.name))
        };
        self.outbox.tasks(answers).count()
    }

    /// Tasks left of the registry of this name.
    pub fn open_of_registry(&self, name: &str) -> usize {
        let is_other = |task: &Task| matches!(task, Task::Pin { .. } | Task::PinAnchor { .. });
        self.outbox.tasks(|task| task.is_for(name) && !is_other(task)).count()
    }

    /// Asks the registry of this name to drop the log's rows and to be given them anew; false where there is none.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn rebuild_registry(&mut self, name: &str, now: Timestamp) -> Result<bool, SidecarError> {
        if !self.registering.lanes().any(|lane| lane.name == name) {
            return Ok(false);
        }
        self.outbox.put(&mut self.writer, 0, again(name, now, true));
        self.writer.commit()?;
        Ok(true)
    }

    /// Tasks left of required pin targets, and with `with_registries` of registries.
    pub fn open_of_stage(&self, with_registries: bool) -> usize {
        let is_pin = |task: &Task| self.pinning.lanes().any(|lane| lane.is_required && task.is_for(&lane.name));
        let is_row = |task: &Task| self.registering.lanes().any(|lane| lane.is_required && task.is_for(&lane.name));
        let is_wanted = |task: &Task| match task {
            Task::Pin { .. } | Task::PinAnchor { .. } => is_pin(task),
            Task::Anchor { .. } => false,
            _ => with_registries && is_row(task),
        };
        self.outbox.tasks(is_wanted).count()
    }
}
