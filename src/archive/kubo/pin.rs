//! What it takes until a node counts as holding a CAR, and how a damaged copy is healed.
//!
//! Facts this rests on, measured with Kubo 0.43.0: an import says 200 whether or not it pinned; importing over a damaged
//! block does not replace it, and drops the pin that was there; a pinned block cannot be removed; removing checks every
//! other pin of the node and answers 200 with the error inside. So: look before importing, and heal by unpinning,
//! removing and importing again.

use std::fs::File;
use std::path::Path;

use serde::Deserialize;

use super::{Failure, Kubo, Reach, answer, shorten};
use crate::archive::car;
use crate::archive::replica::CarBlock;
use crate::archive::{Answer, CarFile, Contents, Network, PinError, Pinner, Receipt};
use crate::core::cid::Cid;
use crate::core::finding::{Code, Refused};

impl Pinner for Kubo {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn contents(&self) -> Contents {
        self.settings.contents
    }

    fn network(&self) -> Network {
        self.settings.network
    }

    fn pin<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt> {
        Box::pin(self.pin_car(car))
    }

    fn check<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt> {
        Box::pin(self.check_car(car))
    }

    fn sample<'a>(&'a self, car: &'a CarFile, blocks: &'a [CarBlock]) -> Answer<'a, Vec<Cid>> {
        Box::pin(async move {
            let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
            // Blocks that nothing pins may be collected at any time.
            if self.is_pinned(car.root).await? { self.bad_blocks(cids).await } else { Ok(cids) }
        })
    }

    fn repair<'a>(&'a self, car: &'a CarFile) -> Answer<'a, Receipt> {
        // Pinning reads all of it back, and heals what is damaged.
        Box::pin(self.pin_car(car))
    }

    fn fetch<'a>(&'a self, car: &'a CarFile, into: &'a Path) -> Answer<'a, ()> {
        Box::pin(async move { Kubo::fetch(self, car.root, into, Reach::Node).await.map(drop) })
    }

    fn unpin<'a>(&'a self, car: &'a CarFile) -> Answer<'a, ()> {
        Box::pin(self.unpin_root(car.root))
    }
}

/// What came of an import.
enum Imported {
    Pinned,
    /// The node took the file and did not pin it: blocks it had before may be damaged.
    NotPinned(PinError),
}

impl Kubo {
    async fn pin_car(&self, car: &CarFile) -> Result<Receipt, PinError> {
        // Before the pin: a segment that is held without its mark would be overlooked.
        self.mark(car).await?;
        let own = car.clone();
        let own = self.blocking(move || car::check_own(&own)).await?;
        // An import over a good pin gains nothing, and over a damaged block it would cost the pin.
        let imported = match self.is_pinned(car.root).await? {
            true => Imported::Pinned,
            false => self.import(car, own.blocks).await?,
        };
        let damage = match imported {
            Imported::NotPinned(error) => error,
            Imported::Pinned => match self.read_back(car).await {
                Err(error @ PinError::Tampered { .. }) => error,
                read_back => return self.still_pinned(car, read_back?).await,
            },
        };
        self.heal(car, own.blocks, damage).await
    }

    async fn check_car(&self, car: &CarFile) -> Result<Receipt, PinError> {
        let receipt = self.read_back(car).await?;
        if self.is_pinned(car.root).await? {
            return Ok(receipt);
        }
        let fault = Refused::new(Code::BlockMissing, format!("root {}: there, but no longer pinned", car.root));
        Err(PinError::Tampered { target: self.settings.name.clone(), fault })
    }

    /// Replaces the damaged blocks by ours. `damage` is why, and the answer if no block turns out to be damaged.
    async fn heal(&self, car: &CarFile, blocks: u64, damage: PinError) -> Result<Receipt, PinError> {
        let own = car.clone();
        let cids = self.blocking(move || car::cids_of_own(&own)).await?;
        let bad = self.bad_blocks(cids).await?;
        if bad.is_empty() {
            return Err(damage);
        }
        tracing::warn!(target_name = self.settings.name, root = %car.root, blocks = bad.len(), "healing damaged blocks");
        self.unpin_root(car.root).await?;
        for cid in bad {
            self.remove(cid).await?;
        }
        // The first import after a removal may fail, the second works.
        if let Imported::NotPinned(_) = self.import(car, blocks).await?
            && let Imported::NotPinned(error) = self.import(car, blocks).await?
        {
            return Err(error);
        }
        let receipt = self.read_back(car).await?;
        self.still_pinned(car, receipt).await
    }

    async fn import(&self, car: &CarFile, blocks: u64) -> Result<Imported, PinError> {
        let doing = || format!("import {}", car.name());
        let file = File::open(&car.path).map_err(|error| car::own_unreadable(car, &error))?;
        let body = match self.dag_import(car, file).await {
            Err(Failure::Node(why)) if why.contains("different hash") => return Ok(self.not_pinned(doing(), why)),
            body => body.map_err(|failure| self.error(doing(), failure))?,
        };
        let fault = match answer::import(&body, car.root, blocks) {
            Ok(()) => return Ok(Imported::Pinned),
            Err(fault) => fault,
        };
        let (target, why) = (self.settings.name.clone(), fault.to_string());
        match fault {
            answer::Fault::OtherRoot(found) => Err(PinError::Mismatch { target, expected: car.root, found }),
            answer::Fault::NotPinned(_) => Ok(self.not_pinned(doing(), why)),
            answer::Fault::Empty | answer::Fault::Garbled(_) | answer::Fault::Blocks { .. } => {
                let hint = format!("is {} the RPC of a Kubo node, with nothing between?", self.settings.url);
                Err(PinError::Retry { target, doing: doing(), why, hint })
            }
        }
    }

    fn not_pinned(&self, doing: String, why: String) -> Imported {
        let target = self.settings.name.clone();
        let hint = "look at the node: `ipfs repo verify`, free disk, its log".to_owned();
        Imported::NotPinned(PinError::Refused { target, doing, why, hint })
    }

    /// The last look: a node that lost the pin meanwhile may collect the blocks we just read.
    async fn still_pinned(&self, car: &CarFile, receipt: Receipt) -> Result<Receipt, PinError> {
        if self.is_pinned(car.root).await? {
            return Ok(receipt);
        }
        Err(self.error(format!("look for the pin of {}", car.root), Failure::Node("imported, not pinned".to_owned())))
    }

    /// Asks for this one pin; a list of all pins would not end.
    async fn is_pinned(&self, root: Cid) -> Result<bool, PinError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Pins {
            keys: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
        }
        let doing = || format!("look for the pin of {root}");
        match self.pin_ls(root).await {
            Ok(body) => {
                let pins: Pins = serde_json::from_slice(&body)
                    .map_err(|error| self.error(doing(), Failure::Connection(format!("not Kubo's answer: {error}"))))?;
                Ok(pins.keys.keys().any(|cid| cid.parse() == Ok(root)))
            }
            Err(Failure::Node(why)) if why.contains("not pinned") => Ok(false),
            Err(failure) => Err(self.error(doing(), failure)),
        }
    }

    async fn unpin_root(&self, root: Cid) -> Result<(), PinError> {
        match self.pin_rm(root).await {
            Err(Failure::Node(why)) if why.contains("not pinned") => Ok(()),
            Err(failure) => Err(self.error(format!("unpin {root}"), failure)),
            Ok(_) => Ok(()),
        }
    }

    /// Removes one block. The answer is 200 with a line per block, its error inside.
    async fn remove(&self, cid: Cid) -> Result<(), PinError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Removed {
            #[serde(default)]
            error: String,
        }
        let failed = |failure| self.error(format!("remove the damaged block {cid}"), failure);
        let body = self.block_rm(cid).await.map_err(failed)?;
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let removed: Removed = serde_json::from_slice(line)
                .map_err(|error| failed(Failure::Connection(format!("not Kubo's answer: {error}"))))?;
            if !removed.error.is_empty() {
                return Err(failed(Failure::Node(shorten(&removed.error))));
            }
        }
        Ok(())
    }

    /// Runs work on our own files where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PinError> + Send + 'static,
    ) -> Result<T, PinError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(self.error("work in the background", Failure::Connection(error.to_string()))))
    }
}
