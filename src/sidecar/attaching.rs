//! What the loop is connected to: sources it begins to fold, and clients that are replaced when secrets change.

use std::sync::Arc;

use super::Sidecar;
use super::intake::{Intake, PositionView, TopicRule};
use crate::archive::Pinner;
use crate::ingest::Source;
use crate::registry::Registrar;

impl Sidecar {
    /// The positions a source of these topics asks for.
    pub fn positions(&self, rules: &Arc<[TopicRule]>) -> PositionView {
        PositionView::new(self.writer.known(), Arc::clone(rules))
    }

    /// Begins to fold what `source` delivers.
    pub fn attach(&mut self, source: Box<dyn Source>, rules: Arc<[TopicRule]>) {
        let (identity, limits) = (self.settings.identity, self.settings.limits);
        self.intakes.push(Intake::new(source, rules, identity, limits));
    }

    /// Goes on with other clients of the same targets and registries, and lets sources connect anew: secrets changed.
    pub fn reconnect(&mut self, pinners: Vec<Arc<dyn Pinner>>, registrars: Vec<Arc<dyn Registrar>>) {
        self.auditing.reconnect(&pinners);
        self.pinning.reconnect(pinners);
        self.registering.reconnect(registrars);
        self.intakes.iter_mut().for_each(|intake| intake.source().reconnect());
    }
}
