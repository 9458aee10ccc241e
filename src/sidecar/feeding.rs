//! Feeding the log from one source to its end: `ingest`.

use std::sync::Arc;

use super::Sidecar;
use super::error::SidecarError;
use super::intake::{Intake, TopicRule, Totals};
use crate::core::time::Timestamp;
use crate::ingest::Source;

impl Sidecar {
    /// Folds one source to its end, and lets go of it.
    ///
    /// # Errors
    /// As `step`.
    pub fn ingest(
        &mut self,
        source: Box<dyn Source>,
        rules: Arc<[TopicRule]>,
        now: impl Fn() -> Timestamp,
    ) -> Result<Totals, SidecarError> {
        self.attach(source, rules);
        let mut outcome = Ok(());
        while outcome.is_ok() && self.intakes.last().is_some_and(|intake| !intake.is_idle()) {
            outcome = self.step(now()).map(drop);
        }
        let totals = self.intakes.pop().map(|intake| intake.totals()).unwrap_or_default();
        outcome.map(|()| totals)
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
