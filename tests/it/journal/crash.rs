//! Killed at any moment: a child appends and says what was acknowledged, the parent ends it by SIGKILL and opens the
//! journal. Everything acknowledged is there, and nothing that was never committed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use pinfold::core::seq::Size;

use super::maker::{Maker, at, check, places, small};

/// Set for the child: the directory to work in.
pub(super) const CHILD: &str = "PINFOLD_TEST_JOURNAL_CHILD";

/// Not a test of its own: what the children of the crash and power-cut tests run. Without the variable it does nothing.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let places = places(Path::new(&dir));
    let maker = Maker::new(small);
    let journal = if places.journal().exists() { maker.open(&places) } else { Ok(maker.create(&places)) };
    let journal = match journal {
        Ok(journal) => journal,
        Err(e) => return eprintln!("refused {e}"),
    };
    let mut maker = at(small, journal.state().size().0);
    for round in 0u64.. {
        let count = 1 + (maker.size() * 7 + round * 13) % 60;
        if let Err(e) = journal.append(&maker.commit(count)) {
            let again = journal.append(&maker.commit(1)).unwrap_err();
            return eprintln!("failed {e}\nagain {again}");
        }
        eprintln!("acked {}", maker.size());
        if round % 8 == 7 {
            journal.append(&maker.seal(&journal)).unwrap();
            journal.prune(Size(maker.size().saturating_sub(300))).unwrap();
        }
        if round % 16 == 15 {
            journal.compact().unwrap();
        }
    }
}

/// Runs the child until it acknowledged `commits` commits, or ended by itself; kills it; gives all it said.
pub(super) fn run(dir: &Path, commits: u64, envs: &[(&str, &Path)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "journal::crash::child", "--nocapture"]).env(CHILD, dir);
    command.envs(envs.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = Vec::new();
    let mut acks = 0;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        acks += u64::from(line.starts_with("acked "));
        said.push(line);
        if acks == commits {
            // What it says before it dies is still read: that, too, was acknowledged.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    said
}

/// The size last acknowledged.
pub(super) fn acked(said: &[String]) -> u64 {
    said.iter().rev().find_map(|line| line.strip_prefix("acked ")?.parse().ok()).unwrap_or(0)
}

pub(super) fn rounds(default: u64) -> u64 {
    std::env::var("PINFOLD_CAMPAIGN_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..rounds(10) {
        let said = run(dir.path(), 1 + (round * 31 + 7) % 20, &[]);
        let acked = acked(&said);
        assert!(acked > before, "round {round}: {said:?}");
        let journal = Maker::new(small).open(&places(dir.path())).unwrap();
        let size = journal.state().size().0;
        assert!(size >= acked, "round {round}: acknowledged {acked}, found {size}");
        check(&journal, small);
        before = acked;
    }
}
