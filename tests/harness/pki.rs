//! Certificates and time-stamp tokens made by the `openssl` command, good and bad, and its verdict on them.
//!
//! Keys are made once a name; every time is given, so nothing depends on the day the tests run. Of a token only what
//! `openssl ts` and `openssl cms` cannot write is put together here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use der::Encode;
use der::asn1::{GeneralizedTime, Int, ObjectIdentifier, OctetString};
use x509_tsp::{MessageImprint, TspVersion, TstInfo};

/// A directory of keys and certificates.
pub(crate) struct Pki {
    dir: tempfile::TempDir,
    keys: Mutex<BTreeSet<String>>,
}

/// A certificate to be made.
#[derive(Clone)]
pub(crate) struct Cert<'a> {
    /// Its file, and its key unless `key` says another.
    pub(crate) name: &'a str,
    pub(crate) key: &'a str,
    pub(crate) subject: &'a str,
    /// The file of its issuer; itself where empty.
    pub(crate) issuer: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// The lines of an extension section.
    pub(crate) extensions: &'a str,
    pub(crate) digest: &'a str,
    /// Decimal; a random one where empty.
    pub(crate) serial: &'a str,
}

pub(crate) const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
pub(crate) const STAMPS: &str = "basicConstraints=CA:FALSE\nextendedKeyUsage=critical,timeStamping\n";
/// 2025-06-01T12:00:00Z, the time of the tokens made here, in seconds since 1970.
pub(crate) const TIME_SECONDS: u64 = 1_748_779_200;

impl<'a> Cert<'a> {
    pub(crate) fn ca(name: &'a str, issuer: &'a str) -> Cert<'a> {
        Cert { extensions: CA, ..Cert::signer(name, issuer) }
    }

    pub(crate) fn signer(name: &'a str, issuer: &'a str) -> Cert<'a> {
        Cert {
            name,
            key: name,
            subject: "",
            issuer,
            from: "20240101000000Z",
            to: "20440101000000Z",
            extensions: STAMPS,
            digest: "sha256",
            serial: "",
        }
    }
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nunique_subject=no\npolicy=p\n\
                      default_days=1\nserial=serial\nstring_mask=utf8only\n[p]\ncommonName=supplied\norganizationName=optional\n";
        let pki = Pki { dir, keys: Mutex::default() };
        pki.write("ca.cnf", config.as_bytes());
        pki.write("index.txt", b"");
        pki
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs `openssl` in the directory.
    pub(crate) fn openssl(&self, args: &[&str]) -> Output {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).env_remove("OPENSSL_CONF");
        command.output().unwrap()
    }

    /// The same for what must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> Vec<u8> {
        let output = self.openssl(args);
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A key file. Its algorithm is the part of its name before a dash: `rsa1024`, `rsa2048`, `p384`, `p521`, `ed25519`;
    /// any other name is of a P-256 key.
    pub(crate) fn key(&self, name: &str) -> String {
        let file = format!("{name}.key");
        if !self.keys.lock().unwrap().insert(name.to_owned()) {
            return file;
        }
        let curve = |curve| {
            vec!["-algorithm".to_owned(), "EC".to_owned(), "-pkeyopt".to_owned(), format!("ec_paramgen_curve:{curve}")]
        };
        let algorithm = match name.split('-').next().unwrap() {
            rsa if rsa.starts_with("rsa") => {
                let bits = format!("rsa_keygen_bits:{}", &rsa[3..]);
                vec!["-algorithm".to_owned(), "RSA".to_owned(), "-pkeyopt".to_owned(), bits]
            }
            "p384" => curve("P-384"),
            "p521" => curve("P-521"),
            "ed25519" => vec!["-algorithm".to_owned(), "ED25519".to_owned()],
            _ => curve("P-256"),
        };
        let mut args = vec!["genpkey", "-out", &file];
        args.extend(algorithm.iter().map(String::as_str));
        self.run(&args);
        file
    }

    /// Makes a certificate: `NAME.pem`.
    pub(crate) fn cert(&self, cert: &Cert<'_>) {
        let key = self.key(cert.key);
        let own = format!("/CN={}", cert.name);
        let subject = if cert.subject.is_empty() { &own } else { cert.subject };
        let [request, out, extensions] = ["csr", "pem", "ext"].map(|ending| format!("{}.{ending}", cert.name));
        self.write(&extensions, cert.extensions.as_bytes());
        self.run(&["req", "-new", "-utf8", "-key", &key, "-subj", subject, "-out", &request]);
        let mut args = vec!["ca", "-batch", "-notext", "-config", "ca.cnf", "-in", &request, "-out", &out];
        args.extend(["-startdate", cert.from, "-enddate", cert.to, "-extfile", &extensions, "-md", cert.digest]);
        if cert.serial.is_empty() {
            args.push("-rand_serial");
        } else {
            self.write("serial", cert.serial.as_bytes());
            // One number twice is what openssl refuses and some tests want.
            self.write("index.txt", b"");
        }
        let (issuer, issuer_key);
        if cert.issuer.is_empty() {
            args.extend(["-selfsign", "-keyfile", &key]);
        } else {
            (issuer, issuer_key) = (format!("{}.pem", cert.issuer), format!("{}.key", cert.issuer));
            args.extend(["-cert", &issuer, "-keyfile", &issuer_key]);
        }
        self.run(&args);
    }

    /// The DER of a certificate.
    pub(crate) fn der(&self, name: &str) -> Vec<u8> {
        self.run(&["x509", "-in", &format!("{name}.pem"), "-outform", "DER"])
    }

    /// Several certificates in one file.
    pub(crate) fn bundle(&self, file: &str, names: &[&str]) -> String {
        let all: Vec<u8> = names.iter().flat_map(|name| self.read(&format!("{name}.pem"))).collect();
        self.write(file, &all);
        file.to_owned()
    }

    /// A token over `info` by `openssl cms`, with these further arguments.
    pub(crate) fn sign(&self, info: &[u8], signer: &str, key: &str, more: &[&str]) -> Vec<u8> {
        self.write("info.der", info);
        let (signer, key) = (format!("{signer}.pem"), format!("{key}.key"));
        let content = "1.2.840.113549.1.9.16.1.4";
        let mut args =
            vec!["cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-outform", "DER", "-in", "info.der"];
        args.extend(["-signer", &signer, "-inkey", &key, "-out", "token.der"]);
        if !more.contains(&"-econtent_type") {
            args.extend(["-econtent_type", content]);
        }
        args.extend(more);
        self.run(&args);
        self.read("token.der")
    }

    /// The answer of `openssl ts` to a query, with these lines in its configuration.
    pub(crate) fn reply(&self, query: &[u8], signer: &str, key: &str, lines: &str) -> Vec<u8> {
        let [config_file, query_file, serial, out] =
            ["cnf", "tsq", "serial", "tsr"].map(|ending| format!("ts-{signer}.{ending}"));
        self.write(&query_file, query);
        let config = format!(
            "[tsa]\ndefault_tsa=t\n[t]\nserial={serial}\nsigner_cert={signer}.pem\nsigner_key={key}.key\n\
             default_policy=1.2.3.4.1\ndigests=sha256,sha512\nsigner_digest=sha256\n{lines}\n"
        );
        self.write(&config_file, config.as_bytes());
        self.run(&["ts", "-reply", "-config", &config_file, "-queryfile", &query_file, "-out", &out]);
        self.read(&out)
    }

    /// Whether a command of openssl says yes, and the first line of what it says otherwise.
    pub(crate) fn verdict(&self, args: &[&str]) -> Result<(), String> {
        let output = self.openssl(args);
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        // THREAD:error:CODE:library:function:reason:file:line:more, or from `verify` "error NUMBER ...: reason".
        let reason = said.lines().find_map(|line| match line.split_once("Verify error:") {
            Some((_, reason)) => Some(reason),
            None if line.starts_with("error ") => line.rsplit(": ").next(),
            None => line.split_once(":error:")?.1.split(':').nth(3),
        });
        Err(reason.unwrap_or("refused").to_owned())
    }
}

/// A TSTInfo over these bytes at `TIME`, with a nonce or without.
pub(crate) fn info(data: &[u8], nonce: Option<&[u8]>) -> TstInfo {
    let imprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
    TstInfo {
        version: TspVersion::V1,
        policy: ObjectIdentifier::new_unwrap("1.2.3.4.1"),
        message_imprint: MessageImprint {
            hash_algorithm: x509_cert::spki::AlgorithmIdentifierOwned {
                oid: ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
                parameters: Some(der::Any::null()),
            },
            hashed_message: OctetString::new(imprint.as_ref()).unwrap(),
        },
        serial_number: Int::new(&[7]).unwrap(),
        gen_time: GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(TIME_SECONDS)).unwrap(),
        accuracy: None,
        ordering: false,
        nonce: nonce.map(|nonce| Int::new(nonce).unwrap()),
        tsa: None,
        extensions: None,
    }
}

/// Its bytes.
pub(crate) fn info_der(data: &[u8]) -> Vec<u8> {
    info(data, None).to_der().unwrap()
}
