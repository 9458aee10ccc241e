//! What commands print: text for people, or one JSON object (NDJSON for lists) on stdout and nothing else.

mod bar;

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use super::Failure;
use super::args::{Color, Global};
use crate::config::wants_no_color;

/// How this call prints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    quiet: bool,
    paints_stdout: bool,
    paints_stderr: bool,
}

/// What a word is painted as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Paint {
    Good,
    Warning,
    Bad,
    Hint,
}

impl Paint {
    fn word(self, text: &str) -> String {
        let code = match self {
            Paint::Good => 32,
            Paint::Warning => 33,
            Paint::Bad => 31,
            Paint::Hint => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Output {
    pub(super) fn new(global: &Global) -> Output {
        let paints = |is_terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !wants_no_color(),
        };
        Output {
            json: global.json,
            quiet: global.quiet,
            paints_stdout: paints(std::io::stdout().is_terminal()),
            paints_stderr: paints(std::io::stderr().is_terminal()),
        }
    }

    /// For a call that could not be read.
    pub(super) fn of_wrong_call(json: bool) -> Output {
        Output { json, quiet: false, paints_stdout: false, paints_stderr: false }
    }

    /// Whether stderr is painted.
    pub(super) fn paints_stderr(self) -> bool {
        self.paints_stderr
    }

    /// A word for stdout, painted where that is wanted.
    pub(super) fn word(self, paint: Paint, text: &str) -> String {
        if self.paints_stdout { paint.word(text) } else { text.to_owned() }
    }

    /// Whether stdout is for machines.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// The one result of a command.
    pub(super) fn object(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<u8, Failure> {
        if self.json {
            self.json_line(value)?;
        } else {
            self.line(&text())?;
        }
        Ok(0)
    }

    /// One line of JSON on stdout.
    pub(super) fn json_line(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::new(70, "bug", format!("writing JSON: {e}")))?;
        print(&text)
    }

    /// Text on stdout, unless quiet.
    pub(super) fn line(self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { print(text) }
    }

    /// Text on stderr for people who watch; nothing depends on it.
    pub(super) fn note(self, text: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// How far a long command is, in one line of a terminal that each call replaces; empty clears it.
    pub(super) fn progress(self, text: &str) {
        if !self.quiet && !self.json && std::io::stderr().is_terminal() {
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
        }
    }

    /// The last words of a command that failed.
    pub(super) fn failure(self, failure: &Failure) {
        let mut stderr = std::io::stderr().lock();
        let word = |paint: Paint, text: &str| if self.paints_stderr { paint.word(text) } else { text.to_owned() };
        let _ = writeln!(stderr, "{} {}", word(Paint::Bad, "error:"), failure.message);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(stderr, "{} {hint}", word(Paint::Hint, "hint:"));
        }
        self.failure_object(failure);
    }

    /// The same as an object, where that is wanted.
    pub(super) fn failure_object(self, failure: &Failure) {
        if self.json {
            let Failure { exit, code, message, hint } = failure;
            let error = json!({ "error": { "code": code, "message": message, "hint": hint, "exit": exit } });
            let _ = print(&error.to_string());
        }
    }
}

/// A closed pipe is the reader's choice, not a failure worth a message.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::new(3, "stdout", format!("writing to stdout: {e}"))),
        Ok(()) => Ok(()),
    }
}
