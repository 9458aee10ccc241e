//! `[witness]`: whom the log shows its checkpoints, and what it does without them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Delay, defaults};

/// `[witness]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// The file with the policy (c2sp.org/tlog-policy): witnesses with their addresses, and the quorum.
    #[serde(default)]
    pub policy_file: Option<PathBuf>,
    /// The policy itself, in place of a file.
    #[serde(default)]
    pub policy: Option<String>,
    /// What happens while the quorum has not signed.
    #[serde(default)]
    pub mode: Mode,
    /// How long one witness may take to answer.
    #[serde(default = "defaults::witness_timeout")]
    pub timeout: Delay,
}

/// What happens to a segment while the quorum has not signed its checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is registered all the same; readiness, status and metrics say what is missing.
    #[default]
    FailOpen,
    /// It is not registered.
    FailClosed,
}

impl Witness {
    /// Checks what the types cannot; the policy is read where it is used.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match (&self.policy_file, &self.policy) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => {
                let hint = "policy_file = \"keys/witness.policy\"";
                Err(ConfigError::value("witness", "policy_file or policy, and not both", Some(hint)))
            }
        }
    }
}
