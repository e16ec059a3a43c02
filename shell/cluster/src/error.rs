use std::sync::Arc;

use thiserror::Error;

/// Why a command was not committed. Nothing of it is in the registry, except after [`SubmitError::Closed`],
/// where it may or may not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The queue stayed full: the disk is slower than the clients. Try again later.
    #[error("the node has more writes than its disk takes; try again in a moment")]
    Overloaded,
    /// Larger than a command, or a batch, may be.
    #[error(
        "{size} bytes are more than the {limit} that fit in one write; make it smaller, or split it"
    )]
    TooLarge {
        /// Its size.
        size: usize,
        /// The largest.
        limit: usize,
    },
    /// The disk would not take it, for a reason that may pass (it is full, say). Reads go on; so do writes as
    /// soon as the reason has passed.
    #[error("not written, and nothing changed: {0}")]
    NotWritten(Arc<str>),
    /// The disk can no longer be trusted. Reads go on, writes do not until the node is restarted.
    #[error("the node takes no more writes: {0}; look at the disk, then restart the node")]
    ReadOnly(Arc<str>),
    /// No node leads, so that nothing can be agreed on. Nothing of it was written.
    #[error(
        "no node leads the cluster at present; try again in a moment, or look at `pointsman cluster status`"
    )]
    NoLeader,
    /// It was sent, and no answer came in time: it may be in the registry, or get there, or not.
    #[error(
        "it is not known whether it was written: the cluster has lost its leader meanwhile; look, and try again"
    )]
    Interrupted,
    /// It can only be said in a format that not all nodes of the cluster read.
    #[error(
        "it takes format {needed}, and a node of the cluster reads none later than {written}: start this version of the \
         program on all nodes first; `pointsman cluster status` shows which have another"
    )]
    TooNew {
        /// The oldest format that can say it.
        needed: u8,
        /// The latest that all nodes read.
        written: u8,
    },
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

/// Why a node did not start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system would not.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Another node uses the directory.
    #[error("{path} is in use by another node{}; stop that one, or give this one a directory of its own", pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Locked {
        /// The directory.
        path: String,
        /// The other node's process, if it left its number.
        pid: Option<u32>,
    },
    /// What is on disk is damaged where a crash cannot have damaged it.
    #[error(
        "{file} is damaged at byte {offset}: {found}. Not started, for going on would lose what was acknowledged after it. {advice}"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is there, and what was expected.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The directory belongs to a node of a cluster.
    #[error(
        "the data directory belongs to a node of a cluster of several ({}), and this node is to be alone: give it [cluster] in its \
         configuration, or a directory of its own",
        nodes.join(", ")
    )]
    NotAlone {
        /// The names of the cluster's nodes.
        nodes: Vec<String>,
    },
    /// The cluster's options contradict each other, or what is on disk.
    #[error("{0}")]
    Cluster(String),
    /// Written by another version of the program.
    #[error(
        "{file} has format version {found}, and this program reads version {known}: run the version that wrote it, or a newer one"
    )]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
}
