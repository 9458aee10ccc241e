//! Time-stamp tokens: an authority's signed word that some bytes existed at a time. It never saw the bytes.
//!
//! [`Token::open`] checks all that a token can show alone: its form, the signature by the certificate it carries, that
//! this is the certificate meant, that it may stamp. [`Token::vouched_by`] asks whether the verifier trusts whoever
//! issued that certificate; only then is there a time. What is bound: [`Token::covers`], [`Query::accept`].
//! Paths are built and validated by rustls-webpki at the token's time, not at today's. Certificates revoked since are not
//! known: no revocation list is read. Spec: RFC 3161, RFC 5816, RFC 5652; docs/time.md says where it differs from
//! OpenSSL.

mod certificate;
mod ess;
mod info;
mod path;
mod query;
mod rejected;
mod signed;
#[cfg(test)]
mod tests;

use webpki::EndEntityCert;

use super::hash::Hash;
use super::time::Timestamp;

pub use path::{Roots, Vouched};
pub use query::{Query, RANDOM_BYTES, token_of};
pub use rejected::Rejected;

use certificate::Certificate;
use ess::Named;
use info::Info;
use signed::Signed;

/// Bytes of a token, at most: those in use have 3 to 8 thousand.
pub const TOKEN_BYTES_MAX: usize = 65_536;
/// Certificates in a token, at most.
pub const CERTIFICATES_MAX: usize = 16;

/// A token whose signature verifies with the certificate it carries. Whose certificate that is, it cannot show:
/// [`Token::vouched_by`].
#[derive(Clone, Debug)]
pub struct Token {
    info: Info,
    signer: Certificate,
    /// The other certificates it carries.
    others: Vec<Certificate>,
    /// What its attributes say the signing certificate is, and which certificates stand behind it: one list an attribute.
    named: Vec<Vec<Named>>,
}

impl Token {
    /// Reads a DER TimeStampToken. A pure function of the bytes: it ends for all of them, in time and memory
    /// proportional to their number.
    ///
    /// # Errors
    /// What is wrong with it; see [`Rejected`].
    pub fn open(der: &[u8]) -> Result<Token, Rejected> {
        Rejected::beyond("token bytes", der.len(), TOKEN_BYTES_MAX)?;
        let signed = Signed::read(der)?;
        let info = Info::read(&signed.content)?;
        let at = signed.certificates.iter().position(|certificate| signed.is_by(certificate));
        let Some(at) = at else { return Err(Rejected::differs("certificates", "the signer's", "none of it")) };
        let mut others = signed.certificates.clone();
        let signer = others.swap_remove(at);
        signer.may_stamp()?;
        info.is_of(&signer)?;
        let der = signer.der();
        let key = EndEntityCert::try_from(&der).map_err(|error| Rejected::certificate(&signer, path::why(&error)))?;
        signed.verify(&key, &signer)?;
        let named = signed.named()?;
        if named.iter().any(|list| !list.first().is_some_and(|first| first.is(&signer))) {
            return Err(Rejected::differs("signing-certificate attribute", "the signer's certificate", "another"));
        }
        Ok(Token { info, signer, others, named })
    }

    /// That it is over these bytes, whose SHA-256 is given.
    ///
    /// # Errors
    /// Where it is over others.
    pub fn covers(&self, imprint: Hash) -> Result<(), Rejected> {
        if self.info.imprint == imprint {
            return Ok(());
        }
        Err(Rejected::differs("imprint", imprint, self.info.imprint))
    }

    /// The SHA-256 of the bytes it is over.
    pub fn imprint(&self) -> Hash {
        self.info.imprint
    }

    /// The time it states. Worth nothing before [`Token::vouched_by`].
    pub fn claimed_time(&self) -> Timestamp {
        self.info.time
    }

    /// The subject of the certificate that signed it, on one line. Worth nothing before [`Token::vouched_by`].
    pub fn claimed_authority(&self) -> String {
        self.signer.subject()
    }
}
