//! Opening stored entries again: for counts, registry rows and `show`.
//!
//! Whoever holds the keyring can read; a key that is gone means erased or expired, which is an answer and no fault.

use prost::Message;
use zeroize::Zeroizing;

use super::error::SidecarError;
use super::writer::{OPERATOR, QUARANTINE, own};
use crate::core::hash::Hash;
use crate::core::leaf::{LeafView, PartRef};
use crate::core::part::{self, Key, Opened, Place, SealingKey, Zstd};
use crate::core::seq::Seq;
use crate::keyring::{Keyring, KeyringError, SubjectRef};
use crate::proto::{DICT_1, v1};

/// Who has keys: the keyring, or what it gave out for some entries.
pub trait Keys {
    /// The key of a class in an epoch; `None` where it has expired.
    ///
    /// # Errors
    /// Those of the keyring.
    fn epoch_key(&mut self, class: u32, epoch: u64) -> Result<Option<Key>, KeyringError>;

    /// The key of a person in a class; `None` where there is none any more.
    ///
    /// # Errors
    /// Those of the keyring.
    fn key_of(&mut self, subject: SubjectRef, class: u32) -> Result<Option<Key>, KeyringError>;
}

impl Keys for Keyring {
    fn epoch_key(&mut self, class: u32, epoch: u64) -> Result<Option<Key>, KeyringError> {
        Keyring::epoch_key(self, class, epoch)
    }

    fn key_of(&mut self, subject: SubjectRef, class: u32) -> Result<Option<Key>, KeyringError> {
        Keyring::key_of(self, subject, class)
    }
}

/// Opens parts of one log.
pub struct Reader {
    oid: Hash,
    zstd: Zstd,
    /// Where each epoch begins; the index is its number.
    epochs: Vec<Seq>,
    /// The extracted class 0 key of the epoch last asked for.
    operator: Option<(u64, SealingKey)>,
}

impl Reader {
    /// A reader of the log whose epochs begin at `epochs`.
    ///
    /// # Errors
    /// The dictionary of the format does not load: a fault of this build.
    pub fn new(oid: Hash, epochs: Vec<Seq>) -> Result<Reader, SidecarError> {
        let zstd = own("the dictionary of the format", Zstd::new(DICT_1))?;
        Ok(Reader { oid, zstd, epochs, operator: None })
    }

    /// Notes that the next epoch begins.
    pub fn begin_epoch(&mut self, seq: Seq) {
        self.epochs.push(seq);
    }

    /// Another reader of the same log, for another thread.
    ///
    /// # Errors
    /// As `new`.
    pub(super) fn sibling(&self) -> Result<Reader, SidecarError> {
        Reader::new(self.oid, self.epochs.clone())
    }

    /// The epoch of an entry.
    pub(super) fn epoch_at(&self, seq: Seq) -> u64 {
        let after = self.epochs.partition_point(|first| *first <= seq);
        u64::try_from(after.saturating_sub(1)).unwrap_or(0)
    }

    /// What the operator part of an entry says; `None` where its key has expired.
    ///
    /// # Errors
    /// A halt where the frame is not the one of the leaf.
    pub(super) fn operator(
        &mut self,
        keys: &mut impl Keys,
        seq: Seq,
        part: PartRef,
        frame: &[u8],
    ) -> Result<Option<v1::OperatorPart>, SidecarError> {
        let Some(body) = self.operator_body(keys, seq, part, frame)? else { return Ok(None) };
        own("an operator part", decode::<v1::OperatorPart>(&body)).map(Some)
    }

    /// The body of the operator part of an entry; `None` where its key has expired.
    ///
    /// # Errors
    /// A halt where the frame is not the one of the leaf.
    pub fn operator_body(
        &mut self,
        keys: &mut impl Keys,
        seq: Seq,
        part: PartRef,
        frame: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SidecarError> {
        Ok(self.operator_opened(keys, seq, 0, part, frame)?.map(|opened| opened.body))
    }

    /// What part `index` of an entry holds, sealed for the operator; `None` where its key has expired.
    ///
    /// # Errors
    /// A halt where the frame is not the one of the leaf.
    pub(super) fn operator_opened(
        &mut self,
        keys: &mut impl Keys,
        seq: Seq,
        index: u32,
        part: PartRef,
        frame: &[u8],
    ) -> Result<Option<Opened>, SidecarError> {
        let epoch = self.epoch_at(seq);
        let key = match &self.operator {
            Some((known, key)) if *known == epoch => key.clone(),
            _ => {
                let Some(key) = keys.epoch_key(OPERATOR, epoch)? else { return Ok(None) };
                let key = SealingKey::new(&key, None);
                self.operator = Some((epoch, key.clone()));
                key
            }
        };
        self.open(seq, index, &key, part, frame).map(Some)
    }

    /// What a part under a person's key holds; `None` where a key is gone.
    ///
    /// # Errors
    /// A halt where the frame is not the one of the leaf.
    pub fn personal(
        &mut self,
        keys: &mut impl Keys,
        seq: Seq,
        index: u32,
        named: &v1::PartKey,
        part: PartRef,
        frame: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, SidecarError> {
        Ok(self.personal_opened(keys, seq, index, named, part, frame)?.map(|opened| opened.body))
    }

    /// The same with the random value of its commitment.
    ///
    /// # Errors
    /// As `personal`.
    pub(super) fn personal_opened(
        &mut self,
        keys: &mut impl Keys,
        seq: Seq,
        index: u32,
        named: &v1::PartKey,
        part: PartRef,
        frame: &[u8],
    ) -> Result<Option<Opened>, SidecarError> {
        let Ok(subject) = <[u8; 16]>::try_from(named.subject_ref.as_slice()) else { return Ok(None) };
        let epoch = keys.epoch_key(named.class, self.epoch_at(seq))?;
        let subject = keys.key_of(SubjectRef(subject), named.class)?;
        let (Some(epoch), Some(subject)) = (epoch, subject) else { return Ok(None) };
        self.open(seq, index, &SealingKey::new(&epoch, Some(&subject)), part, frame).map(Some)
    }

    fn open(
        &mut self,
        seq: Seq,
        index: u32,
        key: &SealingKey,
        part: PartRef,
        frame: &[u8],
    ) -> Result<Opened, SidecarError> {
        let place = Place { oid: self.oid, seq, part: index };
        own("a stored part", part::open(&place, key, &mut self.zstd, part, frame))
    }
}

/// Reads a part body.
pub(super) fn decode<M: Message + Default>(body: &[u8]) -> Result<M, crate::core::finding::Refused> {
    M::decode(body).map_err(|e| crate::core::finding::Refused::non_canonical(e.to_string()))
}

/// The first part of a leaf with its frame.
pub(super) fn first_part<'a>(view: &LeafView<'_>, frames: &'a [Vec<u8>]) -> Option<(PartRef, &'a [u8])> {
    Some((view.parts().next()?, frames.first()?.as_slice()))
}

/// Counts the record at `seq` for every person its operator part names. A quarantined record is of nobody.
///
/// # Errors
/// Those of the keyring.
pub(super) fn count_people(keyring: &mut Keyring, operator: &v1::OperatorPart, seq: Seq) -> Result<(), SidecarError> {
    for key in operator.keys.iter().filter(|key| key.class != QUARANTINE) {
        if let Ok(subject) = <[u8; 16]>::try_from(key.subject_ref.as_slice()) {
            keyring.count(SubjectRef(subject), seq)?;
        }
    }
    Ok(())
}
