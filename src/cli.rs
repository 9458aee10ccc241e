//! The command line.

/// Runs nothing yet.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
