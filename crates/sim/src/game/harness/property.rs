//! Plays matches by chance and looks for a sequence that fails; then makes that sequence as short
//! as it can be, and prints it as a test.

use std::any::type_name_of_val;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::panic;
use std::sync::Once;

use bytes::Bytes;
use rekindle_schema::net::NetView;
use rekindle_schema::{PlayerId, Tick};

use super::Harness;
use super::chance::{self, Names};
use super::script::{Act, Beginning, Deed, as_test};
use crate::Rng;
use crate::ecs::world::World;
use crate::game::builder::Game;
use crate::game::matches::Match;
use crate::game::shrink::minimal;
use crate::game::simulation::{GameType, SimError, Simulation};
use crate::game::typed::Typed;

/// The first purpose of the streams of random numbers here: one for each match.
const PURPOSE: u64 = 0x7072_6f70;
/// Every so many ticks the match is restored from a checkpoint, beside the one that goes on.
const SHADOW_EVERY: u64 = 16;
/// Most sequences that are tried to make one shorter.
const MOST_TRIES: usize = 5_000;

type Check = Box<dyn Fn(&World) -> Result<(), String>>;

/// What has to hold of every match of a game, whatever players do.
///
/// Matches are played in which players join and leave by chance, play as bots do, and send inputs
/// and commands that no bot sends: any value that their types have, also NaN and the ends of
/// numbers. The same seed plays the same matches. In each tick is checked that no system panics,
/// that what [`Property::holds`] says holds, and that a match that is restored from its checkpoint
/// goes on in the same way.
///
/// What fails is made as short as it can be: acts of players are left out, and ticks between them,
/// as long as it fails in the same way. What is left is printed as a test.
///
/// ```
/// use rekindle_sim::doc_game::{Duel, Position};
/// use rekindle_sim::{Property, World};
///
/// fn on_the_field(world: &World) -> Result<(), String> {
///     match world.all::<Position>().find(|(_, at)| at.x.abs() > 100.0) {
///         Some((entity, at)) => Err(format!("{entity:?} is at {}", at.x)),
///         None => Ok(()),
///     }
/// }
/// Property::<Duel>::new(7).cases(2).ticks(60).holds(on_the_field).check();
/// ```
pub struct Property<G: Game> {
    game: Typed<G>,
    seed: u64,
    config: String,
    players: u64,
    ticks: u64,
    cases: u64,
    bots: bool,
    checks: Vec<(String, Check)>,
}

/// A sequence that fails, made short.
pub struct Counterexample {
    /// What fails.
    pub problem: String,
    /// How many acts of players had happened when it was found.
    pub of: usize,
    /// Those that matter.
    pub acts: Vec<Act>,
    /// In which tick it fails, with these acts.
    pub tick: Tick,
    /// Whether it is certain that none of the acts can be left out.
    pub complete: bool,
    /// It as a test, in Rust.
    pub test: String,
}

/// Why a match fails.
enum Fault {
    Sim(SimError),
    Broken { name: String, tick: Tick, words: String },
    Differs { tick: Tick, parts: Vec<String> },
}

impl Fault {
    /// What stays the same while the sequence becomes shorter.
    fn kind(&self) -> (u8, &str) {
        match self {
            Self::Sim(SimError::Panicked { system, .. }) => (0, system),
            Self::Sim(_) => (1, ""),
            Self::Broken { name, .. } => (2, name),
            Self::Differs { .. } => (3, ""),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sim(error) => write!(f, "{error}"),
            Self::Broken { name, tick, words } => {
                write!(f, "RK-SIM-011: `{name}` does not hold after tick {tick}: {words}")
            }
            Self::Differs { tick, parts } => write!(
                f,
                "RK-SIM-012: tick {tick}: a match that was restored from its checkpoint goes on \
                 otherwise, in {}",
                if parts.is_empty() { "what it says".to_owned() } else { parts.join(", ") }
            ),
        }
    }
}

impl<G: Game> Property<G> {
    /// Of matches with the default configuration: 16 of them, of 300 ticks, with up to 4 players.
    pub fn new(seed: u64) -> Self {
        let game = Typed::<G>::new().unwrap_or_else(|error| panic!("{error}"));
        let config = "{}".to_owned();
        let (players, ticks, cases) = (4, 300, 16);
        Self { game, seed, config, players, ticks, cases, bots: true, checks: Vec::new() }
    }

    /// Of matches with this configuration, in JSON.
    #[must_use]
    pub fn config(mut self, json: &str) -> Self {
        json.clone_into(&mut self.config);
        self
    }

    /// With up to so many players, of whom the game admits as many as it does.
    #[must_use]
    pub fn players(mut self, players: u64) -> Self {
        self.players = players;
        self
    }

    /// Each match is played for so many ticks, or until the game ends it.
    #[must_use]
    pub fn ticks(mut self, ticks: u64) -> Self {
        self.ticks = ticks;
        self
    }

    /// Plays so many matches, each with a seed of its own.
    #[must_use]
    pub fn cases(mut self, cases: u64) -> Self {
        self.cases = cases;
        self
    }

    /// Does not ask the game's bots: inputs and commands are by chance alone.
    #[must_use]
    pub fn without_bots(mut self) -> Self {
        self.bots = false;
        self
    }

    /// This has to hold after every tick. Name it with a function: the test that is printed calls
    /// it.
    #[must_use]
    pub fn holds(mut self, check: impl Fn(&World) -> Result<(), String> + 'static) -> Self {
        let name = type_name_of_val(&check).to_owned();
        self.checks.push((name, Box::new(check)));
        self
    }

    /// Plays all matches.
    ///
    /// # Panics
    /// If one fails, with the shortest sequence that was found, as a test.
    pub fn check(&self) {
        if let Some(Counterexample { problem, of, acts, complete, test, .. }) = self.find() {
            let left = acts.len();
            let perhaps = if complete { "" } else { " (perhaps fewer would do)" };
            panic!(
                "{problem}\n\nOf {of} acts of players {left} matter{perhaps}. As a \
                 test:\n\n{test}"
            );
        }
    }

    /// Plays all matches up to the first that fails, and makes that one short.
    pub fn find(&self) -> Option<Counterexample> {
        (0..self.cases).find_map(|case| {
            let seed = self.seed.wrapping_add(case);
            let (fault, acts, last) = self.play_by_chance(seed)?;
            Some(self.shorten(seed, &fault, acts, last))
        })
    }

    /// A match of this seed in which players act by chance, up to where it fails.
    fn play_by_chance(&self, seed: u64) -> Option<(Fault, Vec<Act>, Tick)> {
        let mut harness = Harness::<G>::with_config(seed, &self.config);
        let mut watch = Watch::default();
        let room = self.game.max_players(&harness.config) as u64;
        let mut crowd = Crowd::new(seed, self.players.min(room));
        for _ in 0..self.ticks {
            crowd.act(self, &mut harness);
            if let Some(fault) = self.tick(&mut harness, &mut watch) {
                let last = harness.steps.last().map_or(Tick(0), |step| step.tick);
                return Some((fault, harness.acts(), last));
            }
            if harness.outputs.last().is_some_and(|output| output.ended.is_some()) {
                break;
            }
        }
        None
    }

    /// A match of this seed in which players do just this, for so many ticks.
    fn play(&self, seed: u64, acts: &[Act], last: Tick) -> Option<(Fault, Tick)> {
        let mut harness = Harness::<G>::with_config(seed, &self.config);
        let mut watch = Watch::default();
        let mut acts = acts.iter().peekable();
        for tick in (1..=last.0).map(Tick) {
            while let Some(act) = acts.next_if(|act| act.tick == tick) {
                harness.act(act.player, &act.deed);
            }
            if let Some(fault) = self.tick(&mut harness, &mut watch) {
                return Some((fault, tick));
            }
        }
        None
    }

    /// Makes a tick, and says what is wrong with it.
    fn tick(&self, harness: &mut Harness<G>, watch: &mut Watch<G>) -> Option<Fault> {
        let result = harness.try_tick();
        if let Err(error) = result {
            return Some(Fault::Sim(error));
        }
        let tick = harness.running.tick();
        for (name, check) in &self.checks {
            if let Err(words) = check(harness.world()) {
                return Some(Fault::Broken { name: name.clone(), tick, words });
            }
        }
        watch.differs(&self.game, harness).map(|parts| Fault::Differs { tick, parts })
    }

    /// Leaves out what does not matter: acts, then players, then ticks between the acts.
    fn shorten(&self, seed: u64, fault: &Fault, all: Vec<Act>, last: Tick) -> Counterexample {
        let of = all.len();
        let mut tries = 0;
        let mut same = |acts: &[Act], last: Tick| {
            tries += 1;
            let play = || self.play(seed, acts, last);
            let played = (tries <= MOST_TRIES).then(|| quietly(play))?;
            Some(played.filter(|(other, _)| other.kind() == fault.kind()))
        };
        let found = minimal(&all, |acts| Some(same(acts, last)?.is_some()));
        let mut holds = |acts: &[Act]| matches!(same(acts, last), Some(Some(_)));
        let acts = closer(fewer_players(found.kept, &mut holds), &mut holds);
        let (fault, tick) = match same(&acts, last) {
            Some(Some((fault, tick))) => (fault.to_string(), tick),
            _ => (fault.to_string(), last),
        };
        let test = self.test(seed, &fault, &acts, tick);
        Counterexample { problem: fault, of, acts, tick, complete: found.complete, test }
    }

    /// The test that is printed.
    fn test(&self, seed: u64, why: &str, acts: &[Act], tick: Tick) -> String {
        let mut check = String::new();
        for (name, _) in &self.checks {
            if name.contains("{{closure}}") {
                check.push_str("// Here the closure is called with game.world().\n");
            } else {
                let _ = writeln!(check, "{name}(game.world()).unwrap();");
            }
        }
        check.push_str("game.assert_each_tick_restored_identical();");
        let beginning = Beginning { seed, config: &self.config };
        as_test::<G>(self.game.payloads(), &beginning, (acts, tick), why, &check)
    }
}

/// Has one player do what several did, where that fails as well.
fn fewer_players(mut acts: Vec<Act>, holds: &mut impl FnMut(&[Act]) -> bool) -> Vec<Act> {
    let players: BTreeSet<PlayerId> = acts.iter().map(|act| act.player).collect();
    for other in players.iter().skip(1) {
        for one in players.range(..other) {
            let comes_or_goes = |act: &Act| matches!(act.deed, Deed::Join | Deed::Leave);
            let left = acts.iter().filter(|act| act.player != *other || !comes_or_goes(act));
            let player = |act: &Act| if act.player == *other { *one } else { act.player };
            let merged: Vec<Act> =
                left.map(|act| Act { player: player(act), ..act.clone() }).collect();
            if merged.len() < acts.len() && holds(&merged) {
                acts = merged;
                break;
            }
        }
    }
    acts
}

/// Leaves out ticks between acts.
fn closer(mut acts: Vec<Act>, holds: &mut impl FnMut(&[Act]) -> bool) -> Vec<Act> {
    for index in 0..acts.len() {
        let before = index.checked_sub(1).map_or(1, |before| acts[before].tick.0);
        let mut gap = acts[index].tick.0 - before;
        // By halves: most gaps close at once, some want a minimum.
        let mut step = gap;
        while step > 0 {
            let nearer = moved(&acts, index, step);
            if holds(&nearer) {
                (gap, acts) = (gap - step, nearer);
            } else {
                step /= 2;
            }
            step = step.min(gap);
        }
    }
    acts
}

/// The acts with the one at `index` and all behind it by so many ticks earlier.
fn moved(acts: &[Act], index: usize, by: u64) -> Vec<Act> {
    let earlier = |act: &Act| Act { tick: Tick(act.tick.0 - by), ..act.clone() };
    acts[..index].iter().cloned().chain(acts[index..].iter().map(earlier)).collect()
}

thread_local! {
    /// Panics of this thread are expected: nothing is printed about them.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does what panics again and again without a report of each: the panic that was found first has
/// been reported. Other threads are heard as before.
pub(super) fn quietly<R>(body: impl FnOnce() -> R) -> R {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !QUIET.get() {
                before(panicked);
            }
        }));
    });
    let outer = QUIET.replace(true);
    // Panics of systems are caught further in; one of a check goes through, and is heard.
    let result = panic::catch_unwind(panic::AssertUnwindSafe(body));
    QUIET.set(outer);
    result.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Goes along with a match from its last checkpoint.
struct Watch<G: Game> {
    shadow: Option<Match<G>>,
}

impl<G: Game> Default for Watch<G> {
    fn default() -> Self {
        Self { shadow: None }
    }
}

impl<G: Game> Watch<G> {
    /// In which parts the restored match differs after the tick that was just made.
    fn differs(&mut self, game: &Typed<G>, harness: &Harness<G>) -> Option<Vec<String>> {
        let (step, output) = (harness.steps.last()?, harness.outputs.last()?);
        if let Some(shadow) = &mut self.shadow {
            let again = shadow.step(step);
            let hash = harness.hashes.last()?;
            if again.as_ref() != Ok(output) || shadow.state_hash() != *hash {
                let ours = harness.running.checkpoint();
                return Some(game.differing_parts(&ours, &shadow.checkpoint()));
            }
        }
        if step.tick.0 % SHADOW_EVERY == 1 {
            match Typed::restore(game, &harness.running.checkpoint()) {
                Ok(restored) => self.shadow = Some(restored),
                Err(error) => return Some(vec![error.to_string()]),
            }
        }
        None
    }
}

/// Players who act by chance.
struct Crowd {
    rng: Rng,
    players: Vec<(PlayerId, Option<Vec<u8>>)>,
    view: NetView,
}

impl Crowd {
    /// So many players, none of whom has joined.
    fn new(seed: u64, players: u64) -> Self {
        let players = (1..=players).map(|player| (PlayerId(player), None)).collect();
        Self { rng: Rng::stream(seed, Tick(0), PURPOSE), players, view: NetView::default() }
    }

    /// What they do in the next tick.
    fn act<G: Game>(&mut self, property: &Property<G>, harness: &mut Harness<G>) {
        let all: Vec<PlayerId> = self.players.iter().map(|(player, _)| *player).collect();
        let names = Names::of(harness.world(), &all);
        if property.bots {
            harness.running.extract(&mut self.view);
        }
        let rng = &mut self.rng;
        for (player, memory) in &mut self.players {
            let Some(remembered) = memory else {
                if rng.one_in(8) {
                    harness.join(*player);
                    *memory = Some(Vec::new());
                }
                continue;
            };
            if rng.one_in(128) {
                harness.leave(*player);
                *memory = None;
                continue;
            }
            let (input, command) = if property.bots {
                let (game, seen) = (&property.game, self.view.seen_by(*player));
                let input = game.bot(*player, &seen, &harness.config, remembered);
                (input, game.bot_command(*player, &seen, &harness.config, remembered))
            } else {
                (None, None)
            };
            let [of_inputs, of_commands] = property.game.payloads().asked();
            let mut drawn = |shape: Option<&_>, once_in: u32| {
                let shape = shape.filter(|_| rng.one_in(once_in))?;
                Some(Bytes::from(chance::bytes(shape, rng, &names)))
            };
            let input = drawn(of_inputs, 4).or(input);
            let command = drawn(of_commands, 8).or(command);
            if let Some(payload) = input {
                harness.act(*player, &Deed::Input(payload));
            }
            if let Some(payload) = command {
                harness.act(*player, &Deed::Command(payload));
            }
        }
    }
}
