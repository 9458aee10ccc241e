//! `timestamp`: tokens of several authorities over the newest released checkpoint, in files of their own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::line::Log;
use crate::pki::{Cert, Pki};
use crate::tsa::{Authority, Fault};

/// A log with two authorities, each below its own root, and a directory for what is to be kept.
struct Case {
    log: Log,
    pki: Arc<Pki>,
    first: Authority,
    second: Authority,
    kept: PathBuf,
}

impl Case {
    fn new() -> Case {
        let pki = Arc::new(Pki::new());
        let log = Log::new();
        let authority = |name: &str, root: &str| {
            pki.cert(&Cert::ca(root, ""));
            pki.cert(&Cert::signer(name, root));
            let authority = Authority::start(&pki, name, &[]);
            let roots = pki.path(&format!("{root}.pem"));
            let table = format!("\n[timestamp.{name}]\nurl = \"{}\"\nroots = \"{}\"\n", authority.url, roots.display());
            let config = log.path("pinfold.toml");
            std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &table).unwrap();
            authority
        };
        let (first, second) = (authority("first", "root"), authority("second", "other"));
        let kept = log.dir.path().join("kept");
        Case { log, pki, first, second, kept }
    }

    fn timestamp(&self, more: &[&str]) -> (i32, Value) {
        self.log.answer(&[&["timestamp", "-o", self.kept.to_str().unwrap()], more].concat())
    }

    fn verify(&self, token: &str, root: &str) -> (i32, Value) {
        let [token, roots] = [self.kept.join(token), self.pki.path(root)];
        let (archive, vkey) = (self.log.path("data/archive"), self.log.path("keys/log.vkey"));
        let [token, roots, archive, vkey] = [&token, &roots, &archive, &vkey].map(|path| path.to_str().unwrap());
        self.log.answer(&["verify", archive, "--vkey", vkey, "--tsa-roots", roots, "--known-token", token])
    }
}

fn names(answer: &Value, list: &str) -> Vec<String> {
    answer[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_authority_stamps_the_newest_released_checkpoint_once() {
    let case = Case::new();
    let (exit, answer) = case.timestamp(&[]);
    assert_eq!((exit, &answer["error"]["code"]), (1, &"not-released".into()), "nothing is sealed yet: {answer}");

    case.log.ok(&["ingest", &case.log.events("events.ndjson", 30)]);
    case.log.ok(&["run", "--until-idle"]);
    // The sidecar asked for tokens of its own.
    let asked = (case.first.asked(), case.second.asked());
    case.second.plan(&[Fault::Status("503 Service Unavailable")]);
    let (exit, answer) = case.timestamp(&[]);
    assert_eq!(
        (exit, names(&answer, "tokens"), names(&answer, "failed")),
        (3, vec!["first".into()], vec!["second".into()])
    );
    assert!(answer["failed"][0]["message"].as_str().unwrap().contains("503"), "{answer}");

    // Only what is missing is asked for.
    let (exit, answer) = case.timestamp(&[]);
    assert_eq!((exit, names(&answer, "tokens")), (0, vec!["first".into(), "second".into()]), "{answer}");
    let is_new = |at: usize| answer["tokens"][at]["new"].as_bool().unwrap();
    assert_eq!(
        (is_new(0), is_new(1), case.first.asked(), case.second.asked()),
        (false, true, asked.0 + 1, asked.1 + 2)
    );
    assert_eq!(answer["tokens"][1]["authority"], "CN=second");

    // What was kept is what openssl verifies, and it confirms the archive.
    for (name, root) in [("first", "root.pem"), ("second", "other.pem")] {
        let openssl = Command::new("openssl")
            .args(["ts", "-verify", "-token_in", "-in"])
            .arg(case.kept.join(format!("000000.{name}.tst")))
            .arg("-data")
            .arg(case.kept.join("000000.checkpoint"))
            .arg("-CAfile")
            .arg(case.pki.path(root))
            .output()
            .unwrap();
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
        let (exit, report) = case.verify(&format!("000000.{name}.tst"), root);
        assert_eq!((exit, &report["fresh"]["source"]), (0, &"known-token".into()), "{report}");
    }
    let (exit, answer) = case.verify("000000.first.tst", "other.pem");
    assert_eq!((exit, &answer["error"]["code"]), (2, &"usage".into()), "{answer}");
}

#[test]
fn what_is_there_and_is_not_right_is_not_overwritten() {
    let case = Case::new();
    case.log.ok(&["ingest", &case.log.events("events.ndjson", 30)]);
    case.log.ok(&["run", "--until-idle"]);
    let asked = case.second.asked();
    assert_eq!(case.timestamp(&["--name", "first"]).0, 0);
    assert_eq!(case.second.asked(), asked, "it was not named");
    assert_eq!(case.timestamp(&["--name", "third"]).0, 2);

    let token = case.kept.join("000000.first.tst");
    std::fs::copy(&token, case.kept.join("000000.second.tst")).unwrap();
    let (exit, answer) = case.timestamp(&[]);
    assert_eq!((exit, names(&answer, "failed")), (3, vec!["second".into()]), "a token of another authority: {answer}");
    assert_eq!(std::fs::read(&token).unwrap(), std::fs::read(case.kept.join("000000.second.tst")).unwrap());

    std::fs::write(case.kept.join("000000.checkpoint"), "of another log\n").unwrap();
    let (exit, answer) = case.timestamp(&[]);
    assert_eq!((exit, &answer["error"]["code"]), (1, &"other-log".into()), "{answer}");
}

#[test]
fn doctor_asks_each_authority_and_the_configuration_names_what_is_wrong() {
    let case = Case::new();
    // The pin target of the configuration; it would be made at the first start.
    std::fs::create_dir(case.log.path("vault")).unwrap();
    let (exit, answer) = case.log.answer(&["config", "check"]);
    let of =
        |name: &str| answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone();
    assert_eq!((exit, &of("timestamp first")["status"]), (0, &"ok".into()), "{answer}");
    assert!(of("timestamp second")["detail"].as_str().unwrap().contains("CN=second"), "{answer}");

    case.first.plan(&[Fault::Rejects]);
    case.second.plan(&[Fault::Status("503 Service Unavailable")]);
    let (exit, answer) = case.log.answer(&["config", "check"]);
    let of = |name: &str| {
        answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()["status"].clone()
    };
    assert_eq!(
        (exit, of("timestamp first"), of("timestamp second")),
        (2, "fail".into(), "unreachable".into()),
        "{answer}"
    );

    let config = case.log.path("pinfold.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen("other.pem", "absent.pem", 1)).unwrap();
    let (exit, answer) = case.log.answer(&["config", "check", "--offline"]);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(exit == 2 && message.starts_with("timestamp.second.roots: "), "{answer}");
}
