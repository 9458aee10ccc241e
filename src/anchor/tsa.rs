//! A time-stamp authority, asked over HTTP: when did this checkpoint exist?
//!
//! One call is one query with a nonce of its own. Only a token that verifies up to the roots of the configuration is
//! taken, so what is archived can be checked in ten years with nothing but those roots. Every answer is bounded in time
//! and bytes, and no redirect is followed. Spec: RFC 3161 section 3.4.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::http::{self, bounded, is_passing, reason};
use super::{AnchorError, AnchorKind, Answer, Authority, Released, Said};
use crate::core::hash::Hash;
use crate::core::seq::Size;
use crate::core::timestamp::{Query, RANDOM_BYTES, Rejected, Roots, Token, Vouched};

const QUERY_TYPE: &str = "application/timestamp-query";
const REPLY_TYPE: &str = "application/timestamp-reply";

/// An authority of the configuration.
#[derive(Clone)]
pub struct Tsa {
    name: String,
    url: reqwest::Url,
    roots: Roots,
    http: reqwest::Client,
}

/// An authority that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadTsa {
    /// Not an address of the web.
    #[error("`{url}`: not of the form http(s)://host/path")]
    Url {
        /// The address.
        url: String,
    },
    /// No client could be made.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A token that holds, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// The DER TimeStampToken.
    pub token: Vec<u8>,
    /// Who says when.
    pub vouched: Vouched,
}

impl Tsa {
    /// The authority at this address, whose tokens must lead to one of `roots`; no query takes longer than `timeout`.
    ///
    /// # Errors
    /// The address is none, or the system gives no client.
    pub fn new(name: &str, url: &str, roots: Roots, timeout: Duration) -> Result<Tsa, BadTsa> {
        let Some(parsed) = http::address(url) else { return Err(BadTsa::Url { url: url.to_owned() }) };
        Ok(Tsa { name: name.to_owned(), url: parsed, roots, http: http::client(timeout)? })
    }

    /// Asks for a token over `note`, a checkpoint of this size.
    ///
    /// # Errors
    /// `Retry` where it was not reached or answers that it failed, `Refused` where it says no, `Untrue` where its token
    /// does not hold.
    pub async fn stamp(&self, note: &str, size: Size) -> Result<Stamped, AnchorError> {
        let random = rand::random::<[u8; RANDOM_BYTES]>();
        let query = Query::new(Hash::of(note.as_bytes()), random).map_err(|rejected| self.judged(size, &rejected))?;
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, QUERY_TYPE).header(ACCEPT, REPLY_TYPE);
        let response = request.body(query.bytes().to_vec()).send().await;
        let response = response.map_err(|error| self.retry(size, reason(&error)))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refusal(size, status));
        }
        let reply = bounded(response, Query::REPLY_BYTES_MAX).await.map_err(|why| self.retry(size, why))?;
        let (token, der) = query.accept(&reply).map_err(|rejected| self.judged(size, &rejected))?;
        let vouched = token.vouched_by(&self.roots).map_err(|rejected| self.judged(size, &rejected))?;
        Ok(Stamped { token: der, vouched })
    }

    /// What a token says that was got earlier over `note`.
    ///
    /// # Errors
    /// Where it does not hold, or leads to none of our roots.
    pub fn look(&self, note: &str, token: &[u8]) -> Result<Vouched, Rejected> {
        let token = Token::open(token)?;
        token.covers(Hash::of(note.as_bytes()))?;
        token.vouched_by(&self.roots)
    }

    /// An answer without a token, or with one that does not hold.
    fn judged(&self, size: Size, rejected: &Rejected) -> AnchorError {
        let (authority, doing) = (self.name.clone(), doing(size));
        match rejected {
            Rejected::Refused { why } => {
                let hint = "does this authority stamp SHA-256 for anyone? ask its operator".to_owned();
                AnchorError::Refused { authority, doing, why: why.clone(), hint }
            }
            Rejected::UnknownAuthority { .. } => {
                let hint = format!("put the root its operator publishes into `roots` of [timestamp.{}]", self.name);
                AnchorError::Untrue { authority, doing, fault: rejected.to_string(), hint }
            }
            _ => {
                let hint = format!(
                    "is {} a time-stamp authority (RFC 3161)? `docs/time.md` says what is not supported",
                    self.url
                );
                AnchorError::Untrue { authority, doing, fault: rejected.to_string(), hint }
            }
        }
    }

    fn refusal(&self, size: Size, status: StatusCode) -> AnchorError {
        if is_passing(status) {
            return self.retry(size, status.to_string());
        }
        let hint = match status.is_redirection() {
            true => format!("put the address it redirects to into `url` of [timestamp.{}]", self.name),
            false => format!("is {} where its operator wants queries?", self.url),
        };
        AnchorError::Refused { authority: self.name.clone(), doing: doing(size), why: status.to_string(), hint }
    }

    fn retry(&self, size: Size, why: String) -> AnchorError {
        let hint = format!("it is tried again; is {} reachable from here?", self.url);
        AnchorError::Retry { authority: self.name.clone(), doing: doing(size), why, hint }
    }
}

impl Authority for Tsa {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> AnchorKind {
        AnchorKind::Tsa
    }

    fn attest<'a>(&'a self, released: &'a Released) -> Answer<'a, Said> {
        Box::pin(async move {
            let stamped = self.stamp(&released.note, released.head.size).await?;
            Ok(Said::Stamped(stamped.token))
        })
    }
}

impl fmt::Debug for Tsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tsa").field("name", &self.name).field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

fn doing(size: Size) -> String {
    format!("stamping size {size}")
}
