use std::sync::Arc;

use model::{InstanceId, Revision, ServiceKey};

use crate::Record;
use crate::tree::{TreeEvent, TreeReply, Zxid};

/// One change of one instance.
#[derive(Clone, Debug)]
pub struct Event {
    /// The command it came from; one command can change many instances.
    pub revision: Revision,
    /// The service.
    pub key: Arc<ServiceKey>,
    /// The instance.
    pub id: InstanceId,
    /// What happened.
    pub change: Change,
    /// The instance afterwards; as it last was, if it was removed.
    pub record: Arc<Record>,
}

/// What happened to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Registered,
    /// What is registered of it changed, and maybe its health.
    Changed,
    /// Its health changed, or the reason for it.
    Health,
    /// It is gone.
    Removed,
}

/// What applying a command did.
#[derive(Debug)]
pub struct Applied {
    /// The answer to whoever sent it.
    pub reply: Reply,
    /// Every change readers can see, in order.
    pub events: Vec<Event>,
    /// Every change of the tree, in order.
    pub tree: Vec<TreeEvent>,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To `Register`.
    Registered(Registration, Arc<Record>),
    /// To `Deregister`: the instance as it was.
    Deregistered(Arc<Record>),
    /// To `Patch`: the instance as it is.
    Patched(Arc<Record>),
    /// To `Deregister` and `Patch`: there is no such instance.
    NotFound,
    /// To a batch: how many of its items applied; the others name instances that are gone, or have moved on.
    Batch(usize),
    /// To a command of the tree: its transaction, and what it did.
    Tree(Zxid, TreeReply),
}

/// What a registration found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// No instance of that id.
    Created,
    /// One that said something else, or whose lease had run out.
    Changed,
    /// The very same; its lease is renewed.
    Unchanged,
}

/// A command's place in the log, and its answer.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision at which it was applied; for a registration that changed nothing, the revision at which
    /// that was found.
    pub revision: Revision,
    /// What it did.
    pub reply: Reply,
}

/// What a heartbeat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// The lease holds for another ttl.
    Renewed,
    /// The lease had run out or was held over; the instance turns passing again in a moment.
    Woken,
    /// A persistent instance: it has no lease to renew.
    Persistent,
    /// No such instance: register it anew.
    NotFound,
}
