//! The witness over HTTP: `POST /add-checkpoint` and nothing else.
//!
//! Open to everyone, as the protocol has it: the signature on the checkpoint is the only admission. So everything is
//! bounded: connections and their silence (`listen`), bytes of a body, time of a request, requests at once and a second. TLS
//! ends in front of it.
//! Spec: c2sp.org/tlog-witness, HTTP Interface.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, watch};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::ListenError;
use super::listen::Accepted;
use crate::core::time::Timestamp;
use crate::core::witness::{Objection, SIZE_CONTENT_TYPE};
use crate::witness::{Refusal, Witness};

/// The most bytes of a request: 63 hashes of a proof and a checkpoint with over a hundred signatures.
const BODY_BYTES_MAX: usize = 32 * 1024;
/// A request that takes longer is dropped, its body included.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Requests that are read or answered at one time; one more is told to come again.
const AT_ONCE: usize = 64;
/// Requests a second, whoever sends them; a verified signature costs 40 us and a synced commit a few ms.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);

/// The time of the wall clock.
pub type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

struct Served {
    witness: Arc<Witness>,
    clock: Clock,
    pace: DefaultDirectRateLimiter,
    places: Semaphore,
    /// Told once the state failed: a witness that is unsure of itself ends.
    halted: watch::Sender<bool>,
}

/// A witness that is bound and not yet serving.
pub struct WitnessServer {
    listener: tokio::net::TcpListener,
    served: Arc<Served>,
}

impl WitnessServer {
    /// Binds `address`, so that a port in use is an error at the start and not later.
    ///
    /// # Errors
    /// [`ListenError`] with the address.
    pub async fn bind(address: &str, witness: Arc<Witness>, clock: Clock) -> Result<WitnessServer, ListenError> {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|source| ListenError { address: address.to_owned(), source })?;
        let served = Served {
            witness,
            clock,
            pace: RateLimiter::direct(Quota::per_second(PER_SECOND)),
            places: Semaphore::new(AT_ONCE),
            halted: watch::Sender::new(false),
        };
        Ok(WitnessServer { listener, served: Arc::new(served) })
    }

    /// The address it is bound to, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `stop` is ready or the witness halts; requests that are under way are answered first.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) {
        let mut halted = self.served.halted.subscribe();
        let stop = async move {
            tokio::select! {
                () = stop => {}
                _ = halted.wait_for(|halted| *halted) => {}
            }
        };
        let Ok(address) = self.listener.local_addr() else { return };
        let connections = Accepted::begin(self.listener, address, None);
        // An error here is a failing accept loop; the caller sees that serving ended without being told to.
        let _ = axum::serve(connections, router(self.served)).with_graceful_shutdown(stop).await;
    }
}

fn router(served: Arc<Served>) -> Router {
    let in_time = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_MAX);
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(in_time)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&served), admit))
        .with_state(served)
}

/// Before the body is read: a place among those at work, and a part of this second.
async fn admit(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let Ok(_place) = served.places.try_acquire() else {
        return again(StatusCode::SERVICE_UNAVAILABLE, 1, "too many requests at once\n");
    };
    match served.pace.check() {
        Ok(()) => next.run(request).await,
        Err(_) => again(StatusCode::TOO_MANY_REQUESTS, 1, "too many requests\n"),
    }
}

async fn add_checkpoint(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    let judging = Arc::clone(&served);
    let judged = tokio::task::spawn_blocking(move || judging.witness.add_checkpoint(&body, (judging.clock)())).await;
    match judged {
        Ok(Ok(line)) => text(StatusCode::OK, line),
        Ok(Err(refusal)) => {
            let response = refused(&refusal);
            if served.witness.is_halted() {
                served.halted.send_replace(true);
            }
            response
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "this request met a bug\n".to_owned()),
    }
}

/// The status of the spec for each refusal, and the reason in a line.
fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Malformed(_) | Refusal::Objection(Objection::Backwards { .. }) => StatusCode::BAD_REQUEST,
        Refusal::NotSigned { .. } => StatusCode::FORBIDDEN,
        Refusal::UnknownLog { .. } => StatusCode::NOT_FOUND,
        Refusal::Objection(Objection::OtherSize { known, .. } | Objection::OtherRoot { known, .. }) => {
            let size = [(header::CONTENT_TYPE, HeaderValue::from_static(SIZE_CONTENT_TYPE))];
            return (StatusCode::CONFLICT, size, format!("{known}\n")).into_response();
        }
        Refusal::Objection(Objection::Proof { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooOften { seconds, .. } => {
            return again(StatusCode::TOO_MANY_REQUESTS, *seconds, &format!("{refusal}\n"));
        }
        Refusal::Halted(error) => {
            // Paths and what the disk said are the operator's, not the client's.
            tracing::error!(%error, "the witness halts: nothing more is cosigned");
            return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", Refusal::HaltedBefore));
        }
        Refusal::HaltedBefore => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, format!("{refusal}\n"))
}

fn again(status: StatusCode, seconds: u64, why: &str) -> Response {
    let mut response = text(status, why.to_owned());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn text(status: StatusCode, body: String) -> Response {
    const TYPE: (HeaderName, HeaderValue) =
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    (status, [TYPE, (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response()
}
