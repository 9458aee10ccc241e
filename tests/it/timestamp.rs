//! Time-stamp tokens: our verdict beside that of `openssl ts -verify` and `openssl verify`, and what every changed byte of
//! a token gives.

mod audit;
mod chains;
mod client;
mod command;
mod lane;
mod table;
mod tokens;

use pinfold::core::timestamp::{Roots, Token};

use crate::pki::{Cert, Pki, info_der};

pub(crate) const DATA: &[u8] = b"example.com/test/time\n1\nAAAA\n";

/// Nothing in a token can be changed without it being refused or saying the same as before: what no signature covers is
/// the set of certificates beside the signer's, of which there is none here, and two lists of algorithms.
#[test]
fn a_changed_byte_is_refused_or_changes_nothing_that_was_signed() {
    let pki = Pki::new();
    pki.cert(&Cert::ca("root", ""));
    pki.cert(&Cert::signer("signer", "root"));
    let token = pki.sign(&info_der(DATA), "signer", "signer", &["-cades"]);
    let roots = Roots::read(&pki.read("root.pem")).unwrap();
    let sound = Token::open(&token).unwrap().vouched_by(&roots).unwrap();
    let mut same = Vec::new();
    for at in 0..token.len() {
        for bit in [0x01, 0x80] {
            let mut changed = token.clone();
            changed[at] ^= bit;
            let Ok(vouched) = Token::open(&changed).and_then(|token| token.vouched_by(&roots)) else { continue };
            assert_eq!(vouched, sound, "byte {at}");
            same.push(at);
        }
    }
    assert!(same.is_empty(), "bytes that may change: {same:?}");
}
