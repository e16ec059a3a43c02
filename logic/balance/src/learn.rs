//! What `least_time` and `peak_ewma` learn of an endpoint, and what they foretell from it.
//!
//! `least_time` keeps, online and for each endpoint, decayed means of the latency and of what was in flight when the
//! request was sent. Their ratio is the endpoint's pace: what a request takes that has it to itself. So it learns how
//! fast an instance is, apart from how busy it was, corrects itself with every answer, and needs no help of the
//! instance's.
//!
//! A regression of latency against in-flight would seem to say more. In simulation (`docs/balancing.md`) it does not:
//! its slope is mostly noise, and whenever that is too small, the endpoint is flooded before its answers tell.

use std::time::Duration;

use model::{EndpointStats, Learned, Moment};

/// Samples that count at the most. Fewer follow changes faster, more are steadier.
const MEMORY: f32 = 64.0;

/// An endpoint without a sample is taken for an average one after the time in which it would have had so many with its
/// share of the requests: a bad one must be tried again, or nobody finds out that it is well, and a start that was slow
/// would cost it its share for long. In simulation, 64 make the tail longer.
const FAIR_SHARES: f32 = 256.0;

/// Bounds of that time, in seconds: answers take their time to come, however many requests there are; and
/// nothing is true for long.
const FORGOTTEN_AFTER: (f32, f32) = (0.05, 10.0);

/// After this part of that time, half of the former samples' weight is gone.
const FADING: f32 = 0.3;

/// What is not older than this part of that time is as good as new.
const FRESH: f32 = 1.0 / 64.0;

/// Picks after which a mean of the time between them is known.
const PACED: f32 = 64.0;

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

/// Nanoseconds. What takes less counts as that, and in-flight decides: differences below are less the instances' than
/// the network's, the scheduler's and those of the workers' clock, which is read once for each batch of events. Three
/// equal servers on one busy machine were seen to get shares from nothing to a half by them.
pub(crate) const INDISTINCT: f32 = 1e6;

/// Finagle's and Envoy's time constant of the peak-sensitive average, in seconds.
const PEAK_DECAY: f32 = 10.0;

/// What reports say of others counts as this part of itself. They are old when they are used, and whoever looks idle
/// by them looks so to everybody. In simulation (`docs/balancing.md`), with all of it the tail of 50 balancers is longer
/// than without reports; with this part no tail is, and most are shorter.
const HEARSAY: f32 = 0.3;

/// What a new report counts as in the mean of them. The last one alone is worse than none.
const NEWS: f32 = 0.2;

/// Reports say nothing any more when nothing was heard of the endpoint for so many seconds.
const REPORT_VALID: f32 = 10.0;

/// What a failure counts as at least, in nanoseconds: an instance that fails fast must not look fast.
const CHARGE: f32 = 1e9;

/// What is usual in a service, which its endpoints are held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    /// The pace of an ordinary endpoint, in nanoseconds; 0 as long as nothing is known.
    pub(crate) pace: f32,
    /// After so many seconds without a sample nothing is known of an endpoint.
    pub(crate) forgotten: f32,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            pace: 0.0,
            forgotten: FORGOTTEN_AFTER.1,
        }
    }
}

impl Usual {
    /// Takes in that one of `n` endpoints is chosen, `age` seconds after the last one.
    #[inline]
    pub(crate) fn chosen(&mut self, n: usize, age: f32) {
        let (least, most) = FORGOTTEN_AFTER;
        let time = FAIR_SHARES * n as f32 * age;
        // A pause says as much as the longest time that counts.
        let time = if time > most { most } else { time };
        let mean = self.forgotten + (time - self.forgotten) * (1.0 / PACED);
        self.forgotten = greater(mean, least);
    }

    /// The latency that is charged for a failure which took `latency` nanoseconds.
    pub(crate) fn charge(self, latency: f32) -> f32 {
        latency.max(CHARGE).max(4.0 * self.pace)
    }
}

/// A latency as a plain number of nanoseconds.
#[inline]
pub(crate) fn nanos(latency: Duration) -> f32 {
    latency.as_secs() as f32 * 1e9 + latency.subsec_nanos() as f32
}

/// Takes in a sample: `x` was in flight when the request was sent, `y` nanoseconds it took.
#[inline]
pub(crate) fn sample(stats: &EndpointStats, x: f32, y: f32, usual: Usual, now: Moment) {
    let before = stats.learned();
    let age = stats.learned_ago(now);
    let mut weight = before.weight;
    // Most often a sample came a moment ago, and there is next to nothing to forget.
    if age > FRESH * usual.forgotten {
        let age = age / usual.forgotten;
        // Who was forgotten begins anew: what its failures were charged must not outlive its recovery.
        let kept = FADING * FADING / (FADING * FADING + age * age);
        weight *= greater(1.0 - age, 0.0) * kept;
    }
    let weight = if weight > MEMORY { MEMORY } else { weight };
    let own = weight + 1.0;
    // What all samples come to; of the means, only y and x themselves need them divided.
    let (all_y, all_x) = (weight * before.y + y, weight * before.x + x);
    let gain = 1.0 / own;
    let pseudo = if usual.pace == 0.0 { 0.0 } else { PSEUDO };
    // (own · y / (x + 1) + pseudo · usual) / (own + pseudo), as one division that waits for no other.
    let alone = all_x + own;
    let learned = Learned {
        weight: own,
        x: all_x * gain,
        y: all_y * gain,
        pace: (own * all_y + pseudo * usual.pace * alone) / ((own + pseudo) * alone),
    };
    stats.learn(learned, now);
}

/// What endpoints are foretold by, computed once for all that a pick looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    usual: f32,
    /// Nobody's pace counts as less.
    least: f32,
    /// The part of what is known that is forgotten in a second.
    forgetting: f32,
}

impl Outlook {
    #[inline]
    pub(crate) fn new(usual: Usual) -> Self {
        Self {
            usual: usual.pace,
            least: greater(FLOOR * usual.pace, INDISTINCT),
            forgetting: 1.0 / usual.forgotten,
        }
    }

    /// What speaks against sending another request where `q` are in flight, in nanoseconds: about the latency that it
    /// has to expect. And how much more that will be when it was sent.
    ///
    /// Without branches: who was heard of lately is as hard to foretell as the draw.
    #[inline]
    pub(crate) fn predict(self, stats: &EndpointStats, q: f32, now: Moment) -> (f32, f32) {
        let pace = stats.pace();
        // Who was not heard of lately counts as an average one, more and more.
        let known = greater(1.0 - stats.learned_ago(now) * self.forgetting, 0.0);
        let known = if pace == 0.0 { 0.0 } else { known };
        let pace = greater(self.usual + (pace - self.usual) * known, self.least);
        let step = pace * CROWDING;
        (pace + step * q, step)
    }
}

/// The greater of two numbers that are numbers: one instruction, where `f32::max` also minds those that are not.
#[inline]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
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

/// Takes in that the endpoint says it has so much in flight, from everybody.
pub(crate) fn reported(stats: &EndpointStats, in_flight: f32) {
    let others = (in_flight - stats.in_flight() as f32).max(0.0);
    let before = stats.others();
    stats.report_others(match before == 0.0 {
        true => others,
        false => before + NEWS * (others - before),
    });
}

/// What is in flight at an endpoint: what we count, and of what others have there by its reports, a part.
#[inline]
pub(crate) fn in_flight(stats: &EndpointStats, now: Moment) -> f32 {
    let ours = stats.in_flight() as f32;
    let others = stats.others();
    if others == 0.0 {
        return ours;
    }
    let age = stats.learned_ago(now);
    ours + HEARSAY * others * (1.0 - age / REPORT_VALID).max(0.0)
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

    /// What speaks against another request there.
    fn predict(stats: &EndpointStats, q: f32, usual: Usual, now: Moment) -> f32 {
        Outlook::new(usual).predict(stats, q, now).0
    }

    /// Of a service whose endpoints have this pace, and forget in ten seconds.
    fn usual(pace: f32) -> Usual {
        Usual {
            pace,
            ..Usual::default()
        }
    }

    #[test]
    fn the_pace_is_the_same_however_busy_the_endpoint_was() {
        for busy in [1, 4, 16] {
            let stats = EndpointStats::default();
            for n in 0..1_000_u64 {
                let x = (n % busy) as f32;
                sample(&stats, x, 3e6 * (1.0 + x), usual(0.0), at(n));
            }
            let pace = stats.pace() / 3e6;
            assert!((pace - 1.0).abs() < 0.01, "{busy}: {pace}");
        }
    }

    #[test]
    fn who_was_not_heard_of_becomes_an_average_one() {
        let stats = EndpointStats::default();
        sample(&stats, 0.0, 1e9, usual(0.0), at(0));
        let predicted =
            [0, 1_000, 5_000, 10_000, 60_000].map(|t| predict(&stats, 0.0, usual(2e6), at(t)));
        assert!(predicted.is_sorted_by(|a, b| a >= b), "{predicted:?}");
        assert!(
            predicted[0] > 0.99e9 && predicted[4] == 2e6,
            "{predicted:?}"
        );
    }

    #[test]
    fn the_more_requests_there_are_the_sooner_an_endpoint_is_tried_again() {
        let mut usual = usual(2e6);
        for _ in 0..1_000 {
            usual.chosen(4, 1e-4);
        }
        let after = FAIR_SHARES * 4.0 * 1e-4;
        assert!((usual.forgotten / after - 1.0).abs() < 0.01, "{usual:?}");
        let stats = EndpointStats::default();
        sample(&stats, 0.0, 1e9, usual, at(0));
        assert!(predict(&stats, 0.0, usual, at(1)) > 0.3e9);
        assert_eq!(predict(&stats, 0.0, usual, at(103)), 2e6);
        // A night without requests makes nobody remember for longer than ten seconds.
        usual.chosen(4, 40_000.0);
        assert!(usual.forgotten < 0.3, "{usual:?}");
    }

    #[test]
    fn what_takes_less_than_a_millisecond_takes_that() {
        let [fast, slow] = [2e5, 9e5].map(|nanos| {
            let stats = EndpointStats::default();
            sample(&stats, 0.0, nanos, usual(3e5), at(0));
            predict(&stats, 1.0, usual(3e5), at(0))
        });
        assert_eq!(fast, slow);
    }

    #[test]
    fn more_in_flight_never_looks_faster() {
        let stats = EndpointStats::default();
        for n in 0..100_u64 {
            // A busy moment with fast answers, as caches have them.
            let x = (n % 8) as f32;
            sample(&stats, x, 1e6 * (9.0 - x), usual(0.0), at(n));
        }
        let at_load = |q| predict(&stats, q, usual(1e6), at(100));
        assert!(at_load(8.0) >= at_load(0.0) && at_load(0.0) > 0.0);
    }

    #[test]
    fn a_few_short_requests_make_no_endpoint_a_wonder() {
        let stats = EndpointStats::default();
        let usual = usual(1e9);
        sample(&stats, 20.0, 1e6, usual, at(0));
        let predicted = predict(&stats, 0.0, usual, at(0));
        assert!(predicted > 0.5e9, "{predicted}");
        for n in 1..1_000 {
            sample(&stats, 20.0, 1e6, usual, at(n));
        }
        assert_eq!(predict(&stats, 0.0, usual, at(1_000)), FLOOR * 1e9);
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
