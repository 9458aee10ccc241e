//! How fast records become durable entries: decode, people, parts, leaf, tree, live head, commit.
//!
//! The real loop over the real journal and keyring, fed from memory, against the very same loop whose commits go to a
//! plain file with one fdatasync each: what is lost to the journal. Nothing is sealed or pinned meanwhile.
//! `PINFOLD_BENCH_EVENTS` (400,000) sets the size of each phase. Each figure is one run; read the ratios, with the machine named beside them.
//! The processor time by thread says where the time goes, and holds on a machine that does other things as well.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench may fail loudly and prints what it measured"
)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pinfold::core::decode::Format;
use pinfold::core::record::Record;
use pinfold::core::synthetic::Generator;
use pinfold::core::time::Timestamp;
use pinfold::ingest::{Arrival, Arrived};
use pinfold::journal::Commit;
use pinfold::proto::v1::envelope::Body;
use pinfold::proto::v1::{Envelope, Identifier, Subject};
use pinfold::sidecar::{Settings, Sidecar, Which};
use prost::Message;

use embedded::Embedded;

#[path = "../tests/harness/cpu.rs"]
mod cpu;
#[path = "../tests/harness/embedded.rs"]
mod embedded;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: Timestamp = Timestamp(1_767_225_600_000_000);

/// Consent events of about 500 bytes, each about one person; `new_in_ten` of ten are about somebody new.
struct Stream {
    generator: Generator,
    known: u64,
    next: u64,
}

impl Stream {
    fn new() -> Stream {
        Stream { generator: Generator::new(7, 1, START), known: 0, next: 0 }
    }

    fn records(&mut self, count: u64, new_in_ten: u64) -> Vec<Arrived> {
        (0..count).map(|offset| Arrived { offset, record: self.record(new_in_ten), cut: None }).collect()
    }

    fn record(&mut self, new_in_ten: u64) -> Record {
        let n = self.next;
        self.next += 1;
        let is_new = self.known == 0 || n % 10 < new_in_ten;
        self.known += u64::from(is_new);
        let person = if is_new { self.known - 1 } else { n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.known };
        let identifier = |kind: &str, value| Identifier { r#type: kind.to_owned(), value };
        let subject = Subject {
            identifiers: vec![
                identifier("external", format!("customer-{person:09}")),
                identifier("email", format!("person.{person}@example.com")),
            ],
        };
        let mut envelope = self.consent();
        if let Some(Body::Consent(consent)) = &mut envelope.body {
            consent.subject = Some(subject);
        }
        Record {
            key: Some(format!("customer-{person:09}").into_bytes()),
            value: Some(envelope.encode_to_vec()),
            headers: Vec::new(),
            timestamp_ms: 1_767_225_600_000,
            timestamp_type: 0,
        }
    }

    fn consent(&mut self) -> Envelope {
        loop {
            let envelope = self.generator.envelope();
            if matches!(envelope.body, Some(Body::Consent(_))) {
                return envelope;
            }
        }
    }
}

fn sidecar(dir: &Path, threads: usize, runtime: &tokio::runtime::Handle) -> Sidecar {
    let settings = embedded::settings(&dir.join("data/archive"));
    let settings = Settings { entries_max: u64::MAX, threads, ..settings };
    let writer = embedded::log(dir, "example.com/bench", START);
    Sidecar::new(writer, Vec::new(), Vec::new(), settings, runtime).expect("an open log")
}

/// Events a second of folding `records`.
fn fold(sidecar: &mut Sidecar, topic: &str, records: Vec<Arrived>) -> f64 {
    let count = records.len() as f64;
    let topic = Arc::new(embedded::topic(topic, "bench", 1));
    let source = Embedded::new([
        Arrival::Assigned { topic: Arc::clone(&topic), partition: 0, held: None },
        Arrival::Records { topic, partition: 0, records, state: Vec::new() },
    ]);
    let rule = embedded::rule(Which::All, "", Format::Auto);
    let begun = Instant::now();
    let totals = sidecar.ingest(Box::new(source), Arc::from([rule]), || START, u64::MAX).expect("nothing fails");
    let totals = totals.expect("nothing is in the way");
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(totals.folded.accepted as f64, count);
    count / seconds
}

/// The same pipeline with a plain file: everything a commit holds is written, and synced once.
fn into_plain_file(sidecar: &mut Sidecar, path: &Path) {
    let file = std::fs::File::create_new(path).expect("a new file");
    let append = move |commit: &Commit| {
        let mut bytes = Vec::new();
        for entry in &commit.entries {
            bytes.extend_from_slice(&entry.leaf);
            entry.frames.iter().for_each(|frame| bytes.extend_from_slice(frame));
        }
        (&file).write_all(&bytes).and_then(|()| file.sync_data()).expect("room for the file");
        Ok(())
    };
    sidecar.writer().commit_to(append).expect("a thread");
}

fn main() {
    let events = std::env::var("PINFOLD_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(400_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut rates = Vec::new();
    for (what, is_plain) in [("journal", false), ("plain file", true)] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut stream = Stream::new();
        let mut sidecar = sidecar(dir.path(), cores, runtime.handle());
        if is_plain {
            into_plain_file(&mut sidecar, &dir.path().join("plain"));
        }
        for (phase, new_in_ten) in [("one in ten new", 1), ("all known", 0)] {
            let records = stream.records(events, new_in_ten);
            let bytes: usize = records.iter().map(|arrived| arrived.record.len()).sum();
            let before = cpu::of(std::process::id());
            let rate = fold(&mut sidecar, phase, records);
            println!("{what}, {phase}: {rate:.0} events/s of {} bytes, {cores} workers", bytes as u64 / events);
            println!("  {}", cpu::per_event(&before, &cpu::of(std::process::id()), events));
            rates.push(rate);
        }
    }
    if let [new, known, plain_new, plain_known] = rates[..] {
        println!(
            "journal against plain file: {:.2} with new people, {:.2} all known",
            new / plain_new,
            known / plain_known
        );
    }
}
