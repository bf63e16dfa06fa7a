//! Every game of this workspace and every template, played by bots in the demo: on a node that is
//! killed, and on a cluster of which one node is killed, one frozen and one drained. One table says
//! what players saw of it. The templates are those that `rekindle new` writes; `cargo xtask
//! scaffold` builds them as a stranger does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::program::{Done, finish};
use crate::run;

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct Games {
    /// How often the single node is killed
    #[arg(long, default_value_t = 3)]
    kills: u32,
    /// How many nodes the cluster has; 1 leaves it out
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Decides the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only games with this in their name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Optimized
    #[arg(long)]
    release: bool,
}

/// A demo that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(5);
/// Executables, with the packages that make them and the games that are played with each; `None`:
/// the one that it has.
const PLAYED: [(&str, &str, &[Option<&str>]); 5] = [
    (
        "rekindle",
        "rekindle-server",
        &[Some("arena"), Some("tictactoe"), Some("skirmish"), Some("royale")],
    ),
    ("duel", "rekindle-duel", &[None]),
    ("template-arena", "template-arena", &[None]),
    ("template-turns", "template-turns", &[None]),
    ("template-strategy", "template-strategy", &[None]),
];

/// Builds the executables, runs all demos one after the other, and prints the table as it comes.
pub(crate) fn games(wanted: &Games) -> Result<()> {
    let is_wanted = |name: &&str| wanted.only.as_ref().is_none_or(|only| name.contains(&only[..]));
    let demos: Vec<(&str, &str, &str, Option<&str>)> = PLAYED
        .iter()
        .flat_map(|(program, package, games)| {
            games.iter().map(move |game| (game.unwrap_or(program), *program, *package, *game))
        })
        .filter(|(name, ..)| is_wanted(name))
        .collect();
    ensure!(
        !demos.is_empty(),
        "no game has `{}` in its name",
        wanted.only.as_deref().unwrap_or("")
    );
    let folder = build(wanted, &demos)?;
    println!("{}", line(HEAD));
    let mut broken = Vec::new();
    for (name, program, _, game) in demos {
        let game = game.map(|game| ["--game", game]);
        let kills = ["--kills".to_owned(), wanted.kills.to_string()];
        let nodes = ["--nodes".to_owned(), wanted.nodes.to_string()];
        for plan in [Some(kills), (wanted.nodes > 1).then_some(nodes)].into_iter().flatten() {
            let mut command = Command::new(folder.join(program));
            command.args(["--config", "/dev/null", "demo", "--json", "--seed"]);
            command.arg(wanted.seed.to_string()).args(game.iter().flatten()).args(&plan);
            let (row, faults) = play(name, &plan[0], &mut command)?;
            println!("{}", row.words());
            broken.extend(faults.into_iter().map(|fault| format!("{name} {}: {fault}", plan[0])));
        }
    }
    ensure!(broken.is_empty(), "promises were broken:\n  {}", broken.join("\n  "));
    Ok(())
}

/// Builds what the demos need; the folder with the executables.
fn build(wanted: &Games, demos: &[(&str, &str, &str, Option<&str>)]) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked"]);
    let mut packages: Vec<(&str, &str)> =
        demos.iter().map(|(_, program, package, _)| (*package, *program)).collect();
    packages.dedup();
    for (package, program) in packages {
        cargo.args(["--package", package, "--bin", program]);
    }
    cargo.args(wanted.release.then_some("--release"));
    run(&mut cargo)?;
    let folder = Path::new("target").join(if wanted.release { "release" } else { "debug" });
    folder.canonicalize().with_context(|| format!("{} is missing", folder.display()))
}

/// Runs a demo in an empty folder. Its row, and what it found broken.
fn play(name: &str, plan: &str, command: &mut Command) -> Result<(Row, Vec<String>)> {
    let dir = std::env::temp_dir().join(format!("rekindle-games-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let begun = Instant::now();
    let done = finish(command.current_dir(&dir), PATIENCE);
    std::fs::remove_dir_all(&dir)?;
    let Done { code, hung, text } = done?;
    ensure!(!hung, "{name}: the demo does not end:\n{text}");
    let told = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = told.filter(|told| told["holds"].is_boolean());
    let Some(told) = told else { bail!("{name}: the demo failed with {code:?}:\n{text}") };
    let mut faults: Vec<String> =
        told["faults"].as_array().into_iter().flatten().map(words).collect();
    if faults.is_empty() && (code != Some(0) || told["holds"] != true) {
        faults.push(format!("exit code {code:?}: {text}"));
    }
    let took = begun.elapsed();
    Ok((Row { name: name.to_owned(), is_cluster: plan == "--nodes", took, told }, faults))
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What one demo came to.
struct Row {
    name: String,
    is_cluster: bool,
    took: Duration,
    /// What it printed.
    told: Value,
}

/// The columns. Gaps are from an outage to the next tick at a bot, of a cluster from the kill; what
/// was lost or came twice are inputs and commands; `anew`: sessions that were not resumed.
const HEAD: [&str; 14] = [
    "game",
    "done",
    "gap p50 ms",
    "max ms",
    "inputs",
    "commands",
    "lost",
    "twice",
    "hashes",
    "differ",
    "resumed",
    "anew",
    "took s",
    "holds",
];

fn line(cells: [&str; 14]) -> String {
    let [
        name,
        done,
        p50,
        max,
        inputs,
        commands,
        lost,
        twice,
        hashes,
        differ,
        back,
        anew,
        took,
        holds,
    ] = cells;
    format!(
        "{name:<18}  {done:<27}  {p50:>10}  {max:>6}  {inputs:>7}  {commands:>8}  {lost:>4}  \
         {twice:>5}  {hashes:>6}  {differ:>6}  {back:>7}  {anew:>4}  {took:>6}  {holds}"
    )
}

impl Row {
    fn number(&self, key: &str) -> u64 {
        self.told[key].as_u64().unwrap_or_default()
    }

    /// From an outage to the next tick at a bot: half of them are shorter, and the longest.
    fn gaps(&self) -> (Option<f64>, Option<f64>) {
        let keys = if self.is_cluster {
            ("failover_ms_p50", "failover_ms_max")
        } else {
            ("kill_to_tick_ms_p50", "kill_to_tick_ms_max")
        };
        (self.told[keys.0].as_f64(), self.told[keys.1].as_f64())
    }

    fn done(&self) -> String {
        if !self.is_cluster {
            return format!("{} kills", self.number("kills"));
        }
        let events = self.told["events"].as_array().into_iter().flatten();
        let acts: Vec<String> = events.map(|event| words(&event["event"])).collect();
        acts.join(" ")
    }

    fn words(&self) -> String {
        let ms = |gap: Option<f64>| gap.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
        let (p50, max) = self.gaps();
        let lost = self.number("durable_inputs_lost") + self.number("answered_commands_lost");
        let twice = self.number("duplicate_inputs") + self.number("duplicate_commands");
        let count = |key: &str| self.number(key).to_string();
        line([
            &self.name,
            &self.done(),
            &ms(p50),
            &ms(max),
            &count("inputs_durable"),
            &count("commands_answered"),
            &lost.to_string(),
            &twice.to_string(),
            &count("beats_checked"),
            &count("hash_mismatches"),
            &count("sessions_resumed"),
            &count("joins_after_kill"),
            &self.took.as_secs().to_string(),
            if self.told["holds"] == true { "yes" } else { "NO" },
        ])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_stands_below_its_head_and_counts_what_was_lost() {
        let told = json!({
            "kills": 3, "kill_to_tick_ms_p50": 291.4, "kill_to_tick_ms_max": 402.0,
            "inputs_durable": 12_345, "durable_inputs_lost": 1, "answered_commands_lost": 2,
            "hash_mismatches": 4, "holds": false, "sessions_resumed": 96,
        });
        let took = Duration::from_secs(21);
        let row = Row { name: "arena".to_owned(), is_cluster: false, took, told };
        let words = row.words();
        let cells: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "arena", "3", "kills", "291", "402", "12345", "0", "3", "0", "0", "4", "96", "0",
                "21", "NO"
            ]
        );
        let head = line(HEAD);
        for (column, end) in [("  max ms", "402"), ("lost", " 3"), ("differ", " 4")] {
            let below = head.find(column).unwrap() + column.len();
            assert!(words[..below].ends_with(end), "{column}\n{head}\n{words}");
        }
        let events = json!({"events": [{"event": "kill"}, {"event": "drain"}]});
        let cluster = Row { is_cluster: true, told: events, ..row };
        assert!(cluster.words().contains("kill drain") && cluster.gaps() == (None, None));
    }
}
