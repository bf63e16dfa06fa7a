//! A node under load: matches full of bots over real QUIC, with or without garbage on the port; what the node itself counts, and what it costs.
//!
//! With `--floor`, a bare QUIC server then gets the same packets: what a node costs beyond it is ours. The ratio can be repeated on a shared
//! machine, the microseconds cannot.
//!
//! The bots run on the same machine and take most of its CPU, as clients elsewhere would not: they run at the lowest priority. Figures are of
//! the steady part, from the moment when all bots play until they stop.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

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
    /// Then measure a bare QUIC server with the same packets
    #[arg(long)]
    floor: bool,
}

const REKINDLE: &str = "target/release/rekindle";
/// How long everything before the steady part may take.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Card {
    pid: u32,
    admin: SocketAddr,
    listen: SocketAddr,
}

/// Runs the load and prints one line of figures.
pub(crate) fn load(load: &Load) -> Result<()> {
    run(Command::new("cargo").args(["build", "--release", "--locked", "--package", "rekindle", "--package", "rekindle-loadtest"]))?;
    let folder = std::env::temp_dir().join(format!("rekindle-load-{}", std::process::id()));
    let node = Node::start(&folder)?;
    let config =
        format!(r#"{{"endless": true, "max_players": {}, "movers": {}, "width": 96.0, "height": 64.0}}"#, load.players.max(2), load.movers);
    for _ in 0..load.matches {
        node.command(&["match", "create", "--game-config", &config])?.status().context("match create")?;
    }
    let bots = (load.matches * load.players).to_string();
    let seconds = (load.seconds + 20).to_string();
    let mut command = Command::new("nice");
    command.args(["-n", "19", REKINDLE, "--data-dir"]).arg(&folder).args(["bots", "--json", "--count", &bots, "--seconds", &seconds]);
    let mut swarm = Running(command.stdout(Stdio::piped()).spawn().context("cannot start the bots")?);
    let all = f64::from(load.matches * load.players);
    let begun = Instant::now();
    while node.metrics()?.get("rekindle_gateway_sessions").copied().unwrap_or_default() < all {
        ensure!(begun.elapsed() < PATIENCE, "not all bots play after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut flood = match load.flood {
        0 => None,
        rate => {
            let words = [node.card.listen.to_string(), rate.to_string(), (rate / 10).to_string(), load.seconds.to_string()];
            Some(Running(
                Command::new("nice").args(["-n", "19", "target/release/flood"]).args(words).spawn().context("cannot start the flood")?,
            ))
        }
    };
    let (before, cpu_before) = (node.metrics()?, node.cpu_seconds()?);
    std::thread::sleep(Duration::from_secs(load.seconds));
    let (after, cpu_after) = (node.metrics()?, node.cpu_seconds()?);
    let grown = |name: &str| after.get(name).copied().unwrap_or_default() - before.get(name).copied().unwrap_or_default();
    let (ticks, late) = (grown("rekindle_ticks_total"), grown("rekindle_late_ticks_total"));
    ensure!(ticks > 0.0, "the matches do not tick");
    let client_ticks = ticks * f64::from(load.players);
    let cost = (cpu_after - cpu_before) * 1e6 / client_ticks;
    let mean = |sum: &str, count: &str| (grown(sum) / grown(count).max(1.0)).round();
    let up = mean("rekindle_gateway_datagram_bytes_received_total", "rekindle_gateway_datagrams_received_total");
    let down = mean("rekindle_gateway_snapshot_bytes_sum", "rekindle_gateway_snapshot_bytes_count");
    println!(
        "{} matches x {} players, {} drones each, flood {}/s, {} s: {ticks} ticks ({:.2} Hz a match), late {late} ({:.4} %), paused {}, \
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
        node.memory_mib()?,
    );
    println!(
        "a client tick had {:.2} datagrams in of {up} B, {:.2} snapshots out of {down} B, {:.0} % of them shared",
        grown("rekindle_gateway_datagrams_received_total") / client_ticks,
        grown("rekindle_gateway_snapshot_bytes_count") / client_ticks,
        100.0 * grown("rekindle_gateway_snapshots_shared_total") / grown("rekindle_gateway_snapshot_bytes_count").max(1.0),
    );
    if let Some(flood) = &mut flood {
        flood.0.wait()?;
    }
    swarm.0.wait()?;
    let mut said = String::new();
    swarm.0.stdout.take().context("the bots' output")?.read_to_string(&mut said)?;
    println!("bots: {}", said.trim());
    drop(node);
    if load.floor {
        floor(load, up, down, cost)?;
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// What a bare QUIC server costs with the same packets, on as many threads as the edge of a node has.
fn floor(load: &Load, up: f64, down: f64, cost: f64) -> Result<()> {
    #[derive(Deserialize)]
    struct Floor {
        sent: u64,
        received: u64,
        cpu_us_per_client_tick: f64,
    }
    let threads = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    let clients = load.matches * load.players;
    let words = [clients, load.players, 30, up as u32, down as u32, load.seconds as u32, threads as u32].map(|word| word.to_string());
    let output = Command::new("target/release/floor").args(words).stderr(Stdio::inherit()).output().context("cannot start the floor")?;
    ensure!(output.status.success(), "the floor could not be measured");
    let floor: Floor = serde_json::from_slice(&output.stdout).context("the floor's output")?;
    println!(
        "a bare QUIC server: {:.1} us a client tick with {:.2} datagrams in; the node costs {:.2} times that",
        floor.cpu_us_per_client_tick,
        floor.received as f64 / floor.sent.max(1) as f64,
        cost / floor.cpu_us_per_client_tick,
    );
    Ok(())
}

/// A child process that does not outlive this one's interest in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running node and its data directory.
pub(crate) struct Node {
    process: Running,
    folder: PathBuf,
    card: Card,
}

impl Node {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let process = rekindle(folder)
            .args(["start", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the node")?;
        let process = Running(process);
        let begun = Instant::now();
        loop {
            let card = std::fs::read(folder.join("node.json")).ok().and_then(|text| serde_json::from_slice::<Card>(&text).ok());
            if let Some(card) = card.filter(|card| card.pid == process.0.id()) {
                return Ok(Self { process, folder: folder.to_owned(), card });
            }
            if begun.elapsed() > PATIENCE {
                bail!("the node is not ready after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it without warning.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(())
    }

    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = rekindle(&self.folder);
        command.args(words).stdout(Stdio::null());
        Ok(command)
    }

    /// What the admin listener answers.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.card.admin)?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.card.admin).as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "GET {path}: {status}");
        Ok(body.to_owned())
    }

    /// Counters and gauges without labels.
    fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let text = self.get("/metrics")?;
        let value = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(value).collect())
    }

    /// User and system time of the node, in seconds: fields 14 and 15 of `/proc/PID/stat`, in hundredths.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.card.pid))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("/proc/PID/stat");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    fn memory_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.card.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.split_whitespace().next().context("VmHWM")?.parse::<u64>()? / 1_024)
    }
}

fn rekindle(folder: &Path) -> Command {
    let mut command = Command::new(REKINDLE);
    command.arg("--data-dir").arg(folder);
    command
}
