//! When a request that takes long is sent to a second instance (Dean and Barroso, "The Tail at Scale").

use std::time::Duration;

use model::Hedging;

/// Buckets of the histogram: eight for each doubling, from 64 µs on, up to 67 s. A bucket's bound is at most a ninth above what is
/// in it.
const BUCKETS: usize = 160;
const PER_DOUBLING: u32 = 3;
const FIRST: u32 = 16;

/// Answers that it takes to know anything: of fewer, one of twenty is none or one. What is known too well of too few is held to the
/// budget like everything else.
const ENOUGH: u32 = 30;

/// With so many, all counts are halved: what was is forgotten.
const MANY: u32 = 2_000;

/// So many new answers make it worth another look.
const STALE: u32 = 32;

/// Second requests that may be sent at once after a quiet time.
const BURST: f32 = 10.0;

/// One worker's hedging of one service: how long answers take, and how many second requests there may be.
#[derive(Clone, Debug)]
pub struct Hedges {
    /// Empty until there is something to count.
    counts: Vec<u32>,
    total: u32,
    /// The delay as of the last look, the quantile that it is of, and answers since then.
    found: Option<(Duration, u8)>,
    news: u32,
    tokens: f32,
}

impl Default for Hedges {
    fn default() -> Self {
        Self {
            counts: Vec::new(),
            total: 0,
            found: None,
            news: 0,
            tokens: 1.0,
        }
    }
}

impl Hedges {
    /// A first request took so long to be answered; one that was given up for a second took so long at the least.
    pub fn answered(&mut self, latency: Duration) {
        self.counts.resize(BUCKETS, 0);
        self.counts[bucket(latency)] += 1;
        self.total += 1;
        self.news += 1;
        if self.total >= MANY {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
    }

    /// A request begins: how long it may take until a second one is sent; `None` while too little is known.
    pub fn begin(&mut self, hedging: &Hedging) -> Option<Duration> {
        self.tokens = (self.tokens + f32::from(hedging.budget) / 100.0).min(BURST);
        if hedging.delay.is_some() {
            return hedging.delay;
        }
        if self.total < ENOUGH {
            return None;
        }
        let known = self
            .found
            .filter(|(_, quantile)| *quantile == hedging.quantile);
        let (delay, _) = match known {
            Some(found) if self.news < STALE => found,
            _ => {
                self.news = 0;
                *self
                    .found
                    .insert((self.quantile(hedging.quantile), hedging.quantile))
            }
        };
        Some(delay.max(hedging.min_delay))
    }

    /// Whether a second request may be sent, which is due; then it is counted.
    pub fn may(&mut self) -> bool {
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// The upper bound of the bucket that so many of a hundred answers are in, or below.
    fn quantile(&self, percent: u8) -> Duration {
        let wanted = u64::from(self.total) * u64::from(percent);
        let mut below = 0_u64;
        let index = self.counts.iter().position(|&count| {
            below += u64::from(count) * 100;
            below >= wanted
        });
        bound(index.unwrap_or(BUCKETS - 1))
    }
}

/// By the place of the highest bit, and the three below it.
fn bucket(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos())
        .unwrap_or(u64::MAX)
        .max(1 << FIRST);
    let high = nanos.ilog2();
    let low = (nanos >> (high - PER_DOUBLING)) as usize & 7;
    (((high - FIRST) as usize) << PER_DOUBLING | low).min(BUCKETS - 1)
}

fn bound(bucket: usize) -> Duration {
    let (high, low) = (bucket as u32 >> PER_DOUBLING, bucket as u64 & 7);
    Duration::from_nanos((9 + low) << (high + FIRST - PER_DOUBLING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    const HEDGING: Hedging = Hedging {
        quantile: 95,
        budget: 5,
        min_delay: Duration::from_millis(1),
        delay: None,
    };

    fn millis(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn the_delay_is_what_so_many_of_a_hundred_answers_take() {
        let (mut hedges, mut random) = (Hedges::default(), Random::new(7));
        for n in 0..5_000 {
            let even = random.below(1 << 20) as f64 / f64::from(1 << 20);
            assert_eq!(hedges.begin(&HEDGING).is_some(), n >= ENOUGH, "{n}");
            hedges.answered(millis(10.0 + 100.0 * even));
        }
        let delay = hedges.begin(&HEDGING).unwrap().as_secs_f64() * 1e3;
        // Ninety-five of a hundred take 105 ms, and buckets are an eighth wide.
        assert!((100.0..=120.0).contains(&delay), "{delay}");
    }

    #[test]
    fn it_follows_a_service_that_becomes_slower() {
        let mut hedges = Hedges::default();
        (0..2_000).for_each(|_| hedges.answered(millis(2.0)));
        let before = hedges.begin(&HEDGING).unwrap();
        (0..4_000).for_each(|_| hedges.answered(millis(50.0)));
        let after = hedges.begin(&HEDGING).unwrap();
        assert!(
            before <= millis(2.5) && after >= millis(50.0),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn a_time_that_is_given_needs_nothing_to_be_learned() {
        let given = Hedging {
            delay: Some(millis(50.0)),
            ..HEDGING
        };
        assert_eq!(Hedges::default().begin(&given), Some(millis(50.0)));
    }

    #[test]
    fn no_more_than_the_budget_are_sent() {
        let mut hedges = Hedges::default();
        let mut sent = 0;
        for _ in 0..10_000 {
            hedges.begin(&HEDGING);
            sent += u32::from(hedges.may());
        }
        assert!((495..=502).contains(&sent), "{sent}");
        // After a quiet time some may be sent at once, and not many.
        for _ in 0..10_000 {
            hedges.begin(&HEDGING);
        }
        let burst = (0..100).filter(|_| hedges.may()).count();
        assert_eq!(burst, 10);
    }

    #[test]
    fn latencies_of_every_size_are_below_their_bound_and_near_it() {
        for exponent in 0..63 {
            for more in [0, 1, 12_345] {
                let latency = Duration::from_nanos((1_u64 << exponent) + more);
                let bound = bound(bucket(latency));
                let known =
                    latency >= Duration::from_micros(66) && latency < Duration::from_secs(60);
                if known {
                    assert!(
                        bound > latency && bound <= latency * 9 / 8 + Duration::from_nanos(1),
                        "{latency:?} {bound:?}"
                    );
                }
            }
        }
        let mut hedges = Hedges::default();
        (0..200).for_each(|_| hedges.answered(Duration::MAX));
        assert!(hedges.begin(&HEDGING).is_some());
        (0..5_000).for_each(|_| hedges.answered(Duration::ZERO));
        assert_eq!(hedges.begin(&HEDGING), Some(Duration::from_millis(1)));
    }
}
