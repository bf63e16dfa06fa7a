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
/// So long a [`Fault::Strike`] waits for a migration that comes to its step.
pub(crate) const ARMED: Duration = Duration::from_millis(400);
/// When everything has come to rest, a match is moved.
pub(crate) const UNDISTURBED: Duration = Duration::from_millis(4_300);
/// The end.
pub(crate) const TOTAL: Duration = Duration::from_millis(5_500);

/// One thing that goes wrong, or that an operator wants.
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
    /// What a node sends to another does not arrive there; the other way it does.
    OneWay { from: usize, to: usize, lasts: Duration },
    /// The wall clock of a node jumps.
    Skew { node: usize, ms: i64 },
    /// What the store makes durable takes so much longer.
    SlowDisk { sync: Duration, lasts: Duration },
    /// The store's machine loses power: of what was not durable, `survive` of 100 batches are there
    /// afterwards.
    PowerCut { survive: u64 },
    /// A match is moved from the node that runs it to the one that comes `hop` places behind.
    Move { index: usize, hop: usize },
    /// A node gives all its matches away, and takes none for so long.
    Drain { node: usize, lasts: Duration },
    /// The next migration that comes to this step is struck.
    Strike { step: Step, side: Side, blow: Blow },
}

/// What a migration comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The target is asked to follow.
    Asked,
    /// The match stands still at the source, and all of it is durable.
    Stopped,
    /// The target has said that it stands at the cut.
    Ready,
    /// The commit is on its way to the store.
    Sent,
    /// The store has done it, and the source does not know it yet.
    Committed,
}

const STEPS: [Step; 5] = [Step::Asked, Step::Stopped, Step::Ready, Step::Sent, Step::Committed];

/// Which node of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

/// What befalls a node in the middle of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// As [`Fault::Kill`].
    Kill { down: Duration },
    /// As [`Fault::Pause`].
    Pause { lasts: Duration },
    /// As [`Fault::NoRequests`].
    NoRequests { lasts: Duration },
    /// As [`Fault::NoAnswers`].
    NoAnswers { lasts: Duration },
    /// As [`Fault::Slow`].
    Slow { up_to: Duration, lasts: Duration },
}

impl Blow {
    fn draw(dice: &mut Dice) -> Self {
        let millis = Duration::from_millis;
        // A short one hits one request only.
        let lasts = millis(if dice.chance(50) { 12 } else { dice.between(100, 500) });
        match dice.between(1, 10) {
            1..=4 => Self::Kill { down: millis(dice.between(40, 400)) },
            5 => Self::Pause { lasts: millis(dice.between(100, 800)) },
            6 => Self::NoRequests { lasts },
            7 | 8 => Self::NoAnswers { lasts },
            _ => Self::Slow { up_to: millis(600), lasts },
        }
    }

    /// The fault of this node.
    pub(crate) fn on(self, node: usize) -> Fault {
        match self {
            Self::Kill { down } => Fault::Kill { node, down },
            Self::Pause { lasts } => Fault::Pause { node, lasts },
            Self::NoRequests { lasts } => Fault::NoRequests { node, lasts },
            Self::NoAnswers { lasts } => Fault::NoAnswers { node, lasts },
            Self::Slow { up_to, lasts } => Fault::Slow { node, up_to, lasts },
        }
    }
}

impl Fault {
    /// How long it does harm.
    pub(crate) fn lasts(self) -> Duration {
        match self {
            Self::Kill { down, .. } => down,
            Self::Skew { .. } | Self::PowerCut { .. } | Self::Move { .. } => Duration::ZERO,
            Self::Strike { blow, .. } => ARMED + blow.on(0).lasts(),
            Self::Pause { lasts, .. }
            | Self::NoRequests { lasts, .. }
            | Self::NoAnswers { lasts, .. }
            | Self::Slow { lasts, .. }
            | Self::Lossy { lasts, .. }
            | Self::Suspect { lasts, .. }
            | Self::CutOff { lasts, .. }
            | Self::OneWay { lasts, .. }
            | Self::SlowDisk { lasts, .. }
            | Self::Drain { lasts, .. } => lasts,
        }
    }

    /// Whether it does no harm: what operators want.
    pub(crate) fn is_wish(self) -> bool {
        matches!(self, Self::Move { .. } | Self::Drain { .. })
    }

    /// Whether it comes between nodes and their store.
    pub(crate) fn is_between(self) -> bool {
        matches!(
            self,
            Self::NoRequests { .. }
                | Self::NoAnswers { .. }
                | Self::Slow { .. }
                | Self::Lossy { .. }
        )
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
            Self::OneWay { .. } => "one way",
            Self::Skew { .. } => "skew",
            Self::SlowDisk { .. } => "slow disk",
            Self::PowerCut { .. } => "power cut",
            Self::Move { .. } => "move",
            Self::Drain { .. } => "drain",
            Self::Strike { .. } => "strike",
        }
    }

    fn draw(dice: &mut Dice) -> Self {
        let node = dice.between(0, NODES as u64 - 1) as usize;
        let millis = Duration::from_millis;
        let lasts = millis(dice.between(100, 1_200));
        match dice.between(1, 100) {
            1..=18 => Self::Kill { node, down: millis(dice.between(20, 500)) },
            19..=31 => Self::Pause { node, lasts },
            32..=37 => Self::NoRequests { node, lasts },
            38..=43 => Self::NoAnswers { node, lasts },
            44..=52 => Self::Slow { node, up_to: millis(dice.between(50, 600)), lasts },
            53..=58 => Self::Lossy { percent: dice.between(5, 40), lasts },
            59..=68 => {
                let victim = other(dice, node);
                let node = dice.chance(60).then_some(node);
                Self::Suspect { node, victim, lasts: lasts.min(millis(400)) }
            }
            69..=72 => {
                Self::CutOff { player: dice.between(0, PLAYERS as u64 - 1) as usize, node, lasts }
            }
            73..=75 => Self::Skew { node, ms: dice.between(0, 7_200_000) as i64 - 3_600_000 },
            76..=79 => Self::OneWay { from: node, to: other(dice, node), lasts },
            80..=83 => Self::SlowDisk { sync: millis(dice.between(10, 300)), lasts },
            84..=86 => Self::PowerCut { survive: dice.between(0, 3) * 33 },
            87..=95 => moved(dice),
            _ => Self::Drain { node, lasts },
        }
    }
}

/// Often it is the commit alone that takes so long that its source gives up waiting, and lands
/// afterwards; or the target does not hear from the store while the match becomes its own.
fn struck(dice: &mut Dice) -> Fault {
    let millis = Duration::from_millis;
    match dice.between(1, 100) {
        1..=25 => {
            let blow = Blow::Slow { up_to: millis(800), lasts: millis(12) };
            return Fault::Strike { step: Step::Sent, side: Side::Source, blow };
        }
        26..=45 => {
            let blow = Blow::NoAnswers { lasts: millis(dice.between(350, 500)) };
            return Fault::Strike { step: Step::Stopped, side: Side::Target, blow };
        }
        _ => {}
    }
    let step = STEPS[dice.between(0, STEPS.len() as u64 - 1) as usize];
    let side = if dice.chance(60) { Side::Source } else { Side::Target };
    Fault::Strike { step, side, blow: Blow::draw(dice) }
}

fn moved(dice: &mut Dice) -> Fault {
    Fault::Move { index: dice.between(0, 1) as usize, hop: dice.between(1, 2) as usize }
}

/// Another node than this one.
fn other(dice: &mut Dice, node: usize) -> usize {
    (node + 1 + dice.between(0, NODES as u64 - 2) as usize) % NODES
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
    if dice.chance(50) {
        faults.push((UNDISTURBED, moved(&mut dice)));
    }
    faults.sort_by_key(|&(at, _)| at);
    faults
}

/// What seldom comes together by chance: all processes die within a moment, all suspect a node
/// whose writes are late, a migration is struck at one of its steps, or a batch that is not durable
/// yet is found by whoever takes over, and the power fails.
fn together(dice: &mut Dice) -> Schedule {
    let millis = Duration::from_millis;
    let at = millis(dice.between(800, 1_600));
    let victim = dice.between(0, NODES as u64 - 1) as usize;
    match dice.between(1, 20) {
        1 => (0..NODES)
            .map(|node| {
                let after = millis(dice.between(0, 40));
                (at + after, Fault::Kill { node, down: millis(dice.between(100, 300)) })
            })
            .collect(),
        2..=5 => {
            let lasts = millis(500);
            let slow = Fault::Slow { node: victim, up_to: millis(120), lasts };
            let suspect = Fault::Suspect { node: None, victim, lasts: millis(300) };
            vec![(at, slow), (at + millis(100), suspect)]
        }
        6..=7 => {
            let slow = Fault::SlowDisk { sync: millis(400), lasts: millis(500) };
            let kill = Fault::Kill { node: 0, down: millis(600) };
            let survive = dice.between(0, 1) * 50;
            vec![
                (at, slow),
                (at + millis(60), kill),
                (at + millis(dice.between(170, 330)), Fault::PowerCut { survive }),
            ]
        }
        8..=16 => {
            let strike = struck(dice);
            // Seldom does a match not run at the moment.
            vec![(at, strike), (at, moved(dice)), (at + millis(150), moved(dice))]
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
            let inside = |&(at, fault): &(Duration, Fault)| {
                at >= CALM && at + fault.lasts() <= QUIET_FROM
                    || at == UNDISTURBED && fault.is_wish()
            };
            assert!(faults.iter().all(inside), "seed {seed}: {faults:?}");
        }
    }

    #[test]
    fn a_hundred_seeds_bring_every_kind_of_fault() {
        let kinds: std::collections::BTreeSet<&str> =
            (1..=100).flat_map(schedule).map(|(_, fault)| fault.name()).collect();
        assert_eq!(kinds.len(), 15, "{kinds:?}");
    }
}
