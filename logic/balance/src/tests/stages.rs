//! Who may be chosen at all.

use model::{Health, Policy};

use super::*;
use crate::{Standing, Tried, standing};

#[test]
fn who_was_tried_or_ejected_is_passed_over_while_there_are_others() {
    for policy in Policy::ALL {
        let service = service(policy, &[1, 1000, 1]);
        let mut balancer = Balancer::new(&service, 0, 9);
        let out = crate::eject::eject(&service, 1, model::Reason::Failures, at(0));
        assert!(out);
        let mut tried = Tried::default();
        tried.add(0);
        let pick = |b: &mut Balancer, tried: Tried| {
            let context = Context { tried, ..keyed(4) };
            b.choose(&service, &context, at(10))
        };
        assert_eq!(pick(&mut balancer, tried), Ok(2), "{policy:?}");
        tried.add(2);
        // Better one that failed than none.
        assert_eq!(pick(&mut balancer, tried), Ok(1), "{policy:?}");
        tried.add(1);
        assert_eq!(pick(&mut balancer, tried), Err(Unavailable::AllTried));
    }
}

#[test]
fn drained_disabled_and_critical_ones_get_nothing() {
    for policy in Policy::ALL {
        let mut service = service(policy, &[1; 5]);
        service.endpoints[0].health = Health::Critical;
        service.endpoints[1].drain = true;
        service.endpoints[2].enabled = false;
        service.endpoints[3].health = Health::Unknown;
        replace(&mut service);
        assert_eq!(spread(&service, 100), [0, 0, 0, 0, 100]);
        service.endpoints[4].health = Health::Critical;
        replace(&mut service);
        assert_eq!(spread(&service, 100), [0, 0, 0, 100, 0], "the reserve");
        service.endpoints[3].drain = true;
        replace(&mut service);
        let none = Balancer::new(&service, 0, 1).choose(&service, &keyed(1), at(0));
        assert_eq!(none, Err(Unavailable::NoneEligible));
        service.endpoints.clear();
        replace(&mut service);
        let none = Balancer::new(&service, 0, 1).choose(&service, &keyed(1), at(0));
        assert_eq!(none, Err(Unavailable::NoInstances));
    }
}

#[test]
fn an_ejected_endpoint_says_why_and_is_eligible_again_when_its_time_is_over() {
    let service = service(Policy::Random, &[1]);
    assert!(crate::eject::eject(
        &service,
        0,
        model::Reason::Errors,
        at(0)
    ));
    let until = service.endpoints[0].stats.ejection().unwrap().until;
    // Ten seconds, and up to a quarter more.
    assert!((at(10_000)..=at(12_501)).contains(&until), "{until:?}");
    assert_eq!(
        standing(&service.endpoints[0], at(9_999)),
        Standing::Ejected(model::Reason::Errors)
    );
    assert_eq!(standing(&service.endpoints[0], until), Standing::Eligible);
}

#[test]
fn a_new_instance_gets_its_share_little_by_little() {
    for policy in [Policy::Random, Policy::RoundRobin, Policy::LeastTime] {
        let mut service = service(policy, &[1; 10]);
        service.balancing.slow_start = Duration::from_secs(10);
        service.endpoints[3].since = at(100_000);
        let mut balancer = Balancer::new(&service, 0, 1);
        let share = |now: u64, balancer: &mut Balancer| {
            let picks = (0..20_000).map(|_| balancer.choose(&service, &keyed(1), at(now)));
            picks.filter(|p| *p == Ok(3)).count() as f64 / 2_000.0
        };
        // Of its fair share: a tenth at first, then what has passed of the window.
        for (now, part) in [(100_000, 0.1), (105_000, 0.5), (110_000, 1.0)] {
            let share = share(now, &mut balancer);
            assert!((share - part).abs() < 0.1, "{policy:?} at {now}: {share}");
        }
    }
}

#[test]
fn who_has_part_of_its_share_is_not_filled_first_for_being_empty() {
    let mut service = service(Policy::LeastConn, &[1; 4]);
    service.balancing.slow_start = Duration::from_secs(10);
    service.endpoints[3].since = at(100_000);
    let mut balancer = Balancer::new(&service, 0, 1);
    let share = |now: u64, balancer: &mut Balancer| {
        let (mut leases, mut count) = (std::collections::VecDeque::new(), 0);
        for n in 0..4_000 {
            let lease = pick(balancer, &service, n, at(now)).unwrap();
            count += usize::from(lease.endpoint() == 3);
            leases.push_back(lease);
            // As many at a time as there are instances, all equally fast.
            if leases.len() == 4 {
                let lease = leases.pop_front().unwrap();
                lease.done(&service, Outcome::Answered, Duration::ZERO, at(now));
            }
        }
        for lease in leases {
            lease.done(&service, Outcome::Answered, Duration::ZERO, at(now));
        }
        count as f64 / 1_000.0
    };
    for (now, part) in [(100_000, 0.1), (105_000, 0.5), (110_000, 1.0)] {
        let share = share(now, &mut balancer);
        assert!((share - part).abs() < 0.15, "at {now}: {share}");
    }
    // All of them new: nobody is behind the others.
    service
        .endpoints
        .iter_mut()
        .for_each(|e| e.since = at(200_000));
    let mut balancer = Balancer::new(&service, 0, 1);
    let leases: Vec<_> = (0..40)
        .map(|n| pick(&mut balancer, &service, n, at(200_000)).unwrap())
        .collect();
    assert_eq!(in_flight(&service), [10; 4]);
    for lease in leases {
        lease.done(&service, Outcome::Answered, Duration::ZERO, at(200_000));
    }
}

#[test]
fn the_own_zone_comes_first_and_what_it_has_no_room_for_spills_over() {
    let mut service = service(Policy::Random, &[1; 20]);
    for endpoint in &mut service.endpoints[10..] {
        endpoint.tier = 1;
    }
    let local = |service: &ServiceTable| {
        let counts = spread(service, 20_000);
        counts[..10].iter().sum::<usize>() as f64 / 20_000.0
    };
    assert_eq!(local(&service), 1.0);
    // Three of ten are gone: seven can do the work of ten, by the usual headroom.
    for (critical, expected) in [(2, 1.0), (5, 0.7), (10, 0.0)] {
        for endpoint in &mut service.endpoints[..critical] {
            endpoint.health = Health::Critical;
        }
        let local = local(&service);
        assert!((local - expected).abs() < 0.02, "{critical}: {local}");
    }
}

#[test]
fn what_was_ejected_in_the_own_zone_spills_over_as_well() {
    let mut service = service(Policy::RoundRobin, &[1; 20]);
    for endpoint in &mut service.endpoints[10..] {
        endpoint.tier = 1;
    }
    for i in 0..5 {
        assert!(crate::eject::eject(
            &service,
            i,
            model::Reason::Unreachable,
            at(0)
        ));
    }
    let mut balancer = Balancer::new(&service, 0, 2);
    let picks = (0..10_000).map(|_| balancer.choose(&service, &keyed(1), at(1)).unwrap());
    let local = picks.filter(|&i| i < 10).count();
    assert!(local.abs_diff(7_000) < 300, "{local}");
}

#[test]
fn a_subset_is_small_even_and_changes_little() {
    let mut service = service(Policy::Random, &[1; 200]);
    service.balancing.subset = 20;
    let used = |service: &ServiceTable| -> Vec<usize> {
        let counts = spread(service, 5_000);
        (0..counts.len()).filter(|&i| counts[i] > 0).collect()
    };
    let mut users = vec![0; 200];
    for salt in 0..400 {
        service.balancing.subset_salt = crate::key::mix(salt, 5);
        let used = used(&service);
        assert_eq!(used.len(), 20);
        used.iter().for_each(|&i| users[i] += 1);
    }
    // 40 on average; six standard deviations of a binomial.
    assert!(users.iter().all(|u| (4..=78).contains(u)), "{users:?}");
    let before = used(&service);
    let balancer = Balancer::new(&service, 0, 1);
    for index in 0..200 {
        let eligible = balancer.standing(&service, index, at(0)) == Standing::Eligible;
        assert_eq!(eligible, before.contains(&index));
    }
    service.endpoints[before[3]].health = Health::Critical;
    let after = used(&service);
    assert_eq!(before.iter().filter(|i| after.contains(i)).count(), 19);
}

#[test]
fn with_too_few_healthy_health_is_ignored_but_not_drain() {
    let mut service = service(Policy::LeastConn, &[1; 10]);
    service.balancing.panic_below = 50;
    for endpoint in &mut service.endpoints[..6] {
        endpoint.health = Health::Critical;
    }
    service.endpoints[9].drain = true;
    let used = spread(&service, 900).iter().filter(|&&n| n == 100).count();
    assert_eq!(used, 9);
    let balancer = Balancer::new(&service, 0, 1);
    let standing = [0, 7, 9].map(|index| balancer.standing(&service, index, at(0)));
    assert_eq!(
        standing,
        [
            Standing::TakenForHealthy,
            Standing::Eligible,
            Standing::Draining
        ]
    );
    for endpoint in &mut service.endpoints[4..6] {
        endpoint.health = Health::Passing;
    }
    let used = spread(&service, 900).iter().filter(|&&n| n > 0).count();
    assert_eq!(used, 5);
}
