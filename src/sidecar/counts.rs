//! How many entries of which kind: what `status` and the metrics show, kept with every commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::leaf::{Body, LeafView, kind_name};

/// How many entries the log has, by kind and by reason: for `status` and metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Entries by the name of their kind.
    pub entries: BTreeMap<String, u64>,
    /// Quarantined records by reason.
    pub quarantined: BTreeMap<String, u64>,
    /// Declared ranges without entries by reason.
    pub gaps: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts an entry.
    pub(super) fn add(&mut self, view: &LeafView<'_>) {
        let count = |of: &mut BTreeMap<String, u64>, name: &str| match of.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(of.insert(name.to_owned(), 1)),
        };
        count(&mut self.entries, kind_name(view.kind));
        match (view.kind, view.body()) {
            (4, Ok(Body::Quarantined { reason })) => count(&mut self.quarantined, reason.as_str()),
            (3, Ok(Body::Gap(ranges))) => ranges.iter().for_each(|range| count(&mut self.gaps, range.reason.as_str())),
            _ => {}
        }
    }
}
