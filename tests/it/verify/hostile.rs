//! Archives made to hurt whoever reads them: each ends soon, in little memory, with a finding and no crash.

use std::io::{self, Read};

use pinfold::core::audit::{self, Archive, AuditInput, File, Report};
use pinfold::core::car::{self, Limits};
use pinfold::core::cid::{Cid, Codec};
use pinfold::core::finding::Code;

use super::{errors, log_of_three};
use crate::line::codes;

/// An archive of one segment whose proof file is whatever `make` reads from.
struct One<F>(F);

impl<F: Fn() -> Box<dyn Read> + Sync> Archive for One<F> {
    fn open(&self, _: u64, file: File) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok((file == File::Proof).then(&self.0))
    }
}

fn audited(make: impl Fn() -> Box<dyn Read> + Sync) -> Report {
    let limits = Limits { bytes_max: 4 << 20, blocks_max: 1000 };
    audit::audit(&One(make), 1, &AuditInput { limits, ..AuditInput::default() }).unwrap()
}

fn block(block: &[u8]) -> Vec<u8> {
    let cid = Cid::of(Codec::DagCbor, block);
    [car::block_head(cid, block.len()), block.to_vec()].concat()
}

/// A file whose first block is `root`, and then `more`.
fn file(root: &[u8], more: &[u8]) -> Vec<u8> {
    [car::header(Cid::of(Codec::DagCbor, root)), block(root), more.to_vec()].concat()
}

/// A seal and its index, so that what comes next is a page.
fn up_to_a_page(page: &[u8]) -> Vec<u8> {
    let archive = crate::log_vector::archive();
    let sound = archive.file(0, File::Proof).unwrap();
    let mut seal = pinfold::core::segment::Seal::decode(crate::fixtures::blocks(sound)[0].1).unwrap();
    let index = pinfold::core::codec::encode(&[(0u64, pinfold::core::codec::Link(Cid::of(Codec::DagCbor, page)))]);
    seal.leaves = Cid::of(Codec::DagCbor, &index);
    file(&seal.encode(), &[block(&index), block(page)].concat())
}

#[test]
fn lengths_depths_and_counts_beyond_any_file_are_refused() {
    let deep = vec![0x81; (1 << 20) - 2];
    let many = [&[0x9b][..], &(1u64 << 40).to_be_bytes(), &[0; 64]].concat();
    let long = [&[0x5b][..], &(1u64 << 62).to_be_bytes(), &[0; 64]].concat();
    let huge = |len: &[u8]| [car::header(Cid::of(Codec::DagCbor, b"")), len.to_vec()].concat();
    let files: [(&str, Vec<u8>, Code); 12] = [
        ("a header of 4 GiB", vec![0xff, 0xff, 0xff, 0xff, 0x0f], Code::NonCanonical),
        ("a block of 268 MiB", huge(&[0xff, 0xff, 0xff, 0x7f]), Code::NonCanonical),
        ("a length of ten bytes", huge(&[0xff; 10]), Code::NonCanonical),
        ("a block shorter than its CID", huge(&[3, 1, 2, 3]), Code::NonCanonical),
        ("a root of a million arrays", file(&deep, &[]), Code::NonCanonical),
        ("a root of a trillion items", file(&many, &[]), Code::NonCanonical),
        ("a root of 2^62 bytes", file(&long, &[]), Code::NonCanonical),
        ("a page of a million arrays", up_to_a_page(&deep), Code::NonCanonical),
        ("a page of a trillion leaves", up_to_a_page(&many), Code::NonCanonical),
        ("a page with a leaf of 2^62 bytes", up_to_a_page(&[&[0x81][..], &long].concat()), Code::NonCanonical),
        ("a page of nothing", up_to_a_page(&[0x80]), Code::NonCanonical),
        ("nothing", Vec::new(), Code::BlockMissing),
    ];
    for (what, bytes, code) in files {
        let report = audited(move || Box::new(io::Cursor::new(bytes.clone())));
        assert_eq!(report.findings.first().map(|finding| finding.code), Some(code), "{what}: {:?}", report.findings);
    }
}

#[test]
fn a_file_without_an_end_is_read_up_to_the_limit() {
    let small = block(b"\x60");
    // A first block that is sound, and then the same one for ever: nobody asked for it.
    let sound = crate::log_vector::archive().file(0, File::Proof).unwrap().to_vec();
    let endless = |start: Vec<u8>, again: Vec<u8>| -> Report {
        let make = move || -> Box<dyn Read> {
            let start = io::Cursor::new(start.clone());
            Box::new(start.chain(Repeat { bytes: again.clone(), at: 0 }))
        };
        audited(make)
    };
    for (what, start, again, expected) in [
        ("zeros", Vec::new(), vec![0], Code::NonCanonical),
        ("ones", Vec::new(), vec![0xff], Code::NonCanonical),
        ("a sound file, then blocks", sound.clone(), small.clone(), Code::BlockExtra),
        ("a sound file, then zeros", sound, vec![0], Code::NonCanonical),
        ("a root, then blocks", file(&[0xa0], &[]), small, Code::NonCanonical),
    ] {
        let report = endless(start, again);
        let codes: Vec<Code> = report.findings.iter().map(|finding| finding.code).collect();
        assert!(codes.contains(&expected) && report.bytes <= 4 << 20, "{what}: {:?}", report.findings);
    }
    // A source that gives one byte at a time is slow, and the same.
    let sound = crate::log_vector::archive().file(0, File::Proof).unwrap().to_vec();
    let report = audited(move || Box::new(Drip(io::Cursor::new(sound.clone()))));
    assert!(!report.codes.contains(&Code::BlockHash) && report.size.0 > 0, "{:?}", report.findings);
}

#[test]
fn a_limit_of_the_reader_is_no_verdict_about_the_file() {
    let sound = crate::log_vector::archive();
    let expected = crate::log_vector::expected();
    let vkey = expected["vkey"].as_str().unwrap();
    for limits in [Limits { bytes_max: 1000, blocks_max: 1000 }, Limits { bytes_max: 4 << 20, blocks_max: 2 }] {
        let input = AuditInput { limits, ..crate::memory::input(&[vkey], None, &[]) };
        let report = sound.audit(&input);
        assert_eq!((report.exit, report.verdict()), (50, "cannot check"), "{:?}", report.findings);
        assert!(report.codes.iter().all(|code| *code == Code::LimitExceeded), "{:?}", report.codes);
    }
}

/// Bytes without an end.
struct Repeat {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = self.bytes[self.at % self.bytes.len()];
            self.at += 1;
        }
        Ok(buffer.len())
    }
}

/// A source that gives one byte at a time.
struct Drip<R>(R);

impl<R: Read> Read for Drip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn time_that_is_over_ends_the_audit_and_says_what_was_not_read() {
    let log = log_of_three();
    let (dir, vkey) = (log.path("data/archive"), log.path("keys/log.vkey"));
    let args = ["verify", dir.to_str().unwrap(), "--vkey", vkey.to_str().unwrap(), "--timeout", "0s"];
    let (exit, report) = log.answer(&args);
    assert_eq!((exit, codes(&report)), (50, vec!["limit-exceeded"; 3]), "{report}");
    let found = report["findings"][0]["found"].as_str().unwrap();
    assert!(found.contains("--timeout"), "{report}");
    let (exit, report) = log.answer(&[&args[..5], &["60s"]].concat());
    assert_eq!((exit, errors(&report).len()), (10, 0), "{report}");
}

#[test]
fn a_folder_full_of_names_is_counted_and_moves_no_cursor() {
    let log = log_of_three();
    let dir = log.path("vault");
    for n in 0..3000 {
        std::fs::write(dir.join(format!("{n}\u{1b}[31m\n.car")), b"").unwrap();
    }
    for n in 0..3000 {
        std::fs::write(dir.join(format!("{n}.note")), b"").unwrap();
    }
    let (dir, vkey) = (dir.to_str().unwrap(), log.path("keys/log.vkey"));
    let args = ["verify", dir, "--vkey", vkey.to_str().unwrap(), "--findings-max", "20"];
    let (exit, report) = log.answer(&args);
    let listed = report["findings"].as_array().unwrap().len();
    assert_eq!(
        (exit, listed, report["findings_total"].as_u64()),
        (40, 20, Some(1001)),
        "1,000 names and how many more"
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pinfold")).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}') && text.contains("[31m"), "{text}");
    assert!(text.contains("and 981 more findings (--findings-max)"), "{text}");
}
