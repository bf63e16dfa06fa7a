//! Runs a game in a test: bots, scripted clients, steps, replay, without a node.
//!
//! ```
//! # use rekindle_sim::doc_game::Duel;
//! use rekindle_sim::Harness;
//!
//! Harness::<Duel>::new(7).bots(2).run(300).assert_replay_identical();
//! ```
//!
//! [`property`] plays many such matches by chance and makes a sequence that fails short;
//! [`recorded`] plays what a node has recorded.

mod chance;
pub(crate) mod property;
mod recorded;
pub(crate) mod script;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{
    AppliedCommand, AppliedInput, Beat, Effect, Event, Join, Leave, LeaveReason, Step,
};
use rekindle_schema::{PlayerId, SessionId, StateHash, Tick};

use self::property::quietly;
use self::script::{Client, Move};
use crate::ecs::workers::Workers;
use crate::ecs::world::World;
use crate::game::builder::Game;
use crate::game::matches::Match;
use crate::game::net::View;
use crate::game::players::Players;
use crate::game::simulation::{GameType, SimError, Simulation, StepOutput};
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
    /// The checkpoint with which the match began. `None`: it was made anew.
    origin: Option<Bytes>,
    /// The world was changed by the test since the last tick.
    staged: bool,
    running: Match<G>,
    bots: Vec<(PlayerId, Vec<u8>)>,
    clients: Vec<Client<G>>,
    next: Step,
    sequences: u64,
    steps: Vec<Step>,
    hashes: Vec<StateHash>,
    outputs: Vec<StepOutput>,
    view: NetView,
    /// Of a bug report: the steps that are still to be made, and the hashes that belong to them.
    recorded: (VecDeque<Step>, VecDeque<Beat>),
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
        Self::of(game, (config, seed, tick_rate), running)
    }

    fn of(game: Typed<G>, made: (Bytes, u64, u16), running: Match<G>) -> Self {
        let (config, seed, tick_rate) = made;
        Self {
            game,
            config,
            seed,
            tick_rate,
            origin: None,
            staged: false,
            running,
            bots: Vec::new(),
            clients: Vec::new(),
            next: Step::default(),
            sequences: 0,
            steps: Vec::new(),
            hashes: Vec::new(),
            outputs: Vec::new(),
            view: NetView::default(),
            recorded: Default::default(),
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

    /// A scripted client: the player joins in the next tick, and before each tick from then on
    /// `script` says what the player does, by the number of that tick and by what a client sees.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Ask, Duel, Run};
    /// use rekindle_sim::{Harness, Move, PlayerId};
    ///
    /// let duel = Harness::<Duel>::new(7)
    ///     .client(PlayerId(1), |tick, _view| match tick.0 {
    ///         2..=31 => vec![Move::Input(Run::Right)],
    ///         32 => vec![Move::Command(Ask::Home), Move::Input(Run::Stay)],
    ///         60 => vec![Move::Leave],
    ///         _ => vec![],
    ///     })
    ///     .bots(1)
    ///     .run(60);
    /// assert_eq!(duel.steps()[31].commands.len(), 1);
    /// assert_eq!(duel.steps()[59].leaves.len(), 1);
    /// duel.assert_replay_identical();
    /// ```
    #[must_use]
    pub fn client(
        mut self,
        player: PlayerId,
        script: impl FnMut(Tick, &View<'_>) -> Vec<Move<G>> + 'static,
    ) -> Self {
        self.join(player);
        self.clients.push(Client::new(player, script));
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

    /// Makes all ticks up to this one.
    pub fn run_to(&mut self, tick: Tick) {
        while self.running.tick() < tick {
            self.tick();
        }
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
        let session = self.session(player);
        self.next.leaves.push(Leave { player, session, reason: LeaveReason::Left });
        self.bots.retain(|(bot, _)| *bot != player);
        self.clients.retain(|client| client.player != player);
    }

    /// A player's input for the next tick.
    pub fn input(&mut self, player: PlayerId, input: &G::Input) {
        self.raw_input(player, to_bytes(input).into());
    }

    /// A player's command for the next tick.
    pub fn command(&mut self, player: PlayerId, command: &G::Command) {
        self.raw_command(player, to_bytes(command).into());
    }

    /// A player's input for the next tick, by its fields as `rekindle journal` prints them.
    pub fn input_json(&mut self, player: PlayerId, json: &str) {
        let bytes = spelled(json, |fields| self.game.payloads().input_from(fields));
        self.raw_input(player, bytes);
    }

    /// A player's command for the next tick, by its fields as `rekindle journal` prints them.
    pub fn command_json(&mut self, player: PlayerId, json: &str) {
        let bytes = spelled(json, |fields| self.game.payloads().command_from(fields));
        self.raw_command(player, bytes);
    }

    /// As [`Harness::input_json`], for what JSON cannot say: the encoded input.
    pub fn input_bytes(&mut self, player: PlayerId, bytes: &[u8]) {
        self.raw_input(player, Bytes::copy_from_slice(bytes));
    }

    /// As [`Harness::command_json`], for what JSON cannot say: the encoded command.
    pub fn command_bytes(&mut self, player: PlayerId, bytes: &[u8]) {
        self.raw_command(player, Bytes::copy_from_slice(bytes));
    }

    fn raw_command(&mut self, player: PlayerId, payload: Bytes) {
        self.sequences += 1;
        let (seq, session) = (self.sequences, self.session(player));
        self.next.commands.push(AppliedCommand { player, session, seq, payload });
    }

    /// The session of a player: that of whoever joined here has the player's number, that of a bug
    /// report its own.
    fn session(&self, player: PlayerId) -> SessionId {
        let players = self.running.world().resource::<Players>();
        players.get(player).map_or(SessionId(player.0), |known| known.session)
    }

    fn raw_input(&mut self, player: PlayerId, payload: Bytes) {
        self.sequences += 1;
        let (seq, view_tick) = (self.sequences, self.running.tick());
        let session = self.session(player);
        self.next.inputs.retain(|input| input.player != player);
        self.next.inputs.push(AppliedInput { player, session, seq, view_tick, payload });
    }

    /// Makes one tick, and returns what it brought forth.
    pub fn tick(&mut self) -> &StepOutput {
        if let Err(error) = self.try_tick() {
            panic!("seed {}: {}", self.seed, self.at_entity(error));
        }
        &self.outputs[self.outputs.len() - 1]
    }

    /// Makes one tick. After an error the match is of no more use.
    fn try_tick(&mut self) -> Result<(), SimError> {
        if std::mem::take(&mut self.staged) && self.steps.is_empty() {
            self.origin = Some(self.running.checkpoint());
        }
        if !self.bots.is_empty() || !self.clients.is_empty() {
            self.ask_all();
        }
        let mut step = std::mem::take(&mut self.next);
        step.tick = self.running.tick().next();
        step.joins.sort_by_key(|join| join.player);
        step.leaves.sort_by_key(|leave| leave.player);
        step.inputs.sort_by_key(|input| input.player);
        step.commands.sort_by_key(|command| (command.player, command.seq));
        self.make(step)
    }

    fn make(&mut self, step: Step) -> Result<(), SimError> {
        let output = self.running.step(&step);
        // Also the one that failed: it belongs to the sequence.
        self.steps.push(step);
        self.outputs.push(output?);
        self.hashes.push(self.running.state_hash());
        Ok(())
    }

    /// The error with which the last step failed, with the entity at which it did: all steps are
    /// made again for that.
    fn at_entity(&self, error: SimError) -> SimError {
        let Some((last, before)) = self.steps.split_last() else { return error };
        let mut again = self.anew();
        if before.iter().any(|step| again.step(step).is_err()) {
            return error;
        }
        quietly(|| self.game.at_entity(&again.checkpoint(), last, error))
    }

    /// Asks bots and scripted clients what they do in the next tick.
    fn ask_all(&mut self) {
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
        self.bots = bots;
        let tick = self.running.tick().next();
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| {
            let seen = view.seen_by(client.player);
            let moves = client.ask(tick, &View::new(self.game.net_schema(), &seen));
            let stays = !moves.iter().any(|made| matches!(made, Move::Leave));
            for made in moves {
                match made {
                    Move::Input(input) => self.input(client.player, &input),
                    Move::Command(command) => self.command(client.player, &command),
                    Move::Leave => self.leave(client.player),
                }
            }
            stays
        });
        (self.clients, self.view) = (clients, view);
    }

    /// The world.
    pub fn world(&self) -> &World {
        self.running.world()
    }

    /// The world, to set a scene: do it before the first tick of a match whose replay is compared.
    pub fn world_mut(&mut self) -> &mut World {
        self.staged = true;
        self.running.world_mut()
    }

    /// A value that the game declares under a name, as it stands: see
    /// [`GameBuilder::calculation`](crate::GameBuilder::calculation). The test fails if there is
    /// none of this name and type.
    ///
    /// ```
    /// # use rekindle_sim::doc_game::Duel;
    /// use rekindle_sim::Harness;
    ///
    /// let duel = Harness::<Duel>::with_config(7, r#"{"coins": 12}"#).bots(2).run(60);
    /// duel.assert_valid();
    /// assert_eq!(duel.value::<u64>("coins"), 12);
    /// ```
    pub fn value<T: 'static>(&self, name: &str) -> T {
        self.world().value(name)
    }

    /// All validations of the game hold now, also those that are not due.
    ///
    /// # Panics
    /// If one does not, with what it says.
    pub fn assert_valid(&self) -> &Self {
        let (broken, tick) = (self.world().broken(), self.world().tick());
        assert!(broken.is_empty(), "seed {}, tick {tick}: {broken:?}", self.seed);
        self
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

    /// The match as it was before its first tick.
    fn anew(&self) -> Match<G> {
        let made = match &self.origin {
            Some(checkpoint) => Typed::restore(&self.game, checkpoint),
            None => Typed::create_at(&self.game, &self.config, self.seed, self.tick_rate),
        };
        made.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Plays the same steps again in a second match, which is saved and restored on the way, and
    /// compares output and hash of every tick.
    ///
    /// # Panics
    /// At the first tick that differs: the game depends on something that is not in its state.
    pub fn assert_replay_identical(&self) -> &Self {
        let mut rng = crate::Rng::stream(self.seed, Tick(0), 1);
        self.assert_replay(|| rng.one_in(16))
    }

    /// As [`Harness::assert_replay_identical`], with a restore after every tick: whatever a tick
    /// needs and a checkpoint has not shows in that very tick. Slower.
    ///
    /// # Panics
    /// At the first tick that differs.
    pub fn assert_each_tick_restored_identical(&self) -> &Self {
        self.assert_replay(|| true)
    }

    fn assert_replay(&self, mut restores: impl FnMut() -> bool) -> &Self {
        let (seed, mut saves) = (self.seed, 0u64);
        let mut replay = self.anew();
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
            if restores() {
                saves += 1;
                replay = Typed::restore(&self.game, &replay.checkpoint())
                    .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            }
        }
        self
    }
}

/// The bytes that JSON text spells.
fn spelled(json: &str, read: impl FnOnce(&serde_json::Value) -> Result<Vec<u8>, String>) -> Bytes {
    let fields = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    read(&fields).unwrap_or_else(|problem| panic!("{json}: {problem}")).into()
}
