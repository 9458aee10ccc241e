//! A validated event: one slice of an envelope a person.
