//! The files of an archive: a directory of `NNNNNN.*.car`, or CAR files given one by one.
//!
//! A directory is a snapshot: the segments it has when it is listed, and none that comes later, so that a running
//! sidecar is not chased. Whatever lies there may be hostile: only regular files are opened, names are bounded and not
//! believed, and reading ends when the caller's time is over.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::super::Failure;
use crate::core::audit::{Archive, File, Report};
use crate::core::car::Limits;
use crate::core::finding::{Code, Refused};
use crate::core::rules::Fault;
use crate::core::segment::read::Proof;

/// Segments of one archive, at most: a segment every ten minutes for twenty years. A file of a higher number would make
/// every number below it a missing segment.
pub(super) const SEGMENTS_MAX: u64 = 1 << 20;
/// Names of files that are no archive's, listed; more are counted.
const STRANGE_MAX: usize = 1000;

/// Where each file is.
#[derive(Debug)]
pub(in crate::cli) struct Files {
    place: Place,
    strange: Strange,
    patience: Option<Patience>,
}

#[derive(Debug)]
enum Place {
    /// For each segment which files of it the directory has: a byte, so that a folder of millions of files is nothing.
    Dir { dir: PathBuf, held: Vec<u8> },
    /// Files given one by one.
    Given(BTreeMap<(u64, File), PathBuf>),
}

/// When the caller's time is over.
#[derive(Clone, Copy, Debug)]
struct Patience {
    end: Instant,
    limit: Duration,
}

/// CAR files that are no file of an archive.
#[derive(Debug, Default)]
struct Strange {
    listed: Vec<(Code, String)>,
    /// Those not listed, of names no archive has and of numbers beyond the limit.
    more: [u64; 2],
}

impl Strange {
    fn add(&mut self, code: Code, name: String) {
        if self.listed.len() < STRANGE_MAX {
            self.listed.push((code, name));
        } else if let Some(more) = self.more.get_mut(usize::from(code == Code::LimitExceeded)) {
            *more += 1;
        }
    }
}

/// What the name of a file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Of(u64, File),
    /// A number beyond [`SEGMENTS_MAX`].
    Beyond,
    /// A CAR file under a name no archive has.
    Strange,
    /// Not ours to look at.
    Other,
}

impl Name {
    /// Six digits or more, then `.proof.car`, `.payload.car` or `.anchor.car`.
    fn parse(name: &str) -> Name {
        let known = || {
            let (digits, rest) = name.split_once('.')?;
            let file = match rest {
                "proof.car" => File::Proof,
                "payload.car" => File::Payload,
                "anchor.car" => File::Anchor,
                _ => return None,
            };
            let number: u64 = digits.parse().ok()?;
            (digits == format!("{number:06}")).then_some((number, file))
        };
        match known() {
            Some((segment, _)) if segment >= SEGMENTS_MAX => Name::Beyond,
            Some((segment, file)) => Name::Of(segment, file),
            None if name.ends_with(".car") => Name::Strange,
            None => Name::Other,
        }
    }
}

/// The file names of a directory. One that is not UTF-8 is shown as well as it can be, and is no archive's.
fn names(dir: &Path) -> Result<impl Iterator<Item = Result<String, Failure>>, Failure> {
    let failed = |error: io::Error| Failure::file("reading", dir, &error);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let dir = dir.to_owned();
    Ok(entries.map(move |entry| match entry {
        Ok(entry) => Ok(entry.file_name().to_string_lossy().into_owned()),
        Err(error) => Err(Failure::file("reading", &dir, &error)),
    }))
}

/// The segments whose proof files are in a directory.
pub(in crate::cli) fn numbers_of(dir: &Path) -> Result<Vec<u64>, Failure> {
    let files = Files::of_dir(dir)?;
    Ok((0..files.segments()).filter(|segment| files.has(*segment, File::Proof)).collect())
}

/// How many segments there must be where this file is: a payload is written before its proof, but after the proof of the
/// segment before; an anchor after its own. So an end whose proofs alone were removed is missing, and not the end.
fn implied(segment: u64, file: File) -> u64 {
    match file {
        File::Proof | File::Anchor => segment + 1,
        File::Payload => segment,
    }
}

fn bit(file: File) -> u8 {
    match file {
        File::Proof => 1,
        File::Payload => 2,
        File::Anchor => 4,
    }
}

impl Files {
    /// All files of a directory. It is listed twice: a writer names the payload first, then the proof, so that the
    /// second listing has the payload of every proof the first one saw.
    pub(in crate::cli) fn of_dir(dir: &Path) -> Result<Files, Failure> {
        let mut segments = 0;
        for name in names(dir)? {
            if let Name::Of(segment, file) = Name::parse(&name?) {
                segments = segments.max(implied(segment, file));
            }
        }
        let mut strange = Strange::default();
        let mut held = vec![0; usize::try_from(segments).unwrap_or(0)];
        for name in names(dir)? {
            let name = name?;
            match Name::parse(&name) {
                Name::Of(segment, file) => {
                    let held = usize::try_from(segment).ok().and_then(|segment| held.get_mut(segment));
                    held.into_iter().for_each(|held| *held |= bit(file));
                }
                Name::Beyond => strange.add(Code::LimitExceeded, name),
                Name::Strange => strange.add(Code::NonCanonical, name),
                Name::Other => {}
            }
        }
        Ok(Files { place: Place::Dir { dir: dir.to_owned(), held }, strange, patience: None })
    }

    /// Files given one by one.
    pub(in crate::cli) fn of_files(paths: &[PathBuf]) -> Result<Files, Failure> {
        let (mut given, mut strange) = (BTreeMap::new(), Strange::default());
        for path in paths {
            let meta = fs::metadata(path).map_err(|error| Failure::file("reading", path, &error))?;
            if !meta.is_file() {
                let hint = "a directory alone, or CAR files one by one";
                return Err(Failure::usage(format!("{}: not a regular file", path.display())).hint(hint));
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match Name::parse(&name) {
                Name::Of(segment, file) => {
                    if let Some(other) = given.insert((segment, file), path.clone()) {
                        let what = format!("{} and {}: both are {name}", other.display(), path.display());
                        return Err(Failure::usage(what).hint("verify one copy at a time"));
                    }
                }
                Name::Beyond => strange.add(Code::LimitExceeded, name),
                Name::Strange => strange.add(Code::NonCanonical, name),
                Name::Other => {}
            }
        }
        if given.is_empty() {
            return Err(Failure::usage("no file with the name of an archive").hint("like 000000.proof.car"));
        }
        Ok(Files { place: Place::Given(given), strange, patience: None })
    }

    /// Lets reading end after `limit`: what is not read by then is `limit-exceeded`.
    pub(super) fn within(self, limit: Option<Duration>) -> Files {
        let patience = limit.and_then(|limit| Some(Patience { end: Instant::now().checked_add(limit)?, limit }));
        Files { patience, ..self }
    }

    /// How many segments there are, those missing before the newest included.
    pub(in crate::cli) fn segments(&self) -> u64 {
        match &self.place {
            Place::Dir { held, .. } => held.len() as u64,
            Place::Given(given) => given.keys().map(|(segment, file)| implied(*segment, *file)).max().unwrap_or(0),
        }
    }

    fn has(&self, segment: u64, file: File) -> bool {
        self.path(segment, file).is_some()
    }

    fn path(&self, segment: u64, file: File) -> Option<PathBuf> {
        match &self.place {
            Place::Dir { dir, held } => {
                let held = usize::try_from(segment).ok().and_then(|segment| held.get(segment))?;
                let kind = match file {
                    File::Proof => "proof",
                    File::Payload => "payload",
                    File::Anchor => "anchor",
                };
                (held & bit(file) != 0).then(|| dir.join(format!("{segment:06}.{kind}.car")))
            }
            Place::Given(given) => given.get(&(segment, file)).cloned(),
        }
    }

    /// Adds the CAR files that are no archive's, and those that are too many.
    pub(super) fn report(&self, report: &mut Report) {
        let fault = |code: Code, name: &str| match code {
            Code::LimitExceeded => Fault::of(code, name, format!("a segment number below {SEGMENTS_MAX}"), name),
            _ => Fault::of(code, name, "a file of the archive", "a name no archive has"),
        };
        for (code, name) in &self.strange.listed {
            report.add("blocks", None, fault(*code, name));
        }
        for (code, more) in [Code::NonCanonical, Code::LimitExceeded].into_iter().zip(self.strange.more) {
            if more > 0 {
                report.add("blocks", None, fault(code, &format!("{more} more files")));
            }
        }
    }

    /// The first segment that should have a payload file and has none.
    pub(in crate::cli) fn payload_missing(&self) -> Option<u64> {
        let names_payload = |segment: u64| {
            let file = self.open(segment, File::Proof).ok().flatten();
            let proof = file.and_then(|file| Proof::open(file, Limits::default()).ok());
            proof.is_some_and(|proof| proof.seal().payload.is_some())
        };
        (0..self.segments()).find(|segment| !self.has(*segment, File::Payload) && names_payload(*segment))
    }
}

impl Archive for Files {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        let Some(path) = self.path(segment, file) else { return Ok(None) };
        self.patience.map_or(Ok(()), Patience::check)?;
        // A pipe would wait for its writer before it could be looked at.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        if !opened.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Some(match self.patience {
            Some(patience) => Box::new(Bounded { source: opened, patience }),
            None => Box::new(opened),
        }))
    }
}

/// A file that is read until the caller's time is over.
struct Bounded {
    source: fs::File,
    patience: Patience,
}

impl Patience {
    fn check(self) -> io::Result<()> {
        if Instant::now() < self.end {
            return Ok(());
        }
        let what = format!("not read within {:?} (--timeout)", self.limit);
        Err(io::Error::new(io::ErrorKind::TimedOut, Refused::new(Code::LimitExceeded, what)))
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patience.check()?;
        self.source.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_archive_and_no_others() {
        assert_eq!(Name::parse("000000.proof.car"), Name::Of(0, File::Proof));
        assert_eq!(Name::parse("1048575.payload.car"), Name::Of(1_048_575, File::Payload));
        assert_eq!(Name::parse("1048576.payload.car"), Name::Beyond);
        for name in
            ["0.proof.car", "0000001.proof.car", "000000.car", "proof.car", "00000x.proof.car", "+00001.proof.car"]
        {
            assert_eq!(Name::parse(name), Name::Strange, "{name}");
        }
        assert_eq!(Name::parse("000000.proof.tmp"), Name::Other);
    }

    #[test]
    fn names_beyond_what_is_listed_are_counted() {
        let mut strange = Strange::default();
        for n in 0..STRANGE_MAX + 5 {
            strange.add(if n % 2 == 0 { Code::NonCanonical } else { Code::LimitExceeded }, n.to_string());
        }
        assert_eq!((strange.listed.len(), strange.more), (STRANGE_MAX, [3, 2]));
    }
}
