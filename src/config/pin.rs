//! `[pin.NAME]`: who keeps copies of the archive, and what of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delay, Secret, defaults};

/// `[pin.NAME]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Pin {
    /// A Kubo node.
    Kubo(Kubo),
    /// A directory.
    Folder(Folder),
}

impl Pin {
    /// What it gets.
    pub fn contents(&self) -> Contents {
        match self {
            Pin::Kubo(kubo) => kubo.contents,
            Pin::Folder(folder) => folder.contents,
        }
    }

    /// Whether a segment is not done without it.
    pub fn required(&self) -> bool {
        match self {
            Pin::Kubo(kubo) => kubo.required,
            Pin::Folder(folder) => folder.required,
        }
    }
}

/// `[pin.NAME]` with `kind = "kubo"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubo {
    /// The RPC address.
    pub url: String,
    /// Whether strangers can fetch from it.
    #[serde(default = "defaults::network")]
    pub network: Network,
    /// What it gets.
    #[serde(default)]
    pub contents: Contents,
    /// Allows payload on a public network.
    #[serde(default)]
    pub public_payload: bool,
    /// Basic authentication: the user.
    #[serde(default)]
    pub user: Option<String>,
    /// Basic authentication: the file with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Basic authentication: the password; only as a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// How long one call may take.
    #[serde(default = "defaults::call_timeout")]
    pub timeout: Delay,
    /// Whether a segment is not done without it.
    #[serde(default = "defaults::yes")]
    pub required: bool,
}

/// `[pin.NAME]` with `kind = "folder"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The directory.
    pub path: PathBuf,
    /// What it gets.
    #[serde(default)]
    pub contents: Contents,
    /// Whether a segment is not done without it.
    #[serde(default = "defaults::yes")]
    pub required: bool,
}

/// Who can reach a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Only us.
    Private,
    /// Anyone.
    Public,
}

/// What a pin target gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub enum Contents {
    /// Leaves and seals: no content, no sizes, no key ids.
    #[serde(rename = "proof")]
    Proof,
    /// Ciphertext too.
    #[default]
    #[serde(rename = "proof+payload")]
    ProofAndPayload,
}

impl Contents {
    /// The word of the configuration and of the registry.
    pub fn as_str(self) -> &'static str {
        match self {
            Contents::Proof => "proof",
            Contents::ProofAndPayload => "proof+payload",
        }
    }
}
