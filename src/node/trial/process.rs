//! A trial process from inside: replays what it is given, and makes some ticks behind it. Called by
//! the hidden subcommand [`COMMAND`](super::COMMAND) only.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rekindle_actors::recovery::Replay;
use rekindle_actors::{Games, OtherBuild};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{AppliedInput, Step};
use rekindle_schema::{BuildId, PlayerId, Tick};
use rekindle_store::history::History;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::request::{Task, decode};
use super::{FOUND, SAYS, comparison};
use crate::node::bots::FIRST_HOUSE_PLAYER;

/// How often a trial process says that it gets on.
const SAY_EVERY: Duration = Duration::from_millis(100);
/// The stack of a thread that replays in a node.
const STACK: usize = 2 << 20;
/// A trial process may always use so much memory, in bytes.
const LEAST_MEMORY: u64 = 256 << 20;

/// The whole life of a trial process: replays what it is given until its standard input ends. An
/// error means that the node is gone.
pub fn serve(games: &Games) -> std::io::Result<()> {
    prepare();
    say("ready")?;
    let mut input = std::io::stdin().lock();
    while let Some((request, lease, history)) = decode(&mut input)? {
        say("begun")?;
        let games = games.clone();
        // A stack as large as the one on which a node replays and ticks.
        let work = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            let build = BuildId(request.build);
            match request.task {
                Task::Play { ticks } => {
                    play(&games, (build, ticks), &lease, &history);
                    None
                }
                Task::Compare { backtest } => {
                    let mut progress = Progress::default();
                    let progress = &mut |tick| progress.at(tick);
                    Some(comparison::of(&games, (build, backtest), &lease, &history, progress))
                }
            }
        })?;
        // A panic ends no node either.
        if let Ok(Some(found)) = work.join() {
            say(&format!("{FOUND}{}", serde_json::to_string(&found)?))?;
        }
        say("done")?;
    }
    Ok(())
}

/// When memory is short this process is to go, and not the node; and it leaves no core file behind.
/// None of this is essential.
fn prepare() {
    std::panic::set_hook(Box::new(|_| ()));
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    if let Some(free) = free_memory() {
        let most = Some(free.max(LEAST_MEMORY));
        let _ = setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
    }
}

/// Memory that is left on this host, in bytes.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

fn say(word: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{SAYS}{word}")?;
    out.flush()
}

/// Says now and then how far a replay is.
struct Progress {
    said: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { said: Instant::now() }
    }
}

impl Progress {
    fn at(&mut self, tick: Tick) {
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            // The node is gone: the next word ends this process.
            let _ = say(&format!("at {tick}"));
        }
    }
}

fn play(games: &Games, (build, ticks): (BuildId, u64), lease: &MatchLease, history: &History) {
    let Ok(game) = games.get(&lease.spec.game) else { return };
    let mut progress = Progress::default();
    // What another build computed is made again, too: whether that is equal is found out elsewhere.
    let other_build = OtherBuild::Accept;
    let whole = Replay {
        game: &*game,
        spec: &lease.spec,
        build,
        other_build,
        until: None,
        match_id: Some(lease.match_id),
    };
    let Ok(replayed) = whole.run(history, &mut |at| progress.at(at.tick)) else { return };
    if replayed.ended.is_some() {
        return;
    }
    let mut sim = replayed.sim;
    let mut view = NetView::default();
    let mut memories: BTreeMap<PlayerId, Vec<u8>> = BTreeMap::new();
    sim.extract(&mut view);
    for _ in 0..ticks {
        let bots =
            sim.sessions().into_iter().filter(|session| session.player.0 >= FIRST_HOUSE_PLAYER);
        let inputs = bots.filter_map(|bot| {
            let payload = game.bot(
                bot.player,
                &view.seen_by(bot.player),
                &lease.spec.config,
                memories.entry(bot.player).or_default(),
            )?;
            Some(AppliedInput {
                player: bot.player,
                session: bot.session,
                seq: bot.last_input + 1,
                view_tick: sim.tick(),
                payload,
            })
        });
        let step = Step { tick: sim.tick().next(), inputs: inputs.collect(), ..Step::default() };
        if !sim.step(&step).is_ok_and(|output| output.ended.is_none()) {
            return;
        }
        sim.extract(&mut view);
        progress.at(sim.tick());
    }
    drop(sim.checkpoint());
}
