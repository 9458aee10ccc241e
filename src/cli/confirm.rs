//! Asking before something is destroyed: on a terminal a question, elsewhere `--yes` or nothing happens.

use std::io::{BufRead, IsTerminal, Write};

use super::Failure;
use super::args::Global;

/// Goes on if the caller agrees to `what`, which is said in full.
///
/// # Errors
/// 1 where the answer is no; 2 where there is nobody to ask and `--yes` is not given.
pub(super) fn destroy(global: &Global, what: &str) -> Result<(), Failure> {
    if global.yes {
        return Ok(());
    }
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if global.json || !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(
            Failure::usage(format!("{what}: not without being told")).hint("add --yes, or look first with --dry-run")
        );
    }
    let asked = write!(stderr, "{what}. Go on? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| stdin.lock().read_line(&mut answer));
    read.map_err(|e| Failure::new(3, "terminal", format!("asking on the terminal: {e}")))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::new(1, "declined", "not done")) }
}
