//! One certificate: its bytes as they stand, and what they say.
//!
//! Not a path: see `path`. Who may sign time stamps: RFC 3161 section 2.3.

use der::asn1::ObjectIdentifier;
use der::oid::AssociatedOid;
use der::{Decode, Encode};
use rustls_pki_types::CertificateDer;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName};

use super::Rejected;

/// id-kp-timeStamping
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// Characters of a subject that are shown, at most.
const SUBJECT_CHARS_MAX: usize = 200;

/// A certificate that could be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Certificate {
    bytes: Vec<u8>,
    read: x509_cert::Certificate,
}

impl Certificate {
    pub(super) fn read(bytes: &[u8]) -> Result<Certificate, Rejected> {
        let read = x509_cert::Certificate::from_der(bytes).map_err(Rejected::form("certificate"))?;
        Ok(Certificate { bytes: bytes.to_vec(), read })
    }

    pub(super) fn der(&self) -> CertificateDer<'_> {
        CertificateDer::from(self.bytes.as_slice())
    }

    pub(super) fn tbs(&self) -> &x509_cert::TbsCertificate {
        &self.read.tbs_certificate
    }

    /// On one line (RFC 4514), cut and without what a terminal would obey: anyone may have written it.
    pub(super) fn subject(&self) -> String {
        printable(&self.tbs().subject.to_string())
    }

    /// Whether `name` is one of its names.
    pub(super) fn is_named(&self, name: &GeneralName) -> bool {
        let is_subject = matches!(name, GeneralName::DirectoryName(name) if *name == self.tbs().subject);
        let alternatives = || self.extension::<SubjectAltName>().ok().flatten();
        is_subject || alternatives().is_some_and(|(_, names)| names.0.contains(name))
    }

    /// The extension of a type, and whether it is critical.
    pub(super) fn extension<'a, T: Decode<'a> + AssociatedOid>(&'a self) -> Result<Option<(bool, T)>, Rejected> {
        self.tbs().get().map_err(|error| Rejected::certificate(self, format!("an extension {}: {error}", T::OID)))
    }

    /// It may sign time stamps and nothing else.
    pub(super) fn may_stamp(&self) -> Result<(), Rejected> {
        let refuse = |why: &str| Err(Rejected::certificate(self, why));
        match self.extension::<ExtendedKeyUsage>()? {
            None => return refuse("no extended key usage: it may not sign time stamps"),
            Some((false, _)) => return refuse("its extended key usage is not critical"),
            Some((true, purposes)) if purposes.0 != [TIME_STAMPING] => {
                return refuse("its extended key usage is not timeStamping alone");
            }
            Some(_) => {}
        }
        let signing = KeyUsages::DigitalSignature | KeyUsages::NonRepudiation;
        match self.extension::<KeyUsage>()? {
            Some((_, usage)) if usage.0.is_empty() || !(usage.0 - signing).is_empty() => {
                refuse("its key usage is not signing alone")
            }
            _ => Ok(()),
        }
    }

    /// It may issue certificates, as far as it says itself.
    pub(super) fn may_issue(&self) -> Result<(), Rejected> {
        if let Some((_, usage)) = self.extension::<KeyUsage>()?
            && !usage.key_cert_sign()
        {
            return Err(Rejected::certificate(self, "its key usage does not allow it to issue certificates"));
        }
        let constraints = self.extension::<BasicConstraints>()?;
        let is_ca = constraints.is_some_and(|(_, constraints)| constraints.ca);
        // Version 1 has no extensions; who gives one as his root says that it is a CA.
        if !is_ca && self.tbs().version != Version::V1 {
            return Err(Rejected::certificate(self, "not that of a certification authority"));
        }
        Ok(())
    }

    /// How many certification authorities may stand between it and a signer.
    pub(super) fn path_len_max(&self) -> Result<Option<u8>, Rejected> {
        let constraints = self.extension::<BasicConstraints>()?;
        Ok(constraints.and_then(|(_, constraints)| constraints.path_len_constraint))
    }

    /// The DER of its issuer and serial number, which name it (RFC 5652 section 10.2.4).
    pub(super) fn is_issued(&self, issuer: &x509_cert::name::Name, serial: &impl Encode) -> bool {
        let tbs = self.tbs();
        tbs.issuer == *issuer && tbs.serial_number.to_der().is_ok_and(|own| serial.to_der() == Ok(own))
    }
}

/// A text from outside, for one line on a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARS_MAX).collect()
}
