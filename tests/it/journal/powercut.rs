//! Power lost at any moment: as the crash test, but of every file only what was synced is left (tests/shim/powercut.c).
//!
//! `PINFOLD_CAMPAIGN_ROUNDS` sets the rounds, `PINFOLD_SHIM` names the shim where it is built already. First the
//! shim is shown to catch a journal without its own fdatasync.

use std::fs;
use std::path::{Path, PathBuf};

use super::crash::{acked, rounds, run};
use super::maker::{Maker, check, places, small};
use crate::shim;

struct Machine {
    dir: tempfile::TempDir,
    shim: PathBuf,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let shim = shim::build(dir.path());
        fs::create_dir(dir.path().join("disk")).unwrap();
        Machine { dir, shim }
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Runs the child until so many commits, then cuts the power. Gives what it said.
    fn run(&self, commits: u64, more: &[(&str, &Path)]) -> Vec<String> {
        let (disk, shadow) = (self.disk(), self.dir.path().join("shadow"));
        shim::begin(&shadow);
        let mut envs: Vec<(&str, &Path)> =
            vec![("LD_PRELOAD", &self.shim), ("PINFOLD_SHIM_ROOT", &disk), ("PINFOLD_SHIM_SHADOW", &shadow)];
        envs.extend(more);
        let said = run(&disk, commits, &envs);
        shim::restore(&disk, &shadow);
        said
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let machine = Machine::new();
    let mut before = 0;
    for round in 0..rounds(3) {
        let said = machine.run(4 + (round * 29 + 11) % 40, &[]);
        let acked = acked(&said);
        assert!(acked > before, "round {round}: {said:?}");
        let journal = Maker::new(small).open(&places(&machine.disk())).unwrap();
        let size = journal.state().size().0;
        assert!(size >= acked, "round {round}: acknowledged {acked}, found {size}");
        check(&journal, small);
        journal.close().unwrap();
        before = acked;
    }
}

/// The planted bug: our fdatasync of the store's file is not counted, as if it were not called.
#[test]
fn the_shim_catches_a_journal_that_does_not_sync() {
    let machine = Machine::new();
    machine.run(3, &[]);
    let said = machine.run(20, &[("PINFOLD_SHIM_BLIND", Path::new("db"))]);
    let acked = acked(&said);
    assert!(acked > 0, "{said:?}");
    match Maker::new(small).open(&places(&machine.disk())) {
        Ok(journal) => assert!(journal.state().size().0 < acked, "{acked} survived without a sync"),
        Err(e) => assert_eq!(e.fate(), pinfold::journal::Fate::Halt, "{e}"),
    }
}

/// After a failed sync nobody knows what is on the disk: the journal says so at every later call, and what was
/// acknowledged before is there after a restart.
#[test]
fn a_failed_sync_ends_the_use_of_the_journal() {
    let machine = Machine::new();
    let mut failed = 0;
    for after in ["9", "20", "33"] {
        let said = machine.run(u64::MAX, &[("PINFOLD_SHIM_FAIL_AFTER", Path::new(after))]);
        let last: Vec<&str> = said.iter().rev().take(2).map(String::as_str).collect();
        if !said.iter().any(|line| line.starts_with("acked ")) {
            continue;
        }
        failed += 1;
        assert!(last[0].starts_with("again journal: unusable") && last[1].starts_with("failed "), "{said:?}");
        let journal = Maker::new(small).open(&places(&machine.disk())).unwrap();
        assert!(journal.state().size().0 >= acked(&said));
        check(&journal, small);
    }
    assert!(failed > 0, "no sync failed after an acknowledged commit");
}
