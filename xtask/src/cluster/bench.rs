//! How long many matches stand still when their node dies or is drained while others take them, and
//! what the links between idle nodes cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::node::{self, Node};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Matches of the node that is killed, one run for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000])]
    failover: Vec<u32>,
    /// Matches of the node that is drained; 0: none is
    #[arg(long, default_value_t = 200)]
    drain: u32,
    /// Nodes that are left
    #[arg(long, default_value_t = 3)]
    survivors: usize,
    /// House bots in each match: their inputs are journaled like anybody's
    #[arg(long, default_value_t = 2)]
    bots: u32,
    /// How long the matches play before
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How long idle nodes are watched; 0: not at all
    #[arg(long, default_value_t = 20)]
    idle: u64,
}

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at the survivors: no figure is finer than that.
const LOOK: Duration = Duration::from_millis(25);

#[derive(Deserialize)]
struct View {
    id: String,
    state: String,
    tick: Option<u64>,
}

/// The newest published tick of each match that runs at one of these nodes.
fn ticks(nodes: &[Node]) -> Result<BTreeMap<String, u64>> {
    let mut ticks = BTreeMap::new();
    for node in nodes {
        let views: Vec<View> =
            serde_json::from_str(&node.get("/v1/matches")?).context("/v1/matches")?;
        let running = views.into_iter().filter(|view| view.state == "running");
        ticks.extend(running.map(|view| (view.id, view.tick.unwrap_or_default())));
    }
    Ok(ticks)
}

/// Prints one line of JSON for each thing that was measured.
pub(crate) fn bench(wanted: &Bench) -> Result<()> {
    node::build()?;
    let folder = std::env::temp_dir().join(format!("rekindle-cluster-{}", std::process::id()));
    let all = || -> Result<()> {
        for &matches in &wanted.failover {
            println!("{}", moved(&folder, wanted, matches, Ending::Kill)?);
        }
        if wanted.drain > 0 {
            println!("{}", moved(&folder, wanted, wanted.drain, Ending::Drain)?);
        }
        if wanted.idle > 0 {
            println!("{}", idle(&folder, wanted)?);
        }
        Ok(())
    };
    let measured = all();
    let removed = std::fs::remove_dir_all(&folder);
    measured.and(removed.with_context(|| format!("cannot remove {}", folder.display())))
}

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Kill,
    Drain,
}

fn start(folder: &Path, store: &str, name: &str, more: &[&str]) -> Result<Node> {
    let named = format!("node.name={name}");
    Node::start_with(&folder.join(name), Some(store), &[&["--set", &named], more].concat())
}

/// Ends a node full of matches, and measures from the signal on until each has made a new tick
/// elsewhere.
fn moved(folder: &Path, wanted: &Bench, matches: u32, ending: Ending) -> Result<Value> {
    let folder = folder.join(format!("{ending:?}-{matches}"));
    let store = format!("local:{}", folder.join("store").display());
    let owner = start(&folder, &store, "owner", &[])?;
    let bots = wanted.bots.to_string();
    owner.create(matches, &["--bots", &bots, "--game-config", r#"{"endless": true}"#])?;
    let survivors: Vec<Node> = (0..wanted.survivors)
        .map(|index| start(&folder, &store, &format!("s{index}"), &[]))
        .collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_secs(wanted.seconds));
    let owner = [owner];
    let mut waiting = ticks(&owner)?;
    let [owner] = owner;
    ensure!(waiting.len() == matches as usize, "{} of {matches} matches run", waiting.len());
    let begun = Instant::now();
    let ends = std::thread::spawn(move || match ending {
        Ending::Kill => owner.kill(),
        Ending::Drain => owner.stop(),
    });
    let mut back = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "{} matches do not tick elsewhere", waiting.len());
        std::thread::sleep(LOOK);
        let now = ticks(&survivors)?;
        let ticking = begun.elapsed().as_millis() as u64;
        waiting.retain(|id, tick| {
            let goes_on = now.get(id).is_some_and(|now| *now > *tick);
            if goes_on {
                back.push(ticking);
            }
            !goes_on
        });
    }
    ends.join().map_err(|_| anyhow::anyhow!("the thread that ends the node panicked"))??;
    let ended = begun.elapsed().as_millis() as u64;
    let at = |share: f64| back[((back.len() - 1) as f64 * share).ceil() as usize];
    for node in survivors {
        node.kill()?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(json!({
        "measured": if ending == Ending::Kill { "failover" } else { "drain" },
        "matches": matches, "survivors": wanted.survivors, "bots": wanted.bots,
        "first_ms": at(0.0), "p50_ms": at(0.5), "p99_ms": at(0.99), "last_ms": at(1.0),
        "node_ended_ms": ended,
    }))
}

/// What nodes without matches take of a core, with links and gossip and without.
fn idle(folder: &Path, wanted: &Bench) -> Result<Value> {
    let mut shares = Vec::new();
    for (name, more) in [("linked", &[][..]), ("alone", &["--set", "cluster.listen="][..])] {
        let folder = folder.join(name);
        let store = format!("local:{}", folder.join("store").display());
        let nodes: Vec<Node> = (0..wanted.survivors)
            .map(|index| start(&folder, &store, &format!("s{index}"), more))
            .collect::<Result<_>>()?;
        std::thread::sleep(Duration::from_secs(2));
        let used = || nodes.iter().map(Node::cpu_seconds).sum::<Result<f64>>();
        let before = used()?;
        std::thread::sleep(Duration::from_secs(wanted.idle));
        let percent = (used()? - before) / wanted.idle as f64 / nodes.len() as f64 * 100.0;
        shares.push((percent * 100.0).round() / 100.0);
        for node in nodes {
            node.kill()?;
        }
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(json!({
        "measured": "idle", "nodes": wanted.survivors, "seconds": wanted.idle,
        "percent_of_a_core_linked": shares[0], "percent_of_a_core_alone": shares[1],
    }))
}
