//! The key-pair token of the SQL API: an RS256 JWT that names the account, the user and the fingerprint of the key.
//!
//! Not a JWT library: one header, four claims, written and never read. Spec: RFC 7519, RFC 7515; Snowflake SQL API,
//! "Using key-pair authentication".

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

/// How long a token is good for. The service takes an hour at most, by its own clock.
const LIFETIME: Duration = Duration::from_secs(55 * 60);
/// A token with less left is replaced before use.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// The file holds no such key: encrypted, of another format, or cut.
    #[error("not an unencrypted RSA private key in PKCS#8 PEM")]
    Format,
    /// The key could not sign.
    #[error("the private key does not sign")]
    Sign,
}

/// A user's key, and the token last made with it.
pub(super) struct Tokens {
    key: RsaKeyPair,
    issuer: String,
    subject: String,
    last: Mutex<Option<(String, SystemTime)>>,
}

impl Tokens {
    /// Takes the PEM of a PKCS#8 RSA key.
    ///
    /// # Errors
    /// `Format` for anything else.
    pub(super) fn new(account: &str, user: &str, pem: &str) -> Result<Tokens, KeyError> {
        let key = RsaKeyPair::from_pkcs8(&pkcs8(pem)?).map_err(|_| KeyError::Format)?;
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| KeyError::Format)?;
        let fingerprint = STANDARD.encode(digest::digest(&digest::SHA256, public.as_ref()));
        // A locator may carry its region after a dot, which the token must not; an organisation's name has none.
        let account = account.split('.').next().unwrap_or_default();
        let subject = format!("{}.{}", account.to_uppercase(), user.to_uppercase());
        Ok(Tokens { key, issuer: format!("{subject}.SHA256:{fingerprint}"), subject, last: Mutex::new(None) })
    }

    /// A token that is good for some minutes more.
    ///
    /// # Errors
    /// `Sign`.
    pub(super) fn token(&self) -> Result<String, KeyError> {
        let now = SystemTime::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((token, expires)) if now + MARGIN < *expires => Ok(token.clone()),
            _ => {
                let token = self.sign(now)?;
                *last = Some((token.clone(), now + LIFETIME));
                Ok(token)
            }
        }
    }

    /// Makes the next token anew: the last one was refused, perhaps for its age by the service's clock.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn sign(&self, now: SystemTime) -> Result<String, KeyError> {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims =
            json!({"iss": self.issuer, "sub": self.subject, "iat": issued, "exp": issued + LIFETIME.as_secs()});
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let drawn = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        drawn.map_err(|_| KeyError::Sign)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn pkcs8(pem: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let body = pem.trim().strip_prefix("-----BEGIN PRIVATE KEY-----").ok_or(KeyError::Format)?;
    let body = body.strip_suffix("-----END PRIVATE KEY-----").ok_or(KeyError::Format)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    STANDARD.decode(body.as_bytes()).map(Zeroizing::new).map_err(|_| KeyError::Format)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_token_names_account_user_and_key_and_verifies() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let tokens = Tokens::new("org-acct.eu", "Pinfold", &pem).unwrap();
        let token = tokens.token().unwrap();
        assert_eq!(tokens.token().unwrap(), token, "kept while it is good");
        let [head, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
        let signed = format!("{head}.{claims}");
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["sub"], "ORG-ACCT.PINFOLD");
        assert!(claims["iss"].as_str().unwrap().starts_with("ORG-ACCT.PINFOLD.SHA256:"));
        assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 3600);
    }

    #[test]
    fn other_keys_are_refused() {
        for pem in ["", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----"] {
            assert!(matches!(Tokens::new("a", "u", pem), Err(KeyError::Format)));
        }
    }
}
