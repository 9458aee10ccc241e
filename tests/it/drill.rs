//! The tamper drill: every way to change a log that we could think of, and what the verifier finds.
//!
//! Each checker is first shown on the honest archive. The table it makes is the page `docs/tamper-drill.md`, which
//! cannot say anything else than what was found.

mod bytes;
mod claims;
mod forge;
mod semantic;
mod table;

use table::Table;

const PAGE: &str = include_str!("../../docs/tamper-drill.md");
const MARK: &str = "<!-- From here on the page is what tests/it/drill.rs found. -->\n";

#[test]
fn every_tamper_is_found_and_named_as_the_page_says() {
    let mut table = Table::default();
    bytes::rows(&mut table);
    semantic::rows(&mut table);
    claims::rows(&mut table);
    let text = table.end();
    let (words, shown) = PAGE.split_once(MARK).unwrap();
    if shown != text {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/tamper-drill.md");
        std::fs::write(path, format!("{words}{MARK}{text}")).unwrap();
        panic!("docs/tamper-drill.md says something else; compare it with {path}");
    }
    println!("{text}");
}
