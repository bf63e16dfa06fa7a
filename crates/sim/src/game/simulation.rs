//! The object-safe face of a match: all that is above this crate sees a game only through it.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::record::{Effect, Event, Step};
use rekindle_schema::{BuildId, PlayerId, SessionId, StateHash, Tick};

use crate::documents::wire::CollectionInfo;
use crate::ecs::stats::StatisticView;
use crate::ecs::values::{Broken, ValidationView, ValueView};
use crate::ecs::watch::{StepPart, StepWatch};
use crate::ecs::workers::Workers;
use crate::game::payloads::Payloads;
use crate::game::sketch::Sketch;
use crate::storage::layout::Marks;

/// What a step brought forth besides the new world.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct StepOutput {
    /// Facts that the game declared, in order.
    pub events: Vec<Event>,
    /// Effects that the game asks for, in order. They stay open in the state until a [`Step`] says
    /// that they are done.
    pub effects: Vec<Effect>,
    /// For each command of the step, in its order: whether the game accepted it.
    pub commands: Vec<bool>,
    /// The validations that were due in this tick and do not hold.
    pub broken: Vec<Broken>,
    /// Set if the game says that the match is over.
    pub ended: Option<String>,
}

/// What the state knows of a session: enough to resume it after a recovery and to apply nothing
/// twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// The player whose session it is.
    pub player: PlayerId,
    /// The session that the player's inputs and commands must carry.
    pub session: SessionId,
    /// The newest input that was applied; 0 before the first.
    pub last_input: u64,
    /// The newest command that was applied; 0 before the first.
    pub last_command: u64,
}

/// Why a state could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// The configuration is not one of this game.
    #[error("RK-SIM-001: configuration of game `{game}`: {problem}")]
    Config {
        /// The game's name.
        game: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The bytes are no checkpoint of this game.
    #[error("RK-SIM-002: checkpoint of game `{game}`: {problem}")]
    Checkpoint {
        /// The name of the game that was to read it.
        game: String,
        /// The check that failed, and where.
        problem: String,
    },
    /// The systems of the game cannot be put in one order.
    #[error("RK-SIM-003: schedule of game `{game}`: {problem}")]
    Schedule {
        /// The game's name.
        game: String,
        /// The systems by name.
        problem: String,
    },
    /// A step was not for the next tick.
    #[error("RK-SIM-004: the state stands at tick {at}, the step makes tick {got}")]
    OutOfOrder {
        /// The tick that the state stands at.
        at: Tick,
        /// What the step makes.
        got: Tick,
    },
    /// A system of the game panicked. The state is of no more use: restore it and leave out what
    /// triggers this.
    #[error("RK-SIM-005: system `{system}` panicked at tick {tick}: {message}")]
    Panicked {
        /// The system by name.
        system: String,
        /// Which tick was being made.
        tick: Tick,
        /// What the panic said.
        message: String,
    },
    /// A validation of the game that stops the match does not hold. The state is of no more use:
    /// the tick is not part of the match.
    #[error("RK-SIM-036: validation `{validation}` does not hold at tick {tick}: {problem}")]
    Broken {
        /// The validation by name.
        validation: String,
        /// Which tick was being made.
        tick: Tick,
        /// What it says is wrong.
        problem: String,
    },
}

/// Shows another thread what a step is doing: a watchdog names the system that never returns.
#[derive(Debug, Default)]
pub struct Probe {
    /// The tick that is being made, plus one; 0 between steps.
    pub(crate) tick: AtomicU64,
    /// Index of the running system in `systems`.
    pub(crate) system: AtomicUsize,
    /// Names of the systems in the order in which they run.
    pub(crate) systems: Arc<[String]>,
}

impl Probe {
    /// The tick and the system that run now.
    pub fn running(&self) -> Option<(Tick, &str)> {
        let tick = self.tick.load(Ordering::Acquire).checked_sub(1)?;
        let system =
            self.systems.get(self.system.load(Ordering::Acquire)).map_or("", String::as_str);
        Some((Tick(tick), system))
    }
}

/// A running match of some game: a deterministic function of its checkpoint and the steps since.
///
/// A match goes on from a checkpoint as if nothing had happened:
///
/// ```
/// use rekindle_schema::record::Step;
/// use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::{Simulation as _, Tick, Typed};
///
/// let game = Typed::<Duel>::new()?;
/// let mut duel = game.create(b"{}", 7)?;
/// duel.step(&Step { tick: Tick(1), ..Step::default() })?;
/// let mut restored = game.restore(&duel.checkpoint())?;
/// for tick in 2..100 {
///     let step = Step { tick: Tick(tick), ..Step::default() };
///     assert_eq!(duel.step(&step)?, restored.step(&step)?);
/// }
/// assert_eq!(duel.state_hash(), restored.state_hash());
/// assert_eq!(duel.checkpoint(), restored.checkpoint());
/// # Ok::<(), rekindle_sim::SimError>(())
/// ```
///
/// What changed since a checkpoint is told as operations on its bytes:
///
/// ```
/// use rekindle_schema::{delta, record::Step};
/// use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::{Simulation as _, Tick, Typed};
///
/// let game = Typed::<Duel>::new()?;
/// let mut duel = game.create(b"{}", 7)?;
/// let (base, marks) = duel.capture();
/// duel.step(&Step { tick: Tick(1), ..Step::default() })?;
/// let (operations, _) = duel.changes(&base, &marks, 4096).expect("little has changed");
/// let (stored, state) = delta::seal(&base, &operations).unwrap();
/// assert_eq!(state, duel.checkpoint());
/// assert_eq!(delta::apply(&base, &stored), Ok(state));
/// assert!(stored.len() < base.len());
/// # Ok::<(), rekindle_sim::SimError>(())
/// ```
pub trait Simulation: Send {
    /// The tick it stands at; 0 when newly set up.
    fn tick(&self) -> Tick;
    /// Makes the next tick. A panic of a system is caught and becomes [`SimError::Panicked`]; what
    /// stops the match by the game's own rules is [`SimError::Broken`]. The value must then be
    /// dropped.
    ///
    /// Malformed payloads do not panic and do not fail the step: a malformed input is as none, a
    /// malformed command is rejected.
    fn step(&mut self, step: &Step) -> Result<StepOutput, SimError>;
    /// As [`Self::step`]; `watch` is told which part of the step is being made. What comes of the
    /// step is the same. A game that cannot tell tells nothing.
    fn step_watched(
        &mut self,
        step: &Step,
        watch: &mut dyn StepWatch,
    ) -> Result<StepOutput, SimError> {
        let _ = watch;
        self.step(step)
    }
    /// Lends it threads for its parallel queries, or takes them back. What steps compute stays the
    /// same. A game that has no use for them ignores them.
    fn set_workers(&mut self, workers: Option<Arc<dyn Workers>>) {
        let _ = workers;
    }
    /// What [`Self::step_watched`] tells of, by index. Empty if the game cannot tell.
    fn step_parts(&self) -> Arc<[StepPart]> {
        Arc::default()
    }
    /// BLAKE3 of the canonical bytes: world, sessions, open effects.
    fn state_hash(&self) -> StateHash;
    /// As `state_hash`, with sums of the state's parts by which [`Self::explain`] says in what it
    /// differs from another. No sums if the game cannot tell.
    fn beat(&self) -> (StateHash, Vec<u32>) {
        (self.state_hash(), Vec::new())
    }
    /// In what the state differs from one of which [`Self::beat`] gave `sums`, for people:
    /// components and their fields by name, and the systems that wrote them after the tick `since`.
    /// Empty if the game cannot tell.
    fn explain(&self, sums: &[u32], since: Tick) -> Vec<String> {
        let _ = (sums, since);
        Vec::new()
    }
    /// The canonical bytes with the schema that they are decoded by. A function of the logical
    /// state alone.
    fn checkpoint(&self) -> Bytes;
    /// As `checkpoint`, with what [`Self::changes`] needs to know of it later.
    fn capture(&self) -> (Bytes, Marks);
    /// What leads from the bytes of an earlier checkpoint of this same match to those of
    /// `checkpoint` now: operations for [`rekindle_schema::delta::seal`], and what a later call
    /// needs to know of the new bytes. Costs by what changed, not by the size of the world.
    ///
    /// `None`: take a full one. The operations would take more than `limit` bytes, or nothing can
    /// be said of what changed since. `base` and `marks` must be of the same checkpoint, and the
    /// match must be what became of it by steps alone.
    fn changes(&self, base: &[u8], marks: &Marks, limit: usize) -> Option<(Vec<u8>, Marks)>;
    /// Writes the networked part of the world into `view`, whose buffers are used again. Its own
    /// entities are what everybody may see, and so what a replay shows to people; what the game's
    /// rules keep for some stands beside them ([`NetView::sight`]).
    fn extract(&self, view: &mut NetView);
    /// Sessions in the match, ascending by player.
    fn sessions(&self) -> Vec<SessionState>;
    /// Effects that no sink has acknowledged yet, ascending.
    fn open_effects(&self) -> Vec<Effect>;
    /// Answers a question from outside; `None` if the game has no answers. Nothing changes.
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let _ = question;
        None
    }
    /// What a step is doing, for a watchdog.
    fn probe(&self) -> Arc<Probe>;
    /// What the checkpoint that the match was restored from had, and this build has not:
    /// `component-id.field`, or the id of something retired, ascending. Whoever restores a match
    /// says it in the log. Empty if nothing was lost.
    fn dropped(&self) -> &[String] {
        &[]
    }
    /// Components that entities got when the match was restored, because another one of theirs
    /// requires it in this build: `component-id (how many entities)`, ascending. Whoever restores a
    /// match says it in the log.
    fn filled(&self) -> &[String] {
        &[]
    }
    /// The statistics that the game declares, as they stand. Empty if it declares none.
    fn statistics(&self) -> Vec<StatisticView> {
        Vec::new()
    }
    /// The values that the game declares under names, as they stand; those whose functions panic
    /// say so. Empty if it declares none.
    fn values(&self) -> Vec<ValueView> {
        Vec::new()
    }
    /// The validations that the game declares, and whether each holds now. Empty if it declares
    /// none.
    fn validations(&self) -> Vec<ValidationView> {
        Vec::new()
    }
    /// What the entity or world looks like, as JSON for people (`rekindle replay`).
    fn describe(&self) -> serde_json::Value;
}

/// A game type: makes simulations of one game. Registered with a node under its name.
pub trait GameType: Send + Sync {
    /// The name in a `MatchSpec`: lower case, digits, `-`.
    fn name(&self) -> &'static str;
    /// What its snapshots are made of.
    fn net_schema(&self) -> &NetSchema;
    /// Ticks per second, unless a match says otherwise.
    fn tick_rate(&self) -> u16;
    /// Most players in a match with this configuration.
    fn max_players(&self, config: &[u8]) -> usize;
    /// Encodes a configuration given as JSON text (`{}` for the defaults). Unknown keys are errors.
    fn config_from_json(&self, json: &str) -> Result<Bytes, SimError>;
    /// The rates that a match may have; that of [`Self::tick_rate`] is one of them.
    fn tick_rates(&self) -> RangeInclusive<u16> {
        self.tick_rate()..=self.tick_rate()
    }
    /// How many tick periods may lie between two ticks of a match at most, 1 to
    /// [`MAX_SLOWDOWN`](rekindle_schema::record::MAX_SLOWDOWN). 1: it is never slowed.
    fn max_slowdown(&self) -> u8 {
        1
    }
    /// A new match at tick 0. A match keeps its rate, also if a later build offers others.
    fn create_at(
        &self,
        config: &[u8],
        seed: u64,
        tick_rate: u16,
    ) -> Result<Box<dyn Simulation>, SimError>;
    /// A new match at tick 0 with the usual rate.
    fn create(&self, config: &[u8], seed: u64) -> Result<Box<dyn Simulation>, SimError> {
        self.create_at(config, seed, self.tick_rate())
    }
    /// A match as a checkpoint has it. Never panics, whatever the bytes.
    fn restore(&self, checkpoint: &[u8]) -> Result<Box<dyn Simulation>, SimError>;
    /// What [`Simulation::state_hash`] says after a restore of these bytes, from the bytes alone.
    /// `None` if they are no checkpoint.
    fn checkpoint_hash(&self, checkpoint: &[u8]) -> Option<StateHash>;
    /// The error with which a step fails, with the entity at which a system panics, if that can be
    /// told: the step is made again some times, from `checkpoint`, the state before it. Called for
    /// reports of steps that failed.
    fn at_entity(&self, checkpoint: &[u8], step: &Step, error: SimError) -> SimError {
        let _ = (checkpoint, step);
        error
    }
    /// In which parts two checkpoints differ, by name, for people, such as a component. Empty if
    /// they do not, if they cannot be restored, or if the game cannot tell.
    fn differing_parts(&self, a: &[u8], b: &[u8]) -> Vec<String> {
        let _ = (a, b);
        Vec::new()
    }
    /// In what this build's parts differ from those of a checkpoint, for people: components,
    /// resources and events with their fields and versions, and the systems. Empty if they do not,
    /// or if the game cannot tell.
    fn schema_changes(&self, checkpoint: &[u8]) -> Vec<String> {
        let _ = checkpoint;
        Vec::new()
    }
    /// The state machines of the game as a Mermaid diagram, for people.
    fn state_chart(&self) -> String {
        String::new()
    }
    /// The systems of the game, in the order in which they run, as a Mermaid diagram, for people.
    fn system_chart(&self) -> String {
        String::new()
    }
    /// How inputs, commands and told events are read, by the names of their fields. A game that
    /// does not say has nothing in it.
    fn payloads(&self) -> &Payloads {
        static NOTHING: LazyLock<Payloads> = LazyLock::new(Payloads::default);
        &NOTHING
    }
    /// Whether bytes are an input of this game: asked at the edge, before anything is queued.
    fn accepts_input(&self, payload: &[u8]) -> bool;
    /// Whether bytes are a command of this game.
    fn accepts_command(&self, payload: &[u8]) -> bool;
    /// Plays for `player` by looking at the networked view, like any client: house bots and load
    /// tests. `state` is the bot's memory, empty at first. Returns an encoded input.
    fn bot(
        &self,
        player: PlayerId,
        view: &NetView,
        config: &[u8],
        state: &mut Vec<u8>,
    ) -> Option<Bytes>;
    /// As [`Self::bot`], for bots that play by commands: an encoded command. Asked after it, with
    /// the same memory.
    fn bot_command(
        &self,
        player: PlayerId,
        view: &NetView,
        config: &[u8],
        state: &mut Vec<u8>,
    ) -> Option<Bytes> {
        let _ = (player, view, config, state);
        None
    }
    /// What the documents are that its matches hold, if it is a collection: of those there is one
    /// match in a store, which nobody joins and nobody ends.
    fn collection(&self) -> Option<CollectionInfo> {
        None
    }
    /// A view as shapes to draw, if the game has its own way to draw it.
    fn sketch(&self, view: &NetView, config: &[u8]) -> Option<Sketch> {
        let _ = (view, config);
        None
    }
}

/// Identifies the code that computes games: BLAKE3 of an executable, shortened.
pub fn build_id(executable: impl std::io::Read) -> std::io::Result<BuildId> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(executable)?;
    let mut head = [0; 8];
    hasher.finalize_xof().fill(&mut head);
    Ok(BuildId(u64::from_le_bytes(head)))
}
