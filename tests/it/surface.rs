//! The options that every command takes do what they say: colour, quiet, JSON, time-out, consent to destroying.

use std::process::{Command, Output};

fn pinfold(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
    command.args(args);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn errors_are_painted_only_where_that_is_asked_for() {
    let missing = ["status", "--config", "/nonexistent/pinfold.toml"];
    let plain = pinfold(&missing).output().unwrap();
    assert!(stderr(&plain).starts_with("error: ") && stderr(&plain).contains("\nhint: "), "{}", stderr(&plain));
    let painted = pinfold(&missing).args(["--color", "always"]).output().unwrap();
    assert!(stderr(&painted).starts_with("\x1b[31merror:\x1b[0m "), "{}", stderr(&painted));
    let wrong_call = ["status", "--no-such-option"];
    assert!(stderr(&pinfold(&wrong_call).args(["--color", "always"]).output().unwrap()).contains('\x1b'));
    assert!(!stderr(&pinfold(&wrong_call).args(["--color=never"]).output().unwrap()).contains('\x1b'));
}

#[test]
fn a_wrong_call_is_an_object_too() {
    let output = pinfold(&["status", "--no-such-option", "--json"]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["error"]["exit"]), (Some(2), &2.into()));
    assert!(answer["error"]["message"].as_str().unwrap().contains("--no-such-option"), "{answer}");
}

fn made() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log").to_str().unwrap().to_owned();
    let output = pinfold(&["init", &log, "--origin", "example.com/test/surface", "-q"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "quiet says nothing that went well");
    (dir, format!("{log}/pinfold.toml"))
}

#[test]
fn what_destroys_is_not_done_off_a_terminal_without_being_told() {
    let (_dir, config) = made();
    let prune = |args: &[&str]| pinfold(&["prune", "--config", &config]).args(args).output().unwrap();
    let refused = prune(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("hint: add --yes"), "{}", stderr(&refused));
    assert_eq!(prune(&["--yes"]).status.code(), Some(0));
    assert_eq!(prune(&["--dry-run"]).status.code(), Some(0));
}

#[test]
fn more_is_said_when_asked_and_stdout_stays_the_answers() {
    let (dir, config) = made();
    let file = dir.path().join("empty.ndjson");
    std::fs::write(&file, b"{}\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(pinfold(&["ingest", file, "--config", &config]).output().unwrap().status.code(), Some(0));
    let seal = pinfold(&["seal", "--config", &config, "-v"]).output().unwrap();
    assert!(stderr(&seal).contains("sealed"), "{}", stderr(&seal));
    assert_eq!(String::from_utf8(seal.stdout).unwrap(), "sealed 1, segments 1\n");
}

#[test]
fn a_command_ends_when_its_time_is_over() {
    let (_dir, config) = made();
    // Nobody ever answers on this socket, which stands where a running sidecar's would.
    let socket = config.replace("pinfold.toml", "data/control.sock");
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let output = pinfold(&["status", "--config", &config, "--timeout", "100ms", "--json"]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["error"]["code"]), (Some(3), &"timeout".into()), "{answer}");
}

#[test]
fn every_command_has_a_manual_page_and_every_shell_its_completions() {
    let man = |args: &[&str]| pinfold(&["man"]).args(args).output().unwrap();
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert!(text(man(&[])).contains("pinfold\\-verify"), "the program's page names its commands");
    assert!(text(man(&["verify"])).contains("known\\-head"), "a command's page has its options");
    let unknown = man(&["no-such"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no such command"), "{}", stderr(&unknown));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(pinfold(&["completions", shell]).output().unwrap()).contains("verify"), "{shell}");
    }
}
