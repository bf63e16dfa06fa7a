//! `SplitMix64`: numbers that look random, from a seed.
//!
//! Good for spreading things, for games and for simulated faults; useless for secrets. Replays
//! depend on the output, so it never changes. Called wherever chance has to come from a seed.
//!
//! ```
//! use rekindle_schema::mix::SplitMix64;
//!
//! let mut random = SplitMix64::new(0);
//! assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
//! assert_eq!(random.next_u64(), 0x6e78_9e6a_a1b9_65f4);
//! ```

/// What the state of [`SplitMix64`] grows by: 2^64 divided by the golden ratio, made odd.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of `SplitMix64`: each bit of `z` changes about half of the bits of the result.
/// Different arguments give different results; 0 gives 0.
#[inline]
#[must_use]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A series of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitMix64 {
    /// Grows by [`STEP`] with each number, modulo 2^64.
    state: u64,
}

impl SplitMix64 {
    /// The series of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_reference() {
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(
            [(); 3].map(|()| random.next_u64()),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        assert_eq!(mix(0), 0);
    }
}
