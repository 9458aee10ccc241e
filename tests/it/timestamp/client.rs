//! The client against an authority that is `openssl ts`, and against all it can do wrong.

use std::sync::Arc;
use std::time::Duration;

use pinfold::anchor::AnchorError;
use pinfold::anchor::tsa::{Stamped, Tsa};
use pinfold::core::hash::Hash;
use pinfold::core::seq::Size;
use pinfold::core::timestamp::{Roots, Token};

use crate::pki::{Cert, Pki};
use crate::tsa::{Authority, Fault};

const NOTE: &str = "example.com/test/time\n1\nAAAA\n\n— example.com/test/time AAAA\n";

/// Who asks, who answers, and a way to wait.
struct Case {
    authority: Authority,
    pki: Arc<Pki>,
    runtime: tokio::runtime::Runtime,
}

impl Case {
    fn new() -> Case {
        let pki = Arc::new(Pki::new());
        pki.cert(&Cert::ca("root", ""));
        pki.cert(&Cert::ca("between", "root"));
        pki.cert(&Cert::signer("signer", "between"));
        let authority = Authority::start(&pki, "signer", &["between"]);
        Case { authority, pki, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn client(&self, root: &str, timeout: Duration) -> Tsa {
        let roots = Roots::read(&self.pki.read(&format!("{root}.pem"))).unwrap();
        Tsa::new("first", &self.authority.url, roots, timeout).unwrap()
    }

    fn ask(&self, client: &Tsa) -> Result<Stamped, AnchorError> {
        self.runtime.block_on(client.stamp(NOTE, Size(1)))
    }
}

#[test]
fn a_token_is_taken_that_openssl_verifies_over_the_same_bytes() {
    let case = Case::new();
    let stamped = case.ask(&case.client("root", Duration::from_secs(60))).unwrap();
    assert_eq!(stamped.vouched.authority, "CN=signer");
    Token::open(&stamped.token).unwrap().covers(Hash::of(NOTE.as_bytes())).unwrap();
    case.pki.write("note", NOTE.as_bytes());
    case.pki.write("token.der", &stamped.token);
    case.pki.run(&["ts", "-verify", "-data", "note", "-in", "token.der", "-token_in", "-CAfile", "root.pem"]);
}

/// Each fault has its fate, its words and a hint; the next query is answered.
#[test]
fn whatever_an_authority_does_wrong_no_token_is_taken() {
    let case = Case::new();
    let client = case.client("root", Duration::from_secs(60));
    case.ask(&client).unwrap();
    for (fault, fate, words) in [
        (Fault::Status("500 Internal Server Error"), "retry", "500"),
        (Fault::Status("429 Too Many Requests"), "retry", "429"),
        (Fault::Status("403 Forbidden"), "refused", "403"),
        (Fault::Status("302 Found"), "refused", "302"),
        (Fault::Garbage, "untrue", "answer: not the DER"),
        (Fault::Endless, "retry", "an answer of more than"),
        (Fault::Rejects, "refused", "status 2, badAlg"),
        (Fault::OtherBytes, "untrue", "imprint: expected"),
        (Fault::OldAnswer, "untrue", "nonce: expected"),
    ] {
        case.authority.plan(&[fault]);
        let error = case.ask(&client).unwrap_err();
        let found = match &error {
            AnchorError::Retry { .. } => "retry",
            AnchorError::Refused { .. } => "refused",
            AnchorError::Untrue { .. } => "untrue",
            _ => "another",
        };
        assert_eq!(found, fate, "{fault:?}: {error}");
        assert!(error.to_string().starts_with("first: stamping size 1: "), "{error}");
        assert!(error.to_string().contains(words) && !error.hint().is_empty(), "{fault:?}: {error}");
        case.ask(&client).unwrap();
    }
    assert_eq!(case.authority.asked(), 19);
}

#[test]
fn a_slow_authority_is_given_up_in_time() {
    let case = Case::new();
    case.authority.plan(&[Fault::Stalls]);
    let error = case.ask(&case.client("root", Duration::from_millis(200))).unwrap_err();
    assert!(matches!(&error, AnchorError::Retry { why, .. } if why == "no answer in time"), "{error}");
}

#[test]
fn a_token_that_leads_to_no_root_of_ours_is_not_taken() {
    let case = Case::new();
    case.pki.cert(&Cert::ca("other", ""));
    let error = case.ask(&case.client("other", Duration::from_secs(60))).unwrap_err();
    assert!(matches!(error, AnchorError::Untrue { .. }), "{error}");
    assert!(error.hint().contains("[timestamp.first]"), "{}", error.hint());
}

#[test]
fn an_address_with_a_password_or_none_at_all_is_refused() {
    let pki = Pki::new();
    pki.cert(&Cert::ca("root", ""));
    let roots = Roots::read(&pki.read("root.pem")).unwrap();
    for url in ["ftp://127.0.0.1/", "http://user:hunter2@127.0.0.1/", "tsa", "http://127.0.0.1/?key=hunter2"] {
        assert!(Tsa::new("first", url, roots.clone(), Duration::from_secs(1)).is_err(), "{url}");
    }
}
