//! `[registry.NAME]`: where rows go.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delay, defaults};

/// `[registry.NAME]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Registry {
    /// A file: the embedded default.
    Sqlite(Sqlite),
    /// Snowflake, by its SQL API.
    Snowflake(Snowflake),
}

impl Registry {
    /// Whether a segment is not done without it.
    pub fn required(&self) -> bool {
        match self {
            Registry::Sqlite(sqlite) => sqlite.required,
            Registry::Snowflake(snowflake) => snowflake.required,
        }
    }
}

/// `[registry.NAME]` with `kind = "sqlite"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// The file.
    pub path: PathBuf,
    /// Whether a segment is not done without it.
    #[serde(default = "defaults::yes")]
    pub required: bool,
}

/// `[registry.NAME]` with `kind = "snowflake"`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snowflake {
    /// The account, `ORG-ACCT`.
    pub account: String,
    /// The address; made from the account where absent.
    #[serde(default)]
    pub url: Option<String>,
    /// The user.
    pub user: String,
    /// The RSA key, PKCS#8 PEM.
    pub private_key_file: PathBuf,
    /// The role; the user's own where empty.
    #[serde(default)]
    pub role: String,
    /// The warehouse; the user's own where empty.
    #[serde(default)]
    pub warehouse: String,
    /// The database.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// Whether tables are made by `registry init` or by someone else.
    #[serde(default = "defaults::ddl")]
    pub ddl: Ddl,
    /// Rows of one statement, at most.
    #[serde(default = "defaults::batch_rows_max")]
    pub batch_rows_max: u64,
    /// How long one statement may take.
    #[serde(default = "defaults::call_timeout")]
    pub timeout: Delay,
    /// Whether a segment is not done without it.
    #[serde(default = "defaults::yes")]
    pub required: bool,
}

/// Who makes the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ddl {
    /// A person, with the text of `sql snowflake` or `registry init --dry-run`.
    Manual,
    /// Pinfold, at its first start.
    Auto,
}
