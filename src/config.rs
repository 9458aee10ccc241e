//! File and environment to a validated [`Config`]. Nothing else reads the environment or the file.
//!
//! Unknown keys and variables are errors with line, column and the nearest known key: a misspelt limit that is
//! silently ignored is a fault nobody finds. Contract: surface.md, Config.

mod error;
mod load;
mod pin;
mod place;
mod quantity;
mod registry;
mod secret;
mod source;
mod template;
mod timestamp;
mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use load::{CameFrom, Loaded, config_path, load, parse, wants_no_color};
pub use pin::{Contents, Folder, Kubo, Network, Pin};
pub use quantity::{ByteCount, Delay};
pub use registry::{Ddl, Registry, Snowflake, Sqlite};
pub use secret::{MASK, Secret};
pub use source::{Assignment, Decode, Kafka, Source, Topic};
pub use template::template;
pub use timestamp::Timestamp;
pub use witness::{Mode, Witness};

/// Everything a log is run with. Paths are absolute or relative to the working directory once loaded.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The log itself.
    pub log: Log,
    /// What is said while it runs.
    #[serde(default)]
    pub logging: Logging,
    /// Where the keys of people and epochs are.
    #[serde(default)]
    pub keyring: Keyring,
    /// How identifiers are normalised before look-up.
    #[serde(default)]
    pub identity: Identity,
    /// Where records come from, by name.
    #[serde(default)]
    pub source: BTreeMap<String, Source>,
    /// When a segment is sealed.
    #[serde(default)]
    pub seal: Seal,
    /// What is refused or waited for.
    #[serde(default)]
    pub limits: Limits,
    /// How many copies there must be.
    #[serde(default)]
    pub archive: Archive,
    /// What is kept on this machine.
    #[serde(default)]
    pub local: Local,
    /// Where segments are pinned, by name.
    #[serde(default)]
    pub pin: BTreeMap<String, Pin>,
    /// Where segments are registered, by name.
    #[serde(default)]
    pub registry: BTreeMap<String, Registry>,
    /// Who is asked when a checkpoint existed, by name.
    #[serde(default)]
    pub timestamp: BTreeMap<String, Timestamp>,
    /// Who cosigns checkpoints.
    #[serde(default)]
    pub witness: Option<Witness>,
    /// Health, metrics and the read API.
    #[serde(default)]
    pub http: Http,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The log's name: 3 to 128 of `a-z 0-9 . - _ /`, once for ever.
    pub origin: String,
    /// The tenant its rows belong to; one log, one tenant.
    #[serde(default)]
    pub tenant: String,
    /// The directory of journal, archive and the SQLite registry.
    #[serde(default = "defaults::data")]
    pub data: PathBuf,
    /// The directory of the last head, best on another volume.
    #[serde(default = "defaults::heads")]
    pub heads: PathBuf,
    /// The Ed25519 note key, PKCS#8 PEM.
    #[serde(default = "defaults::key_file")]
    pub key_file: PathBuf,
    /// Whether `run` may make a log where nothing anywhere knows the origin.
    #[serde(default)]
    pub create: bool,
    /// How long a stop may take.
    #[serde(default = "defaults::stop_within")]
    pub stop_within: Delay,
}

/// `[logging]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Level,
    /// Text or JSON lines.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Only what ends the work.
    Error,
    /// What someone should look at.
    Warn,
    /// What happened.
    Info,
    /// Every step.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// How it is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// Lines for machines.
    Json,
}

/// `[keyring]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keyring {
    /// Its directory, best on another volume and in no archive backup.
    pub path: PathBuf,
    /// What wraps its shards.
    pub kek: Kek,
    /// People whose keys are kept in memory at once, at most.
    pub cached_subjects_max: u64,
}

/// `keyring.kek`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kek {
    /// A key in a file: for development, `doctor` says so.
    File {
        /// The file, 32 bytes in hex.
        path: PathBuf,
    },
}

/// `[identity]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Mail addresses.
    pub email: Normalise,
    /// Telephone numbers.
    pub phone: Normalise,
    /// Everything else.
    pub other: Normalise,
}

/// How an identifier is normalised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// White space around it removed, lower case.
    Lower,
    /// `+` and digits.
    E164,
    /// As it is.
    Verbatim,
}

/// `[seal]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Seal {
    /// Entries of a segment, at most; the format allows 65,536.
    pub entries_max: u64,
    /// Frame bytes of a segment before it is sealed.
    pub bytes_max: ByteCount,
    /// The age at which a segment of `entries_min` events is sealed.
    pub age_max: Delay,
    /// Events that make an aged segment worth sealing.
    pub entries_min: u64,
    /// The age at which any event is sealed.
    pub age_limit: Delay,
    /// How often the broker's ends are written down, besides before each seal.
    pub observe_every: Delay,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Key, value and headers of a record, at most.
    pub record_bytes_max: ByteCount,
    /// People in one event, at most; the format allows 199.
    pub subjects_per_event_max: u64,
    /// Free space under which intake pauses.
    pub disk_free_min: ByteCount,
    /// Sealed bytes not yet archived above which intake pauses.
    pub backlog_max: ByteCount,
}

/// `[archive]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Copies a segment must have.
    pub copies_min: u64,
    /// How often the copies on each pin target are sampled; `0s` for never.
    pub audit_every: Delay,
    /// Blocks a sample takes of each target.
    pub audit_sample: u64,
    /// Whether a file that a sample shows to be damaged is put back at once; else `pin --repair` does it.
    pub audit_repair: bool,
}

/// `[local]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Local {
    /// How long entries stay in the journal after they are done everywhere: a time, or `all`.
    pub keep_journal: Keep,
    /// How long segments stay in the archive folder after they are done everywhere: a time, or `all`.
    pub keep_archive: Keep,
}

/// How long something local is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// For ever.
    All,
    /// This long.
    For(Delay),
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// The address of health, metrics and the read API, empty for none.
    pub listen: String,
    /// An address for health and metrics alone, in clear, empty for none.
    pub health_listen: String,
    /// The certificate of `listen`, PEM, its chain behind it; absent: no TLS.
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// The authorities whose client certificates may read, PEM.
    pub client_ca: Option<PathBuf>,
    /// The tokens that may read, by their hashes; `pinfold token` writes it.
    pub tokens: Option<PathBuf>,
    /// Requests a second from one address, at most.
    pub requests_per_second_max: u32,
}

/// What an absent key means.
mod defaults {
    use super::{Assignment, Ddl, Decode, Delay, Network};
    use std::path::PathBuf;

    pub(super) fn data() -> PathBuf {
        "data".into()
    }
    pub(super) fn heads() -> PathBuf {
        "heads".into()
    }
    pub(super) fn key_file() -> PathBuf {
        "keys/log.key".into()
    }
    pub(super) fn stop_within() -> Delay {
        Delay::from_secs(20)
    }
    pub(super) fn assignment() -> Assignment {
        Assignment::Group
    }
    pub(super) fn group() -> String {
        "pinfold".into()
    }
    pub(super) fn start() -> String {
        "earliest".into()
    }
    pub(super) fn decode() -> Decode {
        Decode::Auto
    }
    pub(super) fn retention_class() -> String {
        super::RETENTION_CLASS.into()
    }
    pub(super) fn network() -> Network {
        Network::Private
    }
    pub(super) fn call_timeout() -> Delay {
        Delay::from_secs(60)
    }
    pub(super) fn query_timeout() -> Delay {
        Delay::from_secs(15)
    }
    pub(super) fn witness_timeout() -> Delay {
        Delay::from_secs(15)
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn ddl() -> Ddl {
        Ddl::Manual
    }
    pub(super) fn batch_rows_max() -> u64 {
        200
    }
}

/// The retention class of records whose topic names none, and of files.
pub const RETENTION_CLASS: &str = "consent_proof";

impl Default for Logging {
    fn default() -> Logging {
        Logging { level: Level::Info, format: LogFormat::Auto }
    }
}

impl Default for Keyring {
    fn default() -> Keyring {
        Keyring { path: "keyring".into(), kek: Kek::File { path: "keys/kek".into() }, cached_subjects_max: 200_000 }
    }
}

impl Default for Identity {
    fn default() -> Identity {
        Identity { email: Normalise::Lower, phone: Normalise::E164, other: Normalise::Verbatim }
    }
}

impl Default for Seal {
    fn default() -> Seal {
        Seal {
            entries_max: 65_536,
            bytes_max: ByteCount::mib(64),
            age_max: Delay::from_secs(600),
            entries_min: 256,
            age_limit: Delay::from_secs(86_400),
            observe_every: Delay::from_secs(600),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            record_bytes_max: ByteCount::mib(1),
            subjects_per_event_max: 199,
            disk_free_min: ByteCount::mib(1024),
            backlog_max: ByteCount::mib(20 * 1024),
        }
    }
}

impl Default for Archive {
    fn default() -> Archive {
        Archive { copies_min: 2, audit_every: Delay::from_secs(86_400), audit_sample: 459, audit_repair: true }
    }
}

impl Default for Local {
    fn default() -> Local {
        Local { keep_journal: Keep::For(Delay::from_secs(7 * 86_400)), keep_archive: Keep::All }
    }
}

impl Default for Http {
    fn default() -> Http {
        Http {
            listen: "127.0.0.1:7410".into(),
            health_listen: String::new(),
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            tokens: Some("keys/tokens.toml".into()),
            requests_per_second_max: 200,
        }
    }
}
