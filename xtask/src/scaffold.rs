//! What a stranger does first: a game from each template of `rekindle new`, built in a folder of
//! its own, and tested, which kills its node. Then one of them is changed while it is played
//! (`dev --watch`), and clippy is asked about what would make it differ from run to run. The
//! program that makes them is `rekindle-new`, as the book has it.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

/// How to build.
#[derive(Debug, Args)]
pub(crate) struct Scaffold {
    /// Without the network: what is not in cargo's cache is missing
    #[arg(long)]
    offline: bool,
    /// Only from the first template
    #[arg(long)]
    first: bool,
}

/// The templates of `rekindle new`.
const TEMPLATES: [&str; 3] = ["arena", "turns", "strategy"];

/// Makes, builds and tests a game from each template. The new crates share one target folder, which
/// is empty at first.
pub(crate) fn scaffold(wanted: &Scaffold) -> Result<()> {
    run(Command::new("cargo").args(["build", "--locked", "-p", "rekindle-new"]))?;
    let new = Path::new("target/debug/rekindle-new").canonicalize().context("no executable")?;
    let folder = std::env::temp_dir().join(format!("rekindle-scaffold-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let count = if wanted.first { 1 } else { TEMPLATES.len() };
    for template in &TEMPLATES[..count] {
        let name = format!("my-{template}");
        run(Command::new(&new).args([&name[..], "--template", template]).current_dir(&folder))?;
        run(Command::new("cargo").args(["fmt", "--check"]).current_dir(folder.join(&name)))?;
        let begun = Instant::now();
        run(Command::new("cargo")
            .arg("test")
            .args(wanted.offline.then_some("--offline"))
            .current_dir(folder.join(&name))
            .env("CARGO_TARGET_DIR", folder.join("target")))?;
        let took = begun.elapsed().as_secs();
        println!("{name}: built and tested in {took} s, its node killed on the way");
    }
    changed_while_played(wanted, &folder)?;
    refused_by_clippy(wanted, &folder)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// `cargo run -- dev --watch` in the first game: what does not compile changes nothing, and what
/// does is played by the same match.
fn changed_while_played(wanted: &Scaffold, folder: &Path) -> Result<()> {
    let dir = folder.join("my-arena");
    let mut dev = Dev::start(wanted, folder, &dir)?;
    let line = dev.wait_for("match create --bots 8 --game-config")?;
    let admin = line.split("--admin ").nth(1).context("no address")?.trim().to_owned();
    dev.wait_for("watched: what you change")?;
    let game = folder.join("target/debug/my-arena");
    let create = ["match", "create", "--bots", "3", "--admin", &admin];
    run(Command::new(&game).args(create).args(["--game-config", r#"{"rematch":true}"#]))?;
    let source = dir.join("src/lib.rs");
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(&source, format!("{text}\nfn broken() -> u8 {{ }}\n"))?;
    dev.wait_for("not built: the nodes run on")?;
    let changed = text.replace("goal: 20", "goal: 21");
    ensure!(changed != text, "the template has another goal now");
    std::fs::write(&source, changed)?;
    println!("{}", dev.wait_for("of 1 nodes run it")?);
    println!("{}", dev.wait_for("going on: 1 match; waiting: 0")?);
    std::fs::write(&source, text)?;
    println!("{}", dev.wait_for("of 1 nodes run it")?);
    Ok(())
}

/// A running `dev --watch`. It and its nodes end when this is dropped.
struct Dev {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    fn start(wanted: &Scaffold, folder: &Path, dir: &Path) -> Result<Self> {
        let mut child = Command::new("cargo")
            .arg("run")
            .args(wanted.offline.then_some("--offline"))
            .args(["--", "dev", "--watch", "--nodes", "1"])
            .current_dir(dir)
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("it is piped")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// The next line with this in it.
    fn wait_for(&mut self, words: &str) -> Result<String> {
        for line in &mut self.lines {
            let line = line?;
            if line.contains(words) {
                return Ok(line);
            }
        }
        bail!("`dev` ended without saying `{words}`")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Its nodes end with it: their standard input is closed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What differs between machines is named by clippy in a game that `rekindle new` made.
fn refused_by_clippy(wanted: &Scaffold, folder: &Path) -> Result<()> {
    let dir = folder.join("my-arena");
    let clippy = || {
        let mut command = Command::new("cargo");
        command.arg("clippy").args(wanted.offline.then_some("--offline"));
        command.args(["--", "-D", "clippy::disallowed_methods"]);
        command.current_dir(&dir).env("CARGO_TARGET_DIR", folder.join("target"));
        command.output().context("cannot run clippy")
    };
    ensure!(clippy()?.status.success(), "clippy refuses the template as it is");
    let source = dir.join("src/lib.rs");
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(&source, format!("{text}\npub fn wave(x: f32) -> f32 {{\n    x.sin()\n}}\n"))?;
    let refused = clippy()?;
    let words = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && words.contains("use rekindle_sim::math::sin"),
        "clippy does not name `f32::sin`: {words}"
    );
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
