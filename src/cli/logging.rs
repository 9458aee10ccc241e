//! The log of the process: stderr, UTC, text on a terminal, JSON lines elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::args::Global;
use crate::config::{Level, LogFormat, Logging};

/// Changes the level of a running process (SIGHUP).
#[derive(Clone)]
pub(super) struct LevelHandle {
    handle: reload::Handle<EnvFilter, Registry>,
    /// `-v` and `-q` win over the configuration for as long as the process lives.
    is_fixed: bool,
}

impl LevelHandle {
    pub(super) fn set(&self, level: Level) {
        if !self.is_fixed {
            // The subscriber lives as long as the process, so the handle never goes stale.
            let _ = self.handle.reload(filter(level));
        }
    }
}

/// Our own words at `level`; of the libraries below only what warns. What librdkafka says comes as events of the source,
/// and is said by it; its wrapper would say it a second time.
fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(format!("warn,rdkafka=off,librdkafka=off,pinfold={}", level.as_str()))
}

/// Logging of a command that is no sidecar: what warns, unless the flags say otherwise.
pub(super) fn begin_quietly(global: &Global, paints: bool) -> LevelHandle {
    begin(&Logging { level: Level::Warn, format: LogFormat::Text }, global, paints)
}

/// Begins logging. `-v` and `-q` of the command line win over the configuration.
pub(super) fn begin(logging: &Logging, global: &Global, paints: bool) -> LevelHandle {
    let (verbose, quiet) = (global.verbose, global.quiet);
    let level = match (verbose, quiet) {
        (0, true) => Level::Error,
        (0, false) => logging.level,
        (1, _) => Level::Debug,
        _ => Level::Trace,
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    let text = match logging.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    // There is one subscriber in a process: a second call keeps the first.
    let _ = if text {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(paints)).try_init()
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    };
    LevelHandle { handle, is_fixed: verbose > 0 || quiet }
}
