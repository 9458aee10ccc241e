//! The files of a segment in the archive folder, and how they are made durable.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::core::segment::build::{Built, Spools};
use crate::sidecar::error::SidecarError;

/// The files of a segment, as the archive folder names them.
#[derive(Clone, Debug)]
pub struct Files {
    /// Leaves and seal.
    pub proof: PathBuf,
    /// Frames; there is none where no entry has parts.
    pub payload: PathBuf,
    /// Cosignatures and time stamps; there is none before they are had.
    pub anchor: PathBuf,
}

impl Files {
    /// The names of `segment` in `dir`.
    pub fn of(dir: &Path, segment: u64) -> Files {
        let name = |what: &str| dir.join(format!("{segment:06}.{what}.car"));
        Files { proof: name("proof"), payload: name("payload"), anchor: name("anchor") }
    }
}

/// Where blocks lie until the CAR files are written: files without names, so that none outlives this process.
pub(super) fn spools(dir: &Path) -> Result<Spools<BufWriter<File>>, SidecarError> {
    Ok(Spools { pages: spool(dir, "pages")?, frame_pages: spool(dir, "frame-pages")?, raw: spool(dir, "raw")? })
}

fn spool(dir: &Path, what: &str) -> Result<BufWriter<File>, SidecarError> {
    let path = dir.join(format!(".{what}.spool"));
    let open = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = open.map_err(SidecarError::file("making", &path))?;
    std::fs::remove_file(&path).map_err(SidecarError::file("unnaming", &path))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

/// Writes the CAR files and makes them durable under their names.
///
/// # Errors
/// `File` where the disk fails: the same segment may be written again.
pub(super) fn write(built: &mut Built<BufWriter<File>>, files: &Files) -> Result<(), SidecarError> {
    let rewind = |spool: &mut BufWriter<File>| -> io::Result<BufReader<File>> {
        spool.flush()?;
        let mut file = spool.get_ref().try_clone()?;
        file.rewind()?;
        Ok(BufReader::new(file))
    };
    let read = |spool| rewind(spool).map_err(SidecarError::file("reading", &files.proof));
    let spools = &mut built.spools;
    let (pages, frame_pages, raw) = (read(&mut spools.pages)?, read(&mut spools.frame_pages)?, read(&mut spools.raw)?);
    // The payload first: a proof without its payload would be a segment with a piece missing to whoever looks.
    durable(&files.payload, |out| built.write_payload(frame_pages, raw, out).map(|bytes| bytes.is_some()))?;
    durable(&files.proof, |out| built.write_proof(pages, out).map(|_| true))
}

/// Writes an anchor file over an older one, if there is one, and makes it durable.
///
/// # Errors
/// `File` where the disk fails: the older one is still there.
pub(in crate::sidecar) fn write_anchor(path: &Path, car: &[u8]) -> Result<(), SidecarError> {
    durable(path, |out| out.write_all(car).map(|()| true))
}

/// Writes a file under a temporary name, syncs it, gives it its name, and syncs the directory. `write` says whether
/// there is anything to keep; if not, a file of that name is removed.
fn durable(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<bool>) -> Result<(), SidecarError> {
    let temporary = path.with_extension("tmp");
    let open = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let mut out = BufWriter::with_capacity(1 << 20, open.map_err(SidecarError::file("making", &temporary))?);
    let keep = write(&mut out)
        .and_then(|keep| out.flush().map(|()| keep))
        .map_err(SidecarError::file("writing", &temporary))?;
    if keep {
        out.get_ref().sync_all().map_err(SidecarError::file("syncing", &temporary))?;
        std::fs::rename(&temporary, path).map_err(SidecarError::file("naming", path))?;
    } else {
        std::fs::remove_file(&temporary).map_err(SidecarError::file("removing", &temporary))?;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(SidecarError::file("removing", path)(e)),
            _ => {}
        }
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SidecarError::file("syncing", dir))
}
