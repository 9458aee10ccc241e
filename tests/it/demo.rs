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

#[test]
fn it_shows_what_a_person_would_type_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let done = demo(&["--dir", log, "--events", "40"]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&done.stderr));
    for essential in [
        &format!("$ pinfold init {log} --origin example.com/audit/demo"),
        "$ pinfold ingest events-1.ndjson\n    21 accepted, 0 known already, 3 quarantined",
        "    0 accepted, 24 known already",
        "$ pinfold verify\n    example.com/audit/demo: valid",
        "$ pinfold query provenance --param",
        "\"kind\": \"event\"",
        "$ pinfold verify tampered --vkey keys/log.vkey\n    example.com/audit/demo: tampered",
        "block-hash segment 1 seq",
        "(exit 40)",
        "pinfold doctor",
    ] {
        assert!(text.contains(essential), "{essential:?} is not in:\n{text}");
    }
    let again = demo(&["--dir", log]);
    let text = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2), "{text}");
    assert!(text.contains("exists already") && text.contains("hint: the demo overwrites nothing"), "{text}");
}
