//! The Snowflake registrar against its peer.
