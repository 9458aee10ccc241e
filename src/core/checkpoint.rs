//! The signed statements about a tree: checkpoint and live head.
