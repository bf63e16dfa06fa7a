//! How long many matches stand still when their node is killed: from SIGKILL to the moment when the
//! last one has made a new tick.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::node::{self, Node};

/// What to kill.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// How many matches
    #[arg(long, default_value_t = 1_000)]
    matches: u32,
    /// House bots in each: their inputs are journaled like anybody's
    #[arg(long, default_value_t = 2)]
    bots: u32,
    /// How long they play before the kill
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often it is killed
    #[arg(long, default_value_t = 3)]
    kills: u32,
}

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct View {
    id: String,
    state: String,
    tick: Option<u64>,
}

/// Kills a node full of matches and prints how long each took to come back.
pub(crate) fn restart(wanted: &Restart) -> Result<()> {
    node::build()?;
    let folder = std::env::temp_dir().join(format!("rekindle-restart-{}", std::process::id()));
    let mut node = Node::start(&folder, None)?;
    let bots = wanted.bots.to_string();
    node.create(wanted.matches, &["--bots", &bots, "--game-config", r#"{"endless": true}"#])?;
    for kill in 1..=wanted.kills {
        std::thread::sleep(Duration::from_secs(wanted.seconds));
        let before = ticks(&node)?;
        let begun = Instant::now();
        node.kill()?;
        node = Node::start(&folder, None)?;
        let started = begun.elapsed();
        let mut back = Vec::with_capacity(before.len());
        let mut waiting = before;
        while !waiting.is_empty() {
            ensure!(
                begun.elapsed() < PATIENCE,
                "{} matches do not tick after {PATIENCE:?}",
                waiting.len()
            );
            std::thread::sleep(Duration::from_millis(20));
            let now = ticks(&node).unwrap_or_default();
            let ticking = begun.elapsed();
            waiting.retain(|id, tick| {
                let goes_on = now.get(id).is_some_and(|now| *now > *tick);
                if goes_on {
                    back.push(ticking);
                }
                !goes_on
            });
        }
        let at = |share: f64| back[((back.len() - 1) as f64 * share) as usize].as_millis();
        println!(
            "kill {kill}: {} matches x {} bots after {} s: node answers after {} ms, matches tick \
             after {} ms p50, {} ms last",
            wanted.matches,
            wanted.bots,
            wanted.seconds,
            started.as_millis(),
            at(0.5),
            at(1.0)
        );
    }
    node.kill()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// The newest published tick of each running match.
fn ticks(node: &Node) -> Result<BTreeMap<String, u64>> {
    let views: Vec<View> =
        serde_json::from_str(&node.get("/v1/matches")?).context("/v1/matches")?;
    Ok(views
        .into_iter()
        .filter(|view| view.state == "running")
        .map(|view| (view.id, view.tick.unwrap_or_default()))
        .collect())
}
