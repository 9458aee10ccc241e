//! The SQL API, version 2: one statement a request, sent until it is answered.
//!
//! Not a general client: text binds only, no transactions (a session does not outlive a request). What a repetition
//! costs is the service's promise: a request id is executed once. Spec: Snowflake SQL API reference.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::jwt::Tokens;
use crate::registry::RegistryError;

/// Tries of one request before the caller hears of it.
const TRIES_MAX: u32 = 6;
/// The first pause between tries; each is up to twice as long as the one before.
const PAUSE_FIRST_MS: u64 = 200;
const PAUSE_MAX_MS: u64 = 10_000;
/// The first and the longest pause between two looks at a statement that still runs.
const POLL_FIRST_MS: u64 = 50;
const POLL_MAX_MS: u64 = 2_000;
/// How long a statement may run, told to the service and kept by us.
const STATEMENT_SECONDS_MAX: u64 = 600;

/// Where statements go and in whose name.
pub(super) struct Client {
    /// The registry's name in the configuration.
    pub(super) name: String,
    pub(super) http: reqwest::Client,
    /// `https://host`, without a slash at the end.
    pub(super) url: String,
    pub(super) tokens: Tokens,
    /// `database`, `schema`, `warehouse`, `role`: each request names them.
    pub(super) context: Map<String, Json>,
}

/// What a statement gave: its handle, and the first of its partitions.
pub(super) struct Answer {
    pub(super) handle: String,
    pub(super) rows: Vec<Vec<Option<String>>>,
    pub(super) partitions: usize,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reply {
    code: String,
    message: String,
    statement_handle: String,
    result_set_meta_data: Option<MetaData>,
    data: Option<Vec<Vec<Option<String>>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MetaData {
    partition_info: Option<Vec<Json>>,
}

/// One exchange.
enum Outcome {
    Done(Reply),
    Running(String),
    /// Nothing is known: the same again, after a pause.
    Again(String),
    /// The token was refused.
    Unknown(String),
}

impl Client {
    /// Executes `statement` under the id `request`, however often it has to be sent.
    ///
    /// # Errors
    /// `Auth`, `Refused`, or `Retry` when no try of several was answered.
    pub(super) async fn execute(
        &self,
        doing: &str,
        statement: &str,
        binds: &[String],
        request: Uuid,
    ) -> Result<Answer, RegistryError> {
        let mut body = self.context.clone();
        body.insert("statement".to_owned(), json!(statement));
        body.insert("timeout".to_owned(), json!(STATEMENT_SECONDS_MAX));
        if !binds.is_empty() {
            let binds = binds.iter().enumerate();
            let binds = binds.map(|(at, bind)| ((at + 1).to_string(), json!({"type": "TEXT", "value": bind})));
            body.insert("bindings".to_owned(), Json::Object(binds.collect()));
        }
        let path = format!("/api/v2/statements?requestId={request}&retry=true");
        let reply = self.settle(doing, Method::POST, &path, Some(&Json::Object(body))).await?;
        let partitions = reply.result_set_meta_data.and_then(|meta| meta.partition_info).map_or(1, |parts| parts.len());
        Ok(Answer { handle: reply.statement_handle, rows: reply.data.unwrap_or_default(), partitions })
    }

    /// A later partition of an answer; 0 is in the answer itself.
    ///
    /// # Errors
    /// As `execute`.
    pub(super) async fn partition(
        &self,
        doing: &str,
        handle: &str,
        number: usize,
    ) -> Result<Vec<Vec<Option<String>>>, RegistryError> {
        let path = format!("/api/v2/statements/{handle}?partition={number}");
        Ok(self.settle(doing, Method::GET, &path, None).await?.data.unwrap_or_default())
    }

    /// Sends until there is an answer, and waits for the statement to end.
    async fn settle(
        &self,
        doing: &str,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Reply, RegistryError> {
        let ends = Instant::now() + Duration::from_secs(STATEMENT_SECONDS_MAX);
        let (mut method, mut path, mut body) = (method, path.to_owned(), body);
        let (mut tries, mut pause_ms, mut poll_ms) = (0, PAUSE_FIRST_MS, POLL_FIRST_MS);
        let mut is_token_new = false;
        loop {
            match self.exchange(doing, &method, &path, body).await? {
                Outcome::Done(reply) => return Ok(reply),
                Outcome::Running(handle) => {
                    // From here on the statement has a name, and is asked for by it.
                    (method, path, body) = (Method::GET, format!("/api/v2/statements/{handle}"), None);
                    if Instant::now() > ends {
                        return Err(self.retry(doing, format!("statement {handle} still runs")));
                    }
                    sleep(Duration::from_millis(poll_ms)).await;
                    poll_ms = (poll_ms * 2).min(POLL_MAX_MS);
                    tries = 0;
                }
                Outcome::Again(what) => {
                    tries += 1;
                    if tries >= TRIES_MAX || Instant::now() > ends {
                        return Err(self.retry(doing, format!("{what}, {tries} times")));
                    }
                    // Half of it is chance, so that a fleet does not come back at once.
                    sleep(Duration::from_millis(pause_ms / 2 + rand::random::<u64>() % (pause_ms / 2 + 1))).await;
                    pause_ms = (pause_ms * 2).min(PAUSE_MAX_MS);
                }
                Outcome::Unknown(_) if !is_token_new => {
                    is_token_new = true;
                    self.tokens.forget();
                }
                Outcome::Unknown(what) => {
                    return Err(RegistryError::Auth { registry: self.name.clone(), doing: doing.to_owned(), what });
                }
            }
        }
    }

    async fn exchange(
        &self,
        doing: &str,
        method: &Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Outcome, RegistryError> {
        let token = self.tokens.token().map_err(|error| RegistryError::Auth {
            registry: self.name.clone(),
            doing: doing.to_owned(),
            what: error.to_string(),
        })?;
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.url))
            .bearer_auth(token)
            .header("X-Snowflake-Authorization-Token-Type", "KEYPAIR_JWT")
            .header("Accept", "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        let answered = match request.send().await {
            Ok(response) => {
                let status = response.status();
                response.bytes().await.map(|bytes| (status, bytes))
            }
            Err(error) => Err(error),
        };
        // The error of a cut or silent connection; what was asked may have been done.
        let (status, bytes) = match answered {
            Ok(answered) => answered,
            Err(error) => return Ok(Outcome::Again(chain(&error))),
        };
        let reply: Option<Reply> = serde_json::from_slice(&bytes).ok();
        self.judge(doing, status, reply)
    }

    fn judge(&self, doing: &str, status: StatusCode, reply: Option<Reply>) -> Result<Outcome, RegistryError> {
        let what = |reply: &Option<Reply>| match reply {
            Some(reply) if !reply.message.is_empty() => format!("{} {}", status.as_u16(), reply.message),
            _ => status.to_string(),
        };
        match status {
            // An answer without its body says nothing.
            StatusCode::OK => {
                Ok(reply.map_or_else(|| Outcome::Again("200 that is no answer".to_owned()), Outcome::Done))
            }
            StatusCode::ACCEPTED => match reply {
                Some(reply) if is_handle(&reply.statement_handle) => Ok(Outcome::Running(reply.statement_handle)),
                _ => Ok(Outcome::Again("202 without a handle".to_owned())),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Outcome::Unknown(what(&reply))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Ok(Outcome::Again(what(&reply))),
            _ if status.is_server_error() => Ok(Outcome::Again(what(&reply))),
            _ => Err(RegistryError::Refused {
                registry: self.name.clone(),
                doing: doing.to_owned(),
                code: reply.as_ref().map(|reply| reply.code.clone()).unwrap_or_default(),
                what: what(&reply),
            }),
        }
    }

    fn retry(&self, doing: &str, what: String) -> RegistryError {
        RegistryError::Retry { registry: self.name.clone(), doing: doing.to_owned(), what }
    }
}

/// A handle becomes part of a path, so only what a handle is made of.
fn is_handle(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// An error with its causes; without the address, which the caller's words name well enough.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { "connection failed".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
