//! The same steps give the same hash in another process, in a debug and in a release build, and in
//! later versions of this code.
//!
//! `tests/golden/zoo.txt` is asserted by whatever profile the tests are built with:
//! `cargo test -p rekindle-sim golden` and `cargo test --release -p rekindle-sim golden`. After a
//! deliberate change of what worlds compute or of their bytes, write the files anew with
//! `cargo test -p rekindle-sim --test it -- --ignored write_the_golden_files`.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use rekindle_schema::Tick;
use rekindle_sim::{GameType, Simulation, Typed};

use crate::zoo::{Keeper, Seen, Zoo};

const HASHES: &str = include_str!("../golden/zoo.txt");
/// A state as an earlier version wrote it: `STATE_HASH` is its hash.
const STATE: &[u8] = include_bytes!("../../../../schema/golden/state-1.bin");
const STATE_HASH: &str = include_str!("../golden/state-1.txt");

/// Hashes of a fixed scenario, every hundredth tick.
fn hashes(seed: u64) -> String {
    let game = Typed::<Zoo>::new().unwrap();
    let mut made = Typed::create(&game, b"", seed).unwrap();
    let mut keeper = Keeper::new(seed);
    let mut lines = String::new();
    for tick in 1..=2_000u64 {
        let step = keeper.step(&made);
        made.step(&step).unwrap();
        if tick.is_multiple_of(100) {
            writeln!(lines, "{tick} {}", made.state_hash()).unwrap();
        }
    }
    lines
}

#[test]
fn golden_hashes_hold_in_every_build() {
    assert_eq!(
        hashes(42),
        HASHES,
        "the world computes something else than it did: see this file's documentation"
    );
}

#[test]
fn golden_state_is_still_read() {
    let game = Typed::<Zoo>::new().unwrap();
    let mut made = game.restore(STATE).unwrap();
    assert_eq!(format!("{}\n", made.state_hash()), STATE_HASH);
    assert_eq!(made.tick(), Tick(250));
    assert!(made.world().resource::<Seen>().spawned > 100);
    let mut keeper = Keeper::new(1);
    for _ in 0..100 {
        let step = keeper.step(&made);
        made.step(&step).unwrap();
    }
}

#[test]
fn a_second_process_computes_the_same() {
    let own = hashes(43);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["golden::print_hashes", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains(&own),
        "the second process said:\n{text}\nthis one computed:\n{own}"
    );
}

#[test]
#[ignore = "the second process of a_second_process_computes_the_same"]
fn print_hashes() {
    println!("\n{}", hashes(43));
}

#[test]
#[ignore = "writes the golden files: only after a deliberate change"]
fn write_the_golden_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(root.join("tests/golden/zoo.txt"), hashes(42)).unwrap();
    let game = Typed::<Zoo>::new().unwrap();
    let config = game.config_from_json(r#"{"animals": 30, "churn": 3}"#).unwrap();
    let mut made = Typed::create(&game, &config, 7).unwrap();
    let mut keeper = Keeper::new(7);
    for _ in 0..250 {
        let step = keeper.step(&made);
        made.step(&step).unwrap();
    }
    std::fs::write(root.join("../../schema/golden/state-1.bin"), made.checkpoint()).unwrap();
    std::fs::write(root.join("tests/golden/state-1.txt"), format!("{}\n", made.state_hash()))
        .unwrap();
}
