//! What goes wrong in a simulation, and when: a function of the seed.
//!
//! The schedule is plain data. The simulation reads it and does the harm; the oracles ask it only when the last harm was over.

use std::time::Duration;

use crate::seed::Dice;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The node's process dies. What it had written stays in the page cache.
    Kill {
        /// Until it is started again.
        down: Duration,
        /// It dies again this long after that start, most likely in the middle of its recovery.
        again: Option<Duration>,
    },
    /// The machine loses power: the process dies, and what was written but not synced may be gone.
    PowerCut {
        /// Until it is started again.
        down: Duration,
        /// How many of 100 unsynced batches reach the disk all the same.
        survive: u64,
    },
    /// Everything that the disk makes durable takes longer.
    SlowDisk {
        /// How much longer.
        sync: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// The next write of a batch fails: the process must end by itself and come back.
    FailedWrite,
    /// The disk is full: no batch and no checkpoint can be written, also not by a process that starts anew.
    FullDisk {
        /// For how long.
        lasts: Duration,
    },
    /// The store sometimes does not answer: a request has taken effect or not, nobody knows.
    Unanswered {
        /// How many of 100 requests.
        percent: u64,
        /// For how long.
        lasts: Duration,
    },
    /// A client's link loses packets.
    Loss {
        /// Which client.
        client: usize,
        /// How many of 100.
        percent: u64,
        /// For how long.
        lasts: Duration,
    },
    /// A client's link carries nothing.
    Partition {
        /// Which client.
        client: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A client's link delays packets by anything up to `up_to`, so that they overtake each other.
    Delay {
        /// Which client.
        client: usize,
        /// At most this much.
        up_to: Duration,
        /// For how long.
        lasts: Duration,
    },
}

impl Fault {
    /// How long it does harm after it began.
    pub fn lasts(self) -> Duration {
        match self {
            Self::Kill { down, again } => down + again.map_or(Duration::ZERO, |again| again + down),
            Self::PowerCut { down, .. } => down,
            Self::FailedWrite => Duration::ZERO,
            Self::SlowDisk { lasts, .. }
            | Self::FullDisk { lasts }
            | Self::Unanswered { lasts, .. }
            | Self::Loss { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Delay { lasts, .. } => lasts,
        }
    }

    fn draw(dice: &mut Dice, clients: usize) -> Self {
        let millis = |dice: &mut Dice, low, high| Duration::from_millis(dice.between(low, high));
        let client = dice.between(0, clients as u64 - 1) as usize;
        let lasts = millis(dice, 200, 900);
        match dice.between(1, 100) {
            1..=20 => Self::kill(dice),
            21..=40 => Self::PowerCut { down: millis(dice, 50, 400), survive: dice.between(0, 3) * 33 },
            41..=55 => Self::SlowDisk { sync: millis(dice, 20, 400), lasts },
            56..=62 => Self::FailedWrite,
            63..=67 => Self::FullDisk { lasts },
            68..=77 => Self::Unanswered { percent: dice.between(10, 50), lasts },
            78..=88 => Self::Loss { client, percent: dice.between(5, 30), lasts },
            89..=95 => Self::Partition { client, lasts },
            _ => Self::Delay { client, up_to: millis(dice, 50, 250), lasts },
        }
    }

    fn kill(dice: &mut Dice) -> Self {
        let down = Duration::from_millis(dice.between(20, 300));
        let again = dice.chance(34).then(|| Duration::from_millis(dice.between(1, 60)));
        Self::Kill { down, again }
    }
}

/// How long a simulation runs and how much goes wrong in it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many clients there are to bother.
    pub clients: usize,
    /// Everything works until then: clients join.
    pub calm: Duration,
    /// Nothing goes wrong from then on.
    pub quiet_from: Duration,
    /// The end.
    pub total: Duration,
}

/// Faults with the time at which each begins, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(pub Vec<(Duration, Fault)>);

impl Schedule {
    /// What goes wrong under `seed`: three to seven faults, at least one of which ends the process. They may overlap.
    pub fn new(seed: u64, shape: &Shape) -> Self {
        let mut dice = Dice::new(seed, "faults");
        let count = dice.between(3, 7);
        let mut faults = vec![];
        for index in 0..count {
            let mut fault = Fault::draw(&mut dice, shape.clients);
            if index == 0 && !matches!(fault, Fault::Kill { .. } | Fault::PowerCut { .. }) {
                fault = Fault::kill(&mut dice);
            }
            let latest = shape.quiet_from.saturating_sub(fault.lasts()).max(shape.calm);
            let at = Duration::from_millis(dice.between(shape.calm.as_millis() as u64, latest.as_millis() as u64));
            faults.push((at, fault));
        }
        faults.sort_by_key(|&(at, _)| at);
        Self(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape =
        Shape { clients: 3, calm: Duration::from_secs(1), quiet_from: Duration::from_secs(6), total: Duration::from_secs(9) };

    #[test]
    fn a_seed_decides_the_schedule() {
        assert_eq!(Schedule::new(17, &SHAPE), Schedule::new(17, &SHAPE));
        assert_ne!(Schedule::new(17, &SHAPE), Schedule::new(18, &SHAPE));
    }

    #[test]
    fn faults_keep_to_their_time_and_every_run_loses_its_process() {
        for seed in 0..500 {
            let Schedule(faults) = Schedule::new(seed, &SHAPE);
            assert!((3..=7).contains(&faults.len()) && faults.is_sorted_by_key(|&(at, _)| at));
            assert!(
                faults.iter().all(|&(at, fault)| at >= SHAPE.calm && at + fault.lasts() <= SHAPE.quiet_from),
                "seed {seed}: {faults:?}"
            );
            assert!(faults.iter().any(|(_, fault)| matches!(fault, Fault::Kill { .. } | Fault::PowerCut { .. })), "seed {seed}");
        }
    }

    #[test]
    fn fifty_seeds_bring_every_kind_of_fault() {
        let mut kinds = std::collections::BTreeMap::new();
        let mut again = 0;
        for (_, fault) in (1..=50).flat_map(|seed| Schedule::new(seed, &SHAPE).0) {
            let name = format!("{fault:?}");
            *kinds.entry(name.split([' ', '{']).next().map(str::to_owned)).or_insert(0) += 1;
            again += u32::from(matches!(fault, Fault::Kill { again: Some(_), .. }));
        }
        assert_eq!(kinds.len(), 9, "{kinds:?}");
        assert!(again >= 5, "kills in the middle of a recovery: {again}");
    }
}
