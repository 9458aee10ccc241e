//! An `Envelope` in protobuf: the hot path.
//!
//! Spec: `proto/pinfold/v1/events.proto`. The bytes are kept as received where they are about one person, so they
//! must not say more than the decoded message: a second body would be dropped by the decoder and stay in the bytes.

use prost::Message;

use super::slices::{self, Received};
use super::{Limits, QuarantineReason};
use crate::core::event::Event;
use crate::proto::v1::Envelope;

/// Field numbers of the `body` oneof.
const BODIES: std::ops::RangeInclusive<u64> = 20..=22;

/// Reads a serialised Envelope.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Event, QuarantineReason> {
    let envelope = Envelope::decode(bytes).map_err(|_| QuarantineReason::Undecodable)?;
    if bodies(bytes).is_none_or(|bodies| bodies > 1) {
        return Err(QuarantineReason::InvalidValue);
    }
    slices::event(envelope, Received::Envelope(bytes), limits)
}

/// How many bodies stand in the bytes; `None` where a field does not end within them.
fn bodies(mut bytes: &[u8]) -> Option<usize> {
    let mut found = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        if BODIES.contains(&(tag >> 3)) {
            found += 1;
        }
        let skipped = match tag & 7 {
            0 => varint(&mut bytes).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            // Groups are not of proto3; no writer of ours sends them.
            _ => return None,
        };
        bytes = bytes.get(skipped..)?;
    }
    Some(found)
}

/// A base-128 varint off the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
