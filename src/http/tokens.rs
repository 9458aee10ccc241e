//! Bearer tokens: a file with the hash of each, so that reading the file lets nobody in.
//!
//! A token is 256 random bits, so one SHA-256 of it is enough: there is nothing to guess. The file is written by
//! `pinfold token` alone and read at the start and at SIGHUP; one that is not there means no tokens.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::core::hash::Hash;
use crate::core::time::Timestamp;

/// Random bytes of a new token: four for its id, the rest is the secret.
pub const RANDOM_BYTES: usize = 36;
const ID_BYTES: usize = 4;
const PREFIX: &str = "pinfold";
/// A file beyond this is none of ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a token is for (privacy.md, 13). The read API takes auditors; the others are for what later versions serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends records.
    Writer,
    /// Reads what anyone with the archive could read.
    Auditor,
    /// Requests erasures.
    Privacy,
    /// Approves them.
    Approver,
    /// Manages keys.
    Keyadmin,
}

/// All roles.
pub const ROLES: [Role; 5] = [Role::Writer, Role::Auditor, Role::Privacy, Role::Approver, Role::Keyadmin];

impl Role {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Auditor => "auditor",
            Role::Privacy => "privacy",
            Role::Approver => "approver",
            Role::Keyadmin => "keyadmin",
        }
    }
}

/// A token as the file has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Names it; no secret.
    pub id: String,
    /// What whoever made it called it.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// SHA-256 of the whole token, hex.
    pub sha256: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// The tokens of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    #[serde(default, rename = "token")]
    list: Vec<Token>,
}

/// A tokens file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("tokens {path}: {what}", path = path.display())]
pub struct TokensError {
    path: PathBuf,
    what: String,
}

impl TokensError {
    fn new(path: &Path, what: impl ToString) -> TokensError {
        TokensError { path: path.to_owned(), what: what.to_string() }
    }
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// It is readable for everybody, too long, or not ours.
    pub fn read(path: &Path) -> Result<Tokens, TokensError> {
        let meta = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Tokens::default()),
            meta => meta.map_err(|e| TokensError::new(path, e))?,
        };
        if meta.permissions().mode() & 0o007 != 0 {
            return Err(TokensError::new(path, "readable or writable for everybody: chmod o= it"));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(TokensError::new(path, "longer than 1 MiB"));
        }
        let text = fs::read_to_string(path).map_err(|e| TokensError::new(path, e))?;
        toml::from_str(&text).map_err(|e| TokensError::new(path, e.message()))
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> Result<(), TokensError> {
        let text = toml::to_string(self).map_err(|e| TokensError::new(path, e))?;
        let new = path.with_extension("toml.new");
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().map_err(|e| TokensError::new(path, e))
    }

    /// Adds a token made from `random` and gives it: this is the one time it can be seen.
    pub fn add(&mut self, name: &str, role: Role, random: &[u8; RANDOM_BYTES], at: Timestamp) -> String {
        let (id, secret) = random.split_at(ID_BYTES);
        let id = hex::encode(id);
        let token = format!("{PREFIX}_{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = Hash::of(token.as_bytes()).to_string();
        self.list.push(Token { id, name: name.to_owned(), role, sha256, created: at.to_string() });
        token
    }

    /// Takes a token away; false where there is none of this id.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|token| token.id != id);
        self.list.len() < before
    }

    /// All of them.
    pub fn list(&self) -> &[Token] {
        &self.list
    }

    /// The token that was presented, if it is one of these.
    pub(super) fn find(&self, presented: &str) -> Option<&Token> {
        let hash = Hash::of(presented.as_bytes());
        // What is compared is a hash of what the caller chose: its bytes tell nothing about a token by their timing.
        self.list.iter().find(|token| token.sha256.parse() == Ok(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_until_it_is_revoked_and_the_file_does_not_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        assert_eq!(Tokens::read(&path).unwrap(), Tokens::default());
        let mut tokens = Tokens::default();
        let token = tokens.add("grafana", Role::Auditor, &[7; RANDOM_BYTES], Timestamp(0));
        let other = tokens.add("intake", Role::Writer, &[9; RANDOM_BYTES], Timestamp(0));
        tokens.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token) && !text.contains(token.rsplit('_').next().unwrap()), "{text}");
        let mut read = Tokens::read(&path).unwrap();
        assert_eq!(read, tokens);
        assert_eq!(read.find(&token).map(|token| token.role), Some(Role::Auditor));
        for wrong in ["", "pinfold_07070707_", &token[..token.len() - 1], &format!("{token}x"), &token.to_uppercase()] {
            assert_eq!(read.find(wrong), None, "{wrong}");
        }
        assert!(read.revoke("07070707") && !read.revoke("07070707"));
        assert_eq!((read.find(&token), read.find(&other).is_some()), (None, true));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_none_of_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(Tokens::read(&path).unwrap_err().to_string().contains("chmod"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(Tokens::read(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["token = 1", "[[token]]\nid = \"x\"\n", "[[tokens]]\n", "\u{0}"] {
            fs::write(&path, bad).unwrap();
            assert!(Tokens::read(&path).is_err(), "{bad}");
        }
    }
}
