//! How answers are made: off the threads that serve, within a time, and errors as one JSON object.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::REQUEST_MAX;

/// Makes an answer where it may block.
pub(super) async fn answer(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    let made = tokio::time::timeout(REQUEST_MAX, tokio::task::spawn_blocking(make)).await;
    match made {
        Ok(Ok(response)) => response,
        _ => error(StatusCode::SERVICE_UNAVAILABLE, "timeout", "not answered in time"),
    }
}

/// An error. The message is about the request, never about what is inside.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = Json(json!({ "error": { "code": code, "message": message } }));
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Bytes of a type, kept by caches as told.
pub(super) fn bytes(content_type: &'static str, cache: &'static str, body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body).into_response()
}
