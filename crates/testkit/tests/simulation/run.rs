//! One seed from beginning to end: the stage is played, then the judges look at what is left.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::Output;
use rekindle_arena::Arena;
use rekindle_schema::MatchId;
use rekindle_sim::{GameType, Typed};
use rekindle_testkit::disk::{Disk, Mutant};
use rekindle_testkit::evidence::Evidence;
use rekindle_testkit::faults::Shape;
use rekindle_testkit::oracle::{self, Rule, Violation};
use rekindle_testkit::stage::Stage;

use crate::game::Sparks;
use crate::node::{self, MATCHES, Node};
use crate::player::{Player, Will};

/// Time and clients of every simulation.
pub(crate) const SHAPE: Shape = Shape {
    clients: 3,
    faults: (3, 7),
    calm: Duration::from_secs(1),
    quiet_from: Duration::from_secs(5),
    total: Duration::from_secs(8),
};
/// Effects of the last ticks may still be on their way to their sink.
const PENDING_TICKS: u64 = 30;

/// Whether what was shown may be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Never.
    Never,
    /// If it is told.
    IfTold,
    /// If it is told, and nobody is told: a defect.
    Untold,
}

/// What is different from the product as it ships.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    /// A defect of the store.
    pub mutant: Option<Mutant>,
    /// When frames leave.
    pub output: Output,
    /// Whether what was shown may be undone.
    pub undone: Undone,
    /// Twice as many faults in the same time.
    pub storm: bool,
    /// The arena with its bots, instead of a game made for simulations.
    pub arena: bool,
}

impl Default for Variant {
    fn default() -> Self {
        let undone = Undone::Never;
        Self { mutant: None, output: Output::Durable, undone, storm: false, arena: false }
    }
}

/// How a simulation went.
pub(crate) struct Outcome {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// What happened.
    pub trace: Vec<String>,
    faults: usize,
    lives: u64,
    total: Totals,
}

/// What a simulation went through.
#[derive(Debug, Default)]
struct Totals {
    ticks: u64,
    inputs: usize,
    beats: usize,
    commands: usize,
    quarantined: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, lives, total, .. } = self;
        let Totals { ticks, inputs, beats, commands, quarantined } = total;
        write!(
            f,
            "{faults} faults, {lives} lives, {ticks} ticks, {inputs} durable inputs, {commands} \
             commands, {beats} hashes, {quarantined} quarantined"
        )
    }
}

/// Plays a seed and judges it.
pub(crate) fn run(seed: u64, variant: Variant) -> Outcome {
    let faults = if variant.storm { (8, 14) } else { SHAPE.faults };
    let stage = Stage::new(seed, Shape { faults, ..SHAPE });
    let disk = Disk::new(seed, &stage.schedule, variant.mutant);
    let fit = "the parts of the game fit together";
    let game: Arc<dyn GameType> = if variant.arena {
        Arc::new(Typed::<Arena>::new().expect(fit))
    } else {
        Arc::new(Typed::<Sparks>::new().expect(fit))
    };
    let lives = Arc::new(AtomicU64::new(0));
    let problems: Arc<Mutex<Vec<Violation>>> = Arc::default();
    let node = Node {
        seed,
        game: game.clone(),
        output: variant.output,
        disk: disk.clone(),
        trace: stage.trace.clone(),
        lives: lives.clone(),
        put_away: Arc::default(),
        problems: problems.clone(),
    };
    let keys = node::keys(seed);
    let evidence = Mutex::new(Vec::new());
    let played = stage.play(
        &disk,
        |signals| node.clone().live(signals),
        |number, address| {
            let player = Player::new(
                seed,
                number,
                &keys,
                stage.trace.clone(),
                will(variant, &game),
                SHAPE.quiet_from,
            )
            .deaf_to_rewinds(variant.undone == Undone::Untold);
            evidence.lock().push(player.evidence());
            player.play(address)
        },
    );
    let evidence: Vec<Evidence> =
        evidence.into_inner().into_iter().map(|shared| shared.lock().clone()).collect();
    let mut violations = vec![];
    violations.extend(played.err().map(|error| Violation::new(Rule::Progress, error)));
    violations.append(&mut problems.lock());
    let mut total = Totals::default();
    for match_id in MATCHES {
        let of: Vec<&Evidence> = evidence.iter().filter(|of| of.match_id == match_id).collect();
        let game = (&*game, variant.undone);
        judge(match_id, &disk, game, &of, &mut violations, &mut total);
    }
    Outcome {
        violations,
        trace: stage.trace.lines(),
        faults: stage.schedule.0.len(),
        lives: lives.load(std::sync::atomic::Ordering::Relaxed),
        total,
    }
}

fn will(variant: Variant, game: &Arc<dyn GameType>) -> Will {
    if variant.arena {
        Will::Bot { game: game.clone(), memory: Vec::new() }
    } else {
        Will::Dice { poisoned: false }
    }
}

/// Holds the evidence of those who played in a match against its journal.
fn judge(
    match_id: MatchId,
    disk: &Disk,
    game: (&dyn GameType, Undone),
    evidence: &[&Evidence],
    violations: &mut Vec<Violation>,
    total: &mut Totals,
) {
    let mut found = vec![];
    let result = weigh(match_id, disk, game, evidence, &mut found, total);
    found.extend(result.err());
    violations.extend(found.into_iter().map(|violation| Violation {
        detail: format!("match {match_id}: {}", violation.detail),
        ..violation
    }));
}

fn weigh(
    match_id: MatchId,
    disk: &Disk,
    (game, undone): (&dyn GameType, Undone),
    evidence: &[&Evidence],
    found: &mut Vec<Violation>,
    total: &mut Totals,
) -> Result<(), Violation> {
    let (lease, account, problems) = disk
        .account(match_id)
        .map_err(|error| Violation::new(Rule::JournalWhole, error.to_string()))?;
    found.extend(problems);
    found.extend(disk.kept(match_id, &account));
    total.ticks += account.last_tick().0;
    total.quarantined += account.quarantined();
    let recomputed = account
        .resimulate(game, &lease)
        .map_err(|error| Violation::new(Rule::HashesAgree, error))?;
    found.extend(oracle::journal_hashes(&account, &recomputed));
    let delivered = disk
        .delivered(match_id)
        .map_err(|error| Violation::new(Rule::EffectsOnce, error.to_string()))?;
    found.extend(oracle::effects_once(&account, &recomputed, &delivered, PENDING_TICKS));
    for of in evidence {
        total.inputs += of.inputs.len();
        total.commands += of.commands.len();
        total.beats += of.beats.len();
        if undone != Undone::Never {
            found.extend(oracle::undone_is_told(&account, of));
            found.extend(oracle::progress(of, SHAPE.quiet_from, SHAPE.total));
            continue;
        }
        found.extend(oracle::inputs_once(&account, of));
        found.extend(oracle::commands_once(&account, &recomputed, of));
        found.extend(oracle::seen_hashes(&recomputed, of));
        found.extend(oracle::nothing_undone(&account, &recomputed, of));
        found.extend(oracle::sessions_kept(&account, of));
        found.extend(oracle::events_agree(&recomputed, of));
        found.extend(oracle::progress(of, SHAPE.quiet_from, SHAPE.total));
        found.extend(oracle::enough_evidence(of, 20, 2));
    }
    Ok(())
}
