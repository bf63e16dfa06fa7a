//! What a tick costs besides the game: a host with many matches in virtual time, everything on one
//! thread.
//!
//! `cargo bench -p rekindle-actors`. Virtual time runs as fast as the processor allows, so the CPU
//! time of the run is that of all that the host does: wheel, actors, admission, records, group
//! commits into the memory store, checkpoints, frames to one subscriber per match.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use rekindle_door::MatchDoor as _;
use rekindle_schema::Tick;
use rekindle_store_memory::MemoryStore;
use support::{Node, RATE, add, config, enter, input};

const SECONDS: u64 = 10;

fn main() {
    // `cargo test --benches` only checks that this runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let cases: &[(u64, u64)] =
        if quick { &[(10, 1)] } else { &[(100, 0), (1_000, 0), (100, 16), (1_000, 4)] };
    for &(matches, players) in cases {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(run(matches, players));
    }
}

async fn run(matches: u64, players: u64) {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let mut links = Vec::new();
    for id in 1..=matches {
        let link = node.create(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).await;
        let mut sessions = Vec::new();
        for player in 1..=players {
            sessions.push(enter(&link, player).await);
        }
        links.push((link.subscribe(), link, sessions));
    }
    let (before, started) = (executed(&node), cpu_seconds());
    let mut seq = 0;
    for _ in 0..SECONDS * u64::from(RATE) {
        seq += 1;
        for (frames, link, sessions) in &mut links {
            for &session in sessions.iter() {
                link.input(input(session, seq, Tick(0), add(1)));
            }
            while frames.try_recv().is_ok() {}
        }
        tokio::time::sleep(Duration::from_secs(1) / u32::from(RATE)).await;
    }
    let (took, ticks) = (cpu_seconds() - started, executed(&node) - before);
    let per_tick = took * 1e6 / ticks as f64;
    println!(
        "{matches:>5} matches, {players:>2} players each, {SECONDS} s at {RATE} Hz: {ticks} ticks, \
         {per_tick:.2} us of CPU per tick"
    );
}

/// What this thread has used of a processor: other programs on the machine do not count. Linux
/// only.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|nanoseconds| nanoseconds.parse().ok())
        .map_or(f64::NAN, |nanoseconds: f64| nanoseconds / 1e9)
}

fn executed(node: &Node) -> u64 {
    node.host.list().iter().map(|status| status.tick.0).sum()
}
