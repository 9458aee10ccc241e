//! One exchange with `openssl ts`, frozen: it is understood for ever. Verdicts beside those of openssl are in
//! `tests/it/timestamp`, where tokens are made.

use proptest::prelude::*;

use super::*;

const NOTE: &[u8] = include_bytes!("../../../tests/vectors/rfc3161/note");
const QUERY: &[u8] = include_bytes!("../../../tests/vectors/rfc3161/query.tsq");
const REPLY: &[u8] = include_bytes!("../../../tests/vectors/rfc3161/reply.tsr");
const TOKEN: &[u8] = include_bytes!("../../../tests/vectors/rfc3161/token.der");
const ROOT: &[u8] = include_bytes!("../../../tests/vectors/rfc3161/root.pem");

fn query() -> Query {
    Query::new(Hash::of(NOTE), [7; RANDOM_BYTES]).unwrap()
}

#[test]
fn a_query_is_these_bytes_and_a_nonce_is_a_positive_number_of_one_length() {
    assert_eq!(query().bytes(), QUERY);
    for random in [[0; RANDOM_BYTES], [0xff; RANDOM_BYTES], [0x80; RANDOM_BYTES]] {
        let query = Query::new(Hash::of(NOTE), random).unwrap();
        assert_eq!(query.bytes().len(), QUERY.len());
    }
}

#[test]
fn the_answer_of_openssl_is_accepted_and_says_who_and_when() {
    let (token, der) = query().accept(REPLY).unwrap();
    assert_eq!(der, TOKEN);
    let vouched = token.vouched_by(&Roots::read(ROOT).unwrap()).unwrap();
    assert_eq!(vouched.authority, "CN=vector stamp,O=Pinfold test");
    assert_eq!(vouched.time.to_string(), "2026-11-24T17:22:12.448401Z");
    assert_eq!(vouched.accuracy_micros, Some(1_000_000));
}

#[test]
fn what_is_too_much_is_refused_by_its_size() {
    let limit = |rejected: Rejected| matches!(rejected, Rejected::Limit { .. });
    assert!(limit(Token::open(&vec![0x30; TOKEN_BYTES_MAX + 1]).unwrap_err()));
    assert!(limit(token_of(&vec![0x30; Query::REPLY_BYTES_MAX + 1]).unwrap_err()));
    assert!(limit(Roots::read(&ROOT.repeat(1_001)).unwrap_err()));
    assert_eq!(Roots::read(&ROOT.repeat(1_000)), Ok(Roots::all(vec![Roots::read(ROOT).unwrap(); 1_000])));
}

#[test]
fn a_file_of_roots_is_pem_or_one_certificate_in_der() {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(ROOT).unwrap();
    assert_eq!(Roots::read(&der), Roots::read(ROOT));
    for none in [b"".as_slice(), b"no pem", &[&der[..], b"\0"].concat(), &der[..100]] {
        assert!(Roots::read(none).is_err());
    }
}

proptest! {
    /// Whatever the bytes, there is an answer; and none of them opens that says something else than the token.
    #[test]
    fn changed_bytes_end_in_a_refusal_or_say_the_same(
        at in 0..REPLY.len(),
        with in proptest::collection::vec(any::<u8>(), 0..8),
        cut in 0..REPLY.len(),
    ) {
        let mut reply = REPLY.to_vec();
        let end = (at + with.len()).min(reply.len());
        reply.splice(at..end, with);
        let roots = Roots::read(ROOT).unwrap();
        let accepted = |reply: &[u8]| query().accept(reply).and_then(|(token, _)| token.vouched_by(&roots));
        if let Ok(vouched) = accepted(&reply) {
            prop_assert_eq!(vouched.time.to_string(), "2026-11-24T17:22:12.448401Z");
        }
        prop_assert!(accepted(&reply[..cut.min(reply.len() - 1)]).is_err());
        let _ = Roots::read(&reply);
    }
}
