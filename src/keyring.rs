//! The keys of operator epochs and subjects, in a store of their own outside the journal.
