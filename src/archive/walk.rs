//! The walk from a root along every link, depth first: the order of the blocks in our CARs and in Kubo's exports.
//!
//! Pure: whoever fetches the blocks feeds them in. It hashes each, so that whatever passes a whole walk is the DAG of
//! its root, complete and with nothing else. Not the rules of segments (`core::audit`): only bytes and links.

use std::collections::HashSet;

use ipld_core::codec::Links;
use serde_ipld_dagcbor::codec::DagCborCodec;

use super::Receipt;
use crate::core::car::BLOCK_BYTES_MAX;
use crate::core::cid::{Cid, Codec};
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;

/// More blocks than a segment can have: 65,536 entries at one page each, 512 MiB of frames in raw blocks.
const BLOCKS_MAX: u64 = 200_000;

/// More than the blocks of one CAR together: 65,536 leaves of 16 KiB, or 512 MiB of frames.
const BYTES_MAX: u64 = 5 << 28;

/// A walk under way.
pub(super) struct Walk {
    /// What is still to come, the next one last.
    ahead: Vec<Cid>,
    /// Everything that is or was ahead: a block linked twice comes once, at its first place.
    known: HashSet<Cid>,
    done: Receipt,
}

impl Walk {
    pub(super) fn new(root: Cid) -> Walk {
        Walk { ahead: vec![root], known: HashSet::from([root]), done: Receipt { bytes: 0, blocks: 0 } }
    }

    /// The block that must be fed next.
    pub(super) fn next_cid(&self) -> Option<Cid> {
        self.ahead.last().copied()
    }

    /// The next blocks, in order. All but the first may still move back, behind links to come.
    pub(super) fn upcoming(&self) -> impl Iterator<Item = Cid> + '_ {
        self.ahead.iter().rev().copied()
    }

    /// Takes the bytes of the next block.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<(), Refused> {
        let Some(cid) = self.ahead.pop() else {
            return Err(Refused::new(Code::BlockExtra, "a block after the last one"));
        };
        if !cid.matches(block) {
            let what = format!("block {cid}: expected SHA-256 {}, found {}", cid.hash(), Hash::of(block));
            return Err(Refused::new(Code::BlockHash, what));
        }
        self.done.blocks += 1;
        self.done.bytes += block.len() as u64;
        if block.len() >= BLOCK_BYTES_MAX || self.done.blocks > BLOCKS_MAX || self.done.bytes > BYTES_MAX {
            return Err(Refused::new(Code::LimitExceeded, format!("block {cid}: too large, or one too many")));
        }
        let mut links = links(cid, block)?;
        links.retain(|link| self.known.insert(*link));
        self.ahead.extend(links.into_iter().rev());
        Ok(())
    }

    /// Ends the walk; a linked block that did not come is missing.
    pub(super) fn end(self) -> Result<Receipt, Refused> {
        match self.next_cid() {
            None => Ok(self.done),
            Some(cid) => Err(Refused::new(Code::BlockMissing, format!("block {cid}: linked, not there"))),
        }
    }
}

/// The links of a block, in the order of its bytes.
fn links(cid: Cid, block: &[u8]) -> Result<Vec<Cid>, Refused> {
    if cid.codec() == Codec::Raw {
        return Ok(Vec::new());
    }
    let links = DagCborCodec::links(block).map_err(|e| Refused::non_canonical(format!("block {cid}: {e}")))?;
    links.map(|link| Cid::from_bytes(&link.to_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of up to 23 links, in DAG-CBOR.
    fn node(links: &[Cid]) -> Vec<u8> {
        let mut block = vec![0x80 | u8::try_from(links.len()).unwrap()];
        for link in links {
            block.extend_from_slice(b"\xd8\x2a\x58\x25\x00");
            block.extend_from_slice(&link.to_bytes());
        }
        block
    }

    fn walk(root: Cid, blocks: &[&[u8]]) -> Result<Receipt, Code> {
        let mut walk = Walk::new(root);
        blocks.iter().try_for_each(|block| walk.feed(block)).map_err(|refused| refused.code)?;
        walk.end().map_err(|refused| refused.code)
    }

    #[test]
    fn a_whole_dag_passes_depth_first_and_a_shared_block_comes_once() {
        let (a, b) = (b"a".to_vec(), b"b".to_vec());
        let [raw_a, raw_b] = [&a, &b].map(|block| Cid::of(Codec::Raw, block));
        let left = node(&[raw_a, raw_b]);
        let right = node(&[raw_b]);
        let top = node(&[Cid::of(Codec::DagCbor, &left), Cid::of(Codec::DagCbor, &right)]);
        let root = Cid::of(Codec::DagCbor, &top);

        assert_eq!(walk(root, &[&top, &left, &a, &b, &right]).unwrap().blocks, 5);
        assert_eq!(walk(root, &[&top, &left, &right, &a, &b]), Err(Code::BlockHash), "another order");
        assert_eq!(walk(root, &[&top, &left, &a, &b]), Err(Code::BlockMissing), "cut on a block boundary");
        assert_eq!(walk(root, &[&top, &left, &a, &b, &right, &b]), Err(Code::BlockExtra));
        assert_eq!(walk(root, &[&top, &left, b"A"]), Err(Code::BlockHash), "one bit");
        assert_eq!(walk(root, &[]), Err(Code::BlockMissing));
    }

    #[test]
    fn a_block_that_is_not_dag_cbor_is_refused_even_if_its_hash_is_right() {
        let block = b"\xff not cbor";
        assert_eq!(walk(Cid::of(Codec::DagCbor, block), &[block]), Err(Code::NonCanonical));
    }
}
