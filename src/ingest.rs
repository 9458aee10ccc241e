//! The port `Source`: where records come from.
