//! From a token's signer to a root of the verifier's, at the token's time.
//!
//! rustls-webpki builds and validates the path (RFC 5280 section 6). It reduces a root to name, key and name constraints
//! and leaves key usage to the caller; what is lost by that is refused here, so that nothing OpenSSL refuses is taken.
//! No revocation lists: whoever needs them asks the authority.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::signed::ALGORITHMS;
use super::{Rejected, Token};
use crate::core::time::Timestamp;

/// Certificates in one file of roots, at most: a list of all public ones has some hundred.
const ROOTS_MAX: usize = 1_000;
/// id-kp-timeStamping, as the content of an OBJECT IDENTIFIER.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// The certificates a verifier trusts to name time-stamp authorities. He brings them; none is built in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roots(Arc<Vec<Certificate>>);

impl Roots {
    /// Reads a file: PEM with any number of certificates, or one certificate in DER.
    ///
    /// # Errors
    /// Where there is none, one cannot be read, or there are more than `ROOTS_MAX`.
    pub fn read(file: &[u8]) -> Result<Roots, Rejected> {
        let place = "file of roots";
        let ders: Vec<CertificateDer<'_>> = if file.first() == Some(&0x30) {
            vec![CertificateDer::from(file)]
        } else {
            let blocks = CertificateDer::pem_slice_iter(file).take(ROOTS_MAX + 1);
            blocks.collect::<Result<_, _>>().map_err(|error| Rejected::malformed(place, &error.to_string()))?
        };
        Rejected::beyond("roots", ders.len(), ROOTS_MAX)?;
        if ders.is_empty() {
            return Err(Rejected::malformed(place, "no certificate in it"));
        }
        let roots = ders.iter().map(|der| {
            let root = Certificate::read(der)?;
            anchor_from_trusted_cert(der).map_err(|error| Rejected::certificate(&root, why(&error)))?;
            Ok(root)
        });
        Ok(Roots(Arc::new(roots.collect::<Result<_, _>>()?)))
    }

    /// All of several files.
    pub fn all(of: impl IntoIterator<Item = Roots>) -> Roots {
        Roots(Arc::new(of.into_iter().flat_map(|roots| roots.0.to_vec()).collect()))
    }
}

/// What a token shows to somebody who trusts a root above it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vouched {
    /// The subject of the signing certificate, on one line.
    pub authority: String,
    /// When the bytes existed, by that authority's clock.
    pub time: Timestamp,
    /// How far from it the time may be, both ways, in microseconds; `None` where the authority does not say.
    pub accuracy_micros: Option<u64>,
}

impl Token {
    /// Asks for a path from its signer to one of `roots` that held at the token's time.
    ///
    /// # Errors
    /// `UnknownAuthority` where no path leads to a root; else what is wrong with the last one tried.
    pub fn vouched_by(&self, roots: &Roots) -> Result<Vouched, Rejected> {
        let at = UnixTime::since_unix_epoch(Duration::from_micros(self.info.time.0));
        let unread = |certificate, error| Rejected::certificate(certificate, why(&error));
        let signer = self.signer.der();
        let end = EndEntityCert::try_from(&signer).map_err(|error| unread(&self.signer, error))?;
        let ders: Vec<_> = roots.0.iter().map(Certificate::der).collect();
        let anchors = ders.iter().zip(roots.0.iter());
        let anchors = anchors.map(|(der, root)| anchor_from_trusted_cert(der).map_err(|error| unread(root, error)));
        let anchors = anchors.collect::<Result<Vec<_>, _>>()?;
        let others: Vec<_> = self.others.iter().map(Certificate::der).collect();
        let algorithms = ALGORITHMS.map(|(_, algorithm)| algorithm);
        let refused = RefCell::new(None);
        let strict = |path: &VerifiedPath<'_>| {
            let root = anchors.iter().zip(roots.0.iter()).find(|(anchor, _)| std::ptr::eq(*anchor, path.anchor()));
            let checked = root.map_or(Ok(()), |(_, root)| self.check_path(path, root));
            checked.map_err(|rejected| {
                refused.replace(Some(rejected));
                Error::CertDistrusted
            })
        };
        let usage = KeyUsage::required_if_present(TIME_STAMPING);
        match end.verify_for_usage(&algorithms, &anchors, &others, at, usage, None, Some(&strict)) {
            Ok(_) => Ok(Vouched {
                authority: self.signer.subject(),
                time: self.info.time,
                accuracy_micros: self.info.accuracy_micros,
            }),
            Err(Error::UnknownIssuer) => Err(Rejected::UnknownAuthority { signer: self.signer.subject() }),
            Err(error) => Err(refused.take().unwrap_or_else(|| self.refuse_path(why(&error)))),
        }
    }

    /// What is asked of a path besides RFC 5280: of its root as a certificate, of key usages, of the token's own list.
    fn check_path(&self, path: &VerifiedPath<'_>, root: &Certificate) -> Result<(), Rejected> {
        let mut certificates = vec![self.signer.clone()];
        for issuer in path.intermediate_certificates() {
            let issuer = Certificate::read(&issuer.der())?;
            issuer.may_issue()?;
            certificates.push(issuer);
        }
        let issuers = certificates.len() - 1;
        if *root != self.signer {
            root.may_issue()?;
            if root.path_len_max()?.is_some_and(|max| issuers > usize::from(max)) {
                return Err(self.refuse_path(format!("{issuers} authorities below a root that allows fewer")));
            }
        }
        let validity = root.tbs().validity;
        let seconds = self.info.time.0 / 1_000_000;
        let bounds = [validity.not_before, validity.not_after].map(|time| time.to_unix_duration().as_secs());
        if !(bounds[0]..=bounds[1]).contains(&seconds) {
            return Err(self.refuse_path(format!("the root {} was not valid", root.subject())));
        }
        certificates.push(root.clone());
        let is_in_path = |named: &super::ess::Named| certificates.iter().any(|certificate| named.is(certificate));
        if !self.named.iter().flatten().all(is_in_path) {
            return Err(self.refuse_path("the signer names a certificate that is not in it".to_owned()));
        }
        Ok(())
    }

    fn refuse_path(&self, why: String) -> Rejected {
        Rejected::Path { signer: self.signer.subject(), time: self.info.time.to_string(), why }
    }
}

/// What webpki says, for people.
pub(super) fn why(error: &Error) -> String {
    let text = match error {
        Error::CertExpired { .. } => "a certificate had expired",
        Error::CertNotValidYet { .. } => "a certificate was not valid yet",
        Error::InvalidSignatureForPublicKey => "a certificate is not signed by its issuer",
        Error::EndEntityUsedAsCa => "an issuer is not a certification authority",
        Error::CaUsedAsEndEntity => "the signer is a certification authority",
        Error::PathLenConstraintViolated => "more authorities than one of them allows",
        Error::NameConstraintViolation => "a name outside the constraints of an issuer",
        Error::RequiredEkuNotFoundContext(_) => "an issuer is not for time stamps",
        Error::UnsupportedCriticalExtension => "a critical extension that is not understood",
        Error::UnsupportedCertVersion => "not a certificate of version 3",
        Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "an algorithm or key that is not supported"
        }
        other => return format!("{other:?}"),
    };
    text.to_owned()
}
