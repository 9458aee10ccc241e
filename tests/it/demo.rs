//! `pinfold demo` with the real binary: the story goes as it must, and the change to the copy is found in its place.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    // A variable of whoever runs the tests must not change the story either.
    Command::new(env!("CARGO_BIN_EXE_pinfold"))
        .arg("demo")
        .args(args)
        .env("PINFOLD__SEAL__ENTRIES_MAX", "1")
        .output()
        .unwrap()
}

#[test]
fn the_story_goes_as_it_must_and_names_the_place_of_the_change() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let done = demo(&["--dir", log, "--events", "300", "--json"]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&done.stderr));
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["verify"]["exit"], &told["verify"]["segments"]), (&10.into(), &2.into()));
    assert_eq!((&told["provenance"]["record_offset"], &told["provenance"]["verified_copies"]), (&75.into(), &1.into()));

    // The finding names the file, the segment and the entry that the changed block begins with.
    let tampered = &told["tampered"];
    let finding = &tampered["finding"];
    assert_eq!((&finding["code"], &finding["segment"]), (&"block-hash".into(), &1.into()), "{finding}");
    assert_eq!(finding["place"], "payload file");
    assert!(finding["seq"].as_u64().unwrap() > 150, "an entry of the second segment: {finding}");
    let byte = usize::try_from(tampered["byte"].as_u64().unwrap()).unwrap();
    let archive = |dir: &str| std::fs::read(format!("{log}/{dir}/000001.payload.car")).unwrap();
    let (sound, changed) = (archive("data/archive"), archive("tampered"));
    let differing: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != changed[*at]).collect();
    assert_eq!((sound.len(), differing), (changed.len(), vec![byte]), "one byte, and no other");
}

/// What may differ between two runs: directories, keys, hashes, CIDs, times, lengths of ciphertext, and how many entries
/// are the log's own (a step of the machine's clock is one).
fn without_chance(text: &str, dir: &str) -> String {
    let mut text = text.replace(dir, "DIR");
    for (pattern, word) in [
        (r"bafy[a-z2-7]{55}", "CID"),
        (r"[0-9a-f]{64}", "HASH"),
        (r"\d\d\d\d-\d\d-\d\dT[0-9:.]+Z", "TIME"),
        (r"\d+\.\d s", "SECONDS"),
        (r"\b(seq|entry|byte|size)(\s+)\d+", "$1$2 N"),
        (r"\(\d+ entries", "(N entries"),
    ] {
        text = regex::Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
    }
    text
}

/// Whether the lines of `shown` stand in `text` in this order, `[...]` for any that are left out.
fn is_shown(shown: &str, text: &str) -> Result<(), String> {
    let mut rest = text.lines();
    let mut may_skip = true;
    for line in shown.lines() {
        if line == "[...]" {
            may_skip = true;
            continue;
        }
        let is_found = if may_skip { rest.any(|found| found == line) } else { rest.next() == Some(line) };
        if !is_found {
            return Err(format!("{line:?} does not follow; what does is {:?}", rest.take(3).collect::<Vec<_>>()));
        }
        may_skip = false;
    }
    Ok(())
}

#[test]
fn it_shows_what_a_person_would_type_and_what_the_readme_says() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let done = demo(&["--dir", log]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&done.stderr));
    for essential in
        [&format!("$ pinfold init {log} --origin example.com/audit/demo"), "\"kind\": \"event\"", "pinfold doctor"]
    {
        assert!(text.contains(essential), "{essential:?} is not in:\n{text}");
    }
    let page = include_str!("../../README.md");
    let shown = page.split("```demo\n").nth(1).unwrap().split("```").next().unwrap();
    let (shown, text) = (without_chance(shown, log), without_chance(&text, log));
    assert_eq!(is_shown(&shown, &text), Ok(()), "{text}");
    assert!(is_shown(&shown.replacen("3 quarantined", "2 quarantined", 1), &text).is_err(), "the comparison sees it");

    let again = demo(&["--dir", log]);
    let text = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2), "{text}");
    assert!(text.contains("exists already") && text.contains("hint: the demo overwrites nothing"), "{text}");
}
