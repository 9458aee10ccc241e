//! `verify` of archives whose anchors hold tokens, and with tokens kept elsewhere.

use std::path::{Path, PathBuf};

use der::Encode;
use pinfold::core::cid::Cid;
use pinfold::core::segment::Anchor;
use serde_json::Value;

use crate::binary::copy_tree;
use crate::line::{Log, codes};
use crate::pki::{Cert, Pki, info, info_der};
use crate::verify::{check, log_of_three};

/// A log, its archive beside it, and an authority that signs anything.
struct Case {
    log: Log,
    pki: Pki,
    archive: PathBuf,
}

/// Two roots, and signers below the first.
impl Case {
    fn new() -> Case {
        let pki = Pki::new();
        pki.cert(&Cert::ca("root", ""));
        pki.cert(&Cert::ca("other", ""));
        pki.cert(&Cert::signer("signer", "root"));
        pki.cert(&Cert { to: "20250101000000Z", ..Cert::signer("over", "root") });
        let log = log_of_three();
        let archive = log.dir.path().join("copy");
        copy_tree(&log.path("data/archive"), &archive);
        Case { log, pki, archive }
    }

    /// The seal and checkpoint of a segment.
    fn sealed(&self, segment: u64) -> (Cid, String) {
        let output = self.log.run(&["query", "segments", "--param", &format!("segment_no={segment}")]);
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        (row["seal_cid"].as_str().unwrap().parse().unwrap(), row["checkpoint"].as_str().unwrap().to_owned())
    }

    fn token(&self, segment: u64, signer: &str) -> Vec<u8> {
        let (_, checkpoint) = self.sealed(segment);
        self.pki.sign(&info_der(checkpoint.as_bytes()), signer, signer, &["-cades"])
    }

    /// Puts an anchor with these tokens beside a segment.
    fn anchor(&self, segment: u64, tsa: Vec<Vec<u8>>) {
        let (seal, checkpoint) = self.sealed(segment);
        let file = self.archive.join(format!("{segment:06}.anchor.car"));
        std::fs::write(file, Anchor { tsa, seal, checkpoint }.to_car()).unwrap();
    }

    fn verify(&self, more: &[&str]) -> (i32, Value) {
        let (dir, vkey) = (self.archive.to_str().unwrap(), self.log.path("keys/log.vkey"));
        let args = [&["verify", dir, "--vkey", vkey.to_str().unwrap()], more].concat();
        self.log.answer(&args)
    }

    fn root(&self, name: &str) -> String {
        self.pki.path(&format!("{name}.pem")).to_str().unwrap().to_owned()
    }

    /// A token in a file of its own.
    fn kept(&self, token: &[u8]) -> String {
        let file: &Path = &self.log.dir.path().join("kept.tst");
        std::fs::write(file, token).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_token_of_an_anchor_has_a_time_for_whoever_brings_its_root() {
    let case = Case::new();
    case.anchor(1, vec![case.token(1, "signer")]);
    let (exit, report) = case.verify(&["--tsa-roots", &case.root("root")]);
    let expected = serde_json::json!([
        { "kind": "tsa", "authority": "CN=signer", "size": report["anchors"][0]["size"], "time": "2025-06-01T12:00:00.000000Z" }
    ]);
    assert_eq!((exit, &report["anchors"], codes(&report)), (10, &expected, vec![]), "{report}");
    assert_eq!(check(&report, "anchors")["status"], "ok");

    // Nobody he trusts: the same token says nothing, and nothing against the archive.
    for roots in [vec![], vec!["--tsa-roots".to_owned(), case.root("other")]] {
        let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
        let (exit, report) = case.verify(&roots);
        let anchor = &report["anchors"][0];
        assert_eq!(
            (exit, &anchor["authority"], &anchor["time"]),
            (10, &"unchecked chain".into(), &Value::Null),
            "{report}"
        );
    }
}

#[test]
fn a_token_that_does_not_hold_is_found() {
    let case = Case::new();
    let sound = case.token(1, "signer");
    let mut changed = sound.clone();
    *changed.last_mut().unwrap() ^= 1;
    let (_, checkpoint) = case.sealed(1);
    let mut sha1 = info(checkpoint.as_bytes(), None);
    sha1.message_imprint.hash_algorithm.oid = "1.3.14.3.2.26".parse().unwrap();
    let sha1 = case.pki.sign(&sha1.to_der().unwrap(), "signer", "signer", &["-cades"]);
    let root = case.root("root");
    for (what, token, words, without_roots) in [
        ("of another segment's checkpoint", case.token(0, "signer"), "imprint: expected", 40),
        ("changed", changed, "signature: does not verify", 40),
        ("over another kind of digest", sha1, "not supported", 40),
        ("not one", b"not a token".to_vec(), "not the DER", 40),
        ("by a certificate that had expired", case.token(1, "over"), "had expired", 10),
    ] {
        case.anchor(1, vec![sound.clone(), token]);
        let (exit, report) = case.verify(&["--tsa-roots", &root]);
        assert_eq!((exit, codes(&report)), (40, vec!["bad-timestamp"]), "{what}: {report}");
        let finding = &report["findings"][0];
        assert_eq!((&finding["segment"], &finding["place"]), (&1.into(), &"anchor".into()), "{what}");
        assert!(finding["found"].as_str().unwrap().contains(words), "{what}: {finding}");
        assert_eq!(check(&report, "anchors")["status"], "failed", "{what}");
        // The sound one beside it is still worth what it is.
        assert_eq!(report["anchors"].as_array().unwrap().len(), 1, "{what}");
        assert_eq!(case.verify(&[]).0, without_roots, "{what}");
    }
}

#[test]
fn a_token_kept_elsewhere_confirms_the_newest_checkpoint_or_shows_a_rollback() {
    let case = Case::new();
    let root = case.root("root");
    let kept = case.kept(&case.token(2, "signer"));
    let brought = ["--tsa-roots", &root, "--known-token", &kept];
    let (exit, report) = case.verify(&brought);
    assert_eq!((exit, &report["fresh"]["source"]), (0, &"known-token".into()), "{report}");
    assert_eq!(
        (&report["fresh"]["size"], &report["anchors"][0]["time"]),
        (&report["size"], &"2025-06-01T12:00:00.000000Z".into())
    );

    // An archive without its end is whole in itself; who kept the token can tell.
    for file in ["000002.proof.car", "000002.payload.car"] {
        std::fs::remove_file(case.archive.join(file)).unwrap();
    }
    assert_eq!(case.verify(&["--tsa-roots", &root]).0, 10);
    let (exit, report) = case.verify(&brought);
    assert_eq!((exit, codes(&report)), (30, vec!["rolled-back"]), "{report}");
    assert_eq!(report["findings"][0]["place"], "known token");

    // What it is over may be in a segment that is missing, which is said already.
    std::fs::remove_file(case.archive.join("000000.proof.car")).unwrap();
    assert_eq!(codes(&case.verify(&brought).1), vec!["segment-missing"]);
}

#[test]
fn an_older_token_confirms_nothing_and_one_that_does_not_hold_is_a_wrong_call() {
    let case = Case::new();
    let root = case.root("root");
    let kept = case.kept(&case.token(1, "signer"));
    let (exit, report) = case.verify(&["--tsa-roots", &root, "--known-token", &kept]);
    assert_eq!((exit, &report["fresh"]), (10, &Value::Null), "{report}");

    let (exit, _) = case.verify(&["--tsa-roots", &case.root("other"), "--known-token", &kept]);
    assert_eq!(exit, 2, "its authority is nobody he trusts");
    let (exit, _) = case.verify(&["--tsa-roots", &root, "--known-token", &case.kept(&case.token(2, "over"))]);
    assert_eq!(exit, 2, "its certificate had expired");
    assert_eq!(case.verify(&["--known-token", &kept]).0, 2, "without roots it shows nothing");
    assert_eq!(case.verify(&["--tsa-roots", &kept]).0, 2, "not a file of roots");
}
