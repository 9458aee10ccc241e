//! The real binary on a log of its own: commands that end, and a sidecar that runs, is asked, told to stop and killed.
//!
//! Shared by the offline tests and those against real peers. What a command says on stderr is kept for the message of a
//! failing test; the tests use synthetic people only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A log made by `init`, in a directory that goes with it.
pub(crate) struct Log {
    pub(crate) dir: tempfile::TempDir,
}

/// The exit code and the last JSON line of a command.
pub(crate) type Answer = (i32, Value);

impl Log {
    /// A new log. It serves health on a port of its own, and logs JSON.
    pub(crate) fn new(origin: &str) -> Log {
        let log = Log { dir: tempfile::tempdir().unwrap() };
        let made = log.run(&["init", log.path("").to_str().unwrap(), "--origin", origin]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        log.set("listen = \"127.0.0.1:7410\"", "listen = \"127.0.0.1:0\"");
        log.set("format = \"auto\"", "format = \"json\"");
        log
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    /// Replaces a piece of the configuration that stands in it once.
    pub(crate) fn set(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("pinfold.toml")).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        std::fs::write(self.path("pinfold.toml"), text.replace(from, to)).unwrap();
    }

    /// Adds tables to the configuration.
    pub(crate) fn add(&self, text: &str) {
        let mut file = std::fs::File::options().append(true).open(self.path("pinfold.toml")).unwrap();
        write!(file, "\n{text}").unwrap();
    }

    /// A folder as a pin target.
    pub(crate) fn pin_to_folder(&self) {
        self.add("[pin.vault]\nkind = \"folder\"\npath = \"vault\"\n");
    }

    /// Folds so many consent events of a file of this name, each of another person.
    pub(crate) fn ingest_events(&self, name: &str, count: usize) {
        let event = |n: usize| {
            serde_json::json!({
                "specversion": "1.0", "id": format!("{name}-{n}"), "source": "urn:test", "type": "com.maily.consent.v1",
                "time": "2026-01-01T00:00:00Z",
                "data": {
                    "receiptId": format!("{name}-{n}"),
                    "subject": { "identifiers": [{ "type": "email", "value": format!("p{n}@example.org") }] },
                    "purposes": [{ "purposeId": "newsletter", "decision": "DECISION_GIVEN" }],
                    "jurisdiction": "GDPR",
                },
            })
            .to_string()
        };
        let path = self.dir.path().join(format!("{name}.ndjson"));
        std::fs::write(&path, (0..count).map(event).collect::<Vec<_>>().join("\n") + "\n").unwrap();
        assert_eq!(self.ok(&["ingest", path.to_str().unwrap()])["accepted"], count);
    }

    /// The command, ready to be started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
        command.args(args).arg("--json").stdin(Stdio::null());
        if args[0] != "init" {
            command.arg("--config").arg(self.path("pinfold.toml"));
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command to its end; a bug (70, 101) fails the test, and so does an error without a hint.
    pub(crate) fn answer(&self, args: &[&str]) -> Answer {
        answer(args, &self.run(args))
    }

    /// The answer of a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let (exit, value) = answer(args, &output);
        assert_eq!(exit, 0, "{args:?}: {value}{}", String::from_utf8_lossy(&output.stderr));
        value
    }

    /// Every JSON line of a command that must succeed.
    pub(crate) fn lines(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `verify` of a directory with the log's own vkey.
    pub(crate) fn verify(&self, dir: &Path) -> Answer {
        let vkey = self.path("keys/log.vkey");
        self.answer(&["verify", dir.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()])
    }

    /// Starts `run` and does not wait for it.
    pub(crate) fn launch(&self) -> Running {
        self.launch_with(&[])
    }

    /// The same with these variables.
    pub(crate) fn launch_with(&self, variables: &[(&str, &Path)]) -> Running {
        let ready = self.command(&["run"]);
        // Dies with the thread that started it, so that a killed test leaves nothing behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(ready.get_program()).args(ready.get_args());
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let heard = Arc::clone(&said);
        // Ends with the process.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line)));
        Running { child: Some(child), said }
    }

    /// Starts `run` and waits until it serves health.
    pub(crate) fn start(&self) -> Running {
        let mut running = self.launch();
        running.address();
        running
    }

    /// `status`, asked of whoever owns the journal.
    pub(crate) fn status(&self) -> Value {
        self.ok(&["status"])
    }

    /// Waits until the running sidecar's `status` is as wanted, and gives it.
    pub(crate) fn wait(&self, running: &mut Running, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            assert!(running.is_running(), "it ended while waiting for {what}: {}", running.said());
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} does not happen: {status}\n{}", running.said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The exit code and the last JSON line; a bug fails the test, and so does a failure without a next command.
pub(crate) fn answer(args: &[&str], output: &Output) -> Answer {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let value = text.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
    let code = output.status.code().unwrap_or(-1);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(code != 70 && code != 101, "{args:?}: {said}");
    if !value["error"].is_null() {
        assert!(value["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{args:?}: no hint: {value}");
    }
    (code, value)
}

/// A process that runs until it is told to stop, killed, or dropped.
pub(crate) struct Running {
    child: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Everything it said on stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running process").id()
    }

    /// Where it serves health: waits until it says so.
    pub(crate) fn address(&mut self) -> String {
        let begun = Instant::now();
        loop {
            let found = self.said.lock().unwrap().iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                Some(line["address"].as_str()?.to_owned())
            });
            if let Some(address) = found {
                return address;
            }
            assert!(self.is_running() && begun.elapsed() < PATIENCE, "it does not serve: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it answers over HTTP: the status and the text.
    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until `/readyz` is ready, or names `who`.
    pub(crate) fn wait_ready(&mut self, who: Option<&str>) -> String {
        let begun = Instant::now();
        loop {
            let (status, text) = self.get("/readyz");
            let is_so = match who {
                None => status == 200,
                Some(who) => status == 503 && text.lines().any(|line| line.starts_with(who)),
            };
            if is_so {
                return text;
            }
            let wanted = who.map_or("is not ready".to_owned(), |who| format!("does not name {who}"));
            assert!(begun.elapsed() < PATIENCE, "/readyz {wanted}: {status} {text}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("a running process"));
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end and says how it ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        let child = self.child.as_mut().expect("a running process");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.said.lock().unwrap().join("\n"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and its end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.end()
    }

    /// SIGKILL: a crash. False where it had already ended by itself.
    pub(crate) fn kill(&mut self) -> bool {
        self.signal(rustix::process::Signal::KILL);
        self.end().signal() == Some(9)
    }

    /// The most memory it held so far, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        memory_peak_kib(self.pid())
    }
}

/// The most memory a process held so far, in KiB (VmHWM); 0 where it is gone.
pub(crate) fn memory_peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Runs a command to its end, and looks at its process meanwhile: what one held can be seen only while it lives. What
/// it says on stderr is dropped.
pub(crate) fn watched(command: &mut Command, mut look: impl FnMut(u32)) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        look(child.id());
        // The pace of looking, not a wait for anything.
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A file system of its own for a test. Dropped: unmounted.
pub(crate) struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one of so many MiB at `path`. Where that is not permitted it says so loudly and gives none; with
    /// `CI=true` the test fails instead.
    pub(crate) fn mount(path: &Path, mib: u32) -> Option<Tmpfs> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m,mode=0700");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => return Some(Tmpfs { path: path.to_owned() }),
            Ok(output) => eprintln!("SKIPPED tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => eprintln!("SKIPPED tmpfs: mount: {error}"),
        }
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "a small file system cannot be mounted");
        None
    }

    /// Makes it read-only, or writable again.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        let how = if is_read_only { "remount,ro" } else { "remount,rw" };
        let output = Command::new("mount").args(["-o", how]).arg(&self.path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process about to end may still hold it.
        drop(Command::new("umount").arg("-l").arg(&self.path).output());
    }
}

/// Copies a directory with everything in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
