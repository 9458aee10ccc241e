//! Pinfold folds consent and data events into a signed, hash-chained log, archives it by content and registers it in SQL.

pub mod archive;
pub mod cli;
pub mod config;
pub mod core;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod keyring;
pub mod proto;
pub mod registry;
