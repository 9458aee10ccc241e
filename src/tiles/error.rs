//! Why tiles could not be read, grown or proven from.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::finding::Refused;
use crate::core::merkle::Unprovable;
use crate::core::seq::Size;

/// What went wrong with a store of tiles.
#[derive(Debug, thiserror::Error)]
pub enum TilesError {
    /// The disk.
    #[error("tiles: {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the store is not what its checkpoint says.
    #[error("tiles: {dir}: {name}: {what}", dir = dir.display())]
    Unsound {
        /// The store.
        dir: PathBuf,
        /// The file in it.
        name: String,
        /// What was expected, and what is there.
        what: String,
    },
    /// A segment is not one that continues these tiles.
    #[error("tiles: segment {segment}: {refused}")]
    Segment {
        /// Which.
        segment: u64,
        /// What is wrong with it.
        refused: Refused,
    },
    /// The tiles end elsewhere than any segment: they are not made from this archive, or it was rolled back.
    #[error("tiles: {dir}: end at size {size}, where no segment of {segments} ends", dir = dir.display())]
    OtherArchive {
        /// The store.
        dir: PathBuf,
        /// Its size.
        size: Size,
        /// The segments of the archive.
        segments: u64,
    },
    /// Something beyond the tiles, or a proof there is none of.
    #[error("tiles: nothing to show of {of} in a log of {size} released entries")]
    OutOfRange {
        /// The entry, tile or size asked for.
        of: u64,
        /// The size.
        size: Size,
    },
    /// What was made from the tiles does not verify.
    #[error("tiles: a proof that does not hold: {0}")]
    Unproven(Refused),
    /// Another process grows the store and does not end.
    #[error("tiles: {dir}: another process is at work in it", dir = .0.display())]
    Busy(PathBuf),
}

impl TilesError {
    /// A failing disk.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TilesError {
        let path = path.to_owned();
        move |source| TilesError::Io { doing, path, source }
    }

    /// What a person does next.
    pub fn hint(&self) -> &'static str {
        match self {
            TilesError::Io { .. } => "check the disk and the permissions of the directory",
            TilesError::Unsound { .. } | TilesError::Unproven(_) => {
                "tiles are made from the archive: move the directory away and run the command again"
            }
            TilesError::Segment { .. } => "check the archive with `pinfold verify`",
            TilesError::OtherArchive { .. } => {
                "choose another directory, or move this one away; `pinfold verify` checks the archive"
            }
            TilesError::OutOfRange { .. } => "what is not sealed and pinned yet is not shown: `pinfold status`",
            TilesError::Busy(_) => "wait for it, then run the command again",
        }
    }
}

impl From<Refused> for TilesError {
    fn from(refused: Refused) -> TilesError {
        TilesError::Unproven(refused)
    }
}

impl From<Unprovable<TilesError>> for TilesError {
    fn from(unprovable: Unprovable<TilesError>) -> TilesError {
        match unprovable {
            Unprovable::OutOfRange { of, size } => TilesError::OutOfRange { of, size },
            Unprovable::Node(error) => error,
        }
    }
}
