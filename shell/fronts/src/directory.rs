//! What fronts ask of the registry.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use model::{InstanceId, Revision, ServiceKey};
use registry::replication::Change;
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

    /// How old what is read here may be, and who leads.
    fn freshness(&self) -> Freshness;

    /// Waits until what is read here is as new as demanded.
    fn catch_up(&self, demand: Demand) -> Pending<'_, Result<(), Refused>>;

    /// How the cluster looks from this node, by what its nodes say.
    fn cluster(&self) -> Pending<'_, Cluster>;

    /// The node that a subscriber's name belongs to.
    fn home(&self, name: &str) -> Home;

    /// Changes who belongs to the cluster, or who leads it; returns what there is to say about it.
    fn change_cluster(&self, change: Change) -> Pending<'_, Result<String, Refused>>;

    /// A snapshot of everything, piece by piece.
    ///
    /// # Errors
    ///
    /// When it cannot be begun.
    fn snapshot(&self) -> std::io::Result<Pieces>;
}

/// What a snapshot is made of, in order; an error ends it.
pub type Pieces = tokio::sync::mpsc::Receiver<std::io::Result<Vec<u8>>>;

/// The node that a name belongs to, so that all who go by it meet there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// The node's name; empty for a node that is alone.
    pub node: String,
    /// The URL of its API, if that is known.
    pub api: Option<String>,
    /// Whether it is the node that says so.
    pub here: bool,
    /// The node that says so.
    pub from: String,
}

/// How far what is read at a node can be relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// What is read was all there was that long ago, or later; none if nobody has confirmed that.
    pub age: Option<Duration>,
    /// The node that leads, as far as is known.
    pub leader: Option<Arc<str>>,
}

/// How new what is read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Everything that was acknowledged anywhere before is seen.
    Linearizable,
    /// Everything that was acknowledged that long ago is seen.
    NoOlder(Duration),
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
    /// How many milliseconds ago what is read there was sure to be all there was; none if nobody has confirmed that.
    pub age_ms: Option<u64>,
    /// The latest format of commands and snapshots that is written: all nodes read it.
    pub format: u8,
    /// All nodes, by name.
    pub nodes: Vec<ClusterNode>,
    /// What is wrong with the disk there, if anything is.
    pub fault: Option<String>,
    /// Why it has refused a connection of another node last, if it has.
    pub refused: Option<String>,
    /// What keeps that node from taking part, and what to do.
    pub trouble: Option<String>,
    /// In what its configuration differs from the cluster, which is what holds.
    pub notes: Vec<String>,
}

/// A node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Whether it votes.
    pub votes: bool,
    /// Whether it has said how it is, when it was asked.
    pub answers: bool,
    /// How many entries it lacks.
    pub behind: Option<u64>,
    /// How many milliseconds ago the leader has heard of it; only the leader knows.
    pub heard_ms: Option<u64>,
    /// How many milliseconds ago what it has was sure to be all there was.
    pub age_ms: Option<u64>,
    /// The last command that it has applied.
    pub revision: Option<u64>,
    /// Bytes that its disk has room for.
    pub disk_free: Option<u64>,
    /// Bytes that its log and snapshots take.
    pub disk_used: Option<u64>,
    /// Sessions of ZooKeeper's clients that it serves; none if it serves none, or has not been heard of.
    pub sessions: Option<u64>,
    /// Watches of services that it serves.
    pub watches: Option<u64>,
    /// The URL of its API, if that is known.
    pub api: Option<String>,
    /// The program's version.
    pub version: Option<String>,
    /// The latest format of commands and snapshots that it reads.
    pub format: Option<u8>,
    /// What is wrong with its disk, or keeps it from taking part.
    pub fault: Option<String>,
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
    /// Nodes with older programs could not read it. Nothing was written.
    TooNew,
    /// What is read here may be older than demanded.
    Stale,
    /// The cluster was not changed.
    Unchanged,
    /// The node is shutting down.
    Closing,
}
