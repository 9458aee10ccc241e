//! `witness`: makes a witness, and serves it until told to stop.
//!
//! It has nothing to do with the log of a configuration: whoever runs a witness for himself alone gains nothing by it.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::args::{self, Global};
use super::init::{random, write_new};
use super::output::Output;
use super::{Failure, logging, now};
use crate::config::{Level, LogFormat, Logging};
use crate::core::note::{Cosigner, WitnessVkey};
use crate::core::witness::LogList;
use crate::http::witness::WitnessServer;
use crate::witness::{StateError, Witness};

/// The longest name: every cosignature carries it.
const NAME_BYTES_MAX: usize = 255;
/// The most bytes of a list of logs, a hundred thousand of them.
const LIST_BYTES_MAX: u64 = 64 << 20;
const EMPTY_LIST: &str = "# The logs this witness serves (c2sp.org/tlog-list). For each: `vkey`, then if its origin is \
another name `origin`,\n# then how many checkpoints a day it may show `qpd`, then `contact`. `kill -HUP` makes the \
witness read this again.\nlogs/v0\n";

pub(super) fn run(global: &Global, command: &args::Witness, output: &Output) -> Result<u8, Failure> {
    match command {
        args::Witness::Init { dir, name } => init(dir, name, output),
        args::Witness::Serve { dir, listen, key, logs, state } => {
            let or = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| dir.join(name));
            let files =
                Files { key: or(key, "witness.key"), logs: or(logs, "logs"), state: or(state, "witness.state") };
            serve(global, listen, &files, output)
        }
    }
}

fn init(dir: &Path, name: &str, output: &Output) -> Result<u8, Failure> {
    let hint = "like witness.example.com/w1";
    if name.len() > NAME_BYTES_MAX {
        return Err(Failure::usage(format!("--name: longer than {NAME_BYTES_MAX} bytes")).hint(hint));
    }
    let key = Cosigner::from_seed(name, &random()?).map_err(|e| Failure::usage(e.what).hint(hint))?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Failure::file("making", dir, &e))?;
    let vkey = key.vkey().to_string();
    write_new(&dir.join("witness.key"), key.to_pkcs8_pem().as_bytes(), 0o600)?;
    write_new(&dir.join("witness.vkey"), format!("{vkey}\n").as_bytes(), 0o644)?;
    write_new(&dir.join("logs"), EMPTY_LIST.as_bytes(), 0o644)?;
    // Last, and it syncs the directory: where there is a state, there is all that it needs.
    Witness::create(&dir.join("witness.state"), &key)?;
    output.object(&json!({ "name": name, "dir": dir, "vkey": vkey }), || {
        format!(
            "made witness {name} in {0}\n  verifiers need  {vkey}\n  logs to serve   {0}/logs\n\
             next: pinfold witness serve {0}",
            dir.display()
        )
    })
}

/// Where a witness keeps what it needs.
struct Files {
    key: PathBuf,
    logs: PathBuf,
    state: PathBuf,
}

fn serve(global: &Global, listen: &str, files: &Files, output: &Output) -> Result<u8, Failure> {
    logging::begin(&Logging { level: Level::Info, format: LogFormat::Auto }, global, output.paints_stderr());
    let key = read_key(&files.key)?;
    let vkey = key.vkey().clone();
    let logs = read_logs(&files.logs)?;
    let witness = Arc::new(Witness::open(&files.state, key, &logs)?);
    let runtime = super::runtime()?;
    let clock = Box::new(now);
    let server = runtime.block_on(WitnessServer::bind(listen, Arc::clone(&witness), clock));
    let server = server.map_err(|e| Failure::new(2, "listen", e.to_string()).hint("choose another with --listen"))?;
    let address = server.address().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(address, %vkey, logs = logs.iter().count(), "serving as a witness");
    output.object(&json!({ "listening": address, "vkey": vkey.to_string() }), || {
        format!("witness {vkey}\nlistening on {address}, {} logs", logs.iter().count())
    })?;
    runtime.block_on(server.serve(told_to_stop(Arc::clone(&witness), files.logs.clone())));
    if witness.is_halted() {
        return Err(Failure::new(4, "halted", "the witness is unsure of its own state and ended")
            .hint("look at the disk, then start it again: it verifies all it has"));
    }
    Ok(0)
}

/// Ready with the first SIGTERM or SIGINT; until then each SIGHUP rereads the list of logs.
async fn told_to_stop(witness: Arc<Witness>, logs: PathBuf) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = kinds else { return };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => match read_logs(&logs) {
                Ok(list) => {
                    witness.set_logs(&list);
                    tracing::info!(logs = list.iter().count(), "the list of logs was reread");
                }
                Err(failure) => {
                    tracing::warn!(error = failure.message, "the list of logs was not reread; the old one stays in use");
                }
            }
        }
    }
}

/// The key, under the name that the vkey beside it has.
fn read_key(path: &Path) -> Result<Cosigner, Failure> {
    let hint = "`pinfold witness init` makes one";
    let beside = path.with_extension("vkey");
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| Failure::file("reading", path, &e).hint(hint));
    let mode = std::fs::metadata(path).map_err(|e| Failure::file("reading", path, &e).hint(hint))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(Failure::new(2, "key", format!("{}: anyone may read it", path.display())).hint("chmod 0600"));
    }
    let pem = zeroize::Zeroizing::new(read(path)?);
    let wrong = |path: &Path, what: &str| Failure::new(2, "key", format!("{}: {what}", path.display()));
    let vkey = read(&beside)?.trim().parse::<WitnessVkey>().map_err(|e| wrong(&beside, &e.what))?;
    let key = Cosigner::from_pkcs8_pem(vkey.name(), &pem).map_err(|e| wrong(path, &e.what))?;
    match *key.vkey() == vkey {
        true => Ok(key),
        false => Err(wrong(&beside, "not the vkey of the key beside it")),
    }
}

fn read_logs(path: &Path) -> Result<LogList, Failure> {
    let length = std::fs::metadata(path).map_err(|e| Failure::file("reading", path, &e))?.len();
    if length > LIST_BYTES_MAX {
        return Err(Failure::new(2, "logs", format!("{}: longer than {LIST_BYTES_MAX} bytes", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("reading", path, &e))?;
    LogList::parse(&text).map_err(|e| {
        Failure::new(2, "logs", format!("{}: {}", path.display(), e.what)).hint("see docs/witness-server.md")
    })
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        let (exit, code, hint) = match &error {
            StateError::Exists { .. } => (2, "exists", "`pinfold witness serve` goes on with it"),
            StateError::Missing { .. } => (
                4,
                "state-missing",
                "restore the file; if it is lost, make a witness of another name: this one would cosign a fork",
            ),
            StateError::InUse { .. } => (4, "in-use", "one process serves a state; end the other"),
            StateError::Other { .. } => (4, "other-state", "name the key this state was made for with --key"),
            StateError::Damaged { .. } => {
                (4, "damaged", "restore the newest copy; if there is none, make a witness of another name")
            }
            StateError::Storage { .. } | StateError::File { .. } => (4, "storage", "look at the disk"),
        };
        Failure::new(exit, code, error.to_string()).hint(hint)
    }
}
