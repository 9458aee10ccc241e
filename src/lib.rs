//! Pinfold folds consent and data events into a signed, hash-chained log, archives it by content and registers it in SQL.
//!
//! The straight line, and the two points after which a crash loses nothing:
//!
//! ```text
//! ingest  -poll-> records -decode-> event -seal parts-> leaf -hash-> chain and tree          core, keyring
//!         journal: leaves, frames, positions, live head in one transaction    <== COMMIT POINT 1
//!         leaves and frames -> segment with its checkpoint -> CID                             core
//!         CAR files synced, segment in the outbox                             <== COMMIT POINT 2
//! archive: pinned, read back and hashed again -> the checkpoint may be shown
//! registry: rows keyed by CID, then the fence
//! ```
//!
//! | module | what | imports |
//! | --- | --- | --- |
//! | [`core`] | the format and its rules: pure, no I/O, clock, randomness or environment | [`proto`] |
//! | [`keyring`] | keys of epochs and people, in a store of its own | core |
//! | [`journal`] | the local durable log; the only place that names sled | core |
//! | [`ingest`] | the port `Source`: Kafka and files | core |
//! | [`archive`] | the port `Pinner`: Kubo and folders | core |
//! | [`registry`] | the port `Registrar`: SQL | core |
//! | [`tiles`] | the log as C2SP tiles on disk, and the proofs made from them | core |
//! | [`anchor`] | the port `Authority`: witnesses and time-stamp authorities | core |
//! | [`sidecar`] | the loop; siblings meet here and nowhere else | all above |
//! | [`witness`] | a witness of other logs, beside all this: what it remembers and what it signs | core |
//! | [`config`] | configuration | core |
//! | [`http`] | health and metrics, the read API, the witness's server | core, tiles, witness |
//! | [`cli`] | one file a command; the only place that prints | everything |
//!
//! Invariants, each held by a test:
//! - imports only point down, siblings do not import each other (`tests/it/tidy.rs`);
//! - what is hashed is the stored bytes, and a reader refuses whatever a writer would not write;
//! - nothing is committed that the audit's own rules (`core::rules`) would refuse;
//! - nothing signed leaves memory before it is durable, and no checkpoint is shown before its segment is held;
//! - a doubt about our own state is a durable halt with both values and the next command, never a repair.

#[cfg(test)]
extern crate self as pinfold;

pub mod anchor;
pub mod archive;
pub mod cli;
pub mod config;
pub mod core;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod keyring;
pub mod proto;
pub mod registry;
pub mod sidecar;
pub mod tiles;
pub mod witness;
