//! The anchor of a segment: what others said about its checkpoint.
//!
//! Cosignatures of the verifier's own witnesses are verified, and time-stamp tokens up to the roots he brings
//! ([`tokens`]).

mod tokens;

use std::io::Read;

use super::super::checkpoint::Statement;
use super::super::cid::Cid;
use super::super::finding::{Code, Refused};
use super::super::hash::Hash;
use super::super::rules::Fault;
use super::super::segment::Seal;
use super::super::segment::read::read_anchor;
use super::super::seq::Size;
use super::super::time::Timestamp;
use super::super::witness::Policy;
use super::report::Fresh;
use super::{Audit, AuditInput};

pub use tokens::{KnownToken, UNCHECKED_CHAIN};

/// Who stands behind an anchor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AnchorKind {
    /// A witness of the verifier's, verified.
    Witness,
    /// A time-stamp authority; verified where it has a time.
    Tsa,
}

impl AnchorKind {
    /// The word scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            AnchorKind::Witness => "witness",
            AnchorKind::Tsa => "tsa",
        }
    }
}

/// A cosignature that verified, or a time stamp.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorSeen {
    /// Who.
    pub kind: AnchorKind,
    /// The witness's key name, or the subject of the authority's certificate; [`UNCHECKED_CHAIN`] for a token that
    /// leads to no root of the verifier's.
    pub authority: String,
    /// The segment.
    pub segment: u64,
    /// The size of its checkpoint.
    pub size: Size,
    /// When they signed, by their own clock; `None` for a token of which nobody says whose it is.
    pub time: Option<Timestamp>,
    /// Whether the anchor has the signatures the verifier's policy asks for.
    pub is_enough: bool,
}

/// Reads the anchor file of the segment of `seal`.
pub(super) fn check_anchor<R: Read>(
    source: R,
    input: &AuditInput,
    seal: &Seal,
    seal_cid: Cid,
    add: &mut impl FnMut(Fault),
) -> Vec<AnchorSeen> {
    let mut seen = Vec::new();
    let read = || -> Result<(), Refused> {
        let (_, anchor) = read_anchor(source, input.limits)?;
        if anchor.seal != seal_cid {
            return Err(Refused::new(
                Code::SealLink,
                format!("anchor of {}, the segment's is {seal_cid}", anchor.seal),
            ));
        }
        let statement = Statement::parse(&anchor.checkpoint)?;
        if statement.head.origin != seal.origin {
            return Err(Refused::new(Code::WrongOrigin, format!("anchor of {}", statement.head.origin)));
        }
        if !anchor.checkpoint.starts_with(&seal.checkpoint) {
            return Err(Refused::new(Code::BadSignature, "anchor: not the seal's checkpoint and lines after it"));
        }
        let is_met = |policy: &Policy| !policy.asks_for_none() && policy.is_met_by(&statement.note) == Ok(true);
        let is_enough = input.quorum.as_ref().is_some_and(is_met);
        let of = |kind, authority: &str, time| AnchorSeen {
            kind,
            authority: authority.to_owned(),
            segment: seal.segment,
            size: statement.head.size,
            time,
            is_enough: is_enough && kind == AnchorKind::Witness,
        };
        for witness in &input.witnesses {
            match witness.verify(&statement.note) {
                Ok(times) => {
                    seen.extend(times.into_iter().map(|time| of(AnchorKind::Witness, witness.name(), Some(time))));
                }
                Err(refused) => add(Fault::refused(None, "anchor", refused)),
            }
        }
        let checkpoint = Hash::of(seal.checkpoint.as_bytes());
        for token in &anchor.tsa {
            match tokens::check(token, checkpoint, input.tsa_roots.as_ref()) {
                Ok(Some(vouched)) => seen.push(of(AnchorKind::Tsa, &vouched.authority, Some(vouched.time))),
                Ok(None) => seen.push(of(AnchorKind::Tsa, UNCHECKED_CHAIN, None)),
                Err(refused) => add(Fault::refused(None, "anchor", refused)),
            }
        }
        Ok(())
    };
    if let Err(refused) = read() {
        add(Fault::refused(None, "anchor", refused));
    }
    seen
}

impl Audit<'_> {
    /// A closed log is confirmed by the witnesses that the verifier's policy asks for, over its newest checkpoint:
    /// nothing can come after it that they would not have seen.
    pub(super) fn confirmed_by_anchors(&self) -> Option<Fresh> {
        let size = self.newest().filter(|_| self.rules.is_closed())?.size;
        let is_confirmed = self.anchors.iter().any(|seen| seen.size == size && seen.is_enough);
        is_confirmed.then_some(Fresh { source: "anchors", size })
    }
}
