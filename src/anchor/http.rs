//! How anyone outside is asked over HTTP: at an address a person wrote down, bounded in time and bytes.
//!
//! No redirect is followed: the configuration or a policy names who is asked. What is asked, and what an answer means,
//! is the authority's.

use std::time::Duration;

use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Response, StatusCode, Url};

/// The address, if it is one of the web with a host and nothing secret or variable in it: no user, password, query or
/// fragment.
pub(super) fn address(url: &str) -> Option<Url> {
    let is_sound = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && (url.username(), url.password()) == ("", None)
            && (url.query(), url.fragment()) == (None, None)
    };
    Url::parse(url).ok().filter(is_sound)
}

/// A client whose requests take no longer than `timeout`.
///
/// # Errors
/// The system gives none.
pub(super) fn client(timeout: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(Redirects::none())
        .user_agent(concat!("pinfold/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Reads at most `bytes_max` of an answer.
///
/// # Errors
/// Why not, in words.
pub(super) async fn bounded(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(format!("an answer of more than {bytes_max} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Why a request failed, without its address, which messages name already.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { deepest.to_string() }
}

/// Whether an answer that is no yes may be another one later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}
