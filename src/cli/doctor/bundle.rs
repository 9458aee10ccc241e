//! The tar file for support: what `doctor` found, the configuration without secrets, status, versions, file sizes.
//!
//! No secrets and no persons: it is made of answers that hold none (`status`, `topic list`, `config show`), never of
//! records, entries, logs or variables. Format: POSIX ustar, written here because it is 512 bytes a file.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::super::config::show;
use super::super::{Failure, now};
use super::Found;
use crate::config::{Config, Loaded};

/// Writes a new file at `path`.
pub(super) fn write(path: &Path, loaded: &Loaded, found: &Found) -> Result<(), Failure> {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    let absent = json!("no answer");
    let files = [
        ("README", ABOUT.to_owned()),
        ("config.toml", show::text(loaded) + "\n"),
        ("doctor.json", pretty(&json!(found.remarks))),
        ("status.json", pretty(found.status.as_ref().unwrap_or(&absent))),
        ("topics.json", pretty(found.topics.as_ref().unwrap_or(&absent))),
        ("files.txt", sizes(&loaded.config)),
        ("versions.json", pretty(&versions())),
    ];
    let mtime = now().0 / 1_000_000;
    let mut tar = Vec::new();
    for (name, text) in &files {
        entry(&mut tar, &format!("pinfold-support/{name}"), text.as_bytes(), mtime);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(&tar)).map_err(|e| {
        Failure::file("writing", path, &e).hint("nothing is overwritten: name a file that is not there yet")
    })
}

const ABOUT: &str = "What `pinfold doctor --bundle` found. No secrets, no records, no persons; topic names are public \
                     in the log anyway.\n";

fn versions() -> Value {
    let system = rustix::system::uname();
    json!({
        "pinfold": env!("CARGO_PKG_VERSION"),
        "log_format": 1,
        "schema": crate::registry::SCHEMA_VERSION,
        "kafka": cfg!(feature = "kafka"),
        "system": system.sysname().to_string_lossy(),
        "kernel": system.release().to_string_lossy(),
        "machine": system.machine().to_string_lossy(),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// The log's own files and their sizes; names are ours, and hold numbers only.
fn sizes(config: &Config) -> String {
    let mut text = String::new();
    for dir in [&config.log.data, &config.log.data.join("archive"), &config.log.heads, &config.keyring.path] {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut lines: Vec<(String, u64)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                Some((entry.file_name().to_string_lossy().into_owned(), meta.len()))
            })
            .collect();
        lines.sort();
        for (name, bytes) in lines {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{bytes:>14} {}", dir.join(name).display());
        }
    }
    text
}

const BLOCK: usize = 512;

/// One regular file: POSIX.1-1988 ustar, name below 100 bytes.
fn entry(tar: &mut Vec<u8>, name: &str, content: &[u8], mtime: u64) {
    let fields: [(usize, String); 9] = [
        (0, name.to_owned()),
        (100, "0000600\0".to_owned()),
        (108, "0000000\0".to_owned()),
        (116, "0000000\0".to_owned()),
        (124, format!("{:011o}\0", content.len())),
        (136, format!("{mtime:011o}\0")),
        // The checksum is taken with eight spaces in its place.
        (148, " ".repeat(8)),
        (156, "0".to_owned()),
        (257, "ustar\x0000".to_owned()),
    ];
    let mut header = vec![0u8; BLOCK];
    let mut put = |at: usize, text: &str| {
        header.iter_mut().skip(at).zip(text.bytes()).for_each(|(to, from)| *to = from);
    };
    for (at, text) in &fields {
        put(*at, text);
    }
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let mut put = |at: usize, text: &str| {
        header.iter_mut().skip(at).zip(text.bytes()).for_each(|(to, from)| *to = from);
    };
    put(148, &format!("{sum:06o}\0 "));
    tar.extend(header);
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}
