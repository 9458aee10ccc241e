//! `run`: the sidecar. Drives the loop, answers other commands, serves health and metrics, and ends when told to.

mod serving;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::{self, Global};
use super::control::{self, Control};
use super::output::Output;
use super::{Failure, create, load_config, logging, now, open};
use crate::config::Config;
use crate::sidecar::{Progress, Sidecar};
use serving::{Board, Served};

pub(super) fn run(global: &Global, run: &args::Run, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let level = logging::begin(&config.logging, global, output.paints_stderr());
    let runtime = super::runtime()?;
    if config.log.create && !open::places(&config).journal().exists() {
        create::log(&config, &runtime)?;
    }
    let mut sidecar = open::sidecar(&config, runtime.handle())?;
    sidecar.refuse_if_halted()?;
    attach(&mut sidecar, &config)?;
    let mut control = Control::listen(&config.log.data)?;
    let board = Arc::new(Board::default());
    let served = Served::begin(&config, &runtime, &board)?;
    let told = Arc::new(Told::default());
    watch_signals(&runtime, &told, global, level);
    tracing::info!(origin = config.log.origin, size = sidecar.size().0, "running");
    let started = Instant::now();
    let reread = |sidecar: &mut Sidecar| {
        reconnect(sidecar, &config, runtime.handle());
        served.reread();
    };
    let outcome = drive(&mut sidecar, &mut control, &board, &told, reread, run, global.timeout);
    drop(control);
    let totals = sidecar.totals();
    let summary = control::summary(&sidecar, totals, started.elapsed());
    let closed = sidecar.close();
    runtime.shutdown_timeout(config.log.stop_within.duration());
    outcome?;
    closed?;
    if run.until_idle || run.until_size.is_some() {
        return output.object(&summary, || text(&summary));
    }
    Ok(0)
}

/// One line for people.
fn text(summary: &serde_json::Value) -> String {
    let number = |name: &str| summary.get(name).cloned().unwrap_or_default();
    format!(
        "{} accepted, {} quarantined, {} gaps; size {}, {} segments sealed, {} pinned, {} registered",
        number("accepted"),
        number("quarantined"),
        number("gaps"),
        number("size"),
        number("sealed"),
        number("pinned"),
        number("registered")
    )
}

/// What signals have told the loop.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    reread: AtomicBool,
}

/// Reads the files of secrets again, where the configuration of the start has them: other options need another start.
fn reconnect(sidecar: &mut Sidecar, config: &Config, runtime: &tokio::runtime::Handle) {
    let clients = open::pinners(config).and_then(|pinners| Ok((pinners, open::registrars(config, runtime)?)));
    match clients {
        Ok((pinners, registrars)) => {
            sidecar.reconnect(pinners, registrars);
            tracing::info!("secrets were reread");
        }
        Err(failure) => tracing::warn!(error = failure.message, "secrets were not reread; the old ones stay in use"),
    }
}

/// The first SIGTERM or SIGINT ends the loop, a second one the process; SIGHUP rereads the log level and secrets.
fn watch_signals(runtime: &tokio::runtime::Runtime, told: &Arc<Told>, global: &Global, level: logging::LevelHandle) {
    use tokio::signal::unix::{SignalKind, signal};
    let (told, global) = (Arc::clone(told), global.clone());
    runtime.spawn(async move {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = kinds else { return };
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    match load_config(&global) {
                        Ok(config) => level.set(config.logging.level),
                        Err(failure) => tracing::warn!(error = failure.message, "the log level was not reread"),
                    }
                    told.reread.store(true, Ordering::SeqCst);
                    continue;
                }
            }
            if told.stop.swap(true, Ordering::SeqCst) {
                // Everything acknowledged is durable: leaving at once is as safe as a crash.
                std::process::exit(130);
            }
        }
    });
}

fn drive(
    sidecar: &mut Sidecar,
    control: &mut Control,
    board: &Board,
    told: &Told,
    reread: impl Fn(&mut Sidecar),
    run: &args::Run,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    while !told.stop.load(Ordering::SeqCst) {
        if told.reread.swap(false, Ordering::SeqCst) {
            reread(sidecar);
        }
        let progress = sidecar.step(now())?;
        board.renew(sidecar);
        let asked = control.answer(sidecar);
        if run.until_size.is_some_and(|size| sidecar.size().0 >= size) {
            break;
        }
        if run.until_idle && progress == Progress::Waited && !asked && sidecar.is_read() {
            if sidecar.is_idle() {
                break;
            }
            if sidecar.has_waiting() {
                sidecar.seal_now(now())?;
            }
        }
        if end.is_some_and(|end| Instant::now() > end) {
            return Err(control::not_in_time(sidecar));
        }
    }
    Ok(sidecar.settle()?)
}

#[cfg(feature = "kafka")]
fn attach(sidecar: &mut Sidecar, config: &Config) -> Result<(), Failure> {
    for (name, crate::config::Source::Kafka(kafka)) in &config.source {
        super::kafka::attach(sidecar, config, name, kafka)?;
    }
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn attach(_: &mut Sidecar, config: &Config) -> Result<(), Failure> {
    match config.source.keys().next() {
        None => Ok(()),
        Some(name) => Err(Failure::new(2, "config", format!("source.{name}: this binary was built without Kafka"))
            .hint("build it with the feature `kafka`")),
    }
}
