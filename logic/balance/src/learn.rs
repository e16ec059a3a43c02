//! What `least_time` and `peak_ewma` learn of an endpoint, and what they foretell from it.
//!
//! `least_time` keeps, online and for each endpoint, decayed means of the latency and of what was in flight when the
//! request was sent. Their ratio is the endpoint's pace: what a request takes that has it to itself. So it learns how
//! fast an instance is, apart from how busy it was, corrects itself with every answer, and needs no help of the
//! instance's.
//!
//! A regression of latency against in-flight would seem to say more. In simulation (`docs/balancing.md`) it does not:
//! its slope is mostly noise, and whenever that is too small, the endpoint is flooded before its answers tell.

use model::{EndpointStats, Learned, Moment};

/// Samples that count at the most. Fewer follow changes faster, more are steadier.
const MEMORY: f32 = 64.0;

/// After so many seconds without a sample, half of the former ones' weight is gone.
const FADING: f32 = 1.0;

/// After so many seconds without a sample an endpoint is taken for an average one: a bad one must be tried again, or
/// nobody finds out that it is well.
const FORGOTTEN: f32 = 10.0;

/// Samples that say what is usual count as this many, beside an endpoint's own. Who had few, short ones would look
/// fast: short requests answer first.
const PSEUDO: f32 = 2.0;

/// However fast an endpoint looks, it is not faster than this part of what is usual. Whoever is mistaken for a wonder
/// gets so many more requests than others, and no more, before its answers tell. In simulation, without either of the
/// two one endpoint or another is flooded until requests time out.
const FLOOR: f32 = 0.125;

/// What a request in flight counts as: more than itself, for the new one slows it down as well. At 1 everybody would do
/// what is best for itself, and instances that are slow but idle would be used too late; at 2 the tail grows.
const CROWDING: f32 = 1.5;

/// Nanoseconds that the workers' clock, which is read once for each batch of events, cannot tell apart. What takes less
/// counts as that, and in-flight decides.
pub(crate) const INDISTINCT: f32 = 50_000.0;

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

/// Takes in a sample: `x` was in flight when the request was sent, `y` nanoseconds it took. `fleet` is the pace that
/// is usual in the service, 0 if nothing is known of it.
#[inline]
pub(crate) fn sample(stats: &EndpointStats, x: f32, y: f32, fleet: f32, now: Moment) {
    let before = stats.learned();
    let age = stats.learned_ago(now);
    let mut weight = before.weight;
    // Most often a sample came a moment ago, and there is nothing to forget.
    if age > 0.02 {
        // Who was forgotten begins anew: what its failures were charged must not outlive its recovery.
        weight *= greater(1.0 - age / FORGOTTEN, 0.0) * FADING / (FADING + age);
    }
    let weight = if weight > MEMORY { MEMORY } else { weight };
    let gain = 1.0 / (weight + 1.0);
    let mean_x = before.x + gain * (x - before.x);
    let mean_y = before.y + gain * (y - before.y);
    let (own, usual) = match fleet == 0.0 {
        true => (1.0, 0.0),
        false => (weight + 1.0, PSEUDO),
    };
    // (own · y / (x + 1) + usual · fleet) / (own + usual), as one division.
    let alone = mean_x + 1.0;
    let learned = Learned {
        weight: weight + 1.0,
        x: mean_x,
        y: mean_y,
        pace: (own * mean_y + usual * fleet * alone) / ((own + usual) * alone),
    };
    stats.learn(learned, now);
}

/// What speaks against sending another request where `q` are in flight, in nanoseconds: about the latency that it
/// has to expect. `fleet` is the pace that is usual in the service.
#[inline]
pub(crate) fn predict(stats: &EndpointStats, q: f32, fleet: f32, now: Moment) -> f32 {
    let pace = stats.pace();
    let age = stats.learned_ago(now);
    let pace = match age > 0.1 || pace == 0.0 {
        false => pace,
        true => faded(pace, age, fleet),
    };
    greater(pace, greater(FLOOR * fleet, INDISTINCT)) * (1.0 + CROWDING * q)
}

/// The greater of two numbers that are numbers: one instruction, where `f32::max` also minds those that are not.
#[inline]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The pace of an endpoint that was not heard of lately.
fn faded(pace: f32, age: f32, fleet: f32) -> f32 {
    let known = match pace == 0.0 {
        true => 0.0,
        false => (1.0 - age / FORGOTTEN).max(0.0),
    };
    fleet + (pace - fleet) * known
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
        x: 0.0,
        y,
        pace: y,
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
    fn the_pace_is_the_same_however_busy_the_endpoint_was() {
        for busy in [1, 4, 16] {
            let stats = EndpointStats::default();
            for n in 0..1_000_u64 {
                let x = (n % busy) as f32;
                sample(&stats, x, 3e6 * (1.0 + x), 0.0, at(n));
            }
            let pace = stats.pace() / 3e6;
            assert!((pace - 1.0).abs() < 0.01, "{busy}: {pace}");
        }
    }

    #[test]
    fn who_was_not_heard_of_becomes_an_average_one() {
        let stats = EndpointStats::default();
        sample(&stats, 0.0, 1e9, 0.0, at(0));
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
            sample(&stats, x, 1e6 * (9.0 - x), 0.0, at(n));
        }
        let at_load = |q| predict(&stats, q, 1e6, at(100));
        assert!(at_load(8.0) >= at_load(0.0) && at_load(0.0) > 0.0);
    }

    #[test]
    fn a_few_short_requests_make_no_endpoint_a_wonder() {
        let stats = EndpointStats::default();
        sample(&stats, 20.0, 1e3, 1e6, at(0));
        let predicted = predict(&stats, 0.0, 1e6, at(0));
        assert!(predicted > 0.5e6, "{predicted}");
        for n in 1..1_000 {
            sample(&stats, 20.0, 1e3, 1e6, at(n));
        }
        assert_eq!(predict(&stats, 0.0, 1e6, at(1_000)), FLOOR * 1e6);
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
