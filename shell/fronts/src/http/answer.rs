//! Answers as JSON.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use model::Revision;
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::Freshness;

/// The registry's revision that an answer stands for.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("x-pointsman-revision");

/// How many milliseconds ago what is said was sure to be all there was, or `unknown`.
pub(crate) const AGE: HeaderName = HeaderName::from_static("x-pointsman-age-ms");

/// The node that leads.
pub(crate) const LEADER: HeaderName = HeaderName::from_static("x-pointsman-leader");

/// As many items as are encoded at a time. What a slow reader pins is one piece, not the whole list.
const PIECE: usize = 256;

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, kind())], bytes).into_response(),
        Err(e) => internal(format!("The answer could not be written: {e}.")).into_response(),
    }
}

/// A JSON answer with a list in it: `head` is everything up to the list's first item, `]}` follows the last.
pub(crate) fn list<T: Send + 'static>(
    mut head: Vec<u8>,
    items: Vec<T>,
    encode: impl Fn(&T, &mut Vec<u8>) + Send + 'static,
) -> Response {
    let pieces = items.len().div_ceil(PIECE).max(1);
    let mut piece = move |number: usize| {
        let mut bytes = std::mem::take(&mut head);
        let first = number * PIECE;
        for (place, item) in items.iter().enumerate().skip(first).take(PIECE) {
            if place > 0 {
                bytes.push(b',');
            }
            encode(item, &mut bytes);
        }
        if number + 1 == pieces {
            bytes.extend_from_slice(b"]}");
        }
        bytes
    };
    let body = match pieces {
        // With its length in front, as most clients like it.
        1 => Body::from(piece(0)),
        _ => Body::from_stream(stream::iter(
            (0..pieces).map(move |number| Ok::<_, Infallible>(piece(number))),
        )),
    };
    ([(header::CONTENT_TYPE, kind())], body).into_response()
}

/// Appends a value to a list.
pub(crate) fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and no value here has a map with keys that are no texts.
    let _ = serde_json::to_writer(out, value);
}

impl Api {
    /// Adds to an answer the revision that it stands for, how old that may be, and who leads.
    pub(crate) fn at(&self, revision: Revision, mut response: Response) -> Response {
        response.headers_mut().insert(REVISION, revision.0.into());
        self.seen(response)
    }

    /// Adds to an answer how old what it says may be, and who leads.
    pub(crate) fn seen(&self, mut response: Response) -> Response {
        let Freshness { age, leader } = self.directory.freshness();
        let headers = response.headers_mut();
        let unknown = HeaderValue::from_static("unknown");
        let age = age.map_or(unknown, |age| {
            (age.as_micros().div_ceil(1_000) as u64).into()
        });
        headers.insert(AGE, age);
        if let Some(Ok(leader)) = leader.map(|leader| HeaderValue::try_from(&*leader)) {
            headers.insert(LEADER, leader);
        }
        response
    }
}

/// What must not happen: not the client's fault.
pub(crate) fn internal(detail: impl Into<String>) -> Box<Problem> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "internal", "Something went wrong here", detail)
}

fn kind() -> HeaderValue {
    HeaderValue::from_static("application/json")
}
