//! What an error of librdkafka means for us: wait, look, or stop.

use rdkafka::types::RDKafkaErrorCode as Code;

use super::super::TroubleKind;

/// What to do about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The partition is read to its end.
    End,
    /// Our offset is not at the broker: see where it begins and ends.
    OutOfRange,
    /// The broker says that its history was cut below our position.
    Truncated,
    /// The topic is not there or not ours to read: see what it is now.
    TopicGone,
    /// Another process has our membership.
    Fenced,
    /// The partition gave bytes that are not what was stored: read them again.
    Corrupt,
    /// It passes or somebody outside ends it; librdkafka goes on trying.
    Trouble(TroubleKind),
    /// Not worth a word.
    Nothing,
}

/// The meaning of an error, with the broker's words where the code alone does not say.
pub(super) fn meaning(code: Code, reason: &str) -> Meaning {
    match code {
        Code::PartitionEOF => Meaning::End,
        Code::AutoOffsetReset if reason.contains("truncation") => Meaning::Truncated,
        Code::LogTruncation => Meaning::Truncated,
        Code::AutoOffsetReset | Code::OffsetOutOfRange => Meaning::OutOfRange,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
            Meaning::TopicGone
        }
        Code::TopicAuthorizationFailed => Meaning::Trouble(TroubleKind::Topic),
        Code::FencedInstanceId | Code::UnreleasedInstanceId => Meaning::Fenced,
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage => Meaning::Corrupt,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL | Code::GroupAuthorizationFailed => {
            Meaning::Trouble(TroubleKind::Authentication)
        }
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve => {
            Meaning::Trouble(TroubleKind::Unreachable)
        }
        Code::OperationTimedOut | Code::RequestTimedOut => Meaning::Trouble(TroubleKind::Unreachable),
        Code::NoError => Meaning::Nothing,
        _ => Meaning::Trouble(TroubleKind::Broker),
    }
}

/// Whether the group no longer takes our commits.
pub(super) fn is_contested(code: Code) -> bool {
    matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::StaleMemberEpoch
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::AssignmentLost
    )
}
