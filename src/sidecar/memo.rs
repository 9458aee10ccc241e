//! What is kept beside a position in the journal.

use super::writer::be64;

/// What is kept beside a position: which record was the last, under which epoch's key its MAC is, and what the source
/// wants to know again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Memo {
    /// The offset of the last archived record; gaps may follow it.
    pub(super) last: Option<u64>,
    /// The epoch at its entry.
    pub(super) epoch: u64,
    /// The source's own.
    pub(super) state: Vec<u8>,
}

impl Memo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let last = self.last.map_or(u64::MAX, |last| last);
        [&last.to_be_bytes()[..], &self.epoch.to_be_bytes(), &self.state].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Memo {
        let (head, state) = bytes.split_at_checked(16).unwrap_or((&[], &[]));
        let (last, epoch) = head.split_at_checked(8).unwrap_or((&[], &[]));
        let last = Some(be64(last)).filter(|last| !head.is_empty() && *last != u64::MAX);
        Memo { last, epoch: be64(epoch), state: state.to_vec() }
    }
}
