//! What the journal of the configured log says of itself: how far it is, and whether it was rolled back.
//!
//! Asked before the archive is listed, since files are there before the journal names them. A journal that is gone, in
//! doubt or not ours to open says nothing about the archive; one behind its own head file convicts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::super::control::{self, Request};
use crate::config::Config;
use crate::core::audit::{CheckStatus, Report};
use crate::core::checkpoint::Statement;
use crate::core::finding::Code;
use crate::core::note::Vkey;
use crate::core::origin::Origin;
use crate::core::rules::Fault;
use crate::journal::{self, JournalError, Places};

/// The name of the check.
const CHECK: &str = "journal";

/// The journal, as far as it could be asked.
#[derive(Default)]
pub(super) struct Journal {
    /// Entries, and those of them that are sealed.
    sizes: Option<(u64, u64)>,
    /// Segments each registry has.
    registered: BTreeMap<String, u64>,
    is_gone: bool,
    /// It contradicts its head file.
    fault: Option<Fault>,
    trouble: String,
}

impl Journal {
    /// Asks the running sidecar, or opens it.
    pub(super) fn ask(config: &Config, origin: &Origin, vkeys: &[Vkey], timeout: Option<Duration>) -> Journal {
        let places = Places { data: config.log.data.clone(), heads: config.log.heads.clone() };
        match journal::Journal::open(&places, origin, vkeys) {
            Ok(journal) => {
                let said = Journal::read(&journal, config);
                // Nothing was written, so there is nothing to lose.
                let _ = journal.close();
                said
            }
            Err(JournalError::InUse(_)) => Journal::ask_running(config, timeout),
            Err(error) => Journal::refused(error),
        }
    }

    /// How many segments a registry has, by the journal's word.
    pub(super) fn registered(&self, name: &str) -> u64 {
        self.registered.get(name).copied().unwrap_or(0)
    }

    fn read(journal: &journal::Journal, config: &Config) -> Journal {
        let state = journal.state();
        let sizes = Some((state.size().0, state.sealed.tree.size().0));
        let Ok(open) = journal.outbox() else { return Journal { sizes, ..Journal::default() } };
        let registered = config.registry.keys().map(|name| {
            let task = format!("register/{name}");
            let is_known = journal.row(&format!("since/{task}")).is_ok_and(|row| row.is_some());
            let first = open.iter().filter(|row| row.name == task).map(|row| row.segment).min();
            (name.clone(), if is_known { first.unwrap_or(state.sealed.segments) } else { 0 })
        });
        Journal { sizes, registered: registered.collect(), ..Journal::default() }
    }

    fn ask_running(config: &Config, timeout: Option<Duration>) -> Journal {
        let status = match control::ask(config, &Request::Status, timeout) {
            Ok(status) => status,
            Err(failure) => return Journal { trouble: failure.message, ..Journal::default() },
        };
        let number = |path: &str| status.pointer(path).and_then(Value::as_u64);
        let registered = status.get("registered").and_then(Value::as_object).into_iter().flatten();
        let registered = registered.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        let sizes = number("/size").zip(number("/sealed/size"));
        Journal { sizes, registered: registered.collect(), ..Journal::default() }
    }

    fn refused(error: JournalError) -> Journal {
        let fault = match &error {
            JournalError::Behind { size, head_size, .. } => {
                let (expected, found) = (format!("size {head_size} of the head file"), format!("size {size}"));
                Some(Fault::of(Code::RolledBack, CHECK, expected, found))
            }
            JournalError::Forked { size, root, head_root, .. } => {
                Some(Fault::of(Code::Forked, format!("{CHECK} at size {size}"), head_root, root))
            }
            _ => None,
        };
        let is_gone = matches!(error, JournalError::Missing(_));
        Journal { fault, is_gone, trouble: error.to_string(), ..Journal::default() }
    }

    /// Adds what it says about the archive; `head` is the note of its head file.
    pub(super) fn judge(self, head: Option<&str>, report: &mut Report) {
        if let Some(fault) = self.fault {
            report.add(CHECK, None, fault);
        }
        let archive = report.size.0;
        match self.sizes {
            None => report.conclude(CHECK, CheckStatus::Skipped, &self.trouble),
            Some((size, sealed)) => {
                let detail = format!("{size} entries, {sealed} of them sealed, as the archive has them");
                report.conclude(CHECK, CheckStatus::Ok, &detail);
                if sealed > archive {
                    let (expected, found) = (format!("{sealed} sealed entries"), format!("{archive} entries"));
                    report.add(CHECK, None, Fault::of(Code::TailMissing, "archive", expected, found));
                } else if size > archive {
                    let found = format!("{} entries", size - archive);
                    let fault = Fault::of(Code::UnsealedTail, CHECK, "nothing beyond the archive", found);
                    report.add(CHECK, None, fault);
                }
            }
        }
        let beyond = head.and_then(|head| Statement::parse(head).ok()).map(|statement| statement.head.size.0);
        if let Some(beyond) = beyond.filter(|beyond| self.is_gone && *beyond > archive) {
            let (expected, found) = (format!("{beyond} entries"), format!("{archive} entries, and no journal"));
            report.add(CHECK, None, Fault::of(Code::TailMissing, "head file", expected, found));
        }
    }
}
