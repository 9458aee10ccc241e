//! Which options of librdkafka hold secrets. Not in `kafka`: `config show` and `doctor` mask them in every build.

/// Whether an option of librdkafka holds a secret, so that nothing prints it.
pub fn is_secret(option: &str) -> bool {
    ["password", "secret", "pem"].iter().any(|word| option.ends_with(word)) || option == "sasl.username"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_what_only_names_a_file() {
        for option in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "ssl.keystore.password"] {
            assert!(is_secret(option), "{option}");
        }
        for option in ["sasl.password_file", "ssl.ca.location", "security.protocol", "sasl.mechanisms"] {
            assert!(!is_secret(option), "{option}");
        }
    }
}
