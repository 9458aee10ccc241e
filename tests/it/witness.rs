//! The witness as a process: the table of requests, two clients at once, restarts, a lost power, a failing disk, a state
//! that was changed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use pinfold::core::note::WitnessVkey;

use crate::shim;
use crate::witness_table::{self as table, Log, add, body, proof};

/// A witness of a test, in a directory that goes with it.
pub(crate) struct Witness {
    dir: tempfile::TempDir,
}

/// One that serves. Dropped: killed.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pinfold() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_pinfold"), "--json"]).stdin(Stdio::null());
    command
}

impl Witness {
    pub(crate) fn new() -> Witness {
        let witness = Witness { dir: tempfile::tempdir().unwrap() };
        let name = ["--name", "witness.example/test"];
        let made = pinfold().args(["witness", "init"]).arg(witness.path("")).args(name).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(witness.path("logs"), table::log_list()).unwrap();
        witness
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("w").join(name)
    }

    pub(crate) fn vkey(&self) -> WitnessVkey {
        std::fs::read_to_string(self.path("witness.vkey")).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    fn serve_with(&self, variables: &[(&str, &Path)]) -> Serving {
        let mut command = pinfold();
        command.args(["witness", "serve", "--listen", "127.0.0.1:0"]).arg(self.path(""));
        command.envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Serving { child, address: said["listening"].as_str().unwrap().to_owned() }
    }

    /// The exit code and error object of a `serve` that does not come to serve.
    fn refused(&self) -> (Option<i32>, String) {
        let output =
            pinfold().args(["witness", "serve", "--listen", "127.0.0.1:0"]).arg(self.path("")).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), said["error"]["code"].as_str().unwrap().to_owned())
    }
}

#[test]
fn the_table_of_requests_is_answered_as_the_spec_has_it_also_after_a_kill() {
    let witness = Witness::new();
    let (vkey, serving) = (witness.vkey(), witness.serve());
    for row in table::first_half() {
        row.check(&serving.address, &vkey, true);
    }
    drop(serving);
    let serving = witness.serve();
    for row in table::second_half(14) {
        row.check(&serving.address, &vkey, true);
    }
}

#[test]
fn the_docs_print_the_rows_that_differ_from_litewitness() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/witness-server.md")).unwrap();
    let rows = table::first_half().len() + table::second_half(0).len();
    assert!(docs.contains(&format!("The same {rows} requests")), "there are {rows}");
    for row in table::first_half().iter().filter(|row| row.ours != row.litewitness) {
        let line = format!("| {} | {} | {} | {} |", row.name, row.ours, row.litewitness, row.why);
        assert!(docs.contains(&line), "docs/witness-server.md lacks\n{line}");
    }
}

#[test]
fn of_two_trees_shown_at_once_one_is_cosigned() {
    let (witness, [log, ..]) = (Witness::new(), Log::all());
    let serving = witness.serve();
    assert_eq!(add(&serving.address, &log.grow(0, 3)).status, 200);
    // Both continue the tree of 3 with a proof that holds: leaves 3 and 4 differ.
    let mut other = table::leaves("a", 3);
    other.extend(table::leaves("b", 2));
    let fork = |size: usize| {
        use pinfold::core::merkle::{consistency_proof, nodes_of, root_of};
        use pinfold::core::seq::Size;
        let head = format!("{}\n{size}\n{}\n", log.origin, base64(root_of(&other[..size]).as_bytes()));
        let proof = consistency_proof(Size(3), Size(size as u64), nodes_of(&other[..size])).unwrap();
        body(3, &proof, &pinfold::core::note::sign_note(&head, &[&log.key]))
    };
    let requests = [log.grow(3, 4), fork(4), log.grow(3, 5), fork(5)];
    let barrier = Barrier::new(requests.len() * 2);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking = requests.iter().cycle().take(requests.len() * 2).map(|request| {
            scope.spawn(|| {
                barrier.wait();
                add(&serving.address, request).status
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    // All start from 3, so whoever comes first moves the witness on and the others are too late.
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn what_was_cosigned_survives_the_power_and_a_planted_loss_is_seen() {
    let (witness, [log, ..]) = (Witness::new(), Log::all());
    let (root, shadow, shim) = (witness.path(""), witness.dir.path().join("shadow"), shim::build(witness.dir.path()));
    let session = |blind: Option<&Path>, request: &str| {
        shim::begin(&shadow);
        let mut variables =
            vec![("LD_PRELOAD", shim.as_path()), ("PINFOLD_SHIM_ROOT", &root), ("PINFOLD_SHIM_SHADOW", &shadow)];
        variables.extend(blind.map(|files| ("PINFOLD_SHIM_BLIND", files)));
        let serving = witness.serve_with(&variables);
        let answer = add(&serving.address, request);
        drop(serving);
        shim::restore(&root, &shadow);
        (answer.status, answer.body)
    };
    for (old, size) in [(0, 2), (2, 3), (3, 40), (40, 41)] {
        assert_eq!(session(None, &log.grow(old, size)).0, 200, "{old} to {size}");
    }
    // The checker: where syncs of the write-ahead log do not count, what was cosigned last is gone.
    assert_eq!(session(Some(Path::new("*-wal")), &log.grow(41, 50)).0, 200);
    assert_eq!(session(None, &log.grow(0, 50)), (409, "41\n".to_owned()), "the disk that lies rolled the witness back");
}

#[test]
fn a_disk_that_fails_ends_the_witness_and_nothing_is_cosigned() {
    let (witness, [log, ..]) = (Witness::new(), Log::all());
    let (root, shadow, shim) = (witness.path(""), witness.dir.path().join("shadow"), shim::build(witness.dir.path()));
    shim::begin(&shadow);
    let mut serving = witness.serve_with(&[
        ("LD_PRELOAD", &shim),
        ("PINFOLD_SHIM_ROOT", &root),
        ("PINFOLD_SHIM_SHADOW", &shadow),
        ("PINFOLD_SHIM_FAIL_AFTER", Path::new("0")),
    ]);
    let answer = add(&serving.address, &log.grow(0, 5));
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains(witness.dir.path().to_str().unwrap()), "{answer:?}");
    assert_eq!(serving.child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_state_that_is_missing_in_use_changed_or_of_another_key_is_refused() {
    let (witness, [log, ..]) = (Witness::new(), Log::all());
    let serving = witness.serve();
    assert_eq!(add(&serving.address, &log.grow(0, 5)).status, 200);
    assert_eq!(witness.refused(), (Some(4), "in-use".to_owned()));
    drop(serving);

    let state = witness.path("witness.state");
    let change = |sql: &str| rusqlite::Connection::open(&state).unwrap().execute_batch(sql).unwrap();
    change("UPDATE log SET size = 3, note = replace(note, char(10) || '5' || char(10), char(10) || '3' || char(10))");
    assert_eq!(witness.refused(), (Some(4), "damaged".to_owned()), "rolled back by hand");
    change("UPDATE log SET size = 5, note = replace(note, char(10) || '3' || char(10), char(10) || '5' || char(10))");
    drop(witness.serve());

    let other = Witness::new();
    std::fs::copy(other.path("witness.state"), &state).unwrap();
    assert_eq!(witness.refused(), (Some(4), "other-state".to_owned()));
    std::fs::remove_file(&state).unwrap();
    assert_eq!(witness.refused(), (Some(4), "state-missing".to_owned()), "a witness that forgot must not begin again");
}

#[test]
fn a_line_that_only_claims_to_be_the_witness_s_does_no_harm() {
    let (witness, [log, ..]) = (Witness::new(), Log::all());
    let serving = witness.serve();
    let vkey = witness.vkey();
    let line = add(&serving.address, &log.grow(0, 5)).body;
    // The witness's own line over another checkpoint, sent along with the next.
    let request = body(5, &proof(5, 8), &(log.checkpoint("a", 8) + &line));
    let answer = add(&serving.address, &request);
    assert_eq!(answer.status, 200, "{answer:?}");
    table::check_cosignature(&request, &answer.body, &vkey);
    drop(serving);
    let serving = witness.serve();
    assert_eq!(add(&serving.address, &log.grow(8, 8)).status, 200);
}

#[test]
fn the_list_of_logs_is_reread_on_sighup_and_a_log_that_shows_too_much_is_slowed() {
    let (witness, [log, ..]) = (Witness::new(), Log::all());
    std::fs::write(witness.path("logs"), "logs/v0\n").unwrap();
    let serving = witness.serve();
    assert_eq!(add(&serving.address, &log.grow(0, 1)).status, 404);
    std::fs::write(witness.path("logs"), format!("logs/v0\nvkey {}\nqpd 2\n", log.key.vkey())).unwrap();
    let pid = rustix::process::Pid::from_child(&serving.child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let end = std::time::Instant::now() + crate::binary::PATIENCE;
    while add(&serving.address, &log.grow(0, 1)).status == 404 {
        assert!(std::time::Instant::now() < end, "the list was not reread");
        std::thread::yield_now();
    }
    assert_eq!(add(&serving.address, &log.grow(1, 2)).status, 200);
    let slowed = add(&serving.address, &log.grow(2, 3));
    assert_eq!(slowed.status, 429);
    assert!(slowed.headers.contains("retry-after: 4"), "{slowed:?}");
    // What anyone can send again is not counted.
    assert_eq!(add(&serving.address, &log.grow(2, 2)).status, 200);
}
