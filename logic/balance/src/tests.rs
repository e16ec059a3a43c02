use std::sync::Arc;
use std::time::Duration;

use model::{
    Endpoint, EndpointStats, Health, Incarnation, Moment, Policy, ServiceKey, ServiceTable,
    Sharded, Weight,
};

use crate::{Balancer, Standing, Tried, Unavailable, standing};

const POLICIES: [Policy; 3] = [Policy::Random, Policy::RoundRobin, Policy::LeastConn];

fn service(policy: Policy, weights: &[u16]) -> ServiceTable {
    let endpoint = |(i, &weight): (usize, &u16)| Endpoint {
        id: format!("i{i}").parse().unwrap(),
        incarnation: Incarnation(1),
        address: ([127, 0, 0, 1], 8_000 + i as u16).into(),
        weight: Weight(weight),
        health: Health::Passing,
        drain: false,
        enabled: true,
        stats: Arc::new(EndpointStats::default()),
    };
    ServiceTable {
        key: ServiceKey::in_default("s".parse().unwrap()),
        role: None,
        policy,
        endpoints: weights.iter().enumerate().map(endpoint).collect(),
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        retries: 2,
        shun_for: Duration::from_secs(10),
        shun_after: 1,
        keep_alive: Duration::from_secs(10),
        send_proxy: None,
        connect_from: Vec::new(),
        stats: Arc::new(Sharded::new(1)),
    }
}

/// How often each endpoint is chosen in `n` picks of work that ends at once.
fn spread(service: &ServiceTable, n: usize) -> Vec<usize> {
    let mut balancer = Balancer::new(service, 7);
    let mut counts = vec![0; service.endpoints.len()];
    for _ in 0..n {
        counts[balancer
            .pick(service, &Tried::default(), Moment::ZERO)
            .unwrap()] += 1;
    }
    counts
}

#[test]
fn every_policy_honours_weights() {
    for policy in POLICIES {
        let counts = spread(&service(policy, &[1, 2, 5, 0]), 80_000);
        for (count, ideal) in counts.iter().zip([10_000, 20_000, 50_000, 0]) {
            assert!(
                count.abs_diff(ideal) <= ideal / 20,
                "{policy:?}: {counts:?}"
            );
        }
    }
}

#[test]
fn round_robin_interleaves_weights_smoothly() {
    let service = service(Policy::RoundRobin, &[1, 1, 2]);
    let mut balancer = Balancer::new(&service, 3);
    let mut picks = Vec::new();
    for _ in 0..400 {
        picks.push(
            balancer
                .pick(&service, &Tried::default(), Moment::ZERO)
                .unwrap(),
        );
    }
    for window in picks[4..].windows(4) {
        let heavy = window.iter().filter(|&&i| i == 2).count();
        assert!((1..=3).contains(&heavy), "{window:?}");
    }
}

#[test]
fn least_conn_fills_the_emptiest_per_weight() {
    let service = service(Policy::LeastConn, &[1, 3]);
    let mut balancer = Balancer::new(&service, 1);
    let mut counts = [0; 2];
    for _ in 0..40 {
        let i = balancer
            .pick(&service, &Tried::default(), Moment::ZERO)
            .unwrap();
        service.endpoints[i].stats.begin();
        counts[i] += 1;
    }
    assert_eq!(counts, [10, 30]);
}

#[test]
fn two_choices_keep_a_large_fleet_even() {
    let service = service(Policy::LeastConn, &[1; 200]);
    let mut balancer = Balancer::new(&service, 1);
    for _ in 0..2_000 {
        let i = balancer
            .pick(&service, &Tried::default(), Moment::ZERO)
            .unwrap();
        service.endpoints[i].stats.begin();
    }
    let most = service.endpoints.iter().map(|e| e.stats.in_flight()).max();
    // Random placement would put about 20 on the fullest of 200; the bound for two choices is ~mean + log log n.
    assert!(most <= Some(14), "{most:?}");
}

#[test]
fn who_was_tried_or_failed_is_passed_over_while_there_are_others() {
    for policy in POLICIES {
        let service = service(policy, &[1, 1000, 1]);
        let mut balancer = Balancer::new(&service, 9);
        service.endpoints[1].stats.shun(50);
        let mut tried = Tried::default();
        tried.add(0);
        let pick = |b: &mut Balancer, t: &Tried, now| b.pick(&service, t, Moment::from_nanos(now));
        assert_eq!(pick(&mut balancer, &tried, 10), Ok(2), "{policy:?}");
        tried.add(2);
        // Better one that failed than none.
        assert_eq!(pick(&mut balancer, &tried, 10), Ok(1), "{policy:?}");
        tried.add(1);
        assert_eq!(pick(&mut balancer, &tried, 10), Err(Unavailable::AllTried));
    }
}

#[test]
fn drained_disabled_and_critical_ones_get_nothing() {
    for policy in POLICIES {
        let mut service = service(policy, &[1; 5]);
        service.endpoints[0].health = Health::Critical;
        service.endpoints[1].drain = true;
        service.endpoints[2].enabled = false;
        service.endpoints[3].health = Health::Unknown;
        assert_eq!(spread(&service, 100), [0, 0, 0, 0, 100]);
        service.endpoints[4].health = Health::Critical;
        assert_eq!(spread(&service, 100), [0, 0, 0, 100, 0], "the reserve");
        service.endpoints[3].drain = true;
        let none = Balancer::new(&service, 1).pick(&service, &Tried::default(), Moment::ZERO);
        assert_eq!(none, Err(Unavailable::NoneEligible));
        service.endpoints.clear();
        let none = Balancer::new(&service, 1).pick(&service, &Tried::default(), Moment::ZERO);
        assert_eq!(none, Err(Unavailable::NoInstances));
    }
}

#[test]
fn a_shunned_endpoint_is_eligible_again_when_its_time_is_over() {
    let service = service(Policy::Random, &[1]);
    service.endpoints[0].stats.shun(100);
    assert_eq!(
        standing(&service.endpoints[0], Moment::from_nanos(99)),
        Standing::Shunned
    );
    assert_eq!(
        standing(&service.endpoints[0], Moment::from_nanos(100)),
        Standing::Eligible
    );
}
