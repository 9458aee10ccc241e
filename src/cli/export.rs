//! `export`: an evidence bundle of a range of entries, for somebody who has only public keys.
//!
//! Made from the released log alone, checked as its recipient will check it before it is written, and the same bytes
//! every time for the same log and question. Opening parts needs a reason and leaves an entry for each of them; for
//! that alone the owner of the journal is asked. What belongs into a range, and where a time begins, is in `scan`.
//! Contract: surface.md, Commands; docs/evidence.md.

mod scan;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::args::{self, Global};
use super::control::{self, Request};
use super::output::Output;
use super::prove::{OFFICER, nothing_released, reason, write};
use super::released::Released;
use super::{Failure, load_config, now, open};
use crate::config::Config;
use crate::core::car::Limits;
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;
use crate::core::note::{Vkey, sign_note};
use crate::core::proof::Proof;
use crate::core::proof::bundle::{self, Closed, Contents};
use crate::core::segment::read::read_anchor;
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::sidecar::{Disclosed, Files, Sidecar};
use crate::tiles::Store;

/// Entries whose parts one call opens, at most: each leaves an entry, while nothing is folded.
const DISCLOSED_MAX: u64 = 1_000;

pub(super) fn run(global: &Global, export: &args::Export, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let reason = export.reason_file.as_deref().map(reason).transpose()?;
    let released = Released::ask(&config, global.timeout)?;
    let store = released.tiles(&config)?;
    let newest = store.checkpoint().ok_or_else(|| nothing_released(Seq(0)))?;
    let (first, next) = range(export, &store)?;
    let seqs = scan::context(&store, first, next)?.into_iter().chain((first.0..next.0).map(Seq));
    let mut proofs = store.proofs(seqs, &newest)?;
    let mut closed = BTreeMap::new();
    if let (Some(part), Some(reason)) = (export.disclose, &reason) {
        if next.0 - first.0 > DISCLOSED_MAX {
            let message = format!("--disclose: a range of more than {DISCLOSED_MAX} entries");
            return Err(Failure::usage(message).hint("export it in pieces"));
        }
        let (first, next) = (first.0, next.0);
        let request = Request::DiscloseRange { first, next, part, reason: reason.as_str().to_owned() };
        disclose_in(&mut proofs, part, control::ask(&config, &request, global.timeout)?, &mut closed)?;
    }
    let tokens = tokens(&config, released.segments().count())?;
    let contents = Contents { first, next, proofs, tokens, closed };
    let bundle = Zeroizing::new(bundle::write(&contents, |signer, text| sign(&config, signer, text))?);
    write(&export.output, &bundle, export.disclose.is_some())?;
    let disclosed = contents.proofs.iter().filter(|proof| proof.discloses()).count();
    let answer = json!({
        "origin": newest.head.origin.as_str(),
        "first": first.0,
        "next": next.0,
        "entries": next.0 - first.0,
        "disclosed": disclosed,
        "size": newest.head.size.0,
        "root": newest.head.root.to_string(),
        "file": export.output,
        "bytes": bundle.len(),
        "sha256": Hash::of(&bundle).to_string(),
    });
    output.object(&answer, || {
        format!(
            "{}: entries {first} to {} under the checkpoint of {} entries, {disclosed} with a part disclosed\n\
             next: pinfold check {} --vkey {}",
            export.output.display(),
            next.0 - 1,
            newest.head.size,
            export.output.display(),
            config.log.key_file.with_extension("vkey").display(),
        )
    })
}

/// The entries asked for, all released.
fn range(export: &args::Export, store: &Store) -> Result<(Seq, Seq), Failure> {
    let size = store.size();
    let (first, next) = match (&export.range, &export.from, &export.to) {
        (Some(range), ..) => numbers(range)?,
        (None, Some(from), Some(to)) => {
            let (from, to) = (time("--from", from)?, time("--to", to)?);
            scan::between(store, from, to)?
        }
        _ => {
            return Err(Failure::usage("export what?").hint("--range A..B, or --from T --to T"));
        }
    };
    if next.0 > size.0 {
        let message = format!("entries up to {}: the released log has {size}", next.0);
        return Err(Failure::new(1, "not-released", message).hint("`pinfold status` shows how far each stage is"));
    }
    if first >= next {
        return Err(
            Failure::new(1, "no-entry", "no entry in that range").hint("`pinfold status` says how many there are")
        );
    }
    if next.0 - first.0 > bundle::ENTRIES_MAX {
        let message = format!("{} entries: a bundle has at most {}", next.0 - first.0, bundle::ENTRIES_MAX);
        return Err(Failure::usage(message).hint("export them in pieces"));
    }
    Ok((first, next))
}

fn numbers(range: &str) -> Result<(Seq, Seq), Failure> {
    let pair = range.split_once("..").and_then(|(first, next)| Some((first.parse().ok()?, next.parse().ok()?)));
    let (first, next) = pair.ok_or_else(|| {
        Failure::usage(format!("--range {range}: not A..B")).hint("two numbers of entries, the second not included")
    })?;
    Ok((Seq(first), Seq(next)))
}

fn time(option: &str, text: &str) -> Result<Timestamp, Failure> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| {
        Failure::usage(format!("{option} {text}: not a time"))
            .hint("RFC 3339 with its zone, as in 2026-01-31T00:00:00Z")
    })
}

/// One part, as the owner of the journal hands it over.
#[derive(Serialize, Deserialize)]
struct Part {
    seq: u64,
    /// Absent where nobody can read it any more.
    body: Option<String>,
    r: Option<String>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.body.zeroize();
        self.r.zeroize();
    }
}

/// The sidecar's side of `--disclose`: opens the part of each entry that has it, each with the entry that says so.
pub(super) fn disclose(
    sidecar: &mut Sidecar,
    (first, next): (u64, u64),
    part: u32,
    reason: &str,
) -> Result<Value, Failure> {
    let mut parts = Vec::new();
    for seq in first..next.min(first.saturating_add(DISCLOSED_MAX)) {
        match sidecar.disclose(Seq(seq), part, OFFICER, reason, now())? {
            Disclosed::Part { body, r } => {
                parts.push(Part { seq, body: Some(STANDARD.encode(&*body)), r: Some(hex::encode(r)) });
            }
            Disclosed::Gone => parts.push(Part { seq, body: None, r: None }),
            Disclosed::NoSuchPart(_) => {}
        }
    }
    serde_json::to_value(&parts).map_err(|_| Failure::new(70, "bug", "a disclosure that is no JSON"))
}

/// Puts the openings beside their leaves; what could not be opened is not held.
fn disclose_in(
    proofs: &mut [Proof],
    part: u32,
    opened: Value,
    closed: &mut BTreeMap<(Seq, u32), Closed>,
) -> Result<(), Failure> {
    let sent = || Failure::new(70, "bug", "a disclosure that does not read");
    let parts: Vec<Part> = serde_json::from_value(opened).map_err(|_| sent())?;
    for one in &parts {
        let proof = proofs.iter_mut().find(|proof| proof.index.0 == one.seq).ok_or_else(sent)?;
        let (Some(body), Some(r)) = (&one.body, &one.r) else {
            closed.insert((proof.index, part), Closed::NotHeld);
            continue;
        };
        let body = STANDARD.decode(body).map_err(|_| sent())?;
        let r = hex::decode(r).ok().and_then(|r| r.try_into().ok()).ok_or_else(sent)?;
        *proof = bundle::disclosing(proof.clone(), r, body, part);
    }
    Ok(())
}

/// The time-stamp tokens the archive has of the newest released checkpoint.
fn tokens(config: &Config, segments: u64) -> Result<Vec<Vec<u8>>, Failure> {
    let Some(last) = segments.checked_sub(1) else { return Ok(Vec::new()) };
    let path = Files::of(&config.log.data.join("archive"), last).anchor;
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = std::fs::File::open(&path).map_err(|e| Failure::file("reading", &path, &e))?;
    let (_, anchor) =
        read_anchor(file, Limits::default()).map_err(|refused| unsound(&path.display().to_string(), &refused))?;
    Ok(anchor.tsa)
}

/// The manifest is signed by the key of the checkpoint, which is at hand: an old one is kept until its last is released.
fn sign(config: &Config, signer: &Vkey, text: &str) -> Result<String, Failure> {
    let keys = open::keys(&config.log.key_file, &open::origin(config)?)?;
    let key = keys.get(signer).ok_or_else(|| {
        Failure::new(2, "key", format!("{}: not the key of the checkpoint, {signer}", config.log.key_file.display()))
            .hint("run it where the log's key is")
    })?;
    Ok(sign_note(text, &[key]))
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        if matches!(refused.code, Code::OffsetGap | Code::OffsetOverlap) {
            return Failure::new(1, refused.code.as_str(), format!("the range is not complete: {}", refused.what))
                .hint("`pinfold verify` names what is missing; nothing was written");
        }
        unsound("the bundle", &refused)
    }
}

fn unsound(what: &str, refused: &Refused) -> Failure {
    Failure::new(4, "evidence", format!("{what}: {refused}"))
        .hint("nothing was written; check the log with `pinfold verify` and report this")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_times_are_read_strictly() {
        assert_eq!(numbers("3..7").unwrap(), (Seq(3), Seq(7)));
        for bad in ["", "3", "3..", "..7", "a..b", "3..7..9", "-1..4", "3 .. 7"] {
            assert_eq!(numbers(bad).unwrap_err().exit, 2, "{bad}");
        }
        assert_eq!(time("--from", "2026-01-01T00:00:00").unwrap_err().exit, 2, "no zone");
    }

    #[test]
    fn an_opening_is_wiped_and_what_is_gone_is_not_held() {
        let opened = json!([{ "seq": 4, "body": null, "r": null }]);
        let extra = crate::core::proof::Extra::Leaf { leaf: Vec::new() };
        let proof = Proof { extra, index: Seq(4), hashes: Vec::new(), checkpoint: String::new() };
        let (mut proofs, mut closed) = (vec![proof.clone()], BTreeMap::new());
        disclose_in(&mut proofs, 1, opened, &mut closed).unwrap();
        assert_eq!((proofs, closed.get(&(Seq(4), 1))), (vec![proof], Some(&Closed::NotHeld)));
        assert!(disclose_in(&mut [], 1, json!([{ "seq": 9, "body": "", "r": "" }]), &mut closed).is_err());
    }
}
