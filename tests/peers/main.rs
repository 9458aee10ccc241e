//! The tests against real peers: Apache Kafka, Kubo, litewitness, the Snowflake peer behind our strict front.
//!
//! `scripts/test` installs the peers into `$PINFOLD_PEERS`; the harness in `peer/` starts and ends them, by pid, on
//! loopback ports of its own. A peer that is not installed fails the test that needs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers outside a test function may fail loudly too"
)]

mod archive;
mod bench;
#[allow(dead_code, reason = "the offline tests use the rest")]
#[path = "../harness/binary.rs"]
mod binary;
mod campaign;
#[path = "../harness/cpu.rs"]
mod cpu;
mod faults;
mod fleet;
mod gaps;
mod ingest;
mod kill;
mod ledger;
mod line;
mod peer;
mod readers;
mod recovery;
mod registry;
mod replica;
mod seals;
#[allow(dead_code, reason = "the offline tests use the rest")]
#[path = "../harness/shim.rs"]
mod shim;
mod tiles;
mod verify;
mod whole;
mod witness;
#[allow(dead_code, reason = "the offline tests use the rest")]
#[path = "../harness/witness.rs"]
mod witness_table;
