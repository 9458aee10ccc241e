//! Chains: who may sign, who may issue, when.

use super::DATA;
use super::table::{Given, Table};
use crate::pki::{CA, Cert, Pki, STAMPS, TIME_SECONDS, info_der};

/// A token by a signer of its own below `issuer`, whose certificate is made of `cert`.
fn signed(pki: &Pki, cert: &Cert<'_>, more: &[&str]) -> Vec<u8> {
    pki.cert(cert);
    pki.sign(&info_der(DATA), cert.name, cert.key, &[&["-cades"], more].concat())
}

/// A certification authority and a signer below it, both between a signer and the root.
fn below(pki: &Pki, authority: &Cert<'_>, signer: &Cert<'_>) -> Vec<u8> {
    pki.cert(authority);
    let file = format!("{}.pem", authority.name);
    signed(pki, signer, &["-certfile", &file])
}

#[test]
fn signers_have_the_verdict_of_openssl_or_a_reason() {
    let pki = Pki::new();
    pki.cert(&Cert::ca("root", ""));
    let mut table = Table::new(&pki);
    let mut row = |name: &str, cert: Cert<'_>, expected: &str, why: &str| {
        let token = signed(&pki, &cert, &[]);
        table.row(name, Given::new(token, "root.pem", cert.name), expected, why);
    };
    row("a signer below the root", Cert::signer("plain", "root"), "good", "");
    for key in ["rsa2048", "p384", "p521"] {
        row(&format!("a signer with a key {key}"), Cert::signer(key, "root"), "good", "");
    }
    let signer = |name, extensions| Cert { extensions, ..Cert::signer(name, "root") };
    let over = Cert { to: "20250101000000Z", ..Cert::signer("over", "root") };
    row("signer expired at the token's time", over, "had expired", "");
    row(
        "signer expired today, valid at the token's time",
        Cert { to: "20250701000000Z", ..Cert::signer("then", "root") },
        "good",
        "",
    );
    let early = Cert { from: "20250701000000Z", ..Cert::signer("early", "root") };
    row("signer not yet valid at the token's time", early, "not valid yet", "");
    let why = "RFC 5280 4.1.2.5: the period includes its last second, to openssl it has passed";
    row(
        "signer expires in the token's second",
        Cert { to: "20250601120000Z", ..Cert::signer("edge", "root") },
        "good",
        why,
    );
    row(
        "signer begins in the token's second",
        Cert { from: "20250601120000Z", ..Cert::signer("edge2", "root") },
        "good",
        "",
    );
    row("no extended key usage", signer("no-eku", "basicConstraints=CA:FALSE\n"), "no extended key usage", "");
    row("extended key usage not critical", signer("soft", "extendedKeyUsage=timeStamping\n"), "not critical", "");
    let two = "extendedKeyUsage=critical,timeStamping,codeSigning\n";
    row("timeStamping and codeSigning", signer("two", two), "timeStamping alone", "");
    row("another purpose alone", signer("code", "extendedKeyUsage=critical,codeSigning\n"), "timeStamping alone", "");
    let why = "RFC 3161 2.3: timeStamping alone; openssl does not count purposes it has no name for";
    row(
        "timeStamping and a purpose without a name",
        signer("odd", "extendedKeyUsage=critical,timeStamping,1.2.3.4.5\n"),
        "timeStamping alone",
        why,
    );
    let encrypts = "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature,keyEncipherment\n";
    row("key usage beyond signing", signer("encrypts", encrypts), "signing alone", "");
    row(
        "key usage of signing",
        signer("signs", "extendedKeyUsage=critical,timeStamping\nkeyUsage=digitalSignature\n"),
        "good",
        "",
    );
    let why = "webpki: what may issue certificates does not sign anything else";
    row(
        "the signer is an authority itself",
        signer("both", "basicConstraints=critical,CA:TRUE\nextendedKeyUsage=critical,timeStamping\n"),
        "is a certification authority",
        why,
    );
    let critical = "extendedKeyUsage=critical,timeStamping\n1.2.3.4.5=critical,ASN1:NULL\n";
    row("a critical extension nobody knows", signer("unknown", critical), "critical extension", "");
    let why = "RSA keys below 2048 bits are refused; openssl ts has no lower bound by default";
    row("RSA key of 1024 bits", Cert::signer("rsa1024", "root"), "does not verify", why);
    let why = "SHA-1 signs no certificate; openssl ts takes it by default";
    row(
        "signer's certificate signed with SHA-1",
        Cert { digest: "sha1", ..Cert::signer("sha1", "root") },
        "not supported",
        why,
    );
    table.end();
}

#[test]
fn authorities_between_have_the_verdict_of_openssl_or_a_reason() {
    let pki = Pki::new();
    pki.cert(&Cert::ca("root", ""));
    let mut table = Table::new(&pki);
    let mut row = |name: &str, mut authority: Cert<'_>, expected: &str, why: &str| {
        let (number, signer) = (authority.name.to_owned(), format!("s-{}", authority.name));
        authority.issuer = "root";
        let token = below(&pki, &authority, &Cert::signer(&signer, &number));
        let between = format!("{number}.pem");
        table.row(name, Given::new(token, "root.pem", &signer).above(&between), expected, why);
    };
    let ca = |name, extensions| Cert { extensions, ..Cert::ca(name, "root") };
    row("an authority between, in the token", Cert::ca("between", "root"), "good", "");
    row(
        "authority without basic constraints",
        ca("none", "keyUsage=critical,keyCertSign\n"),
        "not a certification authority",
        "",
    );
    row(
        "authority with CA:FALSE",
        ca("false", "basicConstraints=critical,CA:FALSE\n"),
        "not a certification authority",
        "",
    );
    let no_sign = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\n";
    row("authority whose key usage lacks keyCertSign", ca("no-sign", no_sign), "does not allow it to issue", "");
    row(
        "authority expired at the token's time",
        Cert { to: "20250101000000Z", ..Cert::ca("gone", "root") },
        "had expired",
        "",
    );
    row("authority not yet valid", Cert { from: "20250701000000Z", ..Cert::ca("soon", "root") }, "not valid yet", "");
    let why = "webpki: an authority with purposes issues for these alone; openssl looks at the signer's only";
    let code = "basicConstraints=critical,CA:TRUE\nextendedKeyUsage=codeSigning\n";
    row("authority for another purpose", ca("code", code), "not for time stamps", why);
    row(
        "authority for time stamps",
        ca("stamps", "basicConstraints=critical,CA:TRUE\nextendedKeyUsage=timeStamping\n"),
        "good",
        "",
    );
    let excluded =
        "basicConstraints=critical,CA:TRUE\nnameConstraints=critical,excluded;dirName:dn\n[dn]\nCN=s-excluded\n";
    row("name constraints that exclude the signer", ca("excluded", excluded), "outside the constraints", "");
    let permitted =
        "basicConstraints=critical,CA:TRUE\nnameConstraints=critical,permitted;dirName:dn\n[dn]\nCN=elsewhere\n";
    row("name constraints that permit others", ca("others", permitted), "outside the constraints", "");
    let why = "webpki compares no directory names with constraints: it refuses every one";
    let permitted =
        "basicConstraints=critical,CA:TRUE\nnameConstraints=critical,permitted;dirName:dn\n[dn]\nCN=s-permitted\n";
    row("name constraints that permit the signer", ca("permitted", permitted), "outside the constraints", why);
    let unrelated = "basicConstraints=critical,CA:TRUE\nnameConstraints=critical,permitted;DNS:example.com\n";
    row("name constraints on names it has none of", ca("dns", unrelated), "good", "");

    // The same authority, and what can be wrong around it.
    let token = pki.sign(&info_der(DATA), "s-between", "s-between", &["-cades"]);
    table.row("the authority between is not in the token", Given::new(token, "root.pem", "s-between"), "no path", "");
    let why = "RFC 5280 6.1.1: an anchor is a name and a key, it need not be self-signed; openssl wants -partial_chain";
    let token = pki.sign(&info_der(DATA), "s-between", "s-between", &["-cades"]);
    table.row(
        "the verifier's root is the authority between",
        Given::new(token, "between.pem", "s-between"),
        "good",
        why,
    );
    table.end();
}

#[test]
fn roots_have_the_verdict_of_openssl_or_a_reason() {
    let pki = Pki::new();
    pki.cert(&Cert::ca("root", ""));
    pki.cert(&Cert::signer("signer", "root"));
    let mut table = Table::new(&pki);
    let token = pki.sign(&info_der(DATA), "signer", "signer", &["-cades"]);
    pki.cert(&Cert::ca("other", ""));
    table.row("another root", Given::new(token.clone(), "other.pem", "signer"), "no path", "");
    pki.cert(&Cert { subject: "/CN=root", ..Cert::ca("twin", "") });
    table.row(
        "a root of the same name, another key",
        Given::new(token.clone(), "twin.pem", "signer"),
        "not signed by its issuer",
        "",
    );
    let both = pki.bundle("both.pem", &["twin", "other", "root"]);
    table.row("the right root among others", Given::new(token, &both, "signer"), "good", "");
    let with_root = pki.sign(&info_der(DATA), "signer", "signer", &["-cades", "-certfile", "root.pem"]);
    table.row("the root is in the token too", Given::new(with_root, "root.pem", "signer"), "good", "");

    let mut row = |name: &str, root: Cert<'_>, expected: &str, why: &str| {
        let (signer, file) = (format!("s-{}", root.name), format!("{}.pem", root.name));
        pki.cert(&root);
        let token = signed(&pki, &Cert::signer(&signer, root.name), &[]);
        table.row(name, Given::new(token, &file, &signer), expected, why);
    };
    let ca = |name, extensions| Cert { extensions, ..Cert::ca(name, "") };
    row(
        "root expired at the token's time",
        Cert { to: "20250101000000Z", ..Cert::ca("old", "") },
        "root CN=old was not valid",
        "",
    );
    row("root not yet valid", Cert { from: "20250701000000Z", ..Cert::ca("new", "") }, "root CN=new was not valid", "");
    row("root with CA:FALSE", ca("false", "basicConstraints=CA:FALSE\n"), "not that of a certification authority", "");
    row(
        "root whose key usage lacks keyCertSign",
        ca("usage", "basicConstraints=CA:TRUE\nkeyUsage=cRLSign\n"),
        "does not allow it to issue",
        "",
    );
    let why = "a root of version 3 says that it is one; openssl takes its key usage for it";
    row(
        "root without basic constraints",
        ca("bare", "keyUsage=keyCertSign\n"),
        "not that of a certification authority",
        why,
    );
    let named = "basicConstraints=critical,CA:TRUE\nnameConstraints=critical,excluded;dirName:dn\n[dn]\nCN=s-named\n";
    row("root whose name constraints exclude the signer", ca("named", named), "outside the constraints", "");

    // How many authorities may stand below.
    let zero = "basicConstraints=critical,CA:TRUE,pathlen:0\n";
    pki.cert(&ca("zero", zero));
    let token = below(&pki, &Cert::ca("one", "zero"), &Cert::signer("s-one", "one"));
    table.row(
        "an authority below a root of path length 0",
        Given::new(token, "zero.pem", "s-one").above("one.pem"),
        "that allows fewer",
        "",
    );
    pki.cert(&Cert { extensions: zero, ..Cert::ca("upper", "root") });
    pki.cert(&Cert::ca("lower", "upper"));
    let between = pki.bundle("between.pem", &["upper", "lower"]);
    let token = signed(&pki, &Cert::signer("s-lower", "lower"), &["-certfile", &between]);
    table.row(
        "two authorities, the upper of path length 0",
        Given::new(token, "root.pem", "s-lower").above(&between),
        "more authorities",
        "",
    );

    let alone = Cert { issuer: "", extensions: STAMPS, ..Cert::ca("alone", "") };
    let token = signed(&pki, &alone, &[]);
    table.row("a signer that is its own root", Given::new(token, "alone.pem", "alone"), "good", "");
    pki.cert(&Cert { extensions: CA, ..Cert::ca("p384-root", "") });
    let token =
        signed(&pki, &Cert { digest: "sha384", ..Cert::signer("p384-signer", "p384-root") }, &["-md", "sha384"]);
    table.row("P-384 and SHA-384 throughout", Given::new(token, "p384-root.pem", "p384-signer"), "good", "");
    let token = pki.sign(&info_der(DATA), "signer", "signer", &["-cades"]);
    table.row("chain of a later day", Given::new(token, "root.pem", "signer").at(TIME_SECONDS + 86_400), "good", "");
    table.end();
}
