//! A Kubo node, offline, on loopback: started, stopped, killed and started again on the same repository.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use pinfold::core::cid::Cid;
use pinfold::core::hash::Hash;
use serde_json::{Value, json};

const VERSION: &str = "0.43.0";
/// A password for a node that lives as long as a test.
const PASSWORD: &str = "only-for-tests";

/// A running node. Dropped: killed, its repository removed.
pub(crate) struct Node {
    repo: tempfile::TempDir,
    port: u16,
    daemon: Option<Child>,
}

impl Node {
    /// A node as an archive should be: hashes what it reads, syncs what it writes, asks for a password, knows nobody.
    pub(crate) fn start() -> Node {
        Node::with(|config| {
            config["Datastore"]["HashOnRead"] = json!(true);
            config["Datastore"]["Spec"]["mounts"][0]["sync"] = json!(true);
            config["API"]["Authorizations"] =
                json!({"app": {"AuthSecret": format!("basic:app:{PASSWORD}"), "AllowedPaths": ["/api/v0"]}});
        })
    }

    /// A node without hashing, syncing and password, after `change` to its configuration.
    pub(crate) fn with(change: impl FnOnce(&mut Value)) -> Node {
        let repo = tempfile::tempdir().unwrap();
        let done = ipfs(repo.path()).args(["init", "--empty-repo", "--profile=test,autoconf-off"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = repo.path().join("config");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["Addresses"]["API"] = json!(format!("/ip4/127.0.0.1/tcp/{port}"));
        config["Addresses"]["Swarm"] = json!([]);
        config["Routing"]["Type"] = json!("none");
        config["Gateway"]["NoFetch"] = json!(true);
        config["Gateway"]["DeserializedResponses"] = json!(false);
        config["Plugins"] = json!({"Plugins": {"telemetry": {"Disabled": true}}});
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();

        let mut node = Node { repo, port, daemon: None };
        node.up();
        node
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn up(&mut self) {
        assert!(self.daemon.is_none(), "the node runs already");
        // Dies with the thread that started it, so that a killed test leaves nothing behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(binary()).args(["daemon", "--offline"]);
        environment(&mut command, self.repo.path());
        let mut daemon = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| line == "Daemon is ready");
        // Drained, or the daemon would block on a full pipe. Ends with the daemon.
        std::thread::spawn(move || lines.for_each(drop));
        self.daemon = Some(daemon);
        assert!(is_ready, "kubo ended before it was ready");
    }

    /// Ends the daemon in order.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("a running node");
        let pid = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(daemon.wait().unwrap().success());
    }

    /// Sends the daemon a signal: stopped, it is a node that hangs.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.daemon.as_ref().expect("a running node"));
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills the daemon, as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a running node");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The url of the RPC; the same after a restart.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `host:port` of the RPC.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// User and password of [`Node::start`].
    pub(crate) fn credentials() -> (String, String) {
        ("app".to_owned(), PASSWORD.to_owned())
    }

    /// Runs the node's own command line against the daemon.
    pub(crate) fn ipfs(&self, args: &[&str]) -> Output {
        let api = format!("/ip4/127.0.0.1/tcp/{}", self.port);
        let auth = format!("basic:app:{PASSWORD}");
        let output = ipfs(self.repo.path()).args(["--api", &api, "--api-auth", &auth]).args(args).output().unwrap();
        assert!(output.status.success(), "ipfs {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs a command a person would type on the node's machine, while the daemon is down.
    pub(crate) fn shell(&self, line: &str) {
        assert!(self.daemon.is_none(), "settings change while the node is down");
        let arguments = line.strip_prefix("ipfs ").expect("a command of ipfs");
        let mut command = Command::new("sh");
        environment(&mut command, self.repo.path());
        let output = command.arg("-c").arg(format!("{} {arguments}", binary().display())).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Where the node keeps everything.
    pub(crate) fn repo(&self) -> &Path {
        self.repo.path()
    }

    /// The file in which the node keeps a block.
    pub(crate) fn block_file(&self, cid: Cid) -> PathBuf {
        let shards = std::fs::read_dir(self.repo.path().join("blocks")).unwrap().map(|entry| entry.unwrap().path());
        let files = shards.filter(|path| path.is_dir()).flat_map(|shard| std::fs::read_dir(shard).unwrap());
        let mut paths = files.map(|entry| entry.unwrap().path());
        paths.find(|path| Hash::of(&std::fs::read(path).unwrap()) == cid.hash()).expect("a block the node holds")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
    }
}

/// Where `scripts/peers/kubo` put the binary.
fn binary() -> PathBuf {
    let binary = super::installed(&format!("kubo-{VERSION}")).join("ipfs");
    assert!(binary.exists(), "kubo {VERSION} is not installed: run scripts/peers/kubo");
    binary
}

fn ipfs(repo: &Path) -> Command {
    let mut command = Command::new(binary());
    environment(&mut command, repo);
    command
}

fn environment(command: &mut Command, repo: &Path) {
    command.env("IPFS_PATH", repo).env("IPFS_TELEMETRY", "off").env("LIBP2P_TCP_MUX", "false").stdin(Stdio::null());
}
