//! `run` with `create = true`: the log is made where nothing knows it, and nowhere else.
//!
//! A wiped data volume looks like a first start. So everybody who could know the log is asked first: head files, the
//! archive folder, pin targets, registries, witnesses. Who does not answer might know it, and nothing is made. Keys that are there
//! are used, those that are missing are made, as `init` does.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::known::{self, Known};
use super::{Failure, init, open};
use crate::config::{Config, Kek as KekConfig, Pin};
use crate::core::keychange::recovery_name;
use crate::core::note::Vkey;
use crate::core::origin::Origin;
use crate::journal::Journal;
use crate::keyring::{Kek, Keyring};
use crate::sidecar::SidecarError;

/// Makes the configured log.
pub(super) fn log(config: &Config, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    let origin = open::origin(config)?;
    let places = open::places(config);
    Journal::may_create(&places).map_err(SidecarError::from)?;
    if let Some(known) = who_knows(config, &origin, runtime)? {
        let journal = places.journal();
        let message =
            format!("journal {}: does not exist, but {} has {}", journal.display(), known.who, known.newest());
        return Err(Failure::new(4, "known-origin", message).hint(known.hint));
    }
    let key_file = &config.log.key_file;
    for dir in [key_file.parent(), Some(&config.log.data), Some(&config.log.heads)].into_iter().flatten() {
        make_dir(dir)?;
    }
    let key = match key_file.exists() {
        true => open::key(key_file, &origin)?,
        false => init::new_key(key_file, origin.as_str())?,
    };
    let recovery = recovery(key_file, &origin)?;
    let keyring = keyring(config, &origin)?;
    init::begin(&places, &origin, key, &recovery, keyring)?;
    tracing::info!(origin = origin.as_str(), "made the log: nothing knew it");
    Ok(())
}

/// The first of those who could know the log and do.
fn who_knows(config: &Config, origin: &Origin, runtime: &tokio::runtime::Runtime) -> Result<Option<Known>, Failure> {
    let hint = "a log was here: `pinfold rebuild` restores it from its archive".to_owned();
    let mut known: Vec<Known> = Vec::new();
    known.extend(known::of_directory("archive", &config.log.data.join("archive"), origin, hint)?);
    known.extend(known::of_folders(config, origin)?);
    for (name, pin) in &config.pin {
        let Pin::Kubo(settings) = pin else { continue };
        let knows = runtime.block_on(open::kubo(name, settings)?.knows(origin)).map_err(SidecarError::from)?;
        if knows {
            let hint = format!("`pinfold rebuild --from-ipfs {} --cid CID` takes it from there", settings.url);
            known.push(Known { who: format!("pin target {name}"), segment: None, head: None, hint });
        }
    }
    let registries = known::of_registries(config, origin, runtime.handle())?;
    known.extend(registries.into_iter().map(|known| {
        let hint = "a log was here: `pinfold rebuild --from DIR` restores it from a pin target".to_owned();
        Known { hint, ..known }
    }));
    // Who has no key cannot ask a witness, and a witness knows no log of a key that is made only now.
    if known.is_empty() && config.log.key_file.exists() {
        let key = open::key(&config.log.key_file, origin)?;
        known.extend(known::of_witnesses(config, &key, origin, runtime.handle())?);
    }
    Ok(known.into_iter().next())
}

/// The recovery vkey beside the log's key, with its key made where it is missing.
fn recovery(key_file: &Path, origin: &Origin) -> Result<Vkey, Failure> {
    let path = key_file.with_file_name("recovery.vkey");
    let name = recovery_name(origin);
    if !path.exists() {
        return Ok(init::new_key(&path.with_extension("key"), &name)?.vkey().clone());
    }
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::file("reading", &path, &e))?;
    let vkey = text.trim().parse::<Vkey>().ok().filter(|vkey| vkey.name() == name);
    vkey.ok_or_else(|| Failure::new(2, "key", format!("{}: not the recovery vkey of {origin}", path.display())))
}

/// The keyring, with its KEK, made where it is missing.
fn keyring(config: &Config, origin: &Origin) -> Result<Keyring, Failure> {
    let KekConfig::File { path } = &config.keyring.kek;
    let dir = &config.keyring.path;
    if dir.exists() {
        return open::keyring(config, origin);
    }
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let kek = if path.exists() { Kek::read(path).map_err(SidecarError::from)? } else { init::new_kek(path)? };
    Ok(Keyring::create(dir, &kek, origin.oid()).map_err(SidecarError::from)?)
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Failure::file("making", dir, &e))
}
