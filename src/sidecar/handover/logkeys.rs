//! The log's private keys at hand, and the files they lie in.
//!
//! Which key signs at which size is the log's own word (`core::rules`); here keys are held, and their files brought to
//! what the log says. The key that signs now is in the key file. Every other one is beside it, under the same name with
//! its id behind: the one a change is about to give the log to, and those of the past that may still be needed. A key
//! is durable under its new name before the old name goes, so at every instant each of them is on the disk, whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HandoverError;
use crate::core::note::{Skey, Vkey};
use crate::sidecar::error::SidecarError;
use crate::sidecar::writer::own;

/// The log's private keys.
#[derive(Debug)]
pub struct LogKeys {
    /// The key file; `None` for a key that lives in memory alone, which can hand over to nobody.
    file: Option<PathBuf>,
    /// The key that lies in the key file.
    main: Arc<Skey>,
    /// Those beside it.
    beside: Vec<Arc<Skey>>,
    /// For how many released segments and keys of the log it was last looked which of them are of no use any more.
    looked_at: (u64, usize),
}

impl LogKeys {
    /// One key in memory.
    pub fn of(key: Skey) -> LogKeys {
        LogKeys { file: None, main: Arc::new(key), beside: Vec::new(), looked_at: (0, 0) }
    }

    /// The keys of a key file: `main` is in it, each of `beside` was read from one of [`LogKeys::files_beside`].
    pub fn of_file(file: &Path, main: Skey, beside: Vec<Skey>) -> LogKeys {
        let beside = beside.into_iter().map(Arc::new).collect();
        LogKeys { file: Some(file.to_owned()), main: Arc::new(main), beside, looked_at: (0, 0) }
    }

    /// The files beside a key file that hold keys of the log, by name: `NAME.` and eight hexadecimal digits.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn files_beside(file: &Path) -> io::Result<Vec<PathBuf>> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = |other: &str| {
            let id = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
            id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(directory(file))? {
            let entry = entry?;
            if is_ours(&entry.file_name().to_string_lossy()) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// The public halves.
    pub fn vkeys(&self) -> Vec<Vkey> {
        self.all().map(|key| key.vkey().clone()).collect()
    }

    /// The private half of `vkey`, if it is at hand.
    pub fn get(&self, vkey: &Vkey) -> Option<&Arc<Skey>> {
        self.all().find(|key| key.vkey() == vkey)
    }

    /// All of them, for a thread that signs beside us.
    pub(in crate::sidecar) fn all(&self) -> impl Iterator<Item = &Arc<Skey>> {
        std::iter::once(&self.main).chain(&self.beside)
    }

    /// The key that lies in the key file.
    pub(in crate::sidecar) fn main(&self) -> &Skey {
        &self.main
    }

    /// The key the log can be given to: one that is at hand and that the log does not know (`is_known`), which a change
    /// that was cut short has left, else one made of `seed`. Durable on return.
    ///
    /// # Errors
    /// `InMemory`; `Linked` where the key file is kept elsewhere; `File` where it cannot be written.
    pub(in crate::sidecar) fn next(
        &mut self,
        is_known: impl Fn(&Vkey) -> bool,
        seed: &[u8; 32],
    ) -> Result<Arc<Skey>, SidecarError> {
        let file = self.file.clone().ok_or(HandoverError::InMemory)?;
        // What it leads to is not ours to replace, and the old key would stay there.
        if fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_symlink()) {
            return Err(HandoverError::Linked(file).into());
        }
        if let Some(left) = self.all().find(|key| !is_known(key.vkey())) {
            return Ok(Arc::clone(left));
        }
        let name = self.main.vkey().name().to_owned();
        let key = own("a key about to be made", Skey::from_seed(&name, seed))?;
        let path = path_of(&file, key.vkey());
        write_new(&path, key.to_pkcs8_pem().as_bytes(), 0o600)?;
        let key = Arc::new(key);
        self.beside.push(Arc::clone(&key));
        Ok(key)
    }

    /// The same, shared.
    pub(in crate::sidecar) fn main_shared(&self) -> &Arc<Skey> {
        &self.main
    }

    /// Brings the key file to `current`, the key of the log, and the file of public keys beside it to `log`, every key
    /// the log has named. Does nothing where they are so.
    ///
    /// # Errors
    /// `File`: the log can go on, because every key is still somewhere.
    pub(in crate::sidecar) fn settle(&mut self, current: &Vkey, log: &[Vkey]) -> Result<(), SidecarError> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        if self.main.vkey() != current {
            let Some(n) = self.beside.iter().position(|key| key.vkey() == current) else { return Ok(()) };
            let (old, new) = (path_of(&file, self.main.vkey()), path_of(&file, current));
            if !old.exists() {
                write_new(&old, self.main.to_pkcs8_pem().as_bytes(), 0o600)?;
            }
            fs::rename(&new, &file).map_err(SidecarError::file("replacing", &file))?;
            sync_dir(&file)?;
            let new = self.beside.remove(n);
            self.beside.push(std::mem::replace(&mut self.main, new));
        }
        publish(&file.with_extension("vkey"), log)
    }

    /// Whether there may be something new to wipe: true once for each pair of numbers.
    pub(in crate::sidecar) fn is_to_be_looked_at(&mut self, released: u64, keys: usize) -> bool {
        std::mem::replace(&mut self.looked_at, (released, keys)) != (released, keys)
    }

    /// Whether a key beside the key file is one of `past`: keys of the log whose time is over.
    pub(in crate::sidecar) fn holds_any(&self, past: &[Vkey]) -> bool {
        self.beside.iter().any(|key| past.contains(key.vkey()))
    }

    /// Destroys the private halves of `past`, as far as overwriting a file does: copies are beyond us.
    ///
    /// # Errors
    /// `File`: what could not be destroyed is kept, and may be tried again.
    pub(in crate::sidecar) fn wipe(&mut self, past: &[Vkey]) -> Result<(), SidecarError> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        while let Some(n) = self.beside.iter().position(|key| past.contains(key.vkey())) {
            let Some(key) = self.beside.get(n) else { break };
            wipe_file(&path_of(&file, key.vkey()))?;
            // The last copy in memory goes with whoever still signs with it.
            drop(self.beside.remove(n));
        }
        Ok(())
    }
}

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn path_of(file: &Path, vkey: &Vkey) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}", vkey.key_id_hex()));
    PathBuf::from(name)
}

/// Adds to a file of vkeys, one a line, those of `log` it lacks. What else is in it stays: it is what verifiers are
/// given, and may hold the recovery vkey.
fn publish(path: &Path, log: &[Vkey]) -> Result<(), SidecarError> {
    let known = match fs::read_to_string(path) {
        Ok(text) => text,
        // One that was never there is not missed, until there is more to say than the key file says.
        Err(e) if e.kind() == io::ErrorKind::NotFound && log.len() == 1 => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(SidecarError::file("reading", path)(e)),
    };
    let mut lines: Vec<String> =
        known.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let missing: Vec<String> = log.iter().map(ToString::to_string).filter(|vkey| !lines.contains(vkey)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    lines.extend(missing);
    let mut text = lines.join("\n");
    text.push('\n');
    write_new(path, text.as_bytes(), 0o644)
}

/// Puts a file in place, whole and durable, whatever was there.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SidecarError> {
    let temporary = path.with_extension("new");
    // One that a crash left may be half a key that nobody uses.
    if temporary.exists() {
        wipe_file(&temporary)?;
    }
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(SidecarError::file("writing", path))?;
    sync_dir(path)
}

fn wipe_file(path: &Path) -> Result<(), SidecarError> {
    let wipe = || {
        let length = usize::try_from(fs::metadata(path)?.len()).unwrap_or(0);
        let mut file = File::options().write(true).open(path)?;
        file.write_all(&vec![0; length])?;
        file.sync_all()?;
        fs::remove_file(path)
    };
    match wipe() {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(SidecarError::file("wiping", path)(e)),
        _ => sync_dir(path),
    }
}

fn sync_dir(file: &Path) -> Result<(), SidecarError> {
    let dir = directory(file);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SidecarError::file("syncing", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "example.com/test/keys";

    fn key(n: u8) -> Skey {
        Skey::from_seed(NAME, &[n; 32]).unwrap()
    }

    fn read(file: &Path) -> LogKeys {
        let key = |path: &Path| Skey::from_pkcs8_pem(NAME, &fs::read_to_string(path).unwrap()).unwrap();
        let beside = LogKeys::files_beside(file).unwrap();
        LogKeys::of_file(file, key(file), beside.iter().map(|path| key(path)).collect())
    }

    fn names(file: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory(file))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Every file of a handover, in order, is a state a crash may leave: from each the next open comes to the end.
    #[test]
    fn a_handover_cut_short_anywhere_keeps_both_keys_and_is_brought_to_its_end() {
        let (old, new) = (key(1).vkey().clone(), key(2).vkey().clone());
        let (of_old, of_new) = (format!("log.key.{}", old.key_id_hex()), format!("log.key.{}", new.key_id_hex()));
        let pem = |n: u8| key(n).to_pkcs8_pem().to_string();
        let states: [&[(&str, u8)]; 3] = [
            &[("log.key", 1), (&of_new, 2)],
            &[("log.key", 1), (&of_old, 1), (&of_new, 2)],
            &[("log.key", 2), (&of_old, 1)],
        ];
        for state in states {
            for current in [&old, &new] {
                let dir = tempfile::tempdir().unwrap();
                let file = dir.path().join("log.key");
                state.iter().for_each(|(name, n)| fs::write(dir.path().join(name), pem(*n)).unwrap());
                fs::write(dir.path().join("log.key.new"), "torn").unwrap();
                let mut keys = read(&file);
                assert!(keys.get(&old).is_some() && keys.get(&new).is_some(), "{state:?}");
                keys.settle(current, &[old.clone(), new.clone()]).unwrap();
                let again = read(&file);
                assert_eq!(
                    (again.main().vkey(), again.get(&old).is_some(), again.get(&new).is_some()),
                    (current, true, true)
                );
                let published = fs::read_to_string(dir.path().join("log.vkey")).unwrap();
                assert_eq!(published, format!("{old}\n{new}\n"));
            }
        }
    }

    #[test]
    fn the_next_key_is_made_once_and_a_wiped_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.key");
        fs::write(&file, key(1).to_pkcs8_pem().as_bytes()).unwrap();
        let mut keys = read(&file);
        let old = key(1).vkey().clone();
        let next = keys.next(|vkey| *vkey == old, &[2; 32]).unwrap();
        assert_eq!(next.vkey(), key(2).vkey());
        let mut keys = read(&file);
        assert_eq!(keys.next(|vkey| *vkey == old, &[3; 32]).unwrap().vkey(), next.vkey(), "what was made is taken");
        keys.settle(next.vkey(), &[old.clone(), next.vkey().clone()]).unwrap();
        assert!(keys.holds_any(std::slice::from_ref(&old)));
        keys.wipe(std::slice::from_ref(&old)).unwrap();
        assert!(keys.get(&old).is_none());
        assert_eq!(names(&file), ["log.key", "log.vkey"]);
        assert_eq!(read(&file).main().vkey(), next.vkey());
    }

    #[test]
    fn a_key_in_memory_hands_over_to_nobody_and_other_files_are_not_keys() {
        assert!(LogKeys::of(key(1)).next(|_| true, &[2; 32]).is_err());
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["log.key", "log.key.bak", "log.key.0123456", "log.key.0123456G", "log.key.0123ABCD", "x.key.01234567"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(LogKeys::files_beside(&dir.path().join("log.key")).unwrap().is_empty());
    }
}
