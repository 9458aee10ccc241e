//! The mark by which a node can be asked whether it holds segments of a log.
//!
//! A node cannot be searched by name, and a sidecar that lost its volume knows no CID. So with segment 0 a small raw
//! block is pinned whose bytes, and therefore whose CID, are a function of the origin alone. It proves nothing, and
//! names nothing that the Seals beside it do not name.

use ipfs_api_backend_hyper::Form;
use serde::Deserialize;

use super::{Failure, Kubo, Reach};
use crate::archive::{CarFile, PinError};
use crate::core::car::Limits;
use crate::core::cid::{Cid, Codec};
use crate::core::finding::Code;
use crate::core::origin::Origin;
use crate::core::segment::read::Proof;

/// The bytes of the mark.
fn block_of(origin: &Origin) -> Vec<u8> {
    format!("pinfold/kubo/origin\n{origin}\n").into_bytes()
}

impl Kubo {
    /// Whether the node itself holds segments of the log, as its mark says.
    ///
    /// # Errors
    /// `Retry` and `Refused` where the node does not answer.
    pub async fn knows(&self, origin: &Origin) -> Result<bool, PinError> {
        match self.block(Cid::of(Codec::Raw, &block_of(origin)), Reach::Node).await {
            Ok(_) => Ok(true),
            Err(PinError::Tampered { fault, .. }) if fault.code == Code::BlockMissing => Ok(false),
            // A damaged mark is a mark.
            Err(PinError::Tampered { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Pins the mark of the log where `car` is the proof of its segment 0. Again changes nothing.
    pub(super) async fn mark(&self, car: &CarFile) -> Result<(), PinError> {
        let Some(origin) = origin_of_first(car) else { return Ok(()) };
        let block = block_of(&origin);
        let cid = Cid::of(Codec::Raw, &block);
        let doing = || format!("pin the mark {cid} of {origin}");
        let answer = self.block_put(block).await.map_err(|failure| self.error(doing(), failure))?;
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Put {
            key: String,
        }
        let put: Put = serde_json::from_slice(&answer)
            .map_err(|error| self.error(doing(), Failure::Connection(format!("not Kubo's answer: {error}"))))?;
        match put.key.parse() == Ok(cid) {
            true => Ok(()),
            false => Err(PinError::Mismatch { target: self.settings.name.clone(), expected: cid, found: put.key }),
        }
    }

    async fn block_put(&self, block: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let mut form = Form::default();
        form.add_reader_file("data", std::io::Cursor::new(block), "origin");
        let request = super::BlockPut { cid_codec: "raw", mhtype: "sha2-256", pin: true };
        self.call(request, Some(form), self.settings.call_time, super::ANSWER_BYTES_MAX).await
    }
}

/// The log of a CAR that is the proof of segment 0; a payload or another segment gives none.
fn origin_of_first(car: &CarFile) -> Option<Origin> {
    if !car.name().ends_with(".proof.car") {
        return None;
    }
    let file = std::fs::File::open(&car.path).ok()?;
    let proof = Proof::open(file, Limits::default()).ok()?;
    (proof.seal().segment == 0).then(|| proof.seal().origin.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proof_of_segment_0_is_marked() {
        let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pinfold-v1/log");
        let origin = |name: &str| {
            let root = Cid::of(Codec::Raw, b"");
            origin_of_first(&CarFile { path: vectors.join(name), root, bytes: 0 })
        };
        assert!(origin("000000.proof.car").is_some());
        assert_eq!(origin("000000.payload.car"), None);
        assert_eq!(origin("000002.proof.car"), None);
    }
}
