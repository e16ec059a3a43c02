//! Which requests to append go to a node, and when.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use super::Payload;
use super::types::Types;

type Request = AppendEntriesRequest<Types>;

/// How long a follower may be left without being told that something is committed, if it does not wait for that itself. The next
/// entries say it as well. A message of its own costs a send and a wakeup on both nodes for what a lone writer, who writes again
/// as soon as it is answered, says within half a millisecond; and this is what changes elsewhere are seen later by where nobody
/// does.
const HOLD: Duration = Duration::from_millis(1);

/// What of these goes to the node, in that order. Of two after each other that say nothing but how far everything is committed,
/// or of one before entries, the latter is enough.
pub(super) fn needed(
    requests: impl Stream<Item = Request> + Send + Unpin + 'static,
    to: u64,
) -> BoxStream<'static, Request> {
    let state = Needed {
        requests: requests.fuse(),
        to,
        waits_for: None,
    };
    stream::unfold(state, |mut state| async {
        let request = state.next().await?;
        Some((request, state))
    })
    .boxed()
}

struct Needed<S> {
    requests: stream::Fuse<S>,
    to: u64,
    /// The last entry that the node has asked for: whoever did waits there until it is known to be committed.
    waits_for: Option<u64>,
}

impl<S: Stream<Item = Request> + Unpin> Needed<S> {
    async fn next(&mut self) -> Option<Request> {
        let mut request = self.requests.next().await?;
        let until = Instant::now() + HOLD;
        while request.entries.is_empty() && !self.is_waited_for(&request) {
            match timeout_at(until, self.requests.next()).await {
                Ok(Some(later)) => request = later,
                Ok(None) | Err(_) => break,
            }
        }
        self.note(&request);
        Some(request)
    }

    fn is_waited_for(&self, request: &Request) -> bool {
        let committed = request.leader_commit.as_ref().map(|id| id.index);
        self.waits_for.is_some_and(|index| Some(index) <= committed)
    }

    fn note(&mut self, request: &Request) {
        if self.is_waited_for(request) {
            self.waits_for = None;
        }
        let asked = request.entries.iter().rfind(|entry| match &entry.payload {
            Payload::Batch(batch) => batch.node == self.to,
            _ => false,
        });
        self.waits_for = asked.map(|entry| entry.index).or(self.waits_for);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use registry::replication::{EntryId, Proposer, Vote};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::super::types::{log_id, raft_vote};
    use super::super::{Batch, Entry};
    use super::*;

    /// Whom everything goes to.
    const TO: u64 = 2;

    /// A request with an entry that some node has asked for, or none; everything up to `committed` is.
    fn request(entry: Option<(u64, u64)>, committed: u64) -> Request {
        let id = |index| EntryId { term: 1, index };
        let lead = Vote {
            term: 1,
            node: 1,
            committed: true,
        };
        let entries = entry.map(|(index, node)| {
            let batch = Batch {
                node,
                proposer: Proposer::default(),
                records: Vec::new(),
            };
            Entry::new(id(index), Payload::Batch(Arc::new(batch)))
        });
        Request {
            vote: raft_vote(lead),
            prev_log_id: None,
            leader_commit: Some(log_id(id(committed))),
            entries: entries.into_iter().collect(),
        }
    }

    fn begin() -> (UnboundedSender<Request>, BoxStream<'static, Request>) {
        let (sender, mut receiver) = unbounded_channel();
        let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
        (sender, needed(requests, TO))
    }

    /// What goes out now: the last entry, and how far everything is committed.
    fn now(out: &mut BoxStream<'static, Request>) -> Option<(Option<u64>, u64)> {
        let request = out.next().now_or_never()??;
        let last = request.entries.last().map(|entry| entry.index);
        Some((last, request.leader_commit?.index))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_committed_is_said_with_the_next_entries_or_after_a_moment() {
        let (requests, mut out) = begin();
        let send = |request| requests.send(request).unwrap();
        send(request(Some((1, 1)), 0));
        assert_eq!(now(&mut out), Some((Some(1), 0)));
        send(request(None, 1));
        assert_eq!(now(&mut out), None);
        send(request(Some((2, 1)), 1));
        assert_eq!(now(&mut out), Some((Some(2), 1)));
        send(request(None, 2));
        let began = Instant::now();
        let last = out.next().await.unwrap();
        assert_eq!(last.leader_commit.map(|id| id.index), Some(2));
        assert!(began.elapsed() >= HOLD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_waits_for_its_own_entry_is_told_at_once() {
        let (requests, mut out) = begin();
        let send = |request| requests.send(request).unwrap();
        send(request(Some((1, TO)), 0));
        assert_eq!(now(&mut out), Some((Some(1), 0)));
        // Others' entries come in between.
        send(request(Some((2, 3)), 0));
        assert_eq!(now(&mut out), Some((Some(2), 0)));
        send(request(None, 1));
        assert_eq!(now(&mut out), Some((None, 1)));
        // That the other one is, too, is nothing to it.
        send(request(None, 2));
        assert_eq!(now(&mut out), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_goes_out_where_nothing_follows_any_more() {
        let (requests, mut out) = begin();
        requests.send(request(None, 7)).unwrap();
        assert_eq!(now(&mut out), None);
        drop(requests);
        assert_eq!(now(&mut out), Some((None, 7)));
        assert_eq!(
            out.next().now_or_never().map(|end| end.is_none()),
            Some(true)
        );
    }
}
