//! CARv1 files: one root, blocks in order.
//!
//! The heads a writer puts before its blocks, and a strict pull reader over any byte source that holds one block at
//! a time. Not what the blocks mean or which comes next: that is `segment`. Opening files is the caller's.
//! Spec: CARv1; format.md, "Segment" and the CAR faults of "Verification".

use std::io::{self, BufRead, BufReader, Read};

use serde::Serialize;

use super::cid::{Cid, Codec};
use super::codec::{self, Cursor, Link};
use super::finding::{Code, Refused};

/// Bytes of a block, fewer than this (format.md, Segment).
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Bytes of a header: one root takes 58, so anything longer is not ours.
const HEADER_BYTES_MAX: u64 = 256;
/// How much is read from the source at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Bytes of a length in front of a block, at most: a block is below 1 MiB.
const HEAD_VARINT_MAX: usize = 3;
/// Bytes in front of a block, at most.
pub const HEAD_BYTES_MAX: usize = HEAD_VARINT_MAX + Cid::LEN;

/// The header of a file with the one root `root`, its length before it.
pub fn header(root: Cid) -> Vec<u8> {
    #[derive(Serialize)]
    struct Header {
        roots: [Link; 1],
        version: u64,
    }
    let header = codec::encode(&Header { roots: [Link(root)], version: 1 });
    let mut bytes = varint(header.len());
    bytes.extend_from_slice(&header);
    bytes
}

/// What stands before the `len` bytes of the block `cid`: the length of both, and the CID.
pub fn block_head(cid: Cid, len: usize) -> Vec<u8> {
    let mut bytes = varint(Cid::LEN + len);
    bytes.extend_from_slice(&cid.to_bytes());
    bytes
}

/// Reads back what [`block_head`] wrote at the start of `bytes`: the CID, the length of the head and that of the block
/// behind it. `None` where no such head stands there.
pub fn read_block_head(bytes: &[u8]) -> Option<(Cid, usize, usize)> {
    let mut len = 0;
    for (at, byte) in bytes.iter().take(HEAD_VARINT_MAX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let cid = Cid::from_bytes(bytes.get(at + 1..at + 1 + Cid::LEN)?).ok()?;
            let block = len.checked_sub(Cid::LEN)?;
            let is_ours = block < BLOCK_BYTES_MAX && block_head(cid, block).len() == at + 1 + Cid::LEN;
            return is_ours.then_some((cid, at + 1 + Cid::LEN, block));
        }
    }
    None
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push(0x80 | (value & 0x7f).to_le_bytes()[0]);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// What a reader takes on, beyond what the format allows a file to be: exceeding it is `limit-exceeded`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one file, at most.
    pub bytes_max: u64,
    /// Blocks of one file, at most.
    pub blocks_max: usize,
}

impl Default for Limits {
    /// Twice the largest file of the format (65,536 leaves of 16,384 bytes) and a block for each of its leaves.
    fn default() -> Limits {
        Limits { bytes_max: 2 << 30, blocks_max: 70_000 }
    }
}

/// A strict pull reader of one file. It gives the blocks the caller expects, in the order the caller expects them,
/// and refuses with the first fault of the file; after a refusal it must not be used again.
#[derive(Debug)]
pub struct Reader<R> {
    source: BufReader<R>,
    limits: Limits,
    bytes_taken: u64,
    root: Cid,
    /// The block in hand.
    block: Vec<u8>,
    /// All blocks so far, in order: to tell a block that comes twice from one that nobody asked for.
    seen: Vec<Cid>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// `block-missing` where the file ends in it, `non-canonical` for another version, number or codec of roots,
    /// `unreachable` where the source fails.
    pub fn open(source: R, limits: Limits) -> Result<Reader<R>, Refused> {
        let source = BufReader::with_capacity(BUFFER_BYTES, source);
        let root = Cid::of(Codec::DagCbor, b"");
        let mut reader = Reader { source, limits, bytes_taken: 0, root, block: Vec::new(), seen: Vec::new() };
        let Some(len) = reader.varint()? else { return Err(missing("the file is empty")) };
        if len > HEADER_BYTES_MAX {
            return Err(Refused::non_canonical(format!("car: a header of {len} bytes")));
        }
        reader.fill(len)?;
        reader.root = read_header(&reader.block)?;
        Ok(reader)
    }

    /// The root the header names. Nothing says yet that its block is there.
    pub fn root(&self) -> Cid {
        self.root
    }

    /// Takes the first block, which must be the root's.
    ///
    /// # Errors
    /// `block-missing`, `block-hash`, `non-canonical` where another block is first, and the faults of a file.
    pub fn first(&mut self) -> Result<&[u8], Refused> {
        match self.take()? {
            None => Err(missing("the file ends after its header")),
            Some(found) if found == self.root => Ok(&self.block),
            Some(found) => Err(Refused::non_canonical(format!("car: root {}, first block {found}", self.root))),
        }
    }

    /// Takes the next block, which must be `cid`; `is_due` knows the blocks that stand further on.
    ///
    /// # Errors
    /// `block-missing`, `block-hash`, `block-extra` where a block nobody links or one that was there already stands
    /// in its place, `non-canonical` where the two are in another order, and the faults of a file.
    pub fn expect(&mut self, cid: Cid, is_due: impl Fn(&Cid) -> bool) -> Result<&[u8], Refused> {
        match self.take()? {
            None => Err(missing(&format!("the file ends before {cid}"))),
            Some(found) if found == cid => Ok(&self.block),
            Some(found) => Err(self.misplaced(cid, found, is_due)),
        }
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// `block-extra`, and the faults of a file.
    pub fn end(&mut self) -> Result<(), Refused> {
        match self.take()? {
            None => Ok(()),
            Some(found) => Err(Refused::new(Code::BlockExtra, format!("car: {found} after the last block"))),
        }
    }

    /// The block read last: also one that was refused because of its hash.
    pub fn in_hand(&self) -> &[u8] {
        &self.block
    }

    /// The bytes read so far.
    pub fn bytes_taken(&self) -> u64 {
        self.bytes_taken
    }

    /// What it means that `found` stands where `expected` should: the rest of the file tells.
    fn misplaced(&mut self, expected: Cid, found: Cid, is_due: impl Fn(&Cid) -> bool) -> Refused {
        let at = format!("car: {found} where {expected} stands");
        if found.hash() == expected.hash() {
            return Refused::non_canonical(at);
        }
        let earlier = self.seen.len().saturating_sub(1);
        let is_twice = self.seen.iter().take(earlier).any(|cid| *cid == found);
        let link = codec::encode(&Link(found));
        let mut is_linked = is_due(&found);
        let mut comes_later = false;
        // A fault further on is not the first one, so it only ends the look ahead.
        while let Ok(Some(cid)) = self.take() {
            comes_later |= cid == expected;
            is_linked |= cid.codec() == Codec::DagCbor && self.block.windows(link.len()).any(|window| window == link);
        }
        match comes_later {
            false => missing(&format!("{expected}, {found} stands in its place")),
            true if is_twice || !is_linked => Refused::new(Code::BlockExtra, at),
            true => Refused::non_canonical(at),
        }
    }

    /// Reads the next block into hand and checks that it hashes to its CID; `None` at the end of the file.
    fn take(&mut self) -> Result<Option<Cid>, Refused> {
        let Some(len) = self.varint()? else { return Ok(None) };
        let data = len.checked_sub(Cid::LEN as u64).filter(|data| *data < BLOCK_BYTES_MAX as u64);
        let Some(data) = data else {
            return Err(Refused::non_canonical(format!("car: a block of {len} bytes with its CID")));
        };
        self.fill(Cid::LEN as u64)?;
        let cid = Cid::from_bytes(&self.block)?;
        if self.seen.len() >= self.limits.blocks_max {
            let what = format!("car: more than {} blocks", self.limits.blocks_max);
            return Err(Refused::new(Code::LimitExceeded, what));
        }
        self.fill(data)?;
        if !cid.matches(&self.block) {
            return Err(Refused::new(Code::BlockHash, format!("car: {cid} is not the hash of its block")));
        }
        self.seen.push(cid);
        Ok(Some(cid))
    }

    /// A length in the shortest form, or `None` where the file has ended before it.
    fn varint(&mut self) -> Result<Option<u64>, Refused> {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let Some(&byte) = self.source.fill_buf().map_err(unreadable)?.first() else {
                return if shift == 0 { Ok(None) } else { Err(missing("the file ends inside a length")) };
            };
            self.source.consume(1);
            self.count(1)?;
            value |= u64::from(byte & 0x7f) << shift;
            match byte {
                0 if shift > 0 => break,
                0..0x80 => return Ok(Some(value)),
                // Four bytes reach beyond every length of the format, so no longer one needs reading.
                _ if shift >= 28 => break,
                _ => {}
            }
        }
        Err(Refused::non_canonical("car: a length that is not the shortest, or beyond any block"))
    }

    /// Reads `len` bytes into hand.
    fn fill(&mut self, len: u64) -> Result<(), Refused> {
        self.count(len)?;
        self.block.clear();
        let read = self.source.by_ref().take(len).read_to_end(&mut self.block).map_err(unreadable)?;
        if (read as u64) < len { Err(missing("the file ends inside a block")) } else { Ok(()) }
    }

    fn count(&mut self, len: u64) -> Result<(), Refused> {
        self.bytes_taken += len;
        if self.bytes_taken > self.limits.bytes_max {
            let what = format!("car: more than {} bytes", self.limits.bytes_max);
            return Err(Refused::new(Code::LimitExceeded, what));
        }
        Ok(())
    }
}

fn read_header(bytes: &[u8]) -> Result<Cid, Refused> {
    let mut cursor = Cursor::new(bytes);
    cursor.map_of(2)?;
    cursor.key("roots")?;
    cursor.array_of(1)?;
    let root = cursor.link()?;
    cursor.key("version")?;
    let version = cursor.uint()?;
    cursor.end()?;
    if version != 1 || root.codec() != Codec::DagCbor {
        return Err(Refused::non_canonical("car: not version 1, or a root that is not dag-cbor"));
    }
    Ok(root)
}

fn missing(what: &str) -> Refused {
    Refused::new(Code::BlockMissing, format!("car: {what}"))
}

/// A source that fails is no fault of the file, unless it says itself what is.
fn unreadable(error: io::Error) -> Refused {
    if let Some(refused) = Refused::carried_by(&error) {
        return refused.clone();
    }
    Refused::new(Code::Unreachable, format!("car: reading: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of blocks `0`, `1`, ...; block `n` is a text of `n` letters, so each has its own length.
    fn car(order: &[usize]) -> Vec<u8> {
        let mut bytes = header(cid(0));
        for n in order {
            bytes.extend(block_head(cid(*n), block(*n).len()));
            bytes.extend(block(*n));
        }
        bytes
    }

    fn block(n: usize) -> Vec<u8> {
        codec::encode(&"x".repeat(n))
    }

    fn cid(n: usize) -> Cid {
        Cid::of(Codec::DagCbor, &block(n))
    }

    /// Reads a file that should hold blocks 0 to 3.
    fn read(bytes: &[u8]) -> Result<(), Code> {
        let read = || {
            let mut reader = Reader::open(bytes, Limits { bytes_max: 4096, blocks_max: 6 })?;
            assert_eq!(reader.first()?, block(0));
            for n in 1..4 {
                assert_eq!(reader.expect(cid(n), |cid_due| (n..4).any(|due| cid(due) == *cid_due))?, block(n));
            }
            reader.end()
        };
        read().map_err(|refused: Refused| refused.code)
    }

    #[test]
    fn a_head_reads_back_and_nothing_else_does() {
        for len in [0, 1, 91, 92, 16_347, 16_348, BLOCK_BYTES_MAX - 1] {
            let head = block_head(cid(3), len);
            assert_eq!(read_block_head(&[&head[..], b"block"].concat()), Some((cid(3), head.len(), len)));
            assert_eq!(read_block_head(&head[..head.len() - 1]), None, "cut");
        }
        assert_eq!(read_block_head(&block_head(cid(3), BLOCK_BYTES_MAX)), None, "too long");
        assert_eq!(read_block_head(&[&[0xa4, 0x00], &cid(3).to_bytes()[..]].concat()), None, "not the shortest");
        assert_eq!(read_block_head(&[0x20; 40]), None, "shorter than a CID");
    }

    #[test]
    fn blocks_come_back_in_order() {
        assert_eq!(read(&car(&[0, 1, 2, 3])), Ok(()));
    }

    #[test]
    fn each_fault_of_the_order_has_its_code() {
        for (order, code) in [
            (&[][..], Code::BlockMissing),
            (&[0, 1, 2], Code::BlockMissing),
            (&[0, 2, 3], Code::BlockMissing),
            (&[1, 0, 2, 3], Code::NonCanonical),
            (&[0, 2, 1, 3], Code::NonCanonical),
            (&[0, 1, 2, 3, 3], Code::BlockExtra),
            (&[0, 1, 1, 2, 3], Code::BlockExtra),
            (&[0, 1, 9, 2, 3], Code::BlockExtra),
            (&[0, 1, 2, 3, 9], Code::BlockExtra),
            (&[0, 1, 2, 3, 9, 10, 11], Code::BlockExtra),
        ] {
            assert_eq!(read(&car(order)), Err(code), "{order:?}");
        }
    }

    #[test]
    fn no_prefix_and_no_changed_byte_is_taken() {
        let sound = car(&[0, 1, 2, 3]);
        for len in 0..sound.len() {
            assert_eq!(read(&sound[..len]), Err(Code::BlockMissing), "prefix of {len}");
        }
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut other = sound.clone();
                other[at] ^= 1 << bit;
                assert!(read(&other).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_reader_takes_on_no_more_than_its_limits() {
        assert_eq!(read(&car(&[0, 1, 2, 3].repeat(9))), Err(Code::BlockExtra));
        let limited = |bytes_max, blocks_max| {
            let bytes = car(&[0, 1]);
            let mut reader = Reader::open(&bytes[..], Limits { bytes_max, blocks_max })?;
            reader.first()?;
            reader.expect(cid(1), |_| false).map(<[u8]>::len)
        };
        assert_eq!(limited(4096, 2), Ok(2));
        assert_eq!(limited(100, 2).unwrap_err().code, Code::LimitExceeded);
        assert_eq!(limited(4096, 1).unwrap_err().code, Code::LimitExceeded);
        let mut huge = header(cid(0));
        huge.extend(varint(BLOCK_BYTES_MAX + Cid::LEN));
        assert_eq!(read(&huge), Err(Code::NonCanonical));
    }

    #[test]
    fn a_source_that_fails_is_no_fault_of_the_file() {
        #[derive(Debug)]
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        assert_eq!(Reader::open(Failing, Limits::default()).unwrap_err().code, Code::Unreachable);
    }
}
