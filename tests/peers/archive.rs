//! The pinners against a real Kubo node.
