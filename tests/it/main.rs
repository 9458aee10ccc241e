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
mod bodies;
mod demo;
mod dependencies;
mod deploy;
mod dictionary;
mod doctor;
mod idle;
mod journal;
mod leftover;
mod line;
mod log_parts;
mod log_vector;
mod memory;
mod negative;
mod proto_drift;
mod readme;
mod rebuild;
mod registry_rebuild;
mod reload;
mod rfc6962;
mod soak;
mod surface;
mod tidy;
mod vectors;
