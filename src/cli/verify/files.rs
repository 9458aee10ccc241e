//! The files of an archive: a directory of `NNNNNN.*.car`, or CAR files given one by one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::Failure;
use crate::core::audit::{Archive, File, Report};
use crate::core::finding::Code;
use crate::core::rules::Fault;

/// Segments of one archive, at most: a segment every ten minutes for twenty years. A file of a higher number would make
/// every number below it a missing segment.
pub(super) const SEGMENTS_MAX: u64 = 1 << 20;
use crate::core::car::Limits;
use crate::core::segment::read::Proof;

/// Where each file is.
#[derive(Debug, Default)]
pub(in crate::cli) struct Files {
    paths: BTreeMap<(u64, File), PathBuf>,
    leftovers: Vec<String>,
    beyond: Vec<String>,
}

/// Segment and kind of a file name: six digits or more, then `.proof.car`, `.payload.car` or `.anchor.car`.
fn parse(name: &str) -> Option<(u64, File)> {
    let (digits, rest) = name.split_once('.')?;
    let file = match rest {
        "proof.car" => File::Proof,
        "payload.car" => File::Payload,
        "anchor.car" => File::Anchor,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    (digits == format!("{number:06}")).then_some((number, file))
}

/// The segments whose proof files are in a directory.
pub(in crate::cli) fn numbers_of(dir: &Path) -> Result<Vec<u64>, Failure> {
    let files = Files::of_dir(dir)?;
    let proofs = files.paths.into_keys().filter(|(_, file)| *file == File::Proof);
    Ok(proofs.map(|(segment, _)| segment).collect())
}

impl Files {
    /// All files of a directory. What ends in `.car` and has no name of an archive is left over.
    pub(in crate::cli) fn of_dir(dir: &Path) -> Result<Files, Failure> {
        let mut files = Files::default();
        let entries = fs::read_dir(dir).map_err(|e| Failure::file("reading", dir, &e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Failure::file("reading", dir, &e))?;
            files.take(entry.path());
        }
        Ok(files)
    }

    /// Files given one by one.
    pub(in crate::cli) fn of_files(paths: &[PathBuf]) -> Result<Files, Failure> {
        let mut files = Files::default();
        for path in paths {
            if !path.is_file() {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                return Err(Failure::file("reading", path, &missing));
            }
            files.take(path.clone());
        }
        if files.paths.is_empty() {
            return Err(Failure::usage("no file with the name of an archive").hint("like 000000.proof.car"));
        }
        Ok(files)
    }

    fn take(&mut self, path: PathBuf) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match parse(&name) {
            Some((segment, _)) if segment >= SEGMENTS_MAX => self.beyond.push(name),
            Some(key) => drop(self.paths.insert(key, path)),
            None if name.ends_with(".car") => self.leftovers.push(name),
            None => {}
        }
    }

    /// How many segments there are, those missing before the newest included.
    pub(in crate::cli) fn segments(&self) -> u64 {
        self.paths.keys().filter(|(_, file)| *file == File::Proof).map(|(segment, _)| segment + 1).max().unwrap_or(0)
    }

    /// Adds the CAR files that are no archive's, and those that are too many.
    pub(super) fn report(&self, report: &mut Report) {
        for name in &self.leftovers {
            let fault = Fault::of(Code::NonCanonical, name, "a file of the archive", "a name no archive has");
            report.add("blocks", None, fault);
        }
        for name in &self.beyond {
            let fault = Fault::of(Code::LimitExceeded, name, format!("a segment number below {SEGMENTS_MAX}"), name);
            report.add("blocks", None, fault);
        }
    }

    /// The first segment that should have a payload file and has none.
    pub(in crate::cli) fn payload_missing(&self) -> Option<u64> {
        let has_payload = |path: &PathBuf| {
            let proof = fs::File::open(path).ok().and_then(|file| Proof::open(file, Limits::default()).ok());
            proof.is_some_and(|proof| proof.seal().payload.is_some())
        };
        let mut proofs = self.paths.iter().filter(|((_, file), _)| *file == File::Proof);
        let is_missing = |segment: u64| !self.paths.contains_key(&(segment, File::Payload));
        proofs.find(|((segment, _), path)| is_missing(*segment) && has_payload(path)).map(|((segment, _), _)| *segment)
    }
}

impl Archive for Files {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        match self.paths.get(&(segment, file)) {
            Some(path) => Ok(Some(Box::new(fs::File::open(path)?))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_archive_and_no_others() {
        assert_eq!(parse("000000.proof.car"), Some((0, File::Proof)));
        assert_eq!(parse("1234567.payload.car"), Some((1_234_567, File::Payload)));
        for name in
            ["0.proof.car", "0000001.proof.car", "000000.car", "000000.proof.tmp", "proof.car", "00000x.proof.car"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
