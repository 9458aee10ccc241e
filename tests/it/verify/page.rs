//! `docs/verify.md` explains every code, with the exit it gives and no other.

use pinfold::core::finding::Code;

const PAGE: &str = include_str!("../../../docs/verify.md");

/// Code and exit of each row of the table.
fn rows() -> Vec<(&'static str, &'static str)> {
    let table = PAGE.split_once("| code | exit |").unwrap().1.split_once("\n\n").unwrap().0;
    let cells = |row: &'static str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(cells.len() == 6 && cells[3..5].iter().all(|cell| !cell.is_empty()), "{row}");
        (cells[1].trim_matches('`'), cells[2])
    };
    table.lines().skip(2).map(cells).collect()
}

#[test]
fn the_page_explains_every_code_and_its_exit() {
    let exit = |code: Code| code.exit().map_or("-".to_owned(), |exit| exit.to_string());
    let expected: Vec<(&str, String)> = Code::ALL.iter().map(|code| (code.as_str(), exit(*code))).collect();
    let found: Vec<(&str, String)> = rows().into_iter().map(|(code, exit)| (code, exit.to_owned())).collect();
    assert_eq!(found, expected);
}
