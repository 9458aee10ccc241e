//! Sources outside the archive that answer when they are asked: witnesses, and those of a log that is closed.

use std::path::Path;
use std::process::Command;

use pinfold::core::audit::{AuditInput, File};
use pinfold::core::checkpoint::Statement;
use pinfold::core::finding::Code;
use pinfold::core::leaf::{Body, CloseWhy};
use pinfold::core::witness::Policy;
use serde_json::Value;

use super::forge::{self, Entry, Written};
use super::table::{By, Expected, Table};
use crate::memory::{Memory, name};
use crate::stub_witness::{Mood, StubWitness};

const WITNESS: &str = "witness.example/drill";
const LIVE: &str = "vkey, live witness";

/// `verify` of an archive by somebody who asks the witness.
fn verify(archive: &Memory, witness: &StubWitness) -> (i32, Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("archive")).unwrap();
    for (name, bytes) in &archive.files {
        std::fs::write(path("archive").join(name), bytes).unwrap();
    }
    std::fs::write(path("log.vkey"), forge::key(1).vkey().to_string()).unwrap();
    std::fs::write(path("policy"), format!("{}quorum w\n", witness.line("w"))).unwrap();
    run(dir.path())
}

fn run(dir: &Path) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .current_dir(dir)
        .args(["verify", "archive", "--json", "--vkey", "log.vkey", "--witness-policy", "policy"])
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|_| panic!("{output:?}")))
}

pub(super) fn rows(table: &mut Table) {
    live(table);
    closed(table);
}

fn live(table: &mut Table) {
    table.group(
        "Live witnesses",
        "A witness of the verifier's is shown the newest checkpoint, and signs no other history.",
    );
    let (entries, key) = (forge::entries(22, 5), forge::key(1));
    let honest = forge::write(&entries, &forge::by(&key));
    let witness = StubWitness::new(WITNESS, 7, key.vkey());
    let head = Statement::parse(honest.newest()).unwrap().head;
    let hold = || witness.hold(head.size.0, head.root);
    hold();
    table.row("none", By::Nobody, LIVE, Expected::nothing(0), &verify(&honest.archive, &witness));
    let mut cut = honest.archive.clone();
    cut.files.retain(|name, _| name.as_str() < "000020");
    let seen = verify(&cut, &witness);
    table.row("the tail truncated", By::Keeper, LIVE, Expected::of(Code::RolledBack, 30), &seen);
    let mut changed = entries;
    changed[15][1].parts[1].commitment = pinfold::core::hash::Hash::of(b"another story");
    let fork = forge::write(&changed, &forge::by(&key));
    let seen = verify(&fork.archive, &witness);
    table.row("an entry changed, relinked and signed", By::Key, LIVE, Expected::of(Code::Forked, 30), &seen);
    witness.is(Mood::Down);
    let seen = verify(&honest.archive, &witness);
    table.row("none; the witness does not answer", By::Nobody, LIVE, Expected::of(Code::Unreachable, 50), &seen);
}

/// A log whose last entry closes it needs no live source: the quorum that signed its end saw all of it.
fn closed(table: &mut Table) {
    table.group("A closed log", "Its last entry says that it is the last. Then, and only then, an anchor confirms it.");
    let witness = forge::witness();
    let mut entries = forge::entries(3, 2);
    entries[2].push(Entry::own(Body::LogClosed { why: CloseWhy::Ended }));
    let mut closed = forge::write(&entries, &forge::by(&forge::key(1)));
    let anchored = |written: &Written| {
        forge::anchor(written.seals[2].0, written.newest(), &forge::cosigned_line(written.newest()))
    };
    let place = name(2, File::Anchor);
    closed.archive.files.insert(place.clone(), anchored(&closed));
    let policy = format!("witness w {}\nquorum w\n", witness.vkey());
    let input = AuditInput {
        vkeys: vec![forge::key(1).vkey().clone()],
        witnesses: vec![witness.vkey().clone()],
        quorum: Some(Policy::parse(policy.as_bytes()).unwrap()),
        ..AuditInput::default()
    };
    let holds = "vkey, witness policy";
    table.row("none", By::Nobody, holds, Expected::nothing(0), &closed.archive.audit(&input));
    let mut gone = closed.archive.clone();
    gone.files.remove(&place);
    table.row("the anchor removed", By::Keeper, holds, Expected::nothing(10), &gone.audit(&input));
    let mut bare = closed.archive.clone();
    bare.files.insert(place.clone(), forge::anchor(closed.seals[2].0, closed.newest(), ""));
    table.row("the cosignature removed", By::Keeper, holds, Expected::nothing(10), &bare.audit(&input));
    let mut open = forge::write(&forge::entries(3, 2), &forge::by(&forge::key(1)));
    open.archive.files.insert(place, anchored(&open));
    table.row("none; the log is not closed", By::Nobody, holds, Expected::nothing(10), &open.archive.audit(&input));
}
