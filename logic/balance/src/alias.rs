use std::iter::repeat_n;

/// Draws i with P(i) = W(i) / ΣW in constant time (Walker 1977; Vose 1991), in whole numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alias(Vec<Slot>);

/// One n-th of all draws: below the threshold they are the slot's own, above another's.
#[derive(Clone, Copy, Debug)]
struct Slot {
    threshold: u32,
    other: u32,
}

impl Alias {
    /// From weights that are not 0.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let n = weights.len() as u64;
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        // What each has of the slots' common size, `total`.
        let mut left: Vec<u64> = weights.iter().map(|&w| u64::from(w) * n).collect();
        let mut slots: Vec<Slot> = (0..weights.len() as u32)
            .zip(repeat_n(u32::MAX, weights.len()))
            .map(|(other, threshold)| Slot { threshold, other })
            .collect();
        let all = 0..weights.len();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = all.partition(|&i| left[i] < total);
        while let (Some(&from), Some(to)) = (large.last(), small.pop()) {
            slots[to] = Slot {
                threshold: ((u128::from(left[to]) << 32) / u128::from(total)) as u32,
                other: from as u32,
            };
            left[from] -= total - left[to];
            if left[from] < total {
                large.pop();
                small.push(from);
            }
        }
        Self(slots)
    }

    /// The number that 64 random bits draw. There must be one.
    pub(crate) fn draw(&self, bits: u64) -> usize {
        // The upper half chooses the slot, what is left of the lower half decides within.
        let wide = u128::from(bits) * self.0.len() as u128;
        let index = (wide >> 64) as usize;
        let slot = self.0[index];
        // Without a branch: it would be as hard to foretell as the draw.
        let own = u32::from(((wide as u64) >> 32) as u32 <= slot.threshold);
        let index = index as u32;
        (slot.other ^ ((slot.other ^ index) & own.wrapping_neg())) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn odds_are_the_weights() {
        let weights = [1, 2, 3, 65_535, 10_000, 1, 40];
        let total: u32 = weights.iter().sum();
        let alias = Alias::new(&weights);
        let mut random = Random::new(5);
        let mut counts = [0_u32; 7];
        let draws = 2_000_000;
        for _ in 0..draws {
            counts[alias.draw(random.draw())] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let p = f64::from(weight) / f64::from(total);
            let (mean, deviation) = (p * f64::from(draws), (p * f64::from(draws)).sqrt());
            // Five standard deviations: once in a million runs, and the seed is fixed.
            let off = (f64::from(*count) - mean).abs();
            assert!(off <= 5.0 * deviation + 1.0, "{counts:?}");
        }
    }
}
