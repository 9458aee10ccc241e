//! An error at the terminal: one line, one hint, one exit code.

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// 1 refused, 2 usage or config, 3 not reached, 4 halted, 5 not permitted, 70 bug (surface.md).
    pub exit: u8,
    /// A short word for scripts.
    pub code: String,
    /// What was being done, to what, and what was wrong.
    pub message: String,
    /// The next command, or what to change.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: u8, code: &str, message: impl Into<String>) -> Failure {
        Failure { exit, code: code.to_owned(), message: message.into(), hint: None }
    }

    /// The same with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        self
    }

    /// A wrong call: exit 2.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(2, "usage", message)
    }

    /// A file that could not be read or written: exit 2 where the caller named it.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
        Failure::new(2, "file", format!("{doing} {}: {error}", path.display()))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(2, "config", error.to_string()).hint(error.hint().unwrap_or_default())
    }
}
