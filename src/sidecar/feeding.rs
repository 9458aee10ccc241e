//! Feeding the log from one source to its end: `ingest`.

use std::sync::Arc;

use super::error::SidecarError;
use super::intake::{Intake, TopicRule, Totals};
use super::{Progress, Sidecar};
use crate::core::time::Timestamp;
use crate::ingest::Source;

impl Sidecar {
    /// Folds one source to its end, and lets go of it. `None` where nothing could be done for `patience` microseconds:
    /// what was folded until then is kept, and the same source goes on from there. A segment that became full is sealed.
    ///
    /// # Errors
    /// As `step`.
    pub fn ingest(
        &mut self,
        source: Box<dyn Source>,
        rules: Arc<[TopicRule]>,
        now: impl Fn() -> Timestamp,
        patience: u64,
    ) -> Result<Option<Totals>, SidecarError> {
        self.attach(source, rules);
        let (mut outcome, mut worked_at) = (Ok(()), now());
        while outcome.is_ok() && (self.is_sealing() || self.intakes.last().is_some_and(|intake| !intake.is_idle())) {
            match self.step(now()) {
                Ok(Progress::Worked) => worked_at = now(),
                Ok(Progress::Waited) if now().since(worked_at) > patience => break,
                Ok(Progress::Waited) => {}
                Err(error) => outcome = Err(error),
            }
        }
        let folded = self.intakes.pop().filter(|intake| intake.is_idle()).map(|intake| intake.totals());
        outcome.map(|()| folded)
    }

    /// What intake has done since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for intake in self.intakes.iter().map(Intake::totals) {
            totals.folded.add(intake.folded);
            totals.duplicates += intake.duplicates;
            totals.gaps += intake.gaps;
        }
        totals
    }
}
