//! What the journal knows beside the entries: sizes, edges of the tree, the live head, seals, positions, a halt.
//!
//! The rows are private to the journal and may change with its layout; nothing of them is archived.
//! Layout: docs/journal.md, "Rows".

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::block::Reader;
use super::error::JournalError;
use super::frames::Place;
use crate::core::cid::Cid;
use crate::core::hash::Hash;
use crate::core::merkle::Tree;
use crate::core::origin::Origin;
use crate::core::seq::{Seq, Size};
use crate::core::time::Timestamp;

/// The journal after its last commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The log.
    pub origin: Origin,
    /// The tree over all entries.
    pub tree: Tree,
    /// The leaf hash of the last entry, zeros where there is none: the `prev` of the next.
    pub prev: Hash,
    /// The live head, a signed note; none before the first entry. It never leaves the machine.
    pub live: Option<String>,
    /// The largest time an entry was recorded at: `recorded_at` never falls.
    pub recorded_at: Timestamp,
    /// Up to where the log is sealed.
    pub sealed: Sealed,
    /// The first entry still held; what is before was pruned.
    pub kept_from: Seq,
    /// Set while a halt stands.
    pub halted: Option<Halt>,
    /// The first frame file that is needed.
    pub(super) frames_first: u32,
    /// Behind the last committed frame.
    pub(super) frames_end: Place,
}

/// The end of the last sealed segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sealed {
    /// The number of segments.
    pub segments: u64,
    /// The tree at its end: its size is the `first` of the next segment, its peaks are that segment's `peaks`.
    pub tree: Tree,
    /// The leaf hash of its last entry.
    pub prev: Hash,
}

impl State {
    /// The number of entries.
    pub fn size(&self) -> Size {
        self.tree.size()
    }

    pub(super) fn empty(origin: Origin) -> State {
        State {
            origin,
            tree: Tree::new(),
            prev: Hash::ZERO,
            live: None,
            recorded_at: Timestamp(0),
            sealed: Sealed::default(),
            kept_from: Seq(0),
            halted: None,
            frames_first: 0,
            frames_end: Place::default(),
        }
    }
}

/// Why the sidecar stopped by itself; durable, and repeated at every start until a person says `resume`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Halt {
    /// A short word for scripts.
    pub code: String,
    /// What happened, with both values.
    pub message: String,
    /// The next command.
    pub hint: String,
    /// When.
    pub since: Timestamp,
}

/// Where a partition stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PositionRow {
    /// The offset of the next record to fold.
    pub next_offset: u64,
    /// The `record_mac` of the last folded record, where one was folded.
    pub record_mac: Option<Hash>,
    /// Opaque: what the source needs to know the records before again (a hash of the bytes read). At most 1 KiB.
    pub memo: Vec<u8>,
}

/// A sealed segment, kept for ever: `skip` links need old seals, an old head needs their roots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealRow {
    /// Its number.
    pub segment: u64,
    /// Its first entry.
    pub first: Seq,
    /// The number of entries.
    pub count: u64,
    /// The root at its end.
    pub root: Hash,
    /// The seal.
    pub seal: Cid,
    /// The payload, where a leaf has parts.
    pub payload: Option<Cid>,
}

impl SealRow {
    /// The size of the log at its end.
    pub fn end(&self) -> Size {
        Size(self.first.0 + self.count)
    }
}

/// The state row as stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    origin: String,
    size: u64,
    peaks: ByteBuf,
    prev: ByteBuf,
    live: Option<String>,
    recorded_at: u64,
    sealed_segments: u64,
    sealed_size: u64,
    sealed_peaks: ByteBuf,
    sealed_prev: ByteBuf,
    kept_from: u64,
    frames_first: u32,
    frames_end_file: u32,
    frames_end_offset: u64,
    rules_bytes: u64,
}

pub(super) fn encode_state(state: &State, rules_bytes: u64) -> Vec<u8> {
    pack(&Stored {
        origin: state.origin.to_string(),
        size: state.size().0,
        peaks: join(state.tree.peaks()),
        prev: join(&[state.prev]),
        live: state.live.clone(),
        recorded_at: state.recorded_at.0,
        sealed_segments: state.sealed.segments,
        sealed_size: state.sealed.tree.size().0,
        sealed_peaks: join(state.sealed.tree.peaks()),
        sealed_prev: join(&[state.sealed.prev]),
        kept_from: state.kept_from.0,
        frames_first: state.frames_first,
        frames_end_file: state.frames_end.file,
        frames_end_offset: state.frames_end.offset,
        rules_bytes,
    })
}

/// The state, without the halt, which has a row of its own; and the length of the rules.
pub(super) fn decode_state(bytes: &[u8]) -> Result<(State, u64), JournalError> {
    let stored: Stored = unpack("state row", bytes)?;
    let damaged = |found: String| JournalError::damaged("state row", "a consistent state", found);
    let tree = |size: u64, peaks: &[u8]| {
        let peaks = split(peaks).ok_or_else(|| damaged(format!("{} bytes of peaks", peaks.len())))?;
        Tree::from_peaks(Size(size), peaks).map_err(|refused| damaged(refused.to_string()))
    };
    let hash = |bytes: &[u8]| one(bytes).ok_or_else(|| damaged(format!("a hash of {} bytes", bytes.len())));
    let state = State {
        origin: Origin::new(&stored.origin).map_err(|refused| damaged(refused.to_string()))?,
        tree: tree(stored.size, &stored.peaks)?,
        prev: hash(&stored.prev)?,
        live: stored.live,
        recorded_at: Timestamp(stored.recorded_at),
        sealed: Sealed {
            segments: stored.sealed_segments,
            tree: tree(stored.sealed_size, &stored.sealed_peaks)?,
            prev: hash(&stored.sealed_prev)?,
        },
        kept_from: Seq(stored.kept_from),
        halted: None,
        frames_first: stored.frames_first,
        frames_end: Place { file: stored.frames_end_file, offset: stored.frames_end_offset },
    };
    if state.kept_from.0 > state.sealed.tree.size().0
        || state.sealed.tree.size() > state.size()
        || state.frames_first > state.frames_end.file
    {
        return Err(damaged(format!("kept from {}, sealed {}", state.kept_from, state.sealed.tree.size())));
    }
    Ok((state, stored.rules_bytes))
}

pub(super) fn encode_halt(halt: &Halt) -> Vec<u8> {
    pack(&(&halt.code, &halt.message, &halt.hint, halt.since.0))
}

pub(super) fn decode_halt(bytes: &[u8]) -> Result<Halt, JournalError> {
    let (code, message, hint, since) = unpack("halt row", bytes)?;
    Ok(Halt { code, message, hint, since: Timestamp(since) })
}

pub(super) fn encode_position(row: &PositionRow) -> Vec<u8> {
    let mut bytes = row.next_offset.to_be_bytes().to_vec();
    bytes.push(u8::from(row.record_mac.is_some()));
    bytes.extend(row.record_mac.unwrap_or_default().as_bytes());
    bytes.extend(&row.memo);
    bytes
}

pub(super) fn decode_position(bytes: &[u8]) -> Result<PositionRow, JournalError> {
    let mut reader = Reader(bytes);
    let (Some(next), Some([has @ 0..=1]), Some(mac)) = (reader.take(), reader.take(), reader.take::<32>()) else {
        return Err(JournalError::damaged("position row", "next offset and mac", format!("{} bytes", bytes.len())));
    };
    Ok(PositionRow {
        next_offset: u64::from_be_bytes(next),
        record_mac: (has == 1).then_some(Hash(mac)),
        memo: reader.0.to_vec(),
    })
}

pub(super) fn encode_seal(row: &SealRow) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(row.first.0.to_be_bytes());
    bytes.extend(row.count.to_be_bytes());
    bytes.extend(row.root.as_bytes());
    bytes.extend(row.seal.to_bytes());
    bytes.extend(row.payload.iter().flat_map(Cid::to_bytes));
    bytes
}

pub(super) fn decode_seal(segment: u64, bytes: &[u8]) -> Result<SealRow, JournalError> {
    let read = || {
        let mut reader = Reader(bytes);
        let first = Seq(u64::from_be_bytes(reader.take()?));
        let count = u64::from_be_bytes(reader.take()?);
        let root = Hash(reader.take()?);
        let seal = Cid::from_bytes(&reader.take::<{ Cid::LEN }>()?).ok()?;
        let payload = if reader.0.is_empty() { None } else { Some(Cid::from_bytes(reader.0).ok()?) };
        Some(SealRow { segment, first, count, root, seal, payload })
    };
    read().ok_or_else(|| JournalError::damaged(format!("seal row {segment}"), "a whole row", hex::encode(bytes)))
}

pub(super) fn join(hashes: &[Hash]) -> ByteBuf {
    ByteBuf::from(hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>())
}

pub(super) fn split(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

fn one(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok().map(Hash)
}

#[expect(clippy::expect_used, reason = "integers, text and bytes written to memory cannot fail")]
fn pack<T: Serialize>(row: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(row).expect("a row of integers, text and bytes encodes")
}

fn unpack<T: for<'de> Deserialize<'de>>(place: &str, bytes: &[u8]) -> Result<T, JournalError> {
    serde_ipld_dagcbor::from_slice(bytes).map_err(|e| JournalError::damaged(place, "a whole row", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cid::Codec;

    #[test]
    fn rows_round_trip() {
        let mut state = State::empty(Origin::new("a.b").unwrap());
        (0u8..21).for_each(|i| state.tree.append(Hash::leaf(&[i])));
        (0u8..5).for_each(|i| state.sealed.tree.append(Hash::leaf(&[i])));
        state.live = Some("note".to_owned());
        state.kept_from = Seq(5);
        state.frames_end = Place { file: 7, offset: 99 };
        assert_eq!(decode_state(&encode_state(&state, 12)).unwrap(), (state, 12));
        for payload in [None, Some(Cid::of(Codec::DagCbor, b"p"))] {
            let seal = Cid::of(Codec::DagCbor, b"s");
            let row = SealRow { segment: 4, first: Seq(9), count: 2, root: Hash::of(b"r"), seal, payload };
            assert_eq!(decode_seal(4, &encode_seal(&row)).unwrap(), row);
        }
        for record_mac in [None, Some(Hash::of(b"mac"))] {
            let row = PositionRow { next_offset: 3, record_mac, memo: b"memo".to_vec() };
            assert_eq!(decode_position(&encode_position(&row)).unwrap(), row);
        }
        let text = |s: &str| s.to_owned();
        let halt = Halt { code: text("c"), message: text("m"), hint: text("h"), since: Timestamp(8) };
        assert_eq!(decode_halt(&encode_halt(&halt)).unwrap(), halt);
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let mut state = State::empty(Origin::new("a.b").unwrap());
        state.kept_from = Seq(1);
        assert!(matches!(decode_state(&encode_state(&state, 0)), Err(JournalError::Damaged { .. })));
        let bytes = encode_state(&State::empty(Origin::new("a.b").unwrap()), 0);
        for len in 0..bytes.len() {
            assert!(decode_state(&bytes[..len]).is_err(), "{len}");
        }
    }
}
