//! What `least_time` and `peak_ewma` learn of an endpoint, and what they foretell from it.
//!
//! `least_time` fits, online and for each endpoint, latency against what was in flight when the request was sent:
//! a ridge regression over decayed moments. So it learns how fast an instance is and how it suffers from load,
//! corrects itself with every answer, and needs no help of the instance's.

use model::{EndpointStats, Learned, Moment};

/// Samples that count at the most. Fewer follow changes faster, more are steadier.
const MEMORY: f32 = 48.0;

/// After so long without a sample, half of the former ones' weight is gone.
const FADING: f32 = 2.0;

/// After so long without a sample an endpoint is taken for an average one: a bad one must be tried again, or
/// nobody finds out that it is well.
const FORGOTTEN: f32 = 10.0;

/// How strongly the slope is drawn to its prior, in units of the variance of in-flight.
const RIDGE: f32 = 1.0;

/// However idle, an instance is not faster than this part of its mean: extrapolation ends somewhere.
const FLOOR: f32 = 0.3;

/// Finagle's and Envoy's time constant of the peak-sensitive average, in seconds.
const PEAK_DECAY: f32 = 10.0;

/// A report of load says nothing any more after so many seconds.
const REPORT_VALID: f32 = 1.0;

/// What a failure counts as at least, in nanoseconds: an instance that fails fast must not look fast.
const CHARGE: f32 = 1e9;

/// The latency that is charged for a failure which took `latency` nanoseconds, where the fleet's is `fleet`.
pub(crate) fn charge(latency: f32, fleet: f32) -> f32 {
    latency.max(CHARGE).max(4.0 * fleet)
}

/// Takes in a sample: `x` was in flight when the request was sent, `y` nanoseconds it took.
#[inline]
pub(crate) fn sample(stats: &EndpointStats, x: f32, y: f32, now: Moment) {
    let before = stats.learned();
    let age = stats.learned_ago(now);
    let mut weight = before.weight;
    // Most often a sample came a moment ago, and there is nothing to forget.
    if age > 0.02 {
        weight *= FADING / (FADING + age);
    }
    let weight = if weight > MEMORY { MEMORY } else { weight };
    let gain = 1.0 / (weight + 1.0);
    let (dx, dy) = (x - before.x, y - before.y);
    let learned = Learned {
        weight: weight + 1.0,
        x: before.x + gain * dx,
        y: before.y + gain * dy,
        xx: normal((1.0 - gain) * (before.xx + gain * dx * dx)),
        xy: normal((1.0 - gain) * (before.xy + gain * dx * dy)),
    };
    stats.learn(learned, now);
}

/// The greater of two numbers that are numbers: one instruction, where `f32::max` also minds those that are not.
#[inline]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// What fades becomes 0 and not one of the numbers too small to be normal, which cost a hundred times as much to
/// calculate with.
#[inline]
fn normal(value: f32) -> f32 {
    if value.abs() < 1e-12 { 0.0 } else { value }
}

/// The latency, in nanoseconds, that a request has to expect with `q` in flight before it; `fleet` is what is
/// usual in the service.
#[inline]
pub(crate) fn predict(stats: &EndpointStats, q: f32, fleet: f32, now: Moment) -> f32 {
    let Learned {
        weight,
        x,
        y,
        xx,
        xy,
        ..
    } = stats.learned();
    if weight == 0.0 {
        // Nothing is known: an average one.
        return fleet * (1.0 + 0.5 * q);
    }
    // b = (xy + ridge · b0) / (xx + ridge) with b0 = y / 2(x + 1), as one division.
    let slope = (xy * (x + 1.0) + RIDGE * 0.5 * y) / ((x + 1.0) * (xx + RIDGE));
    let predicted = greater(y + greater(slope, 0.0) * (q - x), FLOOR * y);
    let age = stats.learned_ago(now);
    match age > 0.1 {
        false => predicted,
        true => {
            let known = greater(1.0 - age / FORGOTTEN, 0.0);
            let unknown = fleet * (1.0 + 0.5 * q);
            unknown + (predicted - unknown) * known
        }
    }
}

/// Takes in a sample of the peak-sensitive average.
pub(crate) fn peak_sample(stats: &EndpointStats, y: f32, now: Moment) {
    let before = stats.learned();
    let age = stats.learned_ago(now);
    let y = match before.weight == 0.0 || y > before.y {
        true => y,
        false => {
            let kept = decay(age / PEAK_DECAY);
            before.y * kept + y * (1.0 - kept)
        }
    };
    let learned = Learned {
        weight: (before.weight + 1.0).min(MEMORY),
        y,
        ..Learned::default()
    };
    stats.learn(learned, now);
}

/// The peak-sensitive average as of now.
pub(crate) fn peak(stats: &EndpointStats, fleet: f32, now: Moment) -> f32 {
    let learned = stats.learned();
    match learned.weight == 0.0 {
        true => fleet,
        false => learned.y * decay(stats.learned_ago(now) / PEAK_DECAY),
    }
}

/// What is in flight at an endpoint: what we count, and what others have there by its own last report.
#[inline]
pub(crate) fn in_flight(stats: &EndpointStats, now: Moment) -> f32 {
    let ours = stats.in_flight() as f32;
    let others = stats.others();
    if others == 0.0 {
        return ours;
    }
    let age = stats.learned_ago(now);
    ours + others * (1.0 - age / REPORT_VALID).max(0.0)
}

/// e^-x for x >= 0, to a thousandth, from basic arithmetic: the same bits on every machine.
fn decay(x: f32) -> f32 {
    let mut power = 1.0 / (1.0 + x / 1024.0);
    for _ in 0..10 {
        power *= power;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn a_line_is_learned_and_foretold() {
        let stats = EndpointStats::default();
        for n in 0..1_000_u64 {
            let x = (n % 16) as f32;
            sample(&stats, x, 1e6 * (2.0 + 3.0 * x), at(n));
        }
        for q in [4.0_f32, 10.0, 14.0] {
            let predicted = predict(&stats, q, 1e6, at(1_000)) / 1e6;
            let truth = 2.0 + 3.0 * q;
            assert!((predicted - truth).abs() < 0.1 * truth, "{q}: {predicted}");
        }
    }

    #[test]
    fn who_was_not_heard_of_becomes_an_average_one() {
        let stats = EndpointStats::default();
        sample(&stats, 0.0, 1e9, at(0));
        let predicted = [0, 1_000, 5_000, 10_000, 60_000].map(|t| predict(&stats, 0.0, 1e6, at(t)));
        assert!(predicted.is_sorted_by(|a, b| a >= b), "{predicted:?}");
        assert!(
            predicted[0] > 0.99e9 && predicted[4] == 1e6,
            "{predicted:?}"
        );
    }

    #[test]
    fn more_in_flight_never_looks_faster() {
        let stats = EndpointStats::default();
        for n in 0..100_u64 {
            // A busy moment with fast answers, as caches have them.
            let x = (n % 8) as f32;
            sample(&stats, x, 1e6 * (9.0 - x), at(n));
        }
        let at_load = |q| predict(&stats, q, 1e6, at(100));
        assert!(at_load(8.0) >= at_load(0.0) && at_load(0.0) > 0.0);
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let stats = EndpointStats::default();
        peak_sample(&stats, 1e6, at(0));
        peak_sample(&stats, 9e6, at(1));
        assert_eq!(peak(&stats, 0.0, at(1)), 9e6);
        let later = peak(&stats, 0.0, at(10_001)) / 9e6;
        assert!((later - (-1.0_f32).exp()).abs() < 0.01, "{later}");
    }
}
