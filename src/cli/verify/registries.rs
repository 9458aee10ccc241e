//! The registries of the configuration as the audit meets them: whom it asks, how far each says it is, what each must have.
//!
//! Met before the archive is listed, because files are there before rows: what a registry says then, the archive of a
//! running sidecar shows. Not the comparison of rows: `rows`.

use std::sync::Arc;

use super::super::args;
use super::super::{Failure, open};
use crate::config::{Config, Registry};
use crate::core::audit::{CheckStatus, Fresh, Report};
use crate::core::finding::Code;
use crate::core::origin::Origin;
use crate::core::rules::Fault;
use crate::registry::{Fence, Registrar};

/// A registry, and what it said.
pub(super) struct Met {
    pub(super) name: String,
    /// `None` where it cannot be asked, or is a file that is not there.
    pub(super) registrar: Option<Arc<dyn Registrar>>,
    /// Where its fence is.
    pub(super) fence: Option<Fence>,
    /// Why it cannot be asked.
    trouble: Option<String>,
    /// The segments the journal says it has.
    pub(super) told: u64,
    /// Whether it is in other hands than the archive.
    is_elsewhere: bool,
}

impl Met {
    /// The name of its check and the start of its places.
    pub(super) fn place(&self) -> String {
        format!("registry {}", self.name)
    }
}

/// Asks every wanted registry for its fence; `told` is how many segments it has by the journal's word.
///
/// # Errors
/// A name the configuration does not have.
pub(super) fn meet(
    config: &Config,
    verify: &args::Verify,
    origin: &Origin,
    told: impl Fn(&str) -> u64,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Met>, Failure> {
    let wanted = verify.registry.as_ref().and_then(Option::as_ref);
    if let Some(wanted) = wanted.filter(|wanted| !config.registry.contains_key(*wanted)) {
        let known: Vec<&str> = config.registry.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("--registry {wanted}: no such registry"))
            .hint(format!("the configuration has: {}", known.join(", "))));
    }
    let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted == name);
    let registries = config.registry.iter().filter(|(name, _)| is_wanted(name));
    Ok(registries.map(|(name, registry)| one(name, registry, origin, told(name), runtime)).collect())
}

fn one(name: &str, registry: &Registry, origin: &Origin, told: u64, runtime: &tokio::runtime::Handle) -> Met {
    let mut met = Met {
        name: name.to_owned(),
        registrar: None,
        fence: None,
        trouble: None,
        told,
        is_elsewhere: matches!(registry, Registry::Snowflake(_)),
    };
    match open::registrar_to_read(name, registry, runtime) {
        Ok(registrar) => met.registrar = registrar,
        Err(failure) => met.trouble = Some(failure.message),
    }
    match met.registrar.as_ref().map(|registrar| registrar.head(origin)).transpose() {
        Ok(fence) => met.fence = fence.flatten(),
        Err(error) => (met.trouble, met.registrar) = (Some(error.to_string()), None),
    }
    met
}

/// Where a segment ends, and with which root.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) size: u64,
    pub(super) root: crate::core::hash::Hash,
}

/// Compares a fence with the segments that were read, of which the log or the journal says that `stated` entries are
/// registered here. A registry in other hands whose fence is the newest head confirms it.
pub(super) fn judge_fence(met: &Met, ends: &[End], stated: u64, is_whole: bool, report: &mut Report) {
    let place = met.place();
    if let Some(trouble) = &met.trouble {
        report.add(&place, None, Fault::of(Code::Unreachable, &place, "an answer", trouble));
        return;
    }
    let table = format!("{place}: registration_hwm.size");
    let Some(fence) = met.fence else {
        match stated {
            0 => report.conclude(&place, CheckStatus::Skipped, "it has no head of this log yet"),
            _ => {
                report.add(&place, None, Fault::of(Code::RegistryMissing, table, format!("{stated} or more"), "no row"))
            }
        }
        return;
    };
    report.conclude(&place, CheckStatus::Ok, "");
    let size = fence.size.0;
    if size < stated {
        report.add(&place, None, Fault::of(Code::RegistryDiffers, &table, format!("{stated} or more"), size));
    }
    if size > report.size.0 {
        let found = format!("{} entries", report.size);
        report.add(&place, None, Fault::of(Code::TailMissing, &table, format!("{size} entries"), found));
        return;
    }
    let root = match ends.iter().find(|end| end.size == size) {
        Some(end) => Some(end.root),
        None => report.root.filter(|_| fence.size == report.size),
    };
    match root {
        Some(root) if root != fence.root => {
            let table = format!("{place}: registration_hwm.root at size {size}");
            report.add(&place, None, Fault::of(Code::Forked, table, root, fence.root));
        }
        Some(_) if met.is_elsewhere && fence.size == report.size => {
            report.confirm(Fresh { source: "registry", size: fence.size });
        }
        Some(_) => {}
        None if is_whole => {
            report.add(&place, None, Fault::of(Code::RegistryDiffers, table, "the end of a segment", size));
        }
        None => {}
    }
}
