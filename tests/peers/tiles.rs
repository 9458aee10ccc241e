//! Go's `sumdb/tlog` and `sumdb/note` over what `tiles export` and `prove` write: root, entries, proofs.
//!
//! `PINFOLD_TILES_ENTRIES` sets the size; `scripts/campaign tiles` the one of the acceptance (300,000).

use std::path::{Path, PathBuf};

use pinfold::core::origin::Origin;
use pinfold::core::seq::{Seq, Size};
use pinfold::tiles::Store;
use serde_json::{Value, json};

use crate::binary::Log;
use crate::campaign::number;
use crate::readers::{go, lines};

const ORIGIN: &str = "example.com/peers/tiles";

/// Consent events about a tenth as many people.
fn write_events(path: &Path, count: u64) {
    let event = |n: u64| {
        json!({
            "specversion": "1.0", "id": format!("e{n}"), "source": "urn:test", "type": "com.maily.consent.v1",
            "time": "2026-01-01T00:00:00Z",
            "data": {
                "receiptId": format!("r{n}"),
                "subject": { "identifiers": [{ "type": "email", "value": format!("p{}@example.org", n / 10) }] },
                "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
                "jurisdiction": "GDPR",
            },
        })
    };
    let lines: String = (0..count).map(|n| format!("{}\n", event(n))).collect();
    std::fs::write(path, lines).unwrap();
}

/// A log of so many events in several segments, and its export.
fn exported(entries: u64) -> (Log, PathBuf, Value) {
    let log = Log::new(ORIGIN);
    log.pin_to_folder();
    log.set("entries_max = 65536", &format!("entries_max = {}", (entries / 5).clamp(300, 65_536)));
    let (events, dir) = (log.path("events.ndjson"), log.path("tiles"));
    write_events(&events, entries);
    log.ok(&["ingest", events.to_str().unwrap()]);
    log.ok(&["run", "--until-idle"]);
    let export = log.ok(&["tiles", "export", dir.to_str().unwrap()]);
    (log, dir, export)
}

fn vkey(log: &Log) -> String {
    std::fs::read_to_string(log.path("keys/log.vkey")).unwrap().trim().to_owned()
}

/// What Go says of a directory, its proofs as hashes in hex.
fn read(vkey: &str, dir: &Path) -> Result<Vec<String>, String> {
    let output = go("tiles", &[vkey, dir.to_str().unwrap(), "1000", "100"], &[]);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(lines(output))
}

#[test]
fn sumdb_agrees_with_an_export_on_root_entries_and_every_proof() {
    let entries = number("PINFOLD_TILES_ENTRIES", 3_000);
    let (log, dir, export) = exported(entries);
    let size = export["size"].as_u64().unwrap();
    assert!(size >= entries && export["segments"].as_u64().unwrap() >= 3, "{export}");
    let vkey = vkey(&log);
    let said = read(&vkey, &dir).unwrap();
    let store = Store::open(&dir, &Origin::new(ORIGIN).unwrap()).unwrap();
    let base64 =
        |hash: &pinfold::core::hash::Hash| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash.0);
    let root = base64(&store.root(Size(size)).unwrap());
    assert_eq!(said[0], format!("{size} {root}"));
    assert_eq!(said.len(), 1 + 1000 + 100);
    for line in &said[1..] {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let (what, number) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let ours = match what {
            "inclusion" => store.inclusion_proof(Seq(number), Size(size)).unwrap(),
            _ => store.consistency_proof(Size(number), Size(size)).unwrap(),
        };
        assert_eq!(ours.iter().map(base64).collect::<Vec<_>>(), words.collect::<Vec<_>>(), "{what} {number}");
    }
    eprintln!("{size} entries: sumdb agrees on the root, {} proofs and every entry", said.len() - 1);
}

#[test]
fn sumdb_refuses_a_changed_tile_entry_checkpoint_and_key() {
    let (log, dir, _) = exported(600);
    let vkey = vkey(&log);
    read(&vkey, &dir).unwrap();
    for name in ["tile/0/000", "tile/0/002.p", "tile/1/000.p", "tile/entries/001", "checkpoint"] {
        let path = dir.join(name);
        // The widest of the partial tiles is the one of the checkpoint.
        let path = if path.is_dir() {
            let widths = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            widths.max_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u16>().unwrap()).unwrap()
        } else {
            path
        };
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&vkey, &dir).is_err(), "{name}");
        std::fs::write(&path, sound).unwrap();
    }
    let other = Log::new(ORIGIN);
    assert!(read(std::fs::read_to_string(other.path("keys/log.vkey")).unwrap().trim(), &dir).is_err());
}

#[test]
fn sumdb_takes_a_proof_and_refuses_it_for_another_entry() {
    let (log, _, export) = exported(600);
    let vkey = vkey(&log);
    let file = log.path("proof");
    for seq in ["0", "7", "599"] {
        log.ok(&["prove", seq, "-o", file.to_str().unwrap()]);
        let said = lines(go("proof", &[&vkey], std::slice::from_ref(&file)));
        assert!(said[0].starts_with(&format!("{seq} {} ", export["size"])), "{said:?}");
    }
    let text = std::fs::read_to_string(&file).unwrap().replace("index 599", "index 598");
    std::fs::write(&file, text).unwrap();
    assert!(!go("proof", &[&vkey], std::slice::from_ref(&file)).status.success());
}
