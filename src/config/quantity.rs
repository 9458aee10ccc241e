//! Quantities as people write them: `10m`, `64MiB`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Keep;

/// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Delay(Duration);

/// A number of bytes: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteCount(pub u64);

impl Delay {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Delay {
        Delay(Duration::from_secs(secs))
    }

    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// In microseconds, the unit of the log.
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }

    /// Reads `10m` and the like.
    pub fn parse(text: &str) -> Option<Delay> {
        let (number, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(|millis| Delay(Duration::from_millis(millis)))
    }
}

impl ByteCount {
    /// So many MiB.
    pub const fn mib(count: u64) -> ByteCount {
        ByteCount(count << 20)
    }

    /// Reads `64MiB` and the like.
    pub fn parse(text: &str) -> Option<ByteCount> {
        let (number, unit) = split(text)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return None,
        };
        number.checked_mul(1 << shift).map(ByteCount)
    }
}

/// A whole number and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(of, _)| millis != 0 && millis.is_multiple_of(*of)) {
            Some((of, unit)) => write!(f, "{}{unit}", millis / of),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Delay, D::Error> {
        let text = String::deserialize(deserializer)?;
        Delay::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no time: a whole number and ms, s, m, h or d")))
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteCount, D::Error> {
        let text = String::deserialize(deserializer)?;
        ByteCount::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no size: a whole number and B, KiB, MiB or GiB")))
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keep, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "all" {
            return Ok(Keep::All);
        }
        // `0` alone reads naturally as "keep nothing longer than needed".
        let delay = if text == "0" { Some(Delay::from_secs(0)) } else { Delay::parse(&text) };
        delay.map(Keep::For).ok_or_else(|| de::Error::custom(format!("`{text}` is neither `all` nor a time")))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keep::All => f.write_str("all"),
            Keep::For(delay) => delay.fmt(f),
        }
    }
}

/// A text with a pattern, in the JSON schema and in what `config show` writes.
macro_rules! text_schema {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_schema!(Delay, "^[0-9]+ ?(ms|s|m|h|d)$");
text_schema!(ByteCount, "^[0-9]+ ?(B|KiB|MiB|GiB|TiB)$");
text_schema!(Keep, "^(all|0|[0-9]+ ?(ms|s|m|h|d))$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_reads_and_shows_the_same() {
        for text in ["10m", "36h", "7d", "20s", "250ms"] {
            assert_eq!(Delay::parse(text).unwrap().to_string(), text);
        }
        for text in ["64MiB", "1GiB", "20GiB", "1000B", "3KiB"] {
            assert_eq!(ByteCount::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for text in ["10", "m", "", "1.5h", "-1s", "10 minutes", "99999999999999999999s"] {
            assert_eq!(Delay::parse(text), None, "{text}");
        }
        for text in ["64", "64MB", "64M", "MiB", "18446744073709551615TiB"] {
            assert_eq!(ByteCount::parse(text), None, "{text}");
        }
    }
}
