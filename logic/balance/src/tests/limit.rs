use std::time::Duration;

use model::{Concurrency, ConcurrencyLimit, Excess, KeyTable, LimitKey, Moment, Rate, RateLimit};

use crate::{Entry, Turn, enter, leave, take_turn, turn};

const MS: u64 = 1_000_000;

fn rate(burst: u32, excess: Excess) -> Rate {
    Rate {
        interval: Duration::from_millis(10),
        burst,
        excess,
        key: LimitKey::Source,
        max_keys: 64,
    }
}

fn at(ms: u64) -> Moment {
    Moment::from_nanos(ms * MS)
}

/// What becomes of requests that come at these milliseconds.
fn turns(rate: &Rate, times: &[u64]) -> Vec<Turn> {
    let mut whole = 0;
    let mut one = |&ms: &u64| {
        let (turn, after) = turn(rate, whole, at(ms));
        whole = after;
        turn
    };
    times.iter().map(&mut one).collect()
}

#[test]
fn a_burst_goes_on_and_what_is_beyond_is_refused_until_there_is_room() {
    let rate = rate(3, Excess::Reject);
    assert_eq!(
        turns(
            &rate,
            &[100, 100, 100, 100, 109, 110, 110, 200, 200, 200, 200]
        ),
        [
            Turn::Now,
            Turn::Now,
            Turn::Now,
            Turn::Refused(at(110)),
            Turn::Refused(at(110)),
            Turn::Now,
            Turn::Refused(at(120)),
            Turn::Now,
            Turn::Now,
            Turn::Now,
            Turn::Refused(at(210)),
        ]
    );
}

#[test]
fn what_waits_goes_on_evenly_and_no_more_than_the_burst_wait() {
    let rate = rate(2, Excess::Delay);
    assert_eq!(
        turns(&rate, &[100, 100, 100, 100, 115]),
        [
            Turn::Now,
            Turn::At(at(110)),
            Turn::At(at(120)),
            Turn::Refused(at(110)),
            Turn::At(at(130)),
        ]
    );
}

#[test]
fn over_a_long_time_no_more_go_on_than_the_rate_and_the_burst() {
    let mut random = crate::Random::new(7);
    for excess in [Excess::Reject, Excess::Delay] {
        let rate = rate(5, excess);
        let (mut whole, mut now, mut went_on) = (0, 1_000 * MS, 0);
        for _ in 0..10_000 {
            now += random.draw() % (5 * MS);
            let (turn, after) = turn(&rate, whole, Moment::from_nanos(now));
            whole = after;
            went_on += u64::from(!matches!(turn, Turn::Refused(_)));
        }
        let most = (now - 1_000 * MS) / (10 * MS) + 6;
        assert!(
            went_on <= most && went_on > most * 9 / 10,
            "{went_on} of {most}"
        );
    }
}

#[test]
fn a_clock_and_rates_at_their_ends_do_no_harm() {
    for excess in [Excess::Reject, Excess::Delay] {
        let mut rate = rate(u32::MAX, excess);
        rate.interval = Duration::from_secs(86_400);
        for whole in [0, 1, u64::MAX] {
            for now in [0, 1, u64::MAX] {
                turn(&rate, whole, Moment::from_nanos(now));
            }
        }
    }
}

#[test]
fn keys_have_their_limits_each_for_itself_and_memory_is_bounded() {
    let limit = RateLimit {
        rate: rate(1, Excess::Reject),
        keys: KeyTable::new(64, [1, 2]),
    };
    let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    assert_eq!(take_turn(&limit, key(1), at(100)), Turn::Now);
    assert_eq!(take_turn(&limit, key(1), at(100)), Turn::Refused(at(110)));
    assert_eq!(take_turn(&limit, key(2), at(100)), Turn::Now);
    assert_eq!(take_turn(&limit, 0, at(100)), Turn::Now);
    assert_eq!(take_turn(&limit, 0, at(100)), Turn::Refused(at(110)));
    // Ever new keys find a place, and take none but that of others.
    let admitted = (10..10_000).filter(|&n| take_turn(&limit, key(n), at(101)) == Turn::Now);
    assert_eq!(admitted.count(), 9_990);
    assert_eq!(limit.keys.slots.len(), 64);
}

#[test]
fn no_more_than_the_limit_are_in_at_a_time() {
    let limit = ConcurrencyLimit {
        limit: Concurrency {
            max: 2,
            key: LimitKey::Route,
            max_keys: 8,
        },
        keys: KeyTable::new(8, [1, 2]),
    };
    let Entry::Counted(slot) = enter(&limit, 7) else {
        panic!("there is room")
    };
    assert_eq!(enter(&limit, 7), Entry::Counted(slot));
    assert_eq!(enter(&limit, 7), Entry::Refused);
    assert!(matches!(enter(&limit, 9), Entry::Counted(other) if other != slot));
    leave(&limit, slot);
    assert_eq!(enter(&limit, 7), Entry::Counted(slot));
    // Nobody is shut out because others have all the slots.
    for key in 10..16 {
        assert!(matches!(enter(&limit, key), Entry::Counted(_)));
    }
    assert_eq!(enter(&limit, 99), Entry::Uncounted);
}

#[test]
fn threads_that_share_a_limit_keep_it_together() {
    let limit = RateLimit {
        rate: Rate {
            burst: 1_000,
            ..rate(1, Excess::Reject)
        },
        keys: KeyTable::new(64, [1, 2]),
    };
    let went_on: usize = std::thread::scope(|scope| {
        let one = || {
            (0..1_000)
                .filter(|_| take_turn(&limit, 7, at(100)) == Turn::Now)
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(went_on, 1_000);
}
