//! The policy of the specification, and every way to write another one.

use proptest::prelude::*;

use super::*;
use crate::core::note::{Skey, to_base64};

/// The vkey of the log whose seed is all `n`.
fn log(n: u8) -> String {
    Skey::from_seed("example.com/log", &[n; 32]).unwrap().vkey().to_string()
}

/// The same key as a witness's.
fn witness(n: u8) -> String {
    named_witness(n, "witness.example/w")
}

fn named_witness(n: u8, name: &str) -> String {
    use base64::Engine as _;
    let log = Skey::from_seed(name, &[n; 32]).unwrap().vkey().to_string();
    let mut key = base64::engine::general_purpose::STANDARD.decode(log.splitn(3, '+').nth(2).unwrap()).unwrap();
    key[0] = 4;
    let id = crate::core::hash::Hash::of_all(&[name.as_bytes(), b"\n", &key]);
    format!("{name}+{}+{}", hex::encode(&id.0[..4]), to_base64(&key))
}

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text.as_bytes()).map_err(|refused| refused.what)
}

/// The example of the specification, its elided keys filled in.
fn example() -> String {
    let mut text = format!("log {}\n\n", log(100));
    for n in 1..=3 {
        text += &format!("witness X{n} {}\n", witness(n));
    }
    text += "group X-witnesses 2 X1 X2 X3\n\n";
    for n in 1..=3 {
        text += &format!("witness Y{n} {} https://y{n}.example/w/\n", witness(10 + n));
    }
    text + "group Y-witnesses any Y1 Y2 Y3\n\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
}

#[test]
fn the_example_of_the_specification() {
    let policy = parse(&example()).unwrap();
    assert_eq!((policy.logs.len(), policy.witnesses.len(), policy.asks_for_none()), (1, 6, false));
    assert_eq!(policy.witnesses[3].url.as_deref(), Some("https://y1.example/w/"));
    for (signed, is_met) in [
        (&[0, 1, 3][..], true),
        (&[1, 2, 5], true),
        (&[0, 1, 2, 3, 4, 5], true),
        (&[0, 1, 2], false),
        (&[0, 3, 4, 5], false),
        (&[], false),
    ] {
        assert_eq!(policy.is_met(|index| signed.contains(&index)), is_met, "{signed:?}");
    }
}

#[test]
fn white_space_and_comments_say_nothing() {
    let text = format!("\t # caf\u{e9}\n\n  witness\tW  {}  \n# quorum none\n\tquorum W\t\n", witness(1));
    let policy = parse(&text).unwrap();
    assert!(policy.is_met(|_| true) && !policy.is_met(|_| false));
    let none = parse("quorum none\n").unwrap();
    assert!(none.asks_for_none() && none.is_met(|_| false));
}

#[test]
fn names_are_bytes() {
    let (one, other) = (witness(1), witness(2));
    let text = format!("witness K {one}\nwitness \u{212a} {other}\nquorum \u{212a}\n");
    let policy = parse(&text).unwrap();
    assert!(policy.is_met(|index| index == 1) && !policy.is_met(|index| index == 0), "the Kelvin sign is not K");
    let opaque = [b"witness \xff ".as_slice(), one.as_bytes(), b"\nquorum \xff\n"].concat();
    assert!(Policy::parse(&opaque).unwrap().is_met(|_| true));
}

#[test]
fn what_is_no_policy_is_refused_with_its_line() {
    let (a, b) = (witness(1), witness(2));
    for (text, word) in [
        (format!("witness A {a}\n"), "no quorum"),
        (String::new(), "last line"),
        (format!("witness A {a}\nquorum A"), "last line"),
        (format!("witness A {a}\nquorum A\nquorum A\n"), "line 3: a second quorum"),
        ("quorum A\n".to_owned(), "line 1: `A` is defined"),
        (format!("quorum A\nwitness A {a}\n"), "line 1"),
        (format!("witness none {a}\nquorum none\n"), "taken"),
        (format!("witness A {a}\nwitness A {b}\nquorum A\n"), "line 2: the name `A` is taken"),
        (format!("witness A {a}\nwitness B {a}\nquorum A\n"), "key stands above"),
        (format!("witness A {a}\nwitness B {}\nquorum A\n", named_witness(1, "other.example")), "key stands above"),
        (format!("log {0}\nlog {0}\nquorum none\n", log(9)), "key stands above"),
        (format!("witness A {a}\ngroup G any A none\nquorum G\n"), "`none` is defined"),
        (format!("witness A {a}\ngroup G any A A\nquorum G\n"), "in a group already"),
        (format!("witness A {a}\ngroup G any A\ngroup H any A\nquorum H\n"), "in a group already"),
        (format!("witness A {a}\ngroup G any G A\nquorum G\n"), "`G` is defined"),
        (format!("witness A {a}\ngroup G 0 A\nquorum G\n"), "threshold"),
        (format!("witness A {a}\ngroup G 2 A\nquorum G\n"), "needs 2 of 1"),
        (format!("witness A {a}\ngroup G 01 A\nquorum G\n"), "threshold"),
        (format!("witness A {a}\ngroup G most A\nquorum G\n"), "threshold"),
        ("group G all\nquorum G\n".to_owned(), "needs 0 of 0"),
        ("group G any\nquorum G\n".to_owned(), "needs 1 of 0"),
        (format!("witness A {a} https://x extra\nquorum A\n"), "not `log"),
        (format!("Witness A {a}\nquorum A\n"), "not `log"),
        ("quorum none none\n".to_owned(), "not `log"),
        ("quorum none\r\n".to_owned(), "control"),
        (format!("witness A {}\nquorum A\n", log(1)), "another signature type"),
        (format!("log {a}\nquorum none\n"), "another signature type"),
        ("witness A x+y+z\nquorum A\n".to_owned(), "line 1"),
        (format!("# {}\nquorum none\n", "x".repeat(POLICY_BYTES_MAX)), "longer"),
    ] {
        let refused = parse(&text).unwrap_err();
        assert!(refused.contains(word), "{word}: {refused}");
    }
}

#[test]
fn a_policy_cut_anywhere_is_never_another_policy() {
    let text = example();
    let whole = parse(&text).unwrap();
    for at in 0..text.len() {
        assert!(parse(&text[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(whole, parse(&text).unwrap());
}

proptest! {
    #[test]
    fn no_bytes_break_it(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Policy::parse(&text);
    }

    /// More signatures never make a quorum fail.
    #[test]
    fn a_quorum_is_monotone(signed in any::<[bool; 6]>(), more in 0usize..6) {
        let policy = parse(&example()).unwrap();
        let before = policy.is_met(|index| signed[index]);
        prop_assert!(!before || policy.is_met(|index| signed[index] || index == more));
    }
}
