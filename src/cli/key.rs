//! `key`: the keys of the log, and handing it over to another one.
//!
//! The recovery key never comes near a running log: what it signs is a text of a few lines, written to a file, signed
//! where the key is (`--sign`, which needs no configuration), and taken back as a note. `--recovery-key` does the three
//! steps at once where the key is at hand. What a thief can do meanwhile is in docs/keys.md.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::{Global, Key, Revoke};
use super::control::{Request, ask};
use super::journal::plain;
use super::output::Output;
use super::{Failure, load_config, open};
use crate::config::Config;
use crate::core::keychange::{Revocation, recovery_name};
use crate::core::note::{Skey, sign_note};
use crate::core::origin::Origin;

pub(super) fn run(global: &Global, key: &Key, output: &Output) -> Result<u8, Failure> {
    match key {
        Key::List => list(global, output),
        Key::Rotate => rotate(global, output),
        Key::Revoke(revoke) => self::revoke(global, revoke, output),
    }
}

fn list(global: &Global, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let answer = ask(&config, &Request::KeyList, global.timeout)?;
    for key in answer.as_array().into_iter().flatten() {
        if output.is_json() {
            output.json_line(key)?;
            continue;
        }
        let get = |name: &str| key.get(name).filter(|value| !value.is_null()).map(plain);
        let span = match (get("from_seq"), get("not_after_seq"), get("reason")) {
            (None, ..) => "recovery".to_owned(),
            (Some(from), Some(to), Some(reason)) => format!("{reason}, entries {from} to {to}"),
            (Some(from), ..) => format!("signs, from entry {from}"),
        };
        let held = if get("is_held").as_deref() == Some("true") { "" } else { "  (private half not here)" };
        output.line(&format!("{}  {span}{held}", get("vkey").unwrap_or_default()))?;
    }
    Ok(0)
}

fn rotate(global: &Global, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let answer = ask(&config, &Request::KeyRotate, global.timeout)?;
    output.object(&answer, || handed_over(&config, &answer))
}

fn handed_over(config: &Config, answer: &Value) -> String {
    let get = |name: &str| answer.get(name).map(plain).unwrap_or_default();
    let old = match get("holds_old").as_str() {
        "true" => "kept until a pin target holds the entry, then wiped",
        _ => "wiped",
    };
    format!(
        "{} by entry {}\n  new key      {}\n  old key      {}, its private half {old}\n  give verifiers {}",
        get("step"),
        get("seq"),
        get("new"),
        get("old"),
        config.log.key_file.with_extension("vkey").display()
    )
}

fn revoke(global: &Global, revoke: &Revoke, output: &Output) -> Result<u8, Failure> {
    if let (Some(text), Some(key)) = (&revoke.sign, &revoke.recovery_key) {
        return sign(text, key, revoke.output.as_deref(), output);
    }
    let config = load_config(global)?;
    if revoke.abandon {
        let answer = ask(&config, &Request::RevokeAbandon, global.timeout)?;
        return output.object(&answer, || "no revocation is prepared; the log goes on with its key".to_owned());
    }
    if let Some(path) = &revoke.prepare {
        // Before anything is paused for it.
        refuse_existing(path)?;
        let text = prepare(&config, global)?;
        write_new(path, text.as_bytes())?;
        let answer = json!({ "text": path, "prepared": text });
        return output.object(&answer, || prepared(path));
    }
    if let Some(path) = &revoke.output {
        refuse_existing(path)?;
    }
    let note = match (&revoke.note, &revoke.recovery_key) {
        (Some(note), _) => std::fs::read_to_string(note).map_err(|e| unread(note, &e))?,
        (None, Some(key)) => {
            let key = own_recovery_key(&config, key, global)?;
            sign_note(&prepare(&config, global)?, &[&key])
        }
        (None, None) => return Err(no_way()),
    };
    let answer = ask(&config, &Request::Revoke { note }, global.timeout)?;
    publish(&config, revoke.output.as_deref(), answer, output)
}

fn no_way() -> Failure {
    Failure::usage("key revoke: nothing says how").hint(
        "with the recovery key here: --recovery-key F; offline: --prepare F, then --sign F --recovery-key KEY there, \
         then --note F",
    )
}

fn prepare(config: &Config, global: &Global) -> Result<String, Failure> {
    let answer = ask(config, &Request::RevokePrepare, global.timeout)?;
    Ok(answer.get("prepared").map(plain).unwrap_or_default())
}

fn prepared(path: &Path) -> String {
    let path = path.display();
    format!(
        "wrote the text to sign to {path}; until it comes back nothing is sealed and intake is paused\n\
         next, where the recovery key is: pinfold key revoke --sign {path} --recovery-key recovery.key -o signed.note\n\
         then here: pinfold key revoke --note signed.note"
    )
}

/// Signs a prepared text with the recovery key, where that key is: no configuration, no log.
fn sign(text: &Path, key: &Path, to: Option<&Path>, output: &Output) -> Result<u8, Failure> {
    let read = std::fs::read_to_string(text).map_err(|e| unread(text, &e))?;
    let note = sign_note(&read, &[&recovery_key(key, &read)?]);
    let to = to.ok_or_else(|| Failure::usage("--sign needs -o, where the note goes").hint("add -o signed.note"))?;
    write_new(to, note.as_bytes())?;
    output.object(&json!({ "note": to, "signed": read }), || format!("signed:\n{read}the note is {}", to.display()))
}

/// The recovery key of the log that `text` is about.
fn recovery_key(path: &Path, text: &str) -> Result<Skey, Failure> {
    let revocation = Revocation::from_text(text)
        .map_err(|refused| Failure::usage(format!("the text to sign: {}", refused.what)))
        .map_err(|failure| failure.hint("`pinfold key revoke --prepare F` writes it"))?;
    read_recovery_key(path, &revocation.vouched.origin)
}

/// The recovery key of the configured log, known to be that before anything is paused for it.
fn own_recovery_key(config: &Config, path: &Path, global: &Global) -> Result<Skey, Failure> {
    let key = read_recovery_key(path, &open::origin(config)?)?;
    let keys = ask(config, &Request::KeyList, global.timeout)?;
    let is_ours = |row: &Value| row.get("vkey").map(plain).is_some_and(|vkey| vkey == key.vkey().to_string());
    if !keys.as_array().into_iter().flatten().any(is_ours) {
        let message = format!("{}: not the recovery key of this log", path.display());
        return Err(Failure::new(2, "key", message).hint("`pinfold key list` prints its public half"));
    }
    Ok(key)
}

fn read_recovery_key(path: &Path, origin: &Origin) -> Result<Skey, Failure> {
    let pem = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| unread(path, &e))?;
    let key = Skey::from_pkcs8_pem(&recovery_name(origin), &pem);
    key.map_err(|_| Failure::new(2, "key", format!("{}: not an Ed25519 key in PKCS#8 PEM", path.display())))
        .map_err(|failure| failure.hint("`pinfold init` wrote the recovery key as keys/recovery.key"))
}

/// Writes the note to where it is published from: a thief leaves it out of his fork, so verifiers must be given it.
fn publish(config: &Config, to: Option<&Path>, mut answer: Value, output: &Output) -> Result<u8, Failure> {
    let get = |name: &str| answer.get(name).map(plain).unwrap_or_default();
    let (seq, note) = (get("seq"), get("note"));
    let beside = || config.log.key_file.with_file_name(format!("revocation-{seq}.note"));
    let to: PathBuf = to.map_or_else(beside, Path::to_path_buf);
    write_new(&to, note.as_bytes()).map_err(|failure| {
        failure.hint(format!("the key is revoked; `pinfold show {seq}` prints the note, which is to be published"))
    })?;
    if let Some(object) = answer.as_object_mut() {
        object.insert("published".to_owned(), json!(to));
    }
    output.object(&answer, || {
        format!(
            "{}\n  publish      {}: without it a verifier takes a fork by the thief",
            handed_over(config, &answer),
            to.display()
        )
    })
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    Failure::file("reading", path, error).hint("`pinfold key revoke --help` says which files it takes")
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Err(Failure::new(2, "exists", format!("{}: exists already", path.display())).hint("name another file"));
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    refuse_existing(path)?;
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Failure::file("writing", path, &e).hint("name another file"))
}
