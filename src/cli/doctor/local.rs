//! What `doctor` looks at on this machine: keys and their modes, volumes, disk, clock, journal, archive.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::{now, open};
use super::{Remark, Status};
use crate::config::{ByteCount, Config, Kek, Pin, Registry, Source};
use crate::core::car::Limits;
use crate::core::segment::read::Proof;
use crate::core::time::Timestamp;
use crate::sidecar::Files;

/// Everything that needs no journal.
pub(super) fn all(config: &Config) -> Vec<Remark> {
    let mut remarks = vec![log_key(config), recovery_key(config), kek(config)];
    remarks.extend(secrets(config));
    remarks.extend(directories(config));
    remarks.extend([
        apart("keyring", &config.keyring.path, config, "who copies the volume has the records and their keys"),
        apart("heads", &config.log.heads, config, "who rolls back the volume rolls back the last head with it"),
        disk(config),
        clock(config),
    ]);
    remarks
}

fn log_key(config: &Config) -> Remark {
    let (name, path) = ("log key", &config.log.key_file);
    if let Some(remark) = open_to_others(name, path, Status::Fail) {
        return remark;
    }
    let key = open::origin(config).and_then(|origin| open::key(path, &origin));
    let key = match key {
        Ok(key) => key,
        Err(failure) => return Remark::failed(name, failure),
    };
    let vkeys = fs::read_to_string(path.with_extension("vkey")).unwrap_or_default();
    // Every key the log had, one a line: this one must be among them.
    let own = key.vkey().to_string();
    let known = vkeys.lines().map(str::trim).find(|line| *line == own).or_else(|| vkeys.lines().last());
    match known.unwrap_or_default().trim() {
        "" => Remark::new(
            Status::Warn,
            name,
            format!("no {} beside it", path.with_extension("vkey").display()),
            format!("give verifiers this line: {}", key.vkey()),
        ),
        known if known == own => Remark::ok(name, known),
        known => Remark::new(
            Status::Fail,
            name,
            format!("key mismatch: the public key beside it is {known}, the key file holds {}", key.vkey()),
            "correct log.key_file; the key of a log changes only by an entry in it",
        ),
    }
}

fn recovery_key(config: &Config) -> Remark {
    let path = config.log.key_file.with_file_name("recovery.key");
    if path.exists() {
        let detail = format!("{} is on this machine: who steals the log key steals it too", path.display());
        let hint = "move it offline; it is needed only to revoke a stolen log key";
        return Remark::new(Status::Warn, "recovery key", detail, hint);
    }
    Remark::ok("recovery key", "not on this machine")
}

fn kek(config: &Config) -> Remark {
    let Kek::File { path } = &config.keyring.kek;
    match crate::keyring::Kek::read(path) {
        Err(error) => Remark::new(Status::Fail, "kek", error.to_string(), error.hint()),
        Ok(_) => Remark::new(
            Status::Warn,
            "kek",
            "kind = \"file\" is for development: an old copy of it and of the keyring undoes an erasure",
            "keep it out of every backup; this version has no other kind",
        ),
    }
}

/// Files that hold secrets of others.
fn secret_files(config: &Config) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for (name, Source::Kafka(kafka)) in &config.source {
        files.extend(kafka.password_file.iter().map(|path| (format!("source {name}"), path.clone())));
        let of_option = kafka.librdkafka.iter().filter(|(option, _)| {
            option.strip_suffix("_file").is_some_and(crate::ingest::is_secret) || *option == "ssl.key.location"
        });
        files.extend(of_option.map(|(_, path)| (format!("source {name}"), PathBuf::from(path))));
    }
    for (name, pin) in &config.pin {
        if let Pin::Kubo(kubo) = pin {
            files.extend(kubo.password_file.iter().map(|path| (format!("pin {name}"), path.clone())));
        }
    }
    for (name, registry) in &config.registry {
        if let Registry::Snowflake(snowflake) = registry {
            files.push((format!("registry {name}"), snowflake.private_key_file.clone()));
        }
    }
    files
}

fn secrets(config: &Config) -> Vec<Remark> {
    let mut remarks: Vec<Remark> = secret_files(config)
        .into_iter()
        .filter_map(|(whose, path)| open_to_others(&format!("secret of {whose}"), &path, Status::Warn))
        .collect();
    for (name, Source::Kafka(kafka)) in &config.source {
        let inline =
            kafka.librdkafka.keys().find(|option| crate::ingest::is_secret(option) && *option != "sasl.username");
        remarks.extend(inline.map(|option| {
            Remark::new(
                Status::Warn,
                format!("secret of source {name}"),
                format!("{option} is given as a value"),
                format!("put it into a file of its own: \"{option}_file\" = \"keys/...\", or into a variable"),
            )
        }));
    }
    remarks
}

/// A remark where a file is not readable, or readable to everybody. Links are followed: Kubernetes gives links.
fn open_to_others(name: &str, path: &Path, how_bad: Status) -> Option<Remark> {
    let shown = path.display();
    match File::open(path).and_then(|file| file.metadata()) {
        Err(error) => {
            let hint = "make it readable for the user that runs pinfold";
            Some(Remark::new(Status::Fail, name, format!("reading {shown}: {error}"), hint))
        }
        Ok(meta) if meta.mode() & 0o007 != 0 => {
            let detail = format!("{shown}: mode {:04o}: everybody on this machine may read it", meta.mode() & 0o7777);
            Some(Remark::new(how_bad, name, detail, format!("chmod o= {shown}")))
        }
        Ok(_) => None,
    }
}

fn directories(config: &Config) -> Vec<Remark> {
    let closed = [("data", &config.log.data), ("heads", &config.log.heads), ("keyring", &config.keyring.path)];
    let look = |(name, path): (&str, &PathBuf)| {
        let shown = path.display();
        match fs::metadata(path) {
            Err(error) => Remark::new(
                Status::Fail,
                name,
                format!("{shown}: {error}"),
                "a new log: `pinfold init`; a lost volume: `pinfold rebuild`",
            ),
            Ok(meta) if meta.mode() & 0o007 != 0 => {
                let detail = format!("{shown}: mode {:04o}: everybody may look into it", meta.mode() & 0o7777);
                Remark::new(Status::Warn, name, detail, format!("chmod 0700 {shown}"))
            }
            Ok(_) => Remark::ok(name, shown.to_string()),
        }
    };
    closed.into_iter().map(look).collect()
}

/// Whether a directory is on another volume than the data.
fn apart(name: &str, path: &Path, config: &Config, risk: &str) -> Remark {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    match (device(path), device(&config.log.data)) {
        (Some(own), Some(data)) if own == data => {
            let detail = format!("on the same volume as {}: {risk}", config.log.data.display());
            Remark::new(
                Status::Warn,
                format!("{name} volume"),
                detail,
                format!("put {} on a volume of its own", path.display()),
            )
        }
        _ => Remark::ok(format!("{name} volume"), "apart from the data"),
    }
}

fn disk(config: &Config) -> Remark {
    let disk = match rustix::fs::statvfs(&config.log.data) {
        Ok(disk) => disk,
        Err(error) => return Remark::new(Status::Fail, "disk", error.to_string(), "is the data volume mounted?"),
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let least = config.limits.disk_free_min.0;
    let detail = format!("{} free, intake pauses below {}", ByteCount(free >> 20 << 20), config.limits.disk_free_min);
    match free {
        free if free < least => Remark::new(Status::Fail, "disk", detail, "add space; intake goes on by itself"),
        free if free < least.saturating_mul(2) => Remark::new(Status::Warn, "disk", detail, "add space soon"),
        _ => Remark::ok("disk", detail),
    }
}

/// The day this was written: no clock is right that is before it.
const WRITTEN: Timestamp = Timestamp(1_767_225_600_000_000);
/// How far a file may be ahead of the clock: another machine's, over the network.
const AHEAD_MICROS: u64 = 60_000_000;

fn clock(config: &Config) -> Remark {
    let now = now();
    let hint = "set the clock, and run a time service; a step is an entry of the log";
    let written = fs::metadata(config.log.heads.join("head")).and_then(|meta| meta.modified()).ok();
    let written = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written = Timestamp(written.and_then(|at| u64::try_from(at.as_micros()).ok()).unwrap_or(0));
    if now < WRITTEN {
        return Remark::new(Status::Fail, "clock", format!("{now}: before this software was written"), hint);
    }
    if written > now.plus(AHEAD_MICROS) {
        return Remark::new(Status::Warn, "clock", format!("{now}, and the last head is of {written}"), hint);
    }
    Remark::ok("clock", now.to_string())
}

/// What the owner of the journal said.
pub(super) fn journal(status: &Value) -> Remark {
    let get = |path: &str| status.pointer(path).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    let detail = format!("{}, {} entries in it, {} sealed", get("/state"), get("/size"), get("/sealed/size"));
    if status.get("halted").is_some_and(|halted| !halted.is_null()) {
        let detail = format!("halted since {}: {}", get("/halted/since"), get("/halted/message"));
        return Remark::new(Status::Fail, "journal", detail, get("/halted/hint"));
    }
    match status.get("paused").and_then(Value::as_str) {
        Some(why) => Remark::new(Status::Warn, "journal", format!("{detail}; paused: {why}"), "it resumes by itself"),
        None => Remark::ok("journal", detail),
    }
}

/// Whether the archive folder can be read, and its newest segment is one.
pub(super) fn archive(config: &Config) -> Remark {
    let dir = config.log.data.join("archive");
    let hint = "compare with a pin target: `pinfold verify`";
    let names = match fs::read_dir(&dir) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()),
        Err(error) => return Remark::new(Status::Fail, "archive", format!("{}: {error}", dir.display()), hint),
    };
    let segment = |name: String| name.strip_suffix(".proof.car")?.parse::<u64>().ok();
    let segments: Vec<u64> = names.filter_map(segment).collect();
    let Some(newest) = segments.iter().max() else { return Remark::ok("archive", "no segment yet") };
    let path = Files::of(&dir, *newest).proof;
    let opened = File::open(&path).map_err(|error| error.to_string());
    match opened.and_then(|file| Proof::open(file, Limits::default()).map_err(|refused| refused.to_string())) {
        Ok(_) => Remark::ok("archive", format!("{} segments", segments.len())),
        Err(what) => Remark::new(Status::Fail, "archive", format!("{}: {what}", path.display()), hint),
    }
}
