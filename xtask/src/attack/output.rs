//! What commands print and leave behind: secrets, temporary files, logs that nobody reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::scene::Scene;
use super::{PATIENCE, Row, Table};
use crate::program::{Server, Started, finish};

/// What must not be printed. No part of it is a word.
const CANARY: &str = "zq7Xcanary9vK";
/// A number as a token, which a parser may echo.
const NUMBER: &str = "8675309775309";
/// A command that tries to reach a server that is not there may go on trying.
const TRY: Duration = Duration::from_secs(4);

/// Secrets in what commands and nodes print.
pub(super) fn secrets(scene: &Scene<'_>, table: &mut Table) {
    table.play("secrets", |table| secrets_of_commands(scene, table));
    table.play("secrets", |table| secrets_of_a_node(scene, table));
}

/// Temporary files, and logs that nobody reads.
pub(super) fn files_and_logs(scene: &Scene<'_>, table: &mut Table) {
    table.play("temporary files", |table| temporary_files(scene, table));
    for (name, sink) in [("gone", Sink::Gone), ("full", Sink::Full), ("stalled", Sink::Stalled)] {
        table.play("standard error", |table| standard_error(scene, name, sink, table));
    }
}

/// How a secret comes in: its name, a configuration file, variables, words.
type Leak = (&'static str, String, Vec<(&'static str, String)>, Vec<String>);

fn leaks() -> Vec<Leak> {
    let file = |name, text: String| (name, text, vec![], vec![]);
    let postgres = format!("postgres://keeper:{CANARY}@127.0.0.1:1/rekindle");
    vec![
        file("a token without its closing quote", format!("[admin]\ntoken = \"{CANARY}\n")),
        file("a token without quotes", format!("[admin]\ntoken = {CANARY}\n")),
        file("a token that is a number", format!("[admin]\ntoken = {NUMBER}\n")),
        file("a token that is a list", format!("[admin]\ntoken = [\"{CANARY}\"]\n")),
        file("a token under a key with a typing error", format!("[admin]\ntokne = \"{CANARY}\"\n")),
        file("a password in the store's URL", format!("store = \"{postgres}\"\n")),
        file("the same behind local:", format!("store = \"local:{postgres}\"\n")),
        file(
            "the same with a port that is none",
            format!("store = \"postgres://keeper:{CANARY}@127.0.0.1:99999/rekindle\"\n"),
        ),
        file(
            "a secret in the URL's options",
            format!("store = \"postgres://keeper@127.0.0.1:1/rekindle?sslmode={CANARY}\"\n"),
        ),
        file(
            "a password of its own",
            format!(
                "store = \"postgres://keeper@127.0.0.1:1/rekindle\"\nstore_password = \
                 \"{CANARY}\"\n"
            ),
        ),
        file("a password that is a number", format!("store_password = {NUMBER}\n")),
        (
            "a token in the environment",
            String::new(),
            vec![("REKINDLE_ADMIN_TOKEN", CANARY.to_owned())],
            vec![],
        ),
        (
            "a store in the environment",
            String::new(),
            vec![("REKINDLE_STORE", format!("local:{postgres}"))],
            vec![],
        ),
        (
            "a token on the command line",
            String::new(),
            vec![],
            vec!["--set".to_owned(), format!("admin.token={CANARY}")],
        ),
        (
            "a store on the command line",
            String::new(),
            vec![],
            vec!["--store".to_owned(), postgres],
        ),
    ]
}

/// What is run with each of them.
const COMMANDS: &[&[&str]] = &[
    &["config", "check"],
    &["config", "show"],
    &["config", "show", "--origin"],
    &["doctor"],
    &["verify"],
    &["match", "ls"],
    &["store", "status"],
    &["store", "migrate"],
    &["store", "copy", "--to", "local:copied"],
    &["audit"],
    &["jobs", "ls"],
    &["ticket", "issue", "--player", "1"],
    &["start"],
];

fn secrets_of_commands(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let folder = scene.path("secrets");
    fs::create_dir_all(&folder)?;
    // The commands of one leak run side by side: those that try to reach a server take as long as
    // they are given.
    for (number, (name, text, variables, words)) in leaks().into_iter().enumerate() {
        let config = folder.join(format!("{number}.toml"));
        fs::write(&config, &text)?;
        let outcomes: Vec<Result<Option<String>>> = std::thread::scope(|scope| {
            let running: Vec<_> = COMMANDS
                .iter()
                .enumerate()
                .map(|(which, wanted)| {
                    let (config, variables, words, folder) = (&config, &variables, &words, &folder);
                    scope.spawn(move || {
                        let home = folder.join(format!("{number}-{which}"));
                        fs::create_dir_all(&home)?;
                        let mut command = Command::new(scene.programs.executable());
                        command.current_dir(&home).stdin(Stdio::null()).arg("--config").arg(config);
                        command
                            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
                            .args(words)
                            .args(*wanted);
                        command.envs(variables.iter().map(|(name, value)| (name, value)));
                        let done = finish(&mut command, TRY)?;
                        let line = done
                            .text
                            .lines()
                            .find(|line| line.contains(CANARY) || line.contains(NUMBER));
                        Ok(line.map(|line| format!("{}: {line}", wanted.join(" "))))
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread died")))
                })
                .collect()
        });
        let printed = outcomes
            .into_iter()
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        let seen = match printed.first() {
            None => "no command prints it".to_owned(),
            Some(first) => format!("{} commands print it: {first}", printed.len()),
        };
        table.add(Row::new(
            "secrets",
            format!("{name}, {} commands", COMMANDS.len()),
            "it is printed nowhere",
            seen,
            printed.is_empty(),
        ));
    }
    Ok(())
}

fn secrets_of_a_node(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let dir = scene.path("secret-node");
    let token = format!("{CANARY}-{CANARY}-{CANARY}");
    let mut command = scene.node(&[], &dir, &["--set", "log.filter=trace"])?;
    command.env("REKINDLE_ADMIN_TOKEN", &token);
    let server = Server::ready(&mut command, &dir, PATIENCE)?;
    let mut create = scene.programs.rekindle(&[], &dir);
    create.env("REKINDLE_ADMIN_TOKEN", &token).args(["match", "create"]);
    let created = finish(&mut create, PATIENCE)?;
    let mut where_found = Vec::new();
    for path in ["/", "/metrics", "/readyz", "/v1/matches", "/v1/config"] {
        // Without the token most are refused; neither answer has it.
        if server.get(path).is_ok_and(|(_, body)| body.contains(CANARY)) {
            where_found.push(path.to_owned());
        }
    }
    if created.text.contains(CANARY) {
        where_found.push("match create".to_owned());
    }
    server.kill()?;
    if fs::read(Scene::log(&dir)).is_ok_and(|log| String::from_utf8_lossy(&log).contains(CANARY)) {
        where_found.push("the log".to_owned());
    }
    for file in ["node.json", "format"] {
        if fs::read(dir.join(file))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(CANARY))
        {
            where_found.push(file.to_owned());
        }
    }
    let held = where_found.is_empty() && created.code == Some(0);
    let seen = if held {
        "nowhere".to_owned()
    } else {
        format!("match create {:?}; found in: {}", created.code, where_found.join(", "))
    };
    table.add(Row::new(
        "secrets",
        "a node with a token, log.filter=trace",
        "the token is in no log, metric or file",
        seen,
        held,
    ));
    Ok(())
}

fn temporary_files(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let (dir, temp) = (scene.path("private"), scene.path("tmp"));
    fs::create_dir_all(&temp)?;
    let server = scene.up(&dir, &[])?;
    let matches = scene.matches(&dir, 2, 4)?;
    scene.reach(&dir, 60)?;
    server.kill()?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    let first = matches.first().context("no match")?.as_str();
    for words in [
        &["verify"][..],
        &["replay", first],
        &["journal", first],
        &["store", "status"],
        &["match", "ls"],
    ] {
        let command = |temp: &Path| {
            let mut command = scene.programs.rekindle(&[], &dir);
            command.args(words).env("TMPDIR", temp);
            command
        };
        let mut open = watch(&temp, || finish(&mut command(&temp), PATIENCE).map(drop))?;
        open.sort();
        let left = names(&temp);
        table.add(Row::new(
            "temporary files",
            format!("{} of a private directory", words.first().unwrap_or(&"")),
            "nobody else can read them, nothing stays",
            format!("readable: {open:?}; left: {left:?}"),
            open.is_empty() && left.is_empty(),
        ));
        for name in left {
            // A directory or a file: one of the two fails.
            let _ = fs::remove_dir_all(temp.join(&name));
            let _ = fs::remove_file(temp.join(&name));
        }
    }
    let killed = (0..40).find_map(|step| {
        let mut command = scene.programs.rekindle(&[], &dir);
        command.arg("verify").env("TMPDIR", &temp);
        // Killed a little later each time, until it leaves something behind.
        finish(&mut command, Duration::from_millis(20 * step)).ok()?;
        (!names(&temp).is_empty()).then_some(step)
    });
    let mut command = scene.programs.rekindle(&[], &dir);
    command.arg("verify").env("TMPDIR", &temp);
    finish(&mut command, PATIENCE)?;
    let left = names(&temp);
    let seen = format!(
        "a killed one {}; after the next one: {left:?}",
        if killed.is_some() { "leaves files" } else { "leaves nothing" }
    );
    table.add(Row::new(
        "temporary files",
        "verify killed, then run again",
        "what a killed command left is cleared",
        seen,
        left.is_empty(),
    ));
    Ok(())
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What others could read in `folder` while `work` is done.
fn watch(folder: &Path, work: impl FnOnce() -> Result<()>) -> Result<Vec<String>> {
    let done = Arc::new(AtomicBool::new(false));
    let (stop, path) = (Arc::clone(&done), folder.to_owned());
    let watcher = std::thread::spawn(move || {
        let mut open = std::collections::BTreeSet::new();
        while !stop.load(Ordering::Acquire) {
            look(&path, &path, &mut open);
            std::thread::sleep(Duration::from_micros(500));
        }
        open.into_iter().collect()
    });
    let worked = work();
    done.store(true, Ordering::Release);
    let open = watcher.join().map_err(|_| anyhow::anyhow!("the watcher died"))?;
    worked.map(|()| open)
}

/// Adds the entries that others can read, without their random parts; not what lies in a folder
/// that is closed to them.
fn look(root: &Path, folder: &Path, open: &mut std::collections::BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // It may be gone by now.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        let for_others = meta.permissions().mode() & 0o077;
        if for_others == 0 {
            continue;
        }
        let path: PathBuf =
            entry.path().strip_prefix(root).map_or_else(|_| entry.path(), Path::to_owned);
        open.insert(format!("{} {:o}", path.display(), meta.permissions().mode() & 0o777));
        if meta.is_dir() {
            look(root, &entry.path(), open);
        }
    }
}

/// What becomes of what a node logs.
#[derive(Clone, Copy)]
enum Sink {
    /// Its reader has gone.
    Gone,
    /// There is no room for it.
    Full,
    /// Its reader does not read.
    Stalled,
}

fn standard_error(scene: &Scene<'_>, name: &str, sink: Sink, table: &mut Table) -> Result<()> {
    let dir = scene.path(&format!("stderr-{name}"));
    let done = format!("a node whose standard error is {name}");
    let expected = "it starts, creates matches, answers, stops on SIGTERM with 0";
    let mut command = scene.node(&[], &dir, &["--set", "log.filter=trace"])?;
    let (reader, writer) = std::io::pipe().context("pipe")?;
    let reader = match sink {
        Sink::Gone => {
            drop(reader);
            command.stderr(writer);
            None
        }
        Sink::Full => {
            command.stderr(fs::File::options().write(true).open("/dev/full").context("/dev/full")?);
            None
        }
        Sink::Stalled => {
            command.stderr(writer);
            Some(reader)
        }
    };
    let mut server = match Server::start(&mut command, &dir, PATIENCE)? {
        Started::Ready(server) => server,
        Started::Ended(code) => {
            table.add(Row::new(
                "standard error",
                done,
                expected,
                format!("the start ends with {code:?}"),
                false,
            ));
            return Ok(());
        }
        Started::Hangs => {
            table.add(Row::new("standard error", done, expected, "the start hangs", false));
            return Ok(());
        }
    };
    let create = |bots| {
        scene.programs.command(&dir, &["match", "create", "--bots", bots], Duration::from_secs(8))
    };
    let first = create("4")?;
    // A pipe takes 64 KiB; at this filter a match with bots fills it soon.
    std::thread::sleep(Duration::from_secs(3));
    let second = create("0")?;
    let ready = server.get("/readyz").map(|(status, _)| status);
    let alive = server.alive()?;
    let ticks = scene.programs.command(&dir, &["match", "ls", "--json"], Duration::from_secs(8))?;
    let stopped = if alive {
        server.signal(rustix::process::Signal::TERM)?;
        server.exit_code(Duration::from_secs(15))?
    } else {
        None
    };
    let held = alive
        && first.code == Some(0)
        && second.code == Some(0)
        && ticks.code == Some(0)
        && matches!(ready, Ok(200))
        && stopped == Some(0);
    let code = |done: &crate::program::Done| {
        done.code.map_or_else(|| "hangs".to_owned(), |code| code.to_string())
    };
    let seen = format!(
        "create {} and {}, ls {}, readyz {}, {}, SIGTERM: {}",
        code(&first),
        code(&second),
        code(&ticks),
        ready.map_or_else(|error| format!("{error:#}"), |status| status.to_string()),
        if alive { "alive" } else { "dead" },
        stopped.map_or_else(|| "does not end by itself".to_owned(), |code| format!("exit {code}")),
    );
    table.add(Row::new("standard error", done, expected, seen, held));
    drop(reader);
    Ok(())
}
