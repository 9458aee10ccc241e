//! Handing the log over to another key: rotation by the old key, revocation by the recovery key (kind 8).
//!
//! The new key is durable before the entry that names it; the entry's own commit is the first thing it signs; the key
//! file follows, and an open that finds it lagging ends the work (`logkeys`). The old key stays until a pin target holds
//! the segment with the entry: before that the archive may be all that is left, and it still ends under the old key.
//!
//! A revocation vouches for the last seal, so while one is prepared nothing is sealed and intake is paused: what the
//! stolen key signed in between would be refused with what the thief signed. Which key counts is not decided here: that
//! is the rules'. Spec: format.md, "Tree, checkpoint, keys".

mod logkeys;
mod view;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use logkeys::LogKeys;
pub use view::KeyView;

use super::Sidecar;
use super::error::SidecarError;
use super::writer::{Writer, own};
use crate::core::checkpoint::Head;
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use crate::core::keychange::{KeyChange, Revocation, Rotation, Standing};
use crate::core::leaf::{Body, KeyStep};
use crate::core::note::{Note, Vkey};
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;

/// The row of a revocation that was prepared.
const ROW_PREPARED: &str = "revocation";
/// The segment after a change of key reaches its entry, if that is within so many entries: all that a segment holds.
/// After a revocation it is, because intake is paused.
const REACH: u64 = 65_536;

/// Why the log is not handed over. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The key is not in a file.
    #[error("the log's key is in no file: it can be handed over to nobody")]
    InMemory,
    /// The key file is a link.
    #[error("key file {}: a link: the key is kept elsewhere, and would stay there", .0.display())]
    Linked(PathBuf),
    /// A revocation was prepared, and nothing may be signed with the old key meanwhile.
    #[error("a revocation is prepared: nothing is sealed with the key it revokes")]
    Prepared,
    /// None was.
    #[error("no revocation is prepared")]
    NotPrepared,
    /// Entries wait that no segment can end with.
    #[error("entries wait that cannot be sealed yet: a declared gap is not reached")]
    Unsealed,
    /// The note is of another text than was prepared.
    #[error("the note is of another text than the one prepared, which vouches for size {0}")]
    OtherText(Size),
    /// The note is not the recovery key's.
    #[error("the revocation is not signed by the log's recovery key: {0}")]
    Note(Refused),
}

impl HandoverError {
    /// What a person does next.
    pub fn hint(&self) -> &'static str {
        match self {
            HandoverError::InMemory | HandoverError::Linked(_) => {
                "let log.key_file be a plain file in a directory the sidecar may write to"
            }
            HandoverError::Prepared => {
                "end it with `pinfold key revoke --note F`, or give it up with `pinfold key revoke --abandon`"
            }
            HandoverError::NotPrepared => "`pinfold key revoke --prepare F` writes the text to be signed",
            HandoverError::Unsealed => "let the source deliver on (`pinfold run`), then ask again",
            HandoverError::OtherText(_) | HandoverError::Note(_) => {
                "sign the text of `pinfold key revoke --prepare F` with the recovery key, and nothing else"
            }
        }
    }
}

/// A log that was handed over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HandedOver {
    /// The entry.
    pub seq: u64,
    /// `rotated` or `revoked`.
    pub step: &'static str,
    /// The vkey that ended.
    pub old: String,
    /// The vkey of every size beyond `seq`.
    pub new: String,
    /// The note of the entry. That of a revocation is to be published.
    pub note: String,
    /// Whether the private half of `old` is still on the disk: until the entry is pinned.
    pub holds_old: bool,
}

/// A revocation that waits for the recovery key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Prepared {
    size: u64,
    root: String,
    new: String,
}

impl Writer {
    /// The revocation that waits for the recovery key, if one does.
    fn prepared(&self) -> Result<Option<Prepared>, SidecarError> {
        let Some(row) = self.journal.row(ROW_PREPARED)? else { return Ok(None) };
        let damaged = || crate::journal::JournalError::Damaged {
            place: format!("row {ROW_PREPARED}"),
            expected: "a revocation that was prepared".to_owned(),
            found: format!("{} bytes", row.len()),
        };
        Ok(Some(serde_json::from_slice(&row).map_err(|_| damaged())?))
    }

    /// Takes up at open whether a revocation is prepared.
    pub(super) fn note_prepared(&mut self) -> Result<(), SidecarError> {
        self.is_revoking = self.prepared()?.is_some();
        Ok(())
    }

    fn revocation(&self, prepared: &Prepared) -> Result<Revocation, SidecarError> {
        let root: Hash = own("a prepared revocation", prepared.root.parse().map_err(|_| not_a("root")))?;
        let new: Vkey = own("a prepared revocation", prepared.new.parse())?;
        let vouched = Head { origin: self.origin().clone(), size: Size(prepared.size), root };
        Ok(Revocation { vouched, old: self.key().vkey().clone(), new })
    }

    /// The key the log can be given to; durable on return.
    fn next_key(&mut self) -> Result<Vkey, SidecarError> {
        let seed = zeroize::Zeroizing::new(self.random::<32>()?);
        let known: Vec<Vkey> = self.rules().keys().cloned().collect();
        Ok(self.keys.next(|vkey| known.contains(vkey), &seed)?.vkey().clone())
    }

    /// Appends the entry that gives the log to `new`; every head from here on is signed by that.
    fn hand_over(&mut self, step: KeyStep, note: &str, new: &Vkey) -> Result<Seq, SidecarError> {
        let key = self.keys.get(new).cloned().ok_or_else(|| SidecarError::OtherKey {
            expected: new.to_string(),
            found: self.key().vkey().to_string(),
        })?;
        let seq = self.push(Body::KeyChanged { note: note.to_owned(), step }, None, Vec::new())?;
        self.sign_with(key);
        Ok(seq)
    }

    /// From which size on the current key signs, and the keys before it.
    pub(super) fn key_spans(&self) -> Vec<(Size, Vkey)> {
        self.rules().key_spans().map(|(from, key)| (from, key.clone())).collect()
    }

    /// Brings the key files to the log. What the disk refuses is tried at the next start: both keys are there.
    pub(super) fn settle_key_files(&mut self) {
        let log: Vec<Vkey> = self.rules().keys().cloned().collect();
        let current = self.key().vkey().clone();
        if let Err(error) = self.keys.settle(&current, &log) {
            tracing::warn!(error = %error, "the key files lag behind the log; both keys are there");
        }
    }

    /// Where the next segment must not end before, so that a revocation's key signs it.
    pub(super) fn segment_reach(&self) -> Size {
        let sealed = self.journal.state().sealed.tree.size();
        let from = self.rules().key_spans().last().map_or(Size(0), |(from, _)| from);
        if from.0.saturating_sub(sealed.0) <= REACH { from } else { Size(0) }
    }
}

impl Sidecar {
    /// Gives the log to a new key, by the word of the old one (kind 8), and seals: the entry is the last thing that
    /// rests on both.
    ///
    /// # Errors
    /// `Handover` where it is refused; those of a commit.
    pub fn rotate_key(&mut self, now: Timestamp) -> Result<HandedOver, SidecarError> {
        self.halting(now, |sidecar| {
            sidecar.refuse_if_halted()?;
            sidecar.refuse_if_prepared()?;
            sidecar.seal_all(now)?;
            sidecar.catch_up()?;
            let new = sidecar.writer.next_key()?;
            let (old, origin) = (sidecar.writer.shared_key(), sidecar.writer.origin().clone());
            let seq = sidecar.writer.begin_entries()?;
            let rotation = Rotation { origin, seq, old: old.vkey().clone(), new: new.clone() };
            let key = sidecar.writer.keys.get(&new).cloned();
            let note = key.map(|key| rotation.sign(&old, &key)).unwrap_or_default();
            sidecar.writer.hand_over(KeyStep::Rotated, &note, &new)?;
            sidecar.finish_handover(seq, "rotated", old.vkey(), note, now)
        })
    }

    /// The text of a revocation for the recovery key to sign: it vouches for the last seal, made now. Until it comes
    /// back, or is given up, nothing is sealed and intake is paused; also after a restart.
    ///
    /// # Errors
    /// `Handover` where it is refused; those of a commit.
    pub fn prepare_revocation(&mut self, now: Timestamp) -> Result<String, SidecarError> {
        self.halting(now, |sidecar| {
            sidecar.refuse_if_halted()?;
            if let Some(prepared) = sidecar.writer.prepared()? {
                return Ok(sidecar.writer.revocation(&prepared)?.text());
            }
            sidecar.seal_all(now)?;
            sidecar.catch_up()?;
            if sidecar.has_waiting() {
                return Err(HandoverError::Unsealed.into());
            }
            let new = sidecar.writer.next_key()?.to_string();
            let tree = sidecar.writer.journal.state().sealed.tree.clone();
            let prepared = Prepared { size: tree.size().0, root: tree.root().to_string(), new };
            let text = sidecar.writer.revocation(&prepared)?.text();
            sidecar.writer.put_row(ROW_PREPARED, serde_json::to_vec(&prepared).ok());
            sidecar.writer.commit()?;
            sidecar.writer.note_prepared()?;
            Ok(text)
        })
    }

    /// Gives up a revocation that was prepared; false where none was.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn abandon_revocation(&mut self, now: Timestamp) -> Result<bool, SidecarError> {
        self.halting(now, |sidecar| {
            let was_prepared = sidecar.writer.prepared()?.is_some();
            sidecar.catch_up()?;
            sidecar.writer.put_row(ROW_PREPARED, None);
            sidecar.writer.commit()?;
            sidecar.writer.note_prepared()?;
            Ok(was_prepared)
        })
    }

    /// Takes the prepared text back as a note with the recovery key's line, adds that of the new key, and gives the log
    /// to it (kind 8).
    ///
    /// # Errors
    /// `Handover` where the note is not what was prepared, or not the recovery key's; those of a commit.
    pub fn revoke_key(&mut self, signed: &str, now: Timestamp) -> Result<HandedOver, SidecarError> {
        self.halting(now, |sidecar| {
            sidecar.refuse_if_halted()?;
            let prepared = sidecar.writer.prepared()?.ok_or(HandoverError::NotPrepared)?;
            let revocation = sidecar.writer.revocation(&prepared)?;
            sidecar.catch_up()?;
            let note = sidecar.countersign(signed, &revocation)?;
            let seq = sidecar.writer.begin_entries()?;
            let old = revocation.old.clone();
            sidecar.writer.put_row(ROW_PREPARED, None);
            sidecar.writer.hand_over(KeyStep::Revoked, &note, &revocation.new)?;
            sidecar.writer.is_revoking = false;
            sidecar.finish_handover(seq, "revoked", &old, note, now)
        })
    }

    /// The note of the entry: the recovery key's line and that of the new key.
    fn countersign(&self, signed: &str, revocation: &Revocation) -> Result<String, SidecarError> {
        let text = revocation.text();
        let parsed = Note::parse(signed).map_err(HandoverError::Note)?;
        if parsed.text != text {
            return Err(HandoverError::OtherText(revocation.vouched.size).into());
        }
        // Where the last line of an empty line apart stands, the lines of the note begin.
        let line =
            signed.get(text.len() + 1..).and_then(|lines| lines.split_inclusive('\n').next()).unwrap_or_default();
        let new = self.writer.keys.get(&revocation.new).ok_or_else(|| SidecarError::OtherKey {
            expected: revocation.new.to_string(),
            found: self.writer.key().vkey().to_string(),
        })?;
        let note = format!("{text}\n{line}{}", new.sign(&text));
        let rules = self.writer.rules();
        let standing = Standing {
            origin: Some(self.writer.origin()),
            seq: self.writer.size().next_seq(),
            current: rules.key(),
            recovery: rules.recovery(),
        };
        KeyChange::open(KeyStep::Revoked, &note, &standing).map_err(HandoverError::Note)?;
        Ok(note)
    }

    /// Makes the entry durable, then the key file, then a segment: what fails behind the entry is done again by the loop.
    fn finish_handover(
        &mut self,
        seq: Seq,
        step: &'static str,
        old: &Vkey,
        note: String,
        now: Timestamp,
    ) -> Result<HandedOver, SidecarError> {
        self.writer.commit()?;
        self.writer.settle_key_files();
        match self.seal_all(now) {
            Err(error) if error.is_halt() => return Err(error),
            Err(error) => tracing::warn!(error = %error, "not sealed under the new key yet"),
            Ok(()) => {}
        }
        self.retire_keys();
        let new = self.writer.key().vkey().to_string();
        tracing::info!(seq = seq.0, step, key_id = self.writer.key().vkey().key_id_hex(), "the log has another key");
        let holds_old = self.writer.keys.get(old).is_some();
        Ok(HandedOver { seq: seq.0, step, old: old.to_string(), new, note, holds_old })
    }

    /// Destroys the private keys of the past once the archive outside ends under a later one.
    pub(super) fn retire_keys(&mut self) {
        let spans = self.writer.key_spans();
        if spans.len() < 2 || self.writer.keys.main().vkey() != self.writer.key().vkey() {
            return;
        }
        let released = self.released();
        if !self.writer.keys.is_to_be_looked_at(released, spans.len()) {
            return;
        }
        let row = released.checked_sub(1).and_then(|last| self.writer.journal.seal(last).ok().flatten());
        let end = row.map_or(Size(0), |row| row.end());
        let pairs = spans.iter().zip(spans.iter().skip(1));
        let past: Vec<Vkey> = pairs.filter(|(_, (from, _))| *from <= end).map(|((_, old), _)| old.clone()).collect();
        if self.writer.keys.holds_any(&past)
            && let Err(error) = self.writer.keys.wipe(&past)
        {
            tracing::warn!(error = %error, "an old key is still on the disk; it is tried again after the next pin");
        }
    }

    /// Refuses while a revocation is prepared.
    ///
    /// # Errors
    /// `Handover`.
    pub fn refuse_if_prepared(&self) -> Result<(), SidecarError> {
        if self.writer.is_revoking { Err(HandoverError::Prepared.into()) } else { Ok(()) }
    }

    /// Seals what waits, as far as it can be.
    fn seal_all(&mut self, now: Timestamp) -> Result<(), SidecarError> {
        while self.has_waiting() && self.seal_and_wait(now)? {}
        Ok(())
    }

    /// Does `work`, and makes a halt it ends in durable.
    fn halting<T>(
        &mut self,
        now: Timestamp,
        work: impl FnOnce(&mut Sidecar) -> Result<T, SidecarError>,
    ) -> Result<T, SidecarError> {
        let done = work(self);
        if let Err(error) = &done
            && error.is_halt()
        {
            self.halt(error, now);
        }
        done
    }
}

fn not_a(what: &str) -> Refused {
    Refused::non_canonical(format!("prepared revocation: not a {what}"))
}
