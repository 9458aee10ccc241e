//! The offline tests: one binary, no peer, no network beyond loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "helpers outside a test function may fail loudly too"
)]

mod admin;
mod adopt;
mod anchoring;
#[allow(dead_code, reason = "the tests against peers use the rest")]
#[path = "../harness/binary.rs"]
mod binary;
mod bodies;
mod bundle;
mod decoders;
mod demo;
mod dependencies;
mod deploy;
mod dictionary;
mod doctor;
mod drill;
#[path = "../harness/embedded.rs"]
mod embedded;
mod export;
mod faults;
mod feeding;
mod fixtures;
mod fleet;
mod footprint;
mod http;
mod idle;
mod journal;
mod keys;
mod leftover;
mod line;
mod log_parts;
mod log_vector;
mod memory;
mod negative;
mod pipe;
#[path = "../harness/pki.rs"]
mod pki;
mod powercut;
mod proto_drift;
mod prove;
mod readme;
mod rebuild;
mod registry_rebuild;
mod reload;
mod replica;
mod rfc6962;
#[allow(dead_code, reason = "the benches use the rest")]
#[path = "../harness/segments.rs"]
mod segments;
#[path = "../harness/shim.rs"]
mod shim;
mod soak;
#[path = "../harness/stub_witness.rs"]
mod stub_witness;
mod surface;
#[path = "../harness/decoders.rs"]
mod targets;
mod tidy;
mod tiles;
mod timestamp;
#[path = "../harness/tsa.rs"]
mod tsa;
mod vectors;
mod verify;
mod witness;
#[path = "../harness/witness.rs"]
mod witness_table;
mod witnessed;
