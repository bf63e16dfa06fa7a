//! One seed from beginning to end: the stage is played, then the judges look at what is left.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rekindle_actors::Output;
use rekindle_sim::{GameType, Typed};
use rekindle_testkit::disk::{Disk, Mutant};
use rekindle_testkit::evidence::Evidence;
use rekindle_testkit::faults::Shape;
use rekindle_testkit::oracle::{self, Rule, Violation};
use rekindle_testkit::stage::Stage;

use crate::game::Sparks;
use crate::node::{self, MATCH, Node};
use crate::player::Player;

/// Time and clients of every simulation.
pub(crate) const SHAPE: Shape =
    Shape { clients: 3, calm: Duration::from_secs(1), quiet_from: Duration::from_secs(5), total: Duration::from_secs(8) };
/// Effects of the last ticks may still be on their way to their sink.
const PENDING_TICKS: u64 = 30;

/// What is different from the product as it ships.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    /// A defect of the store.
    pub mutant: Option<Mutant>,
    /// When frames leave.
    pub output: Output,
}

impl Default for Variant {
    fn default() -> Self {
        Self { mutant: None, output: Output::Durable }
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
    ticks: u64,
    inputs: usize,
    beats: usize,
    commands: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, lives, ticks, inputs, beats, commands, .. } = self;
        write!(f, "{faults} faults, {lives} lives, {ticks} ticks, {inputs} durable inputs, {commands} commands, {beats} hashes")
    }
}

/// Plays a seed and judges it.
pub(crate) fn run(seed: u64, variant: Variant) -> Outcome {
    let stage = Stage::new(seed, SHAPE);
    let disk = Disk::new(seed, &stage.schedule, variant.mutant);
    let game: Arc<dyn GameType> = Arc::new(Typed::<Sparks>::new().expect("the parts of the game fit together"));
    let lives = Arc::new(AtomicU64::new(0));
    let node =
        Node { seed, game: game.clone(), output: variant.output, disk: disk.clone(), trace: stage.trace.clone(), lives: lives.clone() };
    let keys = node::keys(seed);
    let evidence = parking_lot::Mutex::new(Vec::new());
    let played = stage.play(
        &disk,
        |exit| node.clone().live(exit),
        |number, address| {
            let player = Player::new(seed, number, &keys, stage.trace.clone());
            evidence.lock().push(player.evidence());
            player.play(address)
        },
    );
    let evidence: Vec<Evidence> = evidence.into_inner().into_iter().map(|shared| shared.lock().clone()).collect();
    let mut violations = vec![];
    violations.extend(played.err().map(|error| Violation::new(Rule::Progress, error)));
    let ticks = judge(&disk, &*game, &evidence, &mut violations);
    Outcome {
        violations,
        trace: stage.trace.lines(),
        faults: stage.schedule.0.len(),
        lives: lives.load(std::sync::atomic::Ordering::Relaxed),
        ticks,
        inputs: evidence.iter().map(|of| of.inputs.len()).sum(),
        beats: evidence.iter().map(|of| of.beats.len()).sum(),
        commands: evidence.iter().map(|of| of.commands.len()).sum(),
    }
}

/// Holds the evidence against the journal. Returns how many ticks that has.
fn judge(disk: &Disk, game: &dyn GameType, evidence: &[Evidence], violations: &mut Vec<Violation>) -> u64 {
    let (lease, account, problems) = match disk.account(MATCH) {
        Ok(found) => found,
        Err(error) => {
            violations.push(Violation::new(Rule::JournalWhole, error.to_string()));
            return 0;
        }
    };
    violations.extend(problems);
    let recomputed = match account.resimulate(game, &lease) {
        Ok(recomputed) => recomputed,
        Err(error) => {
            violations.push(Violation::new(Rule::HashesAgree, error));
            return account.last_tick().0;
        }
    };
    violations.extend(oracle::journal_hashes(&account, &recomputed));
    match disk.delivered(MATCH) {
        Ok(delivered) => violations.extend(oracle::effects_once(&account, &recomputed, &delivered, PENDING_TICKS)),
        Err(error) => violations.push(Violation::new(Rule::EffectsOnce, error.to_string())),
    }
    for of in evidence {
        violations.extend(oracle::inputs_once(&account, of));
        violations.extend(oracle::commands_once(&account, &recomputed, of));
        violations.extend(oracle::seen_hashes(&recomputed, of));
        violations.extend(oracle::nothing_undone(&account, &recomputed, of));
        violations.extend(oracle::sessions_kept(&account, of));
        violations.extend(oracle::events_agree(&recomputed, of));
        violations.extend(oracle::progress(of, SHAPE.quiet_from, SHAPE.total));
        violations.extend(oracle::enough_evidence(of, 20, 2));
    }
    account.last_tick().0
}
