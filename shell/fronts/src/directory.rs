//! What fronts ask of the registry.

use std::pin::Pin;
use std::sync::Arc;

use model::{InstanceId, Revision, ServiceKey};
use registry::{Command, Committed, Compacted, Event, Heartbeat, Registry, Service};
use serde::Serialize;
use thiserror::Error;

/// An answer that takes time. Boxed, so that the traits can be used as objects: fronts are compiled once,
/// and an allocation is nothing beside a write to disk.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The registry's operations.
pub trait Directory: Send + Sync + 'static {
    /// Commits a command; once this returns, it is durable and applied. Dropping the future leaves open
    /// whether it happens.
    fn submit(&self, command: Command) -> Pending<'_, Result<Committed, Refused>>;

    /// Renews leases; the answers are in the order of the questions.
    fn heartbeat(&self, instances: &[(ServiceKey, InstanceId)]) -> Vec<Heartbeat>;

    /// Everything, as it is now.
    fn registry(&self) -> Registry;

    /// A service as it is now, if it has instances, and the revision at which that is so.
    fn service(&self, key: &ServiceKey) -> (Revision, Option<Arc<Service>>);

    /// A wait for changes of one service, whether it exists or not.
    fn watch(&self, key: &ServiceKey) -> Box<dyn Changes>;

    /// Every change of a service after `revision`, in order.
    ///
    /// # Errors
    ///
    /// [`Compacted`] when some of them are no longer kept.
    fn events_since(&self, revision: Revision, key: &ServiceKey) -> Result<Vec<Event>, Compacted>;

    /// How the cluster looks from this node.
    fn cluster(&self) -> Cluster;
}

/// A cluster, as one of its nodes sees it. Of a node that is alone, it has no nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The node that says so.
    pub node: String,
    /// The node that leads, as far as that one knows.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// The last command applied at the node that says so.
    pub revision: Revision,
    /// The last entry of the log applied there.
    pub applied: u64,
    /// All nodes, by name.
    pub nodes: Vec<ClusterNode>,
    /// What is wrong with the disk there, if anything is.
    pub fault: Option<String>,
    /// Why it has refused a connection of another node last, if it has.
    pub refused: Option<String>,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Whether it votes.
    pub votes: bool,
    /// How many entries it lacks; only the leader knows.
    pub behind: Option<u64>,
    /// How many milliseconds ago the leader has heard of it; only the leader knows.
    pub heard_ms: Option<u64>,
}

/// A wait for changes.
pub trait Changes: Send {
    /// Waits until there has been a change since the wait was made or this last returned; it may return
    /// without one. Cancel safe. Make the wait first, then read the state: whatever is not in the state
    /// read is told here.
    ///
    /// # Errors
    ///
    /// [`Closed`] when no more changes will come.
    fn changed(&mut self) -> Pending<'_, Result<(), Closed>>;
}

/// The node is shutting down; no more changes will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node is shutting down")]
pub struct Closed;

/// Why a command was not committed. Nothing of it is in the registry, except after [`Reason::Closing`] and
/// [`Reason::Interrupted`], where it may or may not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct Refused {
    /// The kind of reason.
    pub reason: Reason,
    /// The reason in words, for people.
    pub detail: String,
}

/// Kinds of reasons to refuse a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More writes than the disk takes; passes in a moment.
    Overloaded,
    /// Larger than one write may be.
    TooLarge,
    /// The disk did not take it; the reason may pass (it is full, say).
    NotWritten,
    /// The disk can no longer be trusted: no writes until a restart.
    ReadOnly,
    /// No node leads the cluster at present.
    NoLeader,
    /// It is not known whether it was written: the cluster has lost its leader meanwhile.
    Interrupted,
    /// The node is shutting down.
    Closing,
}
