//! Tokens: what is signed, how, and by how many.

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::ContentInfo;
use cms::signed_data::{CertificateSet, SignedData, SignerIdentifier, SignerInfos};
use der::asn1::{GeneralizedTime, Int, ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode, Encode};
use pinfold::core::hash::Hash;
use pinfold::core::timestamp::Query;
use x509_cert::ext::pkix::name::GeneralName;

use super::DATA;
use super::table::{Given, Table};
use crate::pki::{Cert, Pki, TIME_SECONDS, info, info_der};

fn pki() -> Pki {
    let pki = Pki::new();
    pki.cert(&Cert::ca("root", ""));
    pki.cert(&Cert { serial: "0A", ..Cert::signer("signer", "root") });
    pki
}

#[test]
fn answers_of_openssl_ts_have_its_verdict() {
    let pki = pki();
    let mut table = Table::new(&pki);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let query = |byte| Query::new(Hash::of(DATA), [byte; 16]).unwrap();
    pki.cert(&Cert::signer("rsa2048", "root"));
    pki.cert(&Cert::ca("between", "root"));
    pki.cert(&Cert::signer("below", "between"));
    let certs = pki.bundle("certs.pem", &["between", "root"]);
    let mut row = |name: &str, signer: &str, lines: &str, expected: &str| {
        let reply = pki.reply(query(1).bytes(), signer, signer, lines);
        let given = Given { exchange: Some((query(1), reply)), ..Given::of_token(Vec::new()).at(now + 1) };
        table.row(name, given, expected, "");
    };
    row("openssl ts", "signer", "ess_cert_id_alg=sha256", "good");
    row("openssl ts, RSA named rsaEncryption", "rsa2048", "ess_cert_id_alg=sha256", "good");
    row("openssl ts, certificate named by SHA-1", "signer", "ess_cert_id_alg=sha1", "good");
    row("openssl ts, certificate named by SHA-512", "signer", "ess_cert_id_alg=sha512", "good");
    let all = "ess_cert_id_chain=yes\ntsa_name=yes\nordering=yes\naccuracy=secs:1,millisecs:500,microsecs:100\nclock_precision_digits=6";
    row("openssl ts, every optional field", "below", &format!("certs={certs}\n{all}"), "good");
    row("openssl ts, SHA-256 refused by the authority", "signer", "digests=sha512", "status 2, badAlg");

    let reply = pki.reply(query(1).bytes(), "signer", "signer", "ess_cert_id_alg=sha256");
    let mut row = |name: &str, query: Query, reply: Vec<u8>, expected: &str| {
        let why = if name.ends_with("behind it") { LEAVES_THE_REST } else { "" };
        let given = Given { exchange: Some((query, reply)), ..Given::of_token(Vec::new()).at(now + 1) };
        table.row(name, given, expected, why);
    };
    row("an answer to another query", query(2), reply.clone(), "nonce");
    row("an answer about other bytes", Query::new(Hash::of(b"other"), [1; 16]).unwrap(), reply.clone(), "imprint");
    pki.run(&[
        "ts",
        "-query",
        "-digest",
        &Hash::of(DATA).to_string(),
        "-sha256",
        "-cert",
        "-no_nonce",
        "-out",
        "bare.tsq",
    ]);
    let bare = pki.reply(&pki.read("bare.tsq"), "signer", "signer", "ess_cert_id_alg=sha256");
    row("an answer without a nonce", query(1), bare, "nonce");
    pki.run(&["ts", "-query", "-digest", &Hash::of(DATA).to_string(), "-sha256", "-out", "no-cert.tsq"]);
    let no_cert = pki.reply(&pki.read("no-cert.tsq"), "signer", "signer", "ess_cert_id_alg=sha256");
    row("an answer without certificates", query(1), no_cert, "the signer's");
    pki.run(&["ts", "-query", "-digest", &"00".repeat(20), "-sha1", "-cert", "-out", "sha1.tsq"]);
    let sha1 = pki.reply(&pki.read("sha1.tsq"), "signer", "signer", "ess_cert_id_alg=sha256");
    row("a query about SHA-1 is refused by the authority", query(1), sha1, "status 2, badAlg");
    row("not an answer", query(1), b"<html>".to_vec(), "answer");
    row("an answer with a byte behind it", query(1), [&reply[..], b"\0"].concat(), "answer");
    table.end();
}

const LEAVES_THE_REST: &str = "openssl reads the first DER value of a file and leaves the rest";

/// The token with `from` replaced by `to` of the same length, where it stands last.
fn patched(token: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = token.windows(from.len()).rposition(|window| window == from).expect("it is there");
    [&token[..at], to, &token[at + from.len()..]].concat()
}

#[test]
fn tokens_have_the_verdict_of_openssl_or_a_reason() {
    let pki = pki();
    let mut table = Table::new(&pki);
    let sign = |info: &[u8], more: &[&str]| pki.sign(info, "signer", "signer", &[&["-cades"], more].concat());
    let sound = sign(&info_der(DATA), &[]);
    let mut row = |name: &str, token: Vec<u8>, expected: &str, why: &str| {
        table.row(name, Given::of_token(token), expected, why);
    };
    row("a token by openssl cms", sound.clone(), "good", "");
    row("over other bytes", sign(&info_der(b"other"), &[]), "imprint", "");
    let imprint = Hash::of(DATA);
    row("changed byte in the imprint", patched(&sound, &imprint.0, &Hash::of(b"other").0), "messageDigest", "");
    row(
        "changed byte in TSTInfo, outside the imprint",
        patched(&sound, b"20250601120000Z", b"20250601120001Z"),
        "messageDigest",
        "",
    );
    let mut signature = sound.clone();
    *signature.last_mut().unwrap() ^= 1;
    row("changed byte in the signature", signature, "signature", "");
    let signing_time = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
    let as_other = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x06];
    row("changed byte in the signed attributes", patched(&sound, &signing_time, &as_other), "signature", "");
    row("a byte behind the token", [&sound[..], b"\0"].concat(), "token", LEAVES_THE_REST);
    row("cut short", sound[..sound.len() - 1].to_vec(), "token", "");
    row("empty", Vec::new(), "token", "");
    row("SHA-384 over the attributes", sign(&info_der(DATA), &["-md", "sha384"]), "good", "");
    row("SHA-512 over the attributes", sign(&info_der(DATA), &["-md", "sha512"]), "good", "");
    let why = "SHA-1 signs nothing; openssl ts takes it by default";
    row("SHA-1 over the attributes", sign(&info_der(DATA), &["-md", "sha1"]), "not supported", why);
    let why = "a token of format.md is DER: one value has one form";
    row("BER of indefinite length", sign(&info_der(DATA), &["-stream"]), "token", why);
    row(
        "content of another type",
        sign(&info_der(DATA), &["-econtent_type", "1.2.840.113549.1.7.1"]),
        "another version",
        "",
    );
    row(
        "no signed attributes",
        pki.sign(&info_der(DATA), "signer", "signer", &["-noattr"]),
        "no signed attributes",
        "",
    );
    row("no certificate is named", pki.sign(&info_der(DATA), "signer", "signer", &[]), "none names the signing", "");
    row("no certificates", sign(&info_der(DATA), &["-nocerts"]), "the signer's", "");
    row("signer named by key identifier", sign(&info_der(DATA), &["-keyid"]), "key identifier", "");
    row("signed attributes in another order", reordered(&sound), "another order", "");
    pki.cert(&Cert::signer("ed25519", "root"));
    let why = "RFC 8419; the PKCS #7 of openssl ts knows no signature without a digest of its own";
    row("Ed25519", by_ed25519(&pki, &sign(&info_der(DATA), &["-md", "sha512"])), "good", why);
    pki.cert(&Cert::signer("rsa2048", "root"));
    let pss = ["-cades", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:32"];
    let why = "RFC 4056; openssl ts reads a signature by an RSA key as PKCS #1 v1.5";
    row("RSA-PSS", pki.sign(&info_der(DATA), "rsa2048", "rsa2048", &pss), "good", why);
    pki.cert(&Cert::signer("second", "root"));
    row("two signers", sign(&info_der(DATA), &["-signer", "second.pem", "-inkey", "second.key"]), "signers", "");
    table.end();
}

/// The token with the first two of its signed attributes exchanged.
fn reordered(token: &[u8]) -> Vec<u8> {
    // contentType is the shorter and stands first: 26 bytes, then signingTime with 30.
    let content_type = [0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
    let at = token.windows(content_type.len()).position(|window| window == content_type).expect("it is there");
    let (first, second) = (at..at + 28, at + 28..at + 28 + 2 + usize::from(token[at + 29]));
    let after = second.end;
    [&token[..at], &token[second], &token[first], &token[after..]].concat()
}

#[test]
fn what_a_token_states_has_the_verdict_of_openssl_or_a_reason() {
    let pki = pki();
    let mut table = Table::new(&pki);
    let mut row = |name: &str, info: Vec<u8>, expected: &str, why: &str| {
        table.row(name, Given::of_token(pki.sign(&info, "signer", "signer", &["-cades"])), expected, why);
    };
    let sound = info(DATA, None);
    let version = patched(&info_der(DATA), &[0x02, 0x01, 0x01, 0x06], &[0x02, 0x01, 0x02, 0x06]);
    row("TSTInfo of version 2", version, "TSTInfo", "");
    let named = |name: &str| {
        let tsa = Some(GeneralName::DirectoryName(name.parse().unwrap()));
        x509_tsp::TstInfo { tsa, ..sound.clone() }.to_der().unwrap()
    };
    row("the authority's name is the signer's", named("CN=signer"), "good", "");
    row("the authority's name is another", named("CN=other"), "name of the authority", "");
    let extension = |critical| x509_cert::ext::Extension {
        extn_id: ObjectIdentifier::new_unwrap("1.2.3.4.5"),
        critical,
        extn_value: OctetString::new([5, 0]).unwrap(),
    };
    let extended =
        |critical| x509_tsp::TstInfo { extensions: Some(vec![extension(critical)]), ..sound.clone() }.to_der().unwrap();
    row("an extension of TSTInfo", extended(false), "good", "");
    let why = "RFC 3161 2.4.2: who does not understand a critical extension refuses; openssl does not look";
    row("a critical extension of TSTInfo", extended(true), "critical extension", why);
    let mut other = sound.clone();
    other.message_imprint.hash_algorithm.oid = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
    other.message_imprint.hashed_message = OctetString::new([7; 64]).unwrap();
    row("an imprint by SHA-512", other.to_der().unwrap(), "imprint algorithm", "");
    let past = x509_tsp::TstInfo {
        gen_time: GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(TIME_SECONDS - 86_400 * 600))
            .unwrap(),
        nonce: Some(Int::new(&[1, 2]).unwrap()),
        ..sound.clone()
    };
    let why = "validity is asked at the token's own time, to openssl it is what -attime says";
    row("a token before its signer was valid, looked at later", past.to_der().unwrap(), "not valid yet", why);
    row(
        "bytes behind TSTInfo",
        [&info_der(DATA)[..], b"\0"].concat(),
        "TSTInfo",
        "openssl reads what it knows and leaves the rest",
    );
    table.end();
}

/// The same issuer, number and key, another certificate: what the signing-certificate attribute is for.
#[test]
fn another_certificate_over_the_same_key_is_not_the_one_that_signed() {
    let pki = pki();
    let mut table = Table::new(&pki);
    let token = pki.sign(&info_der(DATA), "signer", "signer", &["-cades"]);
    pki.cert(&Cert {
        key: "signer",
        subject: "/CN=signer",
        serial: "0A",
        to: "20500101000000Z",
        ..Cert::signer("again", "root")
    });
    let (from, to) = (pki.der("signer"), pki.der("again"));
    let swapped = rewrapped(&token, |certificate| if certificate == from { to.clone() } else { certificate });
    table.row(
        "another certificate of its issuer, number and key",
        Given::of_token(swapped),
        "signing-certificate attribute",
        "",
    );
    let unchanged = rewrapped(&token, |certificate| certificate);
    assert_eq!(unchanged, token);
    table.row("the token put together again", Given::of_token(unchanged), "good", "");
    table.end();
}

/// The token with each certificate replaced.
fn rewrapped(token: &[u8], replace: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    edited(token, |signed| {
        let certificates = signed.certificates.take().unwrap().0.into_vec().into_iter();
        let certificates: Vec<_> = certificates.map(|choice| read(&replace(choice.to_der().unwrap()))).collect();
        signed.certificates = Some(CertificateSet::try_from(certificates).unwrap());
    })
}

/// The token signed again by the Ed25519 key, which `openssl cms` of version 3.0 does not do.
fn by_ed25519(pki: &Pki, token: &[u8]) -> Vec<u8> {
    let der = pki.der("ed25519");
    let certificate = x509_cert::Certificate::from_der(&der).unwrap();
    let key = pki.run(&["pkcs8", "-topk8", "-nocrypt", "-in", "ed25519.key", "-outform", "DER"]);
    let key = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key).unwrap();
    // SigningCertificateV2 of one ESSCertIDv2 with the default digest.
    let hash = Hash::of(&der);
    let named = [&[0x30, 38, 0x30, 36, 0x30, 34, 0x04, 32][..], &hash.0].concat();
    edited(token, |signed| {
        let mut signers = std::mem::take(&mut signed.signer_infos.0).into_vec();
        let signer = &mut signers[0];
        let id = IssuerAndSerialNumber {
            issuer: certificate.tbs_certificate.issuer.clone(),
            serial_number: certificate.tbs_certificate.serial_number.clone(),
        };
        signer.sid = SignerIdentifier::IssuerAndSerialNumber(id);
        let attributes = signer.signed_attrs.take().unwrap().into_vec().into_iter().map(|mut attribute| {
            if attribute.oid.to_string() == "1.2.840.113549.1.9.16.2.47" {
                attribute.values = SetOfVec::try_from([der::Any::from_der(&named).unwrap()]).unwrap();
            }
            attribute
        });
        let attributes = SetOfVec::from_iter(attributes).unwrap();
        signer.signature = OctetString::new(key.sign(&attributes.to_der().unwrap()).as_ref()).unwrap();
        signer.signed_attrs = Some(attributes);
        signer.signature_algorithm.oid = ObjectIdentifier::new_unwrap("1.3.101.112");
        signed.signer_infos = SignerInfos::try_from(signers).unwrap();
        signed.certificates = Some(CertificateSet::try_from(vec![read(&der)]).unwrap());
    })
}

fn read(certificate: &[u8]) -> CertificateChoices {
    CertificateChoices::from_der(certificate).unwrap()
}

fn edited(token: &[u8], edit: impl FnOnce(&mut SignedData)) -> Vec<u8> {
    let outer = ContentInfo::from_der(token).unwrap();
    let mut signed = outer.content.decode_as::<SignedData>().unwrap();
    edit(&mut signed);
    ContentInfo { content: der::Any::encode_from(&signed).unwrap(), ..outer }.to_der().unwrap()
}
