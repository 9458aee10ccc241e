//! Making a journal and opening one: one owner, one layout, one generation of the store, and nothing believed.
//!
//! Which generation counts is in the file `CURRENT`, replaced atomically: compaction builds the next one beside it.

use std::fs::{self, File};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::error::JournalError;
use super::files::{self, LAYOUT, Places};
use super::frames::Frames;
use super::head::Heads;
use super::marks::Marks;
use super::recover;
use super::state::{self, State, decode_halt, decode_state};
use super::store::{Store, Write, WriteError, key};
use super::{Journal, RULES_CHUNK_BYTES, Writer};
use crate::core::checkpoint::Statement;
use crate::core::note::Vkey;
use crate::core::origin::Origin;
use crate::core::seq::Size;

/// Rows of one write when a journal is built.
const BUILD_KEYS: usize = 128;

impl Journal {
    /// Makes an empty journal for a new log, durably and whole or not at all.
    ///
    /// # Errors
    /// `Exists`; `HeadKnown` where a head file is there: a wiped volume is not a new log; `InUse`; `Io`.
    pub fn create(places: &Places, origin: &Origin) -> Result<Journal, JournalError> {
        files::make_dir(&places.data)?;
        let lock = files::own(places)?;
        Journal::may_create(places)?;
        let new = build(places, &State::empty(origin.clone()), &[], iter::empty())?;
        fs::rename(&new, places.journal()).map_err(|e| JournalError::io("renaming", &new, e))?;
        files::sync_dir(&places.data)?;
        start(places, origin, &[], lock)
    }

    /// Whether `create` would find a journal, or a head file that knows one. Writes nothing.
    ///
    /// # Errors
    /// `Exists`, `HeadKnown`; `Io`.
    pub fn may_create(places: &Places) -> Result<(), JournalError> {
        if places.journal().exists() {
            return Err(JournalError::Exists(places.journal()));
        }
        refuse_known_head(places)
    }

    /// Opens the journal of `origin`, whose live heads one of `vkeys` signed.
    ///
    /// # Errors
    /// `Missing`, `InUse`, `Layout`, `WrongOrigin`; `Damaged` where what is stored is not what was committed; `Behind`,
    /// `Forked`, `HeadTooOld` where it does not continue the head file. A halt is no error here: see `State::halted`.
    pub fn open(places: &Places, origin: &Origin, vkeys: &[Vkey]) -> Result<Journal, JournalError> {
        if !places.journal().exists() {
            return Err(JournalError::Missing(places.journal()));
        }
        start(places, origin, vkeys, files::own(places)?)
    }
}

fn refuse_known_head(places: &Places) -> Result<(), JournalError> {
    for path in [places.head(), places.latest()] {
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(JournalError::io("reading", &path, e)),
        };
        let note = format!("{}\n", text.trim_end_matches('\n'));
        if note != "\n" {
            let size = Statement::parse(&note).map_or(Size(0), |statement| statement.head.size);
            return Err(JournalError::HeadKnown { path, size });
        }
    }
    Ok(())
}

/// Builds a journal beside its place, durably and whole, for the caller to give it its name.
pub(super) fn build(
    places: &Places,
    state: &State,
    rules: &[u8],
    rows: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
) -> Result<PathBuf, JournalError> {
    let new = places.data.join("journal.new");
    files::remove_dir(&new)?;
    let frames = Frames::new(&new);
    files::make_dir(frames.dir())?;
    let store = Store::create(&generation(&new, 1))?;
    let chunks = (0..).zip(rules.chunks(RULES_CHUNK_BYTES)).map(|(n, chunk)| (key::rules(n), chunk.to_vec()));
    let state = (key::STATE.to_vec(), state::encode_state(state, rules.len() as u64));
    let mut rows = rows.chain(chunks).chain([state]).map(|(key, value)| (key, Some(value))).peekable();
    while rows.peek().is_some() {
        let step: Vec<_> = rows.by_ref().take(BUILD_KEYS).collect();
        store.commit(Write { rows: step, ..Write::default() }).map_err(|e| match e {
            WriteError::Refused(refused) => refused,
            WriteError::Unknown(why) => JournalError::io("writing", &new, io::Error::other(why)),
        })?;
    }
    drop(store);
    files::sync_dir(frames.dir())?;
    set_current(&new, 1)?;
    files::replace(&places.version(), format!("{LAYOUT}\n").as_bytes())?;
    Ok(new)
}

/// Opens what is there, checked; the lock is ours.
pub(super) fn start(places: &Places, origin: &Origin, vkeys: &[Vkey], lock: File) -> Result<Journal, JournalError> {
    files::check_version(places)?;
    let journal = places.journal();
    let number = current(&journal)?;
    let store = Arc::new(Store::open(&generation(&journal, number))?);
    let Some(row) = store.row(key::STATE)? else {
        return Err(JournalError::damaged("state row", "a row", "none"));
    };
    let (mut state, rules_bytes) = decode_state(&row)?;
    state.halted = store.row(key::HALT)?.map(|row| decode_halt(&row)).transpose()?;
    if state.origin != *origin {
        let (expected, found) = (origin.to_string(), state.origin.to_string());
        return Err(JournalError::WrongOrigin { place: journal.display().to_string(), expected, found });
    }
    let rules = read_rules(&store, rules_bytes)?;
    let mut frames = Frames::new(&journal);
    let known = Heads::known(places, origin, vkeys)?;
    recover::check(&store, &frames, &state, vkeys, &known)?;
    // Only now that all is sound may anything be removed: what a crash left behind.
    frames.cut(state.frames_first, state.frames_end)?;
    remove_other_generations(&journal, number)?;
    let mut heads = Heads::start(places)?;
    if let Some(live) = &state.live {
        heads.write(live, true)?;
    }
    let writer = Writer { frames, heads, rules, marks: Marks::default(), _lock: lock };
    Ok(Journal {
        places: places.clone(),
        writer: Mutex::new(writer),
        state: RwLock::new(Arc::new(state)),
        store: RwLock::new(store),
        poison: OnceLock::new(),
    })
}

fn read_rules(store: &Store, bytes: u64) -> Result<Vec<u8>, JournalError> {
    let mut rules = Vec::new();
    for row in store.rows(key::RULES) {
        rules.extend_from_slice(&row?.1);
    }
    if rules.len() as u64 != bytes {
        return Err(JournalError::damaged("rules rows", format!("{bytes} bytes"), rules.len().to_string()));
    }
    Ok(rules)
}

/// The directory of a generation of the store.
pub(super) fn generation(journal: &Path, number: u64) -> PathBuf {
    journal.join(format!("sled-{number:06}"))
}

/// Makes `number` the generation that counts.
pub(super) fn set_current(journal: &Path, number: u64) -> Result<(), JournalError> {
    files::sync_dir(journal)?;
    files::replace(&journal.join("CURRENT"), format!("{number}\n").as_bytes())
}

/// The generation that counts.
pub(super) fn current(journal: &Path) -> Result<u64, JournalError> {
    let path = journal.join("CURRENT");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => "none".to_owned(),
        Err(e) => return Err(JournalError::io("reading", &path, e)),
    };
    let number = text.strip_suffix('\n').and_then(|text| text.parse().ok());
    number.ok_or_else(|| JournalError::damaged(path.display().to_string(), "the number of a generation", text))
}

/// Removes generations that a compaction left behind, half built or replaced.
pub(super) fn remove_other_generations(journal: &Path, number: u64) -> Result<(), JournalError> {
    let keep = generation(journal, number);
    let list = fs::read_dir(journal).map_err(|e| JournalError::io("reading", journal, e))?;
    for item in list {
        let path = item.map_err(|e| JournalError::io("reading", journal, e))?.path();
        let is_generation =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("sled-"));
        if is_generation && path != keep {
            files::remove_dir(&path)?;
        }
    }
    Ok(())
}
