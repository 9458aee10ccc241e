//! From the configuration to an open log: journal, keyring, key, pin targets, registries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Failure, anchors};
use crate::archive::{self, Pinner};
use crate::config::{self, Config};
use crate::core::decode::{Format, Limits};
use crate::core::identity::{Form, Rules};
use crate::core::note::{Skey, Vkey};
use crate::core::origin::Origin;
use crate::journal::{Journal, JournalError, Places};
use crate::keyring::{self, Kek, Keyring};
use crate::registry::Registrar;
use crate::registry::snowflake::{Options, Snowflake};
use crate::registry::sqlite::Sqlite;
use crate::sidecar::{LogKeys, Schedule, Settings, Sidecar, SidecarError, TopicRule, Wanted, Which, Writer};

/// Opens the log for writing. The caller is its one owner.
pub(super) fn sidecar(config: &Config, runtime: &tokio::runtime::Handle) -> Result<Sidecar, Failure> {
    let writer = writer(config)?;
    let targets = config.pin.values().map(config::Pin::required).zip(pinners(config)?).collect();
    let required = config.registry.values().map(config::Registry::required);
    let registries = required.zip(registrars(config, runtime)?).collect();
    let anchors = anchors::anchors(config, Some(writer.vkey()))?;
    Ok(Sidecar::anchored(writer, targets, anchors, registries, settings(config), runtime)?)
}

/// The clients of the pin targets, in the order of the configuration; passwords are read from their files now.
pub(super) fn pinners(config: &Config) -> Result<Vec<Arc<dyn Pinner>>, Failure> {
    config.pin.iter().map(|(name, pin)| pinner(name, pin)).collect()
}

/// The clients of the registries, likewise.
pub(super) fn registrars(
    config: &Config,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Arc<dyn Registrar>>, Failure> {
    config.registry.iter().map(|(name, registry)| registrar(name, registry, runtime)).collect()
}

fn writer(config: &Config) -> Result<Writer, Failure> {
    let origin = origin(config)?;
    let keys = keys(&config.log.key_file, &origin)?;
    let places = places(config);
    let vkeys = vkeys(&config.log.key_file, &origin, &keys);
    let journal = Journal::open(&places, &origin, &vkeys).map_err(SidecarError::from)?;
    let keyring = keyring(config, &origin)?;
    Ok(Writer::go_on(origin, keys, journal, keyring)?)
}

/// The log's private keys: that of the key file, and those that a change of key left beside it.
pub(super) fn keys(path: &Path, origin: &Origin) -> Result<LogKeys, Failure> {
    let main = key(path, origin)?;
    let files = LogKeys::files_beside(path).map_err(|e| Failure::file("looking beside", path, &e))?;
    let beside = files.iter().map(|file| key(file, origin)).collect::<Result<_, _>>()?;
    Ok(LogKeys::of_file(path, main, beside))
}

/// The public keys that a head of the log may be signed by: those at hand, and those it once had, which are published
/// beside the key file. Which of them counts at which size is the log's own word.
pub(super) fn vkeys(path: &Path, origin: &Origin, keys: &LogKeys) -> Vec<Vkey> {
    let published = std::fs::read_to_string(path.with_extension("vkey")).unwrap_or_default();
    let published = published.lines().filter_map(|line| line.trim().parse::<Vkey>().ok());
    let mut vkeys = keys.vkeys();
    vkeys.extend(published.filter(|vkey| vkey.name() == origin.as_str()));
    vkeys
}

/// Where the journal's files lie.
pub(super) fn places(config: &Config) -> Places {
    Places { data: config.log.data.clone(), heads: config.log.heads.clone() }
}

/// The log's name; the configuration was checked.
pub(super) fn origin(config: &Config) -> Result<Origin, Failure> {
    Origin::new(&config.log.origin)
        .map_err(|refused| Failure::new(2, "config", format!("log.origin: {}", refused.what)))
}

pub(super) fn key(path: &Path, origin: &Origin) -> Result<Skey, Failure> {
    let pem = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| Failure::file("reading", path, &e))?;
    Skey::from_pkcs8_pem(origin.as_str(), &pem)
        .map_err(|_| Failure::new(2, "key", format!("{}: not an Ed25519 key in PKCS#8 PEM", path.display())))
        .map_err(|failure| failure.hint("correct log.key_file; `pinfold init` wrote the key as keys/log.key"))
}

pub(super) fn settings(config: &Config) -> Settings {
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let form = |form| match form {
        config::Normalise::Lower => Form::Lower,
        config::Normalise::E164 => Form::E164,
        config::Normalise::Verbatim => Form::Verbatim,
    };
    let identity = &config.identity;
    Settings {
        entries_max: config.seal.entries_max,
        bytes_max: config.seal.bytes_max.0,
        age_max: config.seal.age_max.micros(),
        entries_min: config.seal.entries_min,
        age_limit: config.seal.age_limit.micros(),
        observe_every: config.seal.observe_every.micros(),
        disk_free_min: config.limits.disk_free_min.0,
        backlog_max: config.limits.backlog_max.0,
        audits: Schedule {
            every: config.archive.audit_every.micros(),
            wanted: Wanted { blocks: Some(config.archive.audit_sample), repairs: config.archive.audit_repair },
        },
        copies_min: config.archive.copies_min,
        tenant: config.log.tenant.clone(),
        keep_journal: match config.local.keep_journal {
            config::Keep::All => None,
            config::Keep::For(delay) => Some(delay.micros()),
        },
        archive: config.log.data.join("archive"),
        identity: Rules { email: form(identity.email), phone: form(identity.phone), other: form(identity.other) },
        limits: Limits {
            record_bytes_max: size(config.limits.record_bytes_max.0),
            subjects_max: size(config.limits.subjects_per_event_max),
        },
        threads: std::thread::available_parallelism().map_or(1, usize::from).min(4),
    }
}

fn pinner(name: &str, pin: &config::Pin) -> Result<Arc<dyn Pinner>, Failure> {
    match pin {
        config::Pin::Folder(folder) => {
            // A folder that is not there yet is made; one that cannot be made shows when it is pinned to.
            let _ = std::fs::create_dir_all(&folder.path);
            Ok(Arc::new(archive::Folder::new(name, &folder.path, contents(folder.contents))))
        }
        config::Pin::Kubo(kubo) => Ok(Arc::new(self::kubo(name, kubo)?)),
    }
}

/// The node `[pin.NAME]`; the password is read now.
pub(super) fn kubo(name: &str, kubo: &config::Kubo) -> Result<archive::Kubo, Failure> {
    let mut settings = kubo_settings(name, kubo)?;
    settings.contents = contents(kubo.contents);
    let kubo = archive::Kubo::new(settings);
    kubo.map_err(|e| Failure::new(2, "config", format!("pin.{name}.url: {e}")).hint(e.hint()))
}

fn contents(contents: config::Contents) -> archive::Contents {
    match contents {
        config::Contents::Proof => archive::Contents::Proof,
        config::Contents::ProofAndPayload => archive::Contents::ProofAndPayload,
    }
}

/// The node of `--from-ipfs`: asked as `[pin.*]` says where one is at this url, because it may want a password. No call
/// takes longer than `call_time_max`.
pub(super) fn node_at(
    url: &str,
    config: Option<&Config>,
    call_time_max: Option<Duration>,
) -> Result<archive::Kubo, Failure> {
    let bare = |url: &str| url.trim_end_matches('/').to_owned();
    let mut pins = config.into_iter().flat_map(|config| &config.pin);
    let known = pins.find_map(|(name, pin)| match pin {
        config::Pin::Kubo(kubo) if bare(&kubo.url) == bare(url) => Some((name, kubo)),
        _ => None,
    });
    let mut settings = match known {
        Some((name, kubo)) => kubo_settings(name, kubo)?,
        None => archive::kubo::Settings::new("ipfs", url),
    };
    settings.call_time = settings.call_time.min(call_time_max.unwrap_or(settings.call_time));
    archive::Kubo::new(settings).map_err(|e| Failure::usage(format!("--from-ipfs {e}")).hint(e.hint()))
}

/// How a Kubo node of the configuration is asked.
fn kubo_settings(name: &str, kubo: &config::Kubo) -> Result<archive::kubo::Settings, Failure> {
    let mut settings = archive::kubo::Settings::new(name, &kubo.url);
    settings.call_time = kubo.timeout.duration();
    settings.network = match kubo.network {
        config::Network::Private => archive::Network::Private,
        config::Network::Public => archive::Network::Public,
    };
    if let Some(user) = &kubo.user {
        let password = match (&kubo.password, &kubo.password_file) {
            (Some(password), _) => password.reveal().to_owned(),
            (None, Some(path)) => secret(path)?,
            (None, None) => String::new(),
        };
        settings.credentials = Some((user.clone(), password));
    }
    Ok(settings)
}

/// A secret of one line in a file.
fn secret(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("reading", path, &e))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A registry of the configuration, for reading. `None` where it is a file that is not there: nothing is made.
pub(super) fn registrar_to_read(
    name: &str,
    registry: &config::Registry,
    runtime: &tokio::runtime::Handle,
) -> Result<Option<Arc<dyn Registrar>>, Failure> {
    match registry {
        config::Registry::Sqlite(sqlite) if !sqlite.path.exists() => Ok(None),
        config::Registry::Sqlite(sqlite) => {
            let opened = Sqlite::open_read(name, &sqlite.path);
            Ok(Some(Arc::new(opened.map_err(SidecarError::from)?)))
        }
        config::Registry::Snowflake(_) => registrar(name, registry, runtime).map(Some),
    }
}

/// The keyring of the log. One process owns it: while `run` lives, this one does not.
pub(super) fn keyring(config: &Config, origin: &Origin) -> Result<Keyring, Failure> {
    let config::Kek::File { path } = &config.keyring.kek;
    let kek = Kek::read(path).map_err(SidecarError::from)?;
    let cache = usize::try_from(config.keyring.cached_subjects_max).unwrap_or(usize::MAX);
    let keyring = Keyring::open(&config.keyring.path, &kek, origin.oid()).map_err(SidecarError::from)?;
    Ok(keyring.with_cache_bytes(cache.saturating_mul(keyring::CACHED_SUBJECT_BYTES)))
}

/// A registry of the configuration. Its calls block, and those of Snowflake do so on `runtime`.
pub(super) fn registrar(
    name: &str,
    registry: &config::Registry,
    runtime: &tokio::runtime::Handle,
) -> Result<Arc<dyn Registrar>, Failure> {
    match registry {
        config::Registry::Sqlite(sqlite) => {
            let opened = Sqlite::open(name, &sqlite.path);
            Ok(Arc::new(opened.map_err(SidecarError::from)?))
        }
        config::Registry::Snowflake(snowflake) => Ok(Arc::new(self::snowflake(name, snowflake, runtime)?)),
    }
}

/// The registry `[registry.NAME]` at Snowflake; the private key is read now.
pub(super) fn snowflake(
    name: &str,
    snowflake: &config::Snowflake,
    runtime: &tokio::runtime::Handle,
) -> Result<Snowflake, Failure> {
    let made = Snowflake::new(snowflake_options(name, snowflake)?, runtime.clone());
    Ok(made.map_err(SidecarError::from)?)
}

fn snowflake_options(name: &str, snowflake: &config::Snowflake) -> Result<Options, Failure> {
    let path = &snowflake.private_key_file;
    let pem = std::fs::read_to_string(path).map_err(|e| Failure::file("reading", path, &e))?;
    Ok(Options {
        name: name.to_owned(),
        account: snowflake.account.clone(),
        url: snowflake.url.clone(),
        user: snowflake.user.clone(),
        private_key_pem: Zeroizing::new(pem),
        role: snowflake.role.clone(),
        warehouse: snowflake.warehouse.clone(),
        database: snowflake.database.clone(),
        schema: snowflake.schema.clone(),
        is_ddl_manual: snowflake.ddl == config::Ddl::Manual,
        batch_rows_max: usize::try_from(snowflake.batch_rows_max).unwrap_or(usize::MAX),
        answer_timeout: snowflake.timeout.duration(),
    })
}

/// The rules of a file's one topic.
pub(super) fn file_rules(name: &str) -> Arc<[TopicRule]> {
    Arc::from([TopicRule {
        which: Which::All,
        alias: name.to_owned(),
        format: Format::Auto,
        class: config::RETENTION_CLASS.to_owned(),
    }])
}

impl From<SidecarError> for Failure {
    fn from(error: SidecarError) -> Failure {
        let exit = match &error {
            SidecarError::Journal(JournalError::InUse(_)) => 4,
            error if error.is_halt() => 4,
            SidecarError::Handover(_) => 1,
            _ => 3,
        };
        Failure::new(exit, error.code(), error.to_string()).hint(error.hint())
    }
}
