//! The last head, kept in another directory: what tells a rolled-back journal from a sound one.
//!
//! Two files. `latest` is overwritten in place after every commit and not synced: it survives a kill, and after a
//! power cut it may be torn or old, so one that is unreadable or behind `head` says nothing. `head` is replaced whole and synced at every
//! seal, at least once a second while commits go on, and at close; an unreadable one is refused. Both are
//! written after the commit they name, so they may lag and never lead.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::files::{self, Places};
use crate::core::checkpoint::{Form, Head, Statement};
use crate::core::note::Vkey;
use crate::core::origin::Origin;

/// How far `head` may lag behind the commits, while there are any.
const LAG_MAX: Duration = Duration::from_secs(1);
/// `latest` is one write of this many bytes, padded with line feeds.
const LATEST_BYTES: usize = 1024;

/// The two files, and what `head` holds.
#[derive(Debug)]
pub(super) struct Heads {
    places: Places,
    latest: File,
    synced_at: Instant,
    /// The newest note, where `head` does not hold it yet.
    unsynced: Option<String>,
}

impl Heads {
    /// Makes ready to write; reads nothing.
    pub(super) fn start(places: &Places) -> Result<Heads, JournalError> {
        files::make_dir(&places.heads)?;
        let path = places.latest();
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let latest = open.map_err(|e| JournalError::io("opening", &path, e))?;
        Ok(Heads { places: places.clone(), latest, synced_at: Instant::now(), unsynced: None })
    }

    /// Notes the head of a commit that is durable. `now` forces the synced file.
    pub(super) fn write(&mut self, live: &str, now: bool) -> Result<(), JournalError> {
        let mut bytes = live.as_bytes().to_vec();
        bytes.resize(LATEST_BYTES.max(bytes.len()), b'\n');
        self.latest.write_all_at(&bytes, 0).map_err(|e| JournalError::io("writing", &self.places.latest(), e))?;
        self.unsynced = Some(live.to_owned());
        if now || self.synced_at.elapsed() >= LAG_MAX { self.sync() } else { Ok(()) }
    }

    /// Brings `head` up to the newest note, durably.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        if let Some(live) = self.unsynced.take() {
            files::replace(&self.places.head(), live.as_bytes())?;
        }
        self.synced_at = Instant::now();
        Ok(())
    }

    /// The heads known outside, each with its file. Their signatures are verified.
    ///
    /// # Errors
    /// `WrongOrigin`; `Damaged` where `head` is no live head of ours.
    pub(super) fn known(
        places: &Places,
        origin: &Origin,
        vkeys: &[Vkey],
    ) -> Result<Vec<(PathBuf, Head)>, JournalError> {
        let mut known = Vec::new();
        if let Some(head) = read(&places.head(), origin, vkeys)? {
            known.push((places.head(), head));
        }
        match read(&places.latest(), origin, vkeys) {
            Ok(Some(head)) if known.iter().all(|(_, synced)| synced.size <= head.size) => {
                known.push((places.latest(), head));
            }
            // Torn by a power cut, thrown back by one, or empty since the start: `head` stands alone.
            Ok(_) | Err(JournalError::Damaged { .. }) => {}
            Err(e) => return Err(e),
        }
        Ok(known)
    }
}

fn read(path: &Path, origin: &Origin, vkeys: &[Vkey]) -> Result<Option<Head>, JournalError> {
    let note = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => "?".to_owned(),
        Err(e) => return Err(JournalError::io("reading", path, e)),
    };
    verify(&path.display().to_string(), &format!("{}\n", note.trim_end_matches('\n')), origin, vkeys).map(Some)
}

/// Reads a live head of `origin` signed by one of `vkeys`.
///
/// # Errors
/// `WrongOrigin` where it is a sound note of another log, `Damaged` for everything else.
pub(super) fn verify(place: &str, note: &str, origin: &Origin, vkeys: &[Vkey]) -> Result<Head, JournalError> {
    let damaged = |found: String| JournalError::damaged(place, "a live head signed by the log's key", found);
    let statement = Statement::parse(note).map_err(|refused| damaged(refused.to_string()))?;
    if statement.form != Form::Live {
        return Err(damaged("a checkpoint".to_owned()));
    }
    if statement.head.origin != *origin {
        let (expected, found) = (origin.to_string(), statement.head.origin.to_string());
        return Err(JournalError::WrongOrigin { place: place.to_owned(), expected, found });
    }
    let mut refusal = "no key to verify it with".to_owned();
    for vkey in vkeys {
        match statement.verify(vkey) {
            Ok(()) => return Ok(statement.head),
            Err(refused) => refusal = refused.to_string(),
        }
    }
    Err(damaged(refusal))
}
