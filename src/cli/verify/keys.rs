//! The keyring at hand of whoever verifies, if there is one: it opens what the columns of a registry are made from.
//!
//! An outsider has none, and compares what he can. A part that is not the one its leaf commits to is a finding.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::core::audit::Report;
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;
use crate::core::rows::Wanted;
use crate::core::rules::Fault;
use crate::core::seq::Seq;
use crate::keyring::Keyring;
use crate::sidecar::{Reader, SidecarError};

/// What opens parts, or why nothing does.
pub(super) struct Keys {
    open: Option<(Keyring, Reader)>,
    /// Why parts stay closed.
    why: String,
    faults: BTreeMap<(Seq, u32), (u64, Refused)>,
}

impl Keys {
    /// No keyring, and why.
    pub(super) fn none(why: impl Into<String>) -> Keys {
        Keys { open: None, why: why.into(), faults: BTreeMap::new() }
    }

    /// The keyring of the log whose origin hashes to `oid`.
    pub(super) fn of(keyring: Keyring, oid: Hash) -> Keys {
        match Reader::new(oid, Vec::new()) {
            Ok(reader) => Keys {
                open: Some((keyring, reader)),
                why: "no payload, or its keys are gone".to_owned(),
                faults: BTreeMap::new(),
            },
            Err(error) => Keys::none(error.to_string()),
        }
    }

    /// Notes that the next epoch begins.
    pub(super) fn begin_epoch(&mut self, seq: Seq) {
        if let Some((_, reader)) = &mut self.open {
            reader.begin_epoch(seq);
        }
    }

    /// What a part says; `None` where it stays closed.
    pub(super) fn open(&mut self, segment: u64, wanted: &Wanted<'_>, frame: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (keyring, reader) = self.open.as_mut()?;
        let opened = match wanted.key {
            None => reader.operator_body(keyring, wanted.seq, wanted.sealed, frame),
            Some(key) => reader.personal(keyring, wanted.seq, wanted.part, key, wanted.sealed, frame),
        };
        match opened {
            Ok(body) => body,
            // The frame's digest is the audit's finding; what only its key shows is ours.
            Err(SidecarError::Own { refused, .. }) => {
                if refused.code != Code::FrameDigest {
                    self.faults.insert((wanted.seq, wanted.part), (segment, refused));
                }
                None
            }
            Err(error) => {
                (self.open, self.why) = (None, error.to_string());
                None
            }
        }
    }

    /// Why parts stayed closed, where some did.
    pub(super) fn why_closed(&self) -> &str {
        &self.why
    }

    /// Adds the parts that are not what their leaves commit to.
    pub(super) fn report(&self, report: &mut Report) {
        for ((seq, part), (segment, refused)) in &self.faults {
            let place = format!("part {part}, opened");
            report.add("payload", Some(*segment), Fault::refused(Some(*seq), place, refused.clone()));
        }
    }
}
