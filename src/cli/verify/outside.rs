//! What the configured log knows of itself outside the archive: its head file, its journal, its registries.
//!
//! The head file and the embedded registry stand beside the archive: they can convict, never confirm. A registry
//! elsewhere confirms where its fence is at the archive's newest head.

use std::time::Duration;

use super::super::args;
use super::super::control::{self, Request};
use super::super::{Failure, open};
use crate::config::{Config, Registry};
use crate::core::audit::{Fresh, Report};
use crate::core::checkpoint::Statement;
use crate::core::finding::Code;
use crate::core::rules::Fault;
use crate::registry::RegistryError;

/// Adds what is found to the report.
pub(super) fn compare(
    config: &Config,
    verify: &args::Verify,
    report: &mut Report,
    findings_max: usize,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    head_file(config, report, findings_max)?;
    // The journal may be in use, halted or gone: none of that is the archive's fault.
    if let Ok(status) = control::ask(config, &Request::Status, timeout) {
        let size = status.get("size").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let sealed = status.pointer("/sealed/size").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if sealed > report.size.0 {
            let found = format!("{} entries", report.size);
            let fault = Fault::of(Code::TailMissing, "archive", format!("{sealed} sealed entries"), found);
            report.add([(None, fault)], findings_max);
        } else if size > sealed {
            let fault = Fault::of(
                Code::UnsealedTail,
                "journal",
                "nothing beyond the archive",
                format!("{} entries", size - sealed),
            );
            report.add([(None, fault)], findings_max);
        }
    }
    let wanted = |name: &String| match &verify.registry {
        Some(Some(wanted)) => wanted == name,
        _ => true,
    };
    let runtime = super::super::runtime()?;
    for (name, registry) in config.registry.iter().filter(|(name, _)| wanted(name)) {
        fence(config, name, registry, runtime.handle(), report, findings_max)?;
    }
    Ok(())
}

/// A head file beyond the archive is of its journal's tail; within the archive it must be of the same tree, which the
/// audit compares when it is given as known head.
fn head_file(config: &Config, report: &mut Report, findings_max: usize) -> Result<(), Failure> {
    let path = config.log.heads.join("head");
    let Ok(note) = std::fs::read_to_string(&path) else { return Ok(()) };
    let Ok(statement) = Statement::parse(&note) else {
        let fault = Fault::of(Code::NonCanonical, "head file", "a signed head", "something else");
        report.add([(None, fault)], findings_max);
        return Ok(());
    };
    if statement.head.size == report.size && report.root.is_some_and(|root| root != statement.head.root) {
        let expected = report.root.map(|root| root.to_string()).unwrap_or_default();
        let fault = Fault::of(Code::Forked, "head file", expected, statement.head.root);
        report.add([(None, fault)], findings_max);
    }
    Ok(())
}

fn fence(
    config: &Config,
    name: &str,
    registry: &Registry,
    runtime: &tokio::runtime::Handle,
    report: &mut Report,
    findings_max: usize,
) -> Result<(), Failure> {
    let origin = open::origin(config)?;
    let place = format!("registry {name}");
    let head = open::registrar(name, registry, runtime)
        .map_err(|failure| failure.message)
        .and_then(|registrar| registrar.head(&origin).map_err(|error: RegistryError| error.to_string()));
    let fault = match head {
        Err(why) => Some(Fault::of(Code::Unreachable, &place, "an answer", why)),
        Ok(None) if report.segments > 0 => {
            Some(Fault::of(Code::RegistryMissing, &place, "the log", "none of that name"))
        }
        Ok(None) => None,
        Ok(Some(fence)) if fence.size > report.size => {
            let found = format!("{} entries", report.size);
            Some(Fault::of(Code::TailMissing, &place, format!("{} entries", fence.size), found))
        }
        Ok(Some(fence)) if fence.size == report.size => match report.root {
            Some(root) if root != fence.root => Some(Fault::of(Code::Forked, &place, root, fence.root)),
            // The embedded registry stands beside the archive, in the same hands: it never confirms.
            Some(_) if matches!(registry, Registry::Snowflake(_)) => {
                report.fresh = Some(Fresh { source: "registry", size: fence.size });
                None
            }
            _ => None,
        },
        Ok(Some(_)) => None,
    };
    report.add(fault.map(|fault| (None, fault)), findings_max);
    Ok(())
}
