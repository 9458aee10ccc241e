//! C2SP signed notes: keys, signing, strict verification.
