//! The keys of the log as `key list` shows them: the log's own word, and which private halves are here.

use serde::Serialize;

use crate::core::keychange::{KeyChange, Standing};
use crate::core::leaf::{Body, Leaf};
use crate::core::note::Vkey;
use crate::core::seq::Seq;
use crate::sidecar::Sidecar;
use crate::sidecar::error::SidecarError;
use crate::sidecar::writer::own;

/// A key of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KeyView {
    /// Its id, in hex.
    pub key_id: String,
    /// The public key.
    pub vkey: String,
    /// `log` or `recovery`.
    pub role: &'static str,
    /// The entry that gave it the log; null for the recovery key.
    pub from_seq: Option<u64>,
    /// The last entry a checkpoint of it may end with; null while there is no end.
    pub not_after_seq: Option<i64>,
    /// How it ended: `rotated` or `revoked`; null while it signs.
    pub reason: Option<&'static str>,
    /// Whether its private half is on this machine.
    pub is_held: bool,
}

impl Sidecar {
    /// The keys of the log, oldest first, then its recovery key.
    ///
    /// # Errors
    /// A halt where an entry that changed the key does not read.
    pub fn log_keys(&self) -> Result<Vec<KeyView>, SidecarError> {
        let rules = self.writer.rules();
        let mut views: Vec<KeyView> = Vec::new();
        for (from, vkey) in self.writer.key_spans() {
            let seq = Seq(from.0.saturating_sub(1));
            if let Some(before) = views.last_mut() {
                let (not_after, reason) = self.end_of_key(seq)?;
                (before.not_after_seq, before.reason) = (Some(not_after), Some(reason));
            }
            views.push(self.view(&vkey, "log", Some(seq.0)));
        }
        views.extend(rules.recovery().map(|vkey| self.view(vkey, "recovery", None)));
        Ok(views)
    }

    fn view(&self, vkey: &Vkey, role: &'static str, from_seq: Option<u64>) -> KeyView {
        KeyView {
            key_id: vkey.key_id_hex(),
            vkey: vkey.to_string(),
            role,
            from_seq,
            not_after_seq: None,
            reason: None,
            is_held: self.writer.keys.get(vkey).is_some(),
        }
    }

    /// The last entry that a checkpoint of the key before the change at `seq` may end with, and how the key ended.
    fn end_of_key(&self, seq: Seq) -> Result<(i64, &'static str), SidecarError> {
        let last = |size: u64| i64::try_from(size).unwrap_or(i64::MAX) - 1;
        let bytes = self.leaf(seq)?.unwrap_or_default();
        let leaf = own("the entry of a change of key", Leaf::decode(&bytes))?;
        let Body::KeyChanged { note, step } = leaf.body else { return Ok((last(seq.0), "rotated")) };
        let standing = Standing { origin: None, seq, current: None, recovery: self.writer.rules().recovery() };
        Ok(match own("a change of key", KeyChange::open(step, &note, &standing))? {
            KeyChange::Rotated(_) => (last(seq.0), "rotated"),
            KeyChange::Revoked(revocation) => (last(revocation.vouched.size.0), "revoked"),
        })
    }
}
