//! The tree of nodes that ZooKeeper's clients see: data, access lists and statistics by path, and the sessions
//! that ephemeral nodes live by.
//!
//! It is part of the registry's state and changes by commands of the one log. Its transaction numbers are a counter
//! of its own, derived here: every command of the tree takes one, also one that is refused.

mod access;
mod apply;
mod clock;
mod command;
mod edit;
mod node;
mod path;
mod quota;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::{Keyed, Sorted};

pub use access::{AccessList, Entry, Identity, Permission};
pub use clock::{Pulse, SessionClock};
pub use command::{Data, Kind, Mode, Op, Password, SessionId, TreeCommand};
pub use node::{Owner, Stat, Znode};
pub use path::{MAX_DEPTH, parent, valid};

/// No node in particular: commands of a registry that is not replicated.
pub const NOWHERE: u64 = 0;

/// A transaction's number in the tree's own counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Zxid(pub i64);

/// The tree and its sessions. A clone costs microseconds and does not see later changes.
#[derive(Clone, Debug)]
pub struct Tree {
    zxid: Zxid,
    root: Arc<Znode>,
    sessions: Sorted<Session>,
    /// Paths of containers and of nodes with a time to live: who cleans up looks at these only.
    fading: Arc<BTreeSet<Box<str>>>,
    totals: Totals,
}

/// Sums over all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Nodes, the root among them.
    pub nodes: u64,
    /// Ephemeral ones.
    pub ephemerals: u64,
    /// Bytes of data and of names.
    pub bytes: u64,
}

/// A client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number; never zero.
    pub id: SessionId,
    /// What a client that comes back has to know.
    pub password: Password,
    /// It ends when nothing was heard of the client for so long, in milliseconds.
    pub timeout: u32,
    /// The node that serves it; [`NOWHERE`] if there is only one.
    pub node: u64,
    /// The nodes that end with it.
    pub ephemerals: BTreeSet<Box<str>>,
}

/// One change of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEvent {
    /// The transaction.
    pub zxid: Zxid,
    /// What happened.
    pub change: NodeChange,
    /// To which node.
    pub path: Box<str>,
    /// Who may see it.
    pub access: AccessList,
    /// Who may see that its parent's children have changed.
    pub parent_access: AccessList,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// It is new.
    Created,
    /// It is gone.
    Deleted,
    /// Its data was set.
    Data,
}

/// The answer to a command of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeReply {
    /// The session is open, moved, or closed.
    Session,
    /// To one operation.
    One(Result<Outcome, Refusal>),
    /// To several: all of them, or which one stood in the way.
    Many(Result<Vec<Outcome>, (usize, Refusal)>),
    /// To a sweep: how many nodes were removed.
    Swept(usize),
}

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node's path, with its number if it is sequential.
    Created(Box<str>, Stat),
    /// The node is gone.
    Deleted,
    /// Data or access list were set.
    Set(Stat),
    /// The version is as expected.
    Checked,
}

/// Why an operation was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path is none, or one that may not be touched.
    BadArguments,
    /// There is no such node, or no parent.
    NoNode,
    /// The access list does not allow it.
    NoAuth,
    /// The version is another.
    BadVersion,
    /// There is one of that path.
    NodeExists,
    /// It has children.
    NotEmpty,
    /// An ephemeral node has no children.
    NoChildrenForEphemerals,
    /// The session is over.
    SessionExpired,
    /// Another node serves the session by now.
    SessionMoved,
    /// A quota's hard limit would be exceeded.
    QuotaExceeded,
    /// There are no such identities.
    InvalidAccess,
}

/// Sees the tree's changes at the moment at which they take effect: no reader can have seen them before.
pub trait Observer: Send + Sync {
    /// These changes were made by one command; `tree` is as it is after it. Nobody reads meanwhile, so be quick.
    fn changed(&self, tree: &Tree, events: &[TreeEvent]);

    /// A session is over, and so is whatever serves it.
    fn session_closed(&self, session: SessionId);

    /// Another connection serves a session from now on, here or on another node.
    fn session_moved(&self, session: SessionId);

    /// The tree is another: nobody knows what has changed.
    fn replaced(&self);

    /// A batch of commands has been applied and readers have their turn again.
    fn settled(&self);
}

impl Default for Tree {
    fn default() -> Self {
        let root = Arc::new(node::initial_root());
        let mut totals = Totals::default();
        root.sum("", &mut totals);
        Self {
            zxid: Zxid::default(),
            root,
            sessions: Sorted::default(),
            fading: Arc::default(),
            totals,
        }
    }
}

impl Tree {
    /// The last transaction.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Whether nothing was ever done with it.
    pub fn is_unused(&self) -> bool {
        self.zxid == Zxid::default()
    }

    /// The node at that path.
    pub fn node(&self, path: &str) -> Option<&Znode> {
        let mut node = &*self.root;
        for name in path::names(path)? {
            node = node.child(name)?;
        }
        Some(node)
    }

    /// The session of that number.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(|session| &**session)
    }

    /// All sessions, by their numbers.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|session| &**session)
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Sums over all nodes.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Calls `visit` with every node at and below `path`, parents first, and their paths.
    pub fn walk(&self, path: &str, visit: &mut impl FnMut(&str, &Znode)) {
        if let Some(node) = self.node(path) {
            let mut path = String::from(if path == "/" { "" } else { path });
            node.walk(&mut path, visit);
        }
    }

    /// Nodes that may be removed by now, for [`TreeCommand::Sweep`], among the first `most` that come behind the path
    /// `after`; and where to go on.
    pub fn faded(&self, at: u64, after: &str, most: usize) -> (Vec<Box<str>>, Box<str>) {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let looked_at = || self.fading.range::<str, _>(behind).take(most);
        let faded = looked_at().filter(|path| self.node(path).is_some_and(|n| n.is_faded(at)));
        let last = looked_at().nth(most.saturating_sub(1));
        (faded.cloned().collect(), last.cloned().unwrap_or_default())
    }
}

impl Keyed for Session {
    type Key = SessionId;

    fn key(&self) -> &SessionId {
        &self.id
    }
}
