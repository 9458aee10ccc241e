//! The state of [`LogRules`] as bytes, so that a journal need not read all entries again.
//!
//! Not part of the format: no other program reads it, and who has the entries can make it anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::super::completeness::Completeness;
use super::super::finding::Refused;
use super::super::hash::Hash;
use super::super::origin::Origin;
use super::super::seq::Size;
use super::keys::Keys;
use super::topics::Topics;
use super::{Epoch, LogRules};

const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    size: u64,
    last: ByteArray<32>,
    origin: Option<String>,
    keys: Vec<(u64, Option<String>)>,
    recovery: Option<String>,
    topics: BTreeMap<u64, u64>,
    topic_next: u64,
    epoch: Option<(u64, Vec<String>)>,
    completeness: Completeness,
    is_closed: bool,
}

impl LogRules {
    /// The state as bytes. What a loss left open ([`LogRules::lose`]) is not kept: a writer never loses entries.
    pub fn to_bytes(&self) -> Vec<u8> {
        super::super::codec::encode(&Stored {
            version: VERSION,
            size: self.size.0,
            last: ByteArray::new(self.last.0),
            origin: self.origin.as_ref().map(ToString::to_string),
            keys: self.keys.spans.iter().map(|(from, key)| (from.0, key.as_ref().map(ToString::to_string))).collect(),
            recovery: self.keys.recovery.as_ref().map(ToString::to_string),
            topics: self.topics.partitions.clone(),
            topic_next: self.topics.next,
            epoch: self.epoch.as_ref().map(|epoch| (epoch.number, epoch.classes.clone())),
            completeness: self.completeness.clone(),
            is_closed: self.is_closed,
        })
    }

    /// Reads what [`LogRules::to_bytes`] gave.
    ///
    /// # Errors
    /// `non-canonical` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<LogRules, Refused> {
        let refused = |what: String| Refused::non_canonical(format!("stored rules: {what}"));
        let stored: Stored = serde_cbor::from_slice(bytes).map_err(|e| refused(e.to_string()))?;
        if stored.version != VERSION {
            return Err(refused(format!("version {}", stored.version)));
        }
        let key = |(from, key): (u64, Option<String>)| Ok((Size(from), key.map(|key| key.parse()).transpose()?));
        Ok(LogRules {
            size: Size(stored.size),
            last: Hash(*stored.last),
            origin: stored.origin.map(|origin| Origin::new(&origin)).transpose()?,
            keys: Keys {
                spans: stored.keys.into_iter().map(key).collect::<Result<_, Refused>>()?,
                recovery: stored.recovery.map(|key| key.parse()).transpose()?,
            },
            topics: Topics::restored(stored.topics, stored.topic_next),
            epoch: stored.epoch.map(|(number, classes)| Epoch { number, classes, is_stale: false }),
            completeness: stored.completeness,
            is_closed: stored.is_closed,
            has_lost_offsets: false,
        })
    }
}
