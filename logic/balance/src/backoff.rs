//! How long an attempt waits for those before it to have been an accident.

use std::time::Duration;

use model::Retrying;

/// How long the `nth` attempt that waits at all waits, counted from 0: any time up to one that doubles ("full jitter"; Brooker,
/// "Exponential Backoff and Jitter"). Requests that failed together are then not tried together. `draw` is random.
pub fn backoff(retrying: &Retrying, nth: u8, draw: u64) -> Duration {
    let longest = retrying.backoff.saturating_mul(1 << nth.min(16));
    let longest = longest.min(retrying.max_backoff).as_nanos() as u64;
    Duration::from_nanos(((u128::from(draw) * u128::from(longest)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn it_is_spread_up_to_a_time_that_doubles_and_ends() {
        let retrying = Retrying::default();
        let mut random = Random::new(3);
        for (nth, longest) in [
            (0, 25.0),
            (1, 50.0),
            (2, 100.0),
            (3, 200.0),
            (4, 250.0),
            (200, 250.0),
        ] {
            let mut draw = || backoff(&retrying, nth, random.draw()).as_secs_f64() * 1e3;
            let waits: Vec<f64> = (0..10_000).map(|_| draw()).collect();
            assert!(waits.iter().all(|wait| *wait <= longest));
            let mean = waits.iter().sum::<f64>() / 10_000.0;
            assert!(
                (mean / longest - 0.5).abs() < 0.02,
                "{nth}: {mean} of {longest}"
            );
        }
    }

    #[test]
    fn without_a_time_nobody_waits() {
        let retrying = Retrying {
            backoff: Duration::ZERO,
            ..Retrying::default()
        };
        assert_eq!(backoff(&retrying, 7, u64::MAX), Duration::ZERO);
    }
}
