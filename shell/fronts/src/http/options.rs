use std::sync::Arc;
use std::time::Duration;

use model::Lease;

use super::Arrivals;
use crate::Names;

/// How the native API is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The names that it goes by.
    pub names: Names,
    /// The lease of a registration that names none.
    pub default_lease: Lease,
    /// The longest body of a request, in bytes. Batches of heartbeats may have 4 MiB in any case.
    pub max_body: usize,
    /// The most connections at a time; a few more get one short answer each, and further ones wait in the listener's queue.
    pub max_connections: usize,
    /// Where it is noted how they come in.
    pub arrivals: Arc<Arrivals>,
    /// How long a connection may be without a complete request head: this is both what cuts off a client that
    /// sends its head byte by byte, and how long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a forwarded request may take, all attempts together.
    pub forward_timeout: Duration,
    /// How long requests under way may take to finish once the server shuts down.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Names::default(),
            default_lease: Lease {
                ttl: Duration::from_secs(15),
                grace: Duration::from_secs(30),
            },
            max_body: 1 << 20,
            max_connections: 10_000,
            arrivals: Arc::default(),
            // Longer than the customary heartbeat and scrape intervals, so that their connections last.
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            forward_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
