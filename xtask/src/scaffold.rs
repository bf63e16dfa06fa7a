//! What a stranger does first: a game from each template of `rekindle new`, built in a folder of
//! its own, and tested, which kills its node.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

/// How to build.
#[derive(Debug, Args)]
pub(crate) struct Scaffold {
    /// Without the network: what is not in cargo's cache is missing
    #[arg(long)]
    offline: bool,
}

/// The templates of `rekindle new`.
const TEMPLATES: [&str; 3] = ["arena", "turns", "strategy"];

/// Makes, builds and tests a game from each template. The new crates share one target folder, which
/// is empty at first.
pub(crate) fn scaffold(wanted: &Scaffold) -> Result<()> {
    run(Command::new("cargo").args(["build", "--locked", "--bin", "rekindle"]))?;
    let rekindle = Path::new("target/debug/rekindle").canonicalize().context("no executable")?;
    let folder = std::env::temp_dir().join(format!("rekindle-scaffold-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    for template in TEMPLATES {
        let name = format!("my-{template}");
        run(Command::new(&rekindle)
            .args(["new", &name, "--template", template])
            .current_dir(&folder))?;
        let begun = Instant::now();
        run(Command::new("cargo")
            .arg("test")
            .args(wanted.offline.then_some("--offline"))
            .current_dir(folder.join(&name))
            .env("CARGO_TARGET_DIR", folder.join("target")))?;
        let took = begun.elapsed().as_secs();
        println!("{name}: built and tested in {took} s, its node killed on the way");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
