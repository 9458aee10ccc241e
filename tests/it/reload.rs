//! SIGHUP: a running sidecar goes on with the secrets that stand in their files now.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that refuses everybody and tells who they said they are.
fn doorkeeper() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            for line in BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                if let Some(said) = line.to_lowercase().strip_prefix("authorization: ") {
                    let said = line[line.len() - said.len()..].to_owned();
                    if sender.send(said).is_err() {
                        return;
                    }
                }
            }
            // Whoever hung up meanwhile is not told.
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (port, receiver)
}

/// Waits until somebody says who is not one of `known`.
fn somebody_else(heard: &Receiver<String>, known: &BTreeSet<String>, identity: fn(&str) -> String) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let said = identity(&heard.recv_timeout(left).expect("nobody new came"));
        if !known.contains(&said) {
            return said;
        }
    }
}

/// The issuer of a Bearer token: account, user and fingerprint of the key.
fn issuer(said: &str) -> String {
    let claims = said.strip_prefix("Bearer ").and_then(|token| token.split('.').nth(1)).unwrap_or_default();
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["iss"].as_str().unwrap().to_owned()
}

fn write_key(path: &Path) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let body = STANDARD.encode(der.as_ref());
    std::fs::write(path, format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")).unwrap();
}

/// Ends the sidecar however the test ends.
struct Running(Child);

impl Running {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn passwords_and_keys_are_read_again_and_the_sidecar_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let config = log.join("pinfold.toml");
    let pinfold = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(args).env("PINFOLD_CONFIG", &config);
        command
    };
    let ok = |args: &[&str]| assert!(pinfold(args).output().unwrap().status.success(), "{args:?}");
    ok(&["init", log.to_str().unwrap(), "--origin", "example.com/test/reload"]);
    std::fs::write(log.join("event.ndjson"), "{}\n").unwrap();
    ok(&["ingest", log.join("event.ndjson").to_str().unwrap()]);
    ok(&["seal"]);

    let ((node_port, at_node), (warehouse_port, at_warehouse)) = (doorkeeper(), doorkeeper());
    let (password, key) = (log.join("keys/kubo"), log.join("keys/snowflake.p8"));
    std::fs::write(&password, "first\n").unwrap();
    write_key(&key);
    let text = std::fs::read_to_string(&config).unwrap().replace("listen = \"127.0.0.1:7410\"", "listen = \"\"");
    let more = format!(
        "[pin.node]\nkind = \"kubo\"\nurl = \"http://127.0.0.1:{node_port}\"\nuser = \"app\"\npassword_file = \"keys/kubo\"\n\
         [pin.vault]\nkind = \"folder\"\npath = \"vault\"\n\
         [registry.hub]\nkind = \"snowflake\"\naccount = \"A\"\nurl = \"http://127.0.0.1:{warehouse_port}\"\nuser = \"U\"\n\
         private_key_file = \"keys/snowflake.p8\"\ndatabase = \"D\"\nschema = \"S\"\n"
    );
    std::fs::write(&config, text + "\n" + &more).unwrap();

    let mut running = Running(pinfold(&["run", "-q"]).spawn().unwrap());
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("app:{password}")));
    let first = somebody_else(&at_node, &BTreeSet::new(), str::to_owned);
    assert_eq!(first, basic("first"));
    let issuer_before = somebody_else(&at_warehouse, &BTreeSet::new(), issuer);

    // While it runs the journal is its own: others ask it.
    let doctor = pinfold(&["doctor", "--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let found = found["checks"].as_array().unwrap();
    let journal = found.iter().find(|check| check["name"] == "journal").unwrap();
    assert!(journal["detail"].as_str().unwrap().starts_with("running"), "{journal}");
    let refused: Vec<&str> =
        found.iter().filter(|check| check["status"] == "fail").map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!((doctor.status.code(), refused), (Some(1), vec!["pin node", "registry hub"]));

    std::fs::write(&password, "second\n").unwrap();
    write_key(&key);
    running.signal(rustix::process::Signal::HUP);
    assert_eq!(somebody_else(&at_node, &BTreeSet::from([first]), str::to_owned), basic("second"));
    let issuer_now = somebody_else(&at_warehouse, &BTreeSet::from([issuer_before]), issuer);
    assert!(issuer_now.starts_with("A.U.SHA256:"), "{issuer_now}");

    // A file that is gone changes nothing: the sidecar goes on with what it has.
    std::fs::remove_file(&key).unwrap();
    running.signal(rustix::process::Signal::HUP);
    while at_node.try_recv().is_ok() {}
    assert_eq!(at_node.recv_timeout(PATIENCE).unwrap(), basic("second"));
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
