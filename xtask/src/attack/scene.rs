//! Nodes, matches and directories for attacks, and what a node says of its matches.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::PATIENCE;
use crate::program::{Done, Programs, Server, log_file};

/// What every node of an attack is told: everything is kept, chunks come soon, checkpoints not too
/// soon, for a log that is gone must be missed.
pub(super) const SETTINGS: &[&str] = &[
    "retention.journal=all",
    "retention.archive=all",
    "retention.chunk_s=1",
    "checkpoint.every_s=6",
    "checkpoint.budget_ms=60000",
    "jobs.cron=keep-house every 1s",
];

/// One match, as `match ls` has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct View {
    /// Its id.
    pub(super) id: String,
    /// What it does.
    pub(super) state: String,
    /// The newest durable tick; unknown of a match that does not run here.
    pub(super) durable: Option<u64>,
}

/// Where the attacks are played. Its folder is removed at the end.
pub(super) struct Scene<'a> {
    /// What is attacked.
    pub(super) programs: &'a Programs,
    /// For everything that an attack writes.
    pub(super) folder: PathBuf,
}

impl<'a> Scene<'a> {
    pub(super) fn new(programs: &'a Programs) -> Result<Self> {
        let folder = std::env::temp_dir()
            .canonicalize()?
            .join(format!("rekindle-attack-{}", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self { programs, folder })
    }

    /// A path of this name in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The log of the node on `dir`: what it has written to standard error in all of its lives.
    pub(super) fn log(dir: &Path) -> PathBuf {
        dir.with_extension("log")
    }

    /// The command that starts a node on `dir`, with more words for the command line, and its log
    /// in [`Scene::log`].
    pub(super) fn node(&self, before: &[&str], dir: &Path, words: &[&str]) -> Result<Command> {
        let mut command = self.programs.rekindle(before, dir);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]);
        command
            .args(SETTINGS.iter().flat_map(|setting| ["--set", setting]))
            .args(words)
            .args(["start", "--until-stdin-closes"])
            .stderr(log_file(&Self::log(dir))?);
        Ok(command)
    }

    /// A node on `dir` that must come up.
    pub(super) fn up(&self, dir: &Path, words: &[&str]) -> Result<Server> {
        Server::ready(&mut self.node(&[], dir, words)?, dir, PATIENCE)
    }

    /// A command on `dir` that must succeed.
    pub(super) fn must(&self, dir: &Path, words: &[&str]) -> Result<Done> {
        let done = self.programs.command(dir, words, PATIENCE)?;
        ensure!(done.code == Some(0), "{words:?} ended with {:?}: {}", done.code, done.text);
        Ok(done)
    }

    /// Creates matches, each with house bots; their ids.
    pub(super) fn matches(&self, dir: &Path, count: usize, bots: usize) -> Result<Vec<String>> {
        let config = r#"{"endless": true, "max_players": 16}"#;
        let bots = bots.to_string();
        (0..count)
            .map(|_| {
                let made = self.must(
                    dir,
                    &[
                        "match",
                        "create",
                        "--json",
                        "--game",
                        "arena",
                        "--game-config",
                        config,
                        "--bots",
                        &bots,
                    ],
                )?;
                first::<View>(&made).map(|view| view.id)
            })
            .collect()
    }

    /// A ticket for each player from number `from` on, for any of the matches in turn: (ticket,
    /// match).
    pub(super) fn tickets(
        &self,
        dir: &Path,
        from: usize,
        count: usize,
        matches: &[String],
    ) -> Result<Vec<(String, String)>> {
        (from..from + count)
            .map(|player| {
                let match_id = matches.get(player % matches.len().max(1)).context("no match")?;
                Ok((self.ticket(dir, &["--player", &player.to_string()])?, match_id.clone()))
            })
            .collect()
    }

    /// A ticket.
    pub(super) fn ticket(&self, dir: &Path, words: &[&str]) -> Result<String> {
        #[derive(Deserialize)]
        struct Ticket {
            ticket: String,
        }
        let words: Vec<&str> =
            ["ticket", "issue", "--json"].into_iter().chain(words.iter().copied()).collect();
        first::<Ticket>(&self.must(dir, &words)?).map(|ticket| ticket.ticket)
    }

    /// The matches of the node or the store, by id.
    pub(super) fn views(&self, dir: &Path) -> Result<BTreeMap<String, View>> {
        let views: Vec<View> = first(&self.must(dir, &["match", "ls", "--json"])?)?;
        Ok(views.into_iter().map(|view| (view.id.clone(), view)).collect())
    }

    /// Waits until every match of the node has come so far.
    pub(super) fn reach(&self, dir: &Path, tick: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let views = self.views(dir)?;
            if !views.is_empty() && views.values().all(|view| view.durable >= Some(tick)) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE * 2,
                "the matches do not reach tick {tick}: {views:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            println!("left behind: {}: {error}", self.folder.display());
        }
    }
}

/// Lets this process have as many connections as the host allows: some attacks need more than the
/// usual thousand.
pub(super) fn many_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")
}

/// The first line of a command's output that is JSON of this kind.
pub(super) fn first<T: for<'de> Deserialize<'de>>(done: &Done) -> Result<T> {
    done.text
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
        .with_context(|| format!("unexpected output: {}", done.text))
}

/// Copies a directory as it is.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("cp")?;
    ensure!(status.success(), "cp -a {} {} ended with {status}", from.display(), to.display());
    Ok(())
}

/// Log events behind the first `skip` bytes of a log, as JSON.
pub(super) fn events(log: &Path, skip: u64) -> Result<Vec<serde_json::Value>> {
    let bytes = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(bytes.get(skip as usize..).unwrap_or_default()).into_owned();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A text field of a log event; empty if it has none.
pub(super) fn text<'e>(event: &'e serde_json::Value, name: &str) -> &'e str {
    event.get(name).and_then(serde_json::Value::as_str).unwrap_or_default()
}
