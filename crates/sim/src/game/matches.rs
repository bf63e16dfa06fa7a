//! A match of a game, and the game as a type of matches: how everything above this crate sees them.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::record::{AppliedCommand, Effect, Join, Leave, Step};
use rekindle_schema::{PlayerId, StateHash, Tick};

use crate::ecs::world::{Constants, World};
use crate::game::builder::{Built, Game};
use crate::game::config;
use crate::game::inputs::{InputSet, PlayerInput};
use crate::game::net::{self, View};
use crate::game::players::{Player, Players};
use crate::game::simulation::{GameType, Probe, SessionState, SimError, Simulation, StepOutput};
use crate::game::sketch::Sketch;
use crate::persist::checkpoint;
use crate::persist::delta;
use crate::persist::migrate;
use crate::storage::layout::Marks;
use crate::value::{self, Reader};

/// A running match of `G`: its world and the effects that no sink has acknowledged yet.
pub struct Match<G: Game> {
    built: Arc<Built<G>>,
    world: World,
    /// The configuration as JSON, with all its keys.
    config: Bytes,
    effects: Vec<Effect>,
    probe: Arc<Probe>,
    /// How often the world was changed outside of steps: change stamps do not tell what was.
    edits: u64,
}

/// What a probe names besides systems: the game's own functions that a step calls.
const CALLBACKS: [&str; 3] = ["leave", "join", "command"];

impl<G: Game> Match<G> {
    fn new(game: &Typed<G>, config: &Configured<G>, seed: u64, tick_rate: u16) -> Self {
        let (built, systems) = (Arc::clone(&game.built), Arc::clone(&game.names));
        let count = built.schedule.names().len();
        Self {
            world: World::new(
                Arc::clone(&built.registry),
                Arc::clone(&config.constants),
                count,
                seed,
                tick_rate,
            ),
            built,
            config: config.bytes.clone(),
            effects: Vec::new(),
            probe: Arc::new(Probe {
                tick: AtomicU64::new(0),
                system: AtomicUsize::new(0),
                systems,
            }),
            edits: 0,
        }
    }

    /// The world, to look at.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The world, to change in tests: a change outside of steps is not in any journal.
    pub fn world_mut(&mut self) -> &mut World {
        self.edits += 1;
        &mut self.world
    }

    /// Moves the match to a later tick without making those between: tests of very long matches
    /// start there.
    #[doc(hidden)]
    pub fn skip_to(&mut self, tick: Tick) {
        self.edits += 1;
        self.world.tick = tick;
    }

    fn callback(&self, index: usize) {
        self.probe.system.store(self.built.schedule.names().len() + index, Ordering::Release);
    }

    fn apply(&mut self, step: &Step) -> StepOutput {
        debug_assert!(step.is_canonical(), "the step of tick {} is not in order", step.tick);
        self.world.begin(step.tick);
        self.effects.retain(|effect| !step.effects_done.contains(&effect.id));
        // A session that ends in the tick in which it begins is entered first; one that makes room
        // for its player's next goes first.
        let (early, late): (Vec<_>, Vec<_>) =
            step.leaves.iter().partition(|leave| self.is_session(leave.player, leave));
        for leave in early {
            self.leave(leave);
        }
        for join in &step.joins {
            self.join(join);
        }
        for leave in late {
            self.leave(leave);
        }
        let commands = step.commands.iter().map(|command| self.command(command)).collect();
        self.take_inputs(step);
        let (schedule, probe) = (&self.built.schedule, &self.probe);
        schedule.run(&mut self.world, |index| probe.system.store(index, Ordering::Release));
        self.world.canonicalise();
        let outbox = std::mem::take(self.world.outbox.get_mut());
        self.effects.extend_from_slice(&outbox.effects);
        StepOutput { events: outbox.events, effects: outbox.effects, commands, ended: outbox.ended }
    }

    fn is_session(&self, player: PlayerId, leave: &Leave) -> bool {
        self.world
            .resource::<Players>()
            .get(player)
            .is_some_and(|known| known.session == leave.session)
    }

    fn leave(&mut self, leave: &Leave) {
        if self.is_session(leave.player, leave) {
            self.callback(0);
            G::leave(&mut self.world, leave.player, leave.reason);
            self.world.resource_mut::<Players>().leave(leave.player);
        }
    }

    fn join(&mut self, join: &Join) {
        let avatar = self.world.resource::<Players>().get(join.player).map(|known| known.avatar);
        let mut player = Player::new(join.player, join.session, &join.name);
        player.avatar = avatar.unwrap_or_default();
        self.world.resource_mut::<Players>().enter(player);
        // A player who is there under another session goes on with the new one.
        if avatar.is_none() {
            self.callback(1);
            G::join(&mut self.world, join.player);
        }
    }

    fn command(&mut self, command: &AppliedCommand) -> bool {
        {
            let mut players = self.world.resource_mut::<Players>();
            let Some(player) = players.get_mut(command.player) else { return false };
            if player.session != command.session || command.seq <= player.last_command {
                return false;
            }
            player.last_command = command.seq;
        }
        let Ok(payload) = value::from_bytes(&command.payload) else { return false };
        self.callback(2);
        G::command(&mut self.world, command.player, payload)
    }

    fn take_inputs(&mut self, step: &Step) {
        let mut set = std::mem::replace(&mut self.world.inputs, Box::new(()));
        if !set.is::<InputSet<G::Input>>() {
            set = Box::new(InputSet::<G::Input>(Vec::new()));
        }
        if let Some(InputSet(inputs)) = set.downcast_mut::<InputSet<G::Input>>() {
            inputs.clear();
            if !step.inputs.is_empty() {
                let mut players = self.world.resource_mut::<Players>();
                for applied in &step.inputs {
                    let Some(player) = players.get_mut(applied.player) else { continue };
                    let Ok(input) = value::from_bytes(&applied.payload) else { continue };
                    if player.session == applied.session && applied.seq > player.last_input {
                        player.last_input = applied.seq;
                        inputs.push(PlayerInput {
                            player: applied.player,
                            view_tick: applied.view_tick,
                            input,
                        });
                    }
                }
                // The canonical order of a step is ascending by player already.
                inputs.sort_by_key(|input| input.player);
                debug_assert!(inputs.is_sorted_by(|a, b| a.player < b.player));
            }
        }
        self.world.inputs = set;
    }
}

/// What builds with debug assertions check at each checkpoint: it costs as much as the checkpoint.
#[cfg(debug_assertions)]
impl<G: Game> Match<G> {
    /// Panics if `state`, which was just encoded, does not come back as the same bytes. A world
    /// that was edited outside of steps may hold values that are not in canonical form yet.
    fn assert_restorable(&self, state: &[u8]) {
        if self.edits > 0 {
            return;
        }
        let world = &self.world;
        let restored = || {
            let head = checkpoint::decode_head(state)?;
            let mut input = Reader::new(head.body);
            let start = checkpoint::decode_start(&mut input).map_err(|error| error.to_string())?;
            let mut copy = World::new(
                Arc::clone(&world.registry),
                Arc::clone(&world.constants),
                world.last_runs.len(),
                start.seed,
                start.tick_rate,
            );
            copy.stand_at(start.tick);
            let effects = checkpoint::decode_world(&mut copy, &mut input)?;
            input.finish().map_err(|error| error.to_string())?;
            if !copy.stamps_are_past() {
                return Err("it has changes that are newer than its tick".to_owned());
            }
            let mut again = Vec::with_capacity(state.len());
            checkpoint::encode_head(&head.game, head.schema, &mut again);
            checkpoint::encode_body(&copy, start.config, &effects, &mut again, None);
            Ok::<_, String>(again)
        };
        match restored() {
            Ok(again) => {
                let place = again.iter().zip(state).position(|(a, b)| a != b);
                assert!(
                    again == state,
                    "tick {}: the checkpoint comes back with other bytes, from byte {place:?} on",
                    world.tick
                );
            }
            Err(problem) => {
                panic!("tick {}: the checkpoint does not come back: {problem}", world.tick)
            }
        }
    }

    /// Panics if `operations`, carried out on `base`, do not make the bytes of a checkpoint of now.
    fn assert_leads_here(&self, base: &[u8], operations: &[u8]) {
        let (_, state) = rekindle_schema::delta::seal(base, operations)
            .unwrap_or_else(|error| panic!("tick {}: {error}", self.world.tick));
        let mut now = Vec::with_capacity(state.len());
        checkpoint::encode_head(G::NAME, &self.built.schema, &mut now);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut now, None);
        let place = now.iter().zip(&state).position(|(a, b)| a != b);
        assert!(
            now == state,
            "tick {}: what changed does not lead to the checkpoint, from byte {place:?} on",
            self.world.tick
        );
    }
}

/// Runs game code; a panic becomes what it said.
fn guarded<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

impl<G: Game> Simulation for Match<G> {
    fn tick(&self) -> Tick {
        self.world.tick
    }

    fn step(&mut self, step: &Step) -> Result<StepOutput, SimError> {
        if step.tick != self.world.tick.next() {
            return Err(SimError::OutOfOrder { at: self.world.tick, got: step.tick });
        }
        self.probe.tick.store(step.tick.0 + 1, Ordering::Release);
        let result = guarded(|| self.apply(step));
        let system = self
            .probe
            .systems
            .get(self.probe.system.load(Ordering::Acquire))
            .cloned()
            .unwrap_or_default();
        self.probe.tick.store(0, Ordering::Release);
        result.map_err(|message| SimError::Panicked { system, tick: step.tick, message })
    }

    fn state_hash(&self) -> StateHash {
        let mut body = Vec::with_capacity(16 << 10);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut body, None);
        StateHash(*blake3::hash(&body).as_bytes())
    }

    fn checkpoint(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.built.schema.len() + (16 << 10));
        checkpoint::encode_head(G::NAME, &self.built.schema, &mut out);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut out, None);
        #[cfg(debug_assertions)]
        self.assert_restorable(&out);
        out.into()
    }

    fn capture(&self) -> (Bytes, Marks) {
        let mut marks = Marks::new(self.world.tick, self.edits);
        let mut out = Vec::with_capacity(self.built.schema.len() + (16 << 10));
        checkpoint::encode_head(G::NAME, &self.built.schema, &mut out);
        checkpoint::encode_body(
            &self.world,
            &self.config,
            &self.effects,
            &mut out,
            Some(&mut marks),
        );
        #[cfg(debug_assertions)]
        self.assert_restorable(&out);
        (out.into(), marks)
    }

    fn changes(&self, base: &[u8], marks: &Marks, limit: usize) -> Option<(Vec<u8>, Marks)> {
        let (world, config, effects) = (&self.world, &self.config, &self.effects);
        let found = delta::encode(world, config, effects, self.edits, base, marks, limit)?;
        #[cfg(debug_assertions)]
        self.assert_leads_here(base, &found.0);
        Some(found)
    }

    fn extract(&self, view: &mut NetView) {
        net::extract(&self.world, self.built.net.stride(), view);
    }

    fn sessions(&self) -> Vec<SessionState> {
        let players = self.world.resource::<Players>();
        let session = |player: &Player| SessionState {
            player: player.id,
            session: player.session,
            last_input: player.last_input,
            last_command: player.last_command,
        };
        players.iter().map(session).collect()
    }

    fn open_effects(&self) -> Vec<Effect> {
        self.effects.clone()
    }

    fn probe(&self) -> Arc<Probe> {
        Arc::clone(&self.probe)
    }

    fn describe(&self) -> serde_json::Value {
        crate::persist::describe::world(&self.world)
    }
}

/// The hash of the state that a checkpoint holds, from its bytes alone: what
/// [`Simulation::state_hash`] says after a restore, for the price of reading the bytes once. `None`
/// if they are no checkpoint.
pub fn checkpoint_hash(bytes: &[u8]) -> Option<StateHash> {
    checkpoint::decode_head(bytes).ok().map(|head| StateHash(*blake3::hash(head.body).as_bytes()))
}

/// A game as a type of matches.
pub struct Typed<G: Game> {
    built: Arc<Built<G>>,
    /// What probes can name.
    names: Arc<[String]>,
    /// Configurations that were asked for lately, by their bytes: bots and edges ask again and
    /// again, and matches share the constants.
    configs: Mutex<BTreeMap<Vec<u8>, Arc<Configured<G>>>>,
}

/// How many configurations are kept.
const CONFIGS: usize = 64;

/// A configuration and what is computed from it alone.
struct Configured<G: Game> {
    config: Arc<G::Config>,
    /// As JSON, with all its keys.
    bytes: Bytes,
    constants: Arc<Constants>,
}

impl<G: Game> Typed<G> {
    /// Puts the parts of the game together; or says all that is wrong with them.
    pub fn new() -> Result<Self, SimError> {
        let built = guarded(Built::new).map_err(|problem| SimError::Schedule {
            game: G::NAME.to_owned(),
            problem: format!("`Game::build` panicked: {problem}"),
        })??;
        let names =
            built.schedule.names().map(str::to_owned).chain(CALLBACKS.map(str::to_owned)).collect();
        Ok(Self { built: Arc::new(built), names, configs: Mutex::default() })
    }

    fn config(&self, bytes: &[u8]) -> Result<Arc<Configured<G>>, SimError> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(bytes) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(config::parse::<G>(bytes, &self.built.former)?);
        let constants =
            guarded(|| self.built.constants(Arc::clone(&config))).map_err(|problem| {
                SimError::Config {
                    game: G::NAME.to_owned(),
                    problem: format!("computing a constant from it panicked: {problem}"),
                }
            })?;
        let config =
            Arc::new(Configured { bytes: config::to_bytes::<G>(&config)?, config, constants });
        if configs.len() >= CONFIGS {
            configs.clear();
        }
        configs.insert(bytes.to_vec(), Arc::clone(&config));
        Ok(config)
    }

    /// As [`GameType::create`], with the type kept.
    pub fn create(&self, config: &[u8], seed: u64) -> Result<Match<G>, SimError> {
        let config = self.config(config)?;
        let mut made = Match::new(self, &config, seed, G::TICK_RATE);
        guarded(|| G::setup(&mut made.world, &config.config)).map_err(|message| {
            SimError::Panicked { system: "setup".to_owned(), tick: Tick(0), message }
        })?;
        made.world.canonicalise();
        // Nobody listens at tick 0: what setup says is said by no step.
        *made.world.outbox.get_mut() = Default::default();
        Ok(made)
    }

    /// As [`GameType::restore`], with the type kept.
    pub fn restore(&self, bytes: &[u8]) -> Result<Match<G>, SimError> {
        let fail = |problem: String| SimError::Checkpoint { game: G::NAME.to_owned(), problem };
        let head = checkpoint::decode_head(bytes).map_err(fail)?;
        if head.game != G::NAME {
            return Err(fail(format!("it is of game `{}`", head.game)));
        }
        let mut input = Reader::new(head.body);
        let start =
            checkpoint::decode_start(&mut input).map_err(|error| fail(error.to_string()))?;
        let mut made = Match::new(self, &*self.config(start.config)?, start.seed, start.tick_rate);
        made.world.stand_at(start.tick);
        made.effects = if head.schema == self.built.schema {
            checkpoint::decode_world(&mut made.world, &mut input).map_err(fail)?
        } else {
            let old = checkpoint::Schema::from_bytes(head.schema)
                .map_err(|error| fail(format!("schema: {error}")))?;
            let names: Vec<_> = self.built.schedule.names().collect();
            // The game's own hook runs in there.
            let result = guarded(|| {
                migrate::decode_world(
                    &mut made.world,
                    &old,
                    &names,
                    &self.built.retired,
                    &mut input,
                )
            });
            result
                .unwrap_or_else(|message| Err(format!("`migrate` panicked: {message}")))
                .map_err(fail)?
        };
        input.finish().map_err(|error| fail(error.to_string()))?;
        if !made.world.stamps_are_past() {
            return Err(fail(format!(
                "it has changes that are newer than its tick {}",
                start.tick
            )));
        }
        Ok(made)
    }
}

impl<G: Game> GameType for Typed<G> {
    fn name(&self) -> &'static str {
        G::NAME
    }

    fn net_schema(&self) -> &NetSchema {
        &self.built.net
    }

    fn tick_rate(&self) -> u16 {
        G::TICK_RATE
    }

    fn max_players(&self, config: &[u8]) -> usize {
        self.config(config).map_or(0, |config| G::max_players(&config.config))
    }

    fn config_from_json(&self, json: &str) -> Result<Bytes, SimError> {
        config::to_bytes::<G>(&config::parse::<G>(json.as_bytes(), &self.built.former)?)
    }

    fn create(&self, config: &[u8], seed: u64) -> Result<Box<dyn Simulation>, SimError> {
        Ok(Box::new(Self::create(self, config, seed)?))
    }

    fn restore(&self, checkpoint: &[u8]) -> Result<Box<dyn Simulation>, SimError> {
        Ok(Box::new(Self::restore(self, checkpoint)?))
    }

    fn checkpoint_hash(&self, checkpoint: &[u8]) -> Option<StateHash> {
        checkpoint_hash(checkpoint)
    }

    fn accepts_input(&self, payload: &[u8]) -> bool {
        value::from_bytes::<G::Input>(payload).is_ok()
    }

    fn accepts_command(&self, payload: &[u8]) -> bool {
        value::from_bytes::<G::Command>(payload).is_ok()
    }

    fn bot(
        &self,
        player: PlayerId,
        view: &NetView,
        config: &[u8],
        state: &mut Vec<u8>,
    ) -> Option<Bytes> {
        let config = self.config(config).ok()?;
        let mut memory = value::from_bytes(state).unwrap_or_else(|_| value::Value::initial());
        let input = G::bot(player, &View::new(&self.built.net, view), &config.config, &mut memory);
        *state = value::to_bytes(&memory);
        Some(value::to_bytes(&input?).into())
    }

    fn sketch(&self, view: &NetView, config: &[u8]) -> Option<Sketch> {
        G::sketch(&View::new(&self.built.net, view), &self.config(config).ok()?.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entity;
    use crate::SessionId;
    use crate::game::doc_game::{Coin, Duel, Position};
    use crate::storage::column::Column;

    fn duel() -> Match<Duel> {
        let game = Typed::<Duel>::new().unwrap_or_else(|error| panic!("{error}"));
        game.create(b"", 7).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Breaks a world behind its back, as a bug would.
    fn coins(made: &mut Match<Duel>) -> &mut Column<Coin> {
        let index = made.world.registry.components.of::<Coin>().unwrap();
        made.world.columns[index].as_any_mut().downcast_mut().unwrap()
    }

    #[test]
    fn a_sound_world_comes_back_and_what_changed_leads_to_it() {
        let mut made = duel();
        let (base, marks) = made.capture();
        for tick in 1..=40 {
            made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
        }
        made.checkpoint();
        assert!(made.changes(&base, &marks, usize::MAX).is_some());
    }

    #[test]
    #[should_panic(expected = "the checkpoint does not come back: component `coin`")]
    fn a_component_without_an_entity_is_noticed() {
        let mut made = duel();
        let first = made.world.entities.in_slot(0);
        made.world.entities.free(first);
        made.checkpoint();
    }

    #[test]
    #[should_panic(expected = "it has changes that are newer than its tick")]
    fn a_stamp_of_tomorrow_is_noticed() {
        let mut made = duel();
        made.world.last_runs[0] = u32::MAX;
        made.checkpoint();
    }

    #[test]
    #[should_panic(expected = "what changed does not lead to the checkpoint")]
    fn a_change_without_a_stamp_is_noticed() {
        let mut made = duel();
        let (base, marks) = made.capture();
        if let Some((coin, _)) = coins(&mut made).get_mut(0) {
            coin.worth = 9;
        }
        made.changes(&base, &marks, usize::MAX);
    }

    #[test]
    #[should_panic(expected = "the base is a checkpoint of tick 0, its marks are of tick 3")]
    fn marks_of_another_checkpoint_are_noticed() {
        let mut made = duel();
        let (base, mut marks) = made.capture();
        for tick in 1..=4 {
            made.step(&Step { tick: Tick(tick), ..Step::default() }).unwrap();
        }
        marks.tick = Tick(3);
        made.changes(&base, &marks, usize::MAX);
    }

    #[test]
    fn a_step_that_is_not_in_order_stops_the_match() {
        let mut made = duel();
        let join = |player| Join {
            player: PlayerId(player),
            session: SessionId(player),
            name: String::new(),
        };
        let step = Step { tick: Tick(1), joins: vec![join(2), join(1)], ..Step::default() };
        let problem = made.step(&step).unwrap_err().to_string();
        assert!(problem.contains("the step of tick 1 is not in order"), "{problem}");
    }

    #[test]
    fn a_checkpoint_with_changes_of_tomorrow_is_refused() {
        let mut made = duel();
        made.world.get_mut::<Position>(Entity::from_parts(0, 0)).unwrap().x = 1.0;
        made.edits = 1;
        made.world.last_runs[0] = u32::MAX;
        let game = Typed::<Duel>::new().unwrap();
        let problem = game.restore(&made.checkpoint()).err().unwrap().to_string();
        assert!(problem.contains("newer than its tick 0"), "{problem}");
    }
}
