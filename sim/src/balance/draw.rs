//! Random numbers with a distribution, from basic arithmetic only: the logarithms of different machines' libraries
//! differ in their last bits, and a run must not.

use balance::Random;

/// One stream of random numbers. Streams of one seed are independent of each other, so that a policy that draws
/// more does not change what arrives.
#[derive(Clone, Debug)]
pub struct Draw(Random);

/// Distance of the streams of a seed in the generator's cycle.
const STREAM: u64 = 0xd1b5_4a32_d192_ed03;

impl Draw {
    /// The stream with number `stream` of a seed.
    pub const fn new(seed: u64, stream: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(STREAM).wrapping_add(stream));
        // What streams start from is close together; what they draw is not.
        Self(Random::new(random.draw() ^ stream.wrapping_mul(STREAM)))
    }

    /// 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `bound`, which is not 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    /// From 0 to 1, neither of them ever.
    pub fn uniform(&mut self) -> f64 {
        ((self.0.draw() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -ln(self.uniform())
    }

    /// Normal with mean 0 and deviation 1 (Marsaglia's polar method, 1964).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s < 1.0 && s > 0.0 {
                return u * (-2.0 * ln(s) / s).sqrt();
            }
        }
    }

    /// Pareto with mean 1 and this exponent, which is above 1.
    pub fn pareto(&mut self, alpha: f64) -> f64 {
        (alpha - 1.0) / alpha * exp(-ln(self.uniform()) / alpha)
    }
}

/// The natural logarithm of a positive number, to about 1e-13.
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)).
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..9)
        .rev()
        .fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * series
}

/// e^x, to about 1e-13, for what does not overflow.
pub fn exp(x: f64) -> f64 {
    let k = (x / std::f64::consts::LN_2 + 0.5)
        .floor()
        .clamp(-1022.0, 1023.0);
    let r = x - k * std::f64::consts::LN_2;
    let series = (1..16)
        .rev()
        .fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    series * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_are_those() {
        for x in [1e-12, 0.3, 0.999, 1.0, 1.5, 7.0, 1e9] {
            assert!((ln(x) - x.ln()).abs() < 1e-11, "{x}");
            assert!((exp(ln(x)) / x - 1.0).abs() < 1e-10, "{x}");
        }
        assert!(exp(-2_000.0) < 1e-300);
    }

    #[test]
    fn distributions_have_their_moments() {
        let n = 400_000;
        let mut draw = Draw::new(1, 2);
        let mut mean = |f: &mut dyn FnMut(&mut Draw) -> f64| {
            (0..n).map(|_| f(&mut draw)).sum::<f64>() / f64::from(n)
        };
        assert!((mean(&mut Draw::exponential) - 1.0).abs() < 0.01);
        assert!(mean(&mut Draw::normal).abs() < 0.01);
        assert!((mean(&mut |d| d.normal().powi(2)) - 1.0).abs() < 0.01);
        assert!((mean(&mut |d| d.pareto(3.0)) - 1.0).abs() < 0.01);
    }
}
