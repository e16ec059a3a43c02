use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use registry::leases::MassLoss;

/// How a node is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the registry is kept.
    pub durability: Durability,
    /// A segment of the log is closed once it is this long, in bytes.
    pub segment_size: u64,
    /// A snapshot is taken once the log has grown by this many bytes since the last, and by as many as
    /// that one had: so the cost of snapshots stays proportional to what is written.
    pub snapshot_after: u64,
    /// How many events are kept for watchers that come back.
    pub history: usize,
    /// How many bytes of commands may wait for the disk.
    pub queue_bytes: u32,
    /// How long a command waits for room in the queue before it is refused.
    pub queue_wait: Duration,
    /// The mass-loss guard's limits.
    pub mass_loss: MassLoss,
    /// The cluster that the node belongs to; none for a node that is alone.
    pub cluster: Option<ClusterOptions>,
}

/// How a node belongs to a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The node's name, one of `peers`.
    pub node: String,
    /// The cluster's name. Nodes of others are refused.
    pub name: String,
    /// The secret that its nodes share.
    pub token: String,
    /// Where the other nodes come in.
    pub bind: SocketAddr,
    /// All nodes by their names, and where the others reach them, as `host:port`: whom the cluster begins with. None for a
    /// node that joins one.
    pub peers: BTreeMap<String, String>,
    /// Where members of the cluster are that it joins, if it does not begin one.
    pub join: Vec<String>,
    /// Where the others reach this node, as `host:port`.
    pub address: String,
    /// How connections are protected.
    pub tls: Option<PeerTls>,
    /// The latest format of commands and snapshots that this node says it reads: [`registry::FORMAT`], but for one that
    /// stands for an older program.
    pub format: u8,
}

/// How connections between nodes are protected: both sides show a certificate of the same authority.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// For connections that come in.
    pub server: Arc<rustls::ServerConfig>,
    /// For connections that go out.
    pub client: Arc<rustls::ClientConfig>,
    /// Why the other nodes may not take this node's certificate, if anything speaks for that.
    pub doubt: Option<String>,
}

/// A node's number, by which the log knows it: made from its name, so that nobody has to hand numbers out.
pub fn node_number(name: &str) -> u64 {
    // FNV-1a. In a cluster of nine, two names have the same number once in 10^18; the configuration is refused then.
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Where the registry is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In this directory, and what is acknowledged is on disk.
    Disk(PathBuf),
    /// In memory only: gone with the process. For demonstrations and tests.
    Memory,
}

impl Options {
    /// The defaults.
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            segment_size: 64 << 20,
            snapshot_after: 64 << 20,
            history: 65_536,
            // Some 50,000 small registrations: half a second's work.
            queue_bytes: 32 << 20,
            queue_wait: Duration::from_secs(2),
            mass_loss: MassLoss::default(),
            cluster: None,
        }
    }
}
