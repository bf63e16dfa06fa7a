//! A tick that panics: find what triggers it, leave that out, go on.
//!
//! The world is rebuilt up to the tick before from what is durable, and the step is tried again and
//! again from the same bytes: a group of contributions that does no harm is kept as a whole, one
//! that does is halved, a single one that does is the culprit. k culprits among n contributions
//! take about k log n trials. A tick that panics without any player's contribution is hopeless: the
//! match is parked.

use bytes::Bytes;
use rekindle_schema::record::Step;
use rekindle_schema::{PlayerId, SessionId, Tick};
use rekindle_sim::{GameType, SimError, Simulation, StepOutput};

/// What a player can contribute to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contribution {
    /// The player enters.
    Join,
    /// An input of one tick.
    Input,
    /// A reliable command.
    Command,
}

impl Contribution {
    /// Its name in reports and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Input => "input",
            Self::Command => "command",
        }
    }
}

impl std::fmt::Display for Contribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A contribution that was left out of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// The player whose contribution it was.
    pub player: PlayerId,
    /// What the player contributed.
    pub what: Contribution,
    /// The client's number; 0 for a join.
    pub seq: u64,
    /// The session that did not enter, if the contribution was a join.
    pub joining: Option<SessionId>,
    /// The session of an input or command.
    pub session: SessionId,
    /// The system that panicked.
    pub system: String,
    /// What was said.
    pub reason: String,
}

/// A step without its culprits, already made.
pub struct Fixed {
    /// The world after the step.
    pub sim: Box<dyn Simulation>,
    /// What is left of the step.
    pub step: Step,
    /// What came of it.
    pub output: StepOutput,
    /// What was left out, in the order of trial.
    pub culprits: Vec<Culprit>,
}

/// What became of a tick that panicked.
pub enum Outcome {
    /// It is made.
    Fixed(Box<Fixed>),
    /// It cannot be made: the report.
    Hopeless(String),
}

#[derive(Debug, Clone, Copy)]
enum Suspect {
    Join(usize),
    Input(usize),
    Command(usize),
}

/// Makes `step` from `checkpoint` (the canonical bytes of the world one tick before), without the
/// contributions that make it panic.
pub fn isolate(game: &dyn GameType, checkpoint: &Bytes, step: &Step) -> Outcome {
    let mut trials =
        Trials { game, checkpoint, step, kept: Vec::new(), culprits: Vec::new(), best: None };
    if let Err(error) = trials.attempt(&[]) {
        return Outcome::Hopeless(report(step, &trials.at_entity(&[], error)));
    }
    let suspects = (0..step.joins.len())
        .map(Suspect::Join)
        .chain((0..step.inputs.len()).map(Suspect::Input))
        .chain((0..step.commands.len()).map(Suspect::Command));
    trials.sift(&suspects.collect::<Vec<_>>());
    let Trials { culprits, best, .. } = trials;
    match best {
        Some((sim, step, output)) => {
            Outcome::Fixed(Box::new(Fixed { sim, step, output, culprits }))
        }
        None => Outcome::Hopeless(format!("tick {} could not be made again", step.tick)),
    }
}

/// What an operator is told about a tick that panics by itself.
fn report(step: &Step, error: &SimError) -> String {
    let leaves = match step.leaves.as_slice() {
        [] => String::new(),
        leaves => {
            format!("; leaving in this tick: {}", list(leaves.iter().map(|leave| leave.player)))
        }
    };
    match error {
        SimError::Panicked { system, tick, message } => {
            format!(
                "system `{system}` panicked at tick {tick} without any player's input (player: \
                 none{leaves}): {message}"
            )
        }
        other => format!(
            "tick {} failed without any player's input (player: none{leaves}): {other}",
            step.tick
        ),
    }
}

/// Names of players for a report.
pub(crate) fn list(players: impl Iterator<Item = PlayerId>) -> String {
    let names: Vec<String> = players.map(|player| player.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

struct Trials<'a> {
    game: &'a dyn GameType,
    checkpoint: &'a Bytes,
    step: &'a Step,
    kept: Vec<Suspect>,
    culprits: Vec<Culprit>,
    best: Option<(Box<dyn Simulation>, Step, StepOutput)>,
}

impl Trials<'_> {
    /// Keeps what of `group` does no harm and accuses the rest.
    fn sift(&mut self, group: &[Suspect]) {
        let Some((first, rest)) = group.split_first() else { return };
        match self.attempt(group) {
            Ok(()) => self.kept.extend_from_slice(group),
            Err(error) if rest.is_empty() => {
                let error = self.at_entity(group, error);
                self.culprits.push(self.accuse(*first, &error));
            }
            Err(_) => {
                let (left, right) = group.split_at(group.len() / 2);
                self.sift(left);
                self.sift(right);
            }
        }
    }

    /// Makes the step with what is kept and `more`.
    fn attempt(&mut self, more: &[Suspect]) -> Result<(), SimError> {
        let step = self.compose(more);
        let mut sim = self.game.restore(self.checkpoint)?;
        let output = sim.step(&step)?;
        self.best = Some((sim, step, output));
        Ok(())
    }

    /// The error of the step with what is kept and `more`, with the entity at which it fails.
    fn at_entity(&self, more: &[Suspect], error: SimError) -> SimError {
        self.game.at_entity(self.checkpoint, &self.compose(more), error)
    }

    /// The step with only what is kept and `more`, in its canonical order.
    fn compose(&self, more: &[Suspect]) -> Step {
        let full = self.step;
        let mut step =
            Step { joins: Vec::new(), inputs: Vec::new(), commands: Vec::new(), ..full.clone() };
        let (mut joins, mut inputs, mut commands) = (Vec::new(), Vec::new(), Vec::new());
        for suspect in self.kept.iter().chain(more) {
            match *suspect {
                Suspect::Join(index) => joins.push(index),
                Suspect::Input(index) => inputs.push(index),
                Suspect::Command(index) => commands.push(index),
            }
        }
        for list in [&mut joins, &mut inputs, &mut commands] {
            list.sort_unstable();
        }
        step.joins.extend(joins.into_iter().map(|index| full.joins[index].clone()));
        step.inputs.extend(inputs.into_iter().map(|index| full.inputs[index].clone()));
        step.commands.extend(commands.into_iter().map(|index| full.commands[index].clone()));
        step
    }

    fn accuse(&self, suspect: Suspect, error: &SimError) -> Culprit {
        let (player, what, seq, session, joining) = match suspect {
            Suspect::Join(index) => {
                let join = &self.step.joins[index];
                (join.player, Contribution::Join, 0, join.session, Some(join.session))
            }
            Suspect::Input(index) => {
                let input = &self.step.inputs[index];
                (input.player, Contribution::Input, input.seq, input.session, None)
            }
            Suspect::Command(index) => {
                let command = &self.step.commands[index];
                (command.player, Contribution::Command, command.seq, command.session, None)
            }
        };
        let system = match error {
            SimError::Panicked { system, .. } => system.clone(),
            _ => String::new(),
        };
        let tick: Tick = self.step.tick;
        let reason = match error {
            SimError::Panicked { system, message, .. } => {
                format!(
                    "{what} {seq} of player {player} makes system `{system}` panic at tick {tick}: \
                     {message}"
                )
            }
            other => format!("{what} {seq} of player {player} fails tick {tick}: {other}"),
        };
        Culprit { player, what, seq, joining, session, system, reason }
    }
}
