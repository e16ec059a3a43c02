use model::Revision;

/// How the cluster looks from one of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The name of the node that says so.
    pub node: String,
    /// The node that leads, as far as it knows.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// The last command applied here.
    pub revision: Revision,
    /// The last entry applied here.
    pub applied: u64,
    /// The last entry in the log here.
    pub last: u64,
    /// All nodes, by name.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong with the disk here, if anything is.
    pub fault: Option<String>,
    /// Why the last connection of another node was refused.
    pub refused: Option<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Whether it votes; if not, it is an observer.
    pub votes: bool,
    /// How many entries it lacks. Known where the leader is asked.
    pub behind: Option<u64>,
    /// How long ago it last answered, in milliseconds. Known where the leader is asked.
    pub heard_ms: Option<u64>,
}
