//! snowduck behind our strict front of the Snowflake SQL API.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pinfold::registry::snowflake::{Options, Snowflake};
use serde_json::Value;

use super::front::{Front, UserKey};

const VERSION: &str = "0.3.0";
const USER: &str = "ORG-ACCT.PINFOLD";

/// A running peer and its front. Dropped: killed, its database removed.
pub(crate) struct Warehouse {
    pub(crate) front: Front,
    port: u16,
    server: Child,
    pem: String,
    runtime: tokio::runtime::Runtime,
    home: tempfile::TempDir,
}

impl Warehouse {
    /// Starts the peer on an empty database and waits until it listens.
    pub(crate) fn start() -> Warehouse {
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        // Dies with the thread that started it, so that a killed test leaves nothing behind.
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(python())
            .args(["-m", "snowduck.server.server", "--host", "127.0.0.1", "--port", &port.to_string()])
            .env("SNOWDUCK_DB_PATH", home.path().join("snow.duckdb"))
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.try_wait().unwrap().is_none(), "snowduck ended before it was ready");
            assert!(begun.elapsed() < Duration::from_secs(60), "snowduck does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let key = UserKey::generate();
        let pem = key.pem();
        let front = Front::start(format!("http://127.0.0.1:{port}"), USER, key);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Warehouse { front, port, server, pem, runtime, home }
    }

    /// A registrar as a configuration would make it.
    pub(crate) fn registrar(&self) -> Snowflake {
        Snowflake::new(self.options(), self.runtime.handle().clone()).unwrap()
    }

    /// A registrar after `change` to its options.
    pub(crate) fn registrar_with(&self, change: impl FnOnce(&mut Options)) -> Snowflake {
        let mut options = self.options();
        change(&mut options);
        Snowflake::new(options, self.runtime.handle().clone()).unwrap()
    }

    /// A `[registry.hub]` of a configuration whose keys are in `keys`; statements may take two seconds.
    pub(crate) fn config(&self, keys: &std::path::Path) -> String {
        let file = keys.join("hub.p8");
        std::fs::write(&file, &self.pem).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!(
            "[registry.hub]\nkind = \"snowflake\"\naccount = \"org-acct\"\nurl = \"{}\"\nuser = \"pinfold\"\n\
             private_key_file = \"{}\"\nrole = \"REGISTRAR\"\nwarehouse = \"SMALL\"\ndatabase = \"GOVERNANCE\"\n\
             schema = \"PINFOLD\"\nddl = \"auto\"\nbatch_rows_max = 200\ntimeout = \"2s\"\n",
            self.front.url(),
            file.display()
        )
    }

    fn options(&self) -> Options {
        Options {
            name: "hub".to_owned(),
            account: "org-acct".to_owned(),
            url: Some(self.front.url()),
            user: "pinfold".to_owned(),
            private_key_pem: self.pem.clone().into(),
            role: "REGISTRAR".to_owned(),
            warehouse: "SMALL".to_owned(),
            database: "GOVERNANCE".to_owned(),
            schema: "PINFOLD".to_owned(),
            is_ddl_manual: false,
            batch_rows_max: 200,
            answer_timeout: Duration::from_secs(5),
        }
    }

    /// Rows as the official connector reads them; each table with its key columns.
    pub(crate) fn read(&self, tables: &[(&str, &str)]) -> Vec<Value> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/snowflake_rows.py");
        let tables = tables.iter().map(|(table, keys)| format!("{table}:{keys}"));
        let mut command = Command::new(python());
        command.args([script, &self.port.to_string(), "GOVERNANCE", "PINFOLD"]).args(tables);
        let output = command.output().unwrap();
        let log = || std::fs::read_to_string(self.home.path().join("log")).unwrap();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), log());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// The Python of the environment `scripts/peers/snowflake` made.
fn python() -> PathBuf {
    let peers = std::env::var_os("PINFOLD_PEERS").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("PINFOLD_PEERS or HOME")).join(".cache/pinfold-peers")
    });
    let home = peers.join(format!("snowduck-{VERSION}"));
    assert!(home.join("installed").exists(), "snowduck {VERSION} is not installed: run scripts/peers/snowflake");
    home.join("venv/bin/python")
}
