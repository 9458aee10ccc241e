//! The command line: one file a command; the only place that prints.
//!
//! Commands that need the journal go through `control`: while `run` lives it answers over the control socket, else
//! this process opens the journal itself, and both give the same answer. Contract: surface.md, Commands.

mod anchors;
mod args;
mod check;
mod config;
mod confirm;
mod control;
mod create;
mod deadline;
mod demo;
mod doctor;
mod dry_run;
mod export;
mod failure;
mod health;
mod init;
mod journal;
#[cfg(feature = "kafka")]
mod kafka;
mod key;
mod known;
mod logging;
mod metrics;
mod open;
mod output;
mod pin;
mod prove;
mod query;
mod rebuild;
mod registry;
mod released;
mod run;
mod tiles;
mod timestamp;
mod token;
mod topic;
mod verify;
mod witness;

use std::process::ExitCode;

use clap::CommandFactory;

use args::{Args, Command};
use control::Request;
pub use failure::Failure;
use output::Output;

use crate::core::time::Timestamp;

/// Parses the command line, runs the command, prints what went wrong, and gives the exit code.
pub fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => return wrong_call(&error),
    };
    let output = Output::new(&args.global);
    let outcome = std::panic::catch_unwind(|| run(&args, &output));
    let exit = match outcome {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            output.failure(&failure);
            failure.exit
        }
        // The panic hook has printed where; what was acknowledged is durable, nothing else is promised.
        Err(_) => 70,
    };
    ExitCode::from(exit)
}

/// A call that could not be read, or one for help or the version.
fn wrong_call(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell where printing fails.
    let _ = error.print();
    if error.use_stderr() {
        let first = error.to_string();
        let first = first.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let failure = Failure::usage(first).hint("see `pinfold help`");
        Output::of_wrong_call(Args::wanted_json()).failure_object(&failure);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(args: &Args, output: &Output) -> Result<u8, Failure> {
    let global = &args.global;
    deadline::watch(args, *output)?;
    if !matches!(args.command, Command::Run(_)) {
        logging::begin_quietly(global, output.paints_stderr());
    }
    match &args.command {
        Command::Demo(demo) => demo::run(demo, output),
        Command::Init(init) => init::run(init, output),
        Command::Doctor { bundle } => doctor::run(global, bundle.as_deref(), output),
        Command::Config(command) => config::run(global, command, output),
        Command::Run(run) => run::run(global, run, output),
        Command::Health { ready } => health::run(global, *ready, output),
        Command::Status => journal::status(global, output),
        Command::Resume => journal::resume(global, output),
        Command::Ingest(ingest) => journal::ingest(global, ingest, output),
        Command::Topic(topic) => topic::run(global, topic, output),
        Command::Key(key) => key::run(global, key, output),
        Command::Seal => journal::stage(global, &Request::Seal, output),
        Command::Pin(pin) => pin::run(global, pin, output),
        Command::Register => journal::stage(global, &Request::Register, output),
        Command::Prune { dry_run } => {
            if !dry_run {
                confirm::destroy(global, "pruning drops from the journal what is done everywhere")?;
            }
            journal::stage(global, &Request::Prune { dry_run: *dry_run }, output)
        }
        Command::Timestamp(timestamp) => timestamp::run(global, timestamp, output),
        Command::Verify(verify) => verify::run(global, verify, output),
        Command::Export(export) => export::run(global, export, output),
        Command::Prove(prove) => prove::run(global, prove, output),
        Command::Check(check) => check::run(check, output),
        Command::Tiles(command) => tiles::run(global, command, output),
        Command::Token(command) => token::run(global, command, output),
        Command::Show { seq } => journal::show(global, *seq, output),
        Command::Query(query) => query::run(global, query, output),
        Command::Rebuild(rebuild) => rebuild::run(global, rebuild, output),
        Command::Registry(command) => registry::run(global, command, output),
        Command::Witness(command) => witness::run(global, command, output),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "pinfold", &mut text);
            output.line(String::from_utf8_lossy(&text).trim_end())?;
            Ok(0)
        }
        Command::Man { command } => manual(command.as_deref(), output),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let value = serde_json::json!({ "version": version, "format": 1, "schema": 1 });
            output.object(&value, || format!("pinfold {version} (log format 1, schema 1)"))
        }
    }
}

/// Prints the manual page of the program, or of one of its commands.
fn manual(command: Option<&str>, output: &Output) -> Result<u8, Failure> {
    let mut program = Args::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name);
            let found = found.ok_or_else(|| Failure::usage(format!("man {name}: no such command")));
            let found = found.map_err(|failure| failure.hint("`pinfold help` lists the commands"))?;
            found.clone()
        }
    };
    let mut text = Vec::new();
    // Writing into memory cannot fail.
    let _ = clap_mangen::Man::new(page).render(&mut text);
    output.line(String::from_utf8_lossy(&text).trim_end()).map(|()| 0)
}

/// The time of the wall clock: what is recorded, and nothing is ordered by it.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The threads that requests run on; the loop has its own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(3, "threads", format!("starting threads: {e}")))
}

/// The configuration this call is about.
fn load_config(global: &args::Global) -> Result<crate::config::Config, Failure> {
    Ok(load_traced(global)?.config)
}

/// The same with where each value came from.
fn load_traced(global: &args::Global) -> Result<crate::config::Loaded, Failure> {
    Ok(crate::config::load(&crate::config::config_path(global.config.as_deref()))?)
}
