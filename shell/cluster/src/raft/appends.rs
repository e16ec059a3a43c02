//! What the leader sends to another node: entries, and how far they are committed.

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{BoxStream, Fuse, unfold};
use futures_util::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use super::types::Types;
use super::{Entry, Payload};

/// How long it is kept from a node that something is committed, where entries come one after the other: the next may say so,
/// too. A message of its own costs either side a system call and a wakeup, and its answer the same again.
const HOLD: Duration = Duration::from_millis(2);

type Append = AppendEntriesRequest<Types>;
/// The requests for this node that are worth a message.
pub(super) fn worth_sending(
    target: u64,
    requests: impl Stream<Item = Append> + Send + Unpin + 'static,
) -> BoxStream<'static, Append> {
    let appends = Appends::new(target, requests);
    let next = |mut appends: Appends<_>| async move { Some((appends.next().await?, appends)) };
    unfold(appends, next).boxed()
}

/// What is to be sent to a node.
struct Appends<S: Stream> {
    target: u64,
    requests: Fuse<S>,
    /// The last entry whose writers wait at that node until it has heard that it is committed.
    awaited: Option<u64>,
    /// Entries have come one after the other.
    busy: bool,
    /// Since when there has been nothing to be said but that something is committed.
    idle_since: Option<Instant>,
    /// Wakes once or twice while something is held. To set it wakes the whole runtime, so it is left to go off: there are
    /// several entries in that time.
    timer: Pin<Box<Sleep>>,
}

impl<S: Stream<Item = Append> + Unpin> Appends<S> {
    fn new(target: u64, requests: S) -> Self {
        Self {
            target,
            requests: requests.fuse(),
            awaited: None,
            busy: false,
            idle_since: Some(Instant::now()),
            timer: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// The next request that is worth a message.
    async fn next(&mut self) -> Option<Append> {
        let mut request = self.requests.next().await?;
        if request.entries.is_empty() {
            request = self.with_the_next(request).await;
        }
        self.note(&request);
        Some(request)
    }

    /// What follows this, at once or within a moment, and says so, too, or else this.
    async fn with_the_next(&mut self, mut request: Append) -> Append {
        let until = Instant::now() + HOLD;
        while request.entries.is_empty() {
            let hold = self.busy && !self.is_awaited(&request);
            if hold && self.timer.is_elapsed() {
                self.timer.as_mut().reset(until);
            }
            tokio::select! {
                biased;
                next = self.requests.next() => match next {
                    Some(next) => request = next,
                    None => break,
                },
                () = self.timer.as_mut(), if hold => if Instant::now() >= until {
                    break;
                },
                // Whoever waited for it to be committed has something to be sent by then.
                () = yield_now(), if !hold => break,
            }
        }
        request
    }

    /// Whether somebody at that node waits to hear of it.
    fn is_awaited(&self, request: &Append) -> bool {
        let committed = request.leader_commit.as_ref().map(|id| id.index);
        self.awaited
            .is_some_and(|awaited| Some(awaited) <= committed)
    }

    fn note(&mut self, request: &Append) {
        if self.is_awaited(request) {
            self.awaited = None;
        }
        if request.entries.is_empty() {
            self.busy = false;
            self.idle_since = Some(Instant::now());
            return;
        }
        let idle = self.idle_since.take();
        self.busy = idle.is_none_or(|since| since.elapsed() < HOLD);
        let theirs = |entry: &&Entry| match &entry.payload {
            Payload::Batch(batch) => batch.node == self.target,
            _ => false,
        };
        if let Some(entry) = request.entries.iter().rev().find(theirs) {
            self.awaited = Some(entry.index);
        }
    }
}

#[cfg(test)]
mod tests;
