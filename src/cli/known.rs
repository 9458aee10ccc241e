//! Who else knows the log: archives, registries, pin targets and witnesses, and how far.
//!
//! A wiped data volume is no new log, and what others were shown can never be taken back. Heads in the head directory
//! are the journal's own to read.

use std::path::Path;

use super::verify::files::numbers_of;
use super::{Failure, anchors, open};
use crate::anchor::AnchorError;
use crate::anchor::witness::Holds;
use crate::config::{Config, Pin, Registry};
use crate::core::car::Limits;
use crate::core::checkpoint::{Head, Statement, sign_checkpoint};
use crate::core::hash::Hash;
use crate::core::note::Skey;
use crate::core::origin::Origin;
use crate::core::segment::Seal;
use crate::core::segment::read::Proof;
use crate::core::seq::Size;
use crate::sidecar::{Files, SidecarError};

/// Somebody who knows the log.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Who, for a person.
    pub(super) who: String,
    /// The newest segment it has, where it counts in segments.
    pub(super) segment: Option<u64>,
    /// The newest head it has, where it shows one.
    pub(super) head: Option<(Size, Hash)>,
    /// What to do if ours ends before.
    pub(super) hint: String,
}

impl Known {
    /// Size and root, or what there is of them.
    pub(super) fn newest(&self) -> String {
        match (self.head, self.segment) {
            (Some((size, root)), _) => format!("size {size} root {root}"),
            (None, Some(segment)) => format!("segment {segment}, which does not read"),
            (None, None) => "this log".to_owned(),
        }
    }
}

/// The newest segment of `origin` in a directory of CAR files. One that does not read counts: who would know that it is
/// not ours?
///
/// # Errors
/// The directory is there and cannot be read.
pub(super) fn of_directory(who: &str, dir: &Path, origin: &Origin, hint: String) -> Result<Option<Known>, Failure> {
    if !dir.exists() {
        return Ok(None);
    }
    let Some(segment) = numbers_of(dir)?.into_iter().max() else { return Ok(None) };
    let known = |head| Some(Known { who: format!("{who} ({})", dir.display()), segment: Some(segment), head, hint });
    let Some(seal) = seal(&Files::of(dir, segment).proof) else { return Ok(known(None)) };
    if seal.origin != *origin {
        return Ok(None);
    }
    let head = Statement::parse(&seal.checkpoint).map(|statement| (statement.head.size, statement.head.root));
    Ok(known(head.ok()))
}

fn seal(path: &Path) -> Option<Seal> {
    let file = std::fs::File::open(path).ok()?;
    Proof::open(file, Limits::default()).ok().map(|proof| proof.seal().clone())
}

/// The folders of the configuration that hold segments of the log.
///
/// # Errors
/// As [`of_directory`].
pub(super) fn of_folders(config: &Config, origin: &Origin) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for (name, pin) in &config.pin {
        if let Pin::Folder(folder) = pin {
            let hint = format!("`pinfold rebuild --from {}` takes it from there", folder.path.display());
            known.extend(of_directory(&format!("pin target {name}"), &folder.path, origin, hint)?);
        }
    }
    Ok(known)
}

/// The registries that have rows or a fence of the log.
///
/// # Errors
/// Exit 3 where one does not answer: what it knows must not be contradicted.
pub(super) fn of_registries(
    config: &Config,
    origin: &Origin,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for (name, configured) in &config.registry {
        if let Registry::Sqlite(sqlite) = configured
            && !sqlite.path.exists()
        {
            continue;
        }
        let registrar = open::registrar(name, configured, runtime)?;
        let asked = registrar.init().and_then(|()| Ok((registrar.head(origin)?, registrar.seals(origin)?)));
        let (fence, seals) = asked.map_err(SidecarError::from)?;
        let segment = seals.iter().map(|(segment, _)| *segment).max();
        let head = fence.map(|fence| (fence.size, fence.root));
        if head.is_some() || segment.is_some() {
            let hint = "what was shown cannot be taken back: find the missing segments on a pin target \
                        (`pinfold rebuild --from DIR`, `--from-ipfs URL --cid CID`); if they are gone everywhere this \
                        log is closed, and `pinfold init --origin NAME` makes a successor";
            known.push(Known { who: registry(name), segment, head, hint: hint.to_owned() });
        }
    }
    Ok(known)
}

/// The witnesses of the configured policy that have signed a checkpoint of the log. They are shown the checkpoint of the
/// empty tree: every history begins with it, so this signature commits the log to nothing.
///
/// # Errors
/// Exit 3 where one does not answer: what it knows must not be contradicted.
pub(super) fn of_witnesses(
    config: &Config,
    key: &Skey,
    origin: &Origin,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<Known>, Failure> {
    let head = Head { origin: origin.clone(), size: Size(0), root: Hash::EMPTY_ROOT };
    let note = sign_checkpoint(&head, key);
    let (mut known, mut unreached) = (Vec::new(), None);
    for witness in anchors::witnesses(config)? {
        match runtime.block_on(witness.holds(&head, &note)) {
            Ok(Holds::Size(size)) => known.push(Known {
                who: format!("witness {} at size {size}", witness.vkey().name()),
                segment: None,
                head: None,
                hint: "a log was here: `pinfold rebuild --from DIR` restores it from a pin target".to_owned(),
            }),
            Ok(Holds::This(_) | Holds::OtherRoot) | Err(AnchorError::Refused { .. }) => {}
            Err(error) => unreached = Some(error),
        }
    }
    match unreached.filter(|_| known.is_empty()) {
        Some(error) => Err(SidecarError::from(error).into()),
        None => Ok(known),
    }
}

/// What messages call a registry.
pub(super) fn registry(name: &str) -> String {
    format!("registry {name}")
}
