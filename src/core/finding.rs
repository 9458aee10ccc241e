//! What an audit can find wrong, and what each finding means for the verdict.
//!
//! The codes are the contract of `verify --json`; a reader that refuses bytes names one of them too,
//! so that every refusal already knows which verdict it leads to.

use std::fmt;

/// A finding code of `verify`. The text form is the kebab-case name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    /// A leaf that a proof names is another one.
    LeafHash,
    /// `prev` is not the hash of the entry before.
    ChainLink,
    /// Sequence numbers or sizes are not dense.
    SeqGap,
    /// A recomputed root differs from the signed one.
    RootMismatch,
    /// A signature does not verify.
    BadSignature,
    /// Signed by a key that is not the log's at that size.
    UnknownKey,
    /// Signed by a revoked key beyond what was vouched for.
    RevokedKey,
    /// A statement of another log.
    WrongOrigin,
    /// A witness line does not verify.
    BadCosignature,
    /// A time-stamp token does not verify.
    BadTimestamp,
    /// A broker offset is neither an entry nor declared.
    OffsetGap,
    /// A broker offset is accounted for twice.
    OffsetOverlap,
    /// A block does not hash to its CID.
    BlockHash,
    /// A linked block is not there.
    BlockMissing,
    /// A block nothing links to, or one too many.
    BlockExtra,
    /// A frame is not the one its leaf names, or is not there.
    FrameDigest,
    /// An opened part is not the one its leaf commits to.
    Commitment,
    /// Segments do not join, or an entry names another seal.
    SealLink,
    /// A segment between others, or the first, is not there.
    SegmentMissing,
    /// The newest segments another source names are not there.
    TailMissing,
    /// The archive ends before a head known outside.
    RolledBack,
    /// A head known outside is of another tree.
    Forked,
    /// A registry row differs from the bytes.
    RegistryDiffers,
    /// A registry lacks a row.
    RegistryMissing,
    /// A registry has a row no bytes stand for.
    RegistryExtra,
    /// A registry has a row twice.
    RegistryDouble,
    /// Entries of the journal that no segment holds yet.
    UnsealedTail,
    /// Bytes a conforming writer would not have written.
    NonCanonical,
    /// A format version this reader does not know.
    UnknownVersion,
    /// Beyond a limit of the reader's own.
    LimitExceeded,
    /// Something needed for a check could not be had.
    Unreachable,
}

impl Code {
    /// Every code, in the order of their declaration.
    pub const ALL: [Code; 31] = [
        Code::LeafHash,
        Code::ChainLink,
        Code::SeqGap,
        Code::RootMismatch,
        Code::BadSignature,
        Code::UnknownKey,
        Code::RevokedKey,
        Code::WrongOrigin,
        Code::BadCosignature,
        Code::BadTimestamp,
        Code::OffsetGap,
        Code::OffsetOverlap,
        Code::BlockHash,
        Code::BlockMissing,
        Code::BlockExtra,
        Code::FrameDigest,
        Code::Commitment,
        Code::SealLink,
        Code::SegmentMissing,
        Code::TailMissing,
        Code::RolledBack,
        Code::Forked,
        Code::RegistryDiffers,
        Code::RegistryMissing,
        Code::RegistryExtra,
        Code::RegistryDouble,
        Code::UnsealedTail,
        Code::NonCanonical,
        Code::UnknownVersion,
        Code::LimitExceeded,
        Code::Unreachable,
    ];

    /// The name scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::LeafHash => "leaf-hash",
            Code::ChainLink => "chain-link",
            Code::SeqGap => "seq-gap",
            Code::RootMismatch => "root-mismatch",
            Code::BadSignature => "bad-signature",
            Code::UnknownKey => "unknown-key",
            Code::RevokedKey => "revoked-key",
            Code::WrongOrigin => "wrong-origin",
            Code::BadCosignature => "bad-cosignature",
            Code::BadTimestamp => "bad-timestamp",
            Code::OffsetGap => "offset-gap",
            Code::OffsetOverlap => "offset-overlap",
            Code::BlockHash => "block-hash",
            Code::BlockMissing => "block-missing",
            Code::BlockExtra => "block-extra",
            Code::FrameDigest => "frame-digest",
            Code::Commitment => "commitment",
            Code::SealLink => "seal-link",
            Code::SegmentMissing => "segment-missing",
            Code::TailMissing => "tail-missing",
            Code::RolledBack => "rolled-back",
            Code::Forked => "forked",
            Code::RegistryDiffers => "registry-differs",
            Code::RegistryMissing => "registry-missing",
            Code::RegistryExtra => "registry-extra",
            Code::RegistryDouble => "registry-double",
            Code::UnsealedTail => "unsealed-tail",
            Code::NonCanonical => "non-canonical",
            Code::UnknownVersion => "unknown-version",
            Code::LimitExceeded => "limit-exceeded",
            Code::Unreachable => "unreachable",
        }
    }

    /// The exit code this finding alone gives, or `None` where it is reported only.
    pub fn exit(self) -> Option<u8> {
        match self {
            Code::TailMissing
            | Code::RolledBack
            | Code::Forked
            | Code::RegistryDiffers
            | Code::RegistryMissing
            | Code::RegistryExtra
            | Code::RegistryDouble => Some(30),
            Code::BlockMissing | Code::SegmentMissing | Code::OffsetGap => Some(20),
            Code::Unreachable | Code::UnknownVersion | Code::LimitExceeded => Some(50),
            Code::UnsealedTail => None,
            _ => Some(40),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bytes a reader does not take: the finding code they give, and what was wrong with them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {what}")]
pub struct Refused {
    /// The finding these bytes give.
    pub code: Code,
    /// What was being read and what it was instead; never any personal content.
    pub what: String,
}

impl Refused {
    /// A refusal with its reason.
    pub fn new(code: Code, what: impl Into<String>) -> Refused {
        Refused { code, what: what.into() }
    }

    /// The refusal that an error of a store carries, where it carries one: then it is the finding, and not that the store
    /// could not be read.
    pub fn carried_by(error: &std::io::Error) -> Option<&Refused> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// The most frequent one: bytes a conforming writer would not have written.
    pub fn non_canonical(what: impl Into<String>) -> Refused {
        Refused::new(Code::NonCanonical, what)
    }
}

/// The verdict of several findings: 40, 30, 20, 50, 10, 0, the first that applies (surface.md, Exit codes).
/// Without findings it is `sound`, which the caller knows to be 0 or 10.
pub fn verdict(codes: impl IntoIterator<Item = Code>, sound: u8) -> u8 {
    let rank = |exit: u8| [40, 30, 20, 50, 10, 0].iter().position(|e| *e == exit).unwrap_or(0);
    codes.into_iter().filter_map(Code::exit).chain([sound]).min_by_key(|exit| rank(*exit)).unwrap_or(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tampered_beats_unreachable_and_incomplete_beats_unreachable() {
        assert_eq!(verdict([Code::Unreachable, Code::BlockHash], 10), 40);
        assert_eq!(verdict([Code::Unreachable, Code::BlockMissing], 10), 20);
        assert_eq!(verdict([Code::OffsetGap, Code::Forked], 10), 30);
        assert_eq!(verdict([Code::UnsealedTail], 0), 0);
        assert_eq!(verdict([], 10), 10);
    }

    #[test]
    fn every_pair_of_codes_gives_the_worse_exit_of_the_two() {
        let order = [40, 30, 20, 50, 10, 0];
        let place = |exit: u8| order.iter().position(|known| *known == exit).unwrap();
        for (a, b) in Code::ALL.iter().flat_map(|a| Code::ALL.iter().map(move |b| (*a, *b))) {
            let worse = [a.exit(), b.exit(), Some(10)].into_iter().flatten().min_by_key(|exit| place(*exit));
            assert_eq!(Some(verdict([a, b], 10)), worse, "{a} and {b}");
        }
        let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
