//! The seals of a log on a node, from the newest back, many at once.
//!
//! Every seal names the one before it and, by `skip`, one far before: fetched over both links, the walk opens at many
//! places, and a damaged seal hides nothing. What the seals mean and whether they agree is the caller's question, and so
//! is which of two links to a segment it believes. Spec: format.md, Segment.

use std::collections::{BTreeMap, HashMap};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Kubo, Reach};
use crate::archive::PinError;
use crate::core::cid::Cid;
use crate::core::finding::Refused;
use crate::core::segment::{Seal, skip_of};

/// What a seal says of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealLinks {
    /// Its own number.
    pub segment: u64,
    /// The seal of the segment before it.
    pub prev_seal: Option<Cid>,
    /// The seal of segment & (segment - 1).
    pub skip: Option<Cid>,
    /// The root of its payload.
    pub payload: Option<Cid>,
}

/// Why a seal could not be had.
#[derive(Clone, Debug)]
pub enum SealFault {
    /// It is missing, damaged, or no seal.
    Bad(Refused),
    /// The node could not be asked, in words.
    Unreached(String),
}

/// Seals by CID, those that could not be had included.
pub type Seals = HashMap<Cid, Result<SealLinks, SealFault>>;

/// Different seals that are looked at for one segment number. Honest links agree; with two that do not, both are seen.
const SEALS_A_SEGMENT: usize = 2;

impl Kubo {
    /// One seal.
    ///
    /// # Errors
    /// Why it could not be had.
    pub async fn seal_links(&self, cid: Cid, reach: Reach) -> Result<SealLinks, SealFault> {
        let block = self.block(cid, reach).await.map_err(|error| match error {
            PinError::Tampered { fault, .. } => SealFault::Bad(fault),
            error => SealFault::Unreached(error.to_string()),
        })?;
        let Seal { segment, prev_seal, skip, payload, .. } = Seal::decode(&block).map_err(SealFault::Bad)?;
        Ok(SealLinks { segment, prev_seal, skip, payload })
    }

    /// Fetches the seal `newest` and all it leads to into `found`, `calls_at_once` at a time; what is found already is
    /// not asked for again. Where the newest claims a number of `segments_max` or more, nothing else is fetched. May be
    /// dropped at any time: `found` keeps what has come.
    ///
    /// Links to a segment that is not before their own, and a third seal for one number, are not followed: however the
    /// node lies, the walk ends.
    pub async fn seals(&self, newest: Cid, reach: Reach, segments_max: u64, found: &mut Seals) {
        let mut asked: HashMap<u64, Vec<Cid>> = HashMap::new();
        // The newest first: the far ends of `skip` come in between as long as calls are free.
        let mut ahead: BTreeMap<u64, Vec<Cid>> = BTreeMap::from([(u64::MAX, vec![newest])]);
        let mut answers = FuturesUnordered::new();
        loop {
            while answers.len() < self.settings.calls_at_once.max(1)
                && let Some((segment, cid)) = pop(&mut ahead)
            {
                let known = found.get(&cid).cloned();
                answers.push(async move {
                    let answer = match known {
                        Some(known) => known,
                        None => self.seal_links(cid, reach).await,
                    };
                    (segment, cid, answer)
                });
            }
            let Some((expected, cid, answer)) = answers.next().await else { return };
            if let Ok(seal) = &answer
                && (expected == seal.segment || expected == u64::MAX && seal.segment < segments_max)
            {
                let before = seal.segment.checked_sub(1);
                let skipped = before.map(|_| skip_of(seal.segment));
                for (segment, link) in [before.zip(seal.prev_seal), skipped.zip(seal.skip)].into_iter().flatten() {
                    let known = asked.entry(segment).or_default();
                    if known.len() < SEALS_A_SEGMENT && !known.contains(&link) {
                        known.push(link);
                        ahead.entry(segment).or_default().push(link);
                    }
                }
            }
            found.insert(cid, answer);
        }
    }
}

/// The next one to ask for.
fn pop(ahead: &mut BTreeMap<u64, Vec<Cid>>) -> Option<(u64, Cid)> {
    let mut entry = ahead.last_entry()?;
    let (segment, cid) = (*entry.key(), entry.get_mut().pop());
    if entry.get().is_empty() {
        entry.remove();
    }
    Some((segment, cid?))
}
