//! Which broker offsets are accounted for, and what each fault in that is.
