//! The binary: everything is in the library, `pinfold::cli`.

use std::process::ExitCode;

/// Entries are made on one thread and let go of on another, which glibc's allocator does badly: a fifth of the CPU time
/// of the fold.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pinfold::cli::main()
}
