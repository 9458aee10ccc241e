//! Reading and writing the keyring's fixed layouts: big-endian integers and counted bytes.
//!
//! Not DAG-CBOR: nothing of the keyring is read by strangers. Every `take` is checked; what does not fit is `None`.

/// What is left of a file's bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// be32 length, then that many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A length as the be32 in front of counted bytes.
#[expect(clippy::expect_used, reason = "shards, groups and manifests are bounded far below 4 GiB")]
pub(super) fn be32(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("below 4 GiB").to_be_bytes()
}
