//! The port `Authority`: who stands outside and says something about a released checkpoint.
//!
//! A witness says that it saw no other history (cosignature lines); a time-stamp authority says when (a DER token).
//! Both are checked before they count. Not what is kept of it (the `Anchor` block, `core::segment`), not what a quorum
//! is (`core::witness`), and neither the outbox nor the back-off between tries (`sidecar`).

mod http;
pub mod tsa;
pub mod witness;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

pub use tsa::Tsa;
pub use witness::Witness;

pub use crate::core::audit::AnchorKind;
use crate::core::checkpoint::Head;
use crate::core::hash::Hash;
use crate::core::origin::Origin;
use crate::core::seq::Size;

/// What an authority answers, later. Boxed, so that the loop holds its authorities in one list.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AnchorError>> + Send + 'a>>;

/// The consistency proof from an older released size of the log to the checkpoint at hand, as RFC 6962 section 2.1.2
/// orders its hashes; empty from size 0 and from the checkpoint's own. What it gives was checked against our own roots.
/// It reads files and may block.
pub type Consistency = Arc<dyn Fn(Size) -> Result<Vec<Hash>, Unproven> + Send + Sync>;

/// Why there is no consistency proof.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// No checkpoint of ours has that size.
    #[error("no checkpoint of this log has size {0}")]
    NotOurs(Size),
    /// The tree could not be read.
    #[error("reading the tree: {0}")]
    Io(#[from] io::Error),
}

/// Someone outside the log who says something about a checkpoint of it.
///
/// The contract for an implementer:
/// - Only what verifies is answered: each cosignature is of the key we were given, over this note; each token is over
///   its bytes, answers our nonce and chains to the roots we were given.
/// - Durability: what is answered is complete in itself. Nothing has to be asked again to use it in ten years.
/// - Idempotence: any call may be made again, after a crash or a lost answer. The outcome may be another cosignature or
///   token over the same bytes; both are true, and the loop keeps both if it got both.
/// - Every call ends: time-outs and a bound on what is read are the authority's own duty. Dropping the future is safe
///   at any point; the other side may have done what was asked.
/// - Calls may run side by side, for the same checkpoint too. The loop has one under way an authority, oldest segment
///   first.
/// - Nothing but the checkpoint and proofs between released sizes leaves the machine.
pub trait Authority: Send + Sync {
    /// The name in the configuration or policy; it stands in tasks of the outbox and in metrics, so it is
    /// unique among the authorities of a log and does not change while tasks are open.
    fn name(&self) -> &str;

    /// What it says.
    fn kind(&self) -> AnchorKind;

    /// Asks it about a released checkpoint.
    fn attest<'a>(&'a self, released: &'a Released) -> Answer<'a, Said>;
}

/// A checkpoint that may be shown: sealed, and held by a pin target.
#[derive(Clone)]
pub struct Released {
    /// What it says.
    pub head: Head,
    /// `Seal.checkpoint`, to the byte: what witnesses sign and what a token's imprint is of.
    pub note: String,
    /// How an authority that knows an older size is shown that this one extends it.
    pub consistency: Consistency,
}

/// What an authority said. Verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Cosignature lines over the note, each with its newline; at least one.
    Cosigned(String),
    /// A time-stamp token over the note, DER.
    Stamped(Vec<u8>),
    /// It has seen this larger size of the log and says nothing about an older one. That covers this checkpoint as
    /// well, if the larger size is ours: the loop knows.
    Ahead(Size),
}

/// Why an authority has said nothing we can use.
///
/// `Retry`, `Refused` and `Untrue` are its failures: counted, visible, tried again. `Forked` and `Foreign` mean that our
/// own state is in doubt: [`AnchorError::halts`]. An authority signs nothing of that, so one that lies can stop the log;
/// one that is believed too late lets a rolled-back log sign a second history, which nothing takes back.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Not reached, too slow, or an answer that says it failed.
    #[error("{authority}: {doing}: {why}")]
    Retry {
        /// The authority's name.
        authority: String,
        /// What was being done, and to what.
        doing: String,
        /// What happened instead.
        why: String,
        /// What a person can do.
        hint: String,
    },
    /// It understood and said no. Trying again helps only after somebody changed something.
    #[error("{authority}: {doing}: refused: {why}")]
    Refused {
        /// The authority's name.
        authority: String,
        /// What was being done, and to what.
        doing: String,
        /// The reason given.
        why: String,
        /// What a person can do.
        hint: String,
    },
    /// It said yes, and what it gave does not verify.
    #[error("{authority}: {doing}: an answer that does not hold: {fault}")]
    Untrue {
        /// The authority's name.
        authority: String,
        /// What was being done, and to what.
        doing: String,
        /// What is wrong with the answer.
        fault: String,
        /// What a person can do.
        hint: String,
    },
    /// It holds another tree of our log at this size: somebody else writes this log, or we were rolled back.
    #[error("{authority}: {origin}: fork at size {size}: it holds another root than ours")]
    Forked {
        /// The authority's name.
        authority: String,
        /// The log.
        origin: Origin,
        /// The size.
        size: Size,
    },
    /// It holds a checkpoint of our log of a size at which we signed none: somebody else writes this log, or we were
    /// rolled back.
    #[error("{authority}: {origin}: it holds size {size}, of which this log has no checkpoint")]
    Foreign {
        /// The authority's name.
        authority: String,
        /// The log.
        origin: Origin,
        /// The size.
        size: Size,
    },
}

impl AnchorError {
    /// Whether the loop must stop: our own state is in doubt.
    pub fn halts(&self) -> bool {
        matches!(self, AnchorError::Forked { .. } | AnchorError::Foreign { .. })
    }

    /// The next thing for a person to do.
    pub fn hint(&self) -> String {
        match self {
            AnchorError::Retry { hint, .. } | AnchorError::Refused { hint, .. } | AnchorError::Untrue { hint, .. } => {
                hint.clone()
            }
            AnchorError::Forked { authority, .. } | AnchorError::Foreign { authority, .. } => format!(
                "look for another writer of this log or an old copy of its data; ask `{authority}` for the checkpoint it \
                 holds, and compare: `pinfold verify --known-head F`"
            ),
        }
    }
}
