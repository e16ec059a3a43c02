//! Numbers that workers write and everybody reads.

use crate::{Circuit, Priority, Refusal};

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

/// The long connections of one endpoint: TCP connections, UDP sessions and tunnels, by all workers. Apart from
/// [`crate::EndpointStats`], which every request reads.
#[derive(Debug, Default)]
pub struct LongConnections {
    open: AtomicU32,
    /// Closed so that their clients come back to an instance that has fewer.
    pub moved: Counter,
}

impl LongConnections {
    /// How many there are.
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// One more.
    pub fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn end(&self) {
        let before = self.open.fetch_sub(1, Relaxed);
        debug_assert_ne!(before, 0, "every end has its begin");
    }
}

/// Requests of a service that are admitted while their number is limited, by all workers.
#[derive(Debug)]
pub struct Admission {
    admitted: AtomicU32,
    limit: AtomicU32,
    /// Turned away for want of room, by [`crate::Priority`].
    pub shed: [Counter; Priority::ALL.len()],
    /// How long answered attempts took.
    pub latency: Sharded<Latency>,
    /// Whether it is left alone, if it has a circuit breaker.
    pub circuit: Circuit,
}

/// How long attempts took that were answered, to the first byte.
#[derive(Debug, Default)]
pub struct Latency {
    /// How many.
    pub answers: Counter,
    /// All together.
    pub nanos: Counter,
}

impl Admission {
    /// Counts for `workers` workers, without a limit.
    pub fn new(workers: usize) -> Self {
        Self {
            admitted: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            shed: Default::default(),
            latency: Sharded::new(workers),
            circuit: Circuit::default(),
        }
    }

    /// How many are admitted now.
    pub fn admitted(&self) -> u32 {
        self.admitted.load(Relaxed)
    }

    /// How many may be; 0 for any number.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// From now on so many may be.
    pub fn set_limit(&self, limit: u32) {
        // Read first: most often nothing has changed, and workers read it with every request.
        if self.limit() != limit {
            self.limit.store(limit, Relaxed);
        }
    }

    /// Admits one more if there is room: whoever is told so calls [`Admission::leave`] once.
    pub fn enter(&self) -> bool {
        let limit = self.limit();
        let room = |admitted: u32| (limit == 0 || admitted < limit).then_some(admitted + 1);
        self.admitted.fetch_update(Relaxed, Relaxed, room).is_ok()
    }

    /// One that was admitted is done.
    pub fn leave(&self) {
        let before = self.admitted.fetch_sub(1, Relaxed);
        debug_assert_ne!(before, 0, "every end has its begin");
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
    /// Connections in HTTP/2.
    pub http2: Counter,
    /// Those of them that were ended for making more work than they let us do.
    pub floods: Counter,
    /// TLS handshakes that were completed.
    pub handshakes: Counter,
    /// Those of them that resumed an earlier session.
    pub resumed: Counter,
    /// TLS handshakes that failed.
    pub handshakes_failed: Counter,
    /// Bytes read from clients.
    pub received: Counter,
    /// Bytes sent to clients.
    pub sent: Counter,
    /// Requests by how long they took, from their head to the answer's last byte: by [`status_class`].
    pub durations: [Histogram; CLASSES],
}

/// What happened on a route.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Requests answered, by the first digit of the status code: 1xx (tunnels) at 0 to 5xx at 4.
    pub answered: [Counter; 5],
    /// Requests that got no whole answer: the client left, or the instance cut its answer short.
    pub aborted: Counter,
    /// Requests that a filter answered, by [`Refusal`].
    pub refused: [Counter; Refusal::ALL.len()],
}

/// What happened with a service.
#[derive(Debug, Default)]
pub struct ServiceStats {
    /// Requests, once each however many attempts they took.
    pub requests: Counter,
    /// Attempts after the first.
    pub retries: Counter,
    /// Second requests sent because the first took long.
    pub hedges: Counter,
    /// Those of them that were answered first.
    pub hedges_won: Counter,
    /// Requests for which no instance could be chosen.
    pub unavailable: Counter,
    /// Attempts that were answered, and not with an error of the instance's own.
    pub accepted: Counter,
    /// Leases taken on endpoints, and given back: the difference is in flight, on all endpoints together.
    pub begun: Counter,
    /// See `begun`.
    pub ended: Counter,
    /// Whose leases were given back last: see [`ServiceStats::freed`].
    freed: [AtomicU32; FREED],
    /// Requests by how long they took, from their head to the answer's last byte: by [`status_class`].
    pub durations: [Histogram; CLASSES],
    /// Answers of instances by how long their heads took, from the request's head on.
    pub first_bytes: Histogram,
    /// New connections to instances by how long they took, without TLS.
    pub connects: Histogram,
    /// Requests by how many attempts they took: one count for each number up to [`MOST_TRIES`], the last for that and more.
    pub tries: [Counter; MOST_TRIES + 1],
    /// All their attempts together.
    pub attempts: Counter,
}

/// Attempts of a request that are told apart.
pub const MOST_TRIES: usize = 5;

/// What requests are told apart by: no status, and its first digit from 1 to 5.
pub const CLASSES: usize = 6;

/// The number of a status's class.
#[inline]
pub const fn status_class(status: u16) -> usize {
    let class = status as usize / 100;
    if class < CLASSES { class } else { CLASSES - 1 }
}

/// How long things took. One for each worker; writing it is two additions.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One count for each of [`DURATION_BOUNDS`], then one for more.
    pub counts: [Counter; DURATION_BOUNDS.len() + 1],
    /// Nanoseconds, all together.
    pub sum: Counter,
}

impl Histogram {
    /// Counts something that took `nanos`.
    #[inline]
    pub fn took(&self, nanos: u64) {
        self.add(bucket(nanos), nanos);
    }

    /// The same, by whoever knows its [`bucket`] already.
    #[inline]
    pub fn add(&self, bucket: usize, nanos: u64) {
        self.counts[bucket].bump(1);
        self.sum.bump(nanos);
    }
}

/// The number of the count of a [`Histogram`] that something of `nanos` belongs to.
#[inline]
pub fn bucket(nanos: u64) -> usize {
    DURATION_BOUNDS.partition_point(|&bound| bound * 1_000 < nanos)
}

/// Endpoints remembered that were freed last: as many as answer within one batch of events, most often.
pub const FREED: usize = 8;

/// Upper bounds of the duration histogram, in microseconds.
pub const DURATION_BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

impl Sharded<ServiceStats> {
    /// What is in flight at all endpoints of the service together, by all workers' count.
    pub fn in_flight(&self) -> u64 {
        // Ended first: what ends in between would otherwise make it negative.
        let ended = self.total(|s| &s.ended);
        self.total(|s| &s.begun).saturating_sub(ended)
    }
}

impl ServiceStats {
    /// A lease on the endpoint with this number is given back.
    #[inline]
    pub fn end(&self, endpoint: u32) {
        self.freed[self.ended.value() as usize % FREED].store(endpoint, Relaxed);
        self.ended.bump(1);
    }

    /// The number of the endpoint that gave back the n-th lease, counted from 0, if n is among the last [`FREED`]. A
    /// hint: where connections ended, or the table changed, it is another's.
    #[inline]
    pub fn freed(&self, n: u64) -> u32 {
        self.freed[n as usize % FREED].load(Relaxed)
    }
}
