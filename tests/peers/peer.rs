//! Starting, stopping and killing the real peers.

pub(crate) mod cluster;
pub(crate) mod feed;
pub(crate) mod front;
pub(crate) mod kafka;
pub(crate) mod kubo;
pub(crate) mod litewitness;
pub(crate) mod snowflake;

use std::path::PathBuf;

/// Where `scripts/peers/...` put the peer `name`; it may not be there.
pub(crate) fn installed(name: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("PINFOLD_PEERS or HOME")).join(".cache/pinfold-peers");
    std::env::var_os("PINFOLD_PEERS").map_or_else(home, PathBuf::from).join(name)
}
