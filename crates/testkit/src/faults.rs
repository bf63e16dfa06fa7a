//! What goes wrong in a simulation, and when: a function of the seed.
//!
//! The schedule is plain data. The simulation reads it and does the harm; the oracles ask it only
//! when the last harm was over.

use std::time::Duration;

use crate::seed::Dice;

/// Long enough to put matches away.
const STOP: Duration = Duration::from_secs(1);

/// One thing that goes wrong, or an operator's whim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The node's process dies. What it had written stays in the page cache.
    Kill {
        /// Until it is started again.
        down: Duration,
        /// It dies again this long after that start, most likely in the middle of its recovery.
        again: Option<Duration>,
    },
    /// The machine loses power: the process dies, and what was written but not synced may be gone,
    /// or half written.
    PowerCut {
        /// Until it is started again.
        down: Duration,
        /// How many of 100 unsynced batches reach the disk all the same.
        survive: u64,
    },
    /// The process is asked to stop: it puts its matches away, and is started again when it has
    /// ended.
    Stop,
    /// Everything that the disk makes durable takes longer.
    SlowDisk {
        /// How much longer.
        sync: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// The next write of a batch fails: the process must end by itself and come back.
    FailedWrite,
    /// The disk is full: no batch and no checkpoint can be written, also not by a process that
    /// starts anew.
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
            Self::Stop => STOP,
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
            1..=18 => Self::kill(dice),
            19..=23 => Self::Stop,
            24..=40 => {
                Self::PowerCut { down: millis(dice, 50, 400), survive: dice.between(0, 3) * 33 }
            }
            41..=55 => Self::SlowDisk { sync: millis(dice, 20, 1300), lasts },
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
    /// Fewest and most faults.
    pub faults: (u64, u64),
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
    /// What goes wrong under `seed`. At least one of the faults ends the process; they may overlap.
    pub fn new(seed: u64, shape: &Shape) -> Self {
        let mut dice = Dice::new(seed, "faults");
        let count = dice.between(shape.faults.0, shape.faults.1);
        let mut faults = vec![];
        for index in 0..count {
            let mut fault = Fault::draw(&mut dice, shape.clients);
            if index == 0 && !matches!(fault, Fault::Kill { .. } | Fault::PowerCut { .. }) {
                fault = Fault::kill(&mut dice);
            }
            let latest = shape.quiet_from.saturating_sub(fault.lasts()).max(shape.calm);
            let at = Duration::from_millis(
                dice.between(shape.calm.as_millis() as u64, latest.as_millis() as u64),
            );
            faults.push((at, fault));
        }
        faults.sort_by_key(|&(at, _)| at);
        Self(faults)
    }
}

/// What is to be done to the node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// It dies.
    Kill,
    /// It dies and takes the page cache with it: see [`Fault::PowerCut`].
    PowerCut {
        /// How many of 100 unsynced batches reach the disk all the same.
        survive: u64,
    },
    /// It is asked to stop.
    Stop,
    /// It is started, unless it runs.
    Start,
}

/// In what state a client's link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// It carries nothing.
    pub down: bool,
    /// How many of 100 packets it loses.
    pub loss: u64,
    /// The longest delay.
    pub delay: Duration,
}

impl Link {
    /// A link without trouble.
    pub const GOOD: Self = Self { down: false, loss: 0, delay: Duration::from_millis(12) };
}

impl Schedule {
    /// What happens to the node's process, ascending by time.
    pub fn process(&self) -> Vec<(Duration, Process)> {
        let mut actions = vec![];
        for &(at, fault) in &self.0 {
            match fault {
                Fault::Kill { down, again } => {
                    actions.extend([(at, Process::Kill), (at + down, Process::Start)]);
                    if let Some(again) = again {
                        let at = at + down + again;
                        actions.extend([(at, Process::Kill), (at + down, Process::Start)]);
                    }
                }
                Fault::PowerCut { down, survive } => {
                    actions
                        .extend([(at, Process::PowerCut { survive }), (at + down, Process::Start)]);
                }
                Fault::Stop => actions.push((at, Process::Stop)),
                _ => {}
            }
        }
        actions.sort_by_key(|&(at, _)| at);
        actions
    }

    /// The state of a client's link at a time.
    pub fn link(&self, client: usize, now: Duration) -> Link {
        let mut link = Link::GOOD;
        for &(_, fault) in
            self.0.iter().filter(|&&(at, fault)| at <= now && now < at + fault.lasts())
        {
            match fault {
                Fault::Partition { client: of, .. } if of == client => link.down = true,
                Fault::Loss { client: of, percent, .. } if of == client => {
                    link.loss = link.loss.max(percent);
                }
                Fault::Delay { client: of, up_to, .. } if of == client => {
                    link.delay = link.delay.max(up_to);
                }
                _ => {}
            }
        }
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        clients: 3,
        faults: (3, 7),
        calm: Duration::from_secs(1),
        quiet_from: Duration::from_secs(6),
        total: Duration::from_secs(9),
    };

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
                faults
                    .iter()
                    .all(|&(at, fault)| at >= SHAPE.calm && at + fault.lasts() <= SHAPE.quiet_from),
                "seed {seed}: {faults:?}"
            );
            assert!(
                faults
                    .iter()
                    .any(|(_, fault)| matches!(fault, Fault::Kill { .. } | Fault::PowerCut { .. })),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn a_kill_in_the_middle_of_a_recovery_comes_after_the_start() {
        let millis = Duration::from_millis;
        let schedule =
            Schedule(vec![(millis(100), Fault::Kill { down: millis(20), again: Some(millis(5)) })]);
        let expected = [
            (100, Process::Kill),
            (120, Process::Start),
            (125, Process::Kill),
            (145, Process::Start),
        ];
        assert_eq!(schedule.process(), expected.map(|(at, what)| (millis(at), what)));
        assert_eq!(schedule.0[0].1.lasts(), millis(45));
    }

    #[test]
    fn a_link_is_as_bad_as_the_worst_of_its_faults() {
        let millis = Duration::from_millis;
        let loss = |percent, lasts| Fault::Loss { client: 1, percent, lasts: millis(lasts) };
        let cut = Fault::Partition { client: 0, lasts: millis(50) };
        let schedule = Schedule(vec![
            (millis(100), loss(10, 100)),
            (millis(150), loss(30, 20)),
            (millis(160), cut),
        ]);
        let seen = [99, 100, 150, 170, 200].map(|at| schedule.link(1, millis(at)).loss);
        assert_eq!(seen, [0, 10, 30, 10, 0]);
        assert!(
            schedule.link(0, millis(160)).down
                && !schedule.link(1, millis(160)).down
                && !schedule.link(0, millis(210)).down
        );
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
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        assert!(again >= 5, "kills in the middle of a recovery: {again}");
    }
}
