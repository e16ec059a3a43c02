//! What must not hurt.

use model::{EndpointStats, Health, Policy};

use super::*;
use crate::{Outliers, Random};

/// Picks and ends at random while everything changes; checks what must always hold.
#[test]
fn leases_are_given_back_exactly_once_whatever_changes_meanwhile() {
    for policy in Policy::ALL {
        let mut random = Random::new(17);
        let mut table = Arc::new(service(policy, &[1, 2, 3, 0, 5]));
        let mut balancer = Balancer::new(&table, 0, 4);
        let mut outliers = Outliers::default();
        let mut leases: Vec<(Arc<ServiceTable>, Lease)> = Vec::new();
        let mut seen: Vec<Arc<EndpointStats>> = Vec::new();
        let mut now = at(1_000_000);
        // Tables of keys take their time in an unoptimised build.
        let steps = if policy.is_hash() { 200 } else { 4_000 };
        for n in 0..steps {
            // Mostly forward; sometimes the clock steps back, or far ahead.
            now = match random.below(100) {
                0 => Moment::from_nanos(now.as_nanos().saturating_sub(60_000_000_000)),
                1 => now + Duration::from_secs(86_400 * 40),
                _ => now + Duration::from_millis(1),
            };
            table = Arc::new(changed(&table, &mut random, now));
            seen.extend(table.endpoints.iter().map(|e| e.stats.clone()));
            balancer.rebuild(&table);
            outliers.handle_timeout(&table, now);
            if let Ok(lease) = pick(&mut balancer, &table, n, now) {
                let chosen = &table.endpoints[lease.endpoint()];
                assert!(chosen.enabled && !chosen.drain && chosen.weight.0 > 0);
                assert_ne!(chosen.health, Health::Critical);
                let report = [f32::NAN, f32::INFINITY, -1.0, 1e30, 3.0][random.below(5) as usize];
                lease.reported(&table, report);
                leases.push((table.clone(), lease));
            }
            while leases.len() as u64 > random.below(40) {
                let at = random.below(leases.len() as u64) as usize;
                let (table, lease) = leases.swap_remove(at);
                let latency = Duration::from_nanos(random.draw() >> random.below(64));
                lease.done(&table, any_outcome(&mut random), latency, now);
            }
            check(&table, leases.len());
        }
        for (table, lease) in leases {
            lease.done(&table, Outcome::Cancelled, Duration::ZERO, now);
        }
        assert!(
            seen.iter().all(|stats| stats.in_flight() == 0),
            "{policy:?}"
        );
        assert_eq!(table.stats.in_flight(), 0);
    }
}

fn any_outcome(random: &mut Random) -> Outcome {
    [
        Outcome::Answered,
        Outcome::Error,
        Outcome::Unreachable,
        Outcome::Broken,
        Outcome::TimedOut,
        Outcome::Cancelled,
    ][random.below(6) as usize]
}

/// The table after one change: an instance more, fewer, ill, drained, or another at its place.
fn changed(before: &ServiceTable, random: &mut Random, now: Moment) -> ServiceTable {
    let mut table = ServiceTable {
        key: before.key.clone(),
        balancing: before.balancing.clone(),
        placement: before.placement.clone(),
        endpoints: before.endpoints.clone(),
        stats: before.stats.clone(),
        ejections: before.ejections.clone(),
        ..service(before.policy, &[])
    };
    table.placement = before.placement.clone();
    let endpoints = &mut table.endpoints;
    let any = random.below(endpoints.len().max(1) as u64) as usize;
    match random.below(6) {
        0 if !endpoints.is_empty() => drop(endpoints.remove(any)),
        1 | 2 if endpoints.len() < 12 => {
            let mut new = endpoint(random.below(40) as usize, random.below(4) as u16);
            new.since = now;
            if let Err(place) = endpoints.binary_search_by(|e| e.id.cmp(&new.id)) {
                endpoints.insert(place, new);
            }
        }
        3 if !endpoints.is_empty() => {
            endpoints[any].health = Health::ALL[random.below(4) as usize];
        }
        4 if !endpoints.is_empty() => endpoints[any].drain ^= true,
        // The same address, another life.
        5 if !endpoints.is_empty() => {
            endpoints[any].incarnation.0 += 1;
            endpoints[any].stats = Arc::default();
        }
        _ => {}
    }
    replace(&mut table);
    table
}

fn check(table: &ServiceTable, leases: usize) {
    assert_eq!(table.stats.in_flight(), leases as u64);
    for endpoint in &table.endpoints {
        let learned = endpoint.stats.learned();
        assert!(endpoint.stats.in_flight() as usize <= leases);
        let numbers = [
            learned.weight,
            learned.x,
            learned.y,
            learned.pace,
            endpoint.stats.others(),
        ];
        assert!(
            numbers.iter().all(|n| n.is_finite() && *n >= 0.0),
            "{learned:?}"
        );
    }
}

#[test]
fn an_instance_at_the_same_address_with_a_new_identity_inherits_nothing() {
    let mut service = service(Policy::LeastTime, &[1, 1]);
    crate::eject::eject(&service, 0, model::Reason::Unreachable, at(0));
    let mut balancer = Balancer::new(&service, 0, 1);
    let old = pick(&mut balancer, &service, 0, at(1)).unwrap();
    assert_eq!(old.endpoint(), 1);
    let before = Arc::new(service);
    service = changed(&before, &mut Random::new(0), at(1));
    service.endpoints = before.endpoints.clone();
    for endpoint in &mut service.endpoints {
        endpoint.incarnation.0 += 1;
        endpoint.stats = Arc::default();
    }
    balancer.rebuild(&service);
    assert_eq!(in_flight(&service), [0, 0]);
    let chosen: Vec<_> = (0..50)
        .map(|n| balancer.choose(&service, &keyed(n), at(2)).unwrap())
        .collect();
    assert!(chosen.contains(&0), "the ejection was the former one's");
    old.done(&before, Outcome::Broken, Duration::ZERO, at(3));
    assert_eq!(in_flight(&service), [0, 0]);
    assert_eq!(service.endpoints[1].stats.failures(), 0);
}

#[test]
fn absurd_reports_of_load_change_nothing() {
    let service = service(Policy::LeastTime, &[1; 4]);
    let mut balancer = Balancer::new(&service, 0, 1);
    for report in [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -3.0,
        1e7,
        f32::MAX,
    ] {
        let lease = pick(&mut balancer, &service, 0, at(1)).unwrap();
        let endpoint = lease.endpoint();
        lease.reported(&service, report);
        lease.done(&service, Outcome::Answered, Duration::from_millis(1), at(1));
        assert_eq!(service.endpoints[endpoint].stats.others(), 0.0, "{report}");
    }
    let mut counts = [0; 4];
    for n in 0..4_000 {
        counts[request(&mut balancer, &service, at(n), |_| Outcome::Answered)] += 1;
    }
    assert!(counts.iter().all(|&c| c > 500), "{counts:?}");
}

#[test]
fn an_instance_that_says_others_keep_it_busy_is_spared_while_that_is_news() {
    let service = service(Policy::LeastTime, &[1; 4]);
    let mut balancer = Balancer::new(&service, 0, 1);
    for n in 0..400 {
        request(&mut balancer, &service, at(n), |_| Outcome::Answered);
    }
    while service.endpoints[2].stats.others() == 0.0 {
        let lease = pick(&mut balancer, &service, 0, at(400)).unwrap();
        let load = if lease.endpoint() == 2 { 50.0 } else { 1.0 };
        lease.reported(&service, load);
        lease.done(
            &service,
            Outcome::Answered,
            Duration::from_millis(1),
            at(400),
        );
    }
    let share = |balancer: &mut Balancer, now| {
        let picks = (0..400).map(|_| balancer.choose(&service, &keyed(1), at(now)));
        picks.filter(|p| *p == Ok(2)).count()
    };
    assert!(share(&mut balancer, 410) < 20);
    assert!(share(&mut balancer, 11_000) > 20);
}

#[test]
fn all_weights_zero_is_an_error_and_not_an_even_spread() {
    for policy in Policy::ALL {
        let service = service(policy, &[0; 3]);
        let none = Balancer::new(&service, 0, 1).choose(&service, &keyed(1), at(0));
        assert_eq!(none, Err(Unavailable::NoneEligible), "{policy:?}");
    }
}

#[test]
fn one_endpoint_gets_everything_even_when_it_fails() {
    for policy in Policy::ALL {
        let service = service(policy, &[7]);
        let mut balancer = Balancer::new(&service, 0, 1);
        for n in 0..200 {
            request(&mut balancer, &service, at(n), |_| Outcome::Unreachable);
        }
        assert_eq!(service.endpoints[0].stats.requests(), 200, "{policy:?}");
    }
}
