//! The client against every answer a witness can give, the impossible ones too.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;

const VECTORS: &str = include_str!("../../../tests/vectors/pinfold-v1/notes.json");
const SIZE: &str = SIZE_CONTENT_TYPE;

/// A released checkpoint, its cosignature line, and who made that.
struct Case {
    released: Released,
    line: String,
    vkey: WitnessVkey,
}

/// The checkpoint of the vectors: its witness's private key is not needed, because its line is there.
fn case() -> Case {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let of = |list: &str, name: &str, field: &str| {
        let found = vectors[list].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap();
        found[field].as_str().unwrap().to_owned()
    };
    let note = of("good", "checkpoint with a cosignature", "note");
    let at = note.rfind("— ").unwrap();
    let (note, line) = (note[..at].to_owned(), note[at..].to_owned());
    let head = crate::core::checkpoint::Statement::parse(&note).unwrap().head;
    let consistency: crate::anchor::Consistency = Arc::new(|old| match old.0 {
        1 => Ok(vec![Hash::of(b"a proof from 1")]),
        _ => Err(Unproven::NotOurs(old)),
    });
    let vkey = of("keys", "witness", "vkey").parse().unwrap();
    Case { released: Released { head, note, consistency }, line, vkey }
}

/// Status, content type and body.
type Canned<'a> = (&'a str, &'a str, &'a str);

/// A server that gives these answers, one a connection, and keeps the bodies it was sent.
fn serve(answers: &[Canned<'_>]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/w1/", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let whole = |(status, kind, body): &Canned<'_>| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let mut answers: VecDeque<String> = answers.iter().map(whole).collect();
    std::thread::spawn(move || {
        while let Some(answer) = answers.pop_front() {
            let (mut stream, _) = listener.accept().unwrap();
            kept.lock().unwrap().push(body_of(&mut stream));
            // A client that has read enough may have gone.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, asked)
}

/// The body of a request, which must be a POST to the right place.
fn body_of(stream: &mut TcpStream) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("POST /w1/add-checkpoint HTTP/1.1\r\n"), "{head}");
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return body.to_owned();
            }
        }
        let read = stream.read(&mut chunk).unwrap();
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn ask(case: &Case, answers: &[Canned<'_>]) -> (Result<Said, AnchorError>, Vec<String>) {
    let (url, asked) = serve(answers);
    let witness = Witness::new(case.vkey.clone(), &url, Duration::from_secs(5)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(witness.attest(&case.released));
    let asked = asked.lock().unwrap().clone();
    (said, asked)
}

/// The checkpoint's size and `more`, as a body.
fn size(case: &Case, more: u64) -> String {
    format!("{}\n", case.released.head.size.0 + more)
}

#[test]
fn a_new_log_is_signed_from_nothing() {
    let case = case();
    let (said, asked) = ask(&case, &[("200 OK", "text/plain", &case.line)]);
    assert_eq!(said.unwrap(), Said::Cosigned(case.line.clone()));
    assert_eq!(asked, [format!("old 0\n\n{}", case.released.note)]);
}

#[test]
fn the_size_it_holds_is_proven_from() {
    let case = case();
    let (said, asked) = ask(&case, &[("409 Conflict", SIZE, "1\n"), ("200 OK", "text/plain", &case.line)]);
    assert_eq!(said.unwrap(), Said::Cosigned(case.line.clone()));
    let proof = crate::core::note::to_base64(&Hash::of(b"a proof from 1").0);
    assert_eq!(asked[1], format!("old 1\n{proof}\n\n{}", case.released.note));
}

#[test]
fn the_same_size_again_needs_no_proof() {
    let case = case();
    let same = size(&case, 0);
    let (said, asked) = ask(&case, &[("409 Conflict", SIZE, &same), ("200 OK", "text/plain", &case.line)]);
    assert_eq!(said.unwrap(), Said::Cosigned(case.line.clone()));
    assert_eq!(asked[1], format!("old {same}\n{}", case.released.note));
}

#[test]
fn a_larger_size_is_an_answer() {
    let case = case();
    let (said, _) = ask(&case, &[("409 Conflict", SIZE, &size(&case, 5))]);
    assert_eq!(said.unwrap(), Said::Ahead(Size(case.released.head.size.0 + 5)));
}

#[test]
fn another_tree_of_ours_halts() {
    let case = case();
    let same = size(&case, 0);
    let of_size = case.released.head.size;
    for (answers, size) in [
        ([("409 Conflict", SIZE, &*same), ("409 Conflict", SIZE, &*same)], of_size),
        ([("409 Conflict", SIZE, &same), ("409 Conflict", "text/plain", "no")], of_size),
        ([("409 Conflict", SIZE, "1\n"), ("422 Unprocessable Entity", "text/plain", "")], Size(1)),
    ] {
        let error = ask(&case, &answers).0.unwrap_err();
        assert!(error.halts() && matches!(&error, AnchorError::Forked { size: at, .. } if *at == size), "{error}");
    }
    let error = ask(&case, &[("409 Conflict", SIZE, "2\n")]).0.unwrap_err();
    assert!(error.halts() && matches!(error, AnchorError::Foreign { size: Size(2), .. }), "{error}");
}

#[test]
fn a_refusal_says_what_to_do_and_a_failure_is_tried_again() {
    let case = case();
    for (status, is_refused, word) in [
        ("404 Not Found", true, "add the log"),
        ("403 Forbidden", true, "vkey"),
        ("400 Bad Request", true, "submission prefix"),
        ("307 Temporary Redirect", true, "policy"),
        ("408 Request Timeout", false, "reachable"),
        ("429 Too Many Requests", false, "reachable"),
        ("500 Internal Server Error", false, "reachable"),
        ("503 Service Unavailable", false, "reachable"),
    ] {
        let error = ask(&case, &[(status, "text/plain", "why\x1b[31m not\nmore")]).0.unwrap_err();
        assert_eq!(matches!(error, AnchorError::Refused { .. }), is_refused, "{error}");
        assert!(!error.halts() && error.hint().contains(word), "{error}: {}", error.hint());
        assert!(!error.to_string().contains('\x1b') && !error.to_string().contains("more"), "{error}");
    }
}

#[test]
fn an_answer_that_cannot_be_is_no_signature_and_no_halt() {
    let case = case();
    let flipped = case.line.replace('=', "A");
    let long = format!("{}\n", "x".repeat(ANSWER_BYTES_MAX));
    for answers in [
        &[("200 OK", "text/plain", "")][..],
        &[("200 OK", "text/plain", "welcome to the café\n")],
        &[("200 OK", "text/plain", &flipped)],
        &[("200 OK", "text/plain", &long)],
        &[("409 Conflict", "text/plain", "1\n")],
        &[("409 Conflict", SIZE, "one\n")],
        &[("409 Conflict", SIZE, "0\n")],
        &[("409 Conflict", SIZE, "1\n"), ("409 Conflict", SIZE, "0\n"), ("409 Conflict", SIZE, "1\n")],
        &[("422 Unprocessable Entity", "text/plain", "")],
    ] {
        let error = ask(&case, answers).0.unwrap_err();
        assert!(!error.halts(), "{answers:?}: {error}");
    }
}

#[test]
fn nobody_there_and_nobody_who_speaks_ends_in_time() {
    let case = case();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let witness = Witness::new(case.vkey.clone(), &format!("http://{address}"), Duration::from_millis(50)).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = runtime.block_on(witness.attest(&case.released)).unwrap_err();
        assert!(matches!(error, AnchorError::Retry { .. }), "{error}");
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    let vkey = case().vkey;
    for url in ["", "w.example", "ftp://w.example", "http://user:pw@w.example", "http://w.example/?a=b", "file:///x"] {
        assert!(Witness::new(vkey.clone(), url, Duration::from_secs(1)).is_err(), "{url}");
    }
}

#[test]
fn what_it_holds_is_asked_without_moving_it() {
    let case = case();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let holds = |answer: Canned<'_>| {
        let (url, asked) = serve(&[answer]);
        let witness = Witness::new(case.vkey.clone(), &url, Duration::from_secs(5)).unwrap();
        let holds = runtime.block_on(witness.holds(&case.released.head, &case.released.note)).unwrap();
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked, [format!("old {}\n{}", size(&case, 0), case.released.note)]);
        holds
    };
    assert_eq!(holds(("200 OK", "text/plain", &case.line)), Holds::This(case.line.clone()));
    assert_eq!(holds(("409 Conflict", SIZE, "1\n")), Holds::Size(Size(1)));
    assert_eq!(holds(("409 Conflict", SIZE, &size(&case, 0))), Holds::OtherRoot);
}

/// Two keys of one name are two lanes.
#[test]
fn a_lane_is_called_by_name_and_id() {
    let case = case();
    let witness = Witness::new(case.vkey.clone(), "http://127.0.0.1:1", Duration::from_secs(1)).unwrap();
    assert!(case.vkey.to_string().starts_with(&format!("{}+", witness.name())), "{}", witness.name());
    assert!(witness.name().len() > case.vkey.name().len());
}
