//! The binary: everything is in the library, `pinfold::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pinfold::cli::main()
}
