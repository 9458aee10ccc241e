//! What may be read of a log: its released checkpoint, its tiles, proofs, entries as anyone may see them, its status.
//!
//! Everything but the status comes from the tile store, which holds released sizes and no other. No content is served:
//! parts are shown by their digests. Spec: c2sp.org/tlog-tiles v1; surface.md, HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use super::answer::{answer, bytes, error};
use crate::core::leaf::Leaf;
use crate::core::proof::evidence;
use crate::core::seq::Seq;
use crate::core::tile::Tile;
use crate::tiles::{Store, TilesError};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
const TAR: &str = "application/x-tar";
/// What changes with the next segment.
const FRESH: &str = "no-cache";
/// What never changes. Private: it was given to somebody who showed who he is.
const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// Where the answers come from.
pub struct Api {
    /// Asked for every `/api/v1/status`: JSON.
    pub status: Box<dyn Fn() -> String + Send + Sync>,
    /// The log's tiles; `None` where they cannot be used, which the process has said.
    pub tiles: Option<Arc<Store>>,
}

/// The routes; who may ask is not known here.
pub(super) fn routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/api/v1/status", get(status))
        .route("/api/v1/proofs/{seq}", get(proof))
        .route("/api/v1/entries/{seq}", get(entry))
        .fallback(async || not_found())
        .with_state(api)
}

async fn status(State(api): State<Arc<Api>>) -> Response {
    answer(move || bytes(JSON, "no-store", (api.status)().into_bytes())).await
}

async fn checkpoint(State(api): State<Arc<Api>>) -> Response {
    from_tiles(api, |tiles| {
        let newest = tiles.checkpoint();
        Ok(newest.map(|newest| bytes(TEXT, FRESH, newest.note.clone().into_bytes())))
    })
    .await
}

async fn tile(State(api): State<Arc<Api>>, Path(path): Path<String>) -> Response {
    let Ok(tile) = Tile::parse(&format!("tile/{path}")) else { return not_found() };
    from_tiles(api, move |tiles| Ok(tiles.tile(tile)?.map(|body| bytes(BINARY, FOR_EVER, body)))).await
}

async fn proof(State(api): State<Arc<Api>>, Path(seq): Path<String>) -> Response {
    let Some(seq) = read_seq(&seq) else { return not_found() };
    from_tiles(api, move |tiles| {
        let Some(newest) = tiles.checkpoint().filter(|newest| seq.size() <= newest.head.size) else { return Ok(None) };
        let proofs = tiles.proofs([seq], &newest)?;
        // With a change of key before the checkpoint it is more than one, which is a tar.
        Ok(Some(match proofs.as_slice() {
            [proof] => bytes(TEXT, FRESH, proof.to_text().into_bytes()),
            _ => bytes(TAR, FRESH, evidence::write(proofs, &[])?),
        }))
    })
    .await
}

async fn entry(State(api): State<Arc<Api>>, Path(seq): Path<String>) -> Response {
    let Some(seq) = read_seq(&seq) else { return not_found() };
    from_tiles(api, move |tiles| {
        if seq.size() > tiles.size() {
            return Ok(None);
        }
        let leaf = tiles.leaf(seq)?;
        let shown = Leaf::decode(&leaf)?.shown(&leaf).to_string();
        Ok(Some(bytes(JSON, FOR_EVER, shown.into_bytes())))
    })
    .await
}

/// A decimal number in its one spelling.
fn read_seq(text: &str) -> Option<Seq> {
    let seq = text.parse().ok().filter(|seq: &u64| *seq <= crate::core::seq::UINT_MAX && seq.to_string() == text)?;
    Some(Seq(seq))
}

async fn from_tiles(
    api: Arc<Api>,
    read: impl FnOnce(&Store) -> Result<Option<Response>, TilesError> + Send + 'static,
) -> Response {
    answer(move || {
        let Some(tiles) = &api.tiles else { return unusable() };
        match read(tiles) {
            Ok(Some(response)) => response,
            Ok(None) | Err(TilesError::OutOfRange { .. }) => not_found(),
            Err(trouble) => {
                tracing::warn!(error = %trouble, hint = trouble.hint(), "the tiles cannot be read");
                unusable()
            }
        }
    })
    .await
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not-found", "nothing released is there")
}

fn unusable() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "tiles", "the tiles of the log cannot be read now")
}
