//! Why a token, a reply or a file of roots is not taken.

use std::fmt::Display;

use super::certificate::Certificate;

/// What is wrong. The caller refuses in any case; only [`Rejected::UnknownAuthority`] says nothing against the token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejected {
    /// Bytes that are not what they should be.
    #[error("{place}: not the DER of its form: {why}")]
    Form {
        /// What was being read.
        place: &'static str,
        /// What was found.
        why: String,
    },
    /// More than we read.
    #[error("{place}: {found}, at most {max}")]
    Limit {
        /// What was counted.
        place: &'static str,
        /// How many there are.
        found: usize,
        /// How many we read.
        max: usize,
    },
    /// A choice of the standards that we do not follow.
    #[error("{place}: not supported: {found}")]
    Unsupported {
        /// What was being read.
        place: &'static str,
        /// What was found.
        found: String,
    },
    /// Two statements that must be the same are not.
    #[error("{place}: expected {expected}, found {found}")]
    Differs {
        /// What was compared.
        place: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The signature does not verify.
    #[error("signature: does not verify with the key of {signer}")]
    Signature {
        /// The subject of the signing certificate.
        signer: String,
    },
    /// A certificate that may not do what it did.
    #[error("certificate of {subject}: {why}")]
    Certificate {
        /// Its subject.
        subject: String,
        /// What it lacks.
        why: String,
    },
    /// No path from the signer to a root of the verifier's: somebody he does not know.
    #[error("certificate of {signer}: no path to a root that was given")]
    UnknownAuthority {
        /// The subject of the signing certificate.
        signer: String,
    },
    /// The paths to roots of the verifier's do not hold at the token's time.
    #[error("path of {signer} at {time}: {why}")]
    Path {
        /// The subject of the signing certificate.
        signer: String,
        /// The token's time.
        time: String,
        /// What is wrong with the last path tried.
        why: String,
    },
    /// The authority gave no token.
    #[error("no token: {why}")]
    Refused {
        /// Status, text and failure bits of its answer.
        why: String,
    },
}

impl Rejected {
    pub(super) fn form(place: &'static str) -> impl Fn(der::Error) -> Rejected {
        move |error| Rejected::Form { place, why: error.to_string() }
    }

    pub(super) fn malformed(place: &'static str, why: &str) -> Rejected {
        Rejected::Form { place, why: why.to_owned() }
    }

    pub(super) fn beyond(place: &'static str, found: usize, max: usize) -> Result<(), Rejected> {
        if found > max { Err(Rejected::Limit { place, found, max }) } else { Ok(()) }
    }

    pub(super) fn differs(place: &'static str, expected: impl Display, found: impl Display) -> Rejected {
        Rejected::Differs { place, expected: expected.to_string(), found: found.to_string() }
    }

    pub(super) fn unsupported(place: &'static str, found: impl Display) -> Rejected {
        Rejected::Unsupported { place, found: found.to_string() }
    }

    pub(super) fn certificate(of: &Certificate, why: impl Display) -> Rejected {
        Rejected::Certificate { subject: of.subject(), why: why.to_string() }
    }
}
