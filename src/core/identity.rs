//! Identifiers as the look-up compares them: `[identity]` of the configuration, as a pure function.
//!
//! Not a look-up (that is the keyring's) and not a judgement whether an address exists. A value that cannot be brought
//! into its form is refused rather than repaired: a guess would give one person two surrogates, or two people one.

use std::str::FromStr;

use crate::core::event::Identifier;
use crate::core::leaf::QuarantineReason;

/// The form a kind of identifier is brought into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Surrounding space off, lower case (Unicode). An address is one only with something on both sides of an `@`.
    Lower,
    /// `+` and 7 to 15 digits (ITU-T E.164): space, hyphens, dots, slashes and brackets off. A number without `+` lacks
    /// its country and is refused.
    E164,
    /// As it came.
    Verbatim,
}

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(name: &str) -> Result<Form, UnknownForm> {
        match name {
            "lower" => Ok(Form::Lower),
            "e164" => Ok(Form::E164),
            "verbatim" => Ok(Form::Verbatim),
            _ => Err(UnknownForm),
        }
    }
}

/// A form name this version does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a form of identifiers: lower, e164 or verbatim")]
pub struct UnknownForm;

/// Which form each kind has. A log keeps its rules: other rules would not find people again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// For `email`.
    pub email: Form,
    /// For `phone`.
    pub phone: Form,
    /// For every other kind.
    pub other: Form,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { email: Form::Lower, phone: Form::E164, other: Form::Verbatim }
    }
}

impl Rules {
    /// The text `type:value` that the keyring looks up; the refusal is that of the whole record.
    pub fn normal(&self, identifier: &Identifier) -> Result<String, QuarantineReason> {
        let (kind, value) = (identifier.kind.as_str(), identifier.value.as_str());
        let mut text = String::with_capacity(kind.len() + 1 + value.len());
        text.push_str(kind);
        text.push(':');
        match self.form(kind) {
            Form::Verbatim => text.push_str(value),
            Form::E164 => text.push_str(&e164(value)?),
            Form::Lower => text.push_str(&lower(value, kind == "email")?),
        }
        Ok(text)
    }

    fn form(&self, kind: &str) -> Form {
        match kind {
            "email" => self.email,
            "phone" => self.phone,
            _ => self.other,
        }
    }
}

/// Reads a line `type:value`, as people name persons in files; `None` where it is none.
pub fn parse_line(line: &str) -> Option<Identifier> {
    let (kind, value) = line.split_once(':')?;
    let is_kind = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let is_sound = !kind.is_empty() && kind.bytes().all(is_kind) && !value.trim().is_empty();
    is_sound.then(|| Identifier { kind: kind.to_owned(), value: value.to_owned() })
}

fn lower(value: &str, is_address: bool) -> Result<String, QuarantineReason> {
    let value = value.trim().to_lowercase();
    let is_sound = match value.rsplit_once('@') {
        Some((local, domain)) => !local.is_empty() && !domain.is_empty(),
        None => !is_address,
    };
    if is_sound && !value.is_empty() { Ok(value) } else { Err(QuarantineReason::InvalidValue) }
}

fn e164(value: &str) -> Result<String, QuarantineReason> {
    let is_mark = |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '(' | ')' | '/');
    let number: String = value.chars().filter(|c| !is_mark(*c)).collect();
    let is_sound = number.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
    });
    if is_sound { Ok(number) } else { Err(QuarantineReason::InvalidValue) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        let identifier = parse_line(line).expect("a line");
        assert_eq!(Rules::default().normal(&identifier).ok().as_deref(), expected, "{line}");
    }

    #[test]
    fn the_same_person_written_differently_is_one_text() {
        check("email: Ada@Example.COM ", Some("email:ada@example.com"));
        check("email:ÄDA@example.com", Some("email:äda@example.com"));
        check("phone:+49 (30) 1234-567", Some("phone:+49301234567"));
        check("device:AbC 1", Some("device:AbC 1"));
        check("external:a:b", Some("external:a:b"));
    }

    #[test]
    fn what_cannot_be_brought_into_its_form_is_refused_not_guessed() {
        for line in
            ["email:ada", "email:@x", "email:x@", "phone:030 1234567", "phone:+0301234567", "phone:+1", "phone:+49x"]
        {
            check(line, None);
        }
        for line in ["email", ":x", "E-Mail:x", "email: "] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }
}
