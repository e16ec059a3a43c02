use std::path::PathBuf;
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
        }
    }
}
