//! Random numbers that are a function of the match's seed, the tick and the system: nothing to
//! store, nothing to share.

use rekindle_schema::Tick;
use rekindle_schema::mix::{STEP, mix};

/// A stream of random numbers. As a system parameter: a fresh stream for each system and tick.
///
/// Counter based: number `n` is a mix of the stream's key and `n` (the finaliser of `SplitMix64`).
/// Good for games, useless for secrets.
///
/// ```
/// use rekindle_sim::{Rng, Tick};
///
/// let draw = |tick| Rng::stream(7, Tick(tick), 1).below(6);
/// assert_eq!(draw(3), draw(3)); // the same seed, tick and purpose: the same numbers
/// let mut rng = Rng::stream(7, Tick(3), 1);
/// assert!((0..100).all(|_| rng.below(6) < 6 && rng.range(-1.0, 1.0).abs() <= 1.0));
/// // What the fork draws does not move the stream.
/// let mut copy = rng.clone();
/// rng.fork(42).next_u64();
/// assert_eq!(rng.next_u64(), copy.next_u64());
/// ```
#[derive(Debug, Clone)]
pub struct Rng {
    /// Which stream: mixed from seed, tick and purpose.
    key: u64,
    /// How many numbers were drawn.
    counter: u64,
}

impl Rng {
    /// The stream of a seed, a tick and a purpose.
    pub fn stream(seed: u64, tick: Tick, purpose: u64) -> Self {
        let key = mix(mix(mix(seed.wrapping_add(STEP)) ^ tick.0.wrapping_mul(STEP)) ^ purpose);
        Self { key, counter: 0 }
    }

    /// A stream of its own, for an entity or a player: what others draw does not move it.
    #[must_use]
    pub fn fork(&self, purpose: u64) -> Self {
        Self { key: mix(self.key ^ mix(purpose.wrapping_add(STEP))), counter: 0 }
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(STEP)))
    }

    /// 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `0..bound`; 0 if `bound` is 0. The bias is below `bound / 2^32`.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// A float in `0.0..1.0`, a multiple of 2^-24.
    #[inline]
    pub fn unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// A float between `low` and `high`.
    #[inline]
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True once in `n` times.
    #[inline]
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// An element, if there is one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u32) as usize)
    }
}
