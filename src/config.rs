//! File and environment to a validated configuration; nobody else reads either.
