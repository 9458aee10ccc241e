//! A Kubo node, offline, on loopback.
