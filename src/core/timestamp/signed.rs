//! The SignedData around a TSTInfo: one signer, his attributes, his signature.
//!
//! Where the standards leave a choice that no authority we know makes, the choice is refused: signers named by key
//! identifier, several signers, no attributes. Spec: RFC 5652 section 5; RFC 3161 section 2.4.2.

use aws_lc_rs::digest::{self, Algorithm};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{EncapsulatedContentInfo, SignedAttributes, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetStringRef, SetOfVec};
use der::{Any, AnyRef, Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::EndEntityCert;
use webpki::aws_lc_rs as suite;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::certificate::Certificate;
use super::ess::{self, Named};
use super::{CERTIFICATES_MAX, Rejected};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// id-ct-TSTInfo
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// What signs tokens and certificates, and the digest of the attributes that goes with it (of Ed25519: RFC 8419). SHA-1,
/// RSA keys below 2048 bits, DSA and Ed448 are not among it.
pub(super) static ALGORITHMS: [(ObjectIdentifier, &dyn SignatureVerificationAlgorithm); 19] = [
    (SHA_256, suite::RSA_PKCS1_2048_8192_SHA256),
    (SHA_384, suite::RSA_PKCS1_2048_8192_SHA384),
    (SHA_512, suite::RSA_PKCS1_2048_8192_SHA512),
    (SHA_256, suite::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS),
    (SHA_384, suite::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS),
    (SHA_512, suite::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS),
    (SHA_256, suite::RSA_PSS_2048_8192_SHA256_LEGACY_KEY),
    (SHA_384, suite::RSA_PSS_2048_8192_SHA384_LEGACY_KEY),
    (SHA_512, suite::RSA_PSS_2048_8192_SHA512_LEGACY_KEY),
    (SHA_256, suite::ECDSA_P256_SHA256),
    (SHA_384, suite::ECDSA_P256_SHA384),
    (SHA_512, suite::ECDSA_P256_SHA512),
    (SHA_256, suite::ECDSA_P384_SHA256),
    (SHA_384, suite::ECDSA_P384_SHA384),
    (SHA_512, suite::ECDSA_P384_SHA512),
    (SHA_256, suite::ECDSA_P521_SHA256),
    (SHA_384, suite::ECDSA_P521_SHA384),
    (SHA_512, suite::ECDSA_P521_SHA512),
    (SHA_512, suite::ED25519),
];

/// A SignedData of one signer whose content is a TSTInfo.
pub(super) struct Signed {
    /// The TSTInfo.
    pub(super) content: Vec<u8>,
    pub(super) certificates: Vec<Certificate>,
    signer: SignerInfo,
    attributes: SignedAttributes,
}

impl Signed {
    pub(super) fn read(der: &[u8]) -> Result<Signed, Rejected> {
        let outer = ContentInfo::from_der(der).map_err(Rejected::form("token"))?;
        if outer.content_type != SIGNED_DATA {
            return Err(Rejected::differs("token", "SignedData", outer.content_type));
        }
        let fields = outer.content.sequence(Fields::decode).map_err(Rejected::form("SignedData"))?;
        if fields.version != CmsVersion::V3 {
            return Err(Rejected::malformed("SignedData", "another version than 3"));
        }
        if fields.content.econtent_type != TST_INFO {
            return Err(Rejected::differs("content", "TSTInfo", fields.content.econtent_type));
        }
        let content = fields.content.econtent.as_ref();
        let content = content.ok_or_else(|| Rejected::malformed("content", "it is not there"))?;
        let content = content.decode_as::<OctetStringRef<'_>>().map_err(Rejected::form("content"))?;
        Rejected::beyond("certificates", fields.certificates.len(), CERTIFICATES_MAX)?;
        let certificates =
            fields.certificates.iter().map(|bytes| Certificate::read(bytes)).collect::<Result<_, _>>()?;
        let [signer] = fields.signers.as_slice() else {
            return Err(Rejected::differs("signers", 1, fields.signers.len()));
        };
        let signer = read_signer(signer)?;
        if !fields.digests.iter().any(|digest| digest.oid == signer.digest_alg.oid) {
            return Err(Rejected::differs("digest algorithms", signer.digest_alg.oid, "others"));
        }
        let attributes = signer.signed_attrs.clone();
        let attributes = attributes.ok_or_else(|| Rejected::malformed("SignerInfo", "no signed attributes"))?;
        Ok(Signed { content: content.as_bytes().to_vec(), certificates, signer, attributes })
    }

    /// Whether the signer is said to be that of this certificate.
    pub(super) fn is_by(&self, certificate: &Certificate) -> bool {
        match &self.signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(id) => certificate.is_issued(&id.issuer, &id.serial_number),
            SignerIdentifier::SubjectKeyIdentifier(_) => false,
        }
    }

    /// The attributes are of this content, and the signature over them is by this key.
    pub(super) fn verify(&self, key: &EndEntityCert<'_>, signer: &Certificate) -> Result<(), Rejected> {
        let algorithm = &self.signer.digest_alg;
        let unsupported = || Rejected::unsupported("digest algorithm", algorithm.oid);
        let digest = digest_of(algorithm.oid).ok_or_else(unsupported)?;
        check_parameters("digest algorithm", algorithm)?;
        let content_type = self.attribute("contentType", CONTENT_TYPE)?;
        let content_type = content_type.decode_as::<ObjectIdentifier>().map_err(Rejected::form("contentType"))?;
        if content_type != TST_INFO {
            return Err(Rejected::differs("contentType", "TSTInfo", content_type));
        }
        let stated = self.attribute("messageDigest", MESSAGE_DIGEST)?;
        let stated = stated.decode_as::<OctetStringRef<'_>>().map_err(Rejected::form("messageDigest"))?;
        let found = digest::digest(digest, &self.content);
        if stated.as_bytes() != found.as_ref() {
            let [stated, found] = [stated.as_bytes(), found.as_ref()].map(hex::encode);
            return Err(Rejected::differs("messageDigest", stated, found));
        }
        // What is signed has the tag of a SET, and not the one it stands under in SignerInfo (RFC 5652 section 5.4).
        let message = self.attributes.to_der().map_err(Rejected::form("signed attributes"))?;
        for algorithm in self.algorithms()? {
            match key.verify_signature(algorithm, &message, self.signer.signature.as_bytes()) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
                Err(_) => return Err(Rejected::Signature { signer: signer.subject() }),
            }
        }
        Err(Rejected::unsupported("signature algorithm", self.signer.signature_algorithm.oid))
    }

    /// The lists of certificates in its signing-certificate attributes; at least one.
    pub(super) fn named(&self) -> Result<Vec<Vec<Named>>, Rejected> {
        let v1 = self.attribute_if_any("signingCertificate", ess::SIGNING_CERTIFICATE)?;
        let v2 = self.attribute_if_any("signingCertificateV2", ess::SIGNING_CERTIFICATE_V2)?;
        let named = v1.map(ess::read_v1).into_iter().chain(v2.map(ess::read_v2)).collect::<Result<Vec<_>, _>>()?;
        if named.is_empty() {
            return Err(Rejected::malformed("signed attributes", "none names the signing certificate"));
        }
        Ok(named)
    }

    /// What may have made the signature: the curve is the key's to say.
    fn algorithms(&self) -> Result<Vec<&'static dyn SignatureVerificationAlgorithm>, Rejected> {
        let (stated, digest) = (&self.signer.signature_algorithm, self.signer.digest_alg.oid);
        let of_digest = ALGORITHMS.iter().filter(|(of, _)| *of == digest).map(|(_, algorithm)| *algorithm);
        // OpenSSL names the key alone, and the digest is the attributes' (RFC 3370 section 3.2).
        if stated.oid == RSA_ENCRYPTION {
            check_parameters("signature algorithm", stated)?;
            return Ok(of_digest.take(1).collect());
        }
        let id = Any::encode_from(stated).map_err(Rejected::form("signature algorithm"))?;
        Ok(of_digest.filter(|algorithm| algorithm.signature_alg_id().as_ref() == id.value()).collect())
    }

    fn attribute(&self, name: &'static str, oid: ObjectIdentifier) -> Result<&Any, Rejected> {
        self.attribute_if_any(name, oid)?.ok_or_else(|| Rejected::malformed(name, "it is not there"))
    }

    /// The only value of the only attribute of a type.
    fn attribute_if_any(&self, name: &'static str, oid: ObjectIdentifier) -> Result<Option<&Any>, Rejected> {
        let mut found = self.attributes.iter().filter(|attribute| attribute.oid == oid);
        let Some(attribute) = found.next() else { return Ok(None) };
        match (attribute.values.as_slice(), found.next()) {
            ([value], None) => Ok(Some(value)),
            _ => Err(Rejected::malformed(name, "more than one value")),
        }
    }
}

fn read_signer(bytes: &[u8]) -> Result<SignerInfo, Rejected> {
    let signer = SignerInfo::from_der(bytes).map_err(Rejected::form("SignerInfo"))?;
    if !matches!(signer.sid, SignerIdentifier::IssuerAndSerialNumber(_)) {
        return Err(Rejected::unsupported("SignerInfo", "a signer named by key identifier"));
    }
    if signer.version != CmsVersion::V1 {
        return Err(Rejected::malformed("SignerInfo", "another version than 1"));
    }
    // The reader sorts sets; what is signed is what stands here.
    if signer.to_der().map_err(Rejected::form("SignerInfo"))? != bytes {
        return Err(Rejected::malformed("SignerInfo", "a set in another order"));
    }
    Ok(signer)
}

pub(super) fn digest_of(oid: ObjectIdentifier) -> Option<&'static Algorithm> {
    match oid {
        SHA_256 => Some(&digest::SHA256),
        SHA_384 => Some(&digest::SHA384),
        SHA_512 => Some(&digest::SHA512),
        _ => None,
    }
}

/// NULL or nothing.
pub(super) fn check_parameters(place: &'static str, algorithm: &AlgorithmIdentifierOwned) -> Result<(), Rejected> {
    if algorithm.parameters.as_ref().is_none_or(Any::is_null) {
        return Ok(());
    }
    Err(Rejected::malformed(place, "parameters"))
}

/// SignedData without its lists of revoked certificates. Certificates and signers stay bytes: their hashes and
/// signatures are over what stands here.
struct Fields<'a> {
    version: CmsVersion,
    digests: SetOfVec<AlgorithmIdentifierOwned>,
    content: EncapsulatedContentInfo,
    certificates: Vec<&'a [u8]>,
    signers: Vec<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn decode(reader: &mut SliceReader<'a>) -> der::Result<Fields<'a>> {
        let version = CmsVersion::decode(reader)?;
        let digests = SetOfVec::decode(reader)?;
        let content = EncapsulatedContentInfo::decode(reader)?;
        let certificates = implicit(reader, TagNumber::N0)?.map_or_else(|| Ok(Vec::new()), items)?;
        implicit(reader, TagNumber::N1)?;
        let signers = AnyRef::decode(reader)?;
        signers.tag().assert_eq(Tag::Set)?;
        Ok(Fields { version, digests, content, certificates, signers: items(signers)? })
    }
}

/// The field with this tag, if it is the next.
fn implicit<'a>(reader: &mut SliceReader<'a>, number: TagNumber) -> der::Result<Option<AnyRef<'a>>> {
    let is_next = reader.peek_tag()? == Tag::ContextSpecific { constructed: true, number };
    is_next.then(|| AnyRef::decode(reader)).transpose()
}

/// The bytes of each element.
fn items(set: AnyRef<'_>) -> der::Result<Vec<&[u8]>> {
    let mut reader = SliceReader::new(set.value())?;
    let mut items = Vec::new();
    while !reader.is_finished() {
        items.push(reader.tlv_bytes()?);
    }
    Ok(items)
}
