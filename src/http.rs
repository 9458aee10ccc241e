//! HTTP: health and metrics, open to whoever reaches the address, and the read API, for those who show who they are.
//! The server of a witness is in `witness`.
//!
//! Health shows counts and states, never content, subjects or heads; what is released of the log is in `api`, and who
//! gets it in `guard`. What is shown is handed in, so that the server knows nothing of the loop behind it. Everything is
//! bounded: connections, their life, bodies, time, requests a second.
//! Contract: surface.md, HTTP; metrics in OpenMetrics text 1.0.0.

mod answer;
mod api;
mod guard;
mod listen;
mod tls;
pub mod tokens;
pub mod witness;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

pub use api::Api;
pub use guard::Access;
pub use tls::{Tls, TlsError, TlsFiles};

use answer::answer;
use listen::{Accepted, Peer};

/// How the process is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// The loop made progress lately.
    pub is_live: bool,
    /// It takes records, and everyone it needs answers.
    pub is_ready: bool,
    /// Who or what is missing, one line each: `paused: disk`, `pin kubo: connection refused`.
    pub reasons: Vec<String>,
}

/// Where the answers come from.
pub struct Probes {
    /// Asked for every `/livez` and `/readyz`.
    pub health: Box<dyn Fn() -> Health + Send + Sync>,
    /// Asked for every `/metrics`: OpenMetrics text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("http: listening on {address}: {source}")]
pub struct ListenError {
    /// The configured address.
    pub address: String,
    /// Why not.
    pub source: std::io::Error,
}

/// A server that is bound and not yet serving.
pub struct Server {
    listener: tokio::net::TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
}

/// A request that takes longer is answered with an error: every answer is some kilobytes from memory or a file.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Bytes of a body: nothing here takes one.
const BODY_BYTES_MAX: usize = 16 << 10;

impl Server {
    /// Binds `address`, so that a port in use is an error at the start and not later.
    ///
    /// # Errors
    /// [`ListenError`] with the address.
    pub async fn bind(address: &str, probes: Arc<Probes>) -> Result<Server, ListenError> {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| ListenError { address: address.to_owned(), source })?;
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(probes);
        Ok(Server { listener, router, tls: None })
    }

    /// Serves the read API too, to whom `access` lets in. Any other path then answers as the API does.
    #[must_use]
    pub fn with_api(mut self, api: Arc<Api>, access: Arc<Access>) -> Server {
        let guard = axum::middleware::from_fn_with_state(access, guard::admit);
        self.router = self.router.merge(api::routes(api).layer(guard));
        self
    }

    /// Serves over TLS alone.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<Tls>) -> Server {
        self.tls = Some(tls);
        self
    }

    /// The address it is bound to, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `stop` is ready.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) {
        let Ok(address) = self.listener.local_addr() else { return };
        let connections = Accepted::begin(self.listener, address, self.tls);
        let router = self
            .router
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, 2 * REQUEST_MAX))
            .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX));
        let router = router.into_make_service_with_connect_info::<Peer>();
        // An error here is a failing accept loop; the loop that folds records must not end with it.
        let _ = axum::serve(connections, router).with_graceful_shutdown(stop).await;
    }
}

fn lines(ok: bool, reasons: &[String]) -> Response {
    let (status, first) = if ok { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok") };
    let text = std::iter::once(first).chain(reasons.iter().map(String::as_str)).collect::<Vec<_>>().join("\n");
    (status, [(header::CACHE_CONTROL, "no-store")], text + "\n").into_response()
}

async fn livez(State(probes): State<Arc<Probes>>) -> Response {
    answer(move || lines((probes.health)().is_live, &[])).await
}

async fn readyz(State(probes): State<Arc<Probes>>) -> Response {
    answer(move || {
        let health = (probes.health)();
        lines(health.is_ready, &health.reasons)
    })
    .await
}

async fn metrics(State(probes): State<Arc<Probes>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    answer(move || ([(header::CONTENT_TYPE, TYPE)], (probes.metrics)()).into_response()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(health: Health, path: &str) -> String {
        let probes = Probes { health: Box::new(move || health.clone()), metrics: Box::new(|| "m 1\n# EOF\n".into()) };
        let server = Server::bind("127.0.0.1:0", Arc::new(probes)).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async move { drop(stopped.await) }));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.send(()).unwrap();
        serving.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_live_process_that_waits_is_not_ready_and_says_for_whom() {
        let health = Health { is_live: true, is_ready: false, reasons: vec!["paused: disk".into()] };
        assert!(fetch(health.clone(), "/livez").await.starts_with("HTTP/1.1 200"));
        let ready = fetch(health, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("not ok\npaused: disk\n"), "{ready}");
    }

    #[tokio::test]
    async fn metrics_carry_their_content_type_and_unknown_paths_are_404() {
        let metrics = fetch(Health::default(), "/metrics").await;
        assert!(metrics.contains("application/openmetrics-text; version=1.0.0") && metrics.ends_with("# EOF\n"));
        assert!(fetch(Health::default(), "/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let probes = Probes { health: Box::new(Health::default), metrics: Box::new(String::new) };
        let error = Server::bind(&address, Arc::new(probes)).await.err().unwrap();
        assert!(error.to_string().contains(&address));
    }
}
