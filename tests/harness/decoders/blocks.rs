//! Decoders of bytes: blocks and CAR files, protobuf, tars. Blocks that a reader meets behind a hash are put into a CAR
//! that is right up to them, so that the fuzzer need not guess SHA-256.

use std::io::{self, Read};

use pinfold::core::audit::{self, AuditInput, File, audit};
use pinfold::core::car::{self, Limits as CarLimits};
use pinfold::core::checkpoint::{Head, sign_checkpoint};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::codec::{self, Cursor};
use pinfold::core::completeness::Completeness;
use pinfold::core::decode::{Format, Limits, decode};
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, ErasureStep, Leaf, LeafView};
use pinfold::core::merkle::Tree;
use pinfold::core::note::Skey;
use pinfold::core::origin::Origin;
use pinfold::core::proof::{erasure as certificate, evidence as bundle, tar};
use pinfold::core::record::{Header, Record};
use pinfold::core::segment::read::{Frames, Proof, read_anchor};
use pinfold::core::segment::{Anchor, Payload, Seal};
use pinfold::core::seq::{Seq, Size};
use pinfold::core::timestamp::{Query, Token, token_of};

use super::{same, seeds};

const LIMITS: CarLimits = CarLimits { bytes_max: 1 << 20, blocks_max: 64 };

pub(super) fn leaf(bytes: &[u8]) {
    let leaf = same(bytes, |bytes| Leaf::decode(bytes).ok(), |leaf| leaf.encode().expect("what was read is written"));
    let view = LeafView::decode(bytes);
    assert_eq!(leaf.is_some(), view.is_ok(), "the two readers of a leaf");
    if let (Some(leaf), Ok(view)) = (leaf, view) {
        assert!(leaf.parts.iter().copied().eq(view.parts()) && view.part_count() == leaf.parts.len());
        assert_eq!(view.body().as_ref(), Ok(&leaf.body));
    }
}

pub(super) fn seal(bytes: &[u8]) {
    same(bytes, |bytes| Seal::decode(bytes).ok(), Seal::encode);
}

pub(super) fn payload(bytes: &[u8]) {
    same(bytes, |bytes| Payload::decode(bytes).ok(), Payload::encode);
}

pub(super) fn anchor(bytes: &[u8]) {
    if let Some(anchor) = same(bytes, |bytes| Anchor::decode(bytes).ok(), Anchor::encode) {
        let car = anchor.to_car();
        let (cid, read) = read_anchor(&car[..], CarLimits::default()).expect("what was written is read");
        assert_eq!((cid, read), (Cid::of(Codec::DagCbor, bytes), anchor));
    }
}

pub(super) fn dag_cbor(bytes: &[u8]) {
    let write = |value: &_| serde_ipld_dagcbor::to_vec(value).expect("what was read is written");
    let read = same(bytes, |bytes| codec::read(bytes).ok(), write);
    assert!(read.is_none() || codec::check(bytes).is_ok());
    let _ = codec::check_version(bytes);
}

/// A CAR file as it comes, by each reader.
pub(super) fn car(bytes: &[u8]) {
    let _ = read_proof(bytes);
    let _ = read_frames(bytes);
    let _ = read_anchor(bytes, LIMITS);
}

fn read_proof(bytes: &[u8]) -> Option<usize> {
    let mut proof = Proof::open(bytes, LIMITS).ok()?;
    let mut leaves = 0;
    while let Some(page) = proof.page().ok()? {
        leaves += page.count;
    }
    Some(leaves)
}

fn read_frames(bytes: &[u8]) -> Option<usize> {
    let mut frames = Frames::open(bytes, LIMITS).ok()?;
    let mut total = 0;
    while frames.take(|frame| total += frame.len()).ok()?.is_some() {}
    Some(total)
}

fn cid(block: &[u8]) -> Cid {
    Cid::of(Codec::DagCbor, block)
}

/// A CAR of these blocks, the first its root.
fn car_of(blocks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = blocks.first().map(|root| car::header(cid(root))).unwrap_or_default();
    for block in blocks {
        bytes.extend(car::block_head(cid(block), block.len()));
        bytes.extend_from_slice(block);
    }
    bytes
}

fn origin() -> Origin {
    Origin::new("example.com/audit/main").expect("an origin")
}

/// A Seal over this Index, signed by nobody.
fn seal_over(index: &[u8]) -> Seal {
    Seal {
        skip: None,
        count: 1,
        first: Size(0),
        peaks: Vec::new(),
        leaves: cid(index),
        origin: origin(),
        payload: None,
        segment: 0,
        sources: Vec::new(),
        prev_seal: None,
        checkpoint: String::new(),
    }
}

pub(super) fn index(bytes: &[u8]) {
    let _ = read_proof(&car_of(&[&seal_over(bytes).encode(), bytes]));
}

fn payload_over(index: &[u8]) -> Vec<u8> {
    Payload { frames: cid(index), origin: origin(), segment: 0 }.encode()
}

pub(super) fn frame_index(bytes: &[u8]) {
    let _ = read_frames(&car_of(&[&payload_over(bytes), bytes]));
}

/// A frame page below an index that names its first frame.
pub(super) fn frame_page(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let first = |cursor: &mut Cursor<'_>| {
        cursor.array()?;
        cursor.array_of(3)?;
        Ok::<_, pinfold::core::finding::Refused>((cursor.uint()?, cursor.uint()?))
    };
    let (seq, part) = first(&mut cursor).unwrap_or_default();
    let index = codec::encode(&[(seq, part, codec::Link(cid(bytes)))]);
    let _ = read_frames(&car_of(&[&payload_over(&index), &index, bytes]));
}

/// The leaves of a page as the only segment of a log, sealed and signed as if its own sidecar had: whatever the leaves
/// say, the audit comes to a verdict.
pub(super) fn page(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let Ok(claimed) = cursor.array() else { return };
    let (mut rest, mut tree, mut offsets) = (cursor.rest(), Tree::new(), Completeness::default());
    let (mut first, mut has_parts) = (None, false);
    while let Ok((view, after)) = LeafView::decode_prefix(rest) {
        let (leaf, _) = rest.split_at(rest.len() - after.len());
        assert_eq!(Leaf::decode(leaf).and_then(|leaf| leaf.encode()).as_deref(), Ok(leaf), "a leaf of a page");
        tree.append(Hash::leaf(leaf));
        first = first.or(Some(view.seq));
        has_parts |= view.part_count() > 0;
        view.src.map(|src| offsets.entry(src));
        if let Ok(Body::Gap(gaps)) = view.body() {
            for gap in gaps {
                offsets.gap(gap.partition, gap.first, gap.last);
            }
        }
        rest = after;
    }
    let count = if rest.is_empty() { tree.size().0 } else { claimed as u64 };
    let index = codec::encode(&[(first.unwrap_or(Seq(0)).0, codec::Link(cid(bytes)))]);
    let key = Skey::from_seed(origin().as_str(), &[7; 32]).expect("a key");
    let head = Head { origin: origin(), size: tree.size(), root: tree.root() };
    let seal = Seal {
        count: count.clamp(1, 65_536),
        payload: has_parts.then(|| cid(b"a payload that was pruned")),
        sources: offsets.end_segment().0,
        checkpoint: sign_checkpoint(&head, &key),
        ..seal_over(&index)
    };
    let archive = One(car_of(&[&seal.encode(), &index, bytes]));
    let input = AuditInput { vkeys: vec![key.vkey().clone()], limits: LIMITS, ..AuditInput::default() };
    let report = audit(&archive, 1, &input).expect("the call is sound");
    assert!([0, 10, 20, 30, 40, 50].contains(&report.exit), "{}", report.exit);
}

/// An archive of one proof file.
struct One(Vec<u8>);

impl audit::Archive for One {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        let is_it = segment == 0 && file == File::Proof;
        Ok(is_it.then(|| Box::new(&self.0[..]) as Box<dyn Read + '_>))
    }
}

pub(super) fn envelope(bytes: &[u8]) {
    let record = Record { value: Some(bytes.to_vec()), ..Record::default() };
    let _ = decode(&record, Format::Protobuf, &Limits::default());
}

/// A record with headers: `count`, then for each a length and a name, a length and a value; the rest is the value.
pub(super) fn headers(bytes: &[u8]) {
    let mut rest = bytes;
    let mut take = || {
        let (len, after) = rest.split_first()?;
        let (field, after) = after.split_at_checked(usize::from(*len))?;
        rest = after;
        Some(field.to_vec())
    };
    let mut headers = Vec::new();
    let count = take().and_then(|count| count.first().copied()).unwrap_or_default();
    for _ in 0..count.min(16) {
        let (Some(name), value) = (take(), take()) else { break };
        headers.push(Header { name, value });
    }
    let record = Record { headers, value: Some(rest.to_vec()), ..Record::default() };
    let _ = decode(&record, Format::Auto, &Limits::default());
}

pub(super) fn erasure(bytes: &[u8]) {
    for step in ErasureStep::ALL {
        let _ = certificate::read_statement(*step, bytes);
    }
}

pub(super) fn evidence(bytes: &[u8]) {
    let write = |files: &Vec<tar::File>| tar::write(files).expect("what was read is written");
    let Some(_) = same(bytes, |bytes| tar::read(bytes).ok(), write) else { return };
    for vkey in seeds::vkeys() {
        let _ = bundle::check(bytes, vkey, None);
        let _ = certificate::check(bytes, vkey, Some(vkey));
    }
}

pub(super) fn timestamp_token(bytes: &[u8]) {
    let Ok(token) = Token::open(bytes) else { return };
    assert!(token.covers(token.imprint()).is_ok());
    let _ = (token.claimed_time(), token.claimed_authority());
    if let Ok(vouched) = token.vouched_by(seeds::roots()) {
        // Who can forge one has what was signed: only the token of the seeds is vouched for.
        let (sound, _) = seeds::stamped();
        assert_eq!(sound.vouched_by(seeds::roots()), Ok(vouched));
    }
}

pub(super) fn timestamp_reply(bytes: &[u8]) {
    let (_, imprint) = seeds::stamped();
    let query = Query::new(*imprint, [1; 16]).expect("a query");
    if let Ok((_, der)) = query.accept(bytes) {
        assert_eq!(token_of(bytes), Ok(der));
    } else if let Ok(der) = token_of(bytes) {
        timestamp_token(&der);
    }
}
