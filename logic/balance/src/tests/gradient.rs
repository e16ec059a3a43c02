//! The limit finds what instances can take, wherever that is.

use model::{Admission, Limiting, Policy};

use super::*;
use crate::Gradient;

fn limited(limiting: Limiting) -> ServiceTable {
    let mut service = service(Policy::LeastConn, &[1]);
    service.balancing.limiting = limiting;
    service.admission = Arc::new(Admission::new(1));
    service
}

const ADAPTIVE: Limiting = Limiting {
    max: 0,
    adaptive: true,
    min: 4,
    queue: 0,
    wait: Duration::ZERO,
    wait_overloaded: Duration::ZERO,
};

/// A tenth of a second at an instance that works at `parallel` requests at a time, each for 10 ms, while clients have
/// `wanted` under way whenever they may.
fn tenth(service: &ServiceTable, gradient: &mut Gradient, parallel: u32, wanted: u32, now: Moment) {
    while service.admission.admitted() < wanted && service.admission.enter() {}
    let admitted = u64::from(service.admission.admitted());
    // Little's law.
    let nanos = 10_000_000 * admitted.max(u64::from(parallel)) / u64::from(parallel);
    let answers = 100_000_000 * admitted / nanos;
    let seen = service.admission.latency.of(0);
    seen.answers.bump(answers);
    seen.nanos.bump(answers * nanos);
    gradient.handle_timeout(service, now);
    (0..admitted).for_each(|_| service.admission.leave());
}

fn run(
    service: &ServiceTable,
    gradient: &mut Gradient,
    parallel: u32,
    wanted: u32,
    tenths: std::ops::Range<u64>,
) -> u32 {
    for n in tenths {
        tenth(service, gradient, parallel, wanted, at(n * 100));
    }
    service.admission.limit()
}

#[test]
fn the_limit_settles_a_little_above_what_the_instances_work_at() {
    for parallel in [10, 50, 400] {
        let (service, mut gradient) = (limited(ADAPTIVE), Gradient::default());
        let limit = run(&service, &mut gradient, parallel, 10_000, 0..1_200);
        assert!(
            (parallel..=parallel * 3).contains(&limit),
            "{limit} for {parallel}"
        );
    }
}

#[test]
fn the_limit_does_not_drift_in_an_hour_of_overload() {
    let (service, mut gradient) = (limited(ADAPTIVE), Gradient::default());
    for minute in 0..60 {
        let limit = run(
            &service,
            &mut gradient,
            50,
            10_000,
            minute * 600..minute * 600 + 600,
        );
        assert!(
            (25..=150).contains(&limit),
            "{limit} after {minute} minutes"
        );
    }
}

#[test]
fn the_limit_follows_instances_that_become_weaker() {
    let (service, mut gradient) = (limited(ADAPTIVE), Gradient::default());
    let before = run(&service, &mut gradient, 100, 10_000, 0..600);
    let after = run(&service, &mut gradient, 20, 10_000, 600..660);
    assert!(after < before / 2, "from {before} to {after}");
}

#[test]
fn the_limit_does_not_grow_with_nobody_there_to_need_it() {
    let (service, mut gradient) = (limited(ADAPTIVE), Gradient::default());
    assert_eq!(run(&service, &mut gradient, 100, 3, 0..600), 20);
}

#[test]
fn the_limit_stays_between_its_bounds() {
    let (service, mut gradient) = (
        limited(Limiting {
            max: 30,
            ..ADAPTIVE
        }),
        Gradient::default(),
    );
    assert_eq!(run(&service, &mut gradient, 400, 1_000, 0..600), 30);
    let (service, mut gradient) = (
        limited(Limiting {
            min: 15,
            ..ADAPTIVE
        }),
        Gradient::default(),
    );
    assert!(run(&service, &mut gradient, 2, 1_000, 0..600) >= 15);
}

#[test]
fn a_limit_that_is_given_is_kept_and_none_is_none() {
    for max in [0, 7] {
        let limiting = Limiting {
            max,
            adaptive: false,
            ..ADAPTIVE
        };
        let (service, mut gradient) = (limited(limiting), Gradient::default());
        assert_eq!(run(&service, &mut gradient, 10, 100, 0..10), max);
    }
    let service = limited(ADAPTIVE);
    assert!((0..1_000).all(|_| service.admission.enter()));
}
