//! What is asked of an authority, and its answer.
//!
//! The answer is read here and not by `x509_tsp::TimeStampResp`, whose failure bits are a set of flags that real ones
//! do not fit. Spec: RFC 3161 sections 2.4.1 and 2.4.2.

use der::asn1::{BitStringRef, Int, OctetString, Utf8StringRef};
use der::{Any, AnyRef, Decode, Encode, Reader, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_tsp::{MessageImprint, TimeStampReq, TspVersion};

use super::certificate::printable;
use super::signed::SHA_256;
use super::{Rejected, TOKEN_BYTES_MAX, Token};
use crate::core::hash::Hash;

/// Fresh random bytes one query takes.
pub const RANDOM_BYTES: usize = 16;
/// Bytes around the token in an answer, at most.
const STATUS_BYTES_MAX: usize = 8_192;

/// A question to an authority: when were these bytes there?
#[derive(Clone, Debug)]
pub struct Query {
    imprint: Hash,
    nonce: [u8; RANDOM_BYTES],
    bytes: Vec<u8>,
}

impl Query {
    /// Bytes of an answer, at most.
    pub const REPLY_BYTES_MAX: usize = TOKEN_BYTES_MAX + STATUS_BYTES_MAX;

    /// About the bytes whose SHA-256 is given; `random` must be fresh, so that an old answer is not one to this.
    ///
    /// # Errors
    /// None in practice: the DER of a query is short.
    pub fn new(imprint: Hash, random: [u8; RANDOM_BYTES]) -> Result<Query, Rejected> {
        let mut nonce = random;
        // A positive number of this length: its first byte has bit 6 and not bit 7.
        nonce[0] = nonce[0] & 0x3f | 0x40;
        let form = Rejected::form("query");
        let query = TimeStampReq {
            version: TspVersion::V1,
            message_imprint: MessageImprint {
                hash_algorithm: AlgorithmIdentifierOwned { oid: SHA_256, parameters: Some(Any::null()) },
                hashed_message: OctetString::new(imprint.as_bytes().as_slice()).map_err(&form)?,
            },
            req_policy: None,
            nonce: Some(Int::new(&nonce).map_err(&form)?),
            cert_req: true,
            extensions: None,
        };
        Ok(Query { imprint, nonce, bytes: query.to_der().map_err(form)? })
    }

    /// The DER TimeStampReq.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the DER TimeStampResp that answers this query: the token, and its bytes.
    ///
    /// # Errors
    /// Where there is no token, it is not one, it is over other bytes, or it answers another query.
    pub fn accept(&self, reply: &[u8]) -> Result<(Token, Vec<u8>), Rejected> {
        let der = token_of(reply)?;
        let token = Token::open(&der)?;
        token.covers(self.imprint)?;
        match &token.info.nonce {
            Some(nonce) if *nonce == self.nonce => Ok((token, der)),
            Some(_) => Err(Rejected::differs("nonce", "that of the query", "another")),
            None => Err(Rejected::differs("nonce", "that of the query", "none")),
        }
    }
}

/// The DER token in a DER TimeStampResp.
///
/// # Errors
/// Where there is none: `Refused` with the authority's reason.
pub fn token_of(reply: &[u8]) -> Result<Vec<u8>, Rejected> {
    Rejected::beyond("answer bytes", reply.len(), Query::REPLY_BYTES_MAX)?;
    let form = Rejected::form("answer");
    let (status, token) = AnyRef::from_der(reply).map_err(&form)?.sequence(read).map_err(form)?;
    match (status.code, token) {
        // Granted, or granted with modifications: those that matter are looked for in the token itself.
        (0 | 1, Some(token)) => Ok(token.to_vec()),
        _ => Err(Rejected::Refused { why: status.to_string() }),
    }
}

fn read<'a>(reader: &mut SliceReader<'a>) -> der::Result<(Status, Option<&'a [u8]>)> {
    let status = AnyRef::decode(reader)?.sequence(Status::decode)?;
    let token = if reader.is_finished() { None } else { Some(reader.tlv_bytes()?) };
    Ok((status, token))
}

/// PKIStatusInfo.
struct Status {
    code: u8,
    texts: Vec<String>,
    failures: Vec<u32>,
}

impl Status {
    fn decode(reader: &mut SliceReader<'_>) -> der::Result<Status> {
        let code = u8::decode(reader)?;
        let texts = Option::<Vec<Utf8StringRef<'_>>>::decode(reader)?.unwrap_or_default();
        let failures = Option::<BitStringRef<'_>>::decode(reader)?;
        let failures = failures.map(|bits| (0..).zip(bits.bits()).filter_map(|(at, is_set)| is_set.then_some(at)));
        Ok(Status {
            code,
            texts: texts.iter().map(|text| printable(text.as_str())).collect(),
            failures: failures.map(Iterator::collect).unwrap_or_default(),
        })
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}", self.code)?;
        for bit in self.failures.iter().take(4) {
            match failure(*bit) {
                Some(name) => write!(f, ", {name}")?,
                None => write!(f, ", failure {bit}")?,
            }
        }
        self.texts.iter().take(4).try_for_each(|text| write!(f, ", {text:?}"))
    }
}

/// PKIFailureInfo, as far as RFC 3161 uses it.
fn failure(bit: u32) -> Option<&'static str> {
    Some(match bit {
        0 => "badAlg",
        2 => "badRequest",
        5 => "badDataFormat",
        14 => "timeNotAvailable",
        15 => "unacceptedPolicy",
        16 => "unacceptedExtension",
        17 => "addInfoNotAvailable",
        25 => "systemFailure",
        _ => return None,
    })
}
