//! The RFC 6962 tree: peaks, roots, inclusion and consistency proofs.
