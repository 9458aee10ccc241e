//! The frame files: the ciphertexts of the entries, appended and synced before the store names them.
//!
//! A frame may have 64 MiB, far beyond what the store syncs, and putting all of them here saves a fifth of the
//! bytes written. Nothing in here decides what is in the log: bytes behind the committed end are leftovers of
//! a commit that never happened. Layout: docs/journal.md, "Frame files".

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::files;

/// A file that has reached this is not continued. Pruning deletes whole files.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes gathered before they are written.
const CHUNK_BYTES: usize = 1024 * 1024;
/// A frame, at most: the format's limit for an entry.
pub(super) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A place in the frame files: the number of a file and a byte offset in it. Ordered as written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) offset: u64,
}

/// The directory of frame files, written by one owner, read by many.
#[derive(Debug)]
pub(super) struct Frames {
    dir: PathBuf,
    /// The file being continued, once one was opened.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    number: u32,
    file: File,
    /// Whether its name is durable.
    is_named: bool,
}

/// One commit's frames on their way to the disk, at explicit offsets: a failed write is simply written again.
pub(super) struct Writing<'a> {
    dir: &'a Path,
    open: &'a mut Open,
    path: PathBuf,
    written: u64,
    chunk: Vec<u8>,
}

impl Frames {
    pub(super) fn new(journal: &Path) -> Frames {
        Frames { dir: journal.join("frames"), open: None }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(dir: &Path, file: u32) -> PathBuf {
        dir.join(format!("{file:06}.frames"))
    }

    /// Starts a commit behind `end`, in a new file if that one is full.
    pub(super) fn begin(&mut self, end: Place) -> Result<Writing<'_>, JournalError> {
        let at = if end.offset >= FILE_BYTES { Place { file: end.file + 1, offset: 0 } } else { end };
        let path = Frames::path(&self.dir, at.file);
        let open = match self.open.take().filter(|open| open.number == at.file) {
            Some(open) => open,
            None => {
                let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
                let file = open.map_err(|e| JournalError::io("opening", &path, e))?;
                Open { number: at.file, file, is_named: false }
            }
        };
        let open = self.open.insert(open);
        Ok(Writing { dir: &self.dir, open, path, written: at.offset, chunk: Vec::new() })
    }

    /// Checks that the files hold what the store refers to, and makes durable what is there: after a kill the page
    /// cache may hold what the disk does not, and we go on from what we read.
    ///
    /// # Errors
    /// `Damaged` where a file the store refers to is missing or too short.
    pub(super) fn check(&self, first: u32, end: Place) -> Result<(), JournalError> {
        for number in first..=end.file {
            let path = Frames::path(&self.dir, number);
            let needed = if number == end.file { end.offset } else { 1 };
            let file = match File::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && needed == 0 => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(JournalError::damaged(path.display().to_string(), "a frame file", "none"));
                }
                other => other.map_err(|e| JournalError::io("opening", &path, e))?,
            };
            let len = file.metadata().map_err(|e| JournalError::io("reading", &path, e))?.len();
            if len < needed {
                let (expected, found) = (format!("at least {needed} bytes"), format!("{len}"));
                return Err(JournalError::damaged(path.display().to_string(), expected, found));
            }
            file.sync_all().map_err(|e| JournalError::io("syncing", &path, e))?;
        }
        files::sync_dir(&self.dir)
    }

    /// Removes leftovers: files the store does not refer to, and bytes behind `end`. Only after every other check of
    /// the journal, because to a store that was rolled back committed frames look like leftovers.
    pub(super) fn cut(&mut self, first: u32, end: Place) -> Result<(), JournalError> {
        self.open = None;
        let list = fs::read_dir(&self.dir).map_err(|e| JournalError::io("reading", &self.dir, e))?;
        for item in list {
            let path = item.map_err(|e| JournalError::io("reading", &self.dir, e))?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".frames")?.parse::<u32>().ok());
            if number.is_none_or(|number| number < first || number > end.file) {
                fs::remove_file(&path).map_err(|e| JournalError::io("removing", &path, e))?;
            }
        }
        let path = Frames::path(&self.dir, end.file);
        let cut = match OpenOptions::new().write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|file| file.set_len(end.offset).and_then(|()| file.sync_all())),
        };
        cut.map_err(|e| JournalError::io("cutting leftovers of", &path, e))
    }

    /// Deletes the files before `first`, which nothing refers to.
    pub(super) fn drop_before(&self, first: u32, mut from: u32) -> Result<(), JournalError> {
        while from < first {
            let path = Frames::path(&self.dir, from);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(JournalError::io("removing", &path, e)),
                _ => from += 1,
            }
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// Where the next frame will lie.
    pub(super) fn place(&self) -> Place {
        Place { file: self.open.number, offset: self.written + self.chunk.len() as u64 }
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, frame: &[u8]) -> Result<(), JournalError> {
        self.chunk.extend(u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.chunk.extend_from_slice(frame);
        if self.chunk.len() >= CHUNK_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), JournalError> {
        let wrote = self.open.file.write_all_at(&self.chunk, self.written);
        wrote.map_err(|e| JournalError::io("writing", &self.path, e))?;
        self.written += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    /// Writes what is left. Still not durable: [`Writing::sync`] is.
    pub(super) fn finish(&mut self) -> Result<Place, JournalError> {
        self.write()?;
        Ok(self.place())
    }

    /// Makes the frames durable. After an error nobody knows what is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        self.open.file.sync_data().map_err(|e| JournalError::io("syncing", &self.path, e))?;
        if !self.open.is_named {
            files::sync_dir(self.dir)?;
            self.open.is_named = true;
        }
        Ok(())
    }
}

/// Reads frames one after the other, from one file at a time.
#[derive(Debug)]
pub(super) struct Reading {
    dir: PathBuf,
    open: Option<(u32, BufReader<File>)>,
    offset: u64,
}

impl Reading {
    pub(super) fn new(dir: PathBuf) -> Reading {
        Reading { dir, open: None, offset: 0 }
    }

    /// Goes to `place`. Costs nothing where the last frame ended there.
    pub(super) fn seek(&mut self, place: Place) -> Result<(), JournalError> {
        let path = Frames::path(&self.dir, place.file);
        let io = |e| JournalError::io("reading", &path, e);
        match &mut self.open {
            Some((number, file)) if *number == place.file => {
                if self.offset != place.offset {
                    file.seek(SeekFrom::Start(place.offset)).map_err(io)?;
                }
            }
            open => {
                let mut file = BufReader::with_capacity(256 * 1024, File::open(&path).map_err(io)?);
                file.seek(SeekFrom::Start(place.offset)).map_err(io)?;
                *open = Some((place.file, file));
            }
        }
        self.offset = place.offset;
        Ok(())
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> Result<Vec<u8>, JournalError> {
        let len = self.head()?;
        let mut frame = vec![0; len];
        self.read(|file| file.read_exact(&mut frame))?;
        self.offset += len as u64;
        Ok(frame)
    }

    /// Passes over the next frame.
    pub(super) fn skip(&mut self) -> Result<(), JournalError> {
        let len = self.head()?;
        self.read(|file| file.seek_relative(i64::try_from(len).unwrap_or(i64::MAX)))?;
        self.offset += len as u64;
        Ok(())
    }

    fn head(&mut self) -> Result<usize, JournalError> {
        let mut head = [0; 4];
        self.read(|file| file.read_exact(&mut head))?;
        let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if len > FRAME_BYTES_MAX {
            return Err(self.damaged(format!("a frame of {len} bytes")));
        }
        self.offset += 4;
        Ok(len)
    }

    fn read(&mut self, read: impl FnOnce(&mut BufReader<File>) -> io::Result<()>) -> Result<(), JournalError> {
        let Some((number, file)) = &mut self.open else { return Err(self.damaged("no file".to_owned())) };
        match read(file) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("its end".to_owned())),
            Err(e) => Err(JournalError::io("reading", &Frames::path(&self.dir, *number), e)),
        }
    }

    fn damaged(&self, found: String) -> JournalError {
        let number = self.open.as_ref().map_or(0, |(number, _)| *number);
        let place = format!("{} at {}", Frames::path(&self.dir, number).display(), self.offset);
        JournalError::damaged(place, "a frame", found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(frames: &mut Frames, end: Place, list: &[&[u8]]) -> Place {
        let mut writing = frames.begin(end).unwrap();
        list.iter().for_each(|frame| writing.push(frame).unwrap());
        let end = writing.finish().unwrap();
        writing.sync().unwrap();
        end
    }

    fn fresh() -> (tempfile::TempDir, Frames) {
        let dir = tempfile::tempdir().unwrap();
        let frames = Frames::new(dir.path());
        fs::create_dir(frames.dir()).unwrap();
        (dir, frames)
    }

    #[test]
    fn frames_of_every_size_are_read_back_and_passed_over() {
        let (_dir, mut frames) = fresh();
        let large = vec![7; 3 * CHUNK_BYTES];
        let mid = write(&mut frames, Place::default(), &[b"a", &large, b""]);
        write(&mut frames, mid, &[b"last"]);
        let mut reading = Reading::new(frames.dir().to_owned());
        reading.seek(Place::default()).unwrap();
        assert_eq!(reading.next().unwrap(), b"a");
        assert_eq!(reading.next().unwrap(), large);
        assert_eq!(reading.next().unwrap(), b"");
        assert_eq!(reading.next().unwrap(), b"last");
        assert!(matches!(reading.next(), Err(JournalError::Damaged { .. })));
        reading.seek(Place::default()).unwrap();
        (0..3).for_each(|_| reading.skip().unwrap());
        assert_eq!(reading.next().unwrap(), b"last");
    }

    #[test]
    fn a_full_file_is_not_continued() {
        let (_dir, mut frames) = fresh();
        let end = write(&mut frames, Place::default(), &[&vec![1; 16 * CHUNK_BYTES]]);
        assert_eq!(end.file, 0);
        assert_eq!(write(&mut frames, end, &[b"x"]), Place { file: 1, offset: 5 });
    }

    #[test]
    fn leftovers_go_and_missing_bytes_are_refused() {
        let (_dir, mut frames) = fresh();
        let end = write(&mut frames, Place::default(), &[b"committed"]);
        write(&mut frames, end, &[b"leftover"]);
        fs::write(Frames::path(frames.dir(), 9), b"leftover").unwrap();
        frames.check(0, end).unwrap();
        frames.cut(0, end).unwrap();
        assert_eq!(fs::metadata(Frames::path(frames.dir(), 0)).unwrap().len(), end.offset);
        assert!(!Frames::path(frames.dir(), 9).exists());
        let more = Place { offset: end.offset + 1, ..end };
        assert!(matches!(frames.check(0, more), Err(JournalError::Damaged { .. })));
        fs::remove_file(Frames::path(frames.dir(), 0)).unwrap();
        assert!(matches!(frames.check(0, end), Err(JournalError::Damaged { .. })));
    }
}
