//! Each policy does what its name says.

use model::{Moment, Policy};

use super::*;
use crate::{Random, Unit};

#[test]
fn every_policy_honours_weights() {
    for policy in Policy::ALL {
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
    let mut balancer = Balancer::new(&service, 0, 3);
    let picks: Vec<usize> = (0..400)
        .map(|_| balancer.choose(&service, &keyed(0), Moment::ZERO).unwrap())
        .collect();
    for window in picks[4..].windows(4) {
        let heavy = window.iter().filter(|&&i| i == 2).count();
        assert!((1..=3).contains(&heavy), "{window:?}");
    }
}

#[test]
fn least_conn_fills_the_emptiest_per_weight() {
    let service = service(Policy::LeastConn, &[1, 3]);
    let mut balancer = Balancer::new(&service, 0, 1);
    let leases: Vec<_> = (0..40)
        .map(|_| pick(&mut balancer, &service, 0, Moment::ZERO).unwrap())
        .collect();
    assert_eq!(in_flight(&service), [10, 30]);
    for lease in leases {
        lease.done(&service, Outcome::Answered, Duration::ZERO, Moment::ZERO);
    }
    assert_eq!(in_flight(&service), [0, 0]);
}

#[test]
fn looking_at_a_few_keeps_a_large_fleet_even() {
    for policy in [Policy::LeastConn, Policy::PeakEwma, Policy::LeastTime] {
        let service = service(policy, &[1; 200]);
        let mut balancer = Balancer::new(&service, 0, 1);
        let leases: Vec<_> = (0..2_000)
            .map(|_| pick(&mut balancer, &service, 0, Moment::ZERO).unwrap())
            .collect();
        let most = in_flight(&service).into_iter().max();
        // Random placement would put about 20 on the fullest of 200; the bound for two choices is ~mean + log log n.
        assert!(most <= Some(14), "{policy:?}: {most:?}");
        drop(leases);
    }
}

#[test]
fn connections_go_where_the_fewest_are_whatever_was_learned() {
    for policy in [Policy::LeastTime, Policy::PeakEwma] {
        let service = service(policy, &[1, 1]);
        let mut balancer = Balancer::new(&service, 0, 1);
        // The first looks a thousand times slower.
        crate::learn::sample(
            &service.endpoints[0].stats,
            0.0,
            1e9,
            crate::learn::Usual::default(),
            at(0),
        );
        crate::learn::sample(
            &service.endpoints[1].stats,
            0.0,
            1e6,
            crate::learn::Usual::default(),
            at(0),
        );
        let connection = Context {
            unit: Unit::Connection,
            ..Context::default()
        };
        for _ in 0..100 {
            let lease = balancer.pick(&service, &connection, at(0));
            drop(lease);
        }
        assert_eq!(in_flight(&service), [50, 50], "{policy:?}");
    }
}

/// A fleet in which some are slower than others, each serving one request at a time; returns the mean latency in
/// milliseconds. Open loop: requests come whatever becomes of the earlier ones.
fn queueing(policy: Policy, service_times: &[u64], load: f64, seed: u64) -> f64 {
    let service = service(policy, &vec![1; service_times.len()]);
    let mut balancer = Balancer::new(&service, 0, seed);
    let mut random = Random::new(seed + 1);
    let capacity: f64 = service_times.iter().map(|&t| 1e6 / t as f64).sum();
    let gap = 1e6 / (capacity * load);
    let mut free_at = vec![0_u64; service_times.len()];
    let mut under_way = std::collections::BTreeMap::new();
    let (mut now, mut total, requests) = (0_u64, 0_u64, 60_000);
    for n in 0..requests {
        let uniform = (random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        now += (-uniform.max(1e-12).ln() * gap) as u64;
        while let Some(entry) = under_way.first_entry() {
            let (end, _): (u64, u64) = *entry.key();
            if end > now {
                break;
            }
            let (lease, begun): (Lease, u64) = entry.remove();
            let latency = Duration::from_micros(end - begun);
            lease.done(
                &service,
                Outcome::Answered,
                latency,
                Moment::from_nanos(end * 1_000),
            );
        }
        let lease = pick(&mut balancer, &service, n, Moment::from_nanos(now * 1_000)).unwrap();
        let server = lease.endpoint();
        let uniform = (random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let work = -uniform.max(1e-12).ln() * service_times[server] as f64;
        free_at[server] = free_at[server].max(now) + work as u64;
        // The first quarter warms up.
        if n >= requests / 4 {
            total += free_at[server] - now;
        }
        under_way.insert((free_at[server], n), (lease, now));
    }
    total as f64 / (requests - requests / 4) as f64 / 1e3
}

#[test]
fn least_time_learns_which_instances_are_slow() {
    // Half of them four times as fast as the others, and nobody has said so by weights.
    let times: Vec<u64> = (0..100).map(|i| 6_000 + i % 2 * 18_000).collect();
    let mean = |policy| queueing(policy, &times, 0.5, 11);
    let ours = mean(Policy::LeastTime);
    for policy in [Policy::LeastConn, Policy::PeakEwma, Policy::RoundRobin] {
        let theirs = mean(policy);
        println!("least_time {ours:.2}, {policy:?} {theirs:.2}");
        assert!(ours < 0.95 * theirs, "{policy:?}: {ours} {theirs}");
    }
}

#[test]
fn what_other_workers_send_is_seen_before_anybody_on_the_shortlist_is_chosen() {
    let service = service(Policy::LeastTime, &[1; 100]);
    let mut balancer = Balancer::new(&service, 0, 5);
    for n in 0..200 {
        request(&mut balancer, &service, at(n), |_| Outcome::Answered);
    }
    // Counted by others: this worker's own news say nothing of it.
    for endpoint in service.endpoints.iter().step_by(2) {
        (0..50).for_each(|_| {
            endpoint.stats.begin();
        });
    }
    let mut chosen = Vec::new();
    for n in 0..40 {
        let lease = pick(&mut balancer, &service, n, at(199)).unwrap();
        chosen.push(lease.endpoint());
        lease.done(
            &service,
            Outcome::Answered,
            Duration::from_millis(1),
            at(199),
        );
    }
    assert!(chosen.iter().all(|index| index % 2 == 1), "{chosen:?}");
}

/// Shares of 10,000 requests, one after the other, that take about so many milliseconds at each endpoint.
fn shares(policy: Policy, weights: &[u16], millis: &[f64]) -> Vec<f64> {
    let service = service(policy, weights);
    let mut balancer = Balancer::new(&service, 0, 7);
    let mut random = Random::new(3);
    let mut counts = vec![0.0; weights.len()];
    let mut now = at(0);
    for n in 0..10_000 {
        let lease = pick(&mut balancer, &service, n, now).unwrap();
        let endpoint = lease.endpoint();
        counts[endpoint] += 1e-4;
        let about = 0.5 + random.below(1_000) as f64 / 1e3;
        let latency = Duration::from_secs_f64(millis[endpoint] * about / 1e3);
        now = now + latency;
        lease.done(&service, Outcome::Answered, latency, now);
    }
    counts
}

#[test]
fn weights_are_shares_among_those_that_answer_equally_fast() {
    for policy in Policy::ALL {
        let shares = shares(policy, &[1, 2, 5], &[5.0; 3]);
        for (share, fair) in shares.iter().zip([0.125, 0.25, 0.625]) {
            let of_fair = share / fair;
            assert!((0.7..1.5).contains(&of_fair), "{policy:?}: {shares:?}");
        }
    }
}

#[test]
fn one_with_little_weight_does_not_get_everything_by_being_faster() {
    for policy in Policy::ALL {
        let shares = shares(policy, &[1, 99], &[5.0, 6.0]);
        assert!((0.005..0.03).contains(&shares[0]), "{policy:?}: {shares:?}");
    }
}

#[test]
fn least_time_does_not_stay_with_one_that_weighs_much_and_is_stuck() {
    let service = service(Policy::LeastTime, &[1, 99]);
    let mut balancer = Balancer::new(&service, 0, 7);
    for n in 0..500 {
        request(&mut balancer, &service, at(n), |_| Outcome::Answered);
    }
    let mut stuck = Vec::new();
    for n in 500..1_000 {
        let lease = pick(&mut balancer, &service, n, at(n)).unwrap();
        match lease.endpoint() {
            0 => drop(lease.done(&service, Outcome::Answered, Duration::from_millis(1), at(n))),
            _ => stuck.push(lease),
        }
    }
    assert!(stuck.len() < 50, "{}", stuck.len());
}

#[test]
fn turns_of_a_heavy_one_that_is_out_are_everybodys() {
    for heavy in [10, 1_000, 65_535] {
        let service = service(Policy::RoundRobin, &[heavy, 1, 2, 1]);
        assert!(crate::eject::eject(
            &service,
            0,
            model::Reason::Failures,
            at(0)
        ));
        let counts = spread(&service, 4_000);
        for (count, fair) in counts.iter().zip([0, 1_000, 2_000, 1_000]) {
            assert!(count.abs_diff(fair) <= fair / 5, "{heavy}: {counts:?}");
        }
    }
}
