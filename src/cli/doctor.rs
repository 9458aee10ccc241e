//! `doctor`: looks at everything the log needs and says what to change: a line each, with a hint.
//!
//! It asks and reads, and changes nothing that lasts. Exit 0 where everything is good or worth a warning, 1 where
//! something must be changed, 3 where nothing is wrong but someone is not reached.

mod bundle;
mod local;
mod outside;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::Global;
use super::control::{self, Request};
use super::output::{Output, Paint};
use super::{Failure, load_traced};
use crate::config::{Config, Loaded};

/// How long one question to the outside may take, where the caller does not say.
const ASK: Duration = Duration::from_secs(10);

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, and it can cost something.
    Warn,
    /// Nobody answers.
    Unreachable,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Remark {
    /// What was looked at.
    name: String,
    #[serde(serialize_with = "word")]
    status: Status,
    /// What is so.
    detail: String,
    /// What to do about it; empty where nothing is to be done.
    hint: String,
}

fn word<S: serde::Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Unreachable => "unreachable",
        Status::Fail => "fail",
    })
}

impl Remark {
    fn new(status: Status, name: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Remark {
        let (name, detail) = (name.into(), detail.into());
        // Errors begin with whom they are about, and the line does too.
        let detail = detail.strip_prefix(&format!("{name}: ")).map_or(detail.clone(), str::to_owned);
        Remark { name, status, detail, hint: hint.into() }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Remark {
        Remark::new(Status::Ok, name, detail, "")
    }

    /// From a failure of a command: exit 3 is that nobody answered.
    fn failed(name: impl Into<String>, failure: Failure) -> Remark {
        let status = if failure.exit == 3 { Status::Unreachable } else { Status::Fail };
        Remark::new(status, name, failure.message, failure.hint.unwrap_or_default())
    }
}

pub(super) fn run(global: &Global, bundle: Option<&Path>, output: &Output) -> Result<u8, Failure> {
    let loaded = load_traced(global)?;
    let found = look(&loaded, global.timeout)?;
    if let Some(path) = bundle {
        bundle::write(path, &loaded, &found)?;
        output.note(&format!("wrote {}: no secrets, no persons; read it before you send it", path.display()));
    }
    let worst = worst(&found.remarks);
    let exit = match worst {
        Status::Ok | Status::Warn => 0,
        Status::Unreachable => 3,
        Status::Fail => 1,
    };
    output.object(&json!({ "ok": exit == 0, "exit": exit, "checks": found.remarks }), || {
        found.remarks.iter().map(|remark| line(remark, *output)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(exit)
}

/// What was seen.
pub(super) struct Found {
    remarks: Vec<Remark>,
    /// The answer of `status`, if there was one.
    status: Option<Value>,
    /// The answer of `topic list`, if there was one.
    topics: Option<Value>,
}

fn look(loaded: &Loaded, timeout: Option<Duration>) -> Result<Found, Failure> {
    let config = &loaded.config;
    let mut remarks = vec![Remark::ok("config", format!("{}: {}", loaded.path.display(), config.log.origin))];
    remarks.extend(options(config).err().map(|failure| Remark::failed("config", failure)));
    remarks.extend(local::all(config));
    // Before the journal is opened: opening makes what is missing.
    let outside = outside(config, timeout)?;
    let status = control::ask(config, &Request::Status, Some(timeout.unwrap_or(ASK)));
    let topics = status.as_ref().ok().and_then(|_| control::ask(config, &Request::Topics, timeout).ok());
    remarks.push(match &status {
        Ok(status) => local::journal(status),
        Err(failure) => Remark::failed("journal", failure.clone()),
    });
    remarks.push(local::archive(config));
    remarks.extend(outside);
    Ok(Found { remarks, status: status.ok(), topics })
}

/// Options that only those who use them can judge, without asking anyone.
pub(super) fn options(config: &Config) -> Result<(), Failure> {
    outside::options(config)
}

/// Asks every pin target, registry and broker.
pub(super) fn outside(config: &Config, timeout: Option<Duration>) -> Result<Vec<Remark>, Failure> {
    let runtime = super::runtime()?;
    let remarks = outside::all(config, timeout.unwrap_or(ASK), runtime.handle());
    // A question that nobody answered may still be under way.
    runtime.shutdown_background();
    Ok(remarks)
}

/// The worst of them.
pub(super) fn worst(remarks: &[Remark]) -> Status {
    remarks.iter().map(|remark| remark.status).max().unwrap_or(Status::Ok)
}

/// The line for people, and below it the hint.
pub(super) fn line(remark: &Remark, output: Output) -> String {
    let (paint, word) = match remark.status {
        Status::Ok => (Paint::Good, "ok"),
        Status::Warn => (Paint::Warning, "warn"),
        Status::Unreachable | Status::Fail => (Paint::Bad, "fail"),
    };
    let padding = " ".repeat(5 - word.len());
    let mut line = format!("{}{padding} {}: {}", output.word(paint, word), remark.name, remark.detail);
    if !remark.hint.is_empty() {
        line.push_str(&format!("\n      {} {}", output.word(Paint::Hint, "hint:"), remark.hint));
    }
    line
}
