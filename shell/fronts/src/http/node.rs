//! About the node itself: metrics, health, and what the API can do.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::answer::json;
use super::input::Input;
use super::problem::Problem;

/// The API's description.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

static INDEX: LazyLock<String> = LazyLock::new(contents);

/// `GET /metrics`
pub(crate) async fn metrics(State(api): Shared) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], api.traffic.metrics()).into_response()
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Response {
    json(StatusCode::OK, &json!({ "status": "live" }))
}

/// `GET /readyz`: the node is fit to be sent work.
pub(crate) async fn readyz(State(api): Shared) -> Result<Response, Box<Problem>> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let not_ready =
        |detail| Problem::new(status, "not-ready", "The node is not ready", detail).retry_after(1);
    if *api.closing.borrow() {
        return Err(not_ready("It is shutting down.".into()));
    }
    api.traffic.ready().map_err(not_ready)?;
    Ok(json(StatusCode::OK, &json!({ "status": "ready" })))
}

/// `GET /v1/cluster`: how the cluster looks from here.
pub(crate) async fn cluster(State(api): Shared, input: Input) -> Result<Response, Box<Problem>> {
    input.finish()?;
    let cluster = api.directory.cluster().await;
    Ok(api.seen(json(StatusCode::OK, &cluster)))
}

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], OPENAPI).into_response()
}

/// `GET /`: what there is.
pub(crate) async fn index(input: Input) -> Result<Response, Box<Problem>> {
    input.finish()?;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], INDEX.as_str()).into_response())
}

/// The list of calls, out of the API's description.
fn contents() -> String {
    let description: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    let mut text = String::from("pointsman: the native API\n\n");
    for (path, methods) in description["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            if let Some(summary) = operation["summary"].as_str() {
                let method = method.to_ascii_uppercase();
                // Writing to memory does not fail.
                let _ = writeln!(text, "{method:6} {path:50} {summary}");
            }
        }
    }
    text
}
