//! What may be shown of the configured log: its released segments, and the tiles made from them.
//!
//! Which segments are released only the owner of the journal knows; the segments themselves are read from the archive
//! folder, so this works beside a running sidecar.

use std::path::Path;
use std::time::Duration;

use super::control::{self, Request};
use super::verify::files::Files;
use super::{Failure, open};
use crate::config::Config;
use crate::core::origin::Origin;
use crate::tiles::{Grown, Segments, Store, TilesError};

/// The released segments of the configured log.
pub(super) struct Released {
    files: Files,
    count: u64,
    origin: Origin,
}

impl Released {
    /// Asks the owner of the journal.
    pub(super) fn ask(config: &Config, timeout: Option<Duration>) -> Result<Released, Failure> {
        let origin = open::origin(config)?;
        let status = control::ask(config, &Request::Status, timeout)?;
        let count = status.pointer("/released/segments").and_then(serde_json::Value::as_u64);
        let other = || Failure::new(3, "control", "the running sidecar is of an older version").hint("restart it");
        Ok(Released {
            count: count.ok_or_else(other)?,
            files: Files::of_dir(&config.log.data.join("archive"))?,
            origin,
        })
    }

    /// The segments.
    pub(super) fn segments(&self) -> Segments<'_> {
        Segments::new(&self.files, self.count)
    }

    /// The tiles in `dir`, grown to all of them.
    pub(super) fn grow(&self, dir: &Path) -> Result<(Store, Grown), Failure> {
        let store = Store::open(dir, &self.origin)?;
        let grown = store.grow(self.segments())?;
        Ok((store, grown))
    }

    /// The log's own tiles: derived, kept so that a proof costs no reading of the archive.
    pub(super) fn tiles(&self, config: &Config) -> Result<Store, Failure> {
        self.grow(&config.log.data.join("tiles")).map(|(store, _)| store)
    }
}

impl From<TilesError> for Failure {
    fn from(error: TilesError) -> Failure {
        let (exit, code) = match error {
            TilesError::OutOfRange { .. } => (1, "not-released"),
            TilesError::Io { .. } => (3, "file"),
            TilesError::Busy(_) => (3, "in-use"),
            _ => (4, "tiles"),
        };
        Failure::new(exit, code, error.to_string()).hint(error.hint())
    }
}
