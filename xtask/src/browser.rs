//! `cargo xtask browser`: the tests of the TypeScript client, and a real Chromium that plays
//! against a node which is killed. What is missing is said in capitals, and nothing else fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::run;

/// `cargo xtask browser`.
#[derive(Args)]
pub(crate) struct Browser {
    /// How long each of the two carriers is played over
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Where to put screenshots
    #[arg(long)]
    shots: Option<String>,
}

/// Builds the node, then plays.
pub(crate) fn browser(wanted: &Browser) -> Result<()> {
    if !has_node() {
        eprintln!("SKIPPED: the browser test: no `node` (20 or later)");
        return Ok(());
    }
    run(Command::new("cargo").args(["build", "--locked", "--package", "rekindle-server"]))?;
    tests()?;
    play(wanted.seconds, wanted.shots.as_deref())
}

/// What `cargo xtask test` runs of it: the client's tests, and a short game on the node that the
/// tests have built. The script says SKIPPED where there is no Chromium.
pub(crate) fn in_suite() -> Result<()> {
    tests()?;
    if has_node() { script(6, None) } else { Ok(()) }
}

/// The client's tests.
fn tests() -> Result<()> {
    if !has_node() {
        eprintln!("SKIPPED: the tests of the TypeScript client: no `node` (20 or later)");
        return Ok(());
    }
    let dir = folder();
    run(Command::new("node").args(["--test", "test/"]).current_dir(&dir))?;
    // Without the compiler, which the registry may not give now, the comparison says SKIPPED.
    if let Err(error) = install(&dir) {
        eprintln!("{error:#}");
    }
    run(Command::new("node").args(["build.mjs", "--check"]).current_dir(&dir))
}

/// Plays over each carrier, and prints what a player would notice.
fn play(seconds: u32, shots: Option<&str>) -> Result<()> {
    install(&folder())?;
    script(seconds, shots)
}

fn script(seconds: u32, shots: Option<&str>) -> Result<()> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let binary = std::path::absolute(target.join("debug/rekindle"))?;
    let mut command = Command::new("node");
    command.args(["browser/run.mjs", "--seconds", &seconds.to_string(), "--binary"]);
    command.arg(binary).current_dir(folder());
    if let Some(shots) = shots {
        command.args(["--shots", shots]);
    }
    run(&mut command)
}

/// Installs what the client is built and played with, unless it is there.
fn install(dir: &Path) -> Result<()> {
    if dir.join("node_modules/typescript").exists() {
        return Ok(());
    }
    run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(dir))
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/typescript")
}

fn has_node() -> bool {
    Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success())
}
