//! The three event types and the message each has as its body.

use super::QuarantineReason;
use crate::proto;
use crate::proto::v1::envelope::Body;
use crate::proto::v1::{ConsentEvent, DataEvent, DsrEvent};

/// What kind of event it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EventType {
    Consent,
    Data,
    Dsr,
}

impl EventType {
    /// By the CloudEvents `type`.
    pub(super) fn of_name(name: &str) -> Result<EventType, QuarantineReason> {
        match name {
            proto::CONSENT_TYPE => Ok(EventType::Consent),
            proto::DATA_TYPE => Ok(EventType::Data),
            proto::DSR_TYPE => Ok(EventType::Dsr),
            _ => Err(QuarantineReason::UnknownType),
        }
    }

    /// By the body.
    pub(super) fn of_body(body: &Body) -> EventType {
        match body {
            Body::Consent(_) => EventType::Consent,
            Body::Data(_) => EventType::Data,
            Body::Dsr(_) => EventType::Dsr,
        }
    }

    /// The CloudEvents `type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            EventType::Consent => proto::CONSENT_TYPE,
            EventType::Data => proto::DATA_TYPE,
            EventType::Dsr => proto::DSR_TYPE,
        }
    }

    /// The name of the body's message.
    pub(super) fn message(self) -> &'static str {
        match self {
            EventType::Consent => "ConsentEvent",
            EventType::Data => "DataEvent",
            EventType::Dsr => "DsrEvent",
        }
    }

    /// The body from its protobuf bytes.
    pub(super) fn body(self, bytes: &[u8]) -> Result<Body, QuarantineReason> {
        fn read<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, QuarantineReason> {
            M::decode(bytes).map_err(|_| QuarantineReason::Undecodable)
        }
        match self {
            EventType::Consent => read::<ConsentEvent>(bytes).map(Body::Consent),
            EventType::Data => read::<DataEvent>(bytes).map(Body::Data),
            EventType::Dsr => read::<DsrEvent>(bytes).map(Body::Dsr),
        }
    }
}
