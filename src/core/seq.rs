//! Where an entry stands in the log, and how many entries there are.
//!
//! Not a broker offset: that is a `Position`. Both are `uint` of the format: 0 .. 2^53-1.

use std::fmt;

/// The largest `uint` of the format (format.md, Conventions).
pub const UINT_MAX: u64 = (1 << 53) - 1;

/// The 0-based place of an entry in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

/// A number of entries: the size of a tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Size(pub u64);

impl Seq {
    /// The place after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The size of the log that ends with this entry.
    pub fn size(self) -> Size {
        Size(self.0 + 1)
    }
}

impl Size {
    /// The place the next entry gets in a log of this size.
    pub fn next_seq(self) -> Seq {
        Seq(self.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
