//! The one file of an archive that is ever replaced: an anchor, by a newer one that says all the older says.

use std::fs::File;
use std::path::Path;

use crate::core::car::Limits;
use crate::core::segment::Anchor;
use crate::core::segment::read::read_anchor;

/// Whether `newer` and `older` are anchors of one segment, and the first contains the second. Anything that does not
/// read is replaced by nothing.
pub fn supersedes(newer: &Path, older: &Path) -> bool {
    let is_anchor = newer.to_string_lossy().ends_with(".anchor.car");
    let (Some(newer), Some(older)) = (is_anchor.then(|| read(newer)).flatten(), read(older)) else { return false };
    newer != older && newer.contains(&older)
}

fn read(path: &Path) -> Option<Anchor> {
    read_anchor(File::open(path).ok()?, Limits::default()).ok().map(|(_, anchor)| anchor)
}
