//! A node under load: matches full of bots over real QUIC, with or without garbage on the port;
//! what the node itself counts, and what it costs.
//!
//! With `--floor`, bare QUIC servers then get the same packets, on quinn and on the port of a node:
//! what a node costs beyond them is ours. The ratio can be repeated on a shared machine, the
//! microseconds cannot.
//!
//! The bots run on the same machine and take most of its CPU, as clients elsewhere would not: they
//! run at the lowest priority. Figures are of the steady part, from the moment when all bots play
//! until they stop.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::node::{Memory, Node, PACKAGE, Running};
use crate::run;

/// What to load a node with.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// How many matches
    #[arg(long, default_value_t = 40)]
    matches: u32,
    /// Bots in each
    #[arg(long, default_value_t = 16)]
    players: u32,
    /// Wandering drones in each: moving entities besides the bots
    #[arg(long, default_value_t = 0)]
    movers: u32,
    /// For how long, once all play
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Garbage datagrams a second on the UDP port, a tenth of that as whole handshakes
    #[arg(long, default_value_t = 0)]
    flood: u32,
    /// What carries the handshakes of the flood
    #[arg(long, default_value = "quic", value_parser = ["quic", "webtransport", "websocket"])]
    flood_carrier: String,
    /// Then measure bare QUIC servers with the same packets
    #[arg(long)]
    floor: bool,
}

/// Runs the load and prints one line of figures.
pub(crate) fn load(load: &Load) -> Result<()> {
    run(Command::new("cargo").args([
        "build",
        "--release",
        "--locked",
        "--package",
        PACKAGE,
        "--package",
        "rekindle-loadtest",
    ]))?;
    let folder = std::env::temp_dir().join(format!("rekindle-load-{}", std::process::id()));
    let node = Node::start(&folder, None)?;
    let config = format!(
        r#"{{"endless": true, "max_players": {}, "movers": {}, "width": 96.0, "height": 64.0}}"#,
        load.players.max(2),
        load.movers
    );
    node.create(load.matches, &["--game-config", &config])?;
    let swarm = node.swarm(load.matches * load.players, load.seconds + 20)?;
    let mut flood = match load.flood {
        0 => None,
        rate => {
            let words = [
                node.listen().to_string(),
                rate.to_string(),
                (rate / 10).to_string(),
                load.seconds.to_string(),
                load.flood_carrier.clone(),
            ];
            Some(Running(
                Command::new("nice")
                    .args(["-n", "19", "target/release/flood"])
                    .args(words)
                    .spawn()
                    .context("cannot start the flood")?,
            ))
        }
    };
    let (before, cpu_before) = (node.metrics()?, node.cpu_seconds()?);
    std::thread::sleep(Duration::from_secs(load.seconds));
    let (after, cpu_after) = (node.metrics()?, node.cpu_seconds()?);
    let grown = |name: &str| after.grown(&before, name);
    let (ticks, late) = (grown("rekindle_ticks_total"), grown("rekindle_late_ticks_total"));
    ensure!(ticks > 0.0, "the matches do not tick");
    let client_ticks = ticks * f64::from(load.players);
    let cost = (cpu_after - cpu_before) * 1e6 / client_ticks;
    let mean = |sum: &str, count: &str| (grown(sum) / grown(count).max(1.0)).round();
    let up = mean(
        "rekindle_gateway_datagram_bytes_received_total",
        "rekindle_gateway_datagrams_received_total",
    );
    let down = mean("rekindle_gateway_snapshot_bytes_sum", "rekindle_gateway_snapshot_bytes_count");
    println!(
        "{} matches x {} players, {} drones each, flood {}/s, {} s: \
         {ticks} ticks ({:.2} Hz a match), late {late} ({:.4} %), paused {}, \
         node CPU {:.1} us a client tick, {:.0} % of a core, memory {} MiB at most",
        load.matches,
        load.players,
        load.movers,
        load.flood,
        load.seconds,
        ticks / f64::from(load.matches) / load.seconds as f64,
        100.0 * late / ticks,
        grown("rekindle_paused_ticks_total"),
        cost,
        100.0 * (cpu_after - cpu_before) / load.seconds as f64,
        node.memory_mib(Memory::Peak)?,
    );
    println!(
        "a client tick had {:.2} datagrams in of {up} B, {:.2} snapshots out of {down} B, {:.0} % \
         of them shared",
        grown("rekindle_gateway_datagrams_received_total") / client_ticks,
        grown("rekindle_gateway_snapshot_bytes_count") / client_ticks,
        100.0 * grown("rekindle_gateway_snapshots_shared_total")
            / grown("rekindle_gateway_snapshot_bytes_count").max(1.0),
    );
    if let Some(flood) = &mut flood {
        flood.0.wait()?;
    }
    println!("bots: {}", swarm.verdict()?);
    drop(node);
    if load.floor {
        floor(load, up, down, cost)?;
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// What bare QUIC servers cost with the same packets, on as many threads as the edge of a node has:
/// one on quinn, and one on the port of a node.
fn floor(load: &Load, up: f64, down: f64, cost: f64) -> Result<()> {
    for (stack, name) in [("quinn", "a bare server on quinn"), ("node", "a node's port alone")] {
        let floor = Floor::measure(stack, load, up, down)?;
        println!(
            "{name}: {:.1} us a client tick with {:.2} datagrams in; the node costs {:.2} times \
             that",
            floor.cpu_us_per_client_tick,
            floor.received as f64 / floor.sent.max(1) as f64,
            cost / floor.cpu_us_per_client_tick,
        );
    }
    Ok(())
}

/// What a bare server did and cost.
#[derive(Deserialize)]
struct Floor {
    sent: u64,
    received: u64,
    cpu_us_per_client_tick: f64,
}

impl Floor {
    fn measure(stack: &str, load: &Load, up: f64, down: f64) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let (clients, threads) = (load.matches * load.players, threads.max(1));
        let words = [
            clients,
            load.players,
            30,
            up as u32,
            down as u32,
            load.seconds as u32,
            threads as u32,
        ];
        let output = Command::new("target/release/floor")
            .arg(stack)
            .args(words.map(|word| word.to_string()))
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start the floor")?;
        ensure!(output.status.success(), "the floor could not be measured");
        serde_json::from_slice(&output.stdout).context("the floor's output")
    }
}
