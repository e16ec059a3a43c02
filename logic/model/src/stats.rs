//! Numbers that workers write and everybody reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A count that only grows. Relaxed: a reader may be a moment behind, never wrong for good.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds `n` to a count that only this thread writes: a plain addition, where [`Counter::add`] locks
    /// the cache line.
    pub fn bump(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One `T` a worker, each on cache lines of its own: workers write theirs, readers add all up.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Shard<T>]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard<T>(T);

impl<T: Default> Sharded<T> {
    /// One shard for each of `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Shard::default()).collect())
    }

    /// The shard of the worker with number `worker`.
    pub fn of(&self, worker: usize) -> &T {
        &self.0[worker].0
    }

    /// The total of one count over all workers.
    pub fn total(&self, count: impl Fn(&T) -> &Counter) -> u64 {
        self.0.iter().map(|shard| count(&shard.0).value()).sum()
    }
}

/// What happened at a listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed. Those open now are `accepted` - `closed`.
    pub closed: Counter,
    /// Requests whose head was no HTTP, or broke a limit.
    pub refused: Counter,
    /// Connections cut off for taking too long.
    pub timed_out: Counter,
    /// Bytes read from clients.
    pub received: Counter,
    /// Bytes sent to clients.
    pub sent: Counter,
}

/// What happened on a route.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Requests answered, by the first digit of the status code: 1xx (tunnels) at 0 to 5xx at 4.
    pub answered: [Counter; 5],
    /// Requests that got no whole answer: the client left, or the instance cut its answer short.
    pub aborted: Counter,
}

/// What happened with a service.
#[derive(Debug, Default)]
pub struct ServiceStats {
    /// Requests, once each however many attempts they took.
    pub requests: Counter,
    /// Attempts after the first.
    pub retries: Counter,
    /// Requests for which no instance could be chosen.
    pub unavailable: Counter,
    /// Answers by time to their last byte: one count for each of [`DURATION_BOUNDS`], then one for more.
    pub durations: [Counter; DURATION_BOUNDS.len() + 1],
    /// Nanoseconds, summed over all answers.
    pub duration_sum: Counter,
}

/// Upper bounds of the duration histogram, in microseconds.
pub const DURATION_BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

impl ServiceStats {
    /// Counts an answer that took `nanos`.
    pub fn answered_in(&self, nanos: u64) {
        let bucket = DURATION_BOUNDS.partition_point(|&bound| bound * 1_000 < nanos);
        self.durations[bucket].bump(1);
        self.duration_sum.bump(nanos);
    }
}

/// Which life of an instance this is: the revision at which it was registered under its present address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// What the balancer knows of one endpoint: shared by all workers and surviving routing-table swaps.
///
/// One cache line of its own, so that workers counting on neighbouring endpoints do not slow each other.
/// In-flight is shared on purpose: a count per worker would make every worker a separate balancer that
/// sees only its own load.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EndpointStats {
    in_flight: AtomicU32,
    requests: Counter,
    failures: Counter,
    connects: Counter,
    connect_failures: Counter,
    /// Nanoseconds on the worker's clock until which a failed endpoint is passed over; 0 when it is not.
    shunned_until: AtomicU64,
    failures_in_a_row: AtomicU32,
}

impl EndpointStats {
    /// Requests and connections being served there now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Work begins.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.add(1);
    }

    /// Work begun earlier ends.
    pub fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Relaxed);
        debug_assert_ne!(before, 0, "every end has its begin");
    }

    /// An attempt was answered.
    pub fn succeeded(&self) {
        // Read first: in the common case the line is not dirtied.
        if self.failures_in_a_row.load(Relaxed) != 0 {
            self.forgive();
        }
    }

    /// Whatever failed before no longer counts.
    pub fn forgive(&self) {
        self.failures_in_a_row.store(0, Relaxed);
        self.shunned_until.store(0, Relaxed);
    }

    /// An attempt failed (no connection, or no answer). Returns how many have failed in a row.
    pub fn failed(&self) -> u32 {
        self.failures.add(1);
        self.failures_in_a_row.fetch_add(1, Relaxed) + 1
    }

    /// Passes the endpoint over until `until` (nanoseconds).
    pub fn shun(&self, until: u64) {
        self.shunned_until.store(until, Relaxed);
    }

    /// Until when (nanoseconds) it is passed over; 0 when it is not.
    pub fn shunned_until(&self) -> u64 {
        self.shunned_until.load(Relaxed)
    }

    /// A connection was opened, or could not be.
    pub fn connected(&self, ok: bool) {
        self.connects.add(1);
        if !ok {
            self.connect_failures.add(1);
        }
    }

    /// Requests ever sent there.
    pub fn requests(&self) -> u64 {
        self.requests.value()
    }

    /// Attempts that failed.
    pub fn failures(&self) -> u64 {
        self.failures.value()
    }

    /// Connections ever tried.
    pub fn connects(&self) -> u64 {
        self.connects.value()
    }

    /// Connections that could not be opened.
    pub fn connect_failures(&self) -> u64 {
        self.connect_failures.value()
    }
}
