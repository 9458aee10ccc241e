//! `doctor`, its bundle, and `config check|show` with the real binary: each says what is wrong, none says a secret.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

struct Log {
    dir: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

impl Log {
    fn new() -> Log {
        let log = Log { dir: tempfile::tempdir().unwrap(), variables: Vec::new() };
        let made = log.run(&["init", log.path("").to_str().unwrap(), "--origin", "example.com/test/doctor"]);
        assert_eq!(made.status.code(), Some(0));
        log
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn append(&self, text: &str) {
        let config = self.path("pinfold.toml");
        let before = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, before + "\n" + text).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(args).env("PINFOLD_CONFIG", self.path("pinfold.toml")).envs(self.variables.iter().copied());
        command.output().unwrap()
    }

    fn json(&self, args: &[&str]) -> (i32, Value) {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"));
        (output.status.code().unwrap(), value)
    }

    /// The exit code of `doctor`, and the status and detail of the remark of this name.
    fn doctor(&self, name: &str) -> (i32, String, String) {
        let (exit, answer) = self.json(&["doctor", "--timeout", "5s"]);
        let checks = answer["checks"].as_array().unwrap();
        let found = checks.iter().filter(|check| check["name"] == name).max_by_key(|check| check["status"] != "ok");
        let found = found.unwrap_or_else(|| panic!("{name}: {answer}"));
        if found["status"] != "ok" {
            assert!(!found["hint"].as_str().unwrap().is_empty(), "a remark without a hint: {found}");
        }
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        (exit, text("status"), text("detail"))
    }
}

#[track_caller]
fn check(found: &(i32, String, String), exit: i32, status: &str, detail: &str) {
    assert!(found.0 == exit && found.1 == status && found.2.contains(detail), "{found:?}");
}

#[test]
fn a_fresh_log_is_sound_and_what_suits_only_development_is_said() {
    let log = Log::new();
    for (name, detail) in [
        ("recovery key", "recovery.key is on this machine"),
        ("kek", "for development"),
        ("keyring volume", "on the same volume"),
        ("heads volume", "on the same volume"),
        ("pin", "the only copy"),
    ] {
        check(&log.doctor(name), 0, "warn", detail);
    }
    for name in ["config", "log key", "disk", "clock", "journal", "archive", "registry local"] {
        check(&log.doctor(name), 0, "ok", "");
    }
    std::fs::remove_file(log.path("keys/recovery.key")).unwrap();
    check(&log.doctor("recovery key"), 0, "ok", "not on this machine");
}

#[test]
fn what_is_wrong_on_this_machine_is_found() {
    let log = Log::new();
    let key = log.path("keys/log.key");
    let mode = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    check(&log.doctor("log key"), 1, "fail", "mode 0644");
    mode(0o440);
    check(&log.doctor("log key"), 0, "ok", "");
    let (own, recovery) = (std::fs::read(&key).unwrap(), std::fs::read(log.path("keys/recovery.key")).unwrap());
    mode(0o600);
    std::fs::write(&key, recovery).unwrap();
    check(&log.doctor("log key"), 1, "fail", "key mismatch");
    std::fs::write(&key, own).unwrap();

    let head = std::fs::File::open(log.path("heads/head")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    head.set_modified(later).unwrap();
    check(&log.doctor("clock"), 0, "warn", "the last head is of");

    std::fs::write(log.path("data/archive/000000.proof.car"), b"no CAR").unwrap();
    check(&log.doctor("archive"), 1, "fail", "000000.proof.car");
    std::fs::remove_file(log.path("data/archive/000000.proof.car")).unwrap();
    std::fs::write(log.path("data/registry.sqlite"), [b'x'; 8192]).unwrap();
    assert_eq!(log.doctor("registry local").1, "fail");
}

#[test]
fn whoever_does_not_answer_is_named_and_exit_is_3() {
    let log = Log::new();
    // A port that was just given back: nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    log.append(&format!("[pin.node]\nkind = \"kubo\"\nurl = \"http://127.0.0.1:{port}\"\n"));
    check(&log.doctor("pin node"), 3, "unreachable", "refused");
    let (exit, answer) = log.json(&["config", "check"]);
    assert_eq!((exit, &answer["ok"]), (3, &false.into()), "{answer}");
    let (exit, answer) = log.json(&["config", "check", "--offline"]);
    assert_eq!((exit, &answer["ok"]), (0, &true.into()), "{answer}");
}

#[test]
fn a_folder_that_takes_no_files_is_found_before_anything_is_pinned() {
    let log = Log::new();
    std::fs::write(log.path("file"), b"").unwrap();
    log.append("[pin.vault]\nkind = \"folder\"\npath = \"file\"\n");
    let (exit, status, _) = log.doctor("pin vault");
    assert_eq!((exit, status.as_str()), (1, "fail"));
}

#[test]
fn an_unusable_option_of_a_target_is_a_fault_of_the_configuration() {
    let log = Log::new();
    log.append("[pin.node]\nkind = \"kubo\"\nurl = \"https://node:5001\"\n");
    let (exit, answer) = log.json(&["config", "check", "--offline"]);
    assert_eq!((exit, &answer["error"]["code"]), (2, &"config".into()), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("pin.node.url"), "{answer}");
    let log = Log::new();
    log.append("[pin.node]\nkind = \"kubo\"\nurll = \"x\"\n");
    let (exit, answer) = log.json(&["config", "check", "--offline"]);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(exit == 2 && message.contains("line ") && message.contains("column 1"), "{answer}");
    assert_eq!(answer["error"]["hint"], "did you mean `url`?");
}

#[test]
fn show_says_where_each_value_came_from_and_masks_secrets() {
    let mut log = Log::new();
    log.append(
        "[source.r]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n\
         librdkafka = { \"sasl.password\" = \"planted-1\", \"session.timeout.ms\" = \"7000\" }\n\
         [[source.r.topic]]\nname = \"t\"\n",
    );
    log.variables = vec![("PINFOLD__SEAL__AGE_MAX", "3m"), ("PINFOLD__SOURCE__R__PASSWORD", "planted-2")];
    let shown = String::from_utf8(log.run(&["config", "show"]).stdout).unwrap();
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{shown}"));
    assert!(line("age_max = \"3m\"").ends_with("# PINFOLD__SEAL__AGE_MAX"));
    assert!(line("origin = ").ends_with("# file"));
    assert!(line("group = \"pinfold\"").ends_with("# default"));
    assert!(line("\"session.timeout.ms\" = \"7000\"").ends_with("# file"));
    assert!(line("\"sasl.password\" = \"(secret)\"").ends_with("# file"));
    assert!(!shown.contains("planted"), "{shown}");
    let (_, answer) = log.json(&["config", "show"]);
    assert!(!answer.to_string().contains("planted"), "{answer}");
    assert_eq!(answer["config"]["seal"]["age_max"], "3m");
}

#[test]
fn the_bundle_is_a_tar_file_without_secrets_and_persons() {
    let mut log = Log::new();
    let secret = "planted-secret";
    std::fs::write(log.path("keys/kubo"), secret).unwrap();
    log.append(&format!(
        "[pin.node]\nkind = \"kubo\"\nurl = \"http://127.0.0.1:1\"\nuser = \"app\"\npassword_file = \"keys/kubo\"\n\
         [source.r]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\nlibrdkafka = {{ \"sasl.password\" = \"{secret}\" }}\n\
         [[source.r.topic]]\nname = \"t\"\n"
    ));
    log.variables = vec![("PINFOLD__SOURCE__R__PASSWORD", "planted-secret")];
    let event = r#"{"specversion":"1.0","id":"e-planted","source":"urn:test","type":"com.maily.consent.v1","time":"2026-01-01T00:00:00Z","data":{"receiptId":"r","subject":{"identifiers":[{"type":"email","value":"planted@example.org"}]},"purposes":[{"purposeId":"p","decision":"DECISION_GIVEN"}],"jurisdiction":"GDPR"}}"#;
    std::fs::write(log.path("events.ndjson"), format!("{event}\nnot an event about planted@example.org\n")).unwrap();
    assert_eq!(log.json(&["ingest", log.path("events.ndjson").to_str().unwrap()]).1["quarantined"], 1);
    log.run(&["seal"]);

    let bundle = log.path("support.tar");
    let bundle = bundle.to_str().unwrap();
    let done = log.run(&["doctor", "--bundle", bundle, "--timeout", "2s"]);
    assert_eq!(done.status.code(), Some(3), "{}", String::from_utf8_lossy(&done.stdout));
    let bytes = std::fs::read(bundle).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("example.com/test/doctor") && text.contains("\"sealed\""), "it says what support needs");
    for planted in ["planted-secret", "planted@example.org", "e-planted", "PRIVATE KEY"] {
        assert!(!text.contains(planted), "{planted} is in the bundle");
    }
    let kek = std::fs::read_to_string(log.path("keys/kek")).unwrap();
    assert!(!text.contains(kek.trim()), "the KEK is in the bundle");

    let listed = Command::new("tar").args(["-tf", bundle]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let expected = ["README", "config.toml", "doctor.json", "status.json", "topics.json", "files.txt", "versions.json"];
    assert_eq!(names.lines().collect::<Vec<_>>(), expected.map(|name| format!("pinfold-support/{name}")));
    let again = log.run(&["doctor", "--bundle", bundle, "--timeout", "2s"]);
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
}
