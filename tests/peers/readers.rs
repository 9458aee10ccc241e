//! Readers by others take our bytes: Go's `sumdb/note`, `sumdb/tlog` and `go-car/v2`, Python's `dag-cbor`.
//!
//! `scripts/peers/readers` builds them from `tests/readers`. They get the files of the public log, which a program in
//! another language made from the format page, and copies with one thing changed, which they must refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pinfold::core::cid::Cid;

use crate::peer;

/// The Go program.
pub(crate) fn go(command: &str, arguments: &[&str], files: &[PathBuf]) -> Output {
    Command::new(installed("reader")).arg(command).args(arguments).args(files).output().unwrap()
}

/// The Python program.
pub(crate) fn python(files: &[PathBuf]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/python/read_blocks.py");
    Command::new(installed("venv/bin/python")).arg(script).args(files).output().unwrap()
}

/// What a reader that took everything printed.
pub(crate) fn lines(output: Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn installed(name: &str) -> PathBuf {
    let path = peer::installed("readers-1").join(name);
    assert!(path.exists(), "the readers are not installed: run scripts/peers/readers");
    path
}

/// The CARs of a kind in a directory, by segment.
fn cars(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut cars: Vec<_> = names.filter(|path| path.to_string_lossy().ends_with(&format!(".{kind}.car"))).collect();
    cars.sort();
    cars
}

/// The public log, every file unpacked, and what is to be expected of it.
fn log() -> (tempfile::TempDir, serde_json::Value) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pinfold-v1/log");
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let unpacked = Command::new("gzip").arg("-d").arg(dir.path().join("000001.proof.car.gz")).status().unwrap();
    assert!(unpacked.success());
    let expected = serde_json::from_slice(&fs::read(from.join("expected.json")).unwrap()).unwrap();
    (dir, expected)
}

#[test]
fn sumdb_opens_our_checkpoints_and_recomputes_our_trees() {
    let (dir, expected) = log();
    let vkey = expected["vkey"].as_str().unwrap();
    let proofs = cars(dir.path(), "proof");
    let read = lines(go("checkpoint", &[vkey], &proofs));
    let segments = expected["segments"].as_array().unwrap();
    assert_eq!(read.len(), segments.len());
    for (line, segment) in read.iter().zip(segments) {
        let checkpoint: Vec<_> = segment["checkpoint"].as_str().unwrap().lines().collect();
        assert!(line.starts_with(&format!("{} {} ", checkpoint[1], checkpoint[2])), "{line}");
    }
    assert!(
        read[0].ends_with(" signed") && read[2].ends_with(" signed-by-another-key"),
        "rotated in between: {read:?}"
    );

    // A segment left out: the tree no longer adds up.
    let refused = go("checkpoint", &[vkey], &[proofs[0].clone(), proofs[2].clone()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("recomputed"), "{refused:?}");
}

#[test]
fn go_car_reads_our_files_and_refuses_a_flipped_bit() {
    let (dir, expected) = log();
    let segments = expected["segments"].as_array().unwrap();
    for (kind, root) in [("proof", "seal"), ("payload", "payload")] {
        let read = lines(go("car", &[], &cars(dir.path(), kind)));
        let roots: Vec<_> = read.iter().map(|line| line.split(' ').next().unwrap()).collect();
        let expected: Vec<_> = segments.iter().map(|segment| segment[root].as_str().unwrap()).collect();
        assert_eq!(roots, expected, "{kind}");
    }
    let anchor = &cars(dir.path(), "anchor")[0];
    let bytes = fs::read(anchor).unwrap();
    let root = Cid::from_bytes(&bytes[14..50]).unwrap();
    assert_eq!(lines(go("car", &[], std::slice::from_ref(anchor))), [format!("{root} 1")]);

    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(anchor, flipped).unwrap();
    assert!(!go("car", &[], std::slice::from_ref(anchor)).status.success());
    fs::write(anchor, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!go("car", &[], std::slice::from_ref(anchor)).status.success());
}

#[test]
fn python_dag_cbor_decodes_every_block_to_the_same_bytes() {
    let (dir, expected) = log();
    let read = lines(python(&cars(dir.path(), "proof")));
    let leaves: Vec<_> = read.iter().map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).collect();
    let segments = expected["segments"].as_array().unwrap();
    let counts: Vec<_> = segments.iter().map(|segment| segment["count"].as_u64().unwrap()).collect();
    assert_eq!(leaves, counts);
    for kind in ["payload", "anchor"] {
        assert!(!lines(python(&cars(dir.path(), kind))).is_empty());
    }
    let path = cars(dir.path(), "proof").remove(2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(!python(&[path]).status.success());
}
