//! Targets, authorities and registries that came to the configuration, or left it, since the last start.

use super::Sidecar;
use super::error::SidecarError;
use super::outbox::Task;
use super::registering::again::again;

impl Sidecar {
    /// Gives targets and registries that came to the configuration later the segments they lack, and authorities the
    /// newest one; drops the tasks of those that left it. A halted log takes no commit: they are met when it goes on.
    pub(super) fn meet_newcomers(&mut self) -> Result<(), SidecarError> {
        if self.writer.journal.state().halted.is_some() {
            return Ok(());
        }
        let segments = self.writer.journal.state().sealed.segments;
        let at = self.writer.journal.state().recorded_at;
        let wanted = self.pinning.tasks(at).chain(self.anchoring.tasks(at)).chain(self.registering.tasks(at));
        let wanted: Vec<Task> = wanted.collect();
        let lanes = self.pinning.lanes().chain(self.registering.lanes());
        let names: Vec<String> = lanes.map(|lane| lane.name.clone()).collect();
        let authorities: Vec<String> = self.anchoring.lanes().map(|(_, lane)| lane.name.clone()).collect();
        let left = self.outbox.tasks(|task| match task.is_question() {
            true => !authorities.iter().any(|name| task.is_question_to(name)),
            false => !names.iter().any(|name| task.is_for(name)),
        });
        let left: Vec<(u64, String)> = left.map(|(segment, task)| (segment, task.name())).collect();
        for (segment, name) in left {
            self.outbox.end(&mut self.writer, segment, &name);
            self.commit_if_due()?;
        }
        for task in wanted {
            let row = format!("since/{}", task.name());
            if self.writer.journal.row(&row)?.is_some() {
                continue;
            }
            if let Task::Register { registry, .. } = &task {
                if segments > 0 {
                    self.outbox.put(&mut self.writer, 0, again(registry, at, false));
                }
                self.writer.put_row(&row, Some(segments.to_be_bytes().to_vec()));
                continue;
            }
            // What an authority says of the newest checkpoint covers the tree before it.
            let first = if task.is_question() { segments.saturating_sub(1) } else { 0 };
            for segment in first..segments {
                self.outbox.put(&mut self.writer, segment, task.clone());
                self.commit_if_due()?;
            }
            self.writer.put_row(&row, Some(segments.to_be_bytes().to_vec()));
        }
        self.auditing.meet_newcomers(&mut self.writer, at);
        self.writer.commit()
    }

    fn commit_if_due(&mut self) -> Result<(), SidecarError> {
        if self.writer.is_commit_due() { self.writer.commit() } else { Ok(()) }
    }
}
