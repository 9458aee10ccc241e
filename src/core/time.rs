//! A point in time: microseconds since the Unix epoch, UTC.
//!
//! Not a clock: `core` never knows the time, callers pass it in. Text form: RFC 3339 with six digits
//! and `Z`, as every output of Pinfold and every TIMESTAMP of the SQLite registry has it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z, a `uint` of the format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// The last microsecond of the year 9999: beyond it RFC 3339 has no text.
const LAST: u64 = 253_402_300_799_999_999;

impl Timestamp {
    /// Reads RFC 3339 with a zone. A text without a zone is no point in time and is refused, as is one
    /// before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
        let at: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(at.as_microsecond()).ok().map(Timestamp)
    }

    /// This point moved by `micros` forward, at most to the end of the range.
    pub fn plus(self, micros: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(micros))
    }

    /// The microseconds from `earlier` to here, 0 where it is later.
    pub fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    /// `YYYY-MM-DDTHH:MM:SS.ffffffZ`; times after the year 9999 show as its last microsecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0.min(LAST)).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(at) => write!(f, "{at:.6}"),
            Err(_) => f.write_str("9999-12-31T23:59:59.999999Z"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_six_digits_and_round_trips() {
        let at = Timestamp(1_767_225_600_000_001);
        assert_eq!(at.to_string(), "2026-01-01T00:00:00.000001Z");
        assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Some(at));
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_time_without_a_zone_or_before_1970_is_refused() {
        assert_eq!(Timestamp::parse_rfc3339("2026-01-01T00:00:00"), None);
        assert_eq!(Timestamp::parse_rfc3339("1969-12-31T23:59:59Z"), None);
    }
}
