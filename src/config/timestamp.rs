//! `[timestamp.NAME]`: who is asked when a checkpoint existed.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delay, defaults};

/// `[timestamp.NAME]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// Where the authority takes queries (RFC 3161 over HTTP).
    pub url: String,
    /// The file with the roots its tokens must lead to, in PEM or DER; no other token is taken.
    pub roots: PathBuf,
    /// How long one query may take.
    #[serde(default = "defaults::query_timeout")]
    pub timeout: Delay,
}
