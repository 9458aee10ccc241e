//! A strict front of the Snowflake SQL API: what the service does and the peer behind it does not.
//!
//! It verifies the key-pair token, executes a request id once, refuses what the service refuses, answers 202 and in
//! partitions, writes times as the service does, does not enforce primary keys, and fails on demand. What it was asked
//! is kept for the tests. It follows the SQL API reference; it is not the service.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pinfold::core::time::Timestamp;
use serde_json::{Value, json};

/// Rows of one partition: small, so that every test of some rows meets several.
const PARTITION_ROWS: usize = 100;

/// What happens to the next statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It is executed; 202, and still running for so many looks at it.
    Runs(u32),
    /// 429, not executed.
    TooMany,
    /// 500, not executed.
    ServerError,
    /// 503 after it was executed.
    ErrorAfterExecute,
    /// Nothing, neither execution nor answer.
    Silent,
    /// It is executed, and the connection is cut without an answer.
    DropAfterExecute,
    /// It is acknowledged, and never executed: a lie.
    AcknowledgeOnly,
}

/// One request as it came, and whether it was executed.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request_id: String,
    pub(crate) statement: String,
    pub(crate) is_executed: bool,
}

/// A user's key pair: what the client signs with, and what the service knows.
pub(crate) struct UserKey {
    key: RsaKeyPair,
}

impl UserKey {
    pub(crate) fn generate() -> UserKey {
        UserKey { key: RsaKeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.key.as_der().unwrap();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    fn fingerprint(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        STANDARD.encode(digest::digest(&digest::SHA256, der.as_ref()))
    }
}

/// A running front. Dropped: its runtime ends.
pub(crate) struct Front {
    shared: Arc<Shared>,
    port: u16,
    /// Its own threads: the client under test blocks on a runtime of its own.
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    user: &'static str,
    key: UserKey,
    state: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    faults: VecDeque<(String, Fault)>,
    asked: Vec<Asked>,
    /// Answers by request id, with the body they answered.
    done: HashMap<String, (Bytes, Value)>,
    /// Answers by handle, and how often they are still withheld.
    by_handle: HashMap<String, (u32, Value)>,
    violations: Vec<String>,
}

impl Front {
    /// Starts before the peer at `upstream`, for the user `user` of the account, `ACCOUNT.USER`.
    pub(crate) fn start(upstream: String, user: &'static str, key: UserKey) -> Front {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let http = reqwest::Client::new();
        let shared = Arc::new(Shared { upstream, http, user, key, state: Mutex::default() });
        let routes = Router::new()
            .route("/api/v2/statements", post(submit))
            .route("/api/v2/statements/{handle}", get(look))
            .with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Front { shared, port, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets the next statement that contains `part` meet `fault`; several meet them in turn.
    pub(crate) fn fail(&self, part: &str, fault: Fault) {
        self.shared.state.lock().unwrap().faults.push_back((part.to_owned(), fault));
    }

    /// The requests so far whose statement contains `part`.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        let state = self.shared.state.lock().unwrap();
        state.asked.iter().filter(|asked| asked.statement.contains(part)).cloned().collect()
    }

    /// What no client of the service may do, and this one did.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().violations.clone()
    }

    /// Faults nobody met.
    pub(crate) fn unmet(&self) -> usize {
        self.shared.state.lock().unwrap().faults.len()
    }
}

async fn submit(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(what) = shared.authenticate(&headers) {
        return refusal(StatusCode::UNAUTHORIZED, "390144", &what);
    }
    let Ok(mut request) = serde_json::from_slice::<Value>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "391903", "the body is no JSON");
    };
    let statement = request["statement"].as_str().unwrap_or_default().to_owned();
    let id = query.get("requestId").cloned().unwrap_or_default();
    if let Err((code, what)) = check(&request, &id) {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, code, what);
    }
    let is_retry = query.get("retry").is_some_and(|retry| retry == "true");
    let (fault, remembered) = {
        let mut state = shared.state.lock().unwrap();
        let fault = state.faults.iter().position(|(part, _)| statement.contains(part.as_str()));
        let fault = fault.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault);
        let remembered = state.done.get(&id).cloned();
        if let Some((known, _)) = &remembered
            && (*known != body || !is_retry)
        {
            state.violations.push(format!("request id {id} is used twice: {statement}"));
        }
        let executes =
            !matches!(fault, Some(Fault::TooMany | Fault::ServerError | Fault::Silent | Fault::AcknowledgeOnly));
        let is_executed = executes && remembered.is_none();
        state.asked.push(Asked { request_id: id.clone(), statement: statement.clone(), is_executed });
        (fault, remembered)
    };
    match fault {
        Some(Fault::TooMany) => return refusal(StatusCode::TOO_MANY_REQUESTS, "390000", "too many requests"),
        Some(Fault::ServerError) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, "390000", "internal error"),
        Some(Fault::Silent) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        Some(Fault::AcknowledgeOnly) => {
            return (StatusCode::OK, axum::Json(json!({"code": "090001", "statementHandle": id, "data": []})))
                .into_response();
        }
        _ => {}
    }
    let answer = match remembered {
        Some((_, answer)) => answer,
        None => {
            // The service notes primary keys and does not enforce them.
            request["statement"] = json!(without_primary_key(&statement));
            match shared.execute(&id, &request).await {
                Ok(answer) => {
                    shared.state.lock().unwrap().done.insert(id, (body, answer.clone()));
                    answer
                }
                Err((status, answer)) => return (status, axum::Json(answer)).into_response(),
            }
        }
    };
    let handle = answer["statementHandle"].as_str().unwrap_or_default().to_owned();
    let withheld = if let Some(Fault::Runs(looks)) = fault { looks } else { 0 };
    shared.state.lock().unwrap().by_handle.insert(handle.clone(), (withheld, answer.clone()));
    match fault {
        Some(Fault::Runs(_)) => running(&handle),
        Some(Fault::ErrorAfterExecute) => refusal(StatusCode::SERVICE_UNAVAILABLE, "390000", "unavailable"),
        // Ends the task of this connection, without a word in the test's output.
        Some(Fault::DropAfterExecute) => std::panic::resume_unwind(Box::new(())),
        _ => (StatusCode::OK, axum::Json(partition(&answer, 0))).into_response(),
    }
}

async fn look(
    State(shared): State<Arc<Shared>>,
    Path(handle): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(what) = shared.authenticate(&headers) {
        return refusal(StatusCode::UNAUTHORIZED, "390144", &what);
    }
    let number = query.get("partition").map_or(0, |number| number.parse().unwrap());
    let mut state = shared.state.lock().unwrap();
    match state.by_handle.get_mut(&handle) {
        None => refusal(StatusCode::NOT_FOUND, "390142", "no such statement"),
        Some((0, answer)) => (StatusCode::OK, axum::Json(partition(answer, number))).into_response(),
        Some((withheld, _)) => {
            *withheld -= 1;
            running(&handle)
        }
    }
}

/// What the service refuses in a request.
fn check(request: &Value, id: &str) -> Result<(), (&'static str, &'static str)> {
    if uuid::Uuid::parse_str(id).is_err() {
        return Err(("391902", "requestId is no UUID"));
    }
    for name in ["database", "schema", "warehouse", "role"] {
        if !request[name].is_string() {
            return Err(("391904", "a request stands alone: database, schema, warehouse, role"));
        }
    }
    let statement = request["statement"].as_str().unwrap_or_default();
    let is_several = statement.trim_end().trim_end_matches(';').contains(';');
    let has_binds = request["bindings"].as_object().is_some_and(|binds| !binds.is_empty());
    match (is_several, has_binds, request["parameters"]["MULTI_STATEMENT_COUNT"].is_null()) {
        (true, true, _) => Err(("391911", "several statements take no bind variables")),
        (true, _, true) => Err(("000008", "actual statement count did not match the desired statement count 1")),
        _ => Ok(()),
    }
}

impl Shared {
    /// Verifies the token as the service does.
    fn authenticate(&self, headers: &HeaderMap) -> Result<(), String> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if header("x-snowflake-authorization-token-type") != "KEYPAIR_JWT" || header("user-agent").is_empty() {
            return Err("token type or user agent is missing".to_owned());
        }
        let token = header("authorization").strip_prefix("Bearer ").ok_or("no bearer token")?;
        let parts: Vec<&str> = token.split('.').collect();
        let [head, claims, signature] = parts[..] else { return Err("JWT token is invalid".to_owned()) };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "JWT token is invalid".to_owned());
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|error| error.to_string())?;
        if head["alg"] != "RS256" {
            return Err("JWT token is not RS256".to_owned());
        }
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.key.public_key().as_ref());
        let signed = token.rsplit_once('.').map(|(signed, _)| signed).unwrap_or_default();
        public.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| "JWT token is invalid".to_owned())?;
        let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|error| error.to_string())?;
        if claims["sub"] != self.user || claims["iss"] != format!("{}.SHA256:{}", self.user, self.key.fingerprint()) {
            return Err("JWT token names another user or key".to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (issued, expires) = (claims["iat"].as_u64().unwrap_or(0), claims["exp"].as_u64().unwrap_or(0));
        if expires <= now || issued > now + 60 || expires > issued + 3600 {
            return Err("JWT token has expired".to_owned());
        }
        Ok(())
    }

    /// Has the peer execute it and gives the whole answer, times as the service writes them.
    async fn execute(&self, id: &str, request: &Value) -> Result<Value, (StatusCode, Value)> {
        let url = format!("{}/api/v2/statements?requestId={id}", self.upstream);
        let response = self.http.post(url).json(request).send().await.unwrap();
        let status = response.status();
        let mut answer: Value = response.json().await.unwrap_or(Value::Null);
        if status != StatusCode::OK {
            // The peer keeps a failed transaction open for whoever comes next.
            let url = format!("{}/api/v2/statements?requestId={}", self.upstream, uuid::Uuid::new_v4());
            self.http.post(url).json(&json!({"statement": "ROLLBACK"})).send().await.unwrap();
            return Err((status, answer));
        }
        let pages = answer["resultSetMetaData"]["partitionInfo"].as_array().map_or(1, Vec::len);
        for page in 1..pages {
            let handle = answer["statementHandle"].as_str().unwrap();
            let url = format!("{}/api/v2/statements/{handle}?partition={page}", self.upstream);
            let more: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
            let more = more["data"].as_array().cloned().unwrap_or_default();
            answer["data"].as_array_mut().unwrap().extend(more);
        }
        let times: Vec<bool> = answer["resultSetMetaData"]["rowType"].as_array().map_or_else(Vec::new, |columns| {
            columns.iter().map(|column| column["scale"] == 9 && column["length"] == 0).collect()
        });
        for row in answer["data"].as_array_mut().into_iter().flatten() {
            for (cell, is_time) in row.as_array_mut().into_iter().flatten().zip(&times) {
                if let (true, Some(text)) = (is_time, cell.as_str()) {
                    let at = Timestamp::parse_rfc3339(&format!("{}Z", text.replace(' ', "T"))).unwrap().0;
                    *cell = json!(format!("{}.{:06}000", at / 1_000_000, at % 1_000_000));
                }
            }
        }
        Ok(answer)
    }
}

/// One partition of an answer.
fn partition(answer: &Value, number: usize) -> Value {
    let rows = answer["data"].as_array().cloned().unwrap_or_default();
    let count = rows.len().div_ceil(PARTITION_ROWS).max(1);
    let mut part = answer.clone();
    part["data"] = json!(rows.chunks(PARTITION_ROWS).nth(number).unwrap_or_default());
    part["resultSetMetaData"]["partitionInfo"] = json!(vec![json!({"rowCount": 0}); count]);
    part
}

fn running(handle: &str) -> Response {
    let answer = json!({"code": "333334", "message": "in progress", "statementHandle": handle});
    (StatusCode::ACCEPTED, axum::Json(answer)).into_response()
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({"code": code, "message": message, "sqlState": "00000"}))).into_response()
}

fn without_primary_key(statement: &str) -> String {
    if !statement.starts_with("CREATE TABLE") {
        return statement.to_owned();
    }
    let statement = statement.replace(" NOT NULL PRIMARY KEY", " NOT NULL");
    match statement.find("PRIMARY KEY (") {
        Some(at) => format!("{})", statement[..at].trim_end().trim_end_matches(',')),
        None => statement,
    }
}
