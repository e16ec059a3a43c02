use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, RaftNetworkFactory, RaftNetworkV2, Snapshot};
use registry::replication::Member;

use super::machine::SnapshotFile;
use super::types::{RaftVote, Term, Types};

/// The network of a cluster of one: there is nobody else.
pub(super) struct Nobody;

fn nobody() -> Unreachable<Types> {
    Unreachable::new(&AnyError::error("there is no other node"))
}

impl RaftNetworkFactory<Types> for Nobody {
    type Network = Self;

    async fn new_client(&mut self, _: u64, _: &Member) -> Self {
        Self
    }
}

impl RaftNetworkV2<Types> for Nobody {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(nobody().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(nobody().into())
    }

    async fn full_snapshot(
        &mut self,
        _: RaftVote,
        _: Snapshot<Term, u64, Member, SnapshotFile>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(nobody().into())
    }
}
