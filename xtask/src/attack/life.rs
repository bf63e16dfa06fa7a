//! Bad days: killed again and again, copied, the directory removed, the clock wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::scene::{Scene, copy, first};
use super::{PATIENCE, Row, Table};
use crate::program::{Note, Server, Started, Witness, playing};

/// How often a node is killed half a second after its start.
const KILLS: usize = 26;
/// Where distributions put the library that gives a process another clock.
const FAKE_CLOCKS: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// Killed again and again.
pub(super) fn kills(scene: &Scene<'_>, table: &mut Table) {
    table.play("kills", |table| many_kills(scene, table));
}

/// A directory that is copied, or gone.
pub(super) fn places(scene: &Scene<'_>, table: &mut Table) {
    table.play("copy", |table| copied(scene, table));
    table.play("directory removed", |table| removed(scene, table));
}

/// A clock that is wrong for a while.
pub(super) fn clocks(scene: &Scene<'_>, table: &mut Table) {
    for (name, jump) in
        [("30 days ahead", "+30d"), ("an hour ahead", "+1h"), ("10 years back", "-10y")]
    {
        table.play("clock", |table| clock(scene, name, jump, table));
    }
}

fn many_kills(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let dir = scene.path("kills");
    let server = scene.up(&dir, &[])?;
    scene.matches(&dir, 4, 2)?;
    scene.reach(&dir, 30)?;
    server.kill()?;
    for _ in 0..KILLS {
        let server = scene.up(&dir, &[])?;
        std::thread::sleep(Duration::from_millis(500));
        server.kill()?;
    }
    let server = scene.up(&dir, &[])?;
    let begun = Instant::now();
    // Matches of a node that has died often may be tried carefully, one after another.
    let (views, running) = loop {
        let views = scene.views(&dir)?;
        let running = views.values().filter(|view| view.state == "running").count();
        if running == 4 || begun.elapsed() > PATIENCE {
            break (views, running);
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let seen = views.values().map(|view| view.state.as_str()).collect::<Vec<_>>().join(", ");
    table.add(Row::new(
        "kills",
        format!("{KILLS} x (start, 0.5 s, kill -9), 4 matches"),
        "all matches run",
        seen,
        running == 4,
    ));
    server.kill()
}

fn copied(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let (dir, twin) = (scene.path("original"), scene.path("twin"));
    let mut server = scene.up(&dir, &[])?;
    scene.matches(&dir, 1, 2)?;
    scene.reach(&dir, 30)?;
    copy(&dir, &twin)?;
    let started = Server::start(&mut scene.node(&[], &twin, &[])?, &twin, PATIENCE)?;
    std::thread::sleep(Duration::from_secs(6));
    let alive = server.alive()?;
    let ready = if alive { server.get("/readyz").map(|(status, _)| status).ok() } else { None };
    let copy_does = match started {
        Started::Ready(twin) => {
            twin.kill()?;
            "serves".to_owned()
        }
        Started::Ended(code) => format!("ends with {code:?}"),
        Started::Hangs => "hangs".to_owned(),
    };
    let seen = format!(
        "the copy {copy_does}; the original {}, readyz {ready:?}",
        if alive { "lives" } else { "was killed" }
    );
    table.add(Row::new(
        "copy",
        "cp -a of a live directory, started on other ports",
        "the original lives and serves",
        seen,
        alive && ready == Some(200),
    ));
    server.kill()
}

fn removed(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let dir = scene.path("removed");
    let mut server = scene.up(&dir, &[])?;
    let matches = scene.matches(&dir, 1, 0)?;
    let witness = Witness::start(
        scene.programs,
        &dir,
        server.card.listen,
        "player",
        &scene.tickets(&dir, 1, 1, &matches)?,
    )?;
    ensure!(
        witness.wait(0, PATIENCE, |notes| playing(notes, 1) == 1),
        "the player does not get in"
    );
    remove(&dir)?;
    std::thread::sleep(Duration::from_secs(10));
    let from = witness.len();
    std::thread::sleep(Duration::from_secs(2));
    let durable =
        witness.since(from).iter().filter(|note| matches!(note, Note::Seen { .. })).count();
    let alive = server.alive()?;
    if alive {
        server.signal(rustix::process::Signal::TERM)?;
    }
    let code = server.exit_code(Duration::from_secs(15))?;
    let seen = format!(
        "10 s later the node {}, {durable} durable ticks in two seconds; {} {code:?}",
        if alive { "lives" } else { "has ended" },
        if alive { "SIGTERM: exit" } else { "exit" }
    );
    let held = durable == 0 && code != Some(0);
    table.add(Row::new(
        "directory removed",
        "rm -r under a running node",
        "nothing is acknowledged; the exit code is not 0",
        seen,
        held,
    ));
    server.kill()
}

/// Removes a directory in which a node may make files meanwhile.
fn remove(dir: &Path) -> Result<()> {
    for _ in 0..20 {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            done => return done.with_context(|| format!("cannot remove {}", dir.display())),
        }
    }
    Ok(())
}

/// Housekeeping goes on after the clock was wrong for five seconds, also after a restart.
fn clock(scene: &Scene<'_>, name: &str, jump: &str, table: &mut Table) -> Result<()> {
    let done = format!("the clock is {name} for 5 s, then right again");
    let Some(library) = FAKE_CLOCKS.iter().find(|path| Path::new(path).exists()) else {
        table.add(Row::skipped("clock", &done, "libfaketime is not installed"));
        return Ok(());
    };
    let dir = scene.path(&format!("clock{jump}"));
    let offset: PathBuf = scene.path(&format!("clock{jump}.offset"));
    fs::write(&offset, "+0\n")?;
    let start = || -> Result<Server> {
        let mut command = scene.node(
            &[],
            &dir,
            &["--set", "jobs.cron=keep-house every 2s; prune-jobs every 3s"],
        )?;
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &offset);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Server::ready(&mut command, &dir, PATIENCE)
    };
    let server = start()?;
    scene.matches(&dir, 1, 2)?;
    std::thread::sleep(Duration::from_secs(3));
    let before = finished(scene, &dir)?;
    ensure!(before > 0, "no job is done even before the clock jumps");
    fs::write(&offset, format!("{jump}\n"))?;
    std::thread::sleep(Duration::from_secs(5));
    fs::write(&offset, "+0\n")?;
    // What was under way at the jump ends.
    std::thread::sleep(Duration::from_secs(1));
    let right = finished(scene, &dir)?;
    std::thread::sleep(Duration::from_secs(6));
    let after = finished(scene, &dir)?;
    let views = scene.views(&dir)?;
    server.kill()?;
    let server = start()?;
    let again = finished(scene, &dir)?;
    std::thread::sleep(Duration::from_secs(6));
    let restarted = finished(scene, &dir)?;
    let running = views.values().all(|view| view.state == "running");
    let seen = format!(
        "jobs in 6 s: {} afterwards, {} after a restart; matches {}",
        after.saturating_sub(right),
        restarted.saturating_sub(again),
        if running { "run" } else { "do not run" }
    );
    let held = running && after > right && restarted > again;
    table.add(Row::new(
        "clock",
        done,
        "housekeeping goes on within 6 s, also after a restart",
        seen,
        held,
    ));
    server.kill()
}

/// How many jobs are done, as far back as they are remembered: the clock's own count.
fn finished(scene: &Scene<'_>, dir: &Path) -> Result<usize> {
    #[derive(Deserialize)]
    struct Job {
        id: String,
    }
    let jobs: Vec<Job> =
        first(&scene.must(dir, &["jobs", "ls", "--json", "--state", "done", "--limit", "1000"])?)?;
    Ok(jobs.iter().filter(|job| !job.id.is_empty()).count())
}
