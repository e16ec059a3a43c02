//! Retries hide the failures of one, and do not multiply those of all.

use model::Policy;

use super::*;
use crate::{Random, Retries};

/// `seconds` of `rate` requests, of which `failing` in a hundred fail at each attempt. Returns attempts for each request.
fn run(
    service: &ServiceTable,
    retries: &mut Retries,
    rate: u64,
    failing: u64,
    seconds: std::ops::Range<u64>,
) -> f64 {
    let mut random = Random::new(7);
    let (mut requests, mut attempts) = (0.0, 0.0);
    let stats = service.stats.of(0);
    for second in seconds {
        for n in 0..rate {
            let now = at(second * 1_000 + n * 1_000 / rate);
            stats.requests.bump(1);
            requests += 1.0;
            for retry in 0..3 {
                if retry > 0 {
                    if !retries.may(service, stats, random.draw(), now) {
                        break;
                    }
                    stats.retries.bump(1);
                }
                stats.begun.bump(1);
                attempts += 1.0;
                if random.below(100) >= failing {
                    stats.accepted.bump(1);
                    break;
                }
            }
        }
    }
    attempts / requests
}

fn ready() -> (ServiceTable, Retries) {
    let mut service = service(Policy::LeastConn, &[1, 1]);
    service.retry_budget = 20;
    (service, Retries::default())
}

#[test]
fn the_failures_of_a_few_are_all_retried() {
    let (service, mut retries) = ready();
    let attempts = run(&service, &mut retries, 1_000, 10, 0..60);
    assert!((1.10..1.12).contains(&attempts), "{attempts}");
}

#[test]
fn when_all_fail_the_load_stays_what_it_is() {
    let (service, mut retries) = ready();
    run(&service, &mut retries, 1_000, 0, 0..60);
    let first = run(&service, &mut retries, 1_000, 100, 60..90);
    // What the budget had saved is spent at once.
    assert!(first < 1.3, "{first}");
    // Even what is within the budget is too much for who answers nothing.
    run(&service, &mut retries, 1_000, 100, 90..600);
    let later = run(&service, &mut retries, 1_000, 100, 600..660);
    assert!(later < 1.05, "{later}");
    run(&service, &mut retries, 1_000, 5, 660..960);
    let healed = run(&service, &mut retries, 1_000, 5, 960..1_020);
    assert!((1.045..1.06).contains(&healed), "{healed}");
}

#[test]
fn a_service_with_few_requests_may_retry_every_one() {
    let (service, mut retries) = ready();
    let attempts = run(&service, &mut retries, 4, 100, 0..60);
    assert!(attempts > 2.9, "{attempts}");
}

#[test]
fn an_hour_without_a_retry_is_no_credit() {
    let (service, mut retries) = ready();
    service.stats.of(0).requests.bump(3_600_000);
    service.stats.of(0).begun.bump(3_600_000);
    service.stats.of(0).accepted.bump(3_600_000);
    retries.may(&service, service.stats.of(0), 0, at(3_600_000));
    let attempts = run(&service, &mut retries, 1_000, 100, 3_600..3_610);
    assert!(attempts < 1.5, "{attempts}");
}
