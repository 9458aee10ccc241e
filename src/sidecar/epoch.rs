//! The newest epoch of operator keys, in memory.
//!
//! Not how epochs are opened: that is the writer's, because it is an entry (kind 18).

use super::error::SidecarError;
use crate::core::hash::Hash;
use crate::core::part::{Key, RecordMacKey, SealingKey};
use crate::core::time::Timestamp;
use crate::keyring::Keyring;

/// The newest epoch, and the keys of its classes.
pub(super) struct Epoch {
    pub(super) number: u64,
    pub(super) classes: Vec<String>,
    pub(super) keys: Vec<Key>,
    pub(super) opened_at: Timestamp,
    pub(super) operator: SealingKey,
    pub(super) record_mac: RecordMacKey,
}

impl Epoch {
    /// The keys of all classes of epoch `number`.
    ///
    /// # Errors
    /// `KeyGone` where one is missing; those of the keyring.
    pub(super) fn load(
        keyring: &mut Keyring,
        oid: Hash,
        number: u64,
        classes: Vec<String>,
        opened_at: Timestamp,
    ) -> Result<Epoch, SidecarError> {
        let mut keys = Vec::with_capacity(classes.len());
        for class in 0..u32::try_from(classes.len()).unwrap_or(u32::MAX) {
            let gone = || SidecarError::KeyGone(format!("class {class} of epoch {number}"));
            keys.push(keyring.epoch_key(class, number)?.ok_or_else(gone)?);
        }
        let Some(operator) = keys.first() else {
            return Err(SidecarError::KeyGone(format!("class 0 of epoch {number}")));
        };
        let record_mac = RecordMacKey::new(operator, oid);
        let operator = SealingKey::new(operator, None);
        Ok(Epoch { number, classes, keys, opened_at, operator, record_mac })
    }
}

/// Months since year 0, UTC.
pub(super) fn month(at: Timestamp) -> i32 {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    let date = jiff::Timestamp::from_microsecond(micros).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    date.map_or(0, |date| i32::from(date.year()) * 12 + i32::from(date.month()))
}
