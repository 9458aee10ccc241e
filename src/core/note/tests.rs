//! Notes and keys against the vectors, and every way a note is refused.

use std::fmt;

use ed25519_dalek::VerifyingKey;

use super::*;
use crate::core::finding::Code;
use crate::core::hash::Hash;
use crate::core::time::Timestamp;

const VECTORS: &str = include_str!("../../../tests/vectors/pinfold-v1/notes.json");

#[derive(serde::Deserialize)]
struct Vectors {
    keys: Vec<KeyVector>,
    good: Vec<GoodVector>,
    small_order_vkey: String,
}

#[derive(serde::Deserialize)]
struct KeyVector {
    name: String,
    seed: String,
    vkey: String,
}

#[derive(serde::Deserialize)]
struct GoodVector {
    name: String,
    note: String,
    signed_by: Vec<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

/// The keys of the vectors but the witness's, which is of another type.
fn keys() -> Vec<(Skey, String)> {
    let plain = vectors().keys.into_iter().filter(|v| v.name != "witness");
    plain
        .map(|v| {
            let seed: Hash = v.seed.parse().unwrap();
            let name = v.vkey.split('+').next().unwrap().to_owned();
            (Skey::from_seed(&name, &seed.0).unwrap(), v.vkey)
        })
        .collect()
}

fn code<T: fmt::Debug>(result: Result<T, Refused>) -> Code {
    result.unwrap_err().code
}

#[test]
fn a_seed_gives_its_vkey_and_the_vkey_reads_back() {
    assert_eq!(keys().len(), 5);
    for (key, vkey) in keys() {
        assert_eq!(key.vkey().to_string(), vkey);
        assert_eq!(vkey.parse::<Vkey>().unwrap(), *key.vkey());
    }
}

#[test]
fn the_good_notes_verify_and_are_signed_to_the_same_bytes() {
    for v in vectors().good {
        let note = Note::parse(&v.note).unwrap();
        assert_eq!(note.signatures.len(), v.signed_by.len(), "{}", v.name);
        let mut signers = Vec::new();
        for vkey in &v.signed_by {
            if let Ok(witness) = vkey.parse::<WitnessVkey>() {
                assert_eq!(witness.verify(&note), Ok(vec![Timestamp(1_767_225_600_000_000)]), "{}", v.name);
            } else {
                vkey.parse::<Vkey>().unwrap().verify(&note).unwrap();
                signers.extend(keys().into_iter().find(|(_, known)| known == vkey).map(|(key, _)| key));
            }
        }
        let signed = sign_note(note.text, &signers.iter().collect::<Vec<_>>());
        assert!(v.note.starts_with(&signed), "{}", v.name);
    }
}

#[test]
fn a_changed_bit_anywhere_in_a_cosignature_or_under_it_is_noticed() {
    let v = vectors().good.into_iter().find(|v| v.signed_by.len() == 2 && v.name.contains("cosignature")).unwrap();
    let witness: WitnessVkey = v.signed_by[1].parse().unwrap();
    let sound = Note::parse(&v.note).unwrap();
    let line = |bytes: Vec<u8>| Signature { bytes, ..sound.signatures[1].clone() };
    for at in 0..sound.signatures[1].bytes.len() {
        let mut bytes = sound.signatures[1].bytes.clone();
        bytes[at] ^= 4;
        let note = Note { text: sound.text, signatures: vec![line(bytes)] };
        assert_eq!(code(witness.verify(&note)), Code::BadCosignature, "byte {at}");
    }
    for bytes in [vec![1], vec![0; 7], sound.signatures[1].bytes[..71].to_vec()] {
        let note = Note { text: sound.text, signatures: vec![line(bytes)] };
        assert_eq!(code(witness.verify(&note)), Code::BadCosignature);
    }
    let other = Note { text: "another text\n", signatures: sound.signatures.clone() };
    assert_eq!(code(witness.verify(&other)), Code::BadCosignature);
    // The log's own line is no cosignature, and a witness that did not sign gives no time.
    let alone = Note { text: sound.text, signatures: sound.signatures[..1].to_vec() };
    assert_eq!(witness.verify(&alone), Ok(vec![]));
}

#[test]
fn vkeys_that_no_strict_verifier_takes_are_refused() {
    assert_eq!(code(vectors().small_order_vkey.parse::<Vkey>()), Code::NonCanonical);
    let vkey = |name: &str, key: &[u8]| {
        let hash = Hash::of_all(&[name.as_bytes(), b"\n", key]);
        format!("{name}+{}+{}", hex::encode(&hash.0[..4]), to_base64(key))
    };
    // y = 3 is a point of full order; p + 3 is a second spelling of it that the curve library reads.
    let mut twin = [0xff; 33];
    (twin[0], twin[1], twin[32]) = (1, 0xf0, 0x7f);
    assert!(VerifyingKey::from_bytes(twin[1..].try_into().unwrap()).is_ok());
    assert_eq!(code(vkey("a.b", &twin).parse::<Vkey>()), Code::NonCanonical);
    let mut three = [0; 33];
    (three[0], three[1]) = (1, 3);
    assert!(vkey("a.b", &three).parse::<Vkey>().is_ok());
    for bad in [
        vkey("a.b", &three[..32]),
        vkey("a.b", &[&three[..], &[0]].concat()),
        vkey("", &three),
        vkey("a b", &three),
        vkey("a.b", &three).replace("a.b", "a.c"),
        vkey("a.b", &three).to_uppercase(),
        vkey("a.b", &three) + "=",
        vkey("a.b", &three).replace('+', " "),
        "a.b".to_owned(),
        String::new(),
    ] {
        assert_eq!(code(bad.parse::<Vkey>()), Code::NonCanonical, "{bad}");
    }
    // A log's key is no witness, and a witness's key is no log's.
    let witness = vectors().keys.into_iter().find(|v| v.name == "witness").unwrap().vkey;
    assert_eq!(code(witness.parse::<Vkey>()), Code::NonCanonical);
    assert_eq!(code(keys()[0].1.parse::<WitnessVkey>()), Code::NonCanonical);
}

#[test]
fn texts_that_are_no_note_are_refused() {
    let (key, _) = keys().remove(0);
    let line = key.sign("text\n");
    assert!(Note::parse(&format!("text\n\n{line}")).is_ok());
    // An empty line in the text is text; the last one is the border.
    assert_eq!(Note::parse(&format!("text\n\n\n{line}")).unwrap().text, "text\n\n");
    for bad in [
        String::new(),
        "text\n".to_owned(),
        "text\n\n".to_owned(),
        "text\n\n\n".to_owned(),
        format!("text\n{line}"),
        format!("text\n\n{}", line.trim_end()),
        format!("text\n\n{line}\n"),
        format!("te\txt\n\n{line}"),
        format!("text\n\n{}", line.replace("— ", "—")),
        format!("text\n\n{}", line.replace("— ", "—  ")),
        format!("text\n\n{}", line.replace('=', "")),
        "text\n\n— name AAAAAA==\n".to_owned(),
        format!("{}\n\n{line}", "x".repeat(NOTE_BYTES_MAX)),
    ] {
        assert_eq!(code(Note::parse(&bad)), Code::NonCanonical, "{:.80}", bad);
    }
    assert!(Note::parse("text\n\n— name AAAAAAA=\n").is_ok());
}

#[test]
fn two_lines_of_one_key_and_none_of_it_are_told_apart() {
    let (key, _) = keys().remove(0);
    let (other, _) = keys().remove(1);
    let verify = |lines: &[&Skey]| key.vkey().verify(&Note::parse(&sign_note("text\n", lines)).unwrap());
    assert_eq!(verify(&[&key]), Ok(()));
    assert_eq!(verify(&[&other, &key]), Ok(()));
    assert_eq!(code(verify(&[&other])), Code::UnknownKey);
    assert_eq!(code(verify(&[&key, &key])), Code::NonCanonical);
}

#[test]
fn key_files_round_trip_in_the_form_openssl_writes() {
    let (key, _) = keys().remove(0);
    let pem = key.to_pkcs8_pem();
    assert_eq!(
        *pem,
        "-----BEGIN PRIVATE KEY-----\n\
         MC4CAQAwBQYDK2VwBCIEIN47vL3FAhCuyEPyG9BQmDUoDwPkljIxz4j3UkvCYFf6\n\
         -----END PRIVATE KEY-----\n"
    );
    let read = Skey::from_pkcs8_pem(key.vkey().name(), &pem).unwrap();
    assert_eq!(read.sign("text\n"), key.sign("text\n"));
    for bad in ["", &pem[..60], &pem.replace("PRIVATE", "PUBLIC"), &pem.replace("BQYDK2VwBCIE", "BQYDK2VuBCIE")] {
        let refused = Skey::from_pkcs8_pem("a.b", bad).unwrap_err();
        assert_eq!(refused.code, Code::NonCanonical);
        assert!(!refused.to_string().contains("MC4C"), "{refused}");
    }
    assert!(!format!("{key:?}").contains(&vectors().keys[0].seed));
}
