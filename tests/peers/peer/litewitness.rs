//! A witness by others, litewitness, with its key in an ssh-agent: started, killed and started again on the same state.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use pinfold::core::note::WitnessVkey;

use crate::binary::PATIENCE;

/// A running litewitness. Dropped: it and its agent are killed, its state removed.
pub(crate) struct Litewitness {
    dir: tempfile::TempDir,
    agent: Child,
    port: u16,
    fingerprint: String,
    vkey: Option<WitnessVkey>,
    daemon: Option<Child>,
}

impl Litewitness {
    /// A witness that has cosigned nothing and serves these logs: their origins and vkeys.
    pub(crate) fn start(logs: &[(&str, String)]) -> Litewitness {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        let shown = Command::new("ssh-keygen").arg("-lf").arg(&key).output().unwrap();
        let fingerprint = String::from_utf8(shown.stdout).unwrap().split(' ').nth(1).unwrap().to_owned();

        let socket = dir.path().join("agent");
        let agent = child(Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()));
        wait("the ssh-agent", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        done(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket));

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut witness = Litewitness { dir, agent, port, fingerprint, vkey: None, daemon: None };
        // The first start makes the tables.
        witness.up();
        let database = rusqlite::Connection::open(witness.database()).unwrap();
        for (origin, vkey) in logs {
            // The root of the empty tree.
            let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
            database.execute("INSERT INTO log VALUES (?1, 0, ?2)", [origin, empty]).unwrap();
            database.execute("INSERT INTO key VALUES (?1, ?2)", [origin, &vkey.as_str()]).unwrap();
        }
        witness
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("witness.db")
    }

    /// Starts it and waits until it answers.
    pub(crate) fn up(&mut self) {
        assert!(self.daemon.is_none(), "it runs already");
        let binary = super::installed("litewitness-0.9.0").join("litewitness");
        assert!(binary.exists(), "{} is not there: run scripts/peers/litewitness", binary.display());
        let mut command = Command::new(binary);
        command.args(["-name", "litewitness.example/test", "-key", &self.fingerprint, "-listen", &self.address()]);
        command.arg("-db").arg(self.database()).arg("-ssh-agent").arg(self.dir.path().join("agent"));
        let mut daemon = child(command.stderr(Stdio::piped()));
        let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
        let vkey = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, vkey) = line.split_once("vkey=")?;
            vkey.trim_matches('"').parse().ok()
        });
        // Drained, or it would block on a full pipe. Ends with the daemon.
        std::thread::spawn(move || lines.for_each(drop));
        self.daemon = Some(daemon);
        self.vkey = Some(vkey.expect("litewitness ended before it told its key"));
        wait("litewitness", || std::net::TcpStream::connect(self.address()).is_ok());
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a running witness");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// `host:port`; the same after a restart.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its key.
    pub(crate) fn vkey(&self) -> &WitnessVkey {
        self.vkey.as_ref().expect("it was started")
    }
}

impl Drop for Litewitness {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.agent]) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Dies with the thread that started it, so that a killed test leaves nothing behind.
fn child(command: &Command) -> Child {
    let mut under = Command::new("setpriv");
    under.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    under.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn wait(what: &str, is_up: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_up() {
        assert!(Instant::now() < end, "{what} does not answer");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
