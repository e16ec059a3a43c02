use std::sync::Arc;
use std::time::Duration;

use model::{
    EndpointStats, LongConnections, Moment, Policy, Reason, ServiceStats, ServiceTable, Sharded,
};

use crate::balancer::Unit;
use crate::eject;
use crate::learn::{self, Usual};

/// Work in flight at an endpoint, from the pick to [`Lease::done`]: exactly one of each. A connection is a lease
/// that ends late.
///
/// It borrows nothing, so that it can wait in a simulator's queue; it belongs to the table it was picked from.
#[derive(Debug)]
#[must_use = "the endpoint counts it as in flight until it is done"]
pub struct Lease {
    endpoint: u32,
    worker: u16,
    unit: Unit,
    /// What was in flight before it.
    x: f32,
    /// What was usual at the pick.
    usual: Usual,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, and not with an error of the instance's own.
    Answered,
    /// It was answered with an error of the instance's own (5xx).
    Error,
    /// There was no connection.
    Unreachable,
    /// The connection ended before the answer was whole, or the answer made no sense.
    Broken,
    /// No answer came in time.
    TimedOut,
    /// We, or our client, gave up for reasons of our own.
    Cancelled,
}

/// A connection that stands: its endpoint counts it as in flight until it is dropped, by the worker that opened it.
#[derive(Debug)]
pub struct Held {
    endpoint: Arc<EndpointStats>,
    connections: Arc<LongConnections>,
    service: Arc<Sharded<ServiceStats>>,
    worker: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.endpoint.end();
        self.connections.end();
        self.service.of(self.worker).ended.bump(1);
    }
}

/// A connection that stood broke, and the endpoint is to blame. Returns why it was ejected because of it, if it was.
pub fn broke(service: &ServiceTable, endpoint: usize, now: Moment) -> Option<Reason> {
    let row = service.endpoints[endpoint].stats.failed();
    let most = service.balancing.ejecting.failures;
    let too_many = most != 0 && row >= most;
    let ejected = too_many && eject::eject(service, endpoint, Reason::Failures, now);
    ejected.then_some(Reason::Failures)
}

/// Loads above this are no loads: a report of them is a fault.
const MOST_REPORTED: f32 = 1e6;

impl Lease {
    pub(crate) fn begin(
        service: &ServiceTable,
        endpoint: usize,
        worker: usize,
        unit: Unit,
        usual: Usual,
        now: Moment,
    ) -> Self {
        let stats = &service.endpoints[endpoint].stats;
        let x = learn::in_flight(stats, now);
        stats.begin();
        service.stats.of(worker).begun.bump(1);
        Self {
            endpoint: endpoint as u32,
            worker: worker as u16,
            unit,
            x,
            usual,
        }
    }

    /// The number of the endpoint in the service's table.
    pub const fn endpoint(&self) -> usize {
        self.endpoint as usize
    }

    /// Takes in what the instance says it has in flight, from everybody, this one included. What cannot be true
    /// is left out of account.
    pub fn reported(&self, service: &ServiceTable, in_flight: f32) {
        // NaN and infinities are not in the range either.
        if (0.0..=MOST_REPORTED).contains(&in_flight) {
            learn::reported(&service.endpoints[self.endpoint()].stats, in_flight);
        }
    }

    /// The end. `latency` is the time from sending to the answer's first byte, or to its failure; of a connection,
    /// the time until it stood. Returns why the endpoint was ejected because of it, if it was.
    pub fn done(
        self,
        service: &ServiceTable,
        outcome: Outcome,
        latency: Duration,
        now: Moment,
    ) -> Option<Reason> {
        let stats = &service.endpoints[self.endpoint()].stats;
        stats.end();
        let shard = service.stats.of(usize::from(self.worker));
        shard.end(self.endpoint);
        let nanos = learn::nanos(latency);
        let ejecting = &service.balancing.ejecting;
        let (row, most, reason) = match outcome {
            Outcome::Answered => {
                stats.succeeded();
                shard.accepted.bump(1);
                self.learn(service, nanos, now);
                if service.balancing.limiting.adaptive {
                    let seen = service.admission.latency.of(usize::from(self.worker));
                    seen.answers.bump(1);
                    seen.nanos.bump(latency.as_nanos() as u64);
                }
                return None;
            }
            Outcome::Cancelled => {
                // All that is known is that it would have taken longer. That counts if it is news.
                if nanos > stats.learned().y {
                    self.learn(service, nanos, now);
                }
                return None;
            }
            Outcome::Error => (stats.erred(), ejecting.errors, Reason::Errors),
            Outcome::Unreachable => (stats.failed(), ejecting.failures, Reason::Unreachable),
            Outcome::Broken | Outcome::TimedOut => {
                (stats.failed(), ejecting.failures, Reason::Failures)
            }
        };
        self.learn(service, self.usual.charge(nanos), now);
        let too_many = most != 0 && row >= most;
        let ejected = too_many && eject::eject(service, self.endpoint(), reason, now);
        ejected.then_some(reason)
    }

    /// A connection stands, and may outlive the table.
    pub fn stands(self, service: &ServiceTable) -> Held {
        let endpoint = &service.endpoints[self.endpoint()];
        endpoint.stats.succeeded();
        endpoint.connections.begin();
        let shard = service.stats.of(usize::from(self.worker));
        shard.accepted.bump(1);
        Held {
            endpoint: endpoint.stats.clone(),
            connections: endpoint.connections.clone(),
            service: service.stats.clone(),
            worker: usize::from(self.worker),
        }
    }

    #[inline]
    fn learn(&self, service: &ServiceTable, nanos: f32, now: Moment) {
        let stats = &service.endpoints[self.endpoint()].stats;
        match (self.unit, service.policy) {
            // How long a connection took to open says nothing about what its requests will take.
            (Unit::Connection, _) => {}
            (Unit::Request, Policy::PeakEwma) => learn::peak_sample(stats, nanos, now),
            (Unit::Request, _) => learn::sample(stats, self.x, nanos, self.usual, now),
        }
    }
}
