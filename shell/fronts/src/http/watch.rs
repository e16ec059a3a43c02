//! `GET /v1/services/{service}/watch`: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use model::{Revision, ServiceKey};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::feed::{Feed, Frame, Numbered};
use super::input::Input;
use super::instances::incomplete;
use super::problem::Problem;
use super::values::subscriber;
use super::watchers::Guest;
use super::{Api, Shared};
use crate::{Reason, Refused};

const ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// `GET /v1/services/{service}/watch`
pub(crate) async fn watch(
    State(api): Shared,
    uri: Uri,
    mut input: Input,
) -> Result<Response, Box<Problem>> {
    let key = input.service_key();
    let last = last_event(&mut input);
    let demand = input.demand();
    let name = input.optional("home", subscriber);
    let passed_on = input.parameter("from").is_some();
    input.may_last()?;
    input.finish()?;
    let Some(key) = key else {
        return Err(incomplete());
    };
    // Once is enough: if two nodes do not agree for a moment, one of them serves it.
    if let Some(name) = name.as_deref().filter(|_| !passed_on)
        && let Some(redirection) = api.homewards(name, &uri)
    {
        return Ok(redirection);
    }
    api.meet(demand).await?;
    // What another node has told of may be on its way here. If that cannot be known, a snapshot is the best there is.
    let known = match last {
        Some(last) => api.has_been(&key, last).await.unwrap_or(false),
        None => false,
    };
    let Some((feed, frames)) = api.feeds.subscribe(&key) else {
        return Err(Box::<Problem>::from(Refused {
            reason: Reason::Closing,
            detail: "Watch at another node, or here in a moment.".into(),
        }));
    };
    let (position, first) = begin(&feed, last.filter(|_| known));
    let guest = api.watchers.enter(&key, name, last, feed.sent());
    let watcher = Watcher {
        key,
        feed,
        frames,
        position,
        first,
        guest,
        over: false,
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

/// What a watcher is sent first, and the revision it stands for. `last` is a revision that there has been.
fn begin(feed: &Feed, last: Option<Revision>) -> (Revision, Option<Bytes>) {
    if let Some(last) = last
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

impl Api {
    /// A redirection to the node that a subscriber's name is at home at, if that is another one.
    fn homewards(&self, name: &str, uri: &Uri) -> Option<Response> {
        let home = self.directory.home(name);
        let api = home.api.filter(|_| !home.here)?;
        let query = uri.query().unwrap_or_default();
        let from: String = form_urlencoded::byte_serialize(home.from.as_bytes()).collect();
        let location = format!("{api}{}?{query}&from={from}", uri.path());
        let location = HeaderValue::try_from(location).ok()?;
        let headers = [(header::LOCATION, location)];
        let response = (StatusCode::TEMPORARY_REDIRECT, headers).into_response();
        Some(self.seen(response))
    }
}

struct Watcher {
    key: ServiceKey,
    feed: Arc<Feed>,
    frames: Receiver<Numbered>,
    /// What it has been sent.
    position: Revision,
    first: Option<Bytes>,
    guest: Guest,
    /// It was sent to another node.
    over: bool,
}

impl Watcher {
    /// What it is sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.over {
            return None;
        }
        loop {
            let frame = tokio::select! {
                biased;
                to = self.guest.sent() => {
                    self.over = true;
                    self.guest.ended(&self.key, self.position);
                    return Some(to.event());
                }
                frame = self.frames.recv() => frame,
            };
            let frame = frame.map(|(number, frame)| {
                self.guest.took(number);
                frame
            });
            match frame {
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
