//! Sealing: a range of entries becomes a segment in CAR files, then an outbox of what is to be done with it.
//!
//! Segments come from journal bytes only. The files are synced under their final names before the journal says that
//! they exist (commit point 2); files without such a row are of a sealing that a crash cut short, and are made anew.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Sidecar;
use super::error::SidecarError;
use super::outbox::Task;
use super::writer::Writer;
use crate::core::checkpoint::sign_checkpoint;
use crate::core::cid::Cid;
use crate::core::leaf::Body;
use crate::core::rules::LogRules;
use crate::core::segment::build::{Builder, Built, Spools, Start};
use crate::core::segment::skip_of;
use crate::core::seq::Size;
use crate::core::time::Timestamp;
use crate::journal::{self, SealRow};

impl Sidecar {
    /// Whether a segment is to be sealed. Our own entries never start the clock.
    pub(super) fn is_seal_due(&self, now: Timestamp) -> bool {
        let (waiting, settings) = (self.writer.waiting(), &self.settings);
        let age = waiting.oldest.map_or(0, |oldest| now.since(oldest));
        let size = self.writer.size().0 - self.writer.journal.state().sealed.tree.size().0;
        waiting.entries > 0
            && (size >= settings.entries_max
                || waiting.frame_bytes >= settings.bytes_max
                || (age >= settings.age_max && waiting.entries >= settings.entries_min)
                || age >= settings.age_limit)
    }

    /// Seals one segment of what waits, whatever its age; false where nothing does.
    ///
    /// # Errors
    /// As `step`.
    pub fn seal_now(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        let sealed = self.seal(now);
        if let Err(error) = &sealed
            && error.is_halt()
        {
            self.halt(error, now);
        }
        sealed
    }

    pub(super) fn seal(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        self.catch_up()?;
        if self.writer.waiting().entries == 0 && self.writer.size() <= self.writer.journal.state().sealed.tree.size() {
            return Ok(false);
        }
        for intake in &mut self.intakes {
            intake.confirm(&mut self.writer)?;
        }
        let at = self.writer.record_time(now)?;
        // Once a segment: a seal that a full disk stops is tried again and again.
        if self.observed_for != Some(self.writer.journal.state().sealed.segments) {
            let ends: Vec<_> = self.intakes.iter().flat_map(|intake| intake.ends(&self.writer)).collect();
            for ends in ends.chunks(400) {
                self.writer.push(Body::Observed { at, ends: ends.to_vec() }, None, Vec::new())?;
            }
            self.observed_for = Some(self.writer.journal.state().sealed.segments);
        }
        self.writer.commit()?;
        let tasks: Vec<Task> = self.pinning.tasks(at).chain(self.registering.tasks(at)).collect();
        let cut = Cut { entries_max: self.settings.entries_max, bytes_max: self.settings.bytes_max };
        let sealed = cut_segment(&mut self.writer, &self.settings.archive, cut, &tasks, at)?;
        if let Some(row) = &sealed {
            self.outbox.sealed(row.segment, &tasks);
            tracing::info!(segment = row.segment, entries = row.count, seal = %row.seal, "sealed");
        }
        Ok(sealed.is_some())
    }
}

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

/// How large a segment may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Entries, at most.
    pub(super) entries_max: u64,
    /// Frame bytes after which it ends.
    pub(super) bytes_max: u64,
}

/// Seals what is waiting, at most one segment, and commits it with its kind 5 entry and `tasks`, one outbox row each.
/// `None` where nothing waits.
///
/// # Errors
/// `Unsound` and the journal's own where our state is in doubt; `File` where the disk fails: it may be tried again.
fn cut_segment(
    writer: &mut Writer,
    dir: &Path,
    cut: Cut,
    tasks: &[Task],
    now: Timestamp,
) -> Result<Option<SealRow>, SidecarError> {
    let state = writer.journal.state();
    let sealed = &state.sealed;
    let first = sealed.tree.size();
    if state.size() <= first {
        return Ok(None);
    }
    let segment = sealed.segments;
    let seal_of = |segment: u64| Ok::<_, SidecarError>(writer.journal.seal(segment)?.map(|row| row.seal));
    let start = Start {
        origin: writer.origin().clone(),
        segment,
        prev_seal: segment.checked_sub(1).map(seal_of).transpose()?.flatten(),
        skip: if segment == 0 { None } else { seal_of(skip_of(segment))? },
        tree: sealed.tree.clone(),
        rules: writer.sealed_rules().clone(),
    };
    let built = build(writer, dir, start, cut, state.size())?;
    let files = Files::of(dir, segment);
    let written = write_files(built, &files)?;
    let Written { cid, payload_cid, count, rules, tree } = written;
    let row = SealRow { segment, first: first.next_seq(), count, root: tree.root(), seal: cid, payload: payload_cid };
    let at = writer.record_time(now)?;
    writer.push(Body::SegmentSealed { at, seal: cid, payload: payload_cid, segment }, None, Vec::new())?;
    for task in tasks {
        writer.put_outbox(segment, &task.name(), Some(task.encode()));
    }
    writer.set_sealed_rules(rules);
    writer.commit_with(Some(journal::Seal { row: row.clone(), tree }))?;
    writer.await_seal()?;
    Ok(Some(row))
}

/// What the files hold.
struct Written {
    cid: Cid,
    payload_cid: Option<Cid>,
    count: u64,
    rules: LogRules,
    tree: crate::core::merkle::Tree,
}

fn build(
    writer: &Writer,
    dir: &Path,
    start: Start,
    cut: Cut,
    size: Size,
) -> Result<Built<BufWriter<File>>, SidecarError> {
    let first = start.tree.size();
    let end = Size(size.0.min(first.0.saturating_add(cut.entries_max)));
    let spools =
        Spools { pages: spool(dir, "pages")?, frame_pages: spool(dir, "frame-pages")?, raw: spool(dir, "raw")? };
    let mut builder = Builder::new(start, spools);
    for entry in writer.journal.entries(first.next_seq(), end)? {
        let entry = entry?;
        let frames: Vec<&[u8]> = entry.frames.iter().map(Vec::as_slice).collect();
        builder.add(&entry.leaf, &frames)?;
        if builder.frame_bytes() >= cut.bytes_max && builder.may_end() {
            break;
        }
    }
    let unsigned = builder.finish()?;
    let checkpoint = sign_checkpoint(unsigned.head(), writer.key());
    Ok(unsigned.seal(checkpoint)?)
}

/// Writes the CAR files and makes them durable under their names.
fn write_files(mut built: Built<BufWriter<File>>, files: &Files) -> Result<Written, SidecarError> {
    let rewind = |spool: &mut BufWriter<File>| -> io::Result<File> {
        spool.flush()?;
        let mut file = spool.get_ref().try_clone()?;
        file.rewind()?;
        Ok(file)
    };
    let spools = &mut built.spools;
    let read = |spool: &mut BufWriter<File>| {
        rewind(spool).map(BufReader::new).map_err(SidecarError::file("reading", &files.proof))
    };
    let (pages, frame_pages, raw) = (read(&mut spools.pages)?, read(&mut spools.frame_pages)?, read(&mut spools.raw)?);
    // The payload first: a proof without its payload would be a segment with a piece missing to whoever looks.
    durable(&files.payload, |out| built.write_payload(frame_pages, raw, out).map(|bytes| bytes.is_some()))?;
    durable(&files.proof, |out| built.write_proof(pages, out).map(|_| true))?;
    Ok(Written {
        cid: built.cid,
        payload_cid: built.seal.payload,
        count: built.seal.count,
        rules: built.rules,
        tree: built.tree,
    })
}

/// A file without a name that outlives this process: blocks lie there until the CAR files are written.
fn spool(dir: &Path, what: &str) -> Result<BufWriter<File>, SidecarError> {
    let path = dir.join(format!(".{what}.spool"));
    let open = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = open.map_err(SidecarError::file("making", &path))?;
    std::fs::remove_file(&path).map_err(SidecarError::file("unnaming", &path))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
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
