//! Reading a DAG back from a node, block by block, from its root.
//!
//! Not `dag/export` and not the gateway: both end early with HTTP 200 where a block is damaged. Every block is asked for
//! by its CID and hashed here; several are under way at once, because each call is a TCP connection of its own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Failure, Kubo, Reach};
use crate::archive::walk::Walk;
use crate::archive::{CarFile, PinError, Receipt};
use crate::core::car;
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};
use crate::core::hash::Hash;

/// Blocks that came before their turn. Beyond it only the block whose turn it is is asked for.
const EARLY_BLOCKS_MAX: usize = 64;

impl Kubo {
    /// One block, hashed.
    ///
    /// # Errors
    /// `Tampered` if the node has it damaged, or (with [`Reach::Node`]) not at all.
    pub async fn block(&self, cid: Cid, reach: Reach) -> Result<Vec<u8>, PinError> {
        let block = self.block_get(cid, reach).await.map_err(|failure| self.block_error(cid, failure))?;
        if cid.matches(&block) {
            return Ok(block);
        }
        let what = format!("block {cid}: expected SHA-256 {}, found {}", cid.hash(), Hash::of(&block));
        Err(self.tampered(Refused::new(Code::BlockHash, what)))
    }

    /// Writes the CAR of `root` to `into`: the bytes of the archive file, whoever kept them. Not synced.
    ///
    /// # Errors
    /// As [`Kubo::block`]; `Retry` if `into` cannot be written. What was written until then stays.
    pub async fn fetch(&self, root: Cid, into: &Path, reach: Reach) -> Result<CarFile, PinError> {
        let failed = |error: io::Error| PinError::Retry {
            target: self.settings.name.clone(),
            doing: format!("write {}", into.display()),
            why: error.to_string(),
            hint: "free space, or name a directory that can be written".to_owned(),
        };
        // Small writes into the page cache: not worth a thread of their own.
        let mut file = BufWriter::with_capacity(1 << 18, File::create(into).map_err(failed)?);
        file.write_all(&car::header(root)).map_err(failed)?;
        let mut bytes = car::header(root).len() as u64;
        let write = |cid, block: &[u8]| {
            let head = car::block_head(cid, block.len());
            bytes += (head.len() + block.len()) as u64;
            file.write_all(&head).and_then(|()| file.write_all(block)).map_err(failed)
        };
        self.walk(root, reach, write).await?;
        file.flush().map_err(failed)?;
        Ok(CarFile { path: into.to_owned(), root, bytes })
    }

    /// Reads `car` back from the node's own store, within a time that its length allows.
    pub(super) async fn read_back(&self, car: &CarFile) -> Result<Receipt, PinError> {
        // Each call has its time-out. Together they may take four times as long as one call over the same bytes.
        let time = self.time_for(car.bytes) * 4;
        let walk = tokio::time::timeout(time, self.walk(car.root, Reach::Node, |_, _| Ok(())));
        let slow = |_| Err(self.error(format!("read back {}", car.root), Failure::TimedOut(time)));
        walk.await.unwrap_or_else(slow)
    }

    /// Those of `cids` that the node has damaged or not at all.
    pub(super) async fn bad_blocks(&self, cids: Vec<Cid>) -> Result<Vec<Cid>, PinError> {
        let calls = cids.into_iter().map(|cid| async move { (cid, self.block(cid, Reach::Node).await) });
        let mut answers = futures_util::stream::iter(calls).buffer_unordered(self.settings.calls_at_once.max(1));
        let mut bad = Vec::new();
        while let Some((cid, answer)) = answers.next().await {
            match answer {
                Ok(_) => {}
                Err(PinError::Tampered { .. }) => bad.push(cid),
                Err(error) => return Err(error),
            }
        }
        Ok(bad)
    }

    /// Walks from `root` along every link and hands each block to `take`, in the order of our CARs.
    async fn walk(
        &self,
        root: Cid,
        reach: Reach,
        mut take: impl FnMut(Cid, &[u8]) -> Result<(), PinError> + Send,
    ) -> Result<Receipt, PinError> {
        let mut walk = Walk::new(root);
        let mut asked = HashSet::new();
        let mut early: HashMap<Cid, Vec<u8>> = HashMap::new();
        let mut answers = FuturesUnordered::new();
        while let Some(next) = walk.next_cid() {
            if let Some(block) = early.remove(&next) {
                asked.remove(&next);
                walk.feed(&block).map_err(|fault| self.tampered(fault))?;
                take(next, &block)?;
                continue;
            }
            for cid in walk.upcoming().take(self.settings.calls_at_once.max(1)) {
                let has_room = answers.len() < self.settings.calls_at_once && early.len() < EARLY_BLOCKS_MAX;
                if (has_room || cid == next) && asked.insert(cid) {
                    answers.push(async move { (cid, self.block(cid, reach).await) });
                }
            }
            if let Some((cid, answer)) = answers.next().await {
                early.insert(cid, answer?);
            }
        }
        walk.end().map_err(|fault| self.tampered(fault))
    }

    fn tampered(&self, fault: Refused) -> PinError {
        PinError::Tampered { target: self.settings.name.clone(), fault }
    }

    /// Kubo has one status for every failure; the words are all there is (0.43.0).
    fn block_error(&self, cid: Cid, failure: Failure) -> PinError {
        let code = match &failure {
            Failure::Node(message) if message.contains("different hash") => Code::BlockHash,
            Failure::Node(message) if message.contains("not found") => Code::BlockMissing,
            Failure::TooLong(_) => Code::BlockHash,
            _ => return self.error(format!("read block {cid}"), failure),
        };
        self.tampered(Refused::new(code, format!("block {cid}: {failure}")))
    }
}
