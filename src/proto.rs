//! The messages of `proto/pinfold/v1`, their descriptors, and the dictionary that frames are compressed with.
//!
//! Not the rules of the format: those are in `core`. The Rust code is generated and committed; `tests/it/proto_drift.rs`
//! compares it with the sources. Debug of every message is its name alone: what a message holds is personal until
//! proven otherwise, and must not reach a log line by way of `{:?}`.

use std::fmt;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

// rustfmt would change what the generator wrote, and the drift test compares bytes.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, reason = "generated; the comments of the sources are carried over")]
#[rustfmt::skip]
pub mod v1;

/// Dictionary 1 of the format (alg 2 of a frame): zstd, trained on synthetic events only. Part of format version 1, so
/// it never changes; `proto/README.md` gives its SHA-256.
pub const DICT_1: &[u8] = include_bytes!("../proto/dict-1.bin");

/// The `type` of an Envelope with a [`v1::ConsentEvent`].
pub const CONSENT_TYPE: &str = "com.maily.consent.v1";
/// The `type` of an Envelope with a [`v1::DataEvent`].
pub const DATA_TYPE: &str = "com.maily.data.v1";
/// The `type` of an Envelope with a [`v1::DsrEvent`].
pub const DSR_TYPE: &str = "com.maily.dsr.v1";

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the bytes are compiled in, and a test reads them")]
    DescriptorPool::decode(include_bytes!("../proto/pinfold-v1.binpb").as_slice()).expect("the descriptor set is sound")
});

/// The descriptor of the message `pinfold.v1.<name>`, for the JSON mapping; `None` where there is no such message.
pub fn descriptor(name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(&format!("pinfold.v1.{name}"))
}

macro_rules! debug_as_name {
    ($($message:ty),* $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        }
    )*};
}

debug_as_name!(
    v1::Envelope,
    v1::envelope::Body,
    v1::Identifier,
    v1::Subject,
    v1::NoticeRef,
    v1::Preference,
    v1::PurposeDecision,
    v1::SignalString,
    v1::Actor,
    v1::ConsentEvent,
    v1::DatasetRef,
    v1::DataEvent,
    v1::DsrEvent,
    v1::OperatorPart,
    v1::PartKey,
    v1::SubjectPart,
    v1::RawRecord,
    v1::Header,
    v1::ErasureInternal,
    v1::ErasureStatement,
    v1::HoldPart,
    v1::AccessPart,
    v1::OfficerPart,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_its_descriptor_and_debug_shows_no_content() {
        for name in ["Envelope", "ConsentEvent", "DataEvent", "DsrEvent", "OperatorPart", "RawRecord"] {
            assert!(descriptor(name).is_some(), "{name}");
        }
        assert!(descriptor("Nothing").is_none());
        let shown = format!("{:?}", v1::Identifier { r#type: "email".into(), value: "ada@example.com".into() });
        assert_eq!(shown, "v1::Identifier(..)");
    }
}
