//! What other commands ask of the log, and how it is answered the same by a running sidecar and by this process.
//!
//! While `run` lives it owns the journal and listens on `data/control.sock` (0600); a request is one line of JSON, and so
//! is the answer; before it there may be lines that say how far the work is. Without a listener the command opens the
//! journal itself and answers from it.

mod feed;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Failure, now, open};
use crate::config::Config;
use crate::ingest::replay::Format;
use crate::sidecar::{ReplicaRow, Sidecar, Wanted};
use feed::Feeding;

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(super) enum Request {
    Status,
    Resume,
    Seal,
    Pin,
    /// Blocks drawn of each target, `None` for all; and whether what is damaged is put back.
    AuditReplicas {
        blocks: Option<u64>,
        repairs: bool,
    },
    Register,
    Prune {
        dry_run: bool,
    },
    Topics,
    Adopt,
    KeyList,
    KeyRotate,
    RevokePrepare,
    RevokeAbandon,
    Revoke {
        note: String,
    },
    RebuildRegistry {
        names: Vec<String>,
    },
    Show {
        seq: u64,
    },
    Disclose {
        seq: u64,
        part: u32,
        reason: String,
    },
    DiscloseRange {
        first: u64,
        next: u64,
        part: u32,
        reason: String,
    },
    Ingest {
        path: PathBuf,
        topic: String,
        format: Option<String>,
    },
}

/// A request as it is sent.
#[derive(Serialize, Deserialize)]
struct Sent {
    #[serde(flatten)]
    request: Request,
    /// How long who asks will wait.
    timeout_ms: Option<u64>,
}

/// The longest a stage may take to be pushed where no time-out was given.
const STAGE_MAX: Duration = Duration::from_secs(600);
/// How long an owner that is starting, or another short command, is waited for.
const OWNER_WAIT: Duration = Duration::from_secs(5);
const OWNER_RETRY: Duration = Duration::from_millis(50);

/// The socket of a data directory.
pub(super) fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Asks whoever owns the journal: the sidecar that runs, else this process itself.
pub(super) fn ask(config: &Config, request: &Request, timeout: Option<Duration>) -> Result<Value, Failure> {
    ask_and_watch(config, request, timeout, &|_| ())
}

/// The same, with `watch` told how far it is.
pub(super) fn ask_and_watch(
    config: &Config,
    request: &Request,
    timeout: Option<Duration>,
    watch: &dyn Fn(&Value),
) -> Result<Value, Failure> {
    let patience = Instant::now() + timeout.unwrap_or(OWNER_WAIT).min(OWNER_WAIT);
    loop {
        if let Ok(stream) = UnixStream::connect(socket(&config.log.data)) {
            return ask_running(stream, request, timeout, watch);
        }
        let runtime = super::runtime()?;
        match open::sidecar(config, runtime.handle()) {
            // Another owner that does not listen: one that starts or ends, or a short command like this one.
            Err(failure) if failure.code == "in-use" && Instant::now() < patience => std::thread::sleep(OWNER_RETRY),
            Err(failure) => return Err(failure),
            Ok(sidecar) => return ask_own(sidecar, runtime, Job::new(request.clone(), timeout), watch),
        }
    }
}

fn ask_own(
    mut sidecar: Sidecar,
    runtime: tokio::runtime::Runtime,
    mut job: Job,
    watch: &dyn Fn(&Value),
) -> Result<Value, Failure> {
    let answer = drive(&mut sidecar, &mut job, watch);
    let closed = sidecar.close();
    runtime.shutdown_timeout(Duration::from_secs(1));
    let answer = answer?;
    closed?;
    Ok(answer)
}

/// Begins, and steps until the answer is there.
fn drive(sidecar: &mut Sidecar, job: &mut Job, watch: &dyn Fn(&Value)) -> Result<Value, Failure> {
    let mut answer = begin(sidecar, &job.request, false)?;
    while answer.is_none() {
        answer = job.settle(sidecar, false)?;
        if answer.is_none() {
            job.feeding.progress().iter().for_each(watch);
            sidecar.step(now())?;
        }
    }
    Ok(answer.unwrap_or_default())
}

fn ask_running(
    stream: UnixStream,
    request: &Request,
    timeout: Option<Duration>,
    watch: &dyn Fn(&Value),
) -> Result<Value, Failure> {
    let lost = |e: std::io::Error| Failure::new(3, "control", format!("asking the running sidecar: {e}"));
    stream.set_read_timeout(Some(timeout.unwrap_or(STAGE_MAX) + Duration::from_secs(5))).map_err(lost)?;
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let sent = Sent { request: request.clone(), timeout_ms };
    let mut line = serde_json::to_string(&sent).unwrap_or_default();
    line.push('\n');
    (&stream).write_all(line.as_bytes()).map_err(lost)?;
    let mut lines = BufReader::new(&stream);
    loop {
        let mut answer = String::new();
        lines.read_line(&mut answer).map_err(lost)?;
        return match serde_json::from_str::<Answer>(&answer) {
            Ok(Answer::Progress(value)) => {
                watch(&value);
                continue;
            }
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error(failure)) => Err(failure),
            Err(_) => Err(Failure::new(3, "control", "the running sidecar ended without an answer").hint("ask again")),
        };
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// How far it is; the answer is still to come.
    Progress(Value),
    Ok(Value),
    Error(Failure),
}

/// A request that the loop works on.
struct Job {
    request: Request,
    timeout: Option<Duration>,
    end: Instant,
    feeding: Feeding,
}

impl Job {
    fn new(request: Request, timeout: Option<Duration>) -> Job {
        Job { request, timeout, end: Instant::now() + timeout.unwrap_or(STAGE_MAX), feeding: Feeding::new() }
    }

    /// The answer, once the work is done; or why it will not be in time.
    fn settle(&mut self, sidecar: &mut Sidecar, is_running: bool) -> Result<Option<Value>, Failure> {
        match &self.request {
            Request::Ingest { path, topic, format } => {
                self.feeding.settle(sidecar, (path, topic, format.as_deref()), self.timeout)
            }
            request => settle(sidecar, request, is_running, self.end),
        }
    }
}

/// Listens for requests of other commands.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Requests whose answer comes when the loop has done the work.
    waiting: Vec<Waiting>,
}

struct Waiting {
    stream: UnixStream,
    job: Job,
}

impl Waiting {
    /// Answers if the work is done, or says how far it is; false where nobody waits any more.
    fn serve(&mut self, sidecar: &mut Sidecar) -> bool {
        match self.job.settle(sidecar, true) {
            Ok(None) => {}
            settled => {
                reply(&self.stream, settled.map(Option::unwrap_or_default));
                return false;
            }
        }
        let Request::Ingest { .. } = self.job.request else { return true };
        let is_gone = |value| send(&self.stream, &Answer::Progress(value)).is_err();
        if self.job.feeding.progress().is_some_and(is_gone) {
            self.job.feeding.end(sidecar);
            return false;
        }
        true
    }
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
        Ok(Control { listener, path, waiting: Vec::new() })
    }

    /// Takes at most one request, and answers those whose work is done; true where one was taken or waits.
    pub(super) fn answer(&mut self, sidecar: &mut Sidecar) -> bool {
        let taken = self.take(sidecar);
        self.waiting.retain_mut(|waiting| waiting.serve(sidecar));
        taken || !self.waiting.is_empty()
    }

    fn take(&mut self, sidecar: &mut Sidecar) -> bool {
        let Ok((stream, _)) = self.listener.accept() else { return false };
        let mut line = String::new();
        // A client that says nothing must not hold up the loop.
        let read = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(1))))
            .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(1))))
            .and_then(|()| BufReader::new(&stream).read_line(&mut line));
        if read.is_err() {
            return true;
        }
        let Ok(Sent { request, timeout_ms }) = serde_json::from_str(&line) else {
            reply(&stream, Err(Failure::usage("a request this version does not know")));
            return true;
        };
        let timeout = timeout_ms.map(Duration::from_millis);
        match begin(sidecar, &request, true).transpose() {
            Some(answer) => reply(&stream, answer),
            None => self.waiting.push(Waiting { stream, job: Job::new(request, timeout) }),
        }
        true
    }
}

/// Sends an answer. Who asked may be gone.
fn reply(stream: &UnixStream, answer: Result<Value, Failure>) {
    let _ = send(stream, &answer.map_or_else(Answer::Error, Answer::Ok));
}

fn send(mut stream: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_string(answer).unwrap_or_default();
    line.push('\n');
    stream.write_all(line.as_bytes())
}

impl Drop for Control {
    fn drop(&mut self) {
        let ended = || Failure::new(3, "control", "the running sidecar ended before it was done").hint("ask again");
        self.waiting.iter().for_each(|waiting| reply(&waiting.stream, Err(ended())));
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Does what a request asks. `None` where the loop has to do the work: `settle` then has the answer.
fn begin(sidecar: &mut Sidecar, request: &Request, is_running: bool) -> Result<Option<Value>, Failure> {
    let answer = match request {
        Request::Status => to_value(&sidecar.status(now(), is_running)),
        Request::Resume => {
            let halt = sidecar.resume()?;
            json!({ "resumed": halt.map(|halt| halt.code) })
        }
        Request::Topics => to_value(&sidecar.topics_status()),
        Request::Adopt => json!({ "adopted": to_value(&sidecar.adopt()?) }),
        Request::KeyList => to_value(&sidecar.log_keys()?),
        Request::KeyRotate => to_value(&sidecar.rotate_key(now())?),
        Request::RevokePrepare => json!({ "prepared": sidecar.prepare_revocation(now())? }),
        Request::RevokeAbandon => json!({ "abandoned": sidecar.abandon_revocation(now())? }),
        Request::Revoke { note } => to_value(&sidecar.revoke_key(note, now())?),
        Request::RebuildRegistry { names } => {
            sidecar.refuse_if_halted()?;
            for name in names {
                if !sidecar.rebuild_registry(name, now())? {
                    return Err(Failure::usage(format!("registry {name}: none of that name")));
                }
            }
            return Ok(None);
        }
        Request::Show { seq } => sidecar.show(crate::core::seq::Seq(*seq))?.ok_or_else(|| {
            let message = format!("entry {seq}: the log has {} entries", sidecar.size());
            Failure::new(1, "no-entry", message)
        })?,
        Request::Disclose { seq, part, reason } => super::prove::disclose(sidecar, *seq, *part, reason)?,
        Request::DiscloseRange { first, next, part, reason } => {
            super::export::disclose(sidecar, (*first, *next), *part, reason)?
        }
        Request::Prune { dry_run } => to_value(&sidecar.prune(now(), *dry_run)?),
        Request::Seal => {
            sidecar.refuse_if_halted()?;
            let mut segments = 0;
            while sidecar.has_waiting() && sidecar.seal_now(now())? {
                segments += 1;
            }
            json!({ "sealed": segments, "segments": sidecar.status(now(), is_running).sealed.segments })
        }
        Request::AuditReplicas { blocks, repairs } => {
            sidecar.refuse_if_halted()?;
            sidecar.audit_replicas(Wanted { blocks: *blocks, repairs: *repairs });
            return Ok(None);
        }
        Request::Pin | Request::Register | Request::Ingest { .. } => {
            sidecar.refuse_if_halted()?;
            if matches!(request, Request::Ingest { .. }) {
                // It would wait for as long as intake is paused, and that may be days.
                sidecar.refuse_if_prepared()?;
            }
            return Ok(None);
        }
    };
    Ok(Some(answer))
}

/// The answer to a request that the loop works on, once the stage is done everywhere it is required; or why it will not
/// be in time.
fn settle(sidecar: &Sidecar, request: &Request, is_running: bool, end: Instant) -> Result<Option<Value>, Failure> {
    if let Request::AuditReplicas { .. } = request {
        let Some(audited) = sidecar.audited_replicas() else {
            return if Instant::now() > end { Err(not_in_time(sidecar)) } else { Ok(None) };
        };
        let targets: serde_json::Map<_, _> =
            audited.map(|(name, last)| (name, to_value(&ReplicaRow::from(last)))).collect();
        return Ok(Some(json!({ "replicas": targets })));
    }
    let open = match request {
        Request::RebuildRegistry { names } => names.iter().map(|name| sidecar.open_of_registry(name)).sum(),
        request => sidecar.open_of_stage(matches!(request, Request::Register)),
    };
    if open > 0 {
        return if Instant::now() > end { Err(not_in_time(sidecar)) } else { Ok(None) };
    }
    let status = sidecar.status(now(), is_running);
    if let Request::RebuildRegistry { names } = request {
        return Ok(Some(json!({ "rebuilt": names, "registered": status.registered })));
    }
    Ok(Some(json!({ "pinned": status.pinned, "registered": status.registered })))
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
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
