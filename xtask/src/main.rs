//! Tasks of this workspace: `cargo xtask test`, `cargo xtask layers`, `cargo xtask sim`,
//! `cargo xtask model`, `cargo xtask drill`, `cargo xtask cuts`, `cargo xtask attack`,
//! `cargo xtask bits`, `cargo xtask browser`, `cargo xtask load`, `cargo xtask stores`,
//! `cargo xtask outage`, `cargo xtask physics`, `cargo xtask ecs`, `cargo xtask restart`,
//! `cargo xtask scaffold`, `cargo xtask games`, `cargo xtask cluster`, `cargo xtask services`,
//! `cargo xtask tidy`.

mod attack;
mod browser;
mod cluster;
mod cuts;
mod drill;
mod games;
mod layers;
mod load;
mod node;
mod outage;
mod program;
mod restart;
mod scaffold;
mod services;
mod stores;
mod suite;
mod tidy;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Rekindle workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test, on servers of its own (Postgres, Java and Maven are installed where that is
    /// possible)
    Test(suite::Suite),
    /// Check the rules that a tool keeps: widths, sizes, error codes, lints, layers (seconds)
    Tidy(tidy::Tidy),
    /// Check that no crate imports what its layer must not see (part of `tidy`)
    Layers,
    /// Run whole nodes in simulation, one seed after another
    Sim {
        /// How many nodes share the store: 1 (with clients over QUIC, bad disks, power cuts) or 3
        /// (with takeovers, migrations, pauses, wrong suspicions, a store that is hard to reach)
        #[arg(long, default_value_t = 1)]
        nodes: u64,
        /// How many seeds
        #[arg(long, default_value_t = 50)]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Optimized: for thousands of seeds. The trace of a seed is the same
        #[arg(long)]
        release: bool,
    },
    /// Print how long it takes until a death is noticed and until its matches have owners again,
    /// from 3 nodes to 30, in virtual time
    Growth {
        /// How many deaths and hangs of each size
        #[arg(long, default_value_t = 20)]
        trials: u64,
    },
    /// Look at more states of the model of the ownership protocol than the suite does
    Model {
        /// How long each of its four parts may take
        #[arg(long, default_value_t = 240)]
        seconds: u64,
    },
    /// Kill nodes under load, and cut the power of their disk (minutes; needs root for power cuts)
    Drill {
        /// How many kills
        #[arg(long, default_value_t = 200)]
        kills: u32,
        /// How many power cuts
        #[arg(long, default_value_t = 50)]
        power_cuts: u32,
        /// Decides the moments
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Cut the power of the disk under a node that runs, and compare what is left with what players
    /// were told (minutes; needs root)
    Cuts(cuts::PowerCuts),
    /// Play what an attacker and a bad day do, and print what held (five minutes)
    Attack(attack::Attack),
    /// Flip every bit of a small data directory, one at a time, and see that none goes on in
    /// silence (an hour)
    Bits,
    /// Play matches full of bots against a node and print what it costs
    Load(load::Load),
    /// Journal full nodes on each store and print what that costs, and how long a tick waits to be
    /// durable
    Stores(stores::Stores),
    /// Play the same game on this world, Bevy and hecs, and print what a tick and a world
    /// cost (downloads and builds them first: minutes)
    Ecs,
    /// Kill the database under a node full of bots for minutes, and print what they saw
    Outage(outage::Outage),
    /// Kill a node full of matches and print how long they stand still
    Restart(restart::Restart),
    /// Make a game from each template of `rekindle new`, build it in a folder of its own and test
    /// it, which kills its node (minutes)
    Scaffold(scaffold::Scaffold),
    /// Play every game and every template in the demo, on a node that is killed and on a cluster of
    /// three, and print one table (ten minutes)
    Games(games::Games),
    /// Do things to a cluster of real processes under load, and measure what it costs (minutes)
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Play in a real Chromium against a node that is killed (installs playwright-core by npm)
    Browser(browser::Browser),
    /// Test the physics that stands on rapier, which the suite does not compile (a minute and a
    /// half for the first time)
    Physics,
    /// Start and stop private Postgres and CQL servers for tests
    Services(services::Services),
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Test(wanted) => suite::test(&wanted),
        Task::Tidy(wanted) => tidy::tidy(&wanted),
        Task::Layers => layers::check(),
        Task::Sim { nodes, seeds, from, release } => sim(nodes, seeds, from, release),
        Task::Growth { trials } => growth(trials),
        Task::Model { seconds } => model(seconds),
        Task::Attack(wanted) => attack::attack(&wanted),
        Task::Browser(wanted) => browser::browser(&wanted),
        Task::Cuts(wanted) => cuts::cuts(&wanted),
        Task::Bits => bits(),
        Task::Physics => physics(),
        Task::Load(wanted) => load::load(&wanted),
        Task::Stores(wanted) => stores::stores(&wanted),
        Task::Ecs => ecs(),
        Task::Outage(wanted) => outage::outage(&wanted),
        Task::Restart(wanted) => restart::restart(&wanted),
        Task::Scaffold(wanted) => scaffold::scaffold(&wanted),
        Task::Games(wanted) => games::games(&wanted),
        Task::Cluster(wanted) => cluster::cluster(&wanted),
        Task::Services(wanted) => services::services(&wanted),
        Task::Drill { kills, power_cuts, seed } => drill::drill(kills, power_cuts, seed),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sim(nodes: u64, seeds: u64, from: u64, release: bool) -> Result<()> {
    let test = match nodes {
        1 => "seeds_hold",
        3 => "cluster::cluster_seeds_hold",
        other => bail!("--nodes {other}: there are simulations of 1 node and of 3"),
    };
    if seeds == 0 {
        bail!("--seeds 0 would prove nothing");
    }
    let optimized: &[&str] = if release { &["--release"] } else { &[] };
    run(Command::new("cargo")
        .args(["test", "--locked", "--package", "rekindle-testkit", "--test", "simulation"])
        .args(optimized)
        .args(["--", "--nocapture", "--exact", test])
        .env("REKINDLE_SEEDS", seeds.to_string())
        .env("REKINDLE_FIRST_SEED", from.to_string()))
}

/// The comparison is a workspace of its own, so that nothing else builds what it compares with.
fn ecs() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    run(Command::new("cargo").current_dir(root).args([
        "run",
        "--release",
        "--locked",
        "--manifest-path",
        "crates/sim/benches/compare/Cargo.toml",
        "--target-dir",
        "target/ecs",
    ]))
}

/// The part of the growth test that the suite leaves out.
fn growth(trials: u64) -> Result<()> {
    run(Command::new("cargo")
        .args(["test", "--release", "--locked", "--package", "rekindle-cluster"])
        .args(["--test", "growth", "--", "--ignored", "--nocapture"])
        .env("REKINDLE_TRIALS", trials.to_string()))
}

/// The part of the model that the suite leaves out.
fn model(seconds: u64) -> Result<()> {
    run(Command::new("cargo")
        .args([
            "test",
            "--release",
            "--locked",
            "--package",
            "rekindle-cluster",
            "--test",
            "model",
            "--",
            "--ignored",
            "--nocapture",
        ])
        .env("REKINDLE_MODEL_SECONDS", seconds.to_string()))
}

/// The two tests of damage, which in the usual suite try a share of the bits, try all of them:
/// recovery by the store, and `verify`.
fn bits() -> Result<()> {
    for (package, test) in [("rekindle-store-local", "damage"), ("rekindle-server", "it")] {
        run(Command::new("cargo")
            .args([
                "test",
                "--release",
                "--locked",
                "--package",
                package,
                "--test",
                test,
                "--",
                "--nocapture",
                "no_flipped_bit",
            ])
            .env("REKINDLE_FLIP_STEP", "1"))?;
    }
    Ok(())
}

/// The tests of what is behind the feature `rapier`.
fn physics() -> Result<()> {
    run(Command::new("cargo")
        .args(["test", "--locked", "--package", "rekindle-physics-rapier"])
        .args(["--features", "rapier"]))
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("> {command:?}");
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
