//! Disclosures, evidence and certificates against the vectors of an independent writer.

use super::*;
use crate::core::leaf::ErasureStep;

const EXPECTED: &str = include_str!("../../../tests/vectors/pinfold-v1/disclosure/expected.json");
const DISCLOSURE: &str = include_str!("../../../tests/vectors/pinfold-v1/disclosure/6.tlog-proof");
const EVIDENCE: &[u8] = include_bytes!("../../../tests/vectors/pinfold-v1/disclosure/6.evidence.tar");
const CERTIFICATE: &[u8] = include_bytes!("../../../tests/vectors/pinfold-v1/disclosure/certificate.tar");

fn expected() -> serde_json::Value {
    serde_json::from_str(EXPECTED).unwrap()
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().unwrap()
}

fn vkey(value: &serde_json::Value) -> Vkey {
    text(value).parse().unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> &'static str {
    result.unwrap_err().code.as_str()
}

#[test]
fn the_disclosure_holds_and_is_written_to_the_same_bytes() {
    let v = expected();
    let (leaf, disclosed) = check_disclosure(DISCLOSURE, &vkey(&v["vkey"])).unwrap();
    assert_eq!((leaf.seq, disclosed.part), (Seq(6), 1));
    assert_eq!(hex::encode(disclosed.r), text(&v["disclosure"]["r"]));
    assert_eq!(hex::encode(&disclosed.body), text(&v["disclosure"]["body"]));
    assert_eq!(Proof::parse(DISCLOSURE).unwrap().to_text(), DISCLOSURE);
    assert!(!format!("{disclosed:?}").contains("body"));
}

#[test]
fn a_disclosure_under_a_cosigned_checkpoint_holds() {
    let v = expected();
    let (cosigned, vkey) = (text(&v["cosigned"]), vkey(&v["vkey"]));
    assert_eq!(check_disclosure(cosigned, &vkey), check_disclosure(DISCLOSURE, &vkey));
    assert_eq!(Proof::parse(cosigned).unwrap().to_text(), cosigned);
}

#[test]
fn the_bad_disclosures_are_refused_with_their_codes() {
    let v = expected();
    assert_eq!(list(&v["refused"]).len(), 13);
    for case in list(&v["refused"]) {
        let result = check_disclosure(text(&case["text"]), &vkey(&case["vkey"]));
        assert_eq!(code(result), text(&case["code"]), "{}", case["name"]);
    }
}

#[test]
fn any_changed_character_of_a_proof_is_noticed() {
    let vkey = vkey(&expected()["vkey"]);
    for at in 0..DISCLOSURE.len() {
        let mut bytes = DISCLOSURE.as_bytes().to_vec();
        bytes[at] ^= 1;
        if let Ok(changed) = std::str::from_utf8(&bytes) {
            assert!(check_disclosure(changed, &vkey).is_err(), "byte {at}");
        }
    }
}

#[test]
fn evidence_holds_with_the_first_key_and_with_the_checkpoints() {
    let v = expected();
    for key in list(&v["evidence"]["vkeys"]) {
        let evidence = evidence::check(EVIDENCE, &vkey(key), None).unwrap();
        assert_eq!(evidence.proven.iter().map(|p| p.leaf.seq.0).collect::<Vec<_>>(), [6, 313]);
        assert!(evidence.others.is_empty());
    }
    let proofs = tar::read(EVIDENCE).unwrap();
    let proofs: Vec<Proof> =
        proofs.iter().rev().map(|f| Proof::parse(std::str::from_utf8(&f.bytes).unwrap()).unwrap()).collect();
    assert_eq!(evidence::write(proofs, &[]).unwrap(), EVIDENCE);
}

#[test]
fn evidence_takes_other_files_and_refuses_a_proof_under_another_name() {
    let key = vkey(&expected()["vkey"]);
    let mut files = tar::read(EVIDENCE).unwrap();
    let readme = tar::File { name: "README.txt".to_owned(), bytes: b"what this is\n".to_vec() };
    files.push(readme.clone());
    let evidence = evidence::check(&tar::write(&files).unwrap(), &key, None).unwrap();
    assert_eq!(evidence.others, [readme]);
    files[0].name = "7.tlog-proof".to_owned();
    assert_eq!(code(evidence::check(&tar::write(&files).unwrap(), &key, None)), "non-canonical");
    files.remove(0);
    files.swap(0, 1);
    assert!(evidence::check(&tar::write(&files).unwrap(), &key, None).is_ok());
    files.retain(|file| file.name == "README.txt");
    assert_eq!(code(evidence::check(&tar::write(&files).unwrap(), &key, None)), "non-canonical");
}

#[test]
fn the_certificate_holds_and_says_what_it_should() {
    let v = expected();
    for key in list(&v["evidence"]["vkeys"]) {
        let certificate = erasure::check(CERTIFICATE, &vkey(key), None).unwrap();
        let statements = list(&v["certificate"]);
        assert_eq!(statements.len(), certificate.statements.len());
        for (expected, (seq, found)) in statements.iter().zip(&certificate.statements) {
            let fields = &expected["statement"];
            assert_eq!(seq.0, expected["seq"].as_u64().unwrap());
            assert_eq!(hex::encode(&found.erasure_id), text(&fields["erasure_id"]["hex"]));
            assert_eq!(found.ground, text(&fields["ground"]));
            assert_eq!(found.at, fields["at"].as_u64().unwrap());
            assert_eq!(found.affected_count, fields["affected_count"].as_u64().unwrap_or(0));
        }
        // The set is over the seqs and the salt, which the operator may show to whom it concerns.
        let salt = hex::decode(text(&v["salt"])).unwrap().try_into().unwrap();
        let seqs: Vec<Seq> = list(&v["affected_seqs"]).iter().map(|seq| Seq(seq.as_u64().unwrap())).collect();
        let set = crate::core::part::affected_set(&salt, &seqs);
        assert_eq!(certificate.statements[2].1.affected_set, set.0);
    }
}

#[test]
fn bad_evidence_and_bad_certificates_are_refused_with_their_codes() {
    let v = expected();
    assert_eq!(list(&v["refused_evidence"]).len(), 5);
    for case in list(&v["refused_evidence"]) {
        let proofs: Vec<Proof> = list(&case["texts"]).iter().map(|t| Proof::parse(text(t)).unwrap()).collect();
        let tar = evidence::write(proofs, &[]).unwrap();
        let key = vkey(&case["vkey"]);
        let found = match text(&case["what"]) {
            "evidence" => code(evidence::check(&tar, &key, None)),
            _ => code(erasure::check(&tar, &key, None)),
        };
        assert_eq!(found, text(&case["code"]), "{}", case["name"]);
    }
}

#[test]
fn statements_say_what_their_step_has_a_use_for() {
    let v = expected();
    assert_eq!(list(&v["statements"]).len(), 10);
    for case in list(&v["statements"]) {
        let step = ErasureStep::from_code(case["step"].as_u64().unwrap()).unwrap();
        let body = hex::decode(text(&case["body"])).unwrap();
        let found = erasure::read_statement(step, &body).err().map(|refused| refused.code.as_str());
        assert_eq!(found, case["code"].as_str(), "{}", case["name"]);
    }
    assert_eq!(code(erasure::read_statement(ErasureStep::Requested, &[0x0a])), "non-canonical");
    assert_eq!(code(erasure::read_statement(ErasureStep::Refused, &[])), "non-canonical");
}
