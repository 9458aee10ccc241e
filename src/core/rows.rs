//! What the registry holds of a segment, as a function of its bytes and opened parts.
