//! A cluster of real processes: things are done to it under load, single directions of its network
//! fail, and what it costs is measured.
//!
//! `drill` and `faults` are tests of `tests/it` with larger counts: the same checker judges, and
//! the suite runs a short version of each.

mod bench;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::run;

/// What is done.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Kill, freeze and drain nodes and move matches under load, in an order that a seed decides;
    /// then hold what the bots saw against the journal
    Drill(Drill),
    /// Cut single directions between nodes, and between a node and its store, in network
    /// namespaces, and fill the disk under a store (needs root)
    Faults {
        /// With which optimization
        #[arg(long, default_value = "release")]
        profile: Profile,
    },
    /// Kill and drain nodes full of matches, and print how long these stand still; what links cost
    /// an idle node
    Bench(bench::Bench),
}

/// How the executable is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// How much of what.
#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// Nodes that are killed; every third of them is frozen instead
    #[arg(long, default_value_t = 20)]
    failovers: u32,
    /// Nodes that are drained, in turn
    #[arg(long, default_value_t = 6)]
    drains: u32,
    /// Matches that are moved
    #[arg(long, default_value_t = 50)]
    migrations: u32,
    /// Nodes that are killed while their matches have standbys
    #[arg(long, default_value_t = 0)]
    promotions: u32,
    /// Decides the order, the victims and the targets
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// On this store, in tables of the drill's own; without it in a local directory
    #[arg(long)]
    store: Option<String>,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=9))]
    nodes: u32,
    /// How many matches
    #[arg(long, default_value_t = 6)]
    matches: u32,
    /// Bots in each match
    #[arg(long, default_value_t = 4)]
    bots: u32,
    /// Where the figures go, as JSON; they are printed as well
    #[arg(long)]
    report: Option<PathBuf>,
    /// With which optimization
    #[arg(long, default_value = "release")]
    profile: Profile,
}

/// Does it.
pub(crate) fn cluster(wanted: &Cluster) -> Result<()> {
    match wanted {
        Cluster::Drill(wanted) => drill(wanted),
        Cluster::Faults { profile } => {
            run(tests(*profile).args(["cluster_faults::", "--include-ignored", "--nocapture"]))
        }
        Cluster::Bench(wanted) => bench::bench(wanted),
    }
}

/// The black-box tests; words for the test executable can follow.
fn tests(profile: Profile) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--workspace", "--test", "it"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    command.args(["--", "--test-threads", "1"]);
    command
}

fn drill(wanted: &Drill) -> Result<()> {
    let mut command = tests(wanted.profile);
    command.args(["cluster_drill::", "--nocapture"]);
    let counts = [
        ("NODES", wanted.nodes),
        ("MATCHES", wanted.matches),
        ("SEATS", wanted.bots),
        ("FAILOVERS", wanted.failovers),
        ("DRAINS", wanted.drains),
        ("MIGRATIONS", wanted.migrations),
        ("PROMOTIONS", wanted.promotions),
        ("SEED", wanted.seed),
    ];
    for (name, count) in counts {
        command.env(format!("REKINDLE_DRILL_{name}"), count.to_string());
    }
    if let Some(store) = &wanted.store {
        command.env("REKINDLE_DRILL_STORE", store);
    }
    if let Some(report) = &wanted.report {
        command.env("REKINDLE_DRILL_REPORT", std::path::absolute(report)?);
    }
    run(&mut command)
}
