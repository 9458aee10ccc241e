//! The two files of the demo: synthetic events as CloudEvents, one a line, and lines that are none.

use std::fs::File;
use std::io::{BufWriter, Write};

use super::super::Failure;
use super::stage::Stage;
use crate::core::synthetic::{Encoding, Generator};
use crate::core::time::Timestamp;
use crate::proto::v1::Envelope;

/// The first file, with the lines that are no events.
pub(super) const FIRST: &str = "events-1.ndjson";
/// The second file.
pub(super) const SECOND: &str = "events-2.ndjson";

/// The same events at every run.
const SEED: u64 = 7;
/// 1 January 2026.
const START: Timestamp = Timestamp(1_767_225_600_000_000);

/// No JSON, no event, an event of a type nobody declared.
const NO_EVENTS: [&str; 3] = [
    "this line is no JSON",
    r#"{"hello":"world"}"#,
    r#"{"specversion":"1.0","id":"x-1","source":"urn:demo","type":"com.example.unknown.v1","data":{}}"#,
];

/// What was written.
pub(super) struct Made {
    pub(super) events: u64,
    pub(super) people: u64,
    /// Source and id of one event.
    pub(super) known: (String, String),
}

/// Writes both files, `events` events together.
pub(super) fn write(stage: &Stage, events: u64) -> Result<Made, Failure> {
    let people = (events / 5).max(1);
    let mut generator = Generator::new(SEED, people, START);
    let half = events.div_ceil(2);
    let mut known = None;
    for (name, count) in [(FIRST, half), (SECOND, events - half)] {
        let path = stage.path(name);
        let failed = |e: std::io::Error| Failure::file("writing", &path, &e);
        let mut file = BufWriter::new(File::create_new(&path).map_err(failed)?);
        let mut first = None;
        for at in 0..count {
            // The event whose way is shown: one of many, so that finding it means something.
            let mut copy = generator.clone();
            if name == FIRST && at == count / 2 {
                let Envelope { source, id, .. } = copy.envelope();
                known = Some((source, id));
            }
            let line = generator.record(Encoding::CloudEventsJson).value.unwrap_or_default();
            file.write_all(&line).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
            first.get_or_insert(line);
        }
        if name == FIRST {
            let repeated = first.unwrap_or_default();
            let extra = NO_EVENTS.iter().map(|line| line.as_bytes()).chain([repeated.as_slice()]);
            for line in extra {
                file.write_all(line).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
            }
        }
        file.flush().map_err(failed)?;
    }
    let known = known.ok_or_else(|| Failure::usage("--events: at least 1"))?;
    Ok(Made { events, people, known })
}
