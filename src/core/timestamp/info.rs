//! TSTInfo: what the authority signed.
//!
//! Read here and not by `x509_tsp::TstInfo`, which knows no fractions of seconds. Spec: RFC 3161 section 2.4.2.

use der::asn1::{ContextSpecific, Int, ObjectIdentifier};
use der::{AnyRef, Decode, Tag, TagNumber, Tagged};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::GeneralName;
use x509_tsp::{Accuracy, MessageImprint, TspVersion};

use super::Rejected;
use super::certificate::Certificate;
use super::signed::{SHA_256, check_parameters};
use crate::core::hash::Hash;
use crate::core::time::Timestamp;

/// Digits of a second that are read: what is finer than a microsecond is cut off.
const FRACTION_DIGITS_MAX: usize = 9;

/// What a token states.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Info {
    pub(super) imprint: Hash,
    pub(super) time: Timestamp,
    /// How far from it the time may be, both ways.
    pub(super) accuracy_micros: Option<u64>,
    /// The number of the query, as the INTEGER's content.
    pub(super) nonce: Option<Vec<u8>>,
    /// The name the authority gives itself.
    tsa: Option<GeneralName>,
}

impl Info {
    pub(super) fn read(bytes: &[u8]) -> Result<Info, Rejected> {
        let form = Rejected::form("TSTInfo");
        let fields = AnyRef::from_der(bytes).map_err(&form)?.sequence(Fields::decode).map_err(form)?;
        if fields.ordering == Some(false) {
            return Err(Rejected::malformed("TSTInfo", "a default that is written out"));
        }
        if fields.extensions.iter().flatten().any(|extension| extension.critical) {
            return Err(Rejected::unsupported("TSTInfo", "a critical extension"));
        }
        let algorithm = &fields.imprint.hash_algorithm;
        if algorithm.oid != SHA_256 {
            return Err(Rejected::unsupported("imprint algorithm", algorithm.oid));
        }
        check_parameters("imprint algorithm", algorithm)?;
        let imprint = fields.imprint.hashed_message.as_bytes();
        let imprint = imprint.try_into().map_err(|_| Rejected::malformed("imprint", "not 32 bytes"))?;
        Ok(Info {
            imprint: Hash(imprint),
            time: time(fields.time).ok_or_else(|| Rejected::malformed("genTime", "not a time in UTC"))?,
            accuracy_micros: fields.accuracy.map(|accuracy| micros(&accuracy)).transpose()?,
            nonce: fields.nonce.map(|nonce| nonce.as_bytes().to_vec()),
            tsa: fields.tsa,
        })
    }

    /// The name the authority gives itself is one of the certificate's.
    pub(super) fn is_of(&self, signer: &Certificate) -> Result<(), Rejected> {
        if self.tsa.as_ref().is_none_or(|tsa| signer.is_named(tsa)) {
            return Ok(());
        }
        Err(Rejected::differs("name of the authority", format!("a name of {}", signer.subject()), "another"))
    }
}

struct Fields<'a> {
    imprint: MessageImprint,
    time: AnyRef<'a>,
    accuracy: Option<Accuracy>,
    ordering: Option<bool>,
    nonce: Option<Int>,
    tsa: Option<GeneralName>,
    extensions: Option<Extensions>,
}

impl<'a> Fields<'a> {
    fn decode<R: der::Reader<'a>>(reader: &mut R) -> der::Result<Fields<'a>> {
        TspVersion::decode(reader)?;
        ObjectIdentifier::decode(reader)?;
        let imprint = MessageImprint::decode(reader)?;
        Int::decode(reader)?;
        Ok(Fields {
            imprint,
            time: AnyRef::decode(reader)?,
            accuracy: Option::decode(reader)?,
            ordering: Option::decode(reader)?,
            nonce: Option::decode(reader)?,
            tsa: ContextSpecific::decode_explicit(reader, TagNumber::N0)?.map(|field| field.value),
            extensions: ContextSpecific::decode_implicit(reader, TagNumber::N1)?.map(|field| field.value),
        })
    }
}

/// A GeneralizedTime `YYYYMMDDhhmmss[.f]Z` without zeros at the end of the fraction.
fn time(value: AnyRef<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.value()).ok().filter(|_| value.tag() == Tag::GeneralizedTime)?;
    let text = text.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_cut = text.contains('.') && (fraction.ends_with('0') || fraction.is_empty());
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14
        || !are_digits(whole)
        || !are_digits(fraction)
        || is_cut
        || fraction.len() > FRACTION_DIGITS_MAX
    {
        return None;
    }
    let (date, clock) = whole.split_at_checked(8)?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (clock.get(..2)?, clock.get(2..4)?, clock.get(4..)?);
    // A leap second has no place in a count of seconds.
    if second >= "60" {
        return None;
    }
    let micros: String = fraction.chars().take(6).collect();
    Timestamp::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}.{micros}Z"))
}

fn micros(accuracy: &Accuracy) -> Result<u64, Rejected> {
    let part = |value: Option<i16>| match value {
        None => Some(0),
        Some(value) => u64::try_from(value).ok().filter(|value| (1..=999).contains(value)),
    };
    let sum = || {
        let seconds = accuracy.seconds.unwrap_or(0).checked_mul(1_000_000)?;
        seconds.checked_add(part(accuracy.millis)? * 1_000)?.checked_add(part(accuracy.micros)?)
    };
    sum().ok_or_else(|| Rejected::malformed("accuracy", "outside its limits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        time(AnyRef::new(Tag::GeneralizedTime, text.as_bytes()).unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn a_time_has_its_one_form() {
        assert_eq!(read("20260102030405Z").as_deref(), Some("2026-01-02T03:04:05.000000Z"));
        assert_eq!(read("20260102030405.0670089Z").as_deref(), Some("2026-01-02T03:04:05.067008Z"));
        assert_eq!(read("20260102030405.5Z").as_deref(), Some("2026-01-02T03:04:05.500000Z"));
        for text in [
            "20260102030405",
            "20260102030405.Z",
            "20260102030405.50Z",
            "20260102030460Z",
            "20261302030405Z",
            "20260230030405Z",
            "202601020304Z",
            "20260102030405+0100",
            "20260102030405.1234567891Z",
            "19691231235959Z",
            "2026é102030405Z",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_accuracy_is_a_number_of_microseconds() {
        let of = |seconds, millis, micros| super::micros(&Accuracy { seconds, millis, micros }).ok();
        assert_eq!(of(Some(1), Some(500), Some(100)), Some(1_500_100));
        assert_eq!(of(None, None, None), Some(0));
        assert_eq!((of(None, Some(0), None), of(None, Some(1000), None)), (None, None));
        assert_eq!((of(None, None, Some(-1)), of(Some(u64::MAX), None, None)), (None, None));
    }
}
