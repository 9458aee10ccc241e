//! One entry as bytes: the leaf, its kinds and what each may hold.
