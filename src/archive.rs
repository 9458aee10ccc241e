//! The port `Pinner`: where segments are kept outside the journal, and what "kept" means.
//!
//! A pin is not a proof. A target counts as holding a CAR only after every block was read back from it by us, hashed
//! again and walked from the root. We compute every CID; a target only confirms it, and another answer halts the loop.
//! Not the outbox (`journal`) and not the back-off between tries (`sidecar`).

pub mod anchor;
mod audit;
mod car;
pub mod folder;
pub mod kubo;
pub mod replica;
mod walk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use crate::core::cid::Cid;
use crate::core::finding::Refused;
use crate::core::hash::Hash;
use replica::CarBlock;

pub use audit::audit;
pub use folder::Folder;
pub use kubo::Kubo;

/// What a target answers, later. Boxed, so that the loop holds its targets in one list.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PinError>> + Send + 'a>>;

/// A place that keeps CAR files by their content.
///
/// The contract for an implementer:
/// - Durability: when `pin` answers `Ok`, the target holds every block under our root, durably as far as it can be
///   told to, and has given each of them back to us.
/// - Idempotence: any call may be made again, after a crash or a lost answer, with the same outcome.
/// - Nothing that is there and differs is ever overwritten, but an anchor by one that contains it.
/// - Every call ends: time-outs are the target's own duty. Dropping the future is safe at any point.
/// - Calls may run side by side, for the same root too.
pub trait Pinner: Send + Sync {
    /// The name in the configuration, `[pin.NAME]`; it stands in entries of kind 6 and in metrics.
    fn name(&self) -> &str;

    /// Which CARs of a segment belong here.
    fn contents(&self) -> Contents;

    /// Who can read what is pinned here.
    fn network(&self) -> Network;

    /// Stores `car` and reads every block back. A damaged copy is healed where that can be done without overwriting.
    fn pin<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt>;

    /// Reads every block of `car` back without storing anything. The local file need not exist any more.
    fn check<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt>;

    /// Reads single blocks of `car` back, and gives those the target has damaged or not at all. Where it no longer holds
    /// the file as a whole, that is all of them. The local file need not exist any more.
    fn sample<'a>(&'a self, car: &'a CarFile, blocks: &'a [CarBlock]) -> Answer<'a, Vec<Cid>>;

    /// Puts `car` in the place of a copy that is damaged or gone, and reads every block back. What is there and differs
    /// is set aside where that can be done, and blocks of a wrong hash are removed.
    fn repair<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt>;

    /// Writes the target's own copy of `car` to the file `into`, every block hashed and every link walked: the bytes of
    /// our file, whoever kept them. Not synced.
    fn fetch<'a>(&'a self, car: &'a CarFile, into: &'a Path) -> Answer<'a, ()>;

    /// Gives `car` up: the target may forget it. Not there is good.
    fn unpin<'a>(&'a self, car: &'a CarFile) -> Answer<'a, ()>;
}

/// A CAR file of ours: CARv1, one root, `NNNNNN.proof.car` or its siblings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CarFile {
    /// Where the file is. Its last part is the name under which a folder keeps it.
    pub path: PathBuf,
    /// The root, as we computed it.
    pub root: Cid,
    /// The length of the file.
    pub bytes: u64,
}

impl CarFile {
    /// The name without directories.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// What a target holds, as read back from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The length of all blocks together, without CAR framing.
    pub bytes: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// Which CARs of a segment a target keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// `.proof.car` and `.anchor.car` only: order and completeness, no ciphertext.
    Proof,
    /// `.payload.car` too.
    ProofAndPayload,
}

impl Contents {
    /// Whether a file of this name belongs to the target.
    pub fn includes(self, path: &Path) -> bool {
        self == Contents::ProofAndPayload || !path.to_string_lossy().ends_with(".payload.car")
    }
}

/// Who can read what a target holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Only whom the operator lets in.
    Private,
    /// Everybody, for ever: what was once on a public network cannot be taken back.
    Public,
}

/// Why a target does not hold a CAR.
///
/// `Retry`, `Refused` and `Tampered` are the target's failures: counted, visible, tried again. The others mean that our
/// own state is in doubt: [`PinError::halts`].
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Not reached, too slow, full, or an answer that says it failed.
    #[error("{target}: {doing}: {why}")]
    Retry {
        /// The target's name.
        target: String,
        /// What was being done, and to what.
        doing: String,
        /// What happened instead.
        why: String,
        /// What a person can do.
        hint: String,
    },
    /// The target understood and said no. Trying again helps only after somebody changed something.
    #[error("{target}: {doing}: refused: {why}")]
    Refused {
        /// The target's name.
        target: String,
        /// What was being done, and to what.
        doing: String,
        /// The reason given.
        why: String,
        /// What a person can do.
        hint: String,
    },
    /// The target confirmed another root than ours: we do not know what was pinned.
    #[error("{target}: pinned another root: expected {expected}, found {found}")]
    Mismatch {
        /// The target's name.
        target: String,
        /// Our root.
        expected: Cid,
        /// The target's, in its own words: it may be no CID of ours at all.
        found: String,
    },
    /// A file of that name is there and holds something else. It is left as it is.
    #[error("{target}: {path}: holds another file: expected SHA-256 {expected}, found {found}", path = path.display())]
    Occupied {
        /// The target's name.
        target: String,
        /// The file.
        path: PathBuf,
        /// The SHA-256 of our file.
        expected: Hash,
        /// The SHA-256 of the file there.
        found: Hash,
    },
    /// What the target gave back is not what we gave it.
    #[error("{target}: read back: {fault}")]
    Tampered {
        /// The target's name.
        target: String,
        /// The block and what was wrong with it.
        fault: Refused,
    },
    /// Our own CAR file is not what the journal says.
    #[error("{path}: {fault}", path = path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        fault: Refused,
    },
}

impl PinError {
    /// Whether the loop must stop: our own state, or what we put under our name, is in doubt.
    pub fn halts(&self) -> bool {
        matches!(self, PinError::Mismatch { .. } | PinError::Occupied { .. } | PinError::Local { .. })
    }

    /// The next thing for a person to do.
    pub fn hint(&self) -> String {
        match self {
            PinError::Retry { hint, .. } | PinError::Refused { hint, .. } => hint.clone(),
            PinError::Mismatch { target, .. } => {
                format!("`{target}` is not a node that keeps CARs as they are; look who answers at its url")
            }
            PinError::Occupied { path, .. } => {
                format!("give each log a folder of its own, or move {} aside and compare it", path.display())
            }
            PinError::Tampered { target, .. } => {
                format!("check the disk of `{target}` (`ipfs repo verify`, SMART), then `pinfold pin --audit --repair`")
            }
            PinError::Local { .. } => "restore the archive: `pinfold verify`, then `pinfold rebuild`".to_owned(),
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contents::Proof => "proof",
            Contents::ProofAndPayload => "proof+payload",
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Private => "private",
            Network::Public => "public",
        })
    }
}
