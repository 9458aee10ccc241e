//! The tamper drill: every way to change a log that we could think of, and what the verifier finds.
//!
//! Each checker is first shown on the honest archive. The table it makes is the page `docs/tamper-drill.md`, which
//! cannot say anything else than what was found.

mod bytes;
mod claims;
mod forge;
mod node;
mod outside;
mod semantic;
mod stores;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;

use pinfold::core::audit::{self, Archive, AuditInput, File};
use pinfold::core::checkpoint::{Head, sign_live};
use pinfold::core::finding::Code;
use pinfold::core::hash::Hash;
use pinfold::core::seq::Size;

use crate::memory::Memory;
use table::Table;

const PAGE: &str = include_str!("../../docs/tamper-drill.md");
const MARK: &str = "<!-- From here on the page is what tests/it/drill.rs found. -->\n";

/// Codes without a row, and why.
const AWAITED: [(Code, &str); 1] = [(
    Code::BadTimestamp,
    "a token over another digest, a certificate outside its validity: tokens are listed and not checked yet",
)];

/// The codes that no row shows; all of them must be known to.
fn awaited(shown: &BTreeSet<Code>) -> String {
    let missing: Vec<Code> = Code::ALL.into_iter().filter(|code| !shown.contains(code)).collect();
    let known: Vec<Code> = AWAITED.iter().map(|(code, _)| *code).collect();
    assert_eq!(missing, known, "codes that no row shows, and those that are known to have none");
    let lines = AWAITED.iter().map(|(code, why)| format!("- `{code}`: {why}.\n"));
    format!("\n### No row yet\n\n{}", lines.collect::<String>())
}

/// Gives a file once, and then says that it is gone.
struct Once<'a>(&'a Memory, Mutex<BTreeSet<(u64, File)>>);

impl Archive for Once<'_> {
    fn open(&self, segment: u64, file: File) -> io::Result<Option<Box<dyn io::Read + '_>>> {
        match self.1.lock().unwrap().insert((segment, file)) {
            true => self.0.open(segment, file),
            false => Err(io::Error::other("gone")),
        }
    }
}

/// A head within a segment is compared by reading that segment again. If that fails it was not compared, which is said.
#[test]
fn a_head_that_could_not_be_compared_is_no_silence() {
    let written = forge::write(&forge::entries(3, 2), &forge::by(&forge::key(1)));
    let root = Hash::of(b"another tree");
    let head = Head { origin: forge::origin(), size: Size(4), root };
    let input = AuditInput {
        vkeys: vec![forge::key(1).vkey().clone()],
        known_head: Some(sign_live(&head, &forge::key(1))),
        ..AuditInput::default()
    };
    assert_eq!(written.archive.audit(&input).codes, BTreeSet::from([Code::Forked]));
    let once = Once(&written.archive, Mutex::default());
    let report = audit::audit(&once, 3, &input).unwrap();
    assert_eq!((report.exit, report.codes), (50, BTreeSet::from([Code::Unreachable])));
}

#[test]
fn every_tamper_is_found_and_named_as_the_page_says() {
    let mut table = Table::default();
    bytes::rows(&mut table);
    semantic::rows(&mut table);
    claims::rows(&mut table);
    outside::rows(&mut table);
    stores::rows(&mut table);
    node::rows(&mut table);
    let (mut text, shown) = table.end();
    text += &awaited(&shown);
    let (words, page) = PAGE.split_once(MARK).unwrap();
    if page != text {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/tamper-drill.md");
        std::fs::write(path, format!("{words}{MARK}{text}")).unwrap();
        panic!("docs/tamper-drill.md says something else; compare it with {path}");
    }
    println!("{text}");
}
