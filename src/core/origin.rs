//! The name of a log. One log has it once; a log that cannot go on gets a successor of another name.

use std::fmt;

use super::finding::{Code, Refused};
use super::hash::Hash;

/// 3 to 128 of `a-z 0-9 . - _ /`, not starting with `pinfold/` (format.md, Conventions).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin(String);

impl Origin {
    /// Takes `text` if it is an origin.
    ///
    /// # Errors
    /// `non-canonical` otherwise.
    pub fn new(text: &str) -> Result<Origin, Refused> {
        let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_/".contains(&b);
        if !(3..=128).contains(&text.len()) || !text.bytes().all(sound) || text.starts_with("pinfold/") {
            return Err(Refused::new(Code::NonCanonical, "origin: not 3 to 128 of a-z 0-9 . - _ / or in pinfold/"));
        }
        Ok(Origin(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `oid = SHA-256(origin)`, which binds every part to its log.
    pub fn oid(&self) -> Hash {
        Hash::of(self.0.as_bytes())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_alphabet() {
        for good in ["a.b", "example.com/audit/main", &"a".repeat(128)] {
            assert!(Origin::new(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", &"a".repeat(129), "Example.com", "a b", "pinfold/x", "a+b", "ä.b"] {
            assert_eq!(Origin::new(bad).unwrap_err().code, Code::NonCanonical, "{bad}");
        }
    }
}
