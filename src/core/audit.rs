//! The audit: from bytes to findings and a verdict.
