//! The table: one row a token, our verdict beside that of `openssl`.

use aws_lc_rs::digest;
use pinfold::core::hash::Hash;
use pinfold::core::timestamp::{Query, Roots, Token};

use super::DATA;
use crate::pki::{Pki, TIME_SECONDS};

/// What is looked at.
pub(crate) struct Given<'a> {
    pub(crate) token: Vec<u8>,
    /// The PEM file of roots.
    pub(crate) roots: &'a str,
    /// The signer's certificate and the file of those between, for `openssl verify`; none where that has nothing to say.
    pub(crate) chain: Option<(&'a str, &'a str)>,
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// The query and the answer around the token, where there are any.
    pub(crate) exchange: Option<(Query, Vec<u8>)>,
}

impl<'a> Given<'a> {
    pub(crate) fn new(token: Vec<u8>, roots: &'a str, signer: &'a str) -> Given<'a> {
        Given { token, roots, chain: Some((signer, "")), at: TIME_SECONDS, exchange: None }
    }

    pub(crate) fn of_token(token: Vec<u8>) -> Given<'static> {
        Given { token, roots: "root.pem", chain: None, at: TIME_SECONDS, exchange: None }
    }

    pub(crate) fn above(self, between: &'a str) -> Given<'a> {
        Given { chain: self.chain.map(|(signer, _)| (signer, between)), ..self }
    }

    pub(crate) fn at(self, seconds: u64) -> Given<'a> {
        Given { at: seconds, ..self }
    }
}

/// The rows so far, and what is wrong with them.
pub(crate) struct Table<'a> {
    pub(crate) pki: &'a Pki,
    rows: Vec<String>,
    faults: Vec<String>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(pki: &'a Pki) -> Table<'a> {
        Table { pki, rows: Vec::new(), faults: Vec::new() }
    }

    /// Adds a row whose verdict must be ours: `good`, or words of the refusal. Where openssl differs, `why` says so.
    pub(crate) fn row(&mut self, name: &str, given: Given<'_>, expected: &str, why: &str) {
        let (ts, chain, ours) = (self.openssl_ts(&given), self.openssl_verify(&given), self.ours(&given));
        let is_expected = match &ours {
            Ok(()) => expected == "good",
            Err(reason) => expected != "good" && reason.contains(expected),
        };
        if !is_expected {
            self.faults.push(format!("{name}: expected {expected}, found {ours:?}"));
        }
        if ts.is_ok() != ours.is_ok() && why.is_empty() {
            self.faults.push(format!("{name}: openssl ts says {ts:?}, we say {ours:?}"));
        }
        if chain.as_ref().is_some_and(Result::is_err) && ours.is_ok() && why.is_empty() {
            self.faults.push(format!("{name}: openssl verify says {chain:?}, we say good"));
        }
        let word = |verdict: &Result<(), String>| if verdict.is_ok() { "good" } else { "bad" };
        let chain = chain.as_ref().map_or("-", word);
        let reason = ours.as_ref().err().map_or("", String::as_str);
        self.rows.push(format!("{name:<52} {:<5} {chain:<5} {:<5} {reason}", word(&ts), word(&ours)));
        if let Err(reason) = &ts {
            self.rows.push(format!("{:>58} openssl ts: {reason}", ""));
        }
        if !why.is_empty() {
            self.rows.push(format!("{:>58} differs: {why}", ""));
        }
    }

    fn openssl_ts(&self, given: &Given<'_>) -> Result<(), String> {
        let at = given.at.to_string();
        let digest = hex::encode(digest::digest(&digest::SHA256, DATA));
        let mut args = vec!["ts", "-verify", "-CAfile", given.roots, "-attime", &at, "-in", "row.der"];
        match &given.exchange {
            Some((query, reply)) => {
                self.pki.write("row.tsq", query.bytes());
                self.pki.write("row.der", reply);
                args.extend(["-queryfile", "row.tsq"]);
            }
            None => {
                self.pki.write("row.der", &given.token);
                args.extend(["-digest", &digest, "-token_in"]);
            }
        }
        self.pki.verdict(&args)
    }

    fn openssl_verify(&self, given: &Given<'_>) -> Option<Result<(), String>> {
        let (signer, between) = given.chain?;
        let (signer, at) = (format!("{signer}.pem"), given.at.to_string());
        let mut args = vec!["verify", "-purpose", "timestampsign", "-CAfile", given.roots, "-attime", &at];
        if !between.is_empty() {
            args.extend(["-untrusted", between]);
        }
        args.push(&signer);
        Some(self.pki.verdict(&args))
    }

    fn ours(&self, given: &Given<'_>) -> Result<(), String> {
        let roots = Roots::read(&self.pki.read(given.roots)).map_err(|rejected| rejected.to_string())?;
        let token = match &given.exchange {
            Some((query, reply)) => query.accept(reply).map(|(token, _)| token),
            None => Token::open(&given.token).and_then(|token| token.covers(Hash::of(DATA)).map(|()| token)),
        };
        token.and_then(|token| token.vouched_by(&roots)).map(|_| ()).map_err(|rejected| rejected.to_string())
    }

    /// Prints the table, and fails where a row is not as it must be.
    pub(crate) fn end(self) {
        println!("{:<52} {:<5} {:<5} {:<5}", "token or chain", "ts", "verif", "ours");
        self.rows.iter().for_each(|row| println!("{row}"));
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
    }
}

#[test]
fn the_table_catches_a_verdict_that_differs_without_a_reason() {
    let pki = Pki::new();
    pki.cert(&crate::pki::Cert::ca("root", ""));
    pki.cert(&crate::pki::Cert::signer("signer", "root"));
    let token = pki.sign(&crate::pki::info_der(DATA), "signer", "signer", &["-cades"]);
    let mut changed = token.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let mut table = Table::new(&pki);
    table.row("sound, said to be bad", Given::of_token(token), "signature", "");
    table.row("changed, said to be good", Given::of_token(changed), "good", "");
    assert_eq!(table.faults.len(), 2, "{:?}", table.faults);
}
