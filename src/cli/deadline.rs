//! `--timeout` for commands that have nothing to name when it passes: they end, with exit 3.
//!
//! Leaving at any moment is safe: what was acknowledged is durable, and nothing else is promised. The stages of the log
//! (`seal`, `pin`, `register`, `run`) and the questions of `doctor` and `config check` keep their own time, because they
//! can say who is missing. So does `verify`, whose report says what was not read; it is ended only where even that hangs.

use std::time::Duration;

use super::Failure;
use super::args::{Args, Command};
use super::output::Output;

/// How much longer `verify` gets to come to its verdict once its own time is over: a file system that hangs never would.
const VERIFY_GRACE: Duration = Duration::from_secs(20);

/// Ends this process when the time is over, if a time was given and the command does not keep it itself.
pub(super) fn watch(args: &Args, output: Output) -> Result<(), Failure> {
    let Some(limit) = args.global.timeout else { return Ok(()) };
    match args.command {
        Command::Run(_) | Command::Health { .. } | Command::Seal | Command::Pin(_) | Command::Register => return Ok(()),
        Command::Doctor { .. } | Command::Config(_) => return Ok(()),
        _ => {}
    }
    let limit = match args.command {
        Command::Verify(_) => limit.saturating_add(VERIFY_GRACE),
        _ => limit,
    };
    let watching = std::thread::Builder::new().name("deadline".to_owned()).spawn(move || end_after(limit, output));
    watching.map(drop).map_err(|e| Failure::new(3, "threads", format!("starting a thread: {e}")))
}

fn end_after(limit: Duration, output: Output) {
    std::thread::sleep(limit);
    let failure = Failure::new(3, "timeout", format!("not done within {limit:?}"));
    output.failure(&failure.hint("give a longer --timeout, or see `pinfold doctor` for who does not answer"));
    std::process::exit(3);
}
