//! Runs a game in a test: bots, steps, replay, without a node.
//!
//! ```
//! # use rekindle_sim::doc_game::Duel;
//! use rekindle_sim::Harness;
//!
//! Harness::<Duel>::new(7).bots(2).run(300).assert_replay_identical();
//! ```

use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{
    AppliedCommand, AppliedInput, Effect, Event, Join, Leave, LeaveReason, Step,
};
use rekindle_schema::{PlayerId, SessionId, StateHash};

use crate::ecs::workers::Workers;
use crate::ecs::world::World;
use crate::game::builder::Game;
use crate::game::matches::Match;
use crate::game::simulation::{GameType, Simulation, StepOutput};
use crate::game::typed::Typed;
use crate::value::{Value, to_bytes};

/// A match in a test, with everything that happened to it.
///
/// Its methods panic when something fails, with words for the one who runs the test.
pub struct Harness<G: Game> {
    game: Typed<G>,
    config: Bytes,
    seed: u64,
    tick_rate: u16,
    running: Match<G>,
    bots: Vec<(PlayerId, Vec<u8>)>,
    next: Step,
    sequences: u64,
    steps: Vec<Step>,
    hashes: Vec<StateHash>,
    outputs: Vec<StepOutput>,
    view: NetView,
}

impl<G: Game> Harness<G> {
    /// A match with the default configuration.
    pub fn new(seed: u64) -> Self {
        Self::with_config(seed, "{}")
    }

    /// A match with a configuration in JSON.
    pub fn with_config(seed: u64, json: &str) -> Self {
        Self::with_rate(seed, json, G::TICK_RATE)
    }

    /// A match of so many ticks a second, which need not be among [`Game::TICK_RATES`].
    pub fn with_rate(seed: u64, json: &str, tick_rate: u16) -> Self {
        let game = Typed::<G>::new().unwrap_or_else(|error| panic!("{error}"));
        let config = game.config_from_json(json).unwrap_or_else(|error| panic!("{error}"));
        let running = Typed::create_at(&game, &config, seed, tick_rate)
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            game,
            config,
            seed,
            tick_rate,
            running,
            bots: Vec::new(),
            next: Step::default(),
            sequences: 0,
            steps: Vec::new(),
            hashes: Vec::new(),
            outputs: Vec::new(),
            view: NetView::default(),
        }
    }

    /// So many bots join in the next tick and play from then on. Their players are numbered from
    /// 1,000,000.
    #[must_use]
    pub fn bots(mut self, count: usize) -> Self {
        for _ in 0..count {
            let player = PlayerId(1_000_000 + self.bots.len() as u64);
            self.join(player);
            self.bots.push((player, Vec::new()));
        }
        self
    }

    /// Lends the match threads for its parallel queries; replays go without.
    #[must_use]
    pub fn workers(mut self, workers: Arc<dyn Workers>) -> Self {
        self.running.set_workers(Some(workers));
        self
    }

    /// Makes so many ticks.
    #[must_use]
    pub fn run(mut self, ticks: u64) -> Self {
        for _ in 0..ticks {
            self.tick();
        }
        self
    }

    /// A player joins in the next tick; the session has the player's number.
    pub fn join(&mut self, player: PlayerId) {
        self.next.joins.push(Join {
            player,
            session: SessionId(player.0),
            name: format!("player {player}"),
        });
    }

    /// A player leaves in the next tick.
    pub fn leave(&mut self, player: PlayerId) {
        self.next.leaves.push(Leave {
            player,
            session: SessionId(player.0),
            reason: LeaveReason::Left,
        });
        self.bots.retain(|(bot, _)| *bot != player);
    }

    /// A player's input for the next tick.
    pub fn input(&mut self, player: PlayerId, input: &G::Input) {
        self.raw_input(player, to_bytes(input).into());
    }

    /// A player's command for the next tick.
    pub fn command(&mut self, player: PlayerId, command: &G::Command) {
        self.raw_command(player, to_bytes(command).into());
    }

    fn raw_command(&mut self, player: PlayerId, payload: Bytes) {
        self.sequences += 1;
        let seq = self.sequences;
        self.next.commands.push(AppliedCommand {
            player,
            session: SessionId(player.0),
            seq,
            payload,
        });
    }

    fn raw_input(&mut self, player: PlayerId, payload: Bytes) {
        self.sequences += 1;
        let (seq, view_tick) = (self.sequences, self.running.tick());
        self.next.inputs.retain(|input| input.player != player);
        self.next.inputs.push(AppliedInput {
            player,
            session: SessionId(player.0),
            seq,
            view_tick,
            payload,
        });
    }

    /// Makes one tick, and returns what it brought forth.
    pub fn tick(&mut self) -> &StepOutput {
        let mut view = std::mem::take(&mut self.view);
        self.running.extract(&mut view);
        let mut bots = std::mem::take(&mut self.bots);
        for (player, memory) in &mut bots {
            let seen = view.seen_by(*player);
            if let Some(payload) = self.game.bot(*player, &seen, &self.config, memory) {
                self.raw_input(*player, payload);
            }
            let command = self.game.bot_command(*player, &seen, &self.config, memory);
            if let Some(payload) = command {
                self.raw_command(*player, payload);
            }
        }
        (self.bots, self.view) = (bots, view);
        let mut step = std::mem::take(&mut self.next);
        step.tick = self.running.tick().next();
        step.joins.sort_by_key(|join| join.player);
        step.leaves.sort_by_key(|leave| leave.player);
        step.inputs.sort_by_key(|input| input.player);
        step.commands.sort_by_key(|command| (command.player, command.seq));
        let output =
            self.running.step(&step).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.hashes.push(self.running.state_hash());
        self.steps.push(step);
        self.outputs.push(output);
        &self.outputs[self.outputs.len() - 1]
    }

    /// The world.
    pub fn world(&self) -> &World {
        self.running.world()
    }

    /// The world, to set a scene: do it before the first tick of a match whose replay is compared.
    pub fn world_mut(&mut self) -> &mut World {
        self.running.world_mut()
    }

    /// The match.
    pub fn simulation(&self) -> &Match<G> {
        &self.running
    }

    /// The steps that were made.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The hash of the state after each tick.
    pub fn hashes(&self) -> &[StateHash] {
        &self.hashes
    }

    /// What the game said to players, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.outputs.iter().flat_map(|output| &output.events)
    }

    /// The effects that the game asked for, in order.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.outputs.iter().flat_map(|output| &output.effects)
    }

    /// The reason that the game gave for ending the match, if it did.
    pub fn ended(&self) -> Option<&str> {
        self.outputs.iter().find_map(|output| output.ended.as_deref())
    }

    /// The payload of the last event of a kind.
    pub fn last_event<T: Value>(&self, kind: &str) -> Option<T> {
        let events: Vec<_> = self.events().filter(|event| event.kind == kind).collect();
        crate::value::from_bytes(&events.last()?.payload).ok()
    }

    /// Plays the same steps again in a second match, which is saved and restored on the way, and
    /// compares output and hash of every tick.
    ///
    /// # Panics
    /// At the first tick that differs: the game depends on something that is not in its state.
    pub fn assert_replay_identical(&self) -> &Self {
        let (seed, mut saves) = (self.seed, 0u64);
        let mut replay = Typed::create_at(&self.game, &self.config, seed, self.tick_rate)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut rng = crate::Rng::stream(seed, rekindle_schema::Tick(0), 1);
        for (index, step) in self.steps.iter().enumerate() {
            let output = replay.step(step).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(
                output, self.outputs[index],
                "seed {seed}, tick {}: the replay said something else ({saves} restores so far)",
                step.tick
            );
            assert_eq!(
                replay.state_hash(),
                self.hashes[index],
                "seed {seed}, tick {}: the replay is another world ({saves} restores so far)",
                step.tick
            );
            if rng.one_in(16) {
                saves += 1;
                replay = Typed::restore(&self.game, &replay.checkpoint())
                    .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            }
        }
        self
    }
}
