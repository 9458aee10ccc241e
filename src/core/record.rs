//! A record as the broker delivered it.
