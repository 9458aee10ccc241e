//! The notes of kind 8: rotation and revocation of the log's key.
