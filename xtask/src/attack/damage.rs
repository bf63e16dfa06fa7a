//! Damage to every kind of file of a data directory, and whether `verify`, `start` and `restore`
//! notice.
//!
//! A node lives twice on one directory and is killed twice. Then, again and again, one file is
//! spoiled, `verify` and `start` are tried, and the directory is put back in place: the same files
//! with the same inodes, so that it is no copy in anybody's eyes. `verify` must not say that all is
//! well; `start` must not go on, by itself, behind what was durable. What the last second before a
//! kill acknowledged may go unnoticed, for nothing but the log itself knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::scene::{Scene, View, copy, events, text};
use super::{Row, Table};
use crate::program::{Done, Server, Started};

/// `verify` and `start` of a directory this small take a fraction of that.
const WITHIN: Duration = Duration::from_secs(10);
/// How long matches may take to go on once their node serves; without damage it is a moment.
const RECOVERED: Duration = Duration::from_secs(4);
/// Ticks that only the log itself knows of: a second between two renewals of the lease, and half a
/// second for a slow host.
const UNWITNESSED: u64 = 45;
/// Log code of a match that goes on.
const RESUMED: &str = "RK-NODE-010";
/// What is said by `verify` of a directory in which nothing is wrong.
const WELL: &str = "all is well";

/// How a file is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Deleted,
    /// Its first half is left.
    Halved,
    /// As many bytes as before, all zero.
    Zeroed,
    /// The last third is zero. Of a log that is more than what was written since the last renewal
    /// of its node's lease: that has no witness (docs/PROMISES.md).
    TailZeroed,
    /// As it was a few seconds before.
    Older,
    /// That of another node.
    Anothers,
    Fifo,
}

const ALL: &[Damage] = &[
    Damage::Deleted,
    Damage::Halved,
    Damage::Zeroed,
    Damage::TailZeroed,
    Damage::Older,
    Damage::Anothers,
    Damage::Fifo,
];

/// What must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    /// `verify` must: it is its business.
    Verify,
    /// `verify` may be content if a start loses nothing.
    IfLost,
}

/// A kind of file: its name, where it is, how it is spoiled, who must notice.
struct Target {
    kind: &'static str,
    path: PathBuf,
    damages: &'static [Damage],
    notice: Notice,
}

/// A directory whose node was killed, and what it must still have.
struct Victim<'a> {
    scene: &'a Scene<'a>,
    dir: PathBuf,
    pristine: PathBuf,
    older: PathBuf,
    other: PathBuf,
    /// The newest durable tick of each match.
    durable: BTreeMap<String, u64>,
    /// Codes of warnings that a start after a kill logs in any case.
    usual: BTreeSet<String>,
}

/// Spoils files of a directory.
pub(super) fn files(scene: &Scene<'_>, table: &mut Table) {
    table.play("damage", |table| {
        let mut victim = Victim::make(scene, "victim")?;
        victim.control(table)?;
        for target in victim.targets()? {
            for &damage in target.damages {
                victim.attack(&target, damage, table)?;
            }
        }
        victim.control(table)
    });
}

/// Spoils files of a backup.
pub(super) fn backups(scene: &Scene<'_>, table: &mut Table) {
    table.play("restore", |table| Victim::make(scene, "saved")?.restores(table));
}

impl<'a> Victim<'a> {
    fn make(scene: &'a Scene<'a>, name: &str) -> Result<Self> {
        let (dir, other) = (scene.path(name), scene.path(&format!("{name}-other")));
        let node = scene.up(&other, &[])?;
        scene.matches(&other, 1, 4)?;
        let first = scene.up(&dir, &[])?;
        scene.matches(&dir, 2, 4)?;
        scene.reach(&dir, 120)?;
        node.kill()?;
        first.kill()?;
        let second = scene.up(&dir, &[])?;
        scene.reach(&dir, 200)?;
        let older = scene.path(&format!("{name}-older"));
        second.signal(rustix::process::Signal::STOP)?;
        copy(&dir, &older)?;
        second.signal(rustix::process::Signal::CONT)?;
        scene.reach(&dir, 400)?;
        let durable = scene
            .views(&dir)?
            .into_values()
            .filter_map(|view| Some((view.id, view.durable?)))
            .collect();
        second.kill()?;
        let pristine = scene.path(&format!("{name}-pristine"));
        copy(&dir, &pristine)?;
        Ok(Self { scene, dir, pristine, older, other, durable, usual: BTreeSet::new() })
    }

    /// Nothing is damaged: both say so. Otherwise the rows below prove nothing.
    fn control(&mut self, table: &mut Table) -> Result<()> {
        let verify = self.scene.programs.command(&self.dir, &["verify"], WITHIN)?;
        let well = verify.code == Some(0) && verify.text.contains(WELL);
        let start = self.start()?;
        self.usual.clone_from(&start.said);
        let held = well && start.ready && start.lost.is_empty();
        table.add(Row::new(
            "damage: none",
            "",
            "verify and start are content",
            format!("{}; {}", said(&verify), start.words()),
            held,
        ));
        self.put_back()
    }

    /// The newest and the oldest file of each kind.
    fn targets(&self) -> Result<Vec<Target>> {
        let logs = files_below(&self.dir.join("logs"))?;
        let checkpoints = files_below(&self.dir.join("checkpoints"))?;
        let chunks = files_below(&self.dir.join("archive"))?;
        let target = |kind, path: Option<&PathBuf>, damages, notice| -> Result<Target> {
            Ok(Target {
                kind,
                path: path.with_context(|| format!("no {kind}"))?.clone(),
                damages,
                notice,
            })
        };
        let mut targets = vec![
            target("newest log", logs.last(), ALL, Notice::Verify)?,
            target(
                "oldest log",
                logs.first(),
                &[Damage::Deleted, Damage::Halved, Damage::Anothers, Damage::Fifo],
                Notice::Verify,
            )?,
            target(
                "newest checkpoints",
                checkpoints.last(),
                &[
                    Damage::Deleted,
                    Damage::Zeroed,
                    Damage::TailZeroed,
                    Damage::Anothers,
                    Damage::Fifo,
                ],
                Notice::Verify,
            )?,
            // What a kill or a copy of a moment ago leaves looks the same: the log makes up for it.
            target(
                "newest checkpoints",
                checkpoints.last(),
                &[Damage::Halved, Damage::Older],
                Notice::IfLost,
            )?,
            target(
                "oldest checkpoints",
                checkpoints.first(),
                &[Damage::Deleted, Damage::Zeroed, Damage::Fifo],
                Notice::IfLost,
            )?,
        ];
        for (name, damages, notice) in [
            (
                "node.db",
                &[
                    Damage::Deleted,
                    Damage::Halved,
                    Damage::Zeroed,
                    Damage::TailZeroed,
                    Damage::Anothers,
                    Damage::Fifo,
                ][..],
                Notice::Verify,
            ),
            // It knows the logs that are there, and what they hold counts.
            ("node.db", &[Damage::Older], Notice::IfLost),
            (
                "node.db-wal",
                &[Damage::Deleted, Damage::Halved, Damage::Zeroed, Damage::Fifo],
                Notice::IfLost,
            ),
            (
                "format",
                &[Damage::Deleted, Damage::Halved, Damage::Zeroed, Damage::Fifo],
                Notice::Verify,
            ),
        ] {
            targets.push(target(name, Some(&self.dir.join(name)), damages, notice)?);
        }
        if let Some(chunk) =
            chunks.iter().find(|path| path.to_string_lossy().ends_with(".records.chunk"))
        {
            targets.push(target(
                "chunk",
                Some(chunk),
                &[Damage::Halved, Damage::Zeroed, Damage::TailZeroed, Damage::Fifo],
                Notice::Verify,
            )?);
        }
        Ok(targets)
    }

    fn attack(&self, target: &Target, damage: Damage, table: &mut Table) -> Result<()> {
        let attack = format!("damage: {}", target.kind);
        let inside = target.path.strip_prefix(&self.dir)?;
        let done = spoil(&self.dir, inside, damage, &self.older, &self.other);
        match done {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                table.add(Row::skipped(&attack, &format!("{damage:?}"), &format!("{error:#}")));
                return self.put_back();
            }
        }
        let verify = self.scene.programs.command(&self.dir, &["verify"], WITHIN)?;
        // A command may write (an index of SQLite beside its file): start gets the damage and
        // nothing else.
        self.put_back()?;
        spoil(&self.dir, inside, damage, &self.older, &self.other)?;
        let start = self.start()?;
        self.put_back()?;
        let content = verify.code == Some(0) || verify.text.contains(WELL);
        let verified = !verify.hung
            && match target.notice {
                Notice::Verify => !content,
                Notice::IfLost => !content || start.ready && start.lost.is_empty(),
            };
        let started = start.held();
        let expected = match target.notice {
            Notice::Verify => "verify is not content; start does not go on behind what was durable",
            Notice::IfLost => {
                "verify is not content if anything is lost; start does not go on behind what was \
                 durable"
            }
        };
        let done = format!("{} {damage:?}", inside.display());
        table.add(Row::new(
            &attack,
            done,
            expected,
            format!("{}; {}", said(&verify), start.words()),
            verified && started,
        ));
        Ok(())
    }

    /// Makes the directory what it was, and keeps the inode of every file that is still there.
    fn put_back(&self) -> Result<()> {
        mirror(&self.pristine, &self.dir)
    }

    /// Starts the node, sees what it does, and kills it.
    fn start(&self) -> Result<Start> {
        let log = Scene::log(&self.dir);
        let skip = fs::metadata(&log).map_or(0, |meta| meta.len());
        let started = Server::start(&mut self.scene.node(&[], &self.dir, &[])?, &self.dir, WITHIN)?;
        let mut start = Start::default();
        match started {
            Started::Hangs => start.hung = true,
            Started::Ended(code) => start.code = code,
            Started::Ready(mut server) => {
                self.watch(&log, skip, &mut start)?;
                // One that cannot recover ends although its listener answered before.
                start.ready = server.alive()?;
                if start.ready {
                    server.kill()?;
                } else {
                    start.code = server.exit_code(WITHIN)?;
                }
            }
        }
        for event in events(&log, skip)?
            .iter()
            .filter(|event| matches!(text(event, "level"), "WARN" | "ERROR"))
        {
            start.said.insert(text(event, "code").to_owned());
        }
        Ok(start)
    }

    /// Waits until each match goes on or has ended up otherwise, and notes which.
    fn watch(&self, log: &Path, skip: u64, start: &mut Start) -> Result<()> {
        let begun = Instant::now();
        loop {
            let views = self.scene.views(&self.dir);
            let resumed = events(log, skip)?;
            let tick = |id: &str| {
                let event = resumed
                    .iter()
                    .find(|event| text(event, "code") == RESUMED && text(event, "match_id") == id);
                event.and_then(|event| event.get("tick")).and_then(serde_json::Value::as_u64)
            };
            let all = self.durable.keys().all(|id| tick(id).is_some());
            if all || begun.elapsed() > RECOVERED {
                for (id, &durable) in &self.durable {
                    start.look(
                        id,
                        durable,
                        tick(id),
                        views.as_ref().ok().and_then(|views| views.get(id)),
                    );
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A backup that is damaged is not restored with exit code 0.
    fn restores(&self, table: &mut Table) -> Result<()> {
        let (backup, target) = (self.scene.path("backup"), self.scene.path("restored"));
        let restore = |from: &Path| {
            let done = self.scene.programs.command(
                &target,
                &["store", "restore", from.to_str().context("the path is no text")?],
                WITHIN,
            );
            // It may not have come far enough to make it.
            let _ = fs::remove_dir_all(&target);
            done
        };
        self.scene.must(
            &self.dir,
            &["store", "backup", backup.to_str().context("the path is no text")?],
        )?;
        let whole = restore(&backup)?;
        table.add(Row::new(
            "restore: none",
            "",
            "a whole backup is restored",
            said(&whole),
            whole.code == Some(0),
        ));
        let spoiled = self.scene.path("spoiled");
        let mut kinds: Vec<(PathBuf, Damage)> = Vec::new();
        for folder in ["logs", "checkpoints", "archive"] {
            for damage in [Damage::Halved, Damage::Zeroed, Damage::Fifo] {
                kinds.extend(
                    files_below(&backup.join(folder))?.last().map(|path| (path.clone(), damage)),
                );
            }
        }
        kinds.extend(
            [Damage::Deleted, Damage::Zeroed, Damage::Fifo]
                .map(|damage| (backup.join("node.db"), damage)),
        );
        for (path, damage) in kinds {
            let inside = path.strip_prefix(&backup)?;
            copy(&backup, &spoiled)?;
            if spoil(&spoiled, inside, damage, &self.older, &self.other)? {
                let done = restore(&spoiled)?;
                let held = !done.hung && done.code != Some(0);
                let expected = "restore ends in time, with an exit code that is not 0";
                table.add(Row::new(
                    "restore",
                    format!("{} {damage:?}", inside.display()),
                    expected,
                    said(&done),
                    held,
                ));
            }
            fs::remove_dir_all(&spoiled)?;
        }
        Ok(())
    }
}

/// What a start did.
#[derive(Debug, Default)]
struct Start {
    ready: bool,
    hung: bool,
    code: Option<i32>,
    /// Matches that go on behind what was durable, and matches that nobody has heard of, in words.
    lost: Vec<String>,
    /// By how many ticks a match goes on behind what was durable, at most.
    behind: u64,
    /// Matches that do not go on, with a reason that is shown.
    waiting: usize,
    /// Codes of its warnings and errors.
    said: BTreeSet<String>,
}

impl Start {
    fn look(&mut self, id: &str, durable: u64, resumed: Option<u64>, view: Option<&View>) {
        match (resumed, view) {
            (Some(tick), _) if tick + UNWITNESSED < durable => {
                self.lost.push(format!("{id} goes on at {tick} instead of {durable}"));
            }
            (Some(tick), _) => self.behind = self.behind.max(durable.saturating_sub(tick)),
            (None, Some(view)) if view.state == "running" => {
                self.lost.push(format!("{id} runs, nobody knows from where"));
            }
            (None, Some(_)) => self.waiting += 1,
            (None, None) => self.lost.push(format!("{id} is unknown")),
        }
    }

    fn refused(&self) -> bool {
        !self.ready && !self.hung && self.code != Some(0)
    }

    fn held(&self) -> bool {
        self.refused() || self.ready && self.lost.is_empty()
    }

    fn words(&self) -> String {
        let words = match self {
            Self { hung: true, .. } => "start hangs".to_owned(),
            Self { ready: false, code, .. } => format!("start ends with {code:?}"),
            Self { lost, waiting, behind, .. } if lost.is_empty() => {
                format!("start serves, {waiting} matches wait, {behind} ticks behind")
            }
            Self { lost, .. } => format!("start serves: {}", lost.join(", ")),
        };
        format!("{words} ({})", self.said.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    }
}

/// Damages the file `inside` of `dir`. True if it is another one now.
fn spoil(dir: &Path, inside: &Path, damage: Damage, older: &Path, other: &Path) -> Result<bool> {
    let path = dir.join(inside);
    let whole = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = whole.clone();
    match damage {
        Damage::Deleted => {
            fs::remove_file(&path)?;
            return Ok(true);
        }
        Damage::Fifo => {
            fs::remove_file(&path)?;
            let made = Command::new("mkfifo").arg(&path).status().context("mkfifo")?;
            ensure!(made.success(), "mkfifo ended with {made}");
            return Ok(true);
        }
        Damage::Halved => bytes.truncate(whole.len() / 2),
        Damage::Zeroed => bytes.fill(0),
        Damage::TailZeroed => {
            let tail = whole.len() - whole.len() / 3;
            bytes.get_mut(tail..).unwrap_or_default().fill(0);
        }
        Damage::Older => {
            let Ok(older) = fs::read(older.join(inside)) else { return Ok(false) };
            bytes = older;
        }
        Damage::Anothers => {
            // Logs and checkpoints have other names there.
            let folder = inside.components().next().context("no name")?;
            let same = other.join(inside);
            let found = if same.exists() {
                Some(same)
            } else {
                files_below(&other.join(folder))?.last().cloned()
            };
            bytes = fs::read(found.context("the other node has no such file")?)?;
        }
    }
    write_in_place(&path, &bytes)?;
    Ok(bytes != whole)
}

/// What a command did, in words.
fn said(done: &Done) -> String {
    match done {
        Done { hung: true, .. } => "hangs".to_owned(),
        Done { code, text, .. } => {
            let well = if text.contains(WELL) { ", all is well" } else { "" };
            format!(
                "exit {}{well}",
                code.map_or_else(|| "by a signal".to_owned(), |code| code.to_string())
            )
        }
    }
}

/// All files below a directory, in the order of their paths.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Other bytes in the same inode.
fn write_in_place(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::options()
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.set_len(bytes.len() as u64)?;
    file.write_all_at(bytes, 0).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes `to` what `from` is, in place.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    let wanted: BTreeSet<PathBuf> = files_below(from)?
        .iter()
        .filter_map(|path| path.strip_prefix(from).ok().map(Path::to_owned))
        .collect();
    for path in files_below(to)? {
        let regular = fs::symlink_metadata(&path)?.is_file();
        if !regular || !wanted.contains(path.strip_prefix(to)?) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    for inside in wanted {
        let (source, target) = (from.join(&inside), to.join(&inside));
        if target.exists() {
            let bytes = fs::read(&source)?;
            if fs::read(&target)? != bytes {
                write_in_place(&target, &bytes)?;
            }
        } else {
            fs::create_dir_all(target.parent().context("no folder")?)?;
            fs::copy(&source, &target)
                .with_context(|| format!("cannot put {} back", target.display()))?;
        }
    }
    remove_empty(from, to)
}

/// Removes directories that `from` does not have.
fn remove_empty(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let same = from.join(entry.file_name());
        if same.is_dir() {
            remove_empty(&same, &entry.path())?;
        } else {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
