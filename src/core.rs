//! The log as pure data: bytes in, bytes and findings out.
//!
//! Nothing in here is asynchronous, does I/O, knows the time, draws random numbers, reads the environment or logs.
//! Spec: `proto/README.md`, the format in prose.

pub mod audit;
pub mod car;
pub mod checkpoint;
pub mod cid;
pub mod codec;
pub mod completeness;
pub mod decode;
pub mod event;
pub mod finding;
pub mod fleet;
pub mod hash;
pub mod identity;
pub mod keychange;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod origin;
pub mod part;
pub mod position;
pub mod proof;
pub mod record;
pub mod redact;
pub mod rows;
pub mod rules;
pub mod segment;
pub mod seq;
pub mod synthetic;
pub mod tile;
pub mod time;
pub mod timestamp;
pub mod witness;
