//! The binary: parses the command line, calls it, turns an error into message, hint and exit code.

fn main() {}
