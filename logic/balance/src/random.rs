/// A small generator (splitmix64; Steele, Lea, Flood 2014). The seed is an argument, so that every run
/// can be replayed; workers have different seeds, so that they do not choose in step.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that will always draw the same from the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. Lemire's multiplication (2019) without its rejection
    /// step: the bias is below `bound` / 2^64.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.draw() as u128 * bound as u128) >> 64) as u64
    }
}
