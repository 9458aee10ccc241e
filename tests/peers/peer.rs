//! Starting, stopping and killing the real peers.

pub mod kafka;
pub mod kubo;
pub mod snowflake;
