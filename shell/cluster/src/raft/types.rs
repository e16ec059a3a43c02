//! Our entries and votes as the library wants them.

use std::fmt;
use std::sync::Arc;

use openraft::entry::{RaftEntry, RaftPayload};
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{LogId, StoredMembership};
use registry::replication::{EntryId, Member, Membership, Vote};

use tokio::sync::oneshot;

use super::{Batch, Entry, Payload};

/// What the library is told about our types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

/// What everything runs on.
#[cfg(not(test))]
type Runtime = openraft::impls::TokioRuntime;
/// The same, but for chance, which seeds decide.
#[cfg(test)]
pub(crate) type Runtime =
    openraft::rt::deterministic_rng::DeterministicRng<openraft::impls::TokioRuntime>;

/// Begins a task.
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    <Runtime as openraft::AsyncRuntime>::spawn(task)
}

/// A node's first task, from which it begins all others.
#[cfg(not(test))]
pub(super) fn first<T>(task: impl Future<Output = T>) -> impl Future<Output = T> {
    task
}

/// The same with a seed for all of them.
#[cfg(test)]
pub(super) fn first<T>(task: impl Future<Output = T>) -> impl Future<Output = T> {
    Runtime::scope(crate::node::secret(), task)
}

/// The term of an entry.
pub(crate) type Term = <LeaderId<u64, u64> as RaftLeaderId>::Committed;
pub(crate) type RaftVote = openraft::impls::Vote<LeaderId<u64, u64>>;
pub(crate) type RaftMembership = openraft::Membership<u64, Member>;
pub(crate) type Stored = StoredMembership<Term, u64, Member>;

impl openraft::RaftTypeConfig for Types {
    type D = Proposal;
    type R = ();
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = RaftVote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Ended
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::batch::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A batch on its way through the log.
#[derive(Clone, Debug)]
pub(crate) struct Proposal(pub(crate) Arc<Batch>);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn log_id(id: EntryId) -> LogId<Term> {
    LogId::new(Term::new(id.term), id.index)
}

pub(crate) fn entry_id(id: &LogId<Term>) -> EntryId {
    EntryId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn raft_vote(vote: Vote) -> RaftVote {
    RaftVote {
        leader_id: LeaderId {
            term: vote.term,
            voted_for: vote.node,
        },
        committed: vote.committed,
    }
}

pub(crate) fn vote(vote: &RaftVote) -> Vote {
    Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn raft_membership(membership: &Membership) -> RaftMembership {
    RaftMembership::new(membership.voters.clone(), membership.nodes.clone())
        .expect("voters are nodes: that is checked wherever a membership comes from")
}

pub(crate) fn membership(membership: &RaftMembership) -> Membership {
    Membership {
        voters: membership.get_joint_config().clone(),
        nodes: membership
            .nodes()
            .map(|(id, member)| (*id, member.clone()))
            .collect(),
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = Term;
    type Payload = Payload;

    fn new(id: LogId<Term>, payload: Payload) -> Self {
        Self {
            leader: id.leader_id,
            index: id.index,
            payload,
        }
    }

    fn log_id_parts(&self) -> (&Term, u64) {
        (&self.leader, self.index)
    }

    fn set_log_id(&mut self, new: LogId<Term>) {
        self.leader = new.leader_id;
        self.index = new.index;
    }

    fn get_membership(&self) -> Option<RaftMembership> {
        self.payload.get_membership()
    }
}

impl RaftPayload for Payload {
    type D = Proposal;
    type NodeId = u64;
    type Node = Member;

    fn blank() -> Self {
        Self::Blank
    }

    fn with_normal(self, Proposal(batch): Proposal) -> Self {
        Self::Batch(batch)
    }

    fn with_membership(self, new: RaftMembership) -> Self {
        Self::Membership(Arc::new(membership(&new)))
    }

    fn get_membership(&self) -> Option<RaftMembership> {
        match self {
            Self::Membership(membership) => Some(raft_membership(membership)),
            _ => None,
        }
    }
}

/// Ends when a batch is applied on the node that has put it into the log, or when that is not going to happen.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) oneshot::Sender<()>);

impl<T: Send + 'static> Responder<Types, T> for Ended {
    fn on_complete(self, _: T) {
        let _ = self.0.send(());
    }
}
