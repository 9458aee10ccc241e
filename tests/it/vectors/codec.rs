//! `dag-cbor.json`: what a strict reader takes, and what it refuses.

use pinfold::core::codec::{self, Cursor};

use super::{hex, json, list};

#[test]
fn a_strict_reader_takes_and_refuses_what_the_vectors_say() {
    let vectors = json("dag-cbor.json");
    for case in list(&vectors["accept"]) {
        let bytes = hex(&case["hex"]);
        let value = codec::read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", case["what"]));
        assert_eq!(serde_ipld_dagcbor::to_vec(&value).unwrap(), bytes, "{}", case["what"]);
    }
    for case in list(&vectors["reject"]) {
        assert!(codec::read(&hex(&case["hex"])).is_err(), "{}", case["what"]);
    }
    for case in list(&vectors["reject_as_uint"]) {
        let bytes = hex(&case["hex"]);
        assert!(codec::check(&bytes).is_ok(), "{}", case["what"]);
        assert!(Cursor::new(&bytes).uint().is_err(), "{}", case["what"]);
    }
}
