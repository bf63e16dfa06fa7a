//! What a [`Host`](crate::Host) is started with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::{BuildId, Incarnation, MatchId, PlayerId, Tick};
use rekindle_sim::documents::wire::CollectionInfo;
use rekindle_sim::{GameType, Workers};
use rekindle_store::Store;

use crate::core::shedding::Rules;
use crate::error::HostError;

/// Milliseconds since 1970. Used for the times in records only: nothing is decided by it.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The game types that a node serves, by name.
#[derive(Clone, Default)]
pub struct Games(BTreeMap<&'static str, Arc<dyn GameType>>);

impl Games {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a game under its own name; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, game: Arc<dyn GameType>) -> Self {
        self.insert(game);
        self
    }

    /// As [`Games::with`].
    pub fn insert(&mut self, game: Arc<dyn GameType>) {
        self.0.insert(game.name(), game);
    }

    /// The game called `name`; the error lists the names there are.
    pub fn get(&self, name: &str) -> Result<Arc<dyn GameType>, HostError> {
        self.0.get(name).cloned().ok_or_else(|| HostError::UnknownGame {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The names of those that players play, ascending.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let played = self.0.iter().filter(|(_, game)| game.collection().is_none());
        played.map(|(name, _)| *name)
    }

    /// All of them, collections of documents too, ascending by name.
    pub fn all(&self) -> impl Iterator<Item = Arc<dyn GameType>> {
        self.0.values().cloned()
    }

    /// The collections of documents, ascending by kind.
    pub fn collections(&self) -> impl Iterator<Item = CollectionInfo> {
        self.0.values().filter_map(|game| game.collection())
    }
}

/// When the frame of a tick is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Once the tick is durable: what a player saw never un-happens.
    Durable,
    /// At once, marked with the durable tick. A recovery may go back behind what was seen.
    Immediate,
}

/// What a match does when its durable tick falls behind by more than [`HostConfig::stall_after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStall {
    /// It stands still until the store has caught up.
    Pause,
    /// It runs on and publishes at once; its frames show `durable < tick`. It still pauses when the
    /// node's backlog is full.
    Degrade,
}

/// What a replay does about records that another build of the game computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherBuild {
    /// It fails, and names the first of them.
    Refuse,
    /// It computes them again and goes on if all that was recorded of them is equal; else it fails,
    /// and says what differs.
    Prove,
    /// As `Prove`; what differs is left out, with all that was recorded behind it.
    LastEqual,
    /// It computes them again and goes on with what comes of it, whatever differs.
    Accept,
}

impl OtherBuild {
    /// What the option `accept_build` says.
    pub fn accepted_if(accept: bool) -> Self {
        if accept { Self::Accept } else { Self::Prove }
    }
}

/// A tick that does not return, as the watchdog saw it. By the time this is handed over, the
/// match's lease row says so too (unless the store did not answer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hang {
    /// The match.
    pub match_id: MatchId,
    /// The tick being made.
    pub tick: Tick,
    /// The system that does not return.
    pub system: String,
    /// The players whose inputs or commands are in that tick's step.
    pub players: Vec<PlayerId>,
    /// The lease row now says `Parked`.
    pub parked: bool,
}

/// What to do once a hang is parked and logged.
pub type OnHang = Arc<dyn Fn(Hang) + Send + Sync>;

/// When the matches of a thread that has too much to do are slowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overload {
    /// From one look at the matches to the next.
    pub look: Duration,
    /// How many looks it takes.
    pub rules: Rules,
}

impl Overload {
    /// Matches are never slowed.
    pub const NEVER: Self = Self::after(0, 1);

    /// Matches are slowed when one of the same thread was late for `late_s` seconds (0: never), and
    /// get their rate back when none was for `calm_s` seconds.
    pub const fn after(late_s: u32, calm_s: u32) -> Self {
        Self { look: Duration::from_secs(1), rules: Rules { late: late_s, calm: calm_s } }
    }

    /// Whether matches may be slowed.
    pub fn slows(&self) -> bool {
        self.rules.late > 0
    }
}

/// The exit code of a process that its watchdog ended.
pub const HANG_EXIT_CODE: i32 = 86;

/// How a host runs its matches.
#[derive(Clone)]
pub struct HostConfig {
    /// Threads that tick matches, each with its own runtime. 0: matches run on the runtime that
    /// starts the host, and no thread is started (simulation).
    pub shards: usize,
    /// When frames are published.
    pub output: Output,
    /// How far the durable tick may fall behind the executed one.
    pub stall_after: Duration,
    /// What happens then.
    pub on_stall: OnStall,
    /// How long a recovered match waits for its sessions before it ticks.
    pub resume_grace: Duration,
    /// How long a session whose connection is gone waits for its player, in ticks' worth of match
    /// time.
    pub session_timeout: Duration,
    /// Threads that it lends to matches for their parallel queries, shared by all of them.
    pub workers: Option<Arc<dyn Workers>>,
    /// Ticks between hash beats.
    pub beat_every: u64,
    /// CPU seconds per core that recovering all matches may cost: checkpoints are taken so that it
    /// stays below.
    pub recovery_budget: f64,
    /// Cores that a recovery can use.
    pub cores: usize,
    /// A match's checkpoint is renewed after this long even if the budget does not ask for it, so
    /// that logs can be trimmed.
    pub checkpoint_every: Duration,
    /// All but the newest two checkpoints of a match are dropped when another is stored. Else that
    /// is up to somebody else.
    pub trim_checkpoints: bool,
    /// Most deltas that follow a full checkpoint before the next full one; 0: full ones only. A
    /// match whose checkpoints may be deltas keeps a copy of its last one's state in memory.
    pub checkpoint_chain: u32,
    /// Checkpoints that are written at the same time.
    pub checkpoints_in_flight: usize,
    /// A tick that has not returned for this long ends the process. Zero turns the watchdog off.
    pub watchdog: Duration,
    /// What a recovery does about records of another build.
    pub other_build: OtherBuild,
    /// How long a group commit waits for company.
    pub commit_linger: Duration,
    /// Bytes that may wait for the journal before matches pause.
    pub backlog_bytes: usize,
    /// Largest batch in bytes; a match's first record may exceed it.
    pub batch_bytes: usize,
    /// Ticks that a match may run back to back to catch up; what it is further behind is given up
    /// as delay.
    pub catch_up: u32,
    /// When matches are slowed. Only those are whose game allows it
    /// ([`rekindle_sim::Game::MAX_SLOWDOWN`]).
    pub overload: Overload,
    /// Frames that a subscriber may lag behind before it is dropped.
    pub subscriber_frames: usize,
    /// Restarts of one match within a minute before it is parked.
    pub restarts: u32,
    /// Called when the watchdog found a hang: by default the process ends with [`HANG_EXIT_CODE`].
    pub on_hang: OnHang,
}

impl Default for HostConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            shards: cores,
            output: Output::Durable,
            stall_after: Duration::from_secs(1),
            on_stall: OnStall::Pause,
            resume_grace: Duration::from_secs(1),
            session_timeout: Duration::from_secs(30),
            workers: None,
            beat_every: 30,
            recovery_budget: 1.0,
            cores,
            checkpoint_every: Duration::from_mins(1),
            trim_checkpoints: true,
            checkpoint_chain: 8,
            checkpoints_in_flight: 2,
            watchdog: Duration::from_secs(5),
            other_build: OtherBuild::Prove,
            commit_linger: Duration::from_millis(1),
            backlog_bytes: 16 << 20,
            batch_bytes: 1 << 20,
            catch_up: 4,
            overload: Overload::after(5, 10),
            subscriber_frames: 64,
            restarts: 3,
            on_hang: Arc::new(|_| std::process::exit(HANG_EXIT_CODE)),
        }
    }
}

impl HostConfig {
    /// For one runtime with tokio's virtual clock, under which no tick is ever late: no threads, no
    /// watchdog, no looking for overload.
    pub fn simulated() -> Self {
        let (watchdog, overload) = (Duration::ZERO, Overload::NEVER);
        Self { shards: 0, cores: 1, watchdog, overload, ..Self::default() }
    }
}

/// Everything that a host needs from outside.
pub struct HostParts {
    /// Where histories live.
    pub store: Store,
    /// This run of the process; its lease is registered and live, its log is empty.
    pub incarnation: Incarnation,
    /// The build that computes the games.
    pub build: BuildId,
    /// The games that it serves.
    pub games: Games,
    /// For the times in records.
    pub clock: WallClock,
    /// Session ids are drawn from it: random in production, the simulation's seed in tests.
    pub seed: u64,
    /// How to run.
    pub config: HostConfig,
}
