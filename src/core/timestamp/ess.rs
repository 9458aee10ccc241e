//! Which certificate a signer says is his: the signing-certificate attributes.
//!
//! Without them another certificate over the same key could be put into a token. The first named is the signer's, the
//! others stand in his path. Spec: RFC 2634 section 5.4 (SHA-1), RFC 5035 section 5.4 (any digest), RFC 5816.

use aws_lc_rs::digest::{self, Algorithm};
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Any, AnyRef, Decode, Reader, SliceReader, Tag};
use x509_cert::ext::pkix::name::{GeneralName, GeneralNames};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::certificate::Certificate;
use super::signed::{SHA_256, digest_of};
use super::{CERTIFICATES_MAX, Rejected};

pub(super) const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
pub(super) const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// One certificate, named by its digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    digest: Digest,
    hash: Vec<u8>,
    issued: Option<(Name, SerialNumber)>,
}

/// SHA-1 names a certificate here and signs nothing: a second certificate of the same digest would still have to verify
/// the signature and have a path of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Digest {
    Sha1,
    Sha2(ObjectIdentifier),
}

impl Digest {
    fn algorithm(self) -> Option<&'static Algorithm> {
        match self {
            Digest::Sha1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            Digest::Sha2(oid) => digest_of(oid),
        }
    }
}

impl Named {
    /// Whether it names `certificate`.
    pub(super) fn is(&self, certificate: &Certificate) -> bool {
        let Some(algorithm) = self.digest.algorithm() else { return false };
        let is_issued = |(issuer, serial): &(Name, SerialNumber)| certificate.is_issued(issuer, serial);
        digest::digest(algorithm, &certificate.der()).as_ref() == self.hash
            && self.issued.as_ref().is_none_or(is_issued)
    }
}

/// The list of a `signingCertificate`.
pub(super) fn read_v1(value: &Any) -> Result<Vec<Named>, Rejected> {
    read("signingCertificate", value, |_| Ok(Digest::Sha1))
}

/// The list of a `signingCertificateV2`.
pub(super) fn read_v2(value: &Any) -> Result<Vec<Named>, Rejected> {
    read("signingCertificateV2", value, |reader| {
        // Absent where it is the default.
        if reader.peek_tag()? == Tag::OctetString {
            return Ok(Digest::Sha2(SHA_256));
        }
        Ok(Digest::Sha2(AlgorithmIdentifierOwned::decode(reader)?.oid))
    })
}

fn read(
    place: &'static str,
    value: &Any,
    digest: impl Fn(&mut SliceReader<'_>) -> der::Result<Digest>,
) -> Result<Vec<Named>, Rejected> {
    let list = |reader: &mut SliceReader<'_>| {
        let certificates = AnyRef::decode(reader)?;
        // Policies may follow; they restrict what is asked of the path, and none is asked.
        if !reader.is_finished() {
            AnyRef::decode(reader)?;
        }
        certificates.sequence(|reader| {
            let mut named = Vec::new();
            while !reader.is_finished() && named.len() <= CERTIFICATES_MAX {
                named.push(AnyRef::decode(reader)?.sequence(|reader| read_one(reader, &digest))?);
            }
            Ok(named)
        })
    };
    let named = value.sequence(list).map_err(Rejected::form(place))?;
    if named.is_empty() {
        return Err(Rejected::malformed(place, "an empty list"));
    }
    Ok(named)
}

fn read_one(
    reader: &mut SliceReader<'_>,
    digest: impl Fn(&mut SliceReader<'_>) -> der::Result<Digest>,
) -> der::Result<Named> {
    let digest = digest(reader)?;
    let hash = OctetStringRef::decode(reader)?.as_bytes().to_vec();
    let issued = if reader.is_finished() { None } else { Some(AnyRef::decode(reader)?.sequence(read_issued)?) };
    Ok(Named { digest, hash, issued })
}

fn read_issued(reader: &mut SliceReader<'_>) -> der::Result<(Name, SerialNumber)> {
    let names = GeneralNames::decode(reader)?;
    let serial = SerialNumber::decode(reader)?;
    match names.as_slice() {
        [GeneralName::DirectoryName(name)] => Ok((name.clone(), serial)),
        _ => Err(der::ErrorKind::Failed.into()),
    }
}
