//! How fast an archive is verified: proof only and with payload, on one thread and on all.
//!
//! Makes an archive of events with two parts each in a temporary directory, as the builder cuts it, then audits it
//! from its files. `PINFOLD_BENCH_ENTRIES` (1,000,000) sets the size; with `PINFOLD_BENCH_CONTENTS=proof` no payload is
//! written, so that 5,000,000 entries take 1.5 GB and not 6. One run is one measurement: the figures are
//! ratios to be read together, with the machine named beside them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench may fail loudly and prints what it measured"
)]

use std::fs::File as FsFile;
use std::hint::black_box;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use pinfold::archive;
use pinfold::core::audit::{Archive, AuditInput, File};
use pinfold::core::checkpoint::sign_checkpoint;
use pinfold::core::hash::Hash;
use pinfold::core::leaf::{Body, Leaf, Opened, PartRef, Topic, TopicSource, TopicWhy};
use pinfold::core::merkle::Tree;
use pinfold::core::note::Skey;
use pinfold::core::origin::Origin;
use pinfold::core::position::Position;
use pinfold::core::rules::LogRules;
use pinfold::core::segment::build::{Builder, Spools, Start};
use pinfold::core::segment::{ENTRIES_MAX, skip_of};
use pinfold::core::seq::Seq;

/// Bytes of the two frames of an event: those of an operator part and of a compressed event of 500 bytes.
const FRAME_BYTES: [usize; 2] = [285, 541];
const PARTITIONS: u64 = 4;
/// What an audit of any size may take.
const PEAK_KIB_MAX: u64 = 256 << 10;

struct Directory {
    dir: PathBuf,
    with_payload: bool,
}

impl Archive for Directory {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        let kind = match file {
            File::Proof => "proof",
            File::Payload if self.with_payload => "payload",
            _ => return Ok(None),
        };
        match FsFile::open(path(&self.dir, segment, kind)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn path(dir: &Path, segment: u64, kind: &str) -> PathBuf {
    dir.join(format!("{segment:06}.{kind}.car"))
}

/// The writer's side: leaves and frames that never end.
struct Log {
    origin: Origin,
    key: Skey,
    recovery: Skey,
    last: Hash,
    offsets: [u64; PARTITIONS as usize],
}

impl Log {
    fn new() -> Log {
        let origin = Origin::new("example.com/bench").expect("a sound origin");
        let key = Skey::from_seed(origin.as_str(), &[1; 32]).expect("a sound name");
        let recovery = Skey::from_seed(&format!("{origin}/recovery"), &[2; 32]).expect("a sound name");
        Log { origin, key, recovery, last: Hash::ZERO, offsets: [0; PARTITIONS as usize] }
    }

    fn entry(&mut self, seq: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let partition = seq % PARTITIONS;
        let (body, src, frames) = match seq {
            0 => (self.opened(), None, Vec::new()),
            1 => {
                let classes = ["operator", "quarantine", "consent_proof"].map(str::to_owned).to_vec();
                (Body::EpochOpened { epoch: 0, classes }, None, Vec::new())
            }
            2 => (topic(), None, Vec::new()),
            _ => {
                let next = &mut self.offsets[usize::try_from(partition).expect("a small number")];
                let src = Position { topic_no: 0, partition, offset: *next };
                *next += 1;
                (Body::Event, Some(src), FRAME_BYTES.iter().map(|len| frame(seq, *len)).collect())
            }
        };
        let part = |frame: &Vec<u8>| PartRef { commitment: Hash::of(&frame[..32]), digest: Hash::of(frame) };
        let parts = frames.iter().map(part).collect();
        let leaf = Leaf { seq: Seq(seq), src, prev: self.last, body, parts }.encode().expect("a sound leaf");
        self.last = Hash::leaf(&leaf);
        (leaf, frames)
    }

    fn opened(&self) -> Body {
        Body::LogOpened(Box::new(Opened {
            vkey: self.key.vkey().to_string(),
            origin: self.origin.clone(),
            recovery: self.recovery.vkey().to_string(),
            continues: None,
        }))
    }
}

fn topic() -> Body {
    Body::TopicDeclared(Box::new(Topic {
        why: TopicWhy::New,
        name: "consent".to_owned(),
        shared: false,
        source: TopicSource::Kafka,
        cluster: "c".to_owned(),
        replaces: None,
        topic_id: "t".to_owned(),
        topic_no: 0,
        partitions: PARTITIONS,
    }))
}

/// Bytes that no two frames share.
fn frame(seq: u64, len: usize) -> Vec<u8> {
    let mut state = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ len as u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn write_archive(dir: &Path, entries: u64, with_payload: bool) -> io::Result<(Log, u64)> {
    let (mut log, mut tree, mut rules, mut seals) = (Log::new(), Tree::new(), LogRules::new(), Vec::new());
    for segment in 0..entries.div_ceil(ENTRIES_MAX) {
        let link = |n: u64| seals.get(usize::try_from(n).expect("few segments")).copied();
        let start = Start {
            origin: log.origin.clone(),
            segment,
            prev_seal: segment.checked_sub(1).and_then(link),
            skip: Some(segment).filter(|n| *n > 0).map(skip_of).and_then(link),
            tree,
            rules,
        };
        let spool = || tempfile::tempfile_in(dir).map(BufWriter::new);
        let spools = Spools { pages: spool()?, frame_pages: spool()?, raw: spool()? };
        let mut builder = Builder::new(start, spools);
        for seq in segment * ENTRIES_MAX..entries.min((segment + 1) * ENTRIES_MAX) {
            let (leaf, frames) = log.entry(seq);
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            builder.add(&leaf, &frames).map_err(io::Error::other)?;
        }
        let unsigned = builder.finish().map_err(io::Error::other)?;
        let checkpoint = sign_checkpoint(unsigned.head(), &log.key);
        let mut built = unsigned.seal(checkpoint).map_err(io::Error::other)?;
        for spool in [&mut built.spools.pages, &mut built.spools.frame_pages, &mut built.spools.raw] {
            spool.flush()?;
            spool.get_mut().rewind()?;
        }
        let create = |kind| FsFile::create(path(dir, segment, kind)).map(BufWriter::new);
        let Spools { pages, frame_pages, raw } = &built.spools;
        built.write_proof(pages.get_ref(), &mut create("proof")?)?;
        if with_payload {
            built.write_payload(frame_pages.get_ref(), raw.get_ref(), &mut create("payload")?)?;
        }
        seals.push(built.cid);
        (tree, rules) = (built.tree, built.rules);
    }
    Ok((log, seals.len() as u64))
}

/// What hashing alone costs: each byte is hashed as part of its block, and again as part of its leaf or frame.
fn hash_all(archive: &Directory, segments: u64) -> io::Result<(u64, f64)> {
    let begun = Instant::now();
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 18]);
    for segment in 0..segments {
        for file in [File::Proof, File::Payload] {
            let Some(mut source) = archive.open(segment, file)? else { continue };
            loop {
                let len = source.read(&mut buffer)?;
                if len == 0 {
                    break;
                }
                black_box(Hash::of(&buffer[..len]));
                bytes += len as u64;
            }
        }
    }
    Ok((bytes, begun.elapsed().as_secs_f64()))
}

/// The CPU time of all threads so far: what is left of a figure when the machine is busy. Linux counts in 1/100 s.
fn cpu_seconds() -> io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Ok(fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

fn main() -> io::Result<()> {
    let entries = std::env::var("PINFOLD_BENCH_ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let has_payload = std::env::var("PINFOLD_BENCH_CONTENTS").map_or(true, |contents| contents != "proof");
    let dir = tempfile::tempdir()?;
    let begun = Instant::now();
    let (log, segments) = write_archive(dir.path(), entries, has_payload)?;
    println!("archive: {entries} entries in {segments} segments, made in {:.1} s", begun.elapsed().as_secs_f64());
    let input = AuditInput {
        vkeys: vec![log.key.vkey().clone()],
        recovery: Some(log.recovery.vkey().clone()),
        ..AuditInput::default()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let contents = [("proof only", false), ("with payload", true)];
    for (what, with_payload) in contents.into_iter().filter(|(_, with_payload)| has_payload || !with_payload) {
        let archive = Directory { dir: dir.path().to_owned(), with_payload };
        for threads in [1, cores] {
            let (begun, cpu_begun) = (Instant::now(), cpu_seconds()?);
            let report = archive::audit(&archive, segments, &input, threads, |_| ()).expect("no notes in hand");
            let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - cpu_begun);
            assert_eq!((report.exit, report.size.0), (10, entries), "{:?}", report.findings);
            println!(
                "{what}, {threads} threads: {:.0} entries/s ({seconds:.2} s), {:.0} entries a CPU second",
                entries as f64 / seconds,
                entries as f64 / cpu
            );
        }
        let (bytes, seconds) = hash_all(&archive, segments)?;
        println!(
            "    of that, one SHA-256 pass over its {bytes} bytes on one thread: {seconds:.2} s, and two are needed"
        );
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("unknown");
    println!("peak memory: {peak}");
    let kib = peak.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    assert!(kib.is_none_or(|kib| kib <= PEAK_KIB_MAX), "memory grows with the archive: {peak}");
    Ok(())
}
