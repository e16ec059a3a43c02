//! What is measured in a run, and what runs of several seeds say together.

use super::draw::ln;

/// What happened to the requests of one window.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Latencies of those that were answered or given up, in milliseconds.
    pub latencies: Vec<f32>,
    /// Given up at their deadline.
    pub missed: u64,
    /// Answered with an error, refused, or without anybody to go to.
    pub failed: u64,
    /// By server.
    pub requests: Vec<u32>,
    /// Work done by each server in the window, as a part of its allocation.
    pub utilisation: Vec<f64>,
}

/// One window of one run in numbers.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests.
    pub count: u64,
    /// Mean latency, in milliseconds.
    pub mean: f64,
    /// Quantiles, in milliseconds.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub p999: f64,
    /// The part of requests that missed their deadline.
    pub missed: f64,
    /// The part of requests that failed.
    pub failed: f64,
    /// The busiest server's utilisation, as a multiple of the mean.
    pub imbalance: f64,
    /// The part of the requests that each server got.
    pub shares: Vec<f64>,
}

impl Tally {
    /// In numbers.
    pub fn figures(mut self) -> Figures {
        let answered = self.latencies.len();
        let count = answered as u64 + self.failed;
        let of = |part: u64| part as f64 / count.max(1) as f64;
        let mean =
            self.latencies.iter().map(|&l| f64::from(l)).sum::<f64>() / answered.max(1) as f64;
        let mut quantile = |q: f64| {
            let place = ((answered as f64 * q) as usize).min(answered.saturating_sub(1));
            match answered {
                0 => 0.0,
                _ => f64::from(
                    *self
                        .latencies
                        .select_nth_unstable_by(place, f32::total_cmp)
                        .1,
                ),
            }
        };
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(&mut quantile);
        let used = &self.utilisation;
        let usual = used.iter().sum::<f64>() / used.len().max(1) as f64;
        let most = used.iter().copied().fold(0.0, f64::max);
        let total: u32 = self.requests.iter().sum();
        let share = |&n: &u32| f64::from(n) / f64::from(total.max(1));
        Figures {
            count,
            mean,
            p50,
            p99,
            p999,
            missed: of(self.missed),
            failed: of(self.failed),
            imbalance: if usual > 0.0 { most / usual } else { 1.0 },
            shares: self.requests.iter().map(share).collect(),
        }
    }
}

/// A mean over seeds, and how far from it the true one is with 95 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half of the interval's width; infinite for a single seed.
    pub within: f64,
}

/// Student's t at 0.975 for 1, 2, … degrees of freedom.
const STUDENT: [f64; 20] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
];

impl Estimate {
    /// Of one value a seed.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let square: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let within = match values.len() {
            0 | 1 => f64::INFINITY,
            count => {
                let t = STUDENT.get(count - 2).copied().unwrap_or(1.96);
                t * (square / (n - 1.0) / n).sqrt()
            }
        };
        Self { mean, within }
    }

    /// Of the ratios of two rules' values, seed by seed: what both had in common cancels out. By logarithms, so that
    /// the two are treated alike.
    pub fn ratio(ours: &[f64], theirs: &[f64]) -> Self {
        let logs = ours
            .iter()
            .zip(theirs)
            .map(|(a, b)| ln(a.max(1e-9)) - ln(b.max(1e-9)));
        let logs = Self::of(&logs.collect::<Vec<_>>());
        let mean = super::draw::exp(logs.mean);
        Self {
            mean,
            within: mean * logs.within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_shares_are_of_all_that_were_seen() {
        let tally = Tally {
            latencies: (0..1_000).map(|n| n as f32).collect(),
            missed: 10,
            failed: 1_000,
            requests: vec![1, 3],
            utilisation: vec![0.5, 1.0],
        };
        let figures = tally.figures();
        assert_eq!(
            (figures.p50, figures.p99, figures.p999),
            (500.0, 990.0, 999.0)
        );
        assert_eq!((figures.missed, figures.failed), (0.005, 0.5));
        assert_eq!(figures.shares, [0.25, 0.75]);
        assert!((figures.imbalance - 1.0 / 0.75).abs() < 1e-9);
    }

    #[test]
    fn an_interval_is_students() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0]);
        assert!(
            (estimate.within - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9,
            "{estimate:?}"
        );
        assert!((Estimate::ratio(&[1.0, 10.0], &[2.0, 20.0]).mean - 0.5).abs() < 1e-9);
    }
}
