//! What goes wrong in a cluster, and when: a function of the seed.

use std::time::Duration;

use rekindle_testkit::seed::Dice;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
/// How many players there are.
pub(crate) const PLAYERS: usize = 3;
/// Nothing goes wrong before.
pub(crate) const CALM: Duration = Duration::from_millis(700);
/// Nothing goes wrong from then on.
pub(crate) const QUIET_FROM: Duration = Duration::from_millis(2_800);
/// The end.
pub(crate) const TOTAL: Duration = Duration::from_millis(5_500);

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies. What it has sent to the store is still on its way.
    Kill { node: usize, down: Duration },
    /// A process does not run for a while, and goes on.
    Pause { node: usize, lasts: Duration },
    /// Requests of a node do not reach the store.
    NoRequests { node: usize, lasts: Duration },
    /// Answers of the store do not reach a node: what it asked for is done.
    NoAnswers { node: usize, lasts: Duration },
    /// Requests of a node take up to so long, and overtake each other.
    Slow { node: usize, up_to: Duration, lasts: Duration },
    /// So many of 100 requests of all nodes, or their answers, are lost.
    Lossy { percent: u64, lasts: Duration },
    /// A node, or every other one, believes that `victim` is dead.
    Suspect { node: Option<usize>, victim: usize, lasts: Duration },
    /// A player and a node do not reach each other.
    CutOff { player: usize, node: usize, lasts: Duration },
    /// The wall clock of a node jumps.
    Skew { node: usize, ms: i64 },
}

impl Fault {
    /// How long it does harm.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Self::Kill { down, .. } => down,
            Self::Skew { .. } => Duration::ZERO,
            Self::Pause { lasts, .. }
            | Self::NoRequests { lasts, .. }
            | Self::NoAnswers { lasts, .. }
            | Self::Slow { lasts, .. }
            | Self::Lossy { lasts, .. }
            | Self::Suspect { lasts, .. }
            | Self::CutOff { lasts, .. } => lasts,
        }
    }

    /// Its name, for counts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
            Self::NoRequests { .. } => "no requests",
            Self::NoAnswers { .. } => "no answers",
            Self::Slow { .. } => "slow",
            Self::Lossy { .. } => "lossy",
            Self::Suspect { .. } => "suspect",
            Self::CutOff { .. } => "cut off",
            Self::Skew { .. } => "skew",
        }
    }

    fn draw(dice: &mut Dice) -> Self {
        let node = dice.between(0, NODES as u64 - 1) as usize;
        let lasts = Duration::from_millis(dice.between(100, 1_200));
        match dice.between(1, 100) {
            1..=24 => Self::Kill { node, down: Duration::from_millis(dice.between(20, 500)) },
            25..=42 => Self::Pause { node, lasts },
            43..=50 => Self::NoRequests { node, lasts },
            51..=58 => Self::NoAnswers { node, lasts },
            59..=70 => {
                Self::Slow { node, up_to: Duration::from_millis(dice.between(50, 600)), lasts }
            }
            71..=78 => Self::Lossy { percent: dice.between(5, 40), lasts },
            79..=90 => {
                let victim = (node + 1 + dice.between(0, NODES as u64 - 2) as usize) % NODES;
                let node = dice.chance(60).then_some(node);
                Self::Suspect { node, victim, lasts: lasts.min(Duration::from_millis(400)) }
            }
            91..=96 => {
                Self::CutOff { player: dice.between(0, PLAYERS as u64 - 1) as usize, node, lasts }
            }
            _ => Self::Skew { node, ms: dice.between(0, 7_200_000) as i64 - 3_600_000 },
        }
    }
}

/// Faults with the time at which each begins, ascending.
pub(crate) type Schedule = Vec<(Duration, Fault)>;

/// What goes wrong under `seed`: a process dies, hangs or is suspected at least once.
pub(crate) fn schedule(seed: u64) -> Schedule {
    let mut dice = Dice::new(seed, "cluster faults");
    let mut faults = Schedule::new();
    for index in 0..dice.between(3, 7) {
        let mut fault = Fault::draw(&mut dice);
        let moves = |fault| {
            matches!(fault, Fault::Kill { .. } | Fault::Pause { .. } | Fault::Suspect { .. })
        };
        while index == 0 && !moves(fault) {
            fault = Fault::draw(&mut dice);
        }
        let latest = QUIET_FROM.saturating_sub(fault.lasts()).max(CALM);
        let at = dice.between(CALM.as_millis() as u64, latest.as_millis() as u64);
        faults.push((Duration::from_millis(at), fault));
    }
    faults.extend(together(&mut dice));
    faults.sort_by_key(|&(at, _)| at);
    faults
}

/// What seldom comes together by chance: all processes die within a moment, or all suspect a node
/// whose writes are late.
fn together(dice: &mut Dice) -> Schedule {
    let millis = Duration::from_millis;
    let at = millis(dice.between(800, 1_600));
    match dice.between(1, 10) {
        1 => (0..NODES)
            .map(|node| {
                let after = millis(dice.between(0, 40));
                (at + after, Fault::Kill { node, down: millis(dice.between(100, 300)) })
            })
            .collect(),
        2..=5 => {
            let victim = dice.between(0, NODES as u64 - 1) as usize;
            let lasts = millis(500);
            let slow = Fault::Slow { node: victim, up_to: millis(120), lasts };
            let suspect = Fault::Suspect { node: None, victim, lasts: millis(300) };
            vec![(at, slow), (at + millis(100), suspect)]
        }
        _ => Schedule::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_faults_and_they_keep_to_their_time() {
        for seed in 1..=200 {
            let faults = schedule(seed);
            assert_eq!(faults, schedule(seed));
            assert!(faults.is_sorted_by_key(|&(at, _)| at));
            let inside =
                |&(at, fault): &(Duration, Fault)| at >= CALM && at + fault.lasts() <= QUIET_FROM;
            assert!(faults.iter().all(inside), "seed {seed}: {faults:?}");
        }
    }

    #[test]
    fn a_hundred_seeds_bring_every_kind_of_fault() {
        let kinds: std::collections::BTreeSet<&str> =
            (1..=100).flat_map(schedule).map(|(_, fault)| fault.name()).collect();
        assert_eq!(kinds.len(), 9, "{kinds:?}");
    }
}
