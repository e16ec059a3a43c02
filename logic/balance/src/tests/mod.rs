mod ejection;
mod gradient;
mod hashing;
mod limit;
mod persist;
mod policies;
mod queue;
mod respread;
mod retries;
mod spread;
mod stages;
mod survival;

use std::sync::Arc;
use std::time::Duration;

use model::{
    Balancing, Endpoint, EndpointStats, Health, Incarnation, Moment, Policy, ServiceKey,
    ServiceTable, Sharded, Weight,
};

use crate::{Balancer, Context, Lease, Outcome, Unavailable, place};

fn endpoint(number: usize, weight: u16) -> Endpoint {
    Endpoint {
        id: format!("i{number:05}").parse().unwrap(),
        incarnation: Incarnation(1),
        address: ([127, 0, 0, 1], 8_000).into(),
        weight: Weight(weight),
        health: Health::Passing,
        drain: false,
        enabled: true,
        tier: 0,
        since: Moment::ZERO,
        stats: Arc::new(EndpointStats::default()),
        connections: Arc::default(),
    }
}

fn service(policy: Policy, weights: &[u16]) -> ServiceTable {
    let endpoints = weights.iter().enumerate().map(|(i, &w)| endpoint(i, w));
    let mut service = ServiceTable {
        key: ServiceKey::in_default("s".parse().unwrap()),
        role: None,
        persistence: None,
        policy,
        balancing: Balancing::default(),
        placement: None,
        endpoints: endpoints.collect(),
        unresolved: 0,
        connect_timeout: Duration::from_secs(1),
        peer_timeout: Duration::from_secs(60),
        response_timeout: Duration::from_secs(1),
        retries: 2,
        retry_budget: 100,
        keep_alive: Duration::from_secs(10),
        send_proxy: None,
        load_report: None,
        http2: false,
        tls: false,
        connect_from: Vec::new(),
        stats: Arc::new(Sharded::new(1)),
        ejections: Arc::default(),
        least_moves: Arc::default(),
        admission: Arc::new(model::Admission::new(1)),
    };
    replace(&mut service);
    service
}

/// Follows a change of the endpoints, as whoever makes tables does.
fn replace(service: &mut ServiceTable) {
    let before = service.placement.take();
    service.placement = place(
        service.policy,
        &service.balancing,
        &service.endpoints,
        before.as_ref(),
    );
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn keyed(key: u64) -> Context {
    Context {
        key: crate::key::mix(key, 77),
        ..Context::default()
    }
}

fn pick(
    balancer: &mut Balancer,
    service: &ServiceTable,
    key: u64,
    now: Moment,
) -> Result<Lease, Unavailable> {
    balancer.pick(service, &keyed(key), now)
}

/// A request that takes a millisecond, and what came of it.
fn request(
    balancer: &mut Balancer,
    service: &ServiceTable,
    now: Moment,
    outcome: impl Fn(usize) -> Outcome,
) -> usize {
    let lease = pick(balancer, service, now.as_nanos(), now).unwrap();
    let endpoint = lease.endpoint();
    lease.done(service, outcome(endpoint), Duration::from_millis(1), now);
    endpoint
}

/// How often each endpoint is chosen in `n` picks of work that ends at once.
fn spread(service: &ServiceTable, n: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(service, 0, 7);
    let mut counts = vec![0; service.endpoints.len()];
    for i in 0..n {
        let lease = pick(&mut balancer, service, i as u64, Moment::ZERO).unwrap();
        counts[lease.endpoint()] += 1;
        lease.done(service, Outcome::Answered, Duration::ZERO, Moment::ZERO);
    }
    counts
}

fn in_flight(service: &ServiceTable) -> Vec<u32> {
    service
        .endpoints
        .iter()
        .map(|e| e.stats.in_flight())
        .collect()
}
