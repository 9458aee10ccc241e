//! How files of a store come to be: written aside, made durable together, then named.
//!
//! A web server may serve the directory while it grows, so nothing incomplete is ever under a name of tlog-tiles.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{CHECKPOINT, TilesError};

/// Where files lie until they are named.
const STAGED: &str = ".staged";
/// Held locked by who grows the store.
const LOCK: &str = ".lock";
/// How long another process that grows the store is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(60);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Up to so many files each is synced by itself; beyond, the whole file system at once: a sync of a new file costs about
/// as much as one of all of them, but waits for nobody else's bytes.
const SYNCED_SINGLY_MAX: usize = 32;

/// The bytes of a file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TilesError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(TilesError::io("reading", path)(e)),
    }
}

/// Whether `dir` holds files and never was a store: tiles do not belong among them.
fn is_foreign(dir: &Path) -> Result<bool, TilesError> {
    let is_ours = [LOCK, CHECKPOINT].into_iter().any(|name| dir.join(name).exists());
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(!is_ours && entries.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(TilesError::io("reading", dir)(e)),
    }
}

/// Makes us the one who grows `dir`, until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, TilesError> {
    let path = dir.join(LOCK);
    if is_foreign(dir)? {
        let what = "not empty, and no tiles of ours".to_owned();
        return Err(TilesError::Unsound { dir: dir.to_owned(), name: ".".to_owned(), what });
    }
    fs::create_dir_all(dir).map_err(TilesError::io("making", dir))?;
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(TilesError::io("opening", &path))?;
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(TilesError::Busy(dir.to_owned())),
            Err(TryLockError::Error(e)) => return Err(TilesError::io("locking", &path)(e)),
        }
    }
}

/// Files on their way to their names.
#[derive(Debug)]
pub(super) struct Staged {
    dir: PathBuf,
    /// Their names, by the number of the file that holds them.
    names: Vec<PathBuf>,
    made: BTreeSet<PathBuf>,
}

impl Staged {
    /// Begins, and throws away what a crash left unnamed.
    pub(super) fn begin(dir: &Path) -> Result<Staged, TilesError> {
        let staged = Staged { dir: dir.to_owned(), names: Vec::new(), made: BTreeSet::new() };
        staged.clear()?;
        fs::create_dir_all(staged.place()).map_err(TilesError::io("making", &staged.place()))?;
        Ok(staged)
    }

    /// Writes a file that gets its name later.
    pub(super) fn put(&mut self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<(), TilesError> {
        let path = self.place().join(self.names.len().to_string());
        fs::write(&path, bytes).map_err(TilesError::io("writing", &path))?;
        self.names.push(self.dir.join(name));
        Ok(())
    }

    /// Makes all of them durable, and names them. In between a crash leaves some named and complete, the others absent.
    pub(super) fn name_all(&mut self) -> Result<(), TilesError> {
        let place = self.place();
        let paths: Vec<PathBuf> = (0..self.names.len()).map(|at| place.join(at.to_string())).collect();
        sync(&self.dir, &paths)?;
        let mut touched = BTreeSet::new();
        for (from, to) in paths.iter().zip(&self.names) {
            let parent = to.parent().unwrap_or(&self.dir);
            if !self.made.contains(parent) {
                fs::create_dir_all(parent).map_err(TilesError::io("making", parent))?;
                self.made.insert(parent.to_owned());
            }
            fs::rename(from, to).map_err(TilesError::io("naming", to))?;
            touched.extend(parent.ancestors().take_while(|dir| dir.starts_with(&self.dir)).map(Path::to_owned));
        }
        // Names are durable before `checkpoint` relies on them.
        sync(&self.dir, &touched.into_iter().collect::<Vec<_>>())?;
        self.names.clear();
        Ok(())
    }

    /// Ends, with nothing left aside.
    pub(super) fn end(self) -> Result<(), TilesError> {
        self.clear()
    }

    fn place(&self) -> PathBuf {
        self.dir.join(STAGED)
    }

    fn clear(&self) -> Result<(), TilesError> {
        remove_dir(&self.place())
    }
}

/// Removes a directory that nobody needs any more.
pub(super) fn remove_dir(dir: &Path) -> Result<(), TilesError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(TilesError::io("removing", dir)(e)),
        _ => Ok(()),
    }
}

/// Replaces a file in one step: after a crash it holds the old bytes or the new ones, whole.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), TilesError> {
    let (path, new) = (dir.join(name), dir.join(format!(".{name}.new")));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(TilesError::io("replacing", &path))
}

fn sync(dir: &Path, paths: &[PathBuf]) -> Result<(), TilesError> {
    if paths.len() > SYNCED_SINGLY_MAX {
        let all = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
        return all.map_err(TilesError::io("syncing", dir));
    }
    let one =
        |path: &PathBuf| File::open(path).and_then(|file| file.sync_all()).map_err(TilesError::io("syncing", path));
    paths.iter().try_for_each(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_files_is_left_alone_and_one_of_ours_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tiles");
        drop(lock(&place).unwrap());
        fs::write(place.join("tile"), b"left by a crash").unwrap();
        drop(lock(&place).unwrap());
        fs::write(dir.path().join("letter"), b"dear").unwrap();
        let error = lock(dir.path()).unwrap_err();
        assert!(matches!(error, TilesError::Unsound { .. }), "{error}");
        assert!(!dir.path().join(LOCK).exists());
        // Copied without the files whose names begin with a dot.
        fs::remove_file(place.join(LOCK)).unwrap();
        fs::write(place.join(CHECKPOINT), b"note").unwrap();
        drop(lock(&place).unwrap());
    }
}
