use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::{Counter, Revision};

/// Numbers about a node, for metrics. All but the gauges only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// The last command applied.
    pub revision: Revision,
    /// Gauge: services.
    pub services: u64,
    /// Gauge: instances.
    pub instances: u64,
    /// Gauge: leases, of every state.
    pub leases: u64,
    /// Gauge: leases held over by the mass-loss guard.
    pub held: u64,
    /// Gauge: services somebody waits for a change of.
    pub watched_services: u64,
    /// Commands committed.
    pub records: u64,
    /// Group commits: one write and one sync each. Records per batch is the quotient.
    pub batches: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Time spent making group commits durable.
    pub sync_time: Duration,
    /// The longest of them.
    pub sync_time_max: Duration,
    /// Commands refused because the queue stayed full.
    pub overloaded: u64,
    /// Commands the disk would not take.
    pub not_written: u64,
    /// Heartbeats that renewed a lease.
    pub heartbeats: u64,
    /// Probes that the guard asked for and nobody took.
    pub probes_lost: u64,
    /// Connections of other nodes that were refused.
    pub peers_refused: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// The revision of the last snapshot.
    pub snapshot_revision: Revision,
    /// Gauge: the last snapshot's size in bytes.
    pub snapshot_bytes: u64,
    /// How long the last snapshot took.
    pub snapshot_time: Duration,
    /// What is wrong with the disk, if anything is.
    pub fault: Option<String>,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: Counter,
    pub(crate) batches: Counter,
    pub(crate) log_bytes: Counter,
    pub(crate) sync_nanos: Counter,
    pub(crate) sync_nanos_max: AtomicU64,
    pub(crate) overloaded: Counter,
    pub(crate) not_written: Counter,
    pub(crate) heartbeats: Counter,
    pub(crate) probes_lost: Counter,
    pub(crate) peers_refused: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) snapshot_revision: AtomicU64,
    pub(crate) snapshot_bytes: AtomicU64,
    pub(crate) snapshot_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn synced(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.sync_nanos.add(nanos);
        self.sync_nanos_max.fetch_max(nanos, Relaxed);
    }

    pub(crate) fn snapshot(&self, revision: Revision, bytes: u64, took: Duration) {
        self.snapshots.add(1);
        self.snapshot_revision.store(revision.0, Relaxed);
        self.snapshot_bytes.store(bytes, Relaxed);
        self.snapshot_nanos.store(took.as_nanos() as u64, Relaxed);
    }

    /// The counters; the gauges are left at zero.
    pub(crate) fn read(&self) -> Stats {
        Stats {
            records: self.records.value(),
            batches: self.batches.value(),
            log_bytes: self.log_bytes.value(),
            sync_time: Duration::from_nanos(self.sync_nanos.value()),
            sync_time_max: Duration::from_nanos(self.sync_nanos_max.load(Relaxed)),
            overloaded: self.overloaded.value(),
            not_written: self.not_written.value(),
            heartbeats: self.heartbeats.value(),
            probes_lost: self.probes_lost.value(),
            peers_refused: self.peers_refused.value(),
            snapshots: self.snapshots.value(),
            snapshot_revision: Revision(self.snapshot_revision.load(Relaxed)),
            snapshot_bytes: self.snapshot_bytes.load(Relaxed),
            snapshot_time: Duration::from_nanos(self.snapshot_nanos.load(Relaxed)),
            ..Stats::default()
        }
    }
}
