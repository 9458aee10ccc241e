//! The witnesses of the verifier's policy, asked what they hold of the log right now.
//!
//! Each is sent the archive's newest checkpoint with its own size and no proof, so none is ever moved: it signs again,
//! if that is the newest it saw, or says which size it holds. A quorum of fresh signatures confirms the archive; a
//! larger size, or another root, convicts it. That answer is not signed: who doubts it asks the witness for the
//! checkpoint and gives it as `--known-head`. Those without an address are not asked.

use std::time::Duration;

use futures_util::future::join_all;

use crate::anchor::witness::{Holds, Witness};
use crate::anchor::{AnchorError, Authority};
use crate::core::audit::{Archive, AuditInput, CheckStatus, File, Fresh, Report};
use crate::core::checkpoint::{Head, Statement};
use crate::core::finding::Code;
use crate::core::rules::Fault;
use crate::core::segment::read::Proof;
use crate::core::seq::Size;
use crate::core::witness::Policy;

/// How long one witness may take, where the caller does not say.
const ASK: Duration = Duration::from_secs(15);

/// Asks every witness of the policy that has an address, all at once, and says in the report what came of it.
pub(super) fn ask(
    policy: &Policy,
    archive: &dyn Archive,
    input: &AuditInput,
    timeout: Option<Duration>,
    runtime: &tokio::runtime::Runtime,
    report: &mut Report,
) {
    let clients = policy.witnesses.iter().map(|witness| {
        let client = Witness::new(witness.vkey.clone(), witness.url.as_ref()?, timeout.unwrap_or(ASK).min(ASK));
        Some((witness.vkey.name().to_owned(), client))
    });
    let clients: Vec<_> = clients.collect();
    if clients.iter().all(Option::is_none) {
        return;
    }
    let Some(note) = newest(archive, input, report) else {
        report.conclude(
            "witnesses",
            CheckStatus::Skipped,
            "the newest segment does not read: there is nothing to ask about",
        );
        return;
    };
    let Ok(Statement { head, .. }) = Statement::parse(&note) else { return };
    let asked = clients.iter().map(|client| async {
        match client {
            Some((_, Ok(client))) => Some(client.holds(&head, &note).await),
            _ => None,
        }
    });
    let held = runtime.block_on(join_all(asked));
    let mut tally = Tally { head: &head, confirmed: Vec::new(), unreached: Vec::new() };
    for (client, held) in clients.iter().zip(held) {
        let is_confirmed = match (client, held) {
            (Some((name, Ok(client))), Some(held)) => {
                tally.judge(&format!("witness {name}"), client.name(), held, report)
            }
            (Some((name, Err(error))), _) => {
                tally.unreached.push((format!("witness {name}"), error.to_string()));
                false
            }
            _ => false,
        };
        tally.confirmed.push(is_confirmed);
    }
    tally.conclude(policy, report);
}

/// What the witnesses said together.
struct Tally<'a> {
    head: &'a Head,
    /// By the index of the witness.
    confirmed: Vec<bool>,
    /// Who did not answer, and why.
    unreached: Vec<(String, String)>,
}

impl Tally<'_> {
    /// Takes one answer; whether it confirms the checkpoint as the newest.
    fn judge(&mut self, check: &str, lane: &str, held: Result<Holds, AnchorError>, report: &mut Report) -> bool {
        let Size(size) = self.head.size;
        match held {
            Ok(Holds::This(_)) => {
                report.conclude(check, CheckStatus::Ok, "it signed this checkpoint again, as the newest it saw");
                return true;
            }
            Ok(Holds::Size(Size(held))) if held > size => {
                let fault = Fault::of(Code::RolledBack, check, format!("size {held}"), format!("size {size}"));
                report.add(check, None, fault);
            }
            Ok(Holds::Size(held)) => {
                let detail = format!("it holds size {held}: this archive is newer than what it saw");
                report.conclude(check, CheckStatus::Skipped, &detail);
            }
            Ok(Holds::OtherRoot) => {
                let place = format!("{check} at size {size}");
                report.add(check, None, Fault::of(Code::Forked, place, self.head.root, "another root"));
            }
            Err(error @ AnchorError::Refused { .. }) => {
                report.conclude(check, CheckStatus::Skipped, &why(&error, lane))
            }
            Err(error) => self.unreached.push((check.to_owned(), why(&error, lane))),
        }
        false
    }

    /// A quorum confirms. Who did not answer is a finding only where it is missed for that.
    fn conclude(self, policy: &Policy, report: &mut Report) {
        let has = |index: usize| self.confirmed.get(index).copied().unwrap_or_default();
        let is_met = !policy.asks_for_none() && policy.is_met(has);
        for (check, why) in self.unreached {
            match is_met {
                true => report.conclude(&check, CheckStatus::Skipped, &why),
                false => report.add(&check, None, Fault::of(Code::Unreachable, &check, "an answer", why)),
            }
        }
        if is_met && report.size == self.head.size {
            report.confirm(Fresh { source: "witness", size: self.head.size });
        }
    }
}

/// An error without the name of the lane, which the check has.
fn why(error: &AnchorError, lane: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{lane}: ")).unwrap_or(&text).to_owned()
}

/// The checkpoint in the newest seal, if that is the one that was audited.
fn newest(archive: &dyn Archive, input: &AuditInput, report: &Report) -> Option<String> {
    let (segment, seal) = (0..).zip(&report.seals).last()?;
    let proof = Proof::open(archive.open(segment, File::Proof).ok()??, input.limits).ok()?;
    (Some(proof.cid()) == *seal).then(|| proof.seal().checkpoint.clone())
}
