//! What other commands ask of the log, and how it is answered the same by a running sidecar and by this process.
//!
//! While `run` lives it owns the journal and listens on `data/control.sock` (0600); a request is one line of JSON, and so
//! is the answer. Without a listener the command opens the journal itself and answers from it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Failure, now, open};
use crate::config::Config;
use crate::ingest::replay::{Format, Replay};
use crate::sidecar::Sidecar;

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(super) enum Request {
    Status,
    Resume,
    Seal,
    Pin,
    Register,
    Prune { dry_run: bool },
    Topics,
    Show { seq: u64 },
    Ingest { path: PathBuf, topic: String, format: Option<String> },
}

/// The longest a stage may take to be pushed where no time-out was given.
const STAGE_MAX: Duration = Duration::from_secs(600);

/// The socket of a data directory.
pub(super) fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Asks whoever owns the journal.
pub(super) fn ask(config: &Config, request: &Request, timeout: Option<Duration>) -> Result<Value, Failure> {
    if let Ok(stream) = UnixStream::connect(socket(&config.log.data)) {
        return ask_running(stream, request, timeout);
    }
    let runtime = super::runtime()?;
    let mut sidecar = open::sidecar(config, runtime.handle())?;
    let answer = execute(&mut sidecar, request, false, timeout);
    let closed = sidecar.close();
    runtime.shutdown_timeout(Duration::from_secs(1));
    let answer = answer?;
    closed?;
    Ok(answer)
}

fn ask_running(stream: UnixStream, request: &Request, timeout: Option<Duration>) -> Result<Value, Failure> {
    let lost = |e: std::io::Error| Failure::new(3, "control", format!("asking the running sidecar: {e}"));
    stream.set_read_timeout(Some(timeout.unwrap_or(STAGE_MAX) + Duration::from_secs(5))).map_err(lost)?;
    let mut line = serde_json::to_string(request).unwrap_or_default();
    line.push('\n');
    (&stream).write_all(line.as_bytes()).map_err(lost)?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).map_err(lost)?;
    match serde_json::from_str::<Answer>(&answer) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(failure)) => Err(failure),
        Err(_) => Err(Failure::new(3, "control", "the running sidecar ended without an answer").hint("ask again")),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(Value),
    Error(Failure),
}

/// Listens for requests of other commands.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Begins to listen. Only the owner of the journal does, so a socket that is there is a dead one's.
    pub(super) fn listen(data: &Path) -> Result<Control, Failure> {
        use std::os::unix::fs::PermissionsExt;
        let path = socket(data);
        let _ = std::fs::remove_file(&path);
        let failed = |e: std::io::Error| Failure::file("listening on", &path, &e);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Control { listener, path })
    }

    /// Answers at most one request; true where there was one.
    pub(super) fn answer(&self, sidecar: &mut Sidecar) -> bool {
        let Ok((stream, _)) = self.listener.accept() else { return false };
        let mut line = String::new();
        // A client that says nothing must not hold up the loop.
        let read = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(1))))
            .and_then(|()| BufReader::new(&stream).read_line(&mut line));
        if read.is_err() {
            return true;
        }
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => match execute(sidecar, &request, true, None) {
                Ok(value) => Answer::Ok(value),
                Err(failure) => Answer::Error(failure),
            },
            Err(_) => Answer::Error(Failure::usage("a request this version does not know")),
        };
        let mut line = serde_json::to_string(&answer).unwrap_or_default();
        line.push('\n');
        // Who asked may be gone.
        let _ = (&stream).write_all(line.as_bytes());
        true
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn execute(
    sidecar: &mut Sidecar,
    request: &Request,
    is_running: bool,
    timeout: Option<Duration>,
) -> Result<Value, Failure> {
    let end = Instant::now() + timeout.unwrap_or(STAGE_MAX);
    match request {
        Request::Status => Ok(to_value(&sidecar.status(now(), is_running))),
        Request::Resume => {
            let halt = sidecar.resume()?;
            Ok(json!({ "resumed": halt.map(|halt| halt.code) }))
        }
        Request::Topics => Ok(to_value(&sidecar.topics_status())),
        Request::Show { seq } => sidecar.show(crate::core::seq::Seq(*seq))?.ok_or_else(|| {
            let message = format!("entry {seq}: the log has {} entries", sidecar.size());
            Failure::new(1, "no-entry", message)
        }),
        Request::Prune { dry_run } => Ok(to_value(&sidecar.prune(now(), *dry_run)?)),
        Request::Seal => {
            sidecar.refuse_if_halted()?;
            let mut segments = 0;
            while sidecar.has_waiting() && sidecar.seal_now(now())? {
                segments += 1;
            }
            Ok(json!({ "sealed": segments, "segments": sidecar.status(now(), is_running).sealed.segments }))
        }
        Request::Pin | Request::Register => {
            sidecar.refuse_if_halted()?;
            push_stage(sidecar, matches!(request, Request::Register), end)?;
            let status = sidecar.status(now(), is_running);
            Ok(json!({ "pinned": status.pinned, "registered": status.registered }))
        }
        Request::Ingest { path, topic, format } => ingest(sidecar, path, topic, format.as_deref(), timeout),
    }
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Drives the loop until the stage is done everywhere it is required.
fn push_stage(sidecar: &mut Sidecar, with_registries: bool, end: Instant) -> Result<(), Failure> {
    while sidecar.open_of_stage(with_registries) > 0 {
        if Instant::now() > end {
            return Err(not_in_time(sidecar));
        }
        sidecar.step(now())?;
    }
    Ok(())
}

/// Exit 3 that names who is missing.
pub(super) fn not_in_time(sidecar: &Sidecar) -> Failure {
    let paused = sidecar.paused().map(|pause| format!("paused: {}", pause.as_str()));
    let missing = sidecar.waiting_for().into_iter().map(|(who, why)| format!("{who}: {why}"));
    let missing: Vec<String> = paused.into_iter().chain(missing).collect();
    let what = if missing.is_empty() { "still at work".to_owned() } else { missing.join("; ") };
    Failure::new(3, "timeout", format!("not done in time: {what}"))
        .hint("`pinfold status` shows the backlog; nothing is lost")
}

/// A file that could not be folded for this long is given up, where no time-out was given.
const INGEST_PATIENCE: Duration = Duration::from_secs(60);

fn ingest(
    sidecar: &mut Sidecar,
    path: &Path,
    topic: &str,
    format: Option<&str>,
    timeout: Option<Duration>,
) -> Result<Value, Failure> {
    sidecar.refuse_if_halted()?;
    let started = Instant::now();
    let rules = open::file_rules(topic);
    let positions = sidecar.positions(&rules);
    let format = format.map(record_format).transpose()?;
    let source = if path == Path::new("-") {
        Replay::stdin("file", topic, format, &positions)
    } else {
        Replay::open("file", topic, path, format, &positions)
    };
    let source = source.map_err(crate::sidecar::SidecarError::from)?;
    let patience = u64::try_from(timeout.unwrap_or(INGEST_PATIENCE).as_micros()).unwrap_or(u64::MAX);
    let totals = sidecar.ingest(Box::new(source), rules, now, patience)?;
    let totals = totals.ok_or_else(|| not_in_time(sidecar))?;
    Ok(summary(sidecar, totals, started.elapsed()))
}

/// The way a file is cut into records, by its name on the command line.
pub(super) fn record_format(name: &str) -> Result<Format, Failure> {
    name.parse().map_err(|_| Failure::usage(format!("--format {name}: ndjson, json or protobuf")))
}

/// What `ingest` and `run --until-*` print.
pub(super) fn summary(sidecar: &Sidecar, totals: crate::sidecar::Totals, took: Duration) -> Value {
    let status = sidecar.status(now(), false);
    let least = |stages: &std::collections::BTreeMap<String, u64>| {
        stages.values().min().copied().unwrap_or(status.sealed.segments)
    };
    json!({
        "accepted": totals.folded.accepted,
        "duplicates": totals.duplicates,
        "quarantined": totals.folded.quarantined_total(),
        "gaps": totals.gaps,
        "size": status.size,
        "root": status.root,
        "sealed": status.sealed.segments,
        "pinned": least(&status.pinned),
        "registered": least(&status.registered),
        "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}
