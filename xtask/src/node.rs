//! A real node in a process of its own: started, filled, looked at, killed. What the tasks that
//! measure have in common.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::run;

/// The package whose executable the tasks run.
pub(crate) const PACKAGE: &str = "rekindle-server";
const REKINDLE: &str = "target/release/rekindle";
/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Builds the executable, optimized.
pub(crate) fn build() -> Result<()> {
    run(Command::new("cargo").args(["build", "--release", "--locked", "--package", PACKAGE]))
}

/// A child process that does not outlive this one's interest in it.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is in `node.json`.
#[derive(Deserialize)]
struct Card {
    pid: u32,
    incarnation: String,
    admin: SocketAddr,
    listen: SocketAddr,
}

/// Which memory: as in `/proc/PID/status`.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    Now,
    Peak,
}

/// A running node and its data directory.
pub(crate) struct Node {
    process: Running,
    folder: PathBuf,
    card: Card,
}

impl Node {
    /// Starts a node on `store`, or on the local one, and waits until it serves. A store on a
    /// server gets its tables first.
    pub(crate) fn start(folder: &Path, store: Option<&str>) -> Result<Self> {
        Self::start_with(folder, store, &[])
    }

    /// As [`Node::start`], with more words for the command line.
    pub(crate) fn start_with(folder: &Path, store: Option<&str>, more: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let on: Vec<&str> = store.map_or(Vec::new(), |store| vec!["--store", store]);
        if store.is_some_and(|store| store.contains("://")) {
            let status = rekindle(folder)
                .args(["store", "migrate"])
                .args(&on)
                .stdout(Stdio::null())
                .status()
                .context("store migrate")?;
            ensure!(status.success(), "the tables could not be made");
        }
        let process = rekindle(folder)
            .args(["start", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(on)
            .args(more)
            .env("REKINDLE_LOG_FILTER", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the node")?;
        let mut process = Running(process);
        let begun = Instant::now();
        loop {
            let card = std::fs::read(folder.join("node.json"))
                .ok()
                .and_then(|text| serde_json::from_slice::<Card>(&text).ok());
            if let Some(card) = card.filter(|card| card.pid == process.0.id()) {
                return Ok(Self { process, folder: folder.to_owned(), card });
            }
            if let Some(status) = process.0.try_wait()? {
                bail!("the node ended with {status} before it was ready");
            }
            ensure!(begun.elapsed() < PATIENCE, "the node is not ready after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it without warning.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(())
    }

    /// SIGTERM; waits until it has ended cleanly.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.process.0.wait()?;
        ensure!(status.success(), "the node ended with {status}");
        Ok(())
    }

    /// Where players connect.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.card.listen
    }

    /// Creates matches on this node; `words` go to `match create`.
    pub(crate) fn create(&self, matches: u32, words: &[&str]) -> Result<()> {
        for _ in 0..matches {
            let status = rekindle(&self.folder)
                .args(["match", "create", "--on", &self.card.incarnation])
                .args(words)
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "match create ended with {status}");
        }
        Ok(())
    }

    /// Bots over QUIC, at the lowest priority; answers when all of them play.
    pub(crate) fn swarm(&self, bots: u32, seconds: u64) -> Result<Swarm> {
        let words =
            ["bots", "--json", "--count", &bots.to_string(), "--seconds", &seconds.to_string()];
        let mut command = Command::new("nice");
        command.args(["-n", "19", REKINDLE, "--data-dir"]).arg(&self.folder).args(words);
        let swarm = Swarm(Running(
            command.stdout(Stdio::piped()).spawn().context("cannot start the bots")?,
        ));
        let begun = Instant::now();
        while self.metrics()?.get("rekindle_gateway_sessions") < f64::from(bots) {
            ensure!(begun.elapsed() < PATIENCE, "not all bots play after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(swarm)
    }

    /// What the admin listener answers.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.card.admin)?;
        stream.write_all(
            format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.card.admin).as_bytes(),
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "GET {path}: {status}");
        Ok(body.to_owned())
    }

    /// What it counts now.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::parse(&self.get("/metrics")?))
    }

    /// User and system time of the node, in seconds: fields 14 and 15 of `/proc/PID/stat`, in
    /// hundredths.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.card.pid))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| {
            fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("/proc/PID/stat")
        };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// What of it is in memory, in MiB.
    pub(crate) fn memory_mib(&self, memory: Memory) -> Result<u64> {
        let field = match memory {
            Memory::Now => "VmRSS:",
            Memory::Peak => "VmHWM:",
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.card.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context(field)?;
        Ok(line.split_whitespace().next().context(field)?.parse::<u64>()? / 1_024)
    }
}

/// Bots in a process of their own.
pub(crate) struct Swarm(Running);

impl Swarm {
    /// Waits for their end: one line of JSON.
    pub(crate) fn verdict(mut self) -> Result<String> {
        let mut said = String::new();
        self.0.0.stdout.take().context("the bots' output")?.read_to_string(&mut said)?;
        self.0.0.wait()?;
        Ok(said.trim().to_owned())
    }
}

/// All samples of one look at `/metrics`, by name and labels.
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format of Prometheus.
    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// One without labels; 0 if it has not been counted yet.
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// By how much a counter has grown since `before`, all labels together.
    pub(crate) fn grown(&self, before: &Self, name: &str) -> f64 {
        let sum = |metrics: &Self| -> f64 {
            metrics
                .0
                .iter()
                .filter(|(key, _)| key.split('{').next() == Some(name))
                .map(|(_, value)| value)
                .sum()
        };
        sum(self) - sum(before)
    }

    /// A quantile of what a histogram without labels has recorded since `before`, linear between
    /// the bounds of its buckets; 0 of nothing.
    pub(crate) fn quantile(&self, before: &Self, name: &str, quantile: f64) -> f64 {
        let prefix = format!("{name}_bucket{{le=\"");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter_map(|(key, count)| {
                let bound = key.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                Some((bound, count - before.get(key)))
            })
            .collect();
        buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        let total = buckets.last().map_or(0.0, |(_, count)| *count);
        if total <= 0.0 {
            return 0.0;
        }
        let wanted = quantile * total;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > below {
                return if bound.is_finite() {
                    low + (bound - low) * (wanted - below) / (count - below)
                } else {
                    low
                };
            }
            (low, below) = (bound, count);
        }
        low
    }
}

fn rekindle(folder: &Path) -> Command {
    let mut command = Command::new(REKINDLE);
    command.arg("--data-dir").arg(folder);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(counts: [u32; 3]) -> Metrics {
        let [one, two, all] = counts;
        Metrics::parse(&format!(
            "# TYPE wait histogram\nwait_bucket{{le=\"1\"}} {one}\n\
             wait_bucket{{le=\"2\"}} {two}\nwait_bucket{{le=\"+Inf\"}} {all}\n\
             sent{{kind=\"a\"}} {one}\nsent{{kind=\"b\"}} {two}\n"
        ))
    }

    #[test]
    fn a_counter_grows_by_what_all_its_labels_grow() {
        assert!((wait([10, 30, 40]).grown(&wait([1, 2, 3]), "sent") - 37.0).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        let (before, after) = (wait([5, 5, 5]), wait([15, 25, 25]));
        for (quantile, expected) in [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)] {
            let found = after.quantile(&before, "wait", quantile);
            assert!((found - expected).abs() < 1e-9, "{quantile}: {found}");
        }
        // Beyond the last bound nothing is known but that bound.
        assert!((wait([0, 0, 9]).quantile(&wait([0, 0, 0]), "wait", 0.5) - 2.0).abs() < 1e-9);
        assert!(before.quantile(&before, "wait", 0.5).abs() < 1e-9);
    }
}
