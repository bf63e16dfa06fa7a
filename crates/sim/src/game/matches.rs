//! A running match of a game: its world, and how a step makes the next tick of it.
//!
//! Made by [`crate::game::typed`]. Everything above this crate sees it as a [`Simulation`].

#[cfg(debug_assertions)]
mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{AppliedCommand, Effect, Join, Leave, Step};
use rekindle_schema::{PlayerId, StateHash, Tick};

use crate::ecs::limit::at_entity;
use crate::ecs::query::parallel::said;
use crate::ecs::stats::StatisticView;
use crate::ecs::values::{Broken, ValidationView, ValueView};
use crate::ecs::watch::{StepPart, StepWatch, Watched};
use crate::ecs::workers::Workers;
use crate::ecs::world::World;
use crate::game::builder::{Built, Game};
use crate::game::config::Configured;
use crate::game::inputs::{InputSet, PlayerInput};
use crate::game::net;
use crate::game::players::{Player, Players};
use crate::game::simulation::{Probe, SessionState, SimError, Simulation, StepOutput};
use crate::persist::{checkpoint, delta, parts};
use crate::storage::layout::Marks;
use crate::value;
use crate::value::entity::Entity;

/// A running match of `G`: its world and the effects that no sink has acknowledged yet.
pub struct Match<G: Game> {
    built: Arc<Built<G>>,
    pub(crate) world: World,
    /// The configuration as JSON, with all its keys.
    config: Bytes,
    pub(crate) effects: Vec<Effect>,
    /// What the checkpoint that the match was restored from had, and this build has not.
    pub(crate) dropped: Vec<String>,
    /// What entities got when it was restored, because this build requires it.
    pub(crate) filled: Vec<String>,
    probe: Arc<Probe>,
    /// How often the world was changed outside of steps: change stamps do not tell what was.
    edits: u64,
}

/// What a probe names besides systems: the game's own functions that a step calls.
pub(crate) const CALLBACKS: [&str; 3] = ["leave", "join", "command"];

impl<G: Game> Match<G> {
    /// A match with an empty world at tick 0. `names` are what probes can name: the systems in
    /// schedule order, then [`CALLBACKS`], then the hooks.
    pub(crate) fn new(
        built: Arc<Built<G>>,
        names: Arc<[String]>,
        config: &Configured<G>,
        seed: u64,
        tick_rate: u16,
    ) -> Self {
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
            dropped: Vec::new(),
            filled: Vec::new(),
            probe: Arc::new(Probe {
                tick: AtomicU64::new(0),
                system: AtomicUsize::new(0),
                systems: names,
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
        self.world.validate_all();
        &mut self.world
    }

    /// Moves the match to a later tick without making those between: tests of very long matches
    /// start there.
    #[doc(hidden)]
    pub fn skip_to(&mut self, tick: Tick) {
        self.edits += 1;
        self.world.validate_all();
        self.world.tick = tick;
    }

    fn callback(&self, index: usize) {
        self.probe.system.store(self.built.schedule.names().len() + index, Ordering::Release);
    }

    /// The step is at a callback of an extension: they are the last of all names.
    fn extension_callback(&self, index: usize) {
        let first = self.probe.systems.len() - 2 * self.built.extensions.0.len();
        self.probe.system.store(first + index, Ordering::Release);
    }

    /// Makes the tick of `step`. The error is a validation that stops the match.
    fn apply(
        &mut self,
        step: &Step,
        watch: Option<&mut dyn StepWatch>,
    ) -> Result<StepOutput, Broken> {
        let mut watched = Watched::new(watch, self.built.schedule.names().len());
        watched.start();
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
        let running = |index| probe.system.store(index, Ordering::Release);
        let hooks = schedule.names().len() + CALLBACKS.len();
        let hook_running = |index: usize| running(hooks + index);
        self.world.settle_begin(&hook_running);
        schedule.run(&mut self.world, running, &hook_running, &mut watched);
        watched.stages_over();
        self.world.count_events();
        self.world.canonicalise();
        let broken = self.validate()?;
        let mut outbox = std::mem::take(self.world.outbox.get_mut());
        if !self.built.delivered.is_empty() {
            outbox.deliver(&self.built.delivered);
        }
        self.effects.extend_from_slice(&outbox.effects);
        Ok(StepOutput {
            events: outbox.events,
            effects: outbox.effects,
            commands,
            broken,
            ended: outbox.ended,
        })
    }

    /// Checks the validations that are due: those that do not hold, or the first that stops the
    /// match.
    fn validate(&mut self) -> Result<Vec<Broken>, Broken> {
        let registry = &self.built.registry;
        if registry.validations.is_empty() {
            return Ok(Vec::new());
        }
        let systems = self.built.schedule.names().len() + CALLBACKS.len();
        let first = systems + registry.hooks.names().len() + registry.machines.len();
        let probe = &self.probe;
        self.world.check_validations(|place| probe.system.store(first + place, Ordering::Release))
    }

    /// Makes the next tick; `watch` is told what it does.
    fn make(
        &mut self,
        step: &Step,
        watch: Option<&mut dyn StepWatch>,
    ) -> Result<StepOutput, SimError> {
        if step.tick != self.world.tick.next() {
            return Err(SimError::OutOfOrder { at: self.world.tick, got: step.tick });
        }
        self.probe.tick.store(step.tick.0 + 1, Ordering::Release);
        let result = guarded(|| self.apply(step, watch));
        self.probe.tick.store(0, Ordering::Release);
        match result {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(Broken { validation, problem })) => {
                Err(SimError::Broken { validation, tick: step.tick, problem })
            }
            Err(message) => {
                let index = self.probe.system.load(Ordering::Acquire);
                let system = self.probe.systems.get(index).cloned().unwrap_or_default();
                let message = match self.world.told_of {
                    entity if self.is_told_of(index) => at_entity(&message, entity),
                    _ => message,
                };
                Err(SimError::Panicked { system, tick: step.tick, message })
            }
        }
    }

    /// Whether what a probe names is called for one entity: a hook, or a machine of entities.
    fn is_told_of(&self, index: usize) -> bool {
        let (registry, systems) = (&self.built.registry, self.built.schedule.names().len());
        let first = systems + CALLBACKS.len();
        let called = first..first + registry.hooks.names().len() + registry.machines.len();
        called.contains(&index) && self.world.told_of != Entity::NONE
    }

    fn is_session(&self, player: PlayerId, leave: &Leave) -> bool {
        self.world
            .resource::<Players>()
            .get(player)
            .is_some_and(|known| known.session == leave.session)
    }

    fn leave(&mut self, leave: &Leave) {
        if self.is_session(leave.player, leave) {
            for (place, extension) in self.built.extensions.0.iter().enumerate() {
                self.extension_callback(place);
                extension.leave(&mut self.world, leave.player, leave.reason);
            }
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
            let extensions = &self.built.extensions.0;
            for (place, extension) in extensions.iter().enumerate() {
                self.extension_callback(extensions.len() + place);
                extension.join(&mut self.world, join.player);
            }
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
                inputs.sort_unstable_by_key(|input| input.player);
                debug_assert!(inputs.is_sorted_by(|a, b| a.player < b.player));
            }
        }
        self.world.inputs = set;
    }
}

/// Runs game code; a panic becomes what it said.
pub(crate) fn guarded<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| said(&*payload))
}

impl<G: Game> Simulation for Match<G> {
    fn tick(&self) -> Tick {
        self.world.tick
    }

    fn step(&mut self, step: &Step) -> Result<StepOutput, SimError> {
        self.make(step, None)
    }

    fn step_watched(
        &mut self,
        step: &Step,
        watch: &mut dyn StepWatch,
    ) -> Result<StepOutput, SimError> {
        self.make(step, Some(watch))
    }

    fn set_workers(&mut self, workers: Option<Arc<dyn Workers>>) {
        self.world.workers = workers;
    }

    fn step_parts(&self) -> Arc<[StepPart]> {
        Arc::clone(&self.built.parts)
    }

    fn state_hash(&self) -> StateHash {
        let mut body = Vec::with_capacity(16 << 10);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut body, None);
        StateHash(*blake3::hash(&body).as_bytes())
    }

    fn beat(&self) -> (StateHash, Vec<u32>) {
        let mut marks = Marks::new(self.world.tick, self.edits);
        let mut body = Vec::with_capacity(16 << 10);
        let marked = Some(&mut marks);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut body, marked);
        let sums = parts::sums(&self.world, &body, &marks);
        (StateHash(*blake3::hash(&body).as_bytes()), sums)
    }

    fn explain(&self, sums: &[u32], since: Tick) -> Vec<String> {
        let (_, ours) = self.beat();
        parts::explain(&self.world, &self.built.schedule, (&ours, sums), since)
    }

    fn checkpoint(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.built.schema.len() + (16 << 10));
        checkpoint::encode_head(&self.world, G::NAME, &self.built.schema, &mut out);
        checkpoint::encode_body(&self.world, &self.config, &self.effects, &mut out, None);
        #[cfg(debug_assertions)]
        self.assert_restorable(&out);
        out.into()
    }

    fn capture(&self) -> (Bytes, Marks) {
        let mut marks = Marks::new(self.world.tick, self.edits);
        let mut out = Vec::with_capacity(self.built.schema.len() + (16 << 10));
        checkpoint::encode_head(&self.world, G::NAME, &self.built.schema, &mut out);
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
        match &self.built.rules {
            Some(rules) => rules.restrict(&self.world, view),
            None => view.restricted = None,
        }
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

    fn dropped(&self) -> &[String] {
        &self.dropped
    }

    fn filled(&self) -> &[String] {
        &self.filled
    }

    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        // A question that the game fails at has no answer; the world is as it was.
        guarded(|| G::answer(&self.world, question)).ok().flatten()
    }

    fn probe(&self) -> Arc<Probe> {
        Arc::clone(&self.probe)
    }

    fn statistics(&self) -> Vec<StatisticView> {
        self.world.statistics()
    }

    fn values(&self) -> Vec<ValueView> {
        self.world.values(|look| guarded(look).flatten())
    }

    fn validations(&self) -> Vec<ValidationView> {
        self.world.validations(|look| guarded(look).flatten())
    }

    fn describe(&self) -> serde_json::Value {
        crate::persist::describe::world(&self.world)
    }
}
