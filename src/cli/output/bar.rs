//! How far a command is whose end is known: a line on the stderr of a terminal, with the time that is left.
//!
//! Nothing is drawn with `--json`, `-q` or off a terminal, and the line is gone when the command has its answer.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

/// A line that says how far. Dropped: cleared.
pub(in crate::cli) struct Bar(ProgressBar);

impl Output {
    /// Begins a line over `total` of `things`.
    pub(in crate::cli) fn bar(self, things: &str, total: u64) -> Bar {
        let is_shown = !self.quiet && !self.json && std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // A template that does not parse would be our own mistake, and costs the line its looks alone.
        if let Ok(style) =
            ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {things}{{msg}}, {{eta}} left"))
        {
            bar.set_style(style);
        }
        Bar(bar)
    }
}

impl Bar {
    /// So many are done; `note` says more.
    pub(in crate::cli) fn at(&self, done: u64, note: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(note());
            self.0.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
