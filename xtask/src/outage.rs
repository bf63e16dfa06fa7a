//! A database that is killed under a node full of bots and stays away for minutes. What must hold:
//! no bot sees anything undone, the node's memory stays bounded, and once the database is back
//! every match goes on by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rekindle_testservers::Control;
use serde::Deserialize;

use crate::node::{self, Memory, Node};
use crate::stores;

/// What goes away, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Outage {
    /// Which server, of those that `services up` has started
    store: Server,
    /// How long it is away
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// What matches do meanwhile
    #[arg(long, default_value = "pause")]
    on_stall: OnStall,
    /// How many matches, with 16 bots each
    #[arg(long, default_value_t = 4)]
    matches: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Server {
    Postgres,
    Cql,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OnStall {
    Pause,
    Run,
}

/// Before the outage, and after it.
const CALM: Duration = Duration::from_secs(10);
/// How long the node may take to go on once the server answers.
const PATIENCE: Duration = Duration::from_mins(1);

/// With less than this the journal has caught up.
const CAUGHT_UP: f64 = 65_536.0;

#[derive(Deserialize)]
struct View {
    tick: Option<u64>,
}

/// The lowest tick that players have been shown.
fn shown(node: &Node) -> Result<u64> {
    let views: Vec<View> =
        serde_json::from_str(&node.get("/v1/matches")?).context("/v1/matches")?;
    views.iter().filter_map(|view| view.tick).min().context("no matches")
}

/// Runs the drill and prints what happened.
pub(crate) fn outage(wanted: &Outage) -> Result<()> {
    node::build()?;
    let (name, control): (_, Option<Control>) = match wanted.store {
        Server::Postgres => {
            ("postgres", rekindle_testservers::postgres().and_then(|server| server.control))
        }
        Server::Cql => ("cql", rekindle_testservers::cql().and_then(|server| server.control)),
    };
    let (Some(control), Some(store)) =
        (control, stores::address(name, &format!("outage_{}", std::process::id()))?)
    else {
        bail!("no server of ours to kill: start one with `cargo xtask services up`");
    };
    let folder = std::env::temp_dir().join(format!("rekindle-outage-{}", std::process::id()));
    let mode = if wanted.on_stall == OnStall::Run { "on_stall=run" } else { "on_stall=pause" };
    let node = Node::start_with(&folder, Some(&store), &["--set", mode])?;
    node.create(wanted.matches, &["--game-config", r#"{"endless": true, "max_players": 16}"#])?;
    let swarm = node.swarm(wanted.matches * 16, wanted.seconds + 2 * CALM.as_secs() + 40)?;
    std::thread::sleep(CALM);
    let (before, memory_before) = (node.metrics()?, node.memory_mib(Memory::Now)?);
    control.kill();
    let killed = shown(&node)?;
    std::thread::sleep(Duration::from_secs(wanted.seconds));
    let (during, memory_during, stood) =
        (node.metrics()?, node.memory_mib(Memory::Now)?, shown(&node)?);
    let begun = Instant::now();
    control.start();
    let answers = begun.elapsed();
    let caught_up = loop {
        let now = node.metrics()?;
        let appended = now.grown(&during, "rekindle_journal_append_seconds_count") > 0.0;
        if appended
            && now.get("rekindle_journal_backlog_bytes") < CAUGHT_UP
            && shown(&node)? > stood
        {
            break begun.elapsed();
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "the matches do not go on {PATIENCE:?} after the server was started"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    let resumed = shown(&node)?;
    std::thread::sleep(CALM);
    let (after, end) = (node.metrics()?, shown(&node)?);
    println!(
        "{name} away for {} s, {mode}, {} matches x 16 bots: tick shown \
         {killed} -> {stood} while it was away, {} ticks paused; {:.1} s to start the server, \
         {:.1} s until the journal had caught up; {:.1} ticks/s in the {} s after; memory \
         {memory_before} MiB before, {memory_during} at the end of the outage, {} at most; \
         {:.0} KiB waited; {} appends were repeated",
        wanted.seconds,
        wanted.matches,
        during.grown(&before, "rekindle_paused_ticks_total"),
        answers.as_secs_f64(),
        caught_up.as_secs_f64(),
        (end - resumed) as f64 / CALM.as_secs_f64(),
        CALM.as_secs(),
        node.memory_mib(Memory::Peak)?,
        during.get("rekindle_journal_backlog_bytes") / 1_024.0,
        after.grown(&before, "rekindle_journal_append_retries_total"),
    );
    println!("bots: {}", swarm.verdict()?);
    node.kill()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}
