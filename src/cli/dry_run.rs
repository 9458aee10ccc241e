//! `ingest --dry-run`: reads and decodes, and writes nothing anywhere.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::control::record_format;
use super::{Failure, open};
use crate::config::Config;
use crate::core::decode::{self, Format};
use crate::ingest::replay::Replay;
use crate::ingest::{Arrival, Budget, Held, Positions, Source, Topic};
use crate::sidecar::SidecarError;

/// A log that has read nothing.
struct Nothing;

impl Positions for Nothing {
    fn held(&self, _: &Topic, _: u32) -> Option<Held> {
        None
    }
}

/// Counts what would be folded of a file.
pub(super) fn read(config: &Config, path: &Path, topic: &str, format: Option<&str>) -> Result<Value, Failure> {
    let format = format.map(record_format).transpose()?;
    let source = if path == Path::new("-") {
        Replay::stdin("file", topic, format, &Nothing)
    } else {
        Replay::open("file", topic, path, format, &Nothing)
    };
    let mut source = source.map_err(SidecarError::from)?;
    let limits = open::settings(config).limits;
    let budget = Budget { records_max: 4_000, bytes_max: 8 << 20, wait: Duration::ZERO };
    let (mut accepted, mut quarantined) = (0u64, 0u64);
    while !source.is_idle() {
        for arrival in source.poll(budget).map_err(SidecarError::from)? {
            let Arrival::Records { records, .. } = arrival else { continue };
            for arrived in &records {
                match arrived.cut {
                    None if decode::decode(&arrived.record, Format::Auto, &limits).is_ok() => accepted += 1,
                    _ => quarantined += 1,
                }
            }
        }
    }
    Ok(json!({ "accepted": accepted, "duplicates": 0, "quarantined": quarantined, "gaps": 0, "dry_run": true }))
}
