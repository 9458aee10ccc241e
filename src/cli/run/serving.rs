//! What `run` serves over HTTP: the board the loop renews, and the tiles a thread of their own grows.
//!
//! Nothing here holds up the loop: it leaves its status on the board, and whoever asks reads that.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::verify::files::Files;
use super::super::{Failure, metrics, now, open};
use crate::config::Config;
use crate::http::{Access, Api, Health, Probes, Server, Tls, TlsFiles};
use crate::sidecar::{Sidecar, Status};
use crate::tiles::{Segments, Store};

/// What HTTP shows of the loop, renewed by it.
#[derive(Default)]
pub(super) struct Board {
    shown: Mutex<Option<(Instant, Status)>>,
    /// Told when it was renewed.
    renewed: Condvar,
}

/// The loop counts as alive while it stepped within this time.
const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// How often the board is renewed.
const RENEW: Duration = Duration::from_millis(250);
/// When tiles that could not be grown are tried again.
const GROW_AGAIN: Duration = Duration::from_secs(60);

impl Board {
    pub(super) fn renew(&self, sidecar: &Sidecar) {
        let mut shown = self.lock();
        if shown.as_ref().is_none_or(|(at, _)| at.elapsed() >= RENEW) {
            *shown = Some((Instant::now(), sidecar.status(now(), true)));
            self.renewed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Status)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> Health {
        let shown = self.lock();
        let Some((at, status)) = shown.as_ref() else { return Health::default() };
        let paused = status.paused.map(|why| format!("paused: {why}"));
        let missing = status.waiting_for.iter().map(|(who, why)| format!("{who}: {why}"));
        let reasons: Vec<String> = paused.into_iter().chain(missing).collect();
        let is_live = at.elapsed() < ALIVE_WITHIN;
        Health { is_live, is_ready: is_live && reasons.is_empty() && status.halted.is_none(), reasons }
    }

    fn metrics(&self) -> String {
        self.lock().as_ref().map_or_else(|| "# EOF\n".to_owned(), |(_, status)| metrics::text(status))
    }

    fn status(&self) -> String {
        let shown = self.lock();
        shown.as_ref().and_then(|(_, status)| serde_json::to_string(status).ok()).unwrap_or_else(|| "{}".to_owned())
    }

    /// Waits until more than `segments` are released, and says how many.
    fn await_released(&self, segments: u64) -> u64 {
        let mut shown = self.lock();
        loop {
            let released = shown.as_ref().map_or(0, |(_, status)| status.released.segments);
            if released > segments {
                return released;
            }
            shown = self.renewed.wait(shown).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What is served, as far as it can be read anew.
pub(super) struct Served {
    access: Option<Arc<Access>>,
    tls: Option<Arc<Tls>>,
}

impl Served {
    /// Binds the configured addresses and serves them until the process ends.
    ///
    /// # Errors
    /// An address, a certificate or a tokens file that cannot be used.
    pub(super) fn begin(
        config: &Config,
        runtime: &tokio::runtime::Runtime,
        board: &Arc<Board>,
    ) -> Result<Served, Failure> {
        let http = &config.http;
        let mut served = Served { access: None, tls: None };
        if !http.listen.is_empty() {
            let (access, tls) = (access(config)?, tls(config)?.map(Arc::new));
            let api = Api {
                status: Box::new({
                    let board = Arc::clone(board);
                    move || board.status()
                }),
                tiles: tiles(config, board)?,
            };
            let mut server = bind(&http.listen, runtime, board)?.with_api(Arc::new(api), Arc::clone(&access));
            if let Some(tls) = &tls {
                server = server.with_tls(Arc::clone(tls));
            }
            warn_of_clear_text(&server, tls.is_some());
            spawn(server, runtime, "serving health, metrics and the read API");
            (served.access, served.tls) = (Some(access), tls);
        }
        if !http.health_listen.is_empty() {
            spawn(bind(&http.health_listen, runtime, board)?, runtime, "serving health and metrics");
        }
        Ok(served)
    }

    /// Reads tokens and certificates again; what cannot be used leaves the old in use.
    pub(super) fn reread(&self) {
        if let Some(Err(error)) = self.access.as_ref().map(|access| access.reread()) {
            tracing::warn!(error = %error, "the tokens were not reread; the old ones stay in use");
        }
        if let Some(Err(error)) = self.tls.as_ref().map(|tls| tls.reread()) {
            tracing::warn!(error = %error, "the certificates were not reread; the old ones stay in use");
        }
    }
}

fn bind(address: &str, runtime: &tokio::runtime::Runtime, board: &Arc<Board>) -> Result<Server, Failure> {
    let (of_health, of_metrics) = (Arc::clone(board), Arc::clone(board));
    let probes =
        Probes { health: Box::new(move || of_health.health()), metrics: Box::new(move || of_metrics.metrics()) };
    let server = runtime.block_on(Server::bind(address, Arc::new(probes)));
    server.map_err(|e| Failure::new(2, "listen", e.to_string()).hint("choose another port in [http]"))
}

fn spawn(server: Server, runtime: &tokio::runtime::Runtime, what: &str) {
    tracing::info!(address = server.address().map(tracing::field::display), "{what}");
    runtime.spawn(server.serve(std::future::pending()));
}

/// A token in clear text beyond this machine is for whoever listens.
fn warn_of_clear_text(server: &Server, is_encrypted: bool) {
    let is_local = server.address().is_some_and(|address| address.ip().is_loopback());
    if !is_encrypted && !is_local {
        tracing::warn!("tokens reach http.listen in clear text; set http.tls_cert, or end TLS in front of it");
    }
}

fn access(config: &Config) -> Result<Arc<Access>, Failure> {
    let per_second = NonZeroU32::new(config.http.requests_per_second_max).unwrap_or(NonZeroU32::MIN);
    let access = Access::open(config.http.tokens.clone(), per_second);
    let wrong = |e: crate::http::tokens::TokensError| {
        Failure::new(2, "config", e.to_string()).hint("`pinfold token list` reads the same file")
    };
    access.map(Arc::new).map_err(wrong)
}

fn tls(config: &Config) -> Result<Option<Tls>, Failure> {
    let http = &config.http;
    let Some((certificate, key)) = http.tls_cert.clone().zip(http.tls_key.clone()) else { return Ok(None) };
    let tls = Tls::open(TlsFiles { certificate, key, client_ca: http.client_ca.clone() });
    tls.map(Some).map_err(|e| {
        Failure::new(2, "config", format!("http: {e}")).hint("correct http.tls_cert, http.tls_key or http.client_ca")
    })
}

/// The log's tiles, which a thread grows with every segment that is released. Tiles that cannot be used are no reason
/// not to fold: they are derived, and the API says that it has none.
fn tiles(config: &Config, board: &Arc<Board>) -> Result<Option<Arc<Store>>, Failure> {
    let store = match Store::open(&config.log.data.join("tiles"), &open::origin(config)?) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            tracing::warn!(error = %error, hint = error.hint(), "no tiles are served");
            return Ok(None);
        }
    };
    let (growing, board, archive) = (Arc::clone(&store), Arc::clone(board), config.log.data.join("archive"));
    let thread = std::thread::Builder::new().name("tiles".to_owned());
    // Ends with the process, at any point: what it was at is done again by the next.
    let spawned = thread.spawn(move || grow(&growing, &board, &archive));
    spawned.map_err(|e| Failure::new(3, "threads", format!("starting a thread: {e}")))?;
    Ok(Some(store))
}

fn grow(store: &Store, board: &Board, archive: &Path) {
    let mut grown = 0;
    loop {
        let released = board.await_released(grown);
        let outcome = match Files::of_dir(archive) {
            Ok(files) => store.grow(Segments::new(&files, released)).map_err(|error| (error.to_string(), error.hint())),
            Err(failure) => Err((failure.message, "")),
        };
        match outcome {
            Ok(_) => grown = released,
            Err((error, hint)) => {
                tracing::warn!(error, hint, "the tiles were not grown; it is tried again");
                std::thread::sleep(GROW_AGAIN);
            }
        }
    }
}
