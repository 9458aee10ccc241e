//! What `doctor` and `config check` ask of others: pin targets, registries, brokers.

use std::sync::mpsc;
use std::time::Duration;

use super::super::{Failure, anchors, open};
use super::{Remark, Status};
use crate::anchor::AnchorError;
use crate::archive::PinError;
use crate::config::{Config, Ddl, Delay, Folder, Kubo, Pin, Registry, Timestamp};
use crate::core::seq::Size;
use crate::registry::sqlite::Sqlite;
use crate::registry::{Registrar, RegistryError, SCHEMA_VERSION};

/// How far our clock and that of an authority may be apart.
const CLOCKS_APART_MICROS: u64 = 300_000_000;

/// Asks everyone; each question takes at most `limit`.
pub(super) fn all(config: &Config, limit: Duration, runtime: &tokio::runtime::Handle) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if config.pin.is_empty() {
        let hint = "add a [pin.*]: a copy elsewhere is what makes the loss of this machine harmless";
        remarks.push(Remark::new(Status::Warn, "pin", "no pin target: the archive folder is the only copy", hint));
    }
    for (name, pin) in &config.pin {
        match pin {
            Pin::Folder(folder) => remarks.push(self::folder(name, folder)),
            Pin::Kubo(kubo) => remarks.extend(self::kubo(name, kubo, limit, runtime)),
        }
    }
    for (name, registry) in &config.registry {
        remarks.push(self::registry(name, registry, limit, runtime));
    }
    for (name, authority) in &config.timestamp {
        remarks.push(timestamp(name, authority, limit, runtime));
    }
    remarks.extend(brokers(config, limit, runtime));
    remarks
}

/// Refuses what can be refused without asking anyone and without reading a secret.
pub(super) fn options(config: &Config) -> Result<(), Failure> {
    for (name, pin) in &config.pin {
        if let Pin::Kubo(kubo) = pin {
            let without_secret = Kubo { user: None, ..kubo.clone() };
            open::kubo(name, &without_secret)?;
        }
    }
    anchors::anchors(config, None)?;
    source_options(config)
}

/// Answers of whoever may hang: a question that takes longer is left behind.
fn within<T: Send + 'static>(limit: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let asking = std::thread::Builder::new().name("doctor".to_owned()).spawn(move || {
        // Too late: nobody waits for it any longer.
        let _ = sender.send(ask());
    });
    asking.ok()?;
    receiver.recv_timeout(limit).ok()
}

fn no_answer(name: String, limit: Duration, hint: &str) -> Remark {
    Remark::new(Status::Unreachable, name, format!("no answer within {limit:?}"), hint)
}

fn folder(name: &str, folder: &Folder) -> Remark {
    let (name, path) = (format!("pin {name}"), folder.path.display());
    // A file is made and removed: permissions, quotas and read-only mounts all show in it.
    let probe = folder.path.join(format!(".pinfold-doctor-{}.tmp", std::process::id()));
    let tried = std::fs::File::create_new(&probe).and_then(|file| file.sync_all());
    let removed = std::fs::remove_file(&probe);
    match tried.and(removed) {
        Ok(()) => Remark::ok(name, format!("{path} takes files")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "is the volume mounted? an absent folder is made at the first start";
            Remark::new(Status::Unreachable, name, format!("{path}: {error}"), hint)
        }
        Err(error) => Remark::new(
            Status::Fail,
            name,
            format!("{path}: {error}"),
            "make it writable for the user that runs pinfold",
        ),
    }
}

fn kubo(name: &str, kubo: &Kubo, limit: Duration, runtime: &tokio::runtime::Handle) -> Vec<Remark> {
    let url = &kubo.url;
    let kubo = Kubo { timeout: Delay::from_secs(limit.as_secs().max(1)).min(kubo.timeout), ..kubo.clone() };
    let node = match open::kubo(name, &kubo) {
        Ok(node) => node,
        Err(failure) => return vec![Remark::failed(format!("pin {name}"), failure)],
    };
    let (target, name) = (format!("{name}: "), format!("pin {name}"));
    match runtime.block_on(async { tokio::time::timeout(limit, node.doctor()).await }) {
        Err(_) => vec![no_answer(name, limit, "is the node up (`ipfs id`)? pinning waits for it, folding does not")],
        Ok(Err(error)) => {
            let status = if matches!(error, PinError::Retry { .. }) { Status::Unreachable } else { Status::Fail };
            let text = error.to_string();
            vec![Remark::new(status, name, text.trim_start_matches(&target), error.hint())]
        }
        Ok(Ok(advice)) if advice.is_empty() => vec![Remark::ok(name, format!("{url} answers, and suits an archive"))],
        Ok(Ok(advice)) => advice
            .into_iter()
            .map(|advice| {
                let detail = format!("{}: {}", advice.setting, advice.risk);
                Remark::new(Status::Warn, &name, detail, format!("{}; then restart the node", advice.command))
            })
            .collect(),
    }
}

fn registry(name: &str, registry: &Registry, limit: Duration, runtime: &tokio::runtime::Handle) -> Remark {
    let shown = format!("registry {name}");
    let makes_its_schema = match registry {
        Registry::Sqlite(_) => true,
        Registry::Snowflake(snowflake) => snowflake.ddl == Ddl::Auto,
    };
    let empty = "answers; its tables are made when the first segment is registered";
    if matches!(registry, Registry::Sqlite(sqlite) if !sqlite.path.exists()) {
        return Remark::ok(shown, empty);
    }
    let opened: Box<dyn Registrar> = match registry {
        Registry::Sqlite(sqlite) => match Sqlite::open_read(name, &sqlite.path) {
            Ok(opened) => Box::new(opened),
            Err(error) => return judged(shown, &error),
        },
        Registry::Snowflake(snowflake) => match open::snowflake(name, snowflake, runtime) {
            Ok(made) => Box::new(made),
            // Nobody was asked yet: it is the key or an option.
            Err(failure) => return Remark::failed(shown, Failure { exit: 2, ..failure }),
        },
    };
    match within(limit, move || opened.check()) {
        None => no_answer(shown, limit, "is it up, and may this machine reach it? registering waits for it"),
        Some(Ok(())) => Remark::ok(shown, format!("answers, schema version {SCHEMA_VERSION}")),
        Some(Err(RegistryError::Schema { found, .. })) if makes_its_schema && found == "none" => {
            Remark::ok(shown, empty)
        }
        Some(Err(error)) => judged(shown, &error),
    }
}

/// A query about a text that says nothing, and what its answer says about our clock.
fn timestamp(name: &str, authority: &Timestamp, limit: Duration, runtime: &tokio::runtime::Handle) -> Remark {
    let shown = format!("timestamp {name}");
    let authority =
        Timestamp { timeout: Delay::from_secs(limit.as_secs().max(1)).min(authority.timeout), ..authority.clone() };
    let tsa = match anchors::tsa(name, &authority) {
        Ok(tsa) => tsa,
        Err(failure) => return Remark::failed(shown, failure),
    };
    match runtime.block_on(tsa.stamp("pinfold doctor\n", Size(0))) {
        Err(error) => {
            let status = if matches!(error, AnchorError::Retry { .. }) { Status::Unreachable } else { Status::Fail };
            Remark::new(status, shown, error.to_string(), error.hint())
        }
        Ok(stamped) => {
            let (time, now) = (stamped.vouched.time, super::super::now());
            let apart = time.since(now).max(now.since(time));
            if apart > CLOCKS_APART_MICROS {
                let detail = format!("its clock and ours are {} s apart: {time} and {now}", apart / 1_000_000);
                return Remark::new(
                    Status::Warn,
                    shown,
                    detail,
                    "correct this machine's clock, or ask another authority",
                );
            }
            Remark::ok(shown, format!("answers as {}", stamped.vouched.authority))
        }
    }
}

fn judged(name: String, error: &RegistryError) -> Remark {
    let status = if matches!(error, RegistryError::Retry { .. }) { Status::Unreachable } else { Status::Fail };
    Remark::new(status, name, error.to_string(), error.hint())
}

#[cfg(feature = "kafka")]
fn source_options(config: &Config) -> Result<(), Failure> {
    use crate::config::Source;
    for (name, Source::Kafka(kafka)) in &config.source {
        let mut kafka = kafka.clone();
        // The files of secrets are looked at by whoever runs the log; they need not be here.
        kafka.password_file = None;
        kafka.librdkafka.retain(|option, _| !option.ends_with("_file"));
        let options = super::super::kafka::options(config, name, &kafka)?;
        options
            .check()
            .map_err(|error| Failure::new(2, "config", error.to_string()).hint(error.hint().unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn source_options(_: &Config) -> Result<(), Failure> {
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn brokers(config: &Config, _: Duration, _: &tokio::runtime::Handle) -> Vec<Remark> {
    let detail = "this binary was built without Kafka";
    let remark =
        |name| Remark::new(Status::Fail, format!("source {name}"), detail, "build it with the feature `kafka`");
    config.source.keys().map(remark).collect()
}

#[cfg(feature = "kafka")]
fn brokers(config: &Config, limit: Duration, runtime: &tokio::runtime::Handle) -> Vec<Remark> {
    use crate::config::Source;
    let sources = config.source.iter();
    sources.flat_map(|(name, Source::Kafka(kafka))| broker(config, name, kafka, limit, runtime)).collect()
}

#[cfg(feature = "kafka")]
fn broker(
    config: &Config,
    name: &str,
    kafka: &crate::config::Kafka,
    limit: Duration,
    runtime: &tokio::runtime::Handle,
) -> Vec<Remark> {
    use crate::ingest::TroubleKind;
    use crate::ingest::kafka::probe::{Seen, Unseen, look};
    let shown = format!("source {name}");
    let options = match super::super::kafka::options(config, name, kafka) {
        Ok(options) => options,
        Err(failure) => return vec![Remark::failed(shown, failure)],
    };
    let hint = "is a broker up at one of `brokers`, and do security.protocol and the certificates fit?";
    let handle = runtime.clone();
    let (seen, missing) = match within(limit, move || look(&options, &handle)) {
        None => return vec![no_answer(shown, limit, hint)],
        Some(Ok(found)) => found,
        Some(Err(Unseen::Options(error))) => {
            return vec![Remark::new(Status::Fail, shown, error.to_string(), error.hint().unwrap_or_default())];
        }
        Some(Err(Unseen::Trouble(trouble))) => {
            let (status, hint) = match trouble.kind {
                TroubleKind::Unreachable => (Status::Unreachable, hint),
                TroubleKind::Authentication => (Status::Fail, "check user, password file and certificates"),
                TroubleKind::Topic | TroubleKind::Broker => (Status::Fail, "ask whoever runs the broker"),
            };
            return vec![Remark::new(status, shown, trouble.message, hint)];
        }
    };
    let mut remarks = vec![Remark::ok(&shown, format!("{} answers", kafka.brokers.join(",")))];
    let hint = "make the topic, correct its name, or allow this user DESCRIBE and READ on it";
    remarks.extend(missing.map(|trouble| Remark::new(Status::Fail, &shown, trouble.message, hint)));
    remarks.extend(seen.into_iter().map(|Seen { name, partitions, cleanup_policy }| {
        let topic = format!("{shown}, topic {name}");
        match cleanup_policy {
            Some(policy) if policy.contains("compact") => Remark::new(
                Status::Warn,
                topic,
                format!("cleanup.policy = {policy}: older records of a key vanish before they are folded"),
                "read it before it is compacted (min.compaction.lag.ms), or use delete: what vanished is a declared gap",
            ),
            _ => Remark::ok(topic, format!("{partitions} partitions")),
        }
    }));
    remarks
}
