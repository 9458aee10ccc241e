//! Random bytes for sealing, in large blocks.

use rand::TryRng;

use super::error::SidecarError;

/// Random bytes of the operating system, drawn in large blocks: a system call for each part would cost more than its
/// encryption.
pub(super) struct Random {
    block: Vec<u8>,
    at: usize,
}

impl Random {
    const BLOCK: usize = 64 * 1024;

    pub(super) fn new() -> Random {
        Random { block: vec![0; Random::BLOCK], at: Random::BLOCK }
    }

    /// `N` bytes that were never given before; they are wiped from the block.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], SidecarError> {
        if self.at + N > self.block.len() {
            rand::rngs::SysRng.try_fill_bytes(&mut self.block).map_err(|_| SidecarError::NoRandom)?;
            self.at = 0;
        }
        let Some(bytes) = self.block.get_mut(self.at..self.at + N) else { return Err(SidecarError::NoRandom) };
        let mut taken = [0; N];
        taken.copy_from_slice(bytes);
        bytes.fill(0);
        self.at += N;
        Ok(taken)
    }
}
