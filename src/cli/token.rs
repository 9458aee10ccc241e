//! `token`: who may read over HTTP. A token is printed once, when it is made; the file keeps its hash.

use std::path::{Path, PathBuf};

use rand::TryRng as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::args::{Global, Token};
use super::output::Output;
use super::{Failure, load_config, now};
use crate::http::tokens::{RANDOM_BYTES, ROLES, Role, Tokens, TokensError};

/// Characters of a name, at most.
const NAME_MAX: usize = 64;

pub(super) fn run(global: &Global, command: &Token, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let none = || Failure::usage("http.tokens is empty").hint("tokens = \"keys/tokens.toml\" in [http]");
    let path: PathBuf = config.http.tokens.ok_or_else(none)?;
    match command {
        Token::Add { name, role } => add(&path, name, role, output),
        Token::List => list(&path, output),
        Token::Revoke { id } => revoke(&path, id, output),
    }
}

fn add(path: &Path, name: &str, role: &str, output: &Output) -> Result<u8, Failure> {
    let role = role_of(role)?;
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if !is_plain || name.len() > NAME_MAX {
        return Err(Failure::usage("token: a name of 1 to 64 ASCII characters").hint("name the program it is for"));
    }
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    let drawn = rand::rngs::SysRng.try_fill_bytes(&mut *random);
    drawn.map_err(|e| Failure::new(3, "no-random", format!("drawing random bytes: {e}")))?;
    let mut tokens = Tokens::read(path)?;
    let token = Zeroizing::new(tokens.add(name, role, &random, now()));
    tokens.write(path)?;
    let answer = json!({ "token": *token, "name": name, "role": role.as_str(), "file": path });
    output.object(&answer, || {
        output.note("shown this once; a running sidecar takes it after SIGHUP");
        token.to_string()
    })
}

fn list(path: &Path, output: &Output) -> Result<u8, Failure> {
    for token in Tokens::read(path)?.list() {
        let row = json!({ "id": token.id, "name": token.name, "role": token.role, "created": token.created });
        output
            .object(&row, || format!("{}  {:<8}  {}  {}", token.id, token.role.as_str(), token.created, token.name))?;
    }
    Ok(0)
}

fn revoke(path: &Path, id: &str, output: &Output) -> Result<u8, Failure> {
    let mut tokens = Tokens::read(path)?;
    if !tokens.revoke(id) {
        let missing = Failure::new(1, "no-token", format!("token {id}: none of this id"));
        return Err(missing.hint("`pinfold token list` names them"));
    }
    tokens.write(path)?;
    output.object(&json!({ "revoked": id }), || format!("{id} is revoked; a running sidecar knows after SIGHUP"))
}

fn role_of(name: &str) -> Result<Role, Failure> {
    let known = ROLES.into_iter().find(|role| role.as_str() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = ROLES.iter().map(|role| role.as_str()).collect();
        Failure::usage(format!("--role {name}: one of {}", names.join(", "))).hint("the read API takes auditor")
    })
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Failure {
        Failure::new(2, "file", error.to_string()).hint("http.tokens names the file; `pinfold token add` makes it")
    }
}
