//! The offline tests: one binary, no peer, no network beyond loopback.

mod vectors;
