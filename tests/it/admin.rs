//! One owner and everybody who asks it; first starts that are none; layouts of other releases.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pinfold::core::origin::Origin;
use pinfold::core::seq::Size;
use pinfold::keyring::{Kek, Keyring};
use serde_json::{Value, json};

use crate::line::Log;

/// A running sidecar.
struct Running(Child);

impl Running {
    fn start(log: &Log) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_pinfold"))
            .args(["run", "--config", log.path("pinfold.toml").to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Running(child);
        let end = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(log.path("data/control.sock")).is_err() {
            assert!(Instant::now() < end, "the sidecar does not listen");
            std::thread::yield_now();
        }
        running
    }

    /// SIGTERM; it must end by itself with 0.
    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A log with two segments done everywhere and some entries of its own behind them.
fn log() -> Log {
    let log = Log::new();
    for name in ["a.ndjson", "b.ndjson"] {
        log.ok(&["ingest", &log.events(name, 30)]);
        log.ok(&["run", "--until-idle"]);
    }
    log
}

/// The answer without what is the process's and not the log's.
fn plain(args: &[&str], (exit, mut answer): (i32, Value)) -> (i32, Value) {
    if args == ["status"] {
        let status = answer.as_object_mut().unwrap();
        let state = status.insert("state".to_owned(), Value::Null);
        assert!(state == Some(json!("running")) || state == Some(json!("stopped")), "{state:?}");
        for own in ["disk_free_bytes", "last_success"] {
            assert!(status.remove(own).is_some());
        }
    }
    (exit, answer)
}

#[test]
fn every_command_answers_the_same_with_and_without_a_running_sidecar() {
    let log = log();
    let asked: [&[&str]; 10] = [
        &["status"],
        &["topic", "list"],
        &["show", "0"],
        &["show", "7"],
        &["show", "999999"],
        &["seal"],
        &["pin"],
        &["register"],
        &["prune", "--dry-run"],
        &["prune"],
    ];
    let alone: Vec<_> = asked.iter().map(|args| plain(args, log.answer(args))).collect();
    assert_eq!(alone[4].0, 1, "{:?}", alone[4]);
    let running = Running::start(&log);
    for (args, alone) in asked.iter().zip(&alone) {
        assert_eq!(&plain(args, log.answer(args)), alone, "{args:?}");
    }
    // And work that there is to do is done the same.
    assert_eq!(log.ok(&["ingest", &log.events("c.ndjson", 10)])["accepted"], 10);
    assert_eq!(log.ok(&["seal"]), json!({ "sealed": 1, "segments": 3 }));
    assert_eq!(log.ok(&["register"]), json!({ "pinned": { "vault": 3 }, "registered": { "local": 3 } }));
    assert_eq!(log.ok(&["resume"]), json!({ "resumed": null }));
    running.stop();
    assert_eq!(log.ok(&["register"]), json!({ "pinned": { "vault": 3 }, "registered": { "local": 3 } }));
}

#[test]
fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let log = log();
    let running = Running::start(&log);
    let mode = fs::metadata(log.path("data/control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for args in [&["run"][..], &["run", "--until-idle"], &["rebuild", "--yes"]] {
        let (exit, answer) = log.answer(args);
        assert_eq!((exit, &answer["error"]["code"]), (4, &json!("in-use")), "{args:?}: {answer}");
        let hint = answer["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("control.sock") && hint.contains(&running.0.id().to_string()), "{hint}");
    }
}

#[test]
fn what_a_killed_sidecar_leaves_is_no_obstacle() {
    let log = log();
    let mut running = Running::start(&log);
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    assert!(log.path("data/control.sock").exists(), "the socket of the dead one");
    assert_eq!(log.ok(&["status"])["state"], "stopped");
    let again = Running::start(&log);
    assert_eq!(log.ok(&["status"])["state"], "running");
    again.stop();
    assert!(!log.path("data/control.sock").exists());
}

#[test]
fn a_target_that_is_down_holds_up_who_waits_for_it_and_nobody_else() {
    let log = Log::new();
    fs::remove_dir_all(log.path("vault")).ok();
    fs::write(log.path("vault"), b"no directory").unwrap();
    log.ok(&["ingest", &log.events("a.ndjson", 5)]);
    let running = Running::start(&log);
    log.ok(&["seal"]);
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .args(["pin", "--json", "--config", log.path("pinfold.toml").to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (exit, answer) = log.answer(&["pin", "--timeout", "200ms"]);
    assert_eq!((exit, &answer["error"]["code"]), (3, &json!("timeout")), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("vault"), "{answer}");
    assert_eq!(log.ok(&["status"])["sealed"]["segments"], 1, "others are answered meanwhile");
    assert!(waiting.try_wait().unwrap().is_none());
    running.stop();
    assert_eq!(waiting.wait().unwrap().code(), Some(3), "who still waits is told");
}

/// The log with `create = true`, and nothing of it left but its keys and what is in `kept`.
fn wiped(kept: &[&str]) -> Log {
    let log = log();
    let config = log.path("pinfold.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("create = false", "create = true");
    fs::write(&config, text.replace("path = \"data/registry.sqlite\"", "path = \"registry.sqlite\"")).unwrap();
    fs::rename(log.path("data/registry.sqlite"), log.path("registry.sqlite")).unwrap();
    fs::rename(log.path("data/archive"), log.path("archive")).unwrap();
    fs::remove_dir_all(log.path("data")).unwrap();
    for store in ["heads", "vault"] {
        if !kept.contains(&store) {
            fs::remove_dir_all(log.path(store)).unwrap();
        }
    }
    if !kept.contains(&"registry") {
        fs::remove_file(log.path("registry.sqlite")).unwrap();
    }
    if kept.contains(&"archive") {
        fs::create_dir(log.path("data")).unwrap();
        fs::rename(log.path("archive"), log.path("data/archive")).unwrap();
    }
    log
}

#[test]
fn a_wiped_volume_is_no_new_log_while_anybody_knows_the_old_one() {
    for (kept, named) in
        [("heads", "head file"), ("vault", "pin target vault"), ("registry", "registry local"), ("archive", "archive")]
    {
        let log = wiped(&[kept]);
        let (exit, answer) = log.answer(&["run", "--until-idle"]);
        assert_eq!(exit, 4, "{kept}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(named), "{kept}: {answer}");
        assert!(answer["error"]["hint"].as_str().unwrap().contains("pinfold rebuild"), "{kept}: {answer}");
        assert!(!log.path("data/journal").exists(), "{kept}");
    }
}

#[test]
fn create_makes_a_log_that_nothing_knows_once() {
    let log = wiped(&[]);
    let made = log.ok(&["run", "--until-idle"]);
    assert_eq!(log.ok(&["show", "0"])["kind"], "log-opened");
    assert_eq!(log.ok(&["run", "--until-idle"])["root"], made["root"]);
    // Without a key, a keyring or a KEK they are made too.
    for gone in ["keys", "keyring", "data", "heads", "vault"] {
        fs::remove_dir_all(log.path(gone)).unwrap();
    }
    fs::remove_file(log.path("registry.sqlite")).unwrap();
    log.ok(&["run", "--until-idle"]);
    assert_eq!(fs::metadata(log.path("keys/log.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(log.ok(&["ingest", &log.events("a.ndjson", 5)])["accepted"], 5);
}

#[test]
fn without_create_a_missing_journal_is_refused() {
    let log = log();
    fs::remove_dir_all(log.path("data")).unwrap();
    let (exit, answer) = log.answer(&["run", "--until-idle"]);
    assert_eq!((exit, &answer["error"]["code"]), (4, &json!("no-journal")), "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap().contains("pinfold rebuild"), "{answer}");
}

#[test]
fn a_layout_of_a_newer_release_is_refused_and_both_versions_named() {
    let log = log();
    fs::write(log.path("data/VERSION"), "2\n").unwrap();
    for args in [&["status"][..], &["run", "--until-idle"], &["rebuild", "--yes", "--accept-lost-tail"]] {
        let (exit, answer) = log.answer(args);
        assert_eq!(exit, 4, "{args:?}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("layout 2") && message.contains("layout 1"), "{args:?}: {answer}");
    }
    fs::write(log.path("data/VERSION"), "1\n").unwrap();
    log.ok(&["status"]);
}

#[test]
fn what_one_process_counted_again_the_next_one_need_not() {
    let log = Log::new();
    let counted = || {
        let kek = Kek::read(&log.path("keys/kek")).unwrap();
        let oid = Origin::new("example.com/test/line").unwrap().oid();
        Keyring::open(&log.path("keyring"), &kek, oid).unwrap().counted_to()
    };
    log.ok(&["ingest", &log.events("many.ndjson", 5_000)]);
    assert_eq!(counted(), Size(0), "so few are counted in memory alone");
    log.ok(&["status"]);
    assert!(counted() > Size(5_000), "{}", counted());
}
