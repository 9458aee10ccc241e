//! Who is let in: by token or client certificate, and no more often than is good for the log.
//!
//! The rate is of an address, before anything else is looked at, so that tokens cannot be tried out at speed either. It
//! says who may read, never what is there: without a way in every path answers the same.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::answer::error;
use super::listen::Peer;
use super::tokens::{Role, Tokens, TokensError};

/// Addresses the rate is counted of; beyond it those that have been quiet are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// Who may read.
#[derive(Debug)]
pub struct Access {
    path: Option<PathBuf>,
    tokens: RwLock<Arc<Tokens>>,
    rate: DefaultKeyedRateLimiter<IpAddr>,
}

impl Access {
    /// By the tokens of a file, where there is one, and so many requests a second from one address.
    ///
    /// # Errors
    /// A tokens file that cannot be used.
    pub fn open(path: Option<PathBuf>, per_second: NonZeroU32) -> Result<Access, TokensError> {
        let tokens = RwLock::new(Arc::new(read(path.as_deref())?));
        Ok(Access { path, tokens, rate: RateLimiter::keyed(Quota::per_second(per_second)) })
    }

    /// Reads the tokens again. Where the file cannot be used, those in use stay.
    ///
    /// # Errors
    /// As `open`.
    pub fn reread(&self) -> Result<(), TokensError> {
        let new = Arc::new(read(self.path.as_deref())?);
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn is_too_fast(&self, address: IpAddr) -> bool {
        if self.rate.len() > ADDRESSES_MAX {
            self.rate.retain_recent();
        }
        self.rate.check_key(&network(address)).is_err()
    }

    /// What the request may do; `None` for whoever is not known.
    fn role(&self, peer: Peer, headers: &HeaderMap) -> Option<Role> {
        // Whoever the configured authorities vouch for reads.
        if peer.has_certificate {
            return Some(Role::Auditor);
        }
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        let tokens = Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner));
        let token = tokens.find(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        Some(token.role)
    }
}

fn read(path: Option<&Path>) -> Result<Tokens, TokensError> {
    path.map_or_else(|| Ok(Tokens::default()), Tokens::read)
}

/// One customer's addresses in IPv6 count as one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// Lets a request pass, or answers it.
pub(super) async fn admit(
    State(access): State<Arc<Access>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if access.is_too_fast(peer.address) {
        let wait = [(header::RETRY_AFTER, "1")];
        return (wait, error(StatusCode::TOO_MANY_REQUESTS, "rate", "too many requests from this address"))
            .into_response();
    }
    match access.role(peer, request.headers()) {
        Some(Role::Auditor) => next.run(request).await,
        Some(_) => error(StatusCode::FORBIDDEN, "role", "this token is not for reading"),
        None => {
            let how = [(header::WWW_AUTHENTICATE, "Bearer")];
            (how, error(StatusCode::UNAUTHORIZED, "token", "a token or a client certificate is needed")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_has_one_rate() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
