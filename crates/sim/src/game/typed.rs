//! A game as a type of matches: registered with a node under its name, it makes new matches, and
//! matches from checkpoints.
//!
//! Everything above this crate sees it as a [`GameType`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::record::{MAX_SLOWDOWN, Step};
use rekindle_schema::{PlayerId, StateHash, Tick};

use crate::documents::wire::CollectionInfo;
use crate::ecs::values::Validation;
use crate::game::builder::{Built, Game};
use crate::game::config::{self, Configured, Parsed};
use crate::game::matches::{CALLBACKS, Match, guarded};
use crate::game::net::View;
use crate::game::payloads::Payloads;
use crate::game::simulation::{GameType, SimError, Simulation};
use crate::game::sketch::Sketch;
use crate::persist::{changes, checkpoint, migrate, parts};
use crate::value::{self, Reader};

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

impl<G: Game> Typed<G> {
    /// Puts the parts of the game together; or says all that is wrong with them.
    pub fn new() -> Result<Self, SimError> {
        let built = guarded(Built::new).map_err(|problem| SimError::Schedule {
            game: G::NAME.to_owned(),
            problem: format!("`Game::build` panicked: {problem}"),
        })??;
        let (systems, hooks) = (built.schedule.names(), built.registry.hooks.names());
        let callbacks = CALLBACKS.map(str::to_owned);
        let machines =
            built.registry.machines.iter().map(|machine| format!("states({})", machine.id()));
        let names = systems.map(str::to_owned).chain(callbacks).chain(hooks.iter().cloned());
        let validations = built.registry.validations.iter().map(Validation::label);
        let names = names.chain(machines).chain(validations).chain(built.extensions.callbacks());
        let names = names.collect();
        Ok(Self { built: Arc::new(built), names, configs: Mutex::default() })
    }

    /// The place of a system in the stamps of a tick.
    pub(crate) fn position_of(&self, system: &str) -> Option<u32> {
        self.built.schedule.position_of(system)
    }

    fn config(&self, bytes: &[u8]) -> Result<Arc<Configured<G>>, SimError> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(bytes) {
            return Ok(Arc::clone(config));
        }
        let Parsed { config, rules, properties } =
            config::parse(bytes, &self.built.former, &self.built.extensions, 1)?;
        let config = Arc::new(config);
        let constants =
            guarded(|| self.built.constants(Arc::clone(&config), rules)).map_err(|problem| {
                SimError::Config {
                    game: G::NAME.to_owned(),
                    problem: format!("computing a constant from it panicked: {problem}"),
                }
            })?;
        let bytes_of_all = config::to_bytes::<G>(&config, rules, &properties)?;
        let config = Arc::new(Configured { bytes: bytes_of_all, config, constants });
        if configs.len() >= CONFIGS {
            configs.clear();
        }
        configs.insert(bytes.to_vec(), Arc::clone(&config));
        Ok(config)
    }

    /// The configuration of a match, as a client's welcome has it.
    ///
    /// ```
    /// use rekindle_sim::doc_game::Duel;
    /// use rekindle_sim::{GameType as _, Typed};
    ///
    /// let game = Typed::<Duel>::new()?;
    /// let bytes = game.config_from_json(r#"{"goal": 9}"#)?;
    /// assert_eq!((game.settings(&bytes)?.goal, game.settings(b"")?.goal), (9, 50));
    /// # Ok::<(), rekindle_sim::SimError>(())
    /// ```
    pub fn settings(&self, bytes: &[u8]) -> Result<Arc<G::Config>, SimError> {
        Ok(Arc::clone(&self.config(bytes)?.config))
    }

    /// As [`GameType::create`], with the type kept.
    pub fn create(&self, config: &[u8], seed: u64) -> Result<Match<G>, SimError> {
        self.create_at(config, seed, G::TICK_RATE)
    }

    /// As [`GameType::create_at`], with the type kept.
    pub fn create_at(
        &self,
        config: &[u8],
        seed: u64,
        tick_rate: u16,
    ) -> Result<Match<G>, SimError> {
        let config = self.config(config)?;
        let (built, names) = (Arc::clone(&self.built), Arc::clone(&self.names));
        let mut made = Match::new(built, names, &config, seed, tick_rate);
        let setup = || {
            made.world.start_machines();
            G::setup(&mut made.world, &config.config);
            for extension in &self.built.extensions.0 {
                extension.setup(&mut made.world, &config.config);
            }
            made.world.settle(|_| None, &|_| {});
        };
        guarded(setup).map_err(|message| SimError::Panicked {
            system: "setup".to_owned(),
            tick: Tick(0),
            message,
        })?;
        made.world.count_events();
        made.world.canonicalise();
        // Nobody listens at tick 0: what setup says is said by no step.
        made.world.outbox = std::cell::RefCell::default();
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
        let start = checkpoint::decode_start(&mut input, head.custom).map_err(fail)?;
        let config = self.config(start.config)?;
        let (built, names) = (Arc::clone(&self.built), Arc::clone(&self.names));
        let mut made = Match::new(built, names, &config, start.seed, start.tick_rate);
        made.world.stand_at(start.tick);
        checkpoint::define_all(&mut made.world, start.custom).map_err(fail)?;
        if head.schema == self.built.schema {
            made.effects = checkpoint::decode_world(&mut made.world, &mut input).map_err(fail)?;
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
            let migrated = result
                .unwrap_or_else(|message| Err(format!("`migrate` panicked: {message}")))
                .map_err(fail)?;
            made.effects = migrated.effects;
            (made.dropped, made.filled) = (migrated.dropped, migrated.filled);
        }
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

    fn tick_rates(&self) -> RangeInclusive<u16> {
        G::TICK_RATES
    }

    fn max_slowdown(&self) -> u8 {
        const {
            assert!(
                1 <= G::MAX_SLOWDOWN && G::MAX_SLOWDOWN <= MAX_SLOWDOWN,
                "MAX_SLOWDOWN of the game is not 1, 2, 3 or 4"
            );
        }
        G::MAX_SLOWDOWN
    }

    fn max_players(&self, config: &[u8]) -> usize {
        self.config(config).map_or(0, |config| G::max_players(&config.config))
    }

    fn config_from_json(&self, json: &str) -> Result<Bytes, SimError> {
        let Parsed { config, rules, properties } =
            config::parse(json.as_bytes(), &self.built.former, &self.built.extensions, G::RULES)?;
        config::to_bytes::<G>(&config, rules, &properties)
    }

    fn create_at(
        &self,
        config: &[u8],
        seed: u64,
        tick_rate: u16,
    ) -> Result<Box<dyn Simulation>, SimError> {
        Ok(Box::new(Self::create_at(self, config, seed, tick_rate)?))
    }

    fn restore(&self, checkpoint: &[u8]) -> Result<Box<dyn Simulation>, SimError> {
        Ok(Box::new(Self::restore(self, checkpoint)?))
    }

    fn checkpoint_hash(&self, checkpoint: &[u8]) -> Option<StateHash> {
        checkpoint_hash(checkpoint)
    }

    fn at_entity(&self, checkpoint: &[u8], step: &Step, error: SimError) -> SimError {
        self.blame(checkpoint, step, error)
    }

    fn differing_parts(&self, a: &[u8], b: &[u8]) -> Vec<String> {
        let (Ok(a), Ok(b)) = (Self::restore(self, a), Self::restore(self, b)) else {
            return Vec::new();
        };
        let (world, (a, marks_a), (b, marks_b)) = (&a.world, a.capture(), b.capture());
        parts::differing(world, (&a, &marks_a), (&b, &marks_b))
    }

    fn schema_changes(&self, checkpoint: &[u8]) -> Vec<String> {
        let read = checkpoint::decode_head(checkpoint).ok().and_then(|head| {
            let theirs = checkpoint::Schema::from_bytes(head.schema).ok()?;
            let ours = checkpoint::Schema::from_bytes(&self.built.schema).ok()?;
            Some(changes::between(&theirs, &ours))
        });
        read.unwrap_or_default()
    }

    fn state_chart(&self) -> String {
        crate::ecs::states::chart(&self.built.registry)
    }

    fn system_chart(&self) -> String {
        self.built.schedule.chart()
    }

    fn payloads(&self) -> &Payloads {
        &self.built.payloads
    }

    fn collection(&self) -> Option<CollectionInfo> {
        G::collection()
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

    fn bot_command(
        &self,
        player: PlayerId,
        view: &NetView,
        config: &[u8],
        state: &mut Vec<u8>,
    ) -> Option<Bytes> {
        let config = self.config(config).ok()?;
        let mut memory = value::from_bytes(state).unwrap_or_else(|_| value::Value::initial());
        let view = View::new(&self.built.net, view);
        let command = G::bot_command(player, &view, &config.config, &mut memory);
        *state = value::to_bytes(&memory);
        Some(value::to_bytes(&command?).into())
    }

    fn sketch(&self, view: &NetView, config: &[u8]) -> Option<Sketch> {
        G::sketch(&View::new(&self.built.net, view), &self.config(config).ok()?.config)
    }
}
