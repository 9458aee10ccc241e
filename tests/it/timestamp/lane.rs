//! Authorities of a running log: each released checkpoint gets a token of each, archived, pinned, registered, verified.

use std::sync::Arc;

use pinfold::core::car::Limits;
use pinfold::core::hash::Hash;
use pinfold::core::segment::Anchor;
use pinfold::core::segment::read::read_anchor;
use pinfold::core::timestamp::Token;
use serde_json::{Value, json};

use crate::binary::{Log, copy_tree};
use crate::line::codes;
use crate::pki::{Cert, Pki};
use crate::tsa::{Authority, Fault};
use crate::verify::check;

/// A log with two authorities, each below its own root.
struct Stamped {
    log: Log,
    pki: Arc<Pki>,
    authorities: Vec<Authority>,
}

impl Stamped {
    fn new() -> Stamped {
        let log = Log::new("example.com/stamped");
        log.pin_to_folder();
        let pki = Arc::new(Pki::new());
        let authorities = ["first", "second"].map(|name| {
            let root = format!("{name}-root");
            pki.cert(&Cert::ca(&root, ""));
            pki.cert(&Cert::signer(name, &root));
            let authority = Authority::start(&pki, name, &[]);
            let roots = pki.path(&format!("{root}.pem"));
            log.add(&format!("[timestamp.{name}]\nurl = \"{}\"\nroots = \"{}\"\n", authority.url, roots.display()));
            authority
        });
        Stamped { log, pki, authorities: authorities.into() }
    }

    /// Folds a file and runs until nothing is left to do.
    fn segment(&self, n: usize) {
        let events = |i: usize| json!({ "specversion": "1.0", "id": format!("{n}-{i}"), "source": "urn:test", "type": "com.example.x" });
        let file = self.log.dir.path().join(format!("events{n}.ndjson"));
        let lines: String = (0..20).map(|i| format!("{}\n", events(i))).collect();
        std::fs::write(&file, lines).unwrap();
        self.log.ok(&["ingest", file.to_str().unwrap()]);
        self.log.ok(&["run", "--until-idle"]);
    }

    fn anchor(&self, dir: &str, segment: u64) -> Option<Anchor> {
        let file = std::fs::File::open(self.log.path(dir).join(format!("{segment:06}.anchor.car"))).ok()?;
        Some(read_anchor(file, Limits::default()).unwrap().1)
    }

    /// Who says when, of each segment, as `verify` sees it with both roots.
    fn verified(&self, more: &[&str]) -> (i32, Value) {
        let roots = self.pki.bundle("roots.pem", &["first-root", "second-root"]);
        let roots = self.pki.path(&roots);
        self.log.answer(&[&["verify", "--tsa-roots", roots.to_str().unwrap()], more].concat())
    }
}

fn authorities(report: &Value) -> Vec<(u64, String)> {
    let anchors = report["anchors"].as_array().unwrap().iter();
    let seen = anchors.map(|anchor| {
        assert!(anchor["kind"] == "tsa" && anchor["time"].is_string(), "{anchor}");
        (anchor["size"].as_u64().unwrap(), anchor["authority"].as_str().unwrap().to_owned())
    });
    let mut seen: Vec<_> = seen.collect();
    seen.sort();
    seen
}

#[test]
fn each_released_checkpoint_gets_a_token_of_each_authority() {
    let stamped = Stamped::new();
    stamped.segment(0);
    stamped.segment(1);
    for segment in 0..2 {
        let anchor = stamped.anchor("data/archive", segment).unwrap();
        assert_eq!(stamped.anchor("vault", segment).as_ref(), Some(&anchor), "the pin target has it too");
        assert_eq!(anchor.tsa.len(), 2);
        for token in &anchor.tsa {
            Token::open(token).unwrap().covers(Hash::of(anchor.checkpoint.as_bytes())).unwrap();
        }
    }
    let (exit, report) = stamped.verified(&[]);
    assert_eq!((exit, codes(&report)), (10, vec!["unsealed-tail"]), "time is all that tokens prove: {report}");
    let seen = authorities(&report);
    let sizes: Vec<u64> = seen.iter().map(|(size, _)| *size).collect();
    let (small, large) = (sizes[0], report["size"].as_u64().unwrap());
    assert_eq!(sizes, [small, small, large, large]);
    assert_eq!((seen[0].1.as_str(), seen[1].1.as_str()), ("CN=first", "CN=second"));
    assert_eq!(check(&report, "registry local")["status"], "ok", "{report}");

    // The rows say what the files say.
    let rows = stamped.log.lines(&["query", "anchors"]);
    let of = |row: &Value| (row["kind"].as_str().unwrap().to_owned(), row["authority"].as_str().unwrap().to_owned());
    let mut kinds: Vec<_> = rows.iter().map(of).collect();
    kinds.sort();
    let one = |name: &str| ("tsa".to_owned(), format!("CN={name}"));
    assert_eq!(kinds, [one("first"), one("first"), one("second"), one("second")]);
    assert!(rows.iter().all(|row| row["anchored_at"].as_str().unwrap().ends_with('Z')), "{rows:?}");
}

#[test]
fn an_authority_that_fails_holds_up_nobody_and_is_asked_again() {
    let stamped = Stamped::new();
    stamped.authorities[1].plan(&[Fault::OtherBytes]);
    stamped.segment(0);
    let anchor = stamped.anchor("data/archive", 0).unwrap();
    assert_eq!(anchor.tsa.len(), 1, "what does not hold is not kept");
    let status = stamped.log.status();
    assert_eq!((&status["anchored"]["first"], &status["anchored"]["second"]), (&1.into(), &0.into()), "{status}");
    assert_eq!(status["registered"]["local"], 1);

    stamped.log.ok(&["run", "--until-idle"]);
    let newer = stamped.anchor("data/archive", 0).unwrap();
    assert_eq!((newer.tsa.len(), &newer.tsa[0]), (2, &anchor.tsa[0]), "the older token stays in its place");
    assert_eq!(stamped.anchor("vault", 0), Some(newer));
    let (exit, report) = stamped.verified(&["--registry"]);
    assert_eq!((exit, authorities(&report).len()), (10, 2), "{report}");
}

/// The anchor's CID is in the log (kind 20) and in its file: no byte of a token changes unseen, roots or none.
#[test]
fn a_changed_byte_of_an_archived_token_is_found() {
    let stamped = Stamped::new();
    stamped.segment(0);
    let copy = stamped.log.dir.path().join("copy");
    copy_tree(&stamped.log.path("data/archive"), &copy);
    let file = copy.join("000000.anchor.car");
    let sound = std::fs::read(&file).unwrap();
    assert_eq!(stamped.log.verify(&copy).0, 10);
    for at in (0..sound.len()).step_by(97) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(stamped.log.verify(&copy).0, 40, "byte {at}");
    }
    // Put together again with a token changed: its own signature tells.
    let mut anchor = stamped.anchor("data/archive", 0).unwrap();
    *anchor.tsa[1].last_mut().unwrap() ^= 1;
    std::fs::write(&file, anchor.to_car()).unwrap();
    let (exit, report) = stamped.log.verify(&copy);
    assert_eq!((exit, codes(&report)), (40, vec!["bad-timestamp"]), "{report}");
}
