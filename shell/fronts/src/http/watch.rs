//! `GET /v1/services/{service}/watch`: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use model::{Revision, ServiceKey};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::feed::{Feed, Frame};
use super::input::Input;
use super::instances::incomplete;
use super::problem::Problem;
use super::{Api, Shared};
use crate::{Reason, Refused};

const ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// `GET /v1/services/{service}/watch`
pub(crate) async fn watch(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let key = input.service_key();
    let last = last_event(&mut input);
    let demand = input.demand();
    input.finish()?;
    let Some(key) = key else {
        return Err(incomplete());
    };
    api.meet(demand).await?;
    let Some((feed, frames)) = api.feeds.subscribe(&key) else {
        return Err(Box::<Problem>::from(Refused {
            reason: Reason::Closing,
            detail: "Watch at another node, or here in a moment.".into(),
        }));
    };
    let (position, first) = begin(&api, &key, &feed, last);
    let watcher = Watcher {
        feed,
        frames,
        position,
        first,
    };
    let events = stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok::<_, Infallible>(bytes), watcher))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let response = (headers, Body::from_stream(events)).into_response();
    Ok(api.at(position, response))
}

/// What a watcher is sent first, and the revision it stands for.
fn begin(
    api: &Api,
    key: &ServiceKey,
    feed: &Feed,
    last: Option<Revision>,
) -> (Revision, Option<Bytes>) {
    if let Some(last) = last
        // A revision of another registry's: this one has forgotten, or is another.
        && last <= api.directory.service(key).0
        && let Some(missed) = feed.since(last)
    {
        return match missed {
            Some(chunk) => (chunk.last(), chunk.after(last)),
            None => (last, Some(ALIVE)),
        };
    }
    let (revision, bytes) = feed.snapshot();
    (revision, Some(bytes))
}

fn last_event(input: &mut Input) -> Option<Revision> {
    let value = input.headers.get("last-event-id")?;
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    if number.is_none() {
        let detail = "must be the id of an event, a revision";
        input.faults.header("Last-Event-ID", detail);
    }
    number.map(Revision)
}

struct Watcher {
    feed: Arc<Feed>,
    frames: Receiver<Frame>,
    /// What it has been sent.
    position: Revision,
    first: Option<Bytes>,
}

impl Watcher {
    /// What it is sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            match self.frames.recv().await {
                Ok(Frame::Changes(chunk)) => {
                    if let Some(bytes) = chunk.after(self.position) {
                        self.position = chunk.last();
                        return Some(bytes);
                    }
                }
                Ok(Frame::Alive) => return Some(ALIVE),
                Ok(Frame::Lost) | Err(RecvError::Lagged(_)) => {
                    let (revision, bytes) = self.feed.snapshot();
                    self.position = revision;
                    return Some(bytes);
                }
                Ok(Frame::End) | Err(RecvError::Closed) => return None,
            }
        }
    }
}
