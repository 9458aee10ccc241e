//! An event: what a record says, checked, and cut into one slice per person.
//!
//! Not yet sealed and not yet folded: the keyring has not been asked who the people are. `decode` makes events; the
//! sidecar seals each slice into the part of its person (`proto/README.md`, What a record becomes).

use std::fmt;

use crate::core::time::Timestamp;
use crate::proto::v1::RawRecord;

/// What one record says. At least one slice, or something about nobody, or both (a batch).
#[derive(Clone, PartialEq)]
pub struct Event {
    /// Who said it (CloudEvents `source`); with `id` the key of idempotency. Empty where the record was taken raw.
    pub source: String,
    /// The source's name for it (CloudEvents `id`). Of a batch: the first event's, as all of these fields.
    pub id: String,
    /// `com.maily.{consent,data,dsr}.v1`; empty where the record was taken raw.
    pub event_type: &'static str,
    /// The tenant the source claims; empty where it names none.
    pub tenant: String,
    /// The event time as the source claims it; it may lie in the future.
    pub time: Option<Timestamp>,
    /// What read it: `protobuf`, `cloudevents` or `raw`, as OperatorPart says it.
    pub decoder: &'static str,
    /// What it says about people, in the order of the event's subjects.
    pub slices: Vec<Slice>,
    /// The serialised Envelope of an event about nobody.
    pub nobody: Option<Vec<u8>>,
}

/// What an event says about one person.
#[derive(Clone, PartialEq)]
pub struct Slice {
    /// Who, as the source knows them; empty where nobody can say (a record taken raw), which is a person of its own.
    pub identifiers: Vec<Identifier>,
    /// A serialised Envelope that names no other person: the bytes as received where the source sent one about this
    /// person alone. Empty where the record was taken raw.
    pub envelope: Vec<u8>,
    /// The record itself, secrets dropped, where it was no Envelope and about this person alone.
    pub raw: Option<RawRecord>,
}

/// One way a source names a person. Debug shows the kind, never the value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    /// `email`, `phone`, `device`, `external`, ...: 1 to 64 of `a-z 0-9 . _ -`.
    pub kind: String,
    /// The value as the source wrote it: 1 to 1,024 characters, none of them a control character.
    pub value: String,
}

impl fmt::Debug for Event {
    /// What kind and how many; an id may be a person's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slices, nobody) = (self.slices.len(), self.nobody.is_some());
        f.debug_struct("Event")
            .field("type", &self.event_type)
            .field("slices", &slices)
            .field("nobody", &nobody)
            .finish()
    }
}

impl fmt::Debug for Slice {
    /// The kinds of identifiers, and sizes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, raw) = (self.envelope.len(), self.raw.is_some());
        f.debug_struct("Slice").field("of", &self.identifiers).field("bytes", &bytes).field("raw", &raw).finish()
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:..", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_person() {
        let identifiers = vec![Identifier { kind: "email".into(), value: "ada@example.com".into() }];
        let slice = Slice { identifiers, envelope: b"ada@example.com".to_vec(), raw: None };
        assert_eq!(format!("{slice:?}"), "Slice { of: [email:..], bytes: 15, raw: false }");
    }
}
