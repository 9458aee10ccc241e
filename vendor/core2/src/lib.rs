//! The part of `core2` that `multihash` 0.17 uses: `std`'s own `error` and `io` under its name.
//! Every published `core2` is yanked; with `std` it never was more than these two re-exports.
pub use std::{error, io};
