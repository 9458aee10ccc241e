//! `rebuild`: the journal made anew from the archive, after an audit of every byte of it.
//!
//! For a journal that is lost, damaged or rolled back. It ends at the last seal; the tail behind it is folded again from
//! the broker by `run`. A head known outside that lies beyond the archive is refused: one nobody was shown may be given
//! up (`--accept-lost-tail`, an entry says so), one that was shown may not.

mod fetch;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::args::{self, Global};
use super::known::{self, Known};
use super::output::Output;
use super::verify::{archive_of, audit, files::Files};
use super::{Failure, confirm, load_config, logging, now, open};
use crate::config::Config;
use crate::core::audit::AuditInput;
use crate::core::checkpoint::Head;
use crate::core::note::{Skey, Vkey};
use crate::core::origin::Origin;
use crate::core::seq::Size;
use crate::journal::{Journal, JournalError};
use crate::sidecar::{LogKeys, Retraced, SidecarError, Writer, refill};

pub(super) fn run(global: &Global, rebuild: &args::Rebuild, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    logging::begin(&config.logging, global, output.paints_stderr());
    let origin = open::origin(&config)?;
    let keys = open::keys(&config.log.key_file, &origin)?;
    let vkeys = open::vkeys(&config.log.key_file, &origin, &keys);
    let mut heads = heads(&config, &origin, &vkeys)?;
    let shown = released(&config, &origin, rebuild)?;
    let source = source(&config, rebuild, output)?;
    let known = shown.iter().filter_map(|known| known.head).map(|(size, _)| size);
    let sizes: Vec<Size> = heads.iter().map(|(_, head)| head.size).chain(known).collect();
    let mut retraced = retrace(&config, &source, &origin, &vkeys, &sizes, output)?;
    let key = signer(&keys, &retraced)?;
    let knows = |name: &str| shown.iter().any(|known| known.who == known::registry(name));
    config.registry.keys().filter(|name| !knows(name)).for_each(|name| retraced.forget_registry(name));
    let ours = Ours { retraced: &retraced, segments: source.segments, dir: source.shown.clone() };
    if let Some(known) = shown.iter().find(|known| ours.is_contradiction(known)) {
        return Err(ours.beyond(&known.who, &known.newest(), &known.hint));
    }
    heads.retain(|(_, head)| head.size > retraced.size());
    heads.sort_by_key(|(_, head)| head.size);
    let lost = heads.last().map(|(_, head)| head.clone());
    if let Some((who, head)) = heads.last().filter(|_| !rebuild.accept_lost_tail) {
        return Err(ours.beyond(who, &format!("size {} root {}", head.size, head.root), LOST_TAIL));
    }
    let answer = json!({
        "origin": origin.as_str(), "segments": source.segments, "size": retraced.size().0, "root": retraced.root().to_string(),
        "lost": lost.as_ref().map(|head| json!({ "size": head.size.0, "root": head.root.to_string() })),
        "dry_run": rebuild.dry_run,
    });
    let text = format!("{} segments, {} entries, root {}", source.segments, retraced.size(), retraced.root());
    if rebuild.dry_run {
        return output.object(&answer, || format!("would rebuild the journal from {text}"));
    }
    let journal = open::places(&config).journal();
    confirm::destroy(global, &format!("replace {} (the old one is kept beside)", journal.display()))?;
    refill(&source.dir, &config.log.data.join("archive"), source.segments)?;
    restore(&config, (keys, &key, &vkeys), retraced, lost.as_ref(), rebuild.accept_lost_tail)?;
    output.object(&answer, || {
        format!("rebuilt the journal from {text}\nnext: pinfold run folds the rest again from the broker")
    })
}

/// What to do about a head that nobody was shown.
const LOST_TAIL: &str = "a journal that opens goes on with `pinfold run`; a tail that is lost is given up with \
`pinfold rebuild --accept-lost-tail`, and an entry says so";

/// The key of the archive's last size: the journal goes on from there. A change of key in the lost tail is undone with
/// it; its old key is still here, because it is kept until a pin target holds the change.
fn signer(keys: &LogKeys, retraced: &Retraced) -> Result<Arc<Skey>, Failure> {
    let vkey = retraced.key();
    let key = vkey.and_then(|vkey| keys.get(vkey)).cloned();
    key.ok_or_else(|| {
        let vkey = vkey.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        Failure::new(4, "other-key", format!("the archive ends under the key {vkey}, which is not in log.key_file"))
            .hint("restore its key file, or rebuild from a copy that goes on to the change of key: --from DIR")
    })
}

/// Puts the journal in place and lets it say what was lost.
fn restore(
    config: &Config,
    (keys, key, vkeys): (LogKeys, &Skey, &[Vkey]),
    retraced: Retraced,
    lost: Option<&Head>,
    accept_lost_tail: bool,
) -> Result<(), Failure> {
    let (places, origin) = (open::places(config), open::origin(config)?);
    let roots = retraced.roots().clone();
    let (restored, keyring) = retraced.restore(key, lost, now())?;
    let root_at = |size: Size| roots.get(&size).copied();
    let journal = Journal::rebuild(&places, &origin, vkeys, &restored, root_at, accept_lost_tail);
    let journal = journal.map_err(SidecarError::from)?;
    Writer::go_on(origin, keys, journal, keyring)?.close()?;
    Ok(())
}

/// The heads known beside the archive that nobody else was shown: the head files, and a journal that opens.
fn heads(config: &Config, origin: &Origin, vkeys: &[Vkey]) -> Result<Vec<(String, Head)>, Failure> {
    let places = open::places(config);
    let known = Journal::known_heads(&places, origin, vkeys).map_err(|error| {
        let hint = "a head file that does not read says nothing: move it aside, and rebuild again";
        Failure::from(SidecarError::from(error)).hint(hint)
    })?;
    let mut heads: Vec<(String, Head)> =
        known.into_iter().map(|(path, head)| (format!("head file {}", path.display()), head)).collect();
    match Journal::open(&places, origin, vkeys) {
        Ok(journal) => {
            let state = journal.state();
            let head = Head { origin: origin.clone(), size: state.size(), root: state.tree.root() };
            heads.push((format!("journal {}", places.journal().display()), head));
        }
        Err(error @ (JournalError::InUse(_) | JournalError::WrongOrigin { .. })) => {
            return Err(SidecarError::from(error).into());
        }
        // Why it is rebuilt. What it knew, the head files know too.
        Err(_) => {}
    }
    Ok(heads)
}

/// The archive that is rebuilt from.
struct Source {
    dir: PathBuf,
    /// What messages call it.
    shown: String,
    files: Files,
    segments: u64,
    _fetched: Option<fetch::Fetched>,
}

fn source(config: &Config, rebuild: &args::Rebuild, output: &Output) -> Result<Source, Failure> {
    let (dir, shown, fetched) = match (&rebuild.from, &rebuild.from_ipfs, &rebuild.cid) {
        (_, Some(url), Some(cid)) => {
            let data = &config.log.data;
            std::fs::create_dir_all(data).map_err(|e| Failure::file("making", data, &e))?;
            let fetched = fetch::all(&open::node_at(url, Some(config), None)?, cid, data, output)?;
            (fetched.dir().to_path_buf(), format!("{cid} at {url}"), Some(fetched))
        }
        (Some(dir), ..) => (archive_of(dir), dir.display().to_string(), None),
        _ => {
            let dir = config.log.data.join("archive");
            let shown = dir.display().to_string();
            (dir, shown, None)
        }
    };
    let none = || {
        Failure::new(4, "no-archive", format!("archive {shown}: no segment to rebuild from"))
            .hint("name a pin target: `pinfold rebuild --from DIR`, or `--from-ipfs URL --cid CID`")
    };
    if !dir.is_dir() {
        return Err(none());
    }
    let files = Files::of_dir(&dir)?;
    let segments = files.segments();
    if segments == 0 { Err(none()) } else { Ok(Source { dir, shown, files, segments, _fetched: fetched }) }
}

/// Audits the archive, then reads the log out of it.
fn retrace(
    config: &Config,
    source: &Source,
    origin: &Origin,
    vkeys: &[Vkey],
    sizes: &[Size],
    output: &Output,
) -> Result<Retraced, Failure> {
    let input = AuditInput { vkeys: vkeys.to_vec(), ..AuditInput::default() };
    let report = audit(&source.files, source.segments, &input, output)?;
    if let Some(finding) = report.findings.first() {
        let segment = finding.segment.map_or_else(String::new, |segment| format!("segment {segment}: "));
        let (place, expected, found) = (&finding.place, &finding.expected, &finding.found);
        let what = format!("{segment}{} {place}: expected {expected}, found {found}", finding.code.as_str());
        return Err(Failure::new(4, "archive", format!("archive {}: {}: {what}", source.shown, report.verdict()))
            .hint("nothing was changed; rebuild from another copy: `pinfold rebuild --from DIR`"));
    }
    if report.origin.as_ref() != Some(origin) {
        let found = report.origin.as_ref().map_or_else(String::new, ToString::to_string);
        return Err(Failure::new(4, "archive", format!("archive {}: of log {found}, not {origin}", source.shown))
            .hint("name an archive of this log, or correct `log.origin`"));
    }
    if let Some(segment) = source.files.payload_missing() {
        let what = format!("archive {}: segment {segment}: its payload is not there", source.shown);
        return Err(Failure::new(4, "no-payload", what).hint("name a copy with payloads: `pinfold rebuild --from DIR`"));
    }
    let keyring = open::keyring(config, origin).map_err(|failure| {
        let hint = "restore the keyring directory first: without it nothing of the archive can be read or continued";
        if failure.message.contains("no keyring") { failure.hint(hint) } else { failure }
    })?;
    Ok(Retraced::read(origin, keyring, &source.dir, source.segments, sizes)?)
}

/// The log as the archive has it, for the comparison with what others know.
struct Ours<'a> {
    retraced: &'a Retraced,
    segments: u64,
    dir: String,
}

impl Ours<'_> {
    fn beyond(&self, who: &str, newest: &str, hint: &str) -> Failure {
        let (size, root) = (self.retraced.size(), self.retraced.root());
        let message = format!("archive {}: size {size} root {root}, but {who} is at {newest}", self.dir);
        Failure::new(4, "head-beyond", message).hint(hint)
    }

    /// Whether somebody has a part of the log that the archive lacks, or a head of another tree.
    fn is_contradiction(&self, known: &Known) -> bool {
        let has_more = known.segment.is_some_and(|segment| segment >= self.segments);
        let is_other = known.head.is_some_and(|(size, root)| self.retraced.roots().get(&size) != Some(&root));
        has_more || is_other
    }
}

/// Who has what was shown, or may be shown at any time: it must not be contradicted, and no flag changes that.
fn released(config: &Config, origin: &Origin, rebuild: &args::Rebuild) -> Result<Vec<Known>, Failure> {
    let runtime = super::runtime()?;
    let mut known = known::of_folders(config, origin)?;
    known.extend(known::of_registries(config, origin, runtime.handle())?);
    if rebuild.from.is_some() || rebuild.from_ipfs.is_some() {
        let hint = "`pinfold rebuild` without --from takes the segments from there".to_owned();
        known.extend(known::of_directory("local archive", &config.log.data.join("archive"), origin, hint)?);
    }
    Ok(known)
}
