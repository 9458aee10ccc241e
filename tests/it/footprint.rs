//! How much memory the real binary holds: no more for a log of many segments than for one of a few. Segments are cut,
//! registered and verified beside the fold, and none is held whole.

use std::io::{BufWriter, Write};
use std::path::Path;

use pinfold::core::synthetic::{Encoding, Generator};
use pinfold::core::time::Timestamp;
use serde_json::Value;

use crate::binary::{Log, answer, memory_peak_kib, watched};

/// The promise.
const KIB_MAX: u64 = 512 * 1024;
/// A full segment and a part of one.
const EVENTS: u64 = 70_000;
const PEOPLE: u64 = 20_000;

fn write_events(path: &Path) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut generator = Generator::new(7, PEOPLE, Timestamp(1_767_225_600_000_000));
    for _ in 0..EVENTS {
        file.write_all(&generator.record(Encoding::CloudEventsJson).value.unwrap()).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
}

/// The answer of a command that must succeed or find something, and the most memory it held.
fn measured(log: &Log, args: &[&str]) -> (Value, u64) {
    let mut peak = 0;
    let output = watched(&mut log.command(args), |pid| peak = memory_peak_kib(pid).max(peak));
    let (exit, answer) = answer(args, &output);
    assert!([0, 10].contains(&exit), "{args:?} {exit}: {answer}");
    assert!(peak > 4 * 1024, "{args:?}: nothing was measured");
    eprintln!("footprint: {}: VmHWM {} MiB", args[0], peak / 1024);
    (answer, peak)
}

#[test]
fn folding_sealing_registering_and_verifying_stay_under_512_mib() {
    let log = Log::new("example.com/test/footprint");
    log.pin_to_folder();
    let path = log.dir.path().join("events.ndjson");
    write_events(&path);
    let path = path.to_str().unwrap().to_owned();
    for args in [&["ingest", path.as_str()][..], &["run", "--until-idle"], &["verify", "--registry"]] {
        let (answer, peak) = measured(&log, args);
        assert!(peak <= KIB_MAX, "{args:?}: {} MiB: {answer}", peak / 1024);
    }
    let status = log.status();
    assert_eq!((&status["sealed"]["segments"], &status["registered"]["local"]), (&2.into(), &2.into()), "{status}");
    assert_eq!(status["quarantined"], 0, "{status}");
}
