//! The keyring's directory: one owner, private modes, whole files or none.
//!
//! Not a format: bytes go in and out as they are. What is durable when is the contract of each function.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::KeyringError;

/// The file whose lock makes one process the owner.
const LOCK: &str = "lock";

/// The directory of the shard files.
pub(super) const SHARDS: &str = "shards";

/// An owned keyring directory. The lock lives as long as this value.
pub(super) struct Disk {
    dir: PathBuf,
    _lock: File,
    #[cfg(test)]
    pub(super) fuse: Fuse,
}

impl Disk {
    /// Makes the directory, which must not exist or be empty, and owns it.
    pub(super) fn create(dir: &Path) -> Result<Disk, KeyringError> {
        let name = dir.display().to_string();
        let io = |doing| KeyringError::io(&name, doing);
        match fs::read_dir(dir) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(KeyringError::Exists { dir: name });
                }
                // Made by someone else, such as a volume's mount: its mode is theirs to set, the files' modes are ours.
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create the directory"))?;
            }
            Err(error) => return Err(io("read the directory")(error)),
        }
        let disk = Disk::lock(dir)?;
        DirBuilder::new().mode(0o700).create(dir.join(SHARDS)).map_err(io("create the directory of shards"))?;
        Ok(disk)
    }

    /// Owns an existing keyring directory.
    pub(super) fn open(dir: &Path) -> Result<Disk, KeyringError> {
        if !dir.join(SHARDS).is_dir() {
            return Err(KeyringError::Missing { dir: dir.display().to_string() });
        }
        Disk::lock(dir)
    }

    fn lock(dir: &Path) -> Result<Disk, KeyringError> {
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let lock = options.open(dir.join(LOCK)).map_err(KeyringError::io(LOCK, "open"))?;
        match try_lock(&lock) {
            Ok(()) => Ok(Disk {
                dir: dir.to_owned(),
                _lock: lock,
                #[cfg(test)]
                fuse: Fuse::default(),
            }),
            Err(fs::TryLockError::WouldBlock) => Err(KeyringError::Busy { dir: dir.display().to_string() }),
            Err(fs::TryLockError::Error(error)) => Err(KeyringError::io(LOCK, "lock")(error)),
        }
    }

    /// The whole of a file.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, KeyringError> {
        let mut file = File::open(self.dir.join(name)).map_err(KeyringError::missing_or_io(name, "open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(KeyringError::io(name, "read"))?;
        Ok(bytes)
    }

    /// The length of a file that must be there.
    pub(super) fn len(&self, name: &str) -> Result<u64, KeyringError> {
        let meta = fs::metadata(self.dir.join(name)).map_err(KeyringError::missing_or_io(name, "look at"))?;
        Ok(meta.len())
    }

    /// Writes a file of a name that nothing refers to yet; a leftover of an earlier attempt is replaced.
    /// Its content is durable on return; its name is after `sync_dir`.
    pub(super) fn write_new(&self, name: &str, bytes: &[u8]) -> Result<File, KeyringError> {
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        self.step(name)?;
        let mut file = options.open(self.dir.join(name)).map_err(KeyringError::io(name, "create"))?;
        #[cfg(test)]
        if self.fuse.burns() {
            file.write_all(&bytes[..bytes.len() / 2]).unwrap();
            return Err(Fuse::burnt(name));
        }
        file.write_all(bytes).map_err(KeyringError::io(name, "write"))?;
        self.step(name)?;
        file.sync_all().map_err(KeyringError::io(name, "sync"))?;
        Ok(file)
    }

    /// Replaces a file at once: after a crash it is the old one or the new one, whole. Durable on return.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), KeyringError> {
        let temporary = format!("{name}.tmp");
        self.write_new(&temporary, bytes)?;
        self.step(name)?;
        fs::rename(self.dir.join(&temporary), self.dir.join(name)).map_err(KeyringError::io(name, "rename"))?;
        self.sync_dir("")
    }

    /// Removes a file; it may be gone already. Durable after `sync_dir`.
    pub(super) fn remove(&self, name: &str) -> Result<(), KeyringError> {
        self.step(name)?;
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KeyringError::io(name, "remove")(error)),
            _ => Ok(()),
        }
    }

    /// Makes the names in the directory, or in a directory of it, durable.
    pub(super) fn sync_dir(&self, sub: &str) -> Result<(), KeyringError> {
        self.step(sub)?;
        let dir = self.dir.join(sub);
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(KeyringError::io(sub, "sync the directory"))
    }

    /// The names in the directory, or in a directory of it.
    pub(super) fn list(&self, sub: &str) -> Result<Vec<String>, KeyringError> {
        let entries = fs::read_dir(self.dir.join(sub)).map_err(KeyringError::io(sub, "list"))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(KeyringError::io(sub, "list"))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    /// Opens a file to append to it.
    pub(super) fn appender(&self, name: &str) -> Result<File, KeyringError> {
        OpenOptions::new().write(true).open(self.dir.join(name)).map_err(KeyringError::missing_or_io(name, "open"))
    }

    /// Writes at a place in an open file. Durable after `sync_data`.
    pub(super) fn write_at(&self, file: &File, name: &str, at: u64, bytes: &[u8]) -> Result<(), KeyringError> {
        self.step(name)?;
        #[cfg(test)]
        if self.fuse.burns() {
            file.write_all_at(&bytes[..bytes.len() / 2], at).unwrap();
            return Err(Fuse::burnt(name));
        }
        file.write_all_at(bytes, at).map_err(KeyringError::io(name, "write"))
    }

    /// Cuts an open file. Durable after `sync_data`.
    pub(super) fn cut(&self, file: &File, name: &str, len: u64) -> Result<(), KeyringError> {
        self.step(name)?;
        file.set_len(len).map_err(KeyringError::io(name, "cut"))
    }

    /// Makes an open file's content durable.
    pub(super) fn sync_data(&self, file: &File, name: &str) -> Result<(), KeyringError> {
        self.step(name)?;
        file.sync_data().map_err(KeyringError::io(name, "sync"))
    }

    /// Before every change of the directory: where a test may end the process.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the test build counts steps here")]
    fn step(&self, _name: &str) -> Result<(), KeyringError> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, name: &str) -> Result<(), KeyringError> {
        if self.fuse.burns() { Err(Fuse::burnt(name)) } else { Ok(()) }
    }
}

impl KeyringError {
    /// The error of doing something to a file.
    pub(super) fn io(file: &str, doing: &'static str) -> impl Fn(io::Error) -> KeyringError + use<> {
        let file = if file.is_empty() { "." } else { file }.to_owned();
        move |source| KeyringError::Io { file: file.clone(), doing, source }
    }

    /// The same for a file that must be there: the keyring refers to it.
    fn missing_or_io(file: &str, doing: &'static str) -> impl Fn(io::Error) -> KeyringError + use<> {
        let file = file.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => KeyringError::damaged(&file, "it is missing"),
            _ => KeyringError::io(&file, doing)(source),
        }
    }

    /// The refusal of a file.
    pub(super) fn damaged(file: &str, what: &'static str) -> KeyringError {
        KeyringError::Damaged { file: file.to_owned(), what }
    }
}

/// How long a lock is asked for again: a child process of this one holds a copy of it between its fork and its exec.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

fn try_lock(file: &File) -> Result<(), fs::TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            locked => return locked,
        }
    }
}

/// Ends the process, as far as the disk can tell, at the nth change from now: that one does not happen, or only half,
/// and none after it.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Fuse(std::cell::Cell<Option<u32>>);

#[cfg(test)]
impl Fuse {
    pub(super) fn light(&self, steps: u32) {
        self.0.set(Some(steps));
    }

    pub(super) fn is_burnt(&self) -> bool {
        self.0.get() == Some(0)
    }

    fn burns(&self) -> bool {
        self.0.set(self.0.get().map(|left| left.saturating_sub(1)));
        self.is_burnt()
    }

    fn burnt(name: &str) -> KeyringError {
        KeyringError::io(name, "outlive the test's fuse")(io::ErrorKind::Interrupted.into())
    }
}
