//! An archive fetched from a Kubo node: the seals walked back from one CID, every block hashed on the way.
//!
//! The blocks are laid down as the CAR files they came from, in a directory of their own that is removed afterwards;
//! then they are audited like any others.

use std::path::{Path, PathBuf};

use super::super::Failure;
use super::super::output::Output;
use crate::archive::PinError;
use crate::archive::kubo::{Kubo, Reach};
use crate::core::car::Limits;
use crate::core::cid::Cid;
use crate::core::segment::read::Proof;
use crate::sidecar::Files;

/// The directory, as long as it is needed.
pub(super) struct Fetched(PathBuf);

impl Fetched {
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fetches all segments up to the seal `cid`, into a new directory in `parent`.
pub(super) fn all(node: &Kubo, cid: &str, parent: &Path, output: &Output) -> Result<Fetched, Failure> {
    let mut seal: Cid = cid.parse().map_err(|_| Failure::usage(format!("--cid {cid}: not a CID of the format")))?;
    let dir = parent.join(format!("pinfold-fetch-{}", std::process::id()));
    std::fs::create_dir(&dir).map_err(|e| Failure::file("making", &dir, &e))?;
    let fetched = Fetched(dir);
    let runtime = super::super::runtime()?;
    let failed = |error: PinError| Failure::new(50, "unreachable", error.to_string()).hint(error.hint());
    loop {
        let at = fetched.dir().join("seal.part");
        runtime.block_on(node.fetch(seal, &at, Reach::Network)).map_err(failed)?;
        let file = std::fs::File::open(&at).map_err(|e| Failure::file("reading", &at, &e))?;
        let proof = Proof::open(file, Limits::default())
            .map_err(|refused| Failure::new(40, "tampered", format!("seal {seal}: {refused}")))?;
        let (segment, payload, previous) = (proof.seal().segment, proof.seal().payload, proof.seal().prev_seal);
        let files = Files::of(fetched.dir(), segment);
        std::fs::rename(&at, &files.proof).map_err(|e| Failure::file("naming", &files.proof, &e))?;
        if let Some(payload) = payload {
            match runtime.block_on(node.fetch(payload, &files.payload, Reach::Network)) {
                Ok(_) => {}
                // A node with `contents = "proof"` holds no payload; the audit says what that leaves unproven.
                Err(error) => output.note(&format!("segment {segment}: no payload: {error}")),
            }
        }
        match previous {
            Some(previous) => seal = previous,
            None => return Ok(fetched),
        }
    }
}
