//! Bodies: read whole, within limits in size, in time, and in memory over all requests.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use model::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use std::sync::Arc;
use std::time::Duration;

use super::problem::Problem;

/// What all longer bodies together may take while they come in, in KiB. Without it, ten thousand clients that send a
/// megabyte each, slowly, would hold ten gigabytes.
const BUDGET: usize = 128 << 10;

/// Bodies up to this many bytes are not counted: ten thousand of them are as much as the budget.
const FREE: usize = 16 << 10;

/// How long what follows a refused body is read on.
const LINGER: Duration = Duration::from_secs(1);

/// Room for bodies.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// A whole body, and the room it takes.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }

    /// Reads a JSON body of at most `limit` bytes that may take as long as `time`.
    ///
    /// # Errors
    ///
    /// 408, 413, 415, or 503 when there is no room.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
        time: Duration,
    ) -> Result<Whole, Box<Problem>> {
        let mut body = body;
        let whole = async {
            let whole = match media_type(headers) {
                Ok(()) => self.collect(&mut body, limit).await,
                Err(problem) => Err(problem),
            };
            if whole.is_err() && !headers.contains_key(header::EXPECT) {
                // Who sends no more waits for the answer.
                let _ = timeout(LINGER, discard(&mut body)).await;
            }
            whole
        };
        match timeout(time, whole).await {
            Ok(whole) => whole,
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "too-slow",
                "The request took too long",
                format!(
                    "The body was not complete after {} seconds.",
                    time.as_secs()
                ),
            )),
        }
    }

    async fn collect(&self, body: &mut Body, limit: usize) -> Result<Whole, Box<Problem>> {
        // What the sender announces: refused before it is sent.
        let announced = hyper::body::Body::size_hint(body).lower();
        if announced > limit as u64 {
            return Err(too_large(limit));
        }
        let mut room = None;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            let frame = match body.frame().await {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Err(broken()),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let size = first.len() + rest.len() + data.len();
            if size > limit {
                return Err(too_large(limit));
            }
            if size > FREE && room.is_none() {
                // All of it at once, or two half-read bodies could wait for each other's room.
                let most = if announced > 0 {
                    announced as usize
                } else {
                    limit
                };
                room = Some(self.take(most)?);
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            if rest.is_empty() {
                // What is announced is believed once it is paid for.
                rest.reserve(if room.is_some() {
                    announced as usize
                } else {
                    size
                });
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
        Ok(Whole {
            bytes: if rest.is_empty() {
                first
            } else {
                rest.freeze()
            },
            _room: room,
        })
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Box<Problem>> {
        let amount = bytes.div_ceil(1 << 10).min(BUDGET) as u32;
        Arc::clone(&self.0)
            .try_acquire_many_owned(amount)
            .map_err(|_| {
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "overloaded",
                    "Too many large bodies at once",
                    "There is no room for this body now; try again in a moment.",
                )
                .retry_after(1)
            })
    }
}

/// Reads on after a refusal, into nowhere. Most clients read the answer only once they have sent everything; to close before
/// that resets the connection, and they never see what was wrong. Whoever sends more than this does not care.
async fn discard(body: &mut Body) {
    let mut left: usize = 16 << 20;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Refuses what is labelled as something else than JSON. No label at all is taken for JSON.
fn media_type(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    let unsupported = |detail| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Problem::new(status, "media-type", "The body is not JSON", detail)
    };
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && coding != "identity"
    {
        let detail = "The body is compressed, which is not understood; send it as it is.";
        return Err(unsupported(detail));
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    Err(unsupported(
        "Send JSON, with the header Content-Type: application/json.",
    ))
}

fn too_large(limit: usize) -> Box<Problem> {
    let limit = ByteSize(limit as u64);
    let detail = format!("A body here may have {limit} at most.");
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
        detail,
    )
}

fn broken() -> Box<Problem> {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "broken-body",
        "The body is broken",
        "The connection ended before the body did, or its framing is wrong.",
    )
}
