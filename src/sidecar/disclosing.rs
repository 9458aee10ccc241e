//! Opening one part of one entry for somebody outside: the opening itself, and the entry that says it was done.
//!
//! What leaves is one part with the random value of its commitment: nobody learns anything of another part from it. A
//! read of content is an entry (kind 15, sealed), durable before the content is handed out. Whether the reader may is
//! not known here. Spec: privacy.md 13; format.md, Segment, "Disclosure".

use prost::Message as _;
use zeroize::Zeroizing;

use super::Sidecar;
use super::error::SidecarError;
use super::reader::decode;
use super::stored::StoredEntry;
use super::writer::own;
use crate::core::leaf::{Body, Leaf, PartRef};
use crate::core::part::{self, Opened, Place};
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::proto::v1;

/// What came of a disclosure.
pub enum Disclosed {
    /// The part. Its body is personal.
    Part {
        /// What it says.
        body: Zeroizing<Vec<u8>>,
        /// The random value of its commitment.
        r: [u8; 32],
    },
    /// The entry has no such part: so many has it.
    NoSuchPart(usize),
    /// A key is gone: erased or expired. Nobody can read it any more.
    Gone,
}

impl Sidecar {
    /// Opens part `index` of the entry at `seq`, and writes down that `officer` did so, and why.
    ///
    /// # Errors
    /// `Halted`; a halt where what is stored is not what the leaf names; `File` where the archive lacks the payload.
    pub fn disclose(
        &mut self,
        seq: Seq,
        index: u32,
        officer: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Disclosed, SidecarError> {
        self.refuse_if_halted()?;
        self.catch_up()?;
        let Some(StoredEntry { leaf, frames }) = self.stored(seq)? else { return Ok(Disclosed::NoSuchPart(0)) };
        let leaf = own("a stored leaf", Leaf::decode(&leaf))?;
        let parts: Vec<(PartRef, &[u8])> = leaf.parts.iter().copied().zip(frames.iter().map(Vec::as_slice)).collect();
        let opened = match usize::try_from(index).ok().and_then(|at| parts.get(at)) {
            Some(part) => self.open_part(&leaf, index, *part, parts.first().copied())?,
            None => return Ok(Disclosed::NoSuchPart(leaf.parts.len())),
        };
        let Some(Opened { body, r }) = opened else { return Ok(Disclosed::Gone) };
        self.record_access(seq, officer, reason, now)?;
        Ok(Disclosed::Part { body, r })
    }

    fn open_part(
        &mut self,
        leaf: &Leaf,
        index: u32,
        (part, frame): (PartRef, &[u8]),
        first: Option<(PartRef, &[u8])>,
    ) -> Result<Option<Opened>, SidecarError> {
        let (reader, keyring) = (&mut self.writer.reader, &mut self.writer.keyring);
        let is_personal = index > 0 && matches!(leaf.body, Body::Event | Body::Quarantined { .. });
        let Some((first, first_frame)) = first.filter(|_| is_personal) else {
            return reader.operator_opened(keyring, leaf.seq, index, part, frame);
        };
        // Which person's key it is stands in the operator part.
        let Some(operator) = reader.operator_body(keyring, leaf.seq, first, first_frame)? else { return Ok(None) };
        let operator = own("an operator part", decode::<v1::OperatorPart>(&operator))?;
        let named = usize::try_from(index - 1).ok().and_then(|at| operator.keys.get(at));
        match named {
            Some(named) => reader.personal_opened(keyring, leaf.seq, index, named, part, frame),
            None => Ok(None),
        }
    }

    /// Writes kind 15, durably.
    fn record_access(&mut self, seq: Seq, officer: &str, reason: &str, now: Timestamp) -> Result<(), SidecarError> {
        let writer = &mut self.writer;
        writer.record_time(now)?;
        let at = writer.begin_entries()?;
        let body = Zeroizing::new(
            v1::AccessPart { officer: officer.to_owned(), reason: reason.to_owned(), seqs: vec![seq.0] }
                .encode_to_vec(),
        );
        let random = writer.random()?;
        let place = Place { oid: writer.oid(), seq: at, part: 0 };
        let sealed = own("an access part", part::seal(&place, &writer.epoch().operator, None, &body, &random))?;
        writer.push(Body::Access, None, vec![sealed])?;
        writer.commit()
    }

    /// The entry with its frames, from the journal, or where that was pruned from the archive.
    fn stored(&self, seq: Seq) -> Result<Option<StoredEntry>, SidecarError> {
        let state = self.writer.journal.state();
        if seq >= state.size().next_seq() {
            return Ok(None);
        }
        if seq < state.kept_from {
            return self.archived(seq, true);
        }
        let entry = self.writer.journal.entries(seq, seq.size())?.next().transpose()?;
        Ok(entry.map(|entry| StoredEntry { leaf: entry.leaf, frames: entry.frames }))
    }
}
