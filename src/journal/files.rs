//! Where the journal's files lie, and the few ways in which they are made durable.
//!
//! Not the store and not the frame files: only names, the owner's lock, the layout version and atomic
//! replacement. Layout: docs/journal.md.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{JournalError, Owned};

/// The layout this program writes, in `data/VERSION`.
pub const LAYOUT: u32 = 1;

/// The two directories of a journal. They should be on different volumes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// `data`: holds `VERSION`, `LOCK` and `journal/`.
    pub data: PathBuf,
    /// `heads`: holds the last head, out of reach of whatever rolls back `data`.
    pub heads: PathBuf,
}

impl Places {
    /// The journal itself.
    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// Says which layout `data` has.
    pub fn version(&self) -> PathBuf {
        self.data.join("VERSION")
    }

    /// Held locked by the owner.
    pub fn lock(&self) -> PathBuf {
        self.data.join("LOCK")
    }

    /// The last head, replaced whole and synced.
    pub fn head(&self) -> PathBuf {
        self.heads.join("head")
    }

    /// The newest head, overwritten in place at every commit, not synced.
    pub fn latest(&self) -> PathBuf {
        self.heads.join("latest")
    }
}

/// Takes the lock that makes us the one owner; it is ours until the file is dropped.
pub(super) fn own(places: &Places) -> Result<File, JournalError> {
    let path = places.lock();
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(|e| JournalError::io("opening", &path, e))?;
    match lock(&file) {
        Ok(()) => {
            // Only for the words of a refusal; the lock is what counts.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            Err(JournalError::InUse(Owned { journal: places.journal(), pid }))
        }
        Err(TryLockError::Error(e)) => Err(JournalError::io("locking", &path, e)),
    }
}

/// How long a lock is asked for again: a child process of this one holds a copy of it between its fork and its exec.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

fn lock(file: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            locked => return locked,
        }
    }
}

/// Refuses every layout but ours. A missing file is refused too: who deleted it may have deleted more.
pub(super) fn check_version(places: &Places) -> Result<(), JournalError> {
    let path = places.version();
    let found = match fs::read_to_string(&path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => "missing".to_owned(),
        Err(e) => return Err(JournalError::io("reading", &path, e)),
    };
    if found == LAYOUT.to_string() { Ok(()) } else { Err(JournalError::Layout { path, found, known: LAYOUT }) }
}

/// Refuses a directory that a newer program wrote: what it holds is not ours to replace.
pub(super) fn refuse_newer(places: &Places) -> Result<(), JournalError> {
    match check_version(places) {
        Err(JournalError::Layout { path, found, known })
            if found.parse::<u64>().is_ok_and(|found| found > u64::from(known)) =>
        {
            Err(JournalError::Layout { path, found, known })
        }
        Err(JournalError::Layout { .. }) | Ok(()) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Makes `dir` and its parents, readable by the owner only, and their names durable.
pub(super) fn make_dir(dir: &Path) -> Result<(), JournalError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(parent(dir)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && parent(dir) != dir => {
            make_dir(parent(dir))?;
            make_dir(dir)
        }
        Err(e) => Err(JournalError::io("making directory", dir, e)),
    }
}

/// The directory that names `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Makes the names in `dir` durable. A new file is lost without this, however often it was synced itself.
pub(super) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| JournalError::io("syncing directory", dir, e))
}

/// Replaces `path` by a file of `bytes`: after a crash it holds either the old or the new bytes, whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|e| JournalError::io("replacing", path, e))?;
    sync_dir(parent(path))
}

/// Removes a directory that nothing names any more.
pub(super) fn remove_dir(dir: &Path) -> Result<(), JournalError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(JournalError::io("removing", dir, e)),
        _ => Ok(()),
    }
}

/// The bytes of all files under `dir`.
pub(super) fn bytes_under(dir: &Path) -> Result<u64, JournalError> {
    let sum = || -> io::Result<u64> {
        let mut bytes = 0;
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for item in fs::read_dir(dir)? {
                let item = item?;
                let meta = item.metadata()?;
                if meta.is_dir() { open.push(item.path()) } else { bytes += meta.len() }
            }
        }
        Ok(bytes)
    };
    sum().map_err(|e| JournalError::io("measuring", dir, e))
}
