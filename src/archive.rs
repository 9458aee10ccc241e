//! The port `Pinner`: where segments are kept.
