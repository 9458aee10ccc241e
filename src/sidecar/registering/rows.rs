//! The rows of a segment, made beside the loop: read from the archive, opened, folded and registered in windows, so that
//! no segment is held whole.
//!
//! The keys of people are the loop's to give, and it gives them between two steps; so some windows are read ahead and
//! wait for theirs while one is registered. A log's fold has no way back, and a registry may fail: the fold goes on only
//! with the copy that the registry's answer is for.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::Answer;
use super::keys::{Ask, Given};
use super::passed;
use crate::core::leaf::LeafView;
use crate::core::origin::Origin;
use crate::core::rows::{Fold, FoldError, Sealed, SegmentRows};
use crate::core::time::Timestamp;
use crate::journal::SealRow;
use crate::keyring::{KeyringError, SubjectRef};
use crate::proto::v1::OperatorPart;
use crate::registry::{Receipt, Registrar, RegistryError};
use crate::sidecar::error::SidecarError;
use crate::sidecar::reader::{Reader, decode, first_part};
use crate::sidecar::stored::{Reading, StoredEntry};
use crate::sidecar::writer::own;

/// A window ends with so many entries, bytes, or people whose keys it needs, whichever comes first.
const WINDOW_ENTRIES: usize = 4_000;
const WINDOW_BYTES: usize = 4 << 20;
const WINDOW_PEOPLE: usize = 16_384;
/// Windows that wait for their keys.
const WINDOWS_AHEAD: usize = 3;

/// The fold of a log's first segments.
#[derive(Clone)]
pub(super) struct Folded {
    fold: Fold,
    pub(super) segments: u64,
}

impl Folded {
    /// Of none.
    pub(super) fn new(origin: &Origin) -> Folded {
        Folded { fold: Fold::new(origin), segments: 0 }
    }
}

/// What one segment's registration needs.
pub(super) struct Work {
    pub(super) archive: PathBuf,
    /// The segments before it that this process has not folded yet.
    pub(super) earlier: Vec<SealRow>,
    pub(super) row: SealRow,
    pub(super) sealed_at: Timestamp,
    pub(super) registered_at: Timestamp,
    pub(super) request: Uuid,
    pub(super) reader: Reader,
    /// The operator's keys of all epochs.
    pub(super) operator: Given,
    /// Where keys of people are asked for.
    pub(super) asks: Sender<Answer>,
}

/// Entries that are read, and wait for their keys.
struct Window {
    entries: Vec<(StoredEntry, Option<Body>)>,
    keys: Receiver<Result<Given, KeyringError>>,
}

type Body = Zeroizing<Vec<u8>>;

impl Work {
    /// Registers the segment; all but its fence. `folded` takes in the segments before it; the fold with this one comes
    /// beside the receipt. Blocks.
    ///
    /// # Errors
    /// Those of the registry and the keyring; a halt where the archive is not what the journal says.
    pub(super) fn register(
        mut self,
        folded: &mut Folded,
        registrar: &dyn Registrar,
    ) -> Result<(Receipt, Folded), SidecarError> {
        if !self.earlier.is_empty() {
            // What fails halfway is of no use: the fold stays what it was.
            let mut fold = folded.fold.clone();
            passed::pass(&mut fold, &self.archive, &self.earlier, &mut self.reader, &mut self.operator)?;
            *folded = Folded { fold, segments: self.row.segment };
        }
        let mut ahead = folded.clone();
        let receipt = self.send(&mut ahead.fold, registrar)?;
        ahead.segments += 1;
        Ok((receipt, ahead))
    }

    fn send(&mut self, fold: &mut Fold, registrar: &dyn Registrar) -> Result<Receipt, SidecarError> {
        let mut reading = Reading::open(&self.archive, &self.row)?;
        let seal = reading.seal().clone();
        let sealed = Sealed {
            cid: self.row.seal,
            seal: &seal,
            proof_bytes: reading.proof_bytes,
            payload_bytes: reading.payload_bytes,
            sealed_at: Some(self.sealed_at),
            registered_at: Some(self.registered_at),
        };
        let mut rows = fold.begin(&sealed).map_err(told)?;
        let receipt = registrar.begin_segment(&rows.segment, self.request)?;
        let mut windows = VecDeque::new();
        loop {
            while windows.len() <= WINDOWS_AHEAD
                && let Some(window) = self.read(&mut reading, registrar)?
            {
                windows.push_back(window);
            }
            let Some(window) = windows.pop_front() else { break };
            self.fold(fold, window, &mut rows, registrar)?;
            // Entries before the first time a log states get that time, so they wait for it.
            if rows.entries.last().is_some_and(|entry| entry.recorded_at > Timestamp(0)) {
                registrar.register_entries(&Fold::take_entries(&mut rows), self.request)?;
            }
        }
        registrar.register_entries(&Fold::take_entries(&mut rows), self.request)?;
        fold.end(&sealed, &mut rows).map_err(told)?;
        for segment in &rows.anchored {
            rows.anchors.extend(super::anchors::rows_of(&self.archive, *segment)?);
        }
        registrar.end_segment(&rows, self.request)?;
        Ok(receipt)
    }

    /// Reads the next window and asks for its keys; `None` at the end.
    fn read(&mut self, reading: &mut Reading, registrar: &dyn Registrar) -> Result<Option<Window>, SidecarError> {
        let (reply, keys) = channel();
        let (mut ask, mut entries, mut bytes) = (Ask::new(reply), Vec::new(), 0);
        while entries.len() < WINDOW_ENTRIES && bytes < WINDOW_BYTES && ask.people.len() < WINDOW_PEOPLE {
            let Some(entry) = reading.next()? else { break };
            bytes += entry.leaf.len() + entry.frames.iter().map(Vec::len).sum::<usize>();
            let operator = self.open_operator(&entry, &mut ask)?;
            entries.push((entry, operator));
        }
        if entries.is_empty() {
            return Ok(None);
        }
        self.asks.send(Answer::Asked(ask)).map_err(|_| gone(registrar))?;
        Ok(Some(Window { entries, keys }))
    }

    /// Opens the operator part of an entry, and adds the keys of the people it names to what is asked for.
    fn open_operator(&mut self, entry: &StoredEntry, ask: &mut Ask) -> Result<Option<Body>, SidecarError> {
        let view = own("a leaf of the archive", LeafView::decode(&entry.leaf))?;
        let Some((part, frame)) = first_part(&view, &entry.frames).filter(|_| matches!(view.kind, 0 | 4)) else {
            return Ok(None);
        };
        let Some(body) = self.reader.operator_body(&mut self.operator, view.seq, part, frame)? else {
            return Ok(None);
        };
        let operator: OperatorPart = own("an operator part", decode(&body))?;
        for key in &operator.keys {
            if let Ok(person) = <[u8; 16]>::try_from(key.subject_ref.as_slice()) {
                ask.people.insert((SubjectRef(person), key.class));
                ask.epochs.insert((key.class, self.reader.epoch_at(view.seq)));
            }
        }
        Ok(Some(body))
    }

    fn fold(
        &mut self,
        fold: &mut Fold,
        window: Window,
        rows: &mut SegmentRows,
        registrar: &dyn Registrar,
    ) -> Result<(), SidecarError> {
        let mut keys = window.keys.recv().map_err(|_| gone(registrar))??;
        for (entry, mut operator) in window.entries {
            let StoredEntry { leaf, frames } = &entry;
            let opened = fold.leaf(leaf, rows, |wanted| match wanted.key {
                None => Ok(operator.take()),
                Some(key) => match usize::try_from(wanted.part).ok().and_then(|part| frames.get(part)) {
                    Some(frame) => self.reader.personal(&mut keys, wanted.seq, wanted.part, key, wanted.sealed, frame),
                    None => Ok(None),
                },
            });
            opened.map_err(told)?;
        }
        Ok(())
    }
}

/// What a fold that failed means.
pub(super) fn told(error: FoldError<SidecarError>) -> SidecarError {
    match error {
        FoldError::Part { source, .. } => source,
        FoldError::Refused { refused, .. } => SidecarError::Own { doing: "the rows of a segment", refused },
    }
}

/// The loop has ended, and nobody hears this.
fn gone(registrar: &dyn Registrar) -> SidecarError {
    let (registry, doing) = (registrar.name().to_owned(), "asking for keys".to_owned());
    RegistryError::Retry { registry, doing, what: "the loop has ended".to_owned() }.into()
}
