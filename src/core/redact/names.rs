//! The names that decide: what is a secret, what holds contact data, which contact fields are kept.
//!
//! Names are compared by their ASCII letters and digits, lower case, so that `magicLink`, `Magic-Link` and `magic_link`
//! are one. The lists are part of the product, not of the configuration: a forgotten line must not store a password.

/// A name that holds one of these anywhere is a secret's.
const SECRET_PARTS: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "magiclink", "apikey", "privatekey", "credential"];
/// A name that ends so, too.
const SECRET_ENDS: [&str; 4] = ["token", "tokens", "accesskey", "sessionid"];
/// And these names as a whole.
const SECRET_NAMES: [&str; 12] = [
    "pwd",
    "pass",
    "authorization",
    "proxyauthorization",
    "bearer",
    "jwt",
    "otp",
    "setcookie",
    "cvv",
    "cvc",
    "csrf",
    "xsrf",
];
/// Members with these names hold contact data of a person.
const CONTACT_OBJECTS: [&str; 7] =
    ["contact", "contacts", "contactinfo", "contactdetails", "contactdata", "dataelements", "dsdataelements"];
/// The contact fields that evidence of consent needs: how the person is found, and what rules applied.
const CONTACT_ALLOWED: [&str; 14] = [
    "id",
    "type",
    "value",
    "identifier",
    "identifiers",
    "email",
    "emailaddress",
    "phone",
    "phonenumber",
    "country",
    "region",
    "language",
    "locale",
    "timezone",
];

/// Whether values under this name are dropped.
pub(super) fn is_secret(name: &[u8]) -> bool {
    let name = normal(name);
    SECRET_PARTS.iter().any(|part| name.contains(part))
        || SECRET_ENDS.iter().any(|end| name.ends_with(end))
        || SECRET_NAMES.contains(&name.as_str())
}

/// Whether the value under this name is contact data.
pub(super) fn is_contact(name: &[u8]) -> bool {
    CONTACT_OBJECTS.contains(&normal(name).as_str())
}

/// Whether this contact field is kept.
pub(super) fn is_allowed_contact(name: &[u8]) -> bool {
    CONTACT_ALLOWED.contains(&normal(name).as_str())
}

fn normal(name: &[u8]) -> String {
    name.iter().filter(|b| b.is_ascii_alphanumeric()).map(|b| char::from(b.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_however_they_are_written() {
        for name in
            ["Password", "userPassword2", "magicLink", "Magic-Link", "access_token", "X-Api-Key", "client-secret"]
        {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in ["cookie", "cookies", "tokenised", "passport", "compass", "purpose", "keyword", "decision"] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }
}
