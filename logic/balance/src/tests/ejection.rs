//! Who fails is taken out, and comes back.

use std::collections::BTreeMap;

use model::{Policy, Reason};

use super::*;
use crate::{Outlier, Outliers, Standing, standing};

/// Drives `per_second` requests a second with sweeps, from `from` to `to` (milliseconds); returns each endpoint's share.
fn drive(
    service: &ServiceTable,
    outliers: &mut Outliers,
    (from, to): (u64, u64),
    per_second: u64,
    outcome: impl Fn(usize, u64) -> Outcome,
) -> Vec<f64> {
    let mut balancer = Balancer::new(service, 0, from + 1);
    let mut counts = vec![0_u64; service.endpoints.len()];
    let requests = (to - from) * per_second / 1_000;
    let mut under_way = std::collections::VecDeque::new();
    for n in 0..requests {
        let now = Moment::from_nanos((from * 1_000 + n * 1_000_000 / per_second) * 1_000);
        if outliers.next_deadline() <= now {
            outliers.handle_timeout(service, now);
        }
        let lease = pick(&mut balancer, service, n, now).unwrap();
        let endpoint = lease.endpoint();
        counts[endpoint] += 1;
        match outcome(endpoint, n) {
            // Work takes 10 ms, failures nothing.
            Outcome::Answered => under_way.push_back((now, lease)),
            bad => {
                lease.done(service, bad, Duration::from_micros(100), now);
            }
        }
        while under_way
            .front()
            .is_some_and(|(at, _)| now.since(*at) >= Duration::from_millis(10))
        {
            let (at, lease) = under_way.pop_front().unwrap();
            lease.done(service, Outcome::Answered, now.since(at), now);
        }
    }
    for (_, lease) in under_way {
        lease.done(
            service,
            Outcome::Answered,
            Duration::from_millis(10),
            at(to),
        );
    }
    counts.iter().map(|&c| c as f64 / requests as f64).collect()
}

fn answered(_: usize, _: u64) -> Outcome {
    Outcome::Answered
}

#[test]
fn one_of_twenty_that_fails_fast_has_less_than_a_hundredth_within_a_second() {
    for policy in Policy::ALL {
        let service = service(policy, &[1; 20]);
        let mut outliers = Outliers::default();
        drive(&service, &mut outliers, (0, 3_000), 2_000, answered);
        let fails = |endpoint, _| match endpoint {
            7 => Outcome::Error,
            _ => Outcome::Answered,
        };
        drive(&service, &mut outliers, (3_000, 4_000), 2_000, fails);
        let shares = drive(&service, &mut outliers, (4_000, 10_000), 2_000, fails);
        assert!(shares[7] <= 0.01, "{policy:?}: {shares:?}");
    }
}

#[test]
fn one_that_fails_fast_attracts_nothing_even_without_ejection() {
    for policy in [Policy::LeastConn, Policy::LeastTime, Policy::PeakEwma] {
        let mut service = service(policy, &[1; 20]);
        service.balancing.ejecting.errors = 0;
        service.balancing.ejecting.error_rate = 100;
        let mut outliers = Outliers::default();
        drive(&service, &mut outliers, (0, 3_000), 2_000, answered);
        let fails = |endpoint, _| match endpoint {
            7 => Outcome::Error,
            _ => Outcome::Answered,
        };
        let shares = drive(&service, &mut outliers, (3_000, 8_000), 2_000, fails);
        assert!(shares[7] <= 0.01, "{policy:?}: {shares:?}");
    }
}

#[test]
fn forty_in_a_hundred_that_err_half_of_the_time_are_ejected_and_stay_out() {
    for policy in [Policy::RoundRobin, Policy::LeastTime] {
        let service = service(policy, &[1; 20]);
        let mut outliers = Outliers::default();
        let errs = |endpoint, n| match endpoint < 8 && crate::key::mix(n, 1).is_multiple_of(2) {
            true => Outcome::Error,
            false => Outcome::Answered,
        };
        drive(&service, &mut outliers, (0, 4_000), 4_000, errs);
        let shares = drive(&service, &mut outliers, (4_000, 5_000), 4_000, errs);
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            let out = matches!(standing(endpoint, at(5_000)), Standing::Ejected(_));
            // What errors are charged keeps `least_time` away from some before there is enough to eject them for.
            let avoided = policy == Policy::LeastTime && shares[index] < 0.005;
            assert_eq!(out || avoided, index < 8, "{policy:?}: {index}, {shares:?}");
        }
        let shares = drive(&service, &mut outliers, (5_000, 60_000), 4_000, errs);
        let bad: f64 = shares[..8].iter().sum();
        assert!(bad < 0.04, "{policy:?}: {shares:?}");
        let ejections: u64 = service
            .ejections
            .total
            .iter()
            .map(model::Counter::value)
            .sum();
        // Each was tried a few times, ever more rarely.
        assert!(ejections <= 8 * 6, "{ejections}");
    }
}

#[test]
fn what_all_have_in_common_ejects_nobody() {
    let service = service(Policy::RoundRobin, &[1; 20]);
    let mut outliers = Outliers::default();
    let errs = |_, n: u64| match crate::key::mix(n, 1).is_multiple_of(2) {
        true => Outcome::Error,
        false => Outcome::Answered,
    };
    drive(&service, &mut outliers, (0, 10_000), 2_001, errs);
    let ejected = service.ejections.total[Reason::ErrorRate as usize].value();
    assert_eq!(ejected, 0);
}

#[test]
fn no_more_than_the_cap_are_out_but_for_those_nobody_can_connect_to() {
    let service = service(Policy::RoundRobin, &[1; 20]);
    let mut outliers = Outliers::default();
    drive(&service, &mut outliers, (0, 3_000), 2_000, |_, _| {
        Outcome::Broken
    });
    let out = |service: &ServiceTable| {
        let those = service
            .endpoints
            .iter()
            .filter(|e| matches!(standing(e, at(3_000)), Standing::Ejected(_)));
        those.count()
    };
    assert_eq!(out(&service), 10);
    drive(&service, &mut outliers, (3_000, 3_100), 2_000, |_, _| {
        Outcome::Unreachable
    });
    assert_eq!(out(&service), 20);
    // All are out, and somebody is asked even so.
    assert!(
        Balancer::new(&service, 0, 1)
            .choose(&service, &keyed(1), at(3_001))
            .is_ok()
    );
}

#[test]
fn times_grow_and_those_ejected_together_come_back_one_after_the_other() {
    let service = service(Policy::RoundRobin, &[1; 8]);
    let until = |i: usize| service.endpoints[i].stats.ejection().unwrap().until;
    for i in 0..8 {
        crate::eject::eject(&service, i, Reason::Unreachable, at(0));
    }
    let mut times: Vec<_> = (0..8).map(until).collect();
    times.sort();
    times.dedup();
    assert_eq!(times.len(), 8);
    let mut now = at(0);
    let mut last = Duration::ZERO;
    for n in 1..=8 {
        let (before, from) = (last, until(0));
        assert!(crate::eject::eject(&service, 0, Reason::Unreachable, from));
        last = until(0).since(from);
        let longest = service.balancing.ejecting.max_time;
        assert!(
            last >= before.min(longest) && last <= longest * 5 / 4 + Duration::from_millis(1),
            "{n}: {last:?}"
        );
        now = from;
    }
    // A clean record again after a while.
    let later = now + Duration::from_secs(600);
    crate::eject::eject(&service, 0, Reason::Unreachable, later);
    assert_eq!(service.endpoints[0].stats.ejection().unwrap().times, 1);
}

#[test]
fn who_fails_on_probation_is_out_at_once_and_longer() {
    let service = service(Policy::RoundRobin, &[1, 1]);
    let mut balancer = Balancer::new(&service, 0, 1);
    let errs = |e| {
        if e == 0 {
            Outcome::Error
        } else {
            Outcome::Answered
        }
    };
    for n in 0..20 {
        request(&mut balancer, &service, at(n), errs);
    }
    let first = service.endpoints[0].stats.ejection().unwrap();
    assert_eq!((first.reason, first.times), (Reason::Errors, 1));
    let mut now = first.until;
    let mut outliers = Outliers::default();
    while service.endpoints[0].stats.ejection() == Some(first) {
        outliers.handle_timeout(&service, now);
        request(&mut balancer, &service, now, errs);
        now = now + Duration::from_millis(1);
    }
    let second = service.endpoints[0].stats.ejection().unwrap();
    assert_eq!(second.times, 2);
    assert!(
        second.until.since(now) > Duration::from_secs(19),
        "{second:?}"
    );
    assert!(now.since(first.until) < Duration::from_millis(200));
}

#[test]
fn nobody_is_ejected_again_for_what_it_was_ejected_for() {
    let service = service(Policy::RoundRobin, &[1; 5]);
    let mut outliers = Outliers::default();
    let mut balancer = Balancer::new(&service, 0, 1);
    outliers.handle_timeout(&service, at(0));
    // All that were in flight at once, and more than a few.
    let leases: Vec<_> = (0..250)
        .map(|n| pick(&mut balancer, &service, n, at(0)).unwrap())
        .collect();
    for lease in leases {
        let outcome = match lease.endpoint() {
            2 => Outcome::Error,
            _ => Outcome::Answered,
        };
        lease.done(&service, outcome, Duration::from_millis(1), at(1));
    }
    drive(&service, &mut outliers, (1, 20_000), 200, answered);
    let ejection = service.endpoints[2].stats.ejection().unwrap();
    assert_eq!((ejection.reason, ejection.times), (Reason::Errors, 1));
}

#[test]
fn an_instance_far_slower_than_the_others_is_ejected_if_asked_for() {
    let mut service = service(Policy::RoundRobin, &[1; 10]);
    service.balancing.ejecting.slow_factor = 5;
    let mut outliers = Outliers::default();
    let mut balancer = Balancer::new(&service, 0, 1);
    for n in 0..1_000 {
        let lease = pick(&mut balancer, &service, n, at(n)).unwrap();
        let latency = if lease.endpoint() == 2 { 80 } else { 8 + n % 5 };
        lease.done(
            &service,
            Outcome::Answered,
            Duration::from_millis(latency),
            at(n),
        );
    }
    let out = outliers.handle_timeout(&service, at(1_000));
    let expected = Outlier {
        endpoint: 2,
        reason: Reason::Slow,
    };
    assert_eq!(out, [expected]);
}

/// What share of a fair one each of `n` endpoints has, six seconds after a second in which the first `bad` of them did not do
/// well: 2,000 requests a second, which take 5 ms.
fn after_a_bad_second(n: usize, bad: usize, outcome: Outcome, latency: Duration) -> Vec<f64> {
    let mut service = service(Policy::LeastTime, &vec![1; n]);
    // Whom that takes out is out for longer.
    service.balancing.ejecting.errors = 0;
    let mut balancer = Balancer::new(&service, 0, 3);
    let mut under_way: BTreeMap<(Moment, u64), (Lease, Outcome, Duration)> = BTreeMap::new();
    let mut counts = vec![0.0; n];
    for request in 0..18_000 {
        let now = Moment::from_nanos(request * 500_000);
        while let Some(first) = under_way.first_entry() {
            if first.key().0 > now {
                break;
            }
            end(&service, first.remove_entry());
        }
        let lease = pick(&mut balancer, &service, request, now).unwrap();
        let endpoint = lease.endpoint();
        if request >= 16_000 {
            counts[endpoint] += n as f64 / 2_000.0;
        }
        let (outcome, latency) = match (2_000..4_000).contains(&request) && endpoint < bad {
            true => (outcome, latency),
            false => (Outcome::Answered, Duration::from_millis(5)),
        };
        under_way.insert((now + latency, request), (lease, outcome, latency));
    }
    under_way.into_iter().for_each(|one| end(&service, one));
    counts
}

/// When a request ends, its number, and how.
type UnderWay = ((Moment, u64), (Lease, Outcome, Duration));

fn end(service: &ServiceTable, ((at, _), (lease, outcome, latency)): UnderWay) {
    lease.done(service, outcome, latency, at);
}

#[test]
fn after_a_second_in_which_most_failed_or_were_slow_all_have_requests_again() {
    for (outcome, millis) in [(Outcome::Error, 1), (Outcome::Answered, 700)] {
        for (n, bad) in [(20, 20), (20, 12), (5, 3), (3, 3), (20, 1)] {
            let shares = after_a_bad_second(n, bad, outcome, Duration::from_millis(millis));
            let are_even = shares.iter().all(|share| (0.25..2.5).contains(share));
            assert!(are_even, "{outcome:?}, {bad} of {n}: {shares:.1?}");
        }
    }
}
