//! What can be wrong with a configuration, said so that the next edit mends it.

use std::path::PathBuf;

/// A configuration that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("config {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A place in the file is wrong.
    #[error("config {}: line {line}, column {column}: {message}", path.display())]
    AtPlace {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The nearest known key or the allowed values.
        hint: Option<String>,
    },
    /// A `PINFOLD__` variable is wrong. Its value is never shown: it may be a secret.
    #[error("variable {name}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
        /// The nearest known key.
        hint: Option<String>,
    },
    /// A value that does not fit the others.
    #[error("config: {key}: {message}")]
    Value {
        /// The key, in dotted form.
        key: String,
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
}

impl ConfigError {
    /// A value that does not fit.
    pub(super) fn value(key: impl Into<String>, message: impl Into<String>, hint: Option<&str>) -> ConfigError {
        ConfigError::Value { key: key.into(), message: message.into(), hint: hint.map(str::to_owned) }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&str> {
        match self {
            ConfigError::Unreadable { .. } => Some("make one with `pinfold init`, or name it with --config"),
            ConfigError::AtPlace { hint, .. }
            | ConfigError::Variable { hint, .. }
            | ConfigError::Value { hint, .. } => hint.as_deref(),
        }
    }
}
