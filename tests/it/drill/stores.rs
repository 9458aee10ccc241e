//! What stands beside an archive: registry, journal, head file. With the real binary, on a log it made.

use std::path::{Path, PathBuf};

use pinfold::core::finding::Code;
use rusqlite::Connection;
use serde_json::Value;

use super::table::{By, Expected, Table};
use crate::binary::copy_tree;
use crate::line::Log;
use crate::verify::log_of_three;

const OWN: &str = "configured log";

pub(super) fn rows(table: &mut Table) {
    let log = log_of_three();
    registries(&log, table);
    directories(&log, table);
    beside(&log, table);
    rolled_back(table);
}

/// Changes the registry by SQL, verifies, and puts it back.
fn after(log: &Log, sql: &str, args: &[&str]) -> (i32, Value) {
    let path = log.path("data/registry.sqlite");
    let saved = std::fs::read(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let seen = log.answer(args);
    for beside in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{beside}", path.display()));
    }
    std::fs::write(&path, saved).unwrap();
    seen
}

fn registries(log: &Log, table: &mut Table) {
    table.group("Registries", "Rows are made again from the bytes and compared both ways. SQLite beside the archive convicts; to confirm takes a registry in other hands.");
    let seen = log.answer(&["verify"]);
    table.row("none", By::Nobody, OWN, Expected::of(Code::UnsealedTail, 10), &seen);
    let size = seen.1["size"].as_u64().unwrap();
    let add = format!(
        "INSERT INTO entries (origin, seq, seal_cid, leaf_hash, kind, recorded_at) \
         SELECT origin, {size}, seal_cid, leaf_hash, kind, recorded_at FROM entries WHERE seq = 5"
    );
    let double = "CREATE TABLE copy AS SELECT * FROM entries; INSERT INTO copy SELECT * FROM copy WHERE seq = 40; \
                  PRAGMA legacy_alter_table = ON; DROP TABLE entries; ALTER TABLE copy RENAME TO entries";
    let at = |code, seq| Expected::of(code, 30).at(seq);
    for (what, sql, expected) in [
        ("a row edited", "UPDATE entries SET event_id = 'another' WHERE seq = 50", at(Code::RegistryDiffers, 50)),
        ("a row removed", "DELETE FROM entries WHERE seq = 40", at(Code::RegistryMissing, 40)),
        ("a row added", add.as_str(), at(Code::RegistryExtra, size)),
        ("a row doubled", double, at(Code::RegistryDouble, 40)),
        (
            "a column the registry derives edited",
            "UPDATE entries SET duplicate_of = 3 WHERE seq = 50",
            at(Code::RegistryDiffers, 50),
        ),
        (
            "a segment's row removed",
            "DELETE FROM segments WHERE segment_no = 1",
            Expected::of(Code::RegistryMissing, 30).in_segment(1),
        ),
        ("the fence moved back", "UPDATE registration_hwm SET size = 1", Expected::of(Code::RegistryDiffers, 30)),
        ("the fence moved on", "UPDATE registration_hwm SET size = size + 5", Expected::of(Code::TailMissing, 30)),
        (
            "the fence's root made no hash",
            "UPDATE registration_hwm SET root = '00'",
            Expected::of(Code::Unreachable, 50),
        ),
    ] {
        table.row(what, By::Registrar, OWN, expected, &after(log, sql, &["verify"]));
    }
    let other_root = format!("UPDATE registration_hwm SET root = '{}'", "0".repeat(64));
    let seen = after(log, &other_root, &["verify"]);
    table.row("the fence's root is of another tree", By::Registrar, OWN, Expected::of(Code::Forked, 30), &seen);
}

/// A copy of the archive folder.
fn copy(log: &Log, name: &str) -> PathBuf {
    let dir = log.dir.path().join(name);
    copy_tree(&log.path("data/archive"), &dir);
    dir
}

fn verify(log: &Log, dir: &Path, more: &[&str]) -> (i32, Value) {
    let vkey = log.path("keys/log.vkey");
    let args = ["verify", dir.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()];
    log.answer(&[&args[..], more].concat())
}

fn directories(log: &Log, table: &mut Table) {
    table.group("Folders", "An archive folder in which somebody was.");
    let dir = copy(log, "folder");
    table.row("none", By::Nobody, "vkey", Expected::nothing(10), &verify(log, &dir, &[]));
    let named = |code, exit, name: &str, make: &dyn Fn(&Path), table: &mut Table, what: &str| {
        let path = dir.join(name);
        make(&path);
        table.row(what, By::Keeper, "vkey", Expected::of(code, exit), &verify(log, &dir, &[]));
        std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(dir.join(name))).unwrap();
    };
    let any: &dyn Fn(&Path) = &|path| std::fs::write(path, b"anything").unwrap();
    named(Code::NonCanonical, 40, "extra.car", any, table, "a CAR file under a name no archive has");
    named(Code::LimitExceeded, 50, "1048576.proof.car", any, table, "a file of a segment nobody can have");
    named(Code::SegmentMissing, 20, "000004.proof.car", any, table, "a file beyond the newest segment");
    let proofs = ["000001.proof.car", "000002.proof.car"];
    proofs.iter().for_each(|name| std::fs::rename(dir.join(name), log.dir.path().join(name)).unwrap());
    let expected = Expected::of(Code::SegmentMissing, 20).in_segment(1);
    table.row("the newest proofs removed, their payloads left", By::Keeper, "vkey", expected, &verify(log, &dir, &[]));
    proofs.iter().for_each(|name| std::fs::rename(log.dir.path().join(name), dir.join(name)).unwrap());
    let pipe: &dyn Fn(&Path) =
        &|path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    named(Code::Unreachable, 50, "000003.proof.car", pipe, table, "a pipe instead of a file");
    let zeros: &dyn Fn(&Path) = &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    named(Code::Unreachable, 50, "000003.proof.car", zeros, table, "a link to a device that never ends");
    let round: &dyn Fn(&Path) = &|path| std::os::unix::fs::symlink(path, path).unwrap();
    named(Code::Unreachable, 50, "000003.proof.car", round, table, "a link to itself");
    let folder: &dyn Fn(&Path) = &|path| std::fs::create_dir(path).unwrap();
    named(Code::Unreachable, 50, "000003.proof.car", folder, table, "a folder instead of a file");
}

fn beside(log: &Log, table: &mut Table) {
    table.group("Together", "Several things at once: the worst is the verdict, in the order 40, 30, 20, 50, 10, 0.");
    let registry = log.path("data/registry.sqlite");
    let saved = std::fs::read(&registry).unwrap();
    std::fs::write(&registry, "not a database, and long enough to be looked at").unwrap();
    let mut what = "the registry cannot be read".to_owned();
    let seen = log.answer(&["verify"]);
    table.row(&what, By::Registrar, OWN, Expected::of(Code::Unreachable, 50), &seen);
    let archive = log.path("data/archive");
    std::fs::remove_file(archive.join("000001.payload.car")).unwrap();
    what += ", a payload is removed";
    let seen = log.answer(&["verify"]);
    table.row(&what, By::Keeper, OWN, Expected::of(Code::BlockMissing, 20).in_segment(1), &seen);
    let head = log.dir.path().join("newest");
    std::fs::write(&head, checkpoint(log, &saved)).unwrap();
    for file in ["000002.proof.car", "000002.payload.car"] {
        std::fs::rename(archive.join(file), log.dir.path().join(file)).unwrap();
    }
    what += ", the tail is truncated";
    let args = ["verify", "--known-head", head.to_str().unwrap()];
    table.row(
        &what,
        By::Keeper,
        "configured log, newest checkpoint",
        Expected::of(Code::RolledBack, 30),
        &log.answer(&args),
    );
    let file = archive.join("000000.proof.car");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
    what += ", a bit is flipped";
    let expected = Expected::of(Code::BlockHash, 40).in_segment(0);
    table.row(&what, By::Keeper, "configured log, newest checkpoint", expected, &log.answer(&args));
}

/// The newest checkpoint, from a registry as it was.
fn checkpoint(log: &Log, registry: &[u8]) -> String {
    let path = log.dir.path().join("copy.sqlite");
    std::fs::write(&path, registry).unwrap();
    let newest = "SELECT checkpoint FROM segments ORDER BY segment_no DESC LIMIT 1";
    Connection::open(path).unwrap().query_row(newest, [], |row| row.get(0)).unwrap()
}

/// A whole data directory of yesterday.
fn rolled_back(table: &mut Table) {
    table.group("Yesterday", "The whole data directory is put back to an earlier state: journal, archive, registry.");
    let log = log_of_three();
    let saved = log.dir.path().join("yesterday");
    copy_tree(&log.path(""), &saved);
    log.ok(&["ingest", &log.events("more.ndjson", 20)]);
    log.ok(&["run", "--until-idle"]);
    let today = std::fs::read(log.path("data/registry.sqlite")).unwrap();
    let head = log.dir.path().join("today");
    std::fs::write(&head, checkpoint(&log, &today)).unwrap();
    let known = ["verify", "--known-head", head.to_str().unwrap()];
    let seen = log.answer(&known);
    table.row("none", By::Nobody, "configured log, newest checkpoint", Expected::of(Code::UnsealedTail, 0), &seen);
    std::fs::remove_dir_all(log.path("data")).unwrap();
    copy_tree(&saved.join("data"), &log.path("data"));
    let what = "`data/` rolled back, `heads/` is not";
    table.row(what, By::Keeper, OWN, Expected::of(Code::RolledBack, 30), &log.answer(&["verify"]));
    std::fs::remove_dir_all(log.path("heads")).unwrap();
    copy_tree(&saved.join("heads"), &log.path("heads"));
    let what = "`data/` and `heads/` rolled back";
    table.row(what, By::Keeper, OWN, Expected::of(Code::UnsealedTail, 10), &log.answer(&["verify"]));
    table.row(
        what,
        By::Keeper,
        "configured log, newest checkpoint",
        Expected::of(Code::RolledBack, 30),
        &log.answer(&known),
    );
    std::fs::write(log.path("data/registry.sqlite"), today).unwrap();
    let what = "`data/` and `heads/` rolled back, a registry elsewhere is not";
    table.row(what, By::Keeper, OWN, Expected::of(Code::TailMissing, 30), &log.answer(&["verify"]));
}
