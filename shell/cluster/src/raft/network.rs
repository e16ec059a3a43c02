//! What the library sends to other nodes.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, RaftNetworkFactory, RaftNetworkV2};
use registry::replication::{Ballot, Member, Request, Response};

use super::appends;
use super::machine::{Snapshot, SnapshotFile};
use super::types::{RaftVote, Types, entry_id, log_id, raft_vote, vote};
use crate::journal::Journal;
use crate::node::lock;
use crate::peers::{Identity, Link, LinkError};
use crate::snapshot;

/// The bytes of a snapshot in one message.
const PART: usize = 1 << 20;
/// How long a node may take for a part of a snapshot, or for all of it once it has the last.
const SNAPSHOT: Duration = Duration::from_secs(120);
/// How long until a node that was not reached is tried again: what it lacks when it is back, it lacks for as long.
const AGAIN: Duration = Duration::from_millis(50);
/// A node that has owed an answer for longer, and of which nothing else has come meanwhile, gets no heartbeat until something does.
///
/// A leader that does not hear the others is heard by them for as long as TCP sends without being acknowledged, 0.2 s and more, and
/// only then do they begin to wait as for one that is frozen. So it stops by itself. That makes nobody doubt a leader that is
/// well: a node reads on only when it has answered, so that it takes note of a heartbeat behind a request at the same time as
/// of one that is sent when its answer comes, be it the disk or the processor that is slow. And if it is the network, a question
/// that says nothing of who leads is sent in place of each heartbeat ([`Link::hear`]): what was lost arrives as soon as with it.
///
/// The library waits as long for an answer (`heartbeat_interval`). Sooner, a linearizable read would have to wait for the disk that
/// an entry before it is written to, and then for an answer of its own; later, each millisecond is one without a leader.
const OWED: Duration = Duration::from_millis(75);
/// How long a node may take to answer anything else.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ways to all other nodes. Snapshots go a way of their own, or entries would wait behind them.
#[derive(Clone)]
pub(super) struct Network {
    identity: Identity,
    journal: Arc<Journal>,
    links: Arc<Mutex<Links>>,
}

/// By whom they lead to and what they are for, with whom exactly they mean.
type Links = HashMap<(u64, Use), (Member, Link)>;

/// What a way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    Entries,
    Snapshots,
    /// What this node asks of the leader.
    Questions,
}

/// What has become of entries that were sent.
type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// A way to one node.
pub(super) struct Client {
    target: u64,
    link: Link,
    journal: Arc<Journal>,
}

impl Network {
    pub(super) fn new(identity: Identity, journal: Arc<Journal>) -> Self {
        Self {
            identity,
            journal,
            links: Arc::default(),
        }
    }

    /// The way to a node.
    pub(super) fn link(&self, to: u64, member: &Member, what: Use) -> Link {
        let mut links = lock(&self.links);
        if let Some((meant, link)) = links.get(&(to, what))
            && *meant == *member
        {
            return link.clone();
        }
        let whom = (to, member.disk);
        let link = Link::new(self.identity.clone(), whom, &member.address);
        links.insert((to, what), (member.clone(), link.clone()));
        link
    }

    /// A way to a node whatever its data directory, or to whoever is there if it is zero: to ask who that is.
    pub(super) fn any_disk(&self, to: u64, address: &str) -> Link {
        Link::new(self.identity.clone(), (to, 0), address)
    }

    fn client(&self, to: u64, member: &Member, what: Use) -> Client {
        Client {
            target: to,
            link: self.link(to, member, what),
            journal: Arc::clone(&self.journal),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Use::Entries)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Use::Snapshots)
    }
}

fn unreachable(why: &impl std::fmt::Display) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(why))
}

impl Client {
    async fn ask(
        &self,
        request: Request<'_>,
        patience: Duration,
    ) -> Result<Response, Unreachable<Types>> {
        match self.link.ask(request, patience).await {
            Ok(Response::Refused { why, .. }) => Err(unreachable(&why)),
            Ok(response) => Ok(response),
            Err(e @ LinkError::Unreachable(_)) => Err(unreachable(&e)),
        }
    }

    async fn ask_for_vote(
        &self,
        request: Request<'_>,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(request, PATIENCE).await? {
            Response::Ballot {
                vote,
                granted,
                last,
            } => Ok(VoteResponse::new(
                raft_vote(vote),
                last.map(log_id),
                granted,
            )),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn send_snapshot(
        &self,
        leader: RaftVote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, Unreachable<Types>> {
        let SnapshotFile::Ours(revision) = snapshot.snapshot else {
            return Err(unreachable(&"a snapshot that is not on disk"));
        };
        let storage = self.journal.storage();
        let storage = storage.ok_or_else(|| unreachable(&"there is no disk to read it from"))?;
        let mut file = storage
            .read(&snapshot::file_name(revision))
            .map_err(|e| unreachable(&e))?;
        let mut offset = 0;
        loop {
            let mut bytes = Vec::with_capacity(PART);
            let read = file.by_ref().take(PART as u64).read_to_end(&mut bytes);
            read.map_err(|e| unreachable(&e))?;
            let last = bytes.len() < PART;
            let request = Request::Snapshot {
                vote: vote(&leader),
                offset,
                last,
                bytes: &bytes,
            };
            match self.ask(request, SNAPSHOT).await? {
                Response::HigherVote(vote) => return Ok(SnapshotResponse::new(raft_vote(vote))),
                Response::Done if !last => offset += bytes.len() as u64,
                other => return Err(unexpected(&other)),
            }
        }
    }
}

fn unexpected(response: &Response) -> Unreachable<Types> {
    unreachable(&format!("an answer to another question: {response:?}"))
}

fn ballot(request: &VoteRequest<Types>) -> Ballot {
    Ballot {
        vote: vote(&request.vote),
        last: request.last_log_id.as_ref().map(entry_id),
        transfer: request.leadership_transfer,
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        if rpc.entries.is_empty() {
            self.link.hear(OWED).await;
        }
        let request = Request::Append {
            vote: vote(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(entry_id),
            committed: rpc.leader_commit.as_ref().map(entry_id),
            entries: rpc.entries.iter().map(|e| (e.id(), e.body())).collect(),
        };
        Ok(match self.ask(request, PATIENCE).await? {
            Response::Done => AppendEntriesResponse::Success,
            Response::Partial(last) => AppendEntriesResponse::PartialSuccess(last.map(log_id)),
            // With nothing, there is none: the library would take the word of a node that says so, and panic.
            Response::Conflict if rpc.prev_log_id.is_some() => AppendEntriesResponse::Conflict,
            Response::HigherVote(vote) => AppendEntriesResponse::HigherVote(raft_vote(vote)),
            other => return Err(unexpected(&other).into()),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Answer>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let requests = appends::worth_sending(self.target, input);
        stream_append_sequential(self, requests, option)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(Request::Vote(ballot(&rpc))).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(Request::PreVote(ballot(&rpc))).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            sent = self.send_snapshot(vote, snapshot) => Ok(sent?),
            closed = cancel => Err(closed.into()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(AGAIN)))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::Transfer {
            vote: vote(req.from_leader()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(entry_id),
        };
        match self.ask(request, PATIENCE).await? {
            Response::Done => Ok(Ok(())),
            other => Err(unexpected(&other).into()),
        }
    }
}
