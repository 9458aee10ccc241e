//! The parts of an entry, as far as the caller can open them, and what the columns need of them.
//!
//! Not a decryption: the caller has keys and frames. Nothing here is kept longer than its row.

use prost::Message;

use super::fold::FoldError;
use crate::core::finding::Refused;
use crate::core::leaf::{LeafView, PartRef};
use crate::core::seq::Seq;
use crate::core::time::Timestamp;
use crate::proto::v1::{Envelope, OperatorPart, PartKey, RawRecord, SubjectPart};

/// A part the fold wants opened.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The entry.
    pub seq: Seq,
    /// The index of the part.
    pub part: u32,
    /// What the leaf says of it.
    pub sealed: PartRef,
    /// Whose key opens it: the item of `OperatorPart.keys`. `None` for part 0, which the epoch key of class 0 opens.
    pub key: Option<&'a PartKey>,
}

/// What the parts of an entry say, as far as they could be opened.
pub(super) struct Opened {
    pub(super) recorded_at: Option<Timestamp>,
    pub(super) record_time: Option<Timestamp>,
    pub(super) event: Option<Envelope>,
    /// Whether nothing that could say more stayed closed.
    pub(super) is_open: bool,
    /// Whether there is an operator part that stayed closed.
    pub(super) is_operator_closed: bool,
}

/// Opens what the columns need: the operator part, and of the others the first that answers.
pub(super) fn open_parts<B: AsRef<[u8]>, E>(
    view: &LeafView<'_>,
    open: &mut impl FnMut(Wanted<'_>) -> Result<Option<B>, E>,
) -> Result<Opened, FoldError<E>> {
    let seq = view.seq;
    let mut opened =
        Opened { recorded_at: None, record_time: None, event: None, is_open: true, is_operator_closed: false };
    if !matches!(view.kind, 0 | 4) {
        return Ok(opened);
    }
    let refused = |what: &str| FoldError::Refused { seq, refused: Refused::non_canonical(what.to_owned()) };
    let mut ask = |part: u32, sealed, key| {
        open(Wanted { seq, part, sealed, key }).map_err(|source| FoldError::Part { seq, part, source })
    };
    let mut parts = view.parts();
    let operator = parts.next().map(|sealed| ask(0, sealed, None)).transpose()?.flatten();
    let Some(operator) = operator else {
        opened.is_open = false;
        opened.is_operator_closed = true;
        return Ok(opened);
    };
    let operator = OperatorPart::decode(operator.as_ref()).map_err(|_| refused("operator part: not a message"))?;
    opened.recorded_at = Some(Timestamp(operator.recorded_at));
    if !operator.event.is_empty() {
        let event = Envelope::decode(operator.event.as_slice()).map_err(|_| refused("event: not an envelope"))?;
        opened.event = Some(event);
        return Ok(opened);
    }
    for ((part, sealed), key) in (1..).zip(parts).zip(&operator.keys) {
        // Filler: the person was erased before this record came.
        if key.subject_ref.is_empty() {
            continue;
        }
        let Some(body) = ask(part, sealed, Some(key))? else {
            opened.is_open = false;
            continue;
        };
        let raw = if view.kind == 4 {
            Some(RawRecord::decode(body.as_ref()).map_err(|_| refused("raw record: not a message"))?)
        } else {
            let subject = SubjectPart::decode(body.as_ref()).map_err(|_| refused("subject part: not a message"))?;
            let event = Envelope::decode(subject.event.as_slice()).map_err(|_| refused("event: not an envelope"))?;
            opened.event = Some(event);
            subject.raw
        };
        let micros = raw.and_then(|raw| u64::try_from(raw.timestamp_ms).ok()?.checked_mul(1000));
        opened.record_time = micros.map(Timestamp);
        opened.is_open = true;
        break;
    }
    Ok(opened)
}

/// The event's own time; none before 1970.
pub(super) fn event_time(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let seconds = u64::try_from(time.seconds).ok()?.checked_mul(1_000_000)?;
    seconds.checked_add(u64::try_from(time.nanos).ok()? / 1000).map(Timestamp)
}
