//! Time-stamp tokens: those in the archive's anchors, and those the verifier kept himself.
//!
//! A token of an anchor says when; it cannot say that nothing came after, so it never confirms. One kept outside the
//! archive does, for it names the checkpoint that must be there. Spec: format.md, Anchor and Verification.

use super::super::super::finding::{Code, Refused};
use super::super::super::hash::Hash;
use super::super::super::rules::Fault;
use super::super::super::seq::Size;
use super::super::super::timestamp::{Rejected, Roots, Token, Vouched};
use super::super::report::Fresh;
use super::super::{Audit, Joined};
use super::{AnchorKind, AnchorSeen};

/// The authority of a token whose form and signature hold, and whose certificate leads to no root of the verifier's.
pub const UNCHECKED_CHAIN: &str = "unchecked chain";

/// A token the verifier kept apart from the archive, and the word of its authority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownToken {
    /// The SHA-256 of the checkpoint it is over.
    imprint: Hash,
    vouched: Vouched,
}

impl KnownToken {
    /// Reads a DER token, or a DER answer with one in it.
    ///
    /// # Errors
    /// Where it does not hold up to one of `roots`: then it is no evidence, and the archive is not to blame.
    pub fn read(file: &[u8], roots: &Roots) -> Result<KnownToken, Rejected> {
        let token = Token::open(file).or_else(|rejected| {
            let inner = super::super::super::timestamp::token_of(file).map_err(|_| rejected)?;
            Token::open(&inner)
        })?;
        Ok(KnownToken { imprint: token.imprint(), vouched: token.vouched_by(roots)? })
    }
}

/// Checks a token over the checkpoint of this SHA-256. `None` where it holds as far as can be seen without a root.
pub(super) fn check(der: &[u8], checkpoint: Hash, roots: Option<&Roots>) -> Result<Option<Vouched>, Refused> {
    let checked = || -> Result<Option<Vouched>, Rejected> {
        let token = Token::open(der)?;
        token.covers(checkpoint)?;
        let Some(roots) = roots else { return Ok(None) };
        match token.vouched_by(roots) {
            Ok(vouched) => Ok(Some(vouched)),
            // Nobody the verifier trusts, and nobody he distrusts.
            Err(Rejected::UnknownAuthority { .. }) => Ok(None),
            Err(rejected) => Err(rejected),
        }
    };
    checked().map_err(|rejected| Refused::new(Code::BadTimestamp, format!("time stamp: {rejected}")))
}

impl Audit<'_> {
    /// Each token the verifier kept is over a checkpoint that is here. Confirms the newest where one is over that.
    pub(in super::super) fn check_known_tokens(&mut self) -> Option<Fresh> {
        let mut confirmed = None;
        for token in &self.input.known_tokens {
            let mut joined = (0..).zip(&self.segments).filter_map(|(n, joined)| Some((n, joined.as_ref()?)));
            let is_stamped = |(_, joined): &(u64, &Joined)| joined.checkpoint == token.imprint;
            match joined.find(is_stamped) {
                Some((segment, joined)) => {
                    let is_newest = segment + 1 == self.next_segment();
                    confirmed = is_newest.then_some(joined.size).or(confirmed);
                    self.anchors.push(AnchorSeen {
                        kind: AnchorKind::Tsa,
                        authority: token.vouched.authority.clone(),
                        segment,
                        size: joined.size,
                        time: Some(token.vouched.time),
                        is_enough: false,
                    });
                }
                // It may be over one that is missing or cannot be read, which is said already.
                None if self.segments.iter().any(Option::is_none) => {}
                None => {
                    let expected = format!("a checkpoint of SHA-256 {}", token.imprint);
                    let size = self.newest().map_or(Size(0), |newest| newest.size);
                    let found = format!("none, up to size {size}");
                    self.findings.add(None, Fault::of(Code::RolledBack, "known token", expected, found));
                }
            }
        }
        confirmed.map(|size| Fresh { source: "known-token", size })
    }
}
