//! `init`: makes a log. Never overwrites; what is there already is an error, or with `--if-absent` a reason to stop.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde_json::json;

use super::output::Output;
use super::{Failure, args, now};
use crate::config::template;
use crate::core::keychange::recovery_name;
use crate::core::note::{Skey, Vkey};
use crate::core::origin::Origin;
use crate::journal::{Journal, Places};
use crate::keyring::{Kek, Keyring};
use crate::sidecar::{Opening, SidecarError, Writer};

pub(super) fn run(init: &args::Init, output: &Output) -> Result<u8, Failure> {
    let dir = &init.dir;
    let config = dir.join("pinfold.toml");
    if config.exists() {
        if init.if_absent {
            output.note(&format!("{} is there already", config.display()));
            return Ok(0);
        }
        return Err(Failure::new(2, "exists", format!("{}: exists already", config.display()))
            .hint("`pinfold run` continues the log; --if-absent makes this no error"));
    }
    let name = match &init.origin {
        Some(name) => name.clone(),
        None => format!("local/{}", hex::encode(random::<8>()?)),
    };
    let origin =
        Origin::new(&name).map_err(|refused| Failure::usage(refused.what).hint("like example.com/audit/main"))?;
    make(dir)?;
    begin_making(dir)?;
    let key = log(dir, &origin)?;
    // The configuration comes last: where it is, everything it names is, also after a power cut.
    sync(dir)?;
    write_new(&config, template(&name).as_bytes(), 0o600)?;
    sync(dir)?;
    remove(&dir.join(UNFINISHED))?;
    let vkey = key.to_string();
    output.object(&json!({ "origin": name, "dir": dir, "vkey": vkey }), || {
        format!(
            "made log {name} in {}\n  verifiers need  {vkey}\n  move offline    {}\nnext: pinfold --config {} run",
            dir.display(),
            dir.join("keys/recovery.key").display(),
            config.display()
        )
    })
}

/// There from before the first file until after the last: what an `init` that was cut short left, nobody can have used.
const UNFINISHED: &str = ".unfinished-init";
/// What `init` makes, and may remove again while it is unfinished.
const MADE: [&str; 11] = [
    "keys/log.key",
    "keys/log.vkey",
    "keys/recovery.key",
    "keys/recovery.vkey",
    "keys/kek",
    "data/journal",
    "data/journal.new",
    "data/VERSION",
    "data/LOCK",
    "heads/head",
    "heads/latest",
];

/// Clears what an unfinished `init` left; marks this one as unfinished, unless something of another log is there.
fn begin_making(dir: &Path) -> Result<(), Failure> {
    let mark = dir.join(UNFINISHED);
    let keyring = dir.join("keyring");
    if mark.exists() {
        for made in MADE {
            remove(&dir.join(made))?;
        }
        for entry in std::fs::read_dir(&keyring).into_iter().flatten().flatten() {
            remove(&entry.path())?;
        }
        return Ok(());
    }
    let is_empty = std::fs::read_dir(&keyring).map_or(true, |mut entries| entries.next().is_none());
    if is_empty && !MADE.iter().any(|made| dir.join(made).exists()) {
        write_new(&mark, b"", 0o600)?;
        sync(dir)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file("removing", path, &e)),
        _ => Ok(()),
    }
}

/// The directories, closed to others.
fn make(dir: &Path) -> Result<(), Failure> {
    for part in ["", "keys", "heads", "data", "data/archive"] {
        let path = dir.join(part);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|e| Failure::file("making", &path, &e))?;
    }
    Ok(())
}

/// Makes the names durable: those in the directories, and that of the log's own directory.
fn sync(dir: &Path) -> Result<(), Failure> {
    let absolute = std::path::absolute(dir).map_err(|e| Failure::file("resolving", dir, &e))?;
    let above = absolute.parent().map(Path::to_path_buf);
    let parts = ["keys", "heads", "data", ""].map(|part| absolute.join(part));
    for path in parts.into_iter().chain(above) {
        let synced = File::open(&path).and_then(|dir| dir.sync_all());
        synced.map_err(|e| Failure::file("syncing", &path, &e))?;
    }
    Ok(())
}

/// Keys, keyring and journal with their first entries.
fn log(dir: &Path, origin: &Origin) -> Result<Vkey, Failure> {
    let keys = dir.join("keys");
    let key = new_key(&keys.join("log.key"), origin.as_str())?;
    let recovery = new_key(&keys.join("recovery.key"), &recovery_name(origin))?;
    let kek = new_kek(&keys.join("kek"))?;
    let keyring = Keyring::create(&dir.join("keyring"), &kek, origin.oid()).map_err(|e| halted(&e))?;
    let places = Places { data: dir.join("data"), heads: dir.join("heads") };
    begin(&places, origin, key, recovery.vkey(), keyring)
}

/// The journal of a new log, with its first entries.
pub(super) fn begin(
    places: &Places,
    origin: &Origin,
    key: Skey,
    recovery: &Vkey,
    keyring: Keyring,
) -> Result<Vkey, Failure> {
    let journal = Journal::create(places, origin).map_err(SidecarError::from)?;
    let (vkey, origin) = (key.vkey().clone(), origin.clone());
    let classes = [crate::config::RETENTION_CLASS.to_owned()];
    let opening = Opening { origin, key, journal, keyring };
    Writer::create(opening, &recovery.to_string(), &classes, now())?.close()?;
    Ok(vkey)
}

/// Makes a key and writes it to `path`, its vkey beside.
pub(super) fn new_key(path: &Path, name: &str) -> Result<Skey, Failure> {
    let key = Skey::from_seed(name, &random()?).map_err(|e| halted(&e))?;
    write_new(path, key.to_pkcs8_pem().as_bytes(), 0o600)?;
    write_new(&path.with_extension("vkey"), format!("{}\n", key.vkey()).as_bytes(), 0o644)?;
    Ok(key)
}

/// Makes a development KEK and writes it to `path`.
pub(super) fn new_kek(path: &Path) -> Result<Kek, Failure> {
    let kek = Kek::generate().map_err(|e| halted(&e))?;
    kek.write(path).map_err(|e| halted(&e))?;
    Ok(kek)
}

fn halted(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(4, "init", error.to_string())
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    use rand::TryRng;
    let mut bytes = [0; N];
    let drawn = rand::rngs::SysRng.try_fill_bytes(&mut bytes);
    drawn.map_err(|e| Failure::new(3, "random", format!("the operating system gives no random bytes: {e}")))?;
    Ok(bytes)
}

pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let open = File::options().write(true).create_new(true).mode(mode).open(path);
    let mut file =
        open.map_err(|e| Failure::file("making", path, &e).hint("nothing is overwritten: use another directory"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| Failure::file("writing", path, &e))
}
