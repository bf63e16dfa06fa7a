//! When a demo kills: a function of the number of kills and a seed.

use std::time::Duration;

/// What a kill is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// The fight, so long after everybody is back in it.
    Fight(Duration),
    /// A recovery, so long after it has begun.
    Recovery(Duration),
    /// The writing of a checkpoint, so long after it has begun.
    Checkpoint(Duration),
}

impl Aim {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fight(_) => "in mid-fight",
            Self::Recovery(_) => "during recovery",
            Self::Checkpoint(_) => "while a checkpoint is written",
        }
    }
}

/// `kills` kills, of which the second of every three hits recovery or the writing of a checkpoint,
/// in turn.
pub fn kills(kills: u32, seed: u64) -> Vec<Aim> {
    // Many kills share a minute; a few leave time to watch.
    let fight_ms = (24_000 / u64::from(kills.max(1))).clamp(600, 4_000);
    let mut random = SplitMix(seed);
    let mut aimed = 0;
    (0..kills)
        .map(|index| {
            if index % 3 != 1 {
                return Aim::Fight(Duration::from_millis(fight_ms / 2 + random.below(fight_ms)));
            }
            aimed += 1;
            let delay = Duration::from_micros(random.below(8_000));
            if aimed % 2 == 1 { Aim::Recovery(delay) } else { Aim::Checkpoint(delay) }
        })
        .collect()
}

/// `SplitMix64`: enough to spread kills over time.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_kills_hit_recovery_or_checkpoints() {
        for count in [3, 5, 30, 200] {
            let plan = kills(count, 7);
            let aimed = plan.iter().filter(|aim| !matches!(aim, Aim::Fight(_))).count();
            assert!(
                plan.len() == count as usize && 3 * aimed + 2 >= plan.len(),
                "{count}: {aimed}"
            );
        }
        assert!(kills(30, 7).iter().any(|aim| matches!(aim, Aim::Checkpoint(_))));
        assert!(matches!(kills(1, 1)[..], [Aim::Fight(_)]));
    }

    #[test]
    fn a_seed_decides() {
        assert_eq!(kills(9, 4), kills(9, 4));
        assert_ne!(kills(9, 4), kills(9, 5));
    }
}
