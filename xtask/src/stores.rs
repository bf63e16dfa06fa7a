//! What a store costs a node, and what waiting for it costs a player: nodes full of matches with
//! house bots, whose inputs are journaled as anybody's, on one store after another.
//!
//! The servers run on the same machine, so their CPU is taken from the node; figures are of the
//! steady part. *Ack* is from the end of a tick to the moment when the match hears that it is
//! durable, which is also what output commit adds to the age of its snapshot. The node's CPU is
//! that of the whole process; what the journal adds is the difference to the memory store. Bytes to
//! disk are those of the whole device: measure on a quiet machine.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::node::{self, Memory, Node};

/// Which stores, and how much.
#[derive(Debug, Args)]
pub(crate) struct Stores {
    /// `memory`, `local`, `postgres` or `cql`: the servers that `services up` has started
    /// [default: all that are there]
    #[arg(long)]
    store: Vec<String>,
    /// How many matches; may be given several times
    #[arg(long, default_values_t = [100, 1_000])]
    matches: Vec<u32>,
    /// House bots in each
    #[arg(long, default_value_t = 2)]
    bots: u32,
    /// For how long
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// From the creation of the last match to the first figure.
const WARM_UP: Duration = Duration::from_secs(10);

/// The address of a store of that name with tables of its own, `None` if there is no such server.
pub(crate) fn address(name: &str, tables: &str) -> Result<Option<String>> {
    Ok(match name {
        "memory" | "local" => Some(name.to_owned()),
        "postgres" => rekindle_testservers::postgres().map(|server| {
            let mark = if server.url.contains('?') { '&' } else { '?' };
            format!("{}{mark}schema=rekindle_{tables}", server.url)
        }),
        "cql" => rekindle_testservers::cql().map(|server| {
            let nodes: Vec<String> = server.nodes.into_iter().map(|node| node.address).collect();
            format!("scylla://{}/rekindle_{tables}?replication=1", nodes.join(","))
        }),
        other => anyhow::bail!("`{other}` is no store: expected memory, local, postgres or cql"),
    })
}

/// Prints a line for each store and number of matches.
pub(crate) fn stores(wanted: &Stores) -> Result<()> {
    node::build()?;
    let all = ["memory", "local", "postgres", "cql"].map(str::to_owned);
    let names = if wanted.store.is_empty() { &all[..] } else { &wanted.store };
    println!(
        "| store | matches | ticks/s | late | paused | records/s | appends/s | append p50 / p99 ms \
         | ack p50 / p99 ms | node CPU, cores | µs a record | journal + checkpoints MB/s | bytes \
         to disk a byte | memory MiB |"
    );
    println!("|{}", "---|".repeat(14));
    for &matches in &wanted.matches {
        for name in names {
            let tables = format!("load_{}_{matches}", std::process::id());
            match address(name, &tables)? {
                Some(store) => measure(wanted, name, &store, matches)?,
                None => println!(
                    "SKIPPED: {name}: no server; `cargo xtask services up --full-jit` starts one"
                ),
            }
        }
    }
    Ok(())
}

fn measure(wanted: &Stores, name: &str, store: &str, matches: u32) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("rekindle-stores-{}", std::process::id()));
    let node = Node::start(&folder, Some(store))?;
    node.create(
        matches,
        &["--bots", &wanted.bots.to_string(), "--game-config", r#"{"endless": true}"#],
    )?;
    std::thread::sleep(WARM_UP);
    let (before, cpu_before, disk_before) =
        (node.metrics()?, node.cpu_seconds()?, written(&folder)?);
    std::thread::sleep(Duration::from_secs(wanted.seconds));
    let (after, cpu_after, disk_after) = (node.metrics()?, node.cpu_seconds()?, written(&folder)?);
    let seconds = wanted.seconds as f64;
    let grown = |name: &str| after.grown(&before, name);
    let ms = |name: &str, quantile: f64| 1e3 * after.quantile(&before, name, quantile);
    let (append, ack) = ("rekindle_journal_append_seconds", "rekindle_tick_to_durable_seconds");
    let (ticks, records) =
        (grown("rekindle_ticks_total"), grown("rekindle_journal_batch_records_sum"));
    ensure!(records > 0.0, "nothing was journaled on {name}");
    let payload =
        grown("rekindle_journal_batch_bytes_sum") + grown("rekindle_checkpoint_bytes_sum");
    let cpu = cpu_after - cpu_before;
    println!(
        "| {name} | {matches} | {:.0} | {:.2} % | {} | {:.0} | {:.0} | {:.1} / {:.1} | {:.1} / \
         {:.1} | {:.2} | {:.1} | {:.2} | {:.2} | {} |",
        ticks / seconds,
        100.0 * grown("rekindle_late_ticks_total") / ticks,
        grown("rekindle_paused_ticks_total"),
        records / seconds,
        grown("rekindle_journal_batch_records_count") / seconds,
        ms(append, 0.5),
        ms(append, 0.99),
        ms(ack, 0.5),
        ms(ack, 0.99),
        cpu / seconds,
        1e6 * cpu / records,
        payload / seconds / 1e6,
        (disk_after - disk_before) as f64 / payload,
        node.memory_mib(Memory::Peak)?,
    );
    node.kill()?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Bytes that the device of a folder has written since the machine started: field 7 of its `stat`,
/// in sectors of 512 bytes.
fn written(folder: &Path) -> Result<u64> {
    let device = std::fs::metadata(folder)?.dev();
    let path =
        format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(device), rustix::fs::minor(device));
    let stat =
        std::fs::read_to_string(&path).with_context(|| format!("{path}: put TMPDIR on a disk"))?;
    let sectors: u64 = stat
        .split_whitespace()
        .nth(6)
        .and_then(|field| field.parse().ok())
        .with_context(|| path)?;
    Ok(sectors * 512)
}
