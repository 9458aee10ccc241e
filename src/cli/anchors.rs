//! From the configuration to whoever is asked about checkpoints: time-stamp authorities, and the witnesses of the policy.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::Failure;
use super::verify::read_roots;
use crate::anchor::tsa::{BadTsa, Tsa};
use crate::anchor::{Authority, Witness};
use crate::config::{self, Config, Mode};
use crate::core::finding::Refused;
use crate::core::note::Vkey;
use crate::core::witness::Policy;
use crate::core::witness::policy::POLICY_BYTES_MAX;
use crate::sidecar::{Anchors, Quorum};

/// Everybody the log shows its checkpoints; `vkey` is its key, where that is known.
///
/// # Errors
/// Exit 2 where the policy does not read, does not have this log, or can never be met.
pub(super) fn anchors(config: &Config, vkey: Option<&Vkey>) -> Result<Anchors, Failure> {
    let stamping = config.timestamp.iter().map(|(name, settings)| tsa(name, settings));
    let stamping = stamping.map(|tsa| Ok(Arc::new(tsa?) as Arc<dyn Authority>)).collect::<Result<Vec<_>, Failure>>()?;
    let Some(witness) = &config.witness else { return Ok(Anchors { authorities: stamping, quorum: None }) };
    let policy = policy(witness)?;
    let wrong = |what: String| Failure::new(2, "config", format!("witness: {what}"));
    if let Some(vkey) = vkey.filter(|_| !policy.logs.is_empty())
        && !policy.logs.iter().any(|log| log.vkey == *vkey)
    {
        let hint = format!("add the line `log {vkey}`, or leave all of them out");
        return Err(wrong("the policy names other logs and not this one".to_owned()).hint(hint));
    }
    let clients = clients(&policy, witness)?.into_iter();
    let witnesses = clients.map(|client| Arc::new(client) as Arc<dyn Authority>);
    let authorities = witnesses.chain(stamping).collect();
    let has_url = |index: usize| policy.witnesses.get(index).is_some_and(|witness| witness.url.is_some());
    if !policy.is_met(has_url) {
        return Err(wrong("the witnesses that have an address do not make the quorum".to_owned())
            .hint("a witness line ends in its submission prefix: `witness NAME VKEY https://...`"));
    }
    let is_required = witness.mode == Mode::FailClosed;
    Ok(Anchors { authorities, quorum: Some(Quorum { policy, is_required }) })
}

/// The client of `[timestamp.NAME]`; its roots are read now.
///
/// # Errors
/// Exit 2 where roots or address are none.
pub(super) fn tsa(name: &str, settings: &config::Timestamp) -> Result<Tsa, Failure> {
    let roots = read_roots(&settings.roots).map_err(|failure| {
        let message = format!("timestamp.{name}.roots: {}", failure.message);
        Failure { message, code: "config".to_owned(), ..failure }
    })?;
    Tsa::new(name, &settings.url, roots, settings.timeout.duration()).map_err(|error| {
        let hint = match error {
            BadTsa::Url { .. } => "url = \"http://timestamp.example.com/\"",
            BadTsa::Client(_) => "",
        };
        Failure::new(2, "config", format!("timestamp.{name}.url: {error}")).hint(hint)
    })
}

/// The clients of the witnesses of the configuration that have an address.
///
/// # Errors
/// Exit 2 as for [`anchors`].
pub(super) fn witnesses(config: &Config) -> Result<Vec<Witness>, Failure> {
    match &config.witness {
        Some(witness) => clients(&policy(witness)?, witness),
        None => Ok(Vec::new()),
    }
}

fn clients(policy: &Policy, witness: &config::Witness) -> Result<Vec<Witness>, Failure> {
    let mut names = BTreeSet::new();
    let mut clients = Vec::new();
    for (vkey, url) in policy.witnesses.iter().filter_map(|one| Some((&one.vkey, one.url.as_ref()?))) {
        let client = Witness::new(vkey.clone(), url, witness.timeout.duration());
        let wrong = |what: String| {
            Failure::new(2, "config", format!("witness {}: {what}", vkey.name())).hint("correct its line in the policy")
        };
        let client = client.map_err(|error| wrong(error.to_string()))?;
        if client.name().len() > NAME_BYTES_MAX || !names.insert(client.name().to_owned()) {
            return Err(wrong("its name is too long, or another key has its name and id".to_owned()));
        }
        clients.push(client);
    }
    Ok(clients)
}

const FORM: &str = "the form is c2sp.org/tlog-policy; docs/witness.md has an example";
/// Bytes of a name with its id: rows of the outbox are called by it.
const NAME_BYTES_MAX: usize = 255;

/// The policy of `[witness]`.
///
/// # Errors
/// Exit 2 where it cannot be read or is none.
pub(super) fn policy(witness: &config::Witness) -> Result<Policy, Failure> {
    match (&witness.policy_file, &witness.policy) {
        (Some(path), _) => read_policy(path),
        (None, text) => {
            let refused = |refused: Refused| Failure::new(2, "config", format!("witness.{}", refused.what)).hint(FORM);
            Policy::parse(text.as_deref().unwrap_or_default().as_bytes()).map_err(refused)
        }
    }
}

/// Reads a policy file.
///
/// # Errors
/// Exit 2 where it cannot be read or is no policy.
pub(super) fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(2, "config", Failure::file("reading", path, &error).message).hint("correct witness.policy_file")
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > POLICY_BYTES_MAX as u64 {
        return Err(Failure::new(2, "config", format!("{}: larger than any policy", path.display())).hint(FORM));
    }
    let text = std::fs::read(path).map_err(failed)?;
    let refused =
        |refused: Refused| Failure::new(2, "config", format!("{}: {}", path.display(), refused.what)).hint(FORM);
    Policy::parse(&text).map_err(refused)
}
