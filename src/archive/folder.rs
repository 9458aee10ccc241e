//! A folder as a pinner: a mounted disk, a file share, a backup volume.
//!
//! A file appears under its name only whole, synced and never over another, but for an anchor that contains the older. The folder itself is not created: a volume
//! that is not mounted must not turn into files on the disk below. Not the local archive (`journal` writes that).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, CWD, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::anchor;
use super::car::{self, Fault};
use super::replica::{self, CarBlock};
use super::{Answer, CarFile, Contents, Network, PinError, Pinner, Receipt};
use crate::core::cid::Cid;
use crate::core::hash::Hash;

/// A target of kind `folder`.
#[derive(Clone, Debug)]
pub struct Folder {
    name: String,
    path: PathBuf,
    contents: Contents,
}

impl Folder {
    /// The target `[pin.NAME]` at `path`. Nothing is looked at yet.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, contents: Contents) -> Folder {
        Folder { name: name.into(), path: path.into(), contents }
    }

    /// Where a CAR of this name is kept.
    fn place(&self, car: &CarFile) -> PathBuf {
        self.path.join(car.name())
    }

    fn pin_blocking(&self, car: &CarFile) -> Result<Receipt, PinError> {
        car::check_own(car)?;
        let place = self.place(car);
        if !place.try_exists().map_err(|error| self.failed("look for", &place, &error))? {
            self.store(car, &place, rename_new).map_err(|error| self.failed("write", &place, &error))?;
        } else if anchor::supersedes(&car.path, &place) {
            self.store(car, &place, |from, to| fs::rename(from, to))
                .map_err(|error| self.failed("replace", &place, &error))?;
        }
        self.compare(car, &place)?;
        // Again for a file that was there: a crash may have come between its rename and the sync of the folder.
        self.sync(&place).map_err(|error| self.failed("sync", &place, &error))?;
        self.check_blocking(car)
    }

    /// Copies the file under a name nobody reads, makes it durable, then gives it its own name.
    fn store(&self, car: &CarFile, place: &Path, rename: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        let temporary = self.path.join(format!(".{}.{}.tmp", car.name(), car.root));
        let copied = copy(&car.path, &temporary).and_then(|()| rename(&temporary, place));
        if copied.is_err() {
            // Best effort: on a full disk the half copy is what fills it. The next try writes over it anyway.
            let _ = fs::remove_file(&temporary);
        }
        match copied {
            // Somebody else's file, or our own of another process: `compare` tells.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            copied => copied,
        }
    }

    /// Refuses a file that differs from ours, whatever it is.
    fn compare(&self, car: &CarFile, place: &Path) -> Result<(), PinError> {
        let expected = hash_file(&car.path).map_err(|error| car::own_unreadable(car, &error))?;
        let found = hash_file(place).map_err(|error| self.failed("read", place, &error))?;
        if expected == found {
            return Ok(());
        }
        Err(PinError::Occupied { target: self.name.clone(), path: place.to_owned(), expected, found })
    }

    fn sync(&self, place: &Path) -> io::Result<()> {
        let file = File::open(place)?;
        file.sync_all()?;
        File::open(&self.path)?.sync_all()?;
        // What is read next comes from the disk, not from the page cache that was just written. Advice only.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        Ok(())
    }

    fn check_blocking(&self, car: &CarFile) -> Result<Receipt, PinError> {
        let place = self.place(car);
        car::check(&place, car.root).map_err(|fault| match fault {
            Fault::Io(error) => self.failed("read back", &place, &error),
            Fault::Bytes(fault) => PinError::Tampered { target: self.name.clone(), fault },
        })
    }

    fn sample_blocking(&self, car: &CarFile, blocks: &[CarBlock]) -> Result<Vec<Cid>, PinError> {
        let place = self.place(car);
        let failed = |error: io::Error| self.failed("read back", &place, &error);
        let file = match File::open(&place) {
            // A folder that is not there has lost nothing; a file has.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.is_dir() => {
                return Ok(blocks.iter().map(|block| block.cid).collect());
            }
            opened => opened.map_err(failed)?,
        };
        let mut bad = Vec::new();
        for block in blocks {
            match replica::holds(&file, block) {
                Ok(true) => {}
                Ok(false) => bad.push(block.cid),
                // A sector that does not read is as lost as one that reads wrong.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => bad.push(block.cid),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(bad)
    }

    /// Sets another file of that name aside, durably, and pins again.
    fn repair_blocking(&self, car: &CarFile) -> Result<Receipt, PinError> {
        car::check_own(car)?;
        let place = self.place(car);
        let is_there = place.try_exists().map_err(|error| self.failed("look for", &place, &error))?;
        if is_there && self.check_blocking(car).is_err() {
            let aside = set_aside(&place).map_err(|error| self.failed("set aside", &place, &error))?;
            tracing::warn!(target_name = self.name, file = %aside.display(), "a damaged copy was set aside");
        }
        self.pin_blocking(car)
    }

    fn fetch_blocking(&self, car: &CarFile, into: &Path) -> Result<(), PinError> {
        self.check_blocking(car)?;
        let place = self.place(car);
        fs::copy(&place, into).map_err(|error| self.failed("copy", &place, &error))?;
        // The copy, not the file it was made of, is what will be used.
        match car::check(into, car.root) {
            Ok(_) => Ok(()),
            Err(Fault::Io(error)) => Err(self.failed("copy", &place, &error)),
            Err(Fault::Bytes(fault)) => Err(PinError::Tampered { target: self.name.clone(), fault }),
        }
    }

    fn unpin_blocking(&self, car: &CarFile) -> Result<(), PinError> {
        let place = self.place(car);
        match fs::remove_file(&place).and_then(|()| File::open(&self.path)?.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", &place, &error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, doing: &str, place: &Path, error: &io::Error) -> PinError {
        let folder = self.path.display();
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                format!("free or add space at {folder}; pinning goes on by itself")
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                format!("make {folder} writable for the user that runs pinfold")
            }
            io::ErrorKind::NotFound => format!("is {folder} mounted? pinfold does not create it"),
            _ => format!("look at the disk or share behind {folder}"),
        };
        let doing = format!("{doing} {}", place.display());
        PinError::Retry { target: self.name.clone(), doing, why: error.to_string(), hint }
    }

    /// Runs `work` where it may block.
    fn answer<'a, T: Send + 'static>(
        &self,
        car: &CarFile,
        work: impl FnOnce(&Folder, &CarFile) -> Result<T, PinError> + Send + 'static,
    ) -> Answer<'a, T> {
        let (folder, car) = (self.clone(), car.clone());
        Box::pin(async move {
            let target = folder.name.clone();
            let done = tokio::task::spawn_blocking(move || work(&folder, &car)).await;
            done.unwrap_or_else(|error| {
                let hint = "if this was not a shutdown, report it: it is a bug".to_owned();
                Err(PinError::Retry {
                    target,
                    doing: "work in the background".to_owned(),
                    why: error.to_string(),
                    hint,
                })
            })
        })
    }
}

impl Pinner for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn contents(&self) -> Contents {
        self.contents
    }

    fn network(&self) -> Network {
        Network::Private
    }

    fn pin<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt> {
        self.answer(car, Folder::pin_blocking)
    }

    fn check<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt> {
        self.answer(car, Folder::check_blocking)
    }

    fn sample<'a>(&'a self, car: &'a CarFile, blocks: &'a [CarBlock]) -> Answer<'a, Vec<Cid>> {
        let blocks = blocks.to_vec();
        self.answer(car, move |folder, car| folder.sample_blocking(car, &blocks))
    }

    fn repair<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt> {
        self.answer(car, Folder::repair_blocking)
    }

    fn fetch<'a>(&'a self, car: &'a CarFile, into: &'a Path) -> Answer<'a, ()> {
        let into = into.to_owned();
        self.answer(car, move |folder, car| folder.fetch_blocking(car, &into))
    }

    fn unpin<'a>(&'a self, car: &'a CarFile) -> Answer<'a, ()> {
        self.answer(car, Folder::unpin_blocking)
    }
}

/// Writes a whole, synced copy. An older half copy of the same name is written over.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = File::create(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

/// Renames, but never over something.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems do not know the flag. There two processes that pin different files under one name
        // at the same moment could still collide; the read back notices.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if to.try_exists()? => {
            Err(io::ErrorKind::AlreadyExists.into())
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// Gives a file another name in its folder, `NAME.damaged-N`, durably. No reader takes that for an archive's.
pub(super) fn set_aside(place: &Path) -> io::Result<PathBuf> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    for n in 1..=ASIDE_MAX {
        let aside = place.with_file_name(format!("{name}.damaged-{n}"));
        match rename_new(place, &aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            renamed => {
                renamed?;
                File::open(place.parent().unwrap_or(Path::new(".")))?.sync_all()?;
                return Ok(aside);
            }
        }
    }
    Err(io::Error::other(format!("{ASIDE_MAX} damaged copies stand there already")))
}

/// Damaged copies of one file that are kept. More of them is a disk to be replaced, not a file to be repaired.
const ASIDE_MAX: u32 = 100;

fn hash_file(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 17];
    loop {
        let filled = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..filled).filter(|bytes| !bytes.is_empty()) else {
            return Ok(Hash(hasher.finalize().into()));
        };
        hasher.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::segment::Anchor;

    const PROOF: &[u8] = include_bytes!("../../tests/vectors/pinfold-v1/log/000002.proof.car");

    struct Place {
        _dirs: [tempfile::TempDir; 2],
        car: CarFile,
        folder: Folder,
        kept: PathBuf,
    }

    fn place() -> Place {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let path = dirs[0].path().join("000002.proof.car");
        fs::write(&path, PROOF).unwrap();
        let root = Cid::from_bytes(&PROOF[14..50]).unwrap();
        let car = CarFile { path, root, bytes: PROOF.len() as u64 };
        let folder = Folder::new("vault", dirs[1].path(), Contents::ProofAndPayload);
        let kept = dirs[1].path().join("000002.proof.car");
        Place { _dirs: dirs, car, folder, kept }
    }

    #[tokio::test]
    async fn pinning_copies_the_file_and_twice_is_once() {
        let at = place();
        let first = at.folder.pin(&at.car).await.unwrap();
        assert_eq!(fs::read(&at.kept).unwrap(), PROOF);
        assert_eq!(at.folder.pin(&at.car).await.unwrap(), first);
        let names: Vec<_> = fs::read_dir(at.kept.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["000002.proof.car"], "no temporary file stays");
        fs::remove_file(&at.car.path).unwrap();
        assert_eq!(at.folder.check(&at.car).await.unwrap(), first, "the local file may be pruned");
        at.folder.unpin(&at.car).await.unwrap();
        at.folder.unpin(&at.car).await.unwrap();
        assert!(!at.kept.exists());
    }

    #[tokio::test]
    async fn a_half_copy_of_a_crash_is_written_over() {
        let at = place();
        let half = at.kept.with_file_name(format!(".000002.proof.car.{}.tmp", at.car.root));
        fs::write(&half, [0; 9]).unwrap();
        at.folder.pin(&at.car).await.unwrap();
        assert!(!half.exists());
    }

    #[tokio::test]
    async fn another_file_of_that_name_halts_and_stays() {
        let at = place();
        fs::write(&at.kept, b"another log").unwrap();
        let error = at.folder.pin(&at.car).await.unwrap_err();
        let PinError::Occupied { expected, found, .. } = &error else { panic!("{error}") };
        assert_eq!((*expected, *found), (Hash::of(PROOF), Hash::of(b"another log")));
        assert!(error.halts());
        assert_eq!(fs::read(&at.kept).unwrap(), b"another log");
    }

    #[tokio::test]
    async fn an_anchor_gives_way_to_a_newer_one_and_to_nothing_else() {
        let at = place();
        let seal = Cid::from_bytes(&PROOF[14..50]).unwrap();
        let car = |lines: &str, name: &str| {
            let anchor = Anchor { tsa: Vec::new(), seal, checkpoint: format!("note\n\n{lines}") };
            let path = at.car.path.with_file_name(name);
            fs::write(&path, anchor.to_car()).unwrap();
            CarFile { bytes: fs::metadata(&path).unwrap().len(), path, root: anchor.cid() }
        };
        let kept = at.kept.with_file_name("000002.anchor.car");
        at.folder.pin(&car("one\n", "000002.anchor.car")).await.unwrap();
        let newer = car("one\ntwo\n", "000002.anchor.car");
        at.folder.pin(&newer).await.unwrap();
        assert_eq!(fs::read(&kept).unwrap(), fs::read(&newer.path).unwrap());
        for other in ["one\n", "one\nthree\n", ""] {
            let error = at.folder.pin(&car(other, "000002.anchor.car")).await.unwrap_err();
            assert!(matches!(error, PinError::Occupied { .. }), "{other}: {error}");
        }
        car("one\ntwo\n", "000002.anchor.car");
        assert_eq!(fs::read(&kept).unwrap(), fs::read(&newer.path).unwrap(), "what was there stays");
        fs::write(&kept, b"no anchor").unwrap();
        assert!(matches!(at.folder.pin(&newer).await.unwrap_err(), PinError::Occupied { .. }));
    }

    #[tokio::test]
    async fn a_flipped_bit_in_the_kept_file_is_found_by_a_check() {
        let at = place();
        at.folder.pin(&at.car).await.unwrap();
        let mut kept = PROOF.to_vec();
        kept[10_000] ^= 1;
        fs::write(&at.kept, kept).unwrap();
        let error = at.folder.check(&at.car).await.unwrap_err();
        assert!(matches!(error, PinError::Tampered { .. }) && !error.halts(), "{error}");
    }

    #[tokio::test]
    async fn a_repair_sets_the_damaged_file_aside_and_a_sound_one_stays() {
        let at = place();
        let first = at.folder.pin(&at.car).await.unwrap();
        assert_eq!(at.folder.repair(&at.car).await.unwrap(), first);
        for n in 1..3 {
            fs::write(&at.kept, b"rot").unwrap();
            assert_eq!(at.folder.repair(&at.car).await.unwrap(), first);
            assert_eq!(fs::read(&at.kept).unwrap(), PROOF);
            let aside = at.kept.with_file_name(format!("000002.proof.car.damaged-{n}"));
            assert_eq!(fs::read(aside).unwrap(), b"rot");
        }
        fs::remove_file(&at.kept).unwrap();
        assert_eq!(at.folder.repair(&at.car).await.unwrap(), first, "a lost file comes back");
    }

    #[tokio::test]
    async fn our_own_damaged_file_is_never_copied() {
        for damage in [&PROOF[..PROOF.len() - 1], b"", &[PROOF, PROOF].concat()] {
            let at = place();
            fs::write(&at.car.path, damage).unwrap();
            let error = at.folder.pin(&at.car).await.unwrap_err();
            assert!(matches!(error, PinError::Local { .. }) && error.halts(), "{error}");
            assert!(!at.kept.exists());
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_not_created() {
        let at = place();
        fs::remove_dir(at.kept.parent().unwrap()).unwrap();
        let error = at.folder.pin(&at.car).await.unwrap_err();
        assert!(
            matches!(error, PinError::Retry { .. }) && error.hint().contains("mounted"),
            "{error}: {}",
            error.hint()
        );
        assert!(!at.kept.parent().unwrap().exists());
    }

    #[test]
    fn a_full_disk_and_a_read_only_one_say_what_to_do() {
        for (kind, words) in [(io::ErrorKind::StorageFull, "space"), (io::ErrorKind::ReadOnlyFilesystem, "writable")] {
            let error = place().folder.failed("write", Path::new("x"), &kind.into());
            assert!(error.hint().contains(words) && !error.halts());
        }
    }
}
