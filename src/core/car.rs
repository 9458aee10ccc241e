//! CARv1 files: one root, blocks in order.
