use std::sync::Arc;

use futures_util::stream::poll_fn;
use registry::replication::{EntryId, Proposer, Vote};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::advance;

use super::super::Batch;
use super::super::types::{log_id, raft_vote};
use super::*;

const TARGET: u64 = 2;
const OTHER: u64 = 1;

/// What is to be sent on one side, and on the other what is.
struct Way {
    requests: UnboundedSender<Append>,
    sent: UnboundedReceiver<(u64, u64)>,
    last: u64,
}

impl Way {
    fn begin() -> Self {
        let (requests, mut given) = unbounded_channel();
        let (tell, sent) = unbounded_channel();
        let mut appends = Appends::new(TARGET, poll_fn(move |cx| given.poll_recv(cx)));
        tokio::spawn(async move {
            while let Some(request) = appends.next().await {
                let committed = request.leader_commit.map_or(0, |id| id.index);
                let _ = tell.send((request.entries.len() as u64, committed));
            }
        });
        Self {
            requests,
            sent,
            last: 0,
        }
    }

    fn push(&self, entries: Vec<Entry>, committed: u64) {
        let id = |index| log_id(EntryId { term: 1, index });
        let vote = Vote {
            term: 1,
            node: OTHER,
            committed: true,
        };
        let request = Append {
            vote: raft_vote(vote),
            prev_log_id: Some(id(self.last)),
            entries,
            leader_commit: Some(id(committed)),
        };
        self.requests.send(request).expect("it is listened to");
    }

    /// An entry that was written at this node.
    fn entry(&mut self, node: u64) {
        let committed = self.last;
        let batch = Batch {
            node,
            proposer: Proposer { run: 1, number: 1 },
            records: Vec::new(),
        };
        let id = EntryId {
            term: 1,
            index: self.last + 1,
        };
        self.push(
            vec![Entry::new(id, Payload::Batch(Arc::new(batch)))],
            committed,
        );
        self.last += 1;
    }

    /// All is committed that was sent.
    fn commit(&self) {
        self.push(Vec::new(), self.last);
    }

    /// What has been sent by now: entries, and how far they were said to be committed.
    async fn sent(&mut self) -> Vec<(u64, u64)> {
        for _ in 0..10 {
            yield_now().await;
        }
        std::iter::from_fn(|| self.sent.try_recv().ok()).collect()
    }

    /// Two entries, the second of which comes soon after the first.
    async fn busy() -> Self {
        let mut way = Self::begin();
        advance(2 * HOLD).await;
        way.entry(OTHER);
        way.commit();
        assert_eq!(way.sent().await, [(1, 0), (0, 1)], "nothing is known yet");
        advance(HOLD / 2).await;
        way.entry(OTHER);
        assert_eq!(way.sent().await, [(1, 1)]);
        way
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_told_with_the_next_entry_where_they_come_one_after_the_other() {
    let mut way = Way::busy().await;
    for index in 2..50 {
        way.commit();
        assert_eq!(way.sent().await, []);
        advance(HOLD / 4).await;
        way.entry(OTHER);
        assert_eq!(way.sent().await, [(1, index)]);
        advance(HOLD / 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_told_after_a_moment_if_nothing_follows_and_at_once_the_next_time() {
    let mut way = Way::busy().await;
    way.commit();
    advance(HOLD / 2).await;
    assert_eq!(way.sent().await, []);
    // Timers are good to a millisecond.
    advance(HOLD / 2 + Duration::from_millis(1)).await;
    assert_eq!(way.sent().await, [(0, 2)]);
    advance(2 * HOLD).await;
    way.entry(OTHER);
    way.commit();
    assert_eq!(way.sent().await, [(1, 2), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_writers_wait_for_it_is_told_at_once() {
    let mut way = Way::busy().await;
    way.commit();
    advance(HOLD / 2).await;
    way.entry(TARGET);
    assert_eq!(way.sent().await, [(1, 2)]);
    way.commit();
    assert_eq!(way.sent().await, [(0, 3)]);
    advance(HOLD / 2).await;
    way.entry(OTHER);
    way.commit();
    assert_eq!(way.sent().await, [(1, 3)], "this one is nobody's there");
    advance(HOLD / 2).await;
    way.entry(TARGET);
    assert_eq!(way.sent().await, [(1, 4)]);
    way.commit();
    way.entry(OTHER);
    assert_eq!(
        way.sent().await,
        [(1, 5)],
        "both are there at the same time"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_is_told_at_once_though_something_else_is_held() {
    let mut way = Way::busy().await;
    let before = way.last;
    way.entry(TARGET);
    assert_eq!(way.sent().await, [(1, before)]);
    way.push(Vec::new(), before);
    assert_eq!(way.sent().await, []);
    way.commit();
    assert_eq!(way.sent().await, [(0, way.last)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_at_the_end_is_told() {
    let way = Way::busy().await;
    way.commit();
    let Way {
        requests, mut sent, ..
    } = way;
    drop(requests);
    assert_eq!(sent.recv().await, Some((0, 2)));
    assert_eq!(sent.recv().await, None);
}
