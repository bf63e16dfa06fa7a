//! Bad clients: every descriptor taken, admin requests that never end, one ticket for every slot.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::scene::Scene;
use super::{PATIENCE, Row, Table};
use crate::program::{Note, Server, Started, Witness, playing};

/// How long an admin request that does not end may keep its connection.
const SLOW: Duration = Duration::from_secs(75);
/// A connection that takes longer finds no room in the kernel's queue either: its first packet was
/// dropped twice.
const CONNECT: Duration = Duration::from_millis(3_500);
/// How long players are watched.
const WATCH: Duration = Duration::from_secs(3);
/// How long a player may take to get in.
const ENTER: Duration = Duration::from_secs(10);

/// Too many clients.
pub(super) fn crowds(scene: &Scene<'_>, table: &mut Table) {
    for limit in [256, 1_024] {
        table.play("descriptors", |table| descriptors(scene, limit, table));
    }
    table.play("slots", |table| slots(scene, table));
}

/// `clients` players of the witness were shown ticks since `from`.
fn all_play(witness: &Witness, clients: usize, within: Duration) -> bool {
    let from = witness.len();
    witness.wait(from, within, |notes| playing(notes, clients) == clients)
}

fn descriptors(scene: &Scene<'_>, limit: usize, table: &mut Table) -> Result<()> {
    let dir = scene.path(&format!("descriptors-{limit}"));
    let done = format!("nofile={limit}, {} admin connections", limit + 200);
    let expected = "players stay and new ones get in, or readyz says no, or the node ends; \
        afterwards players get in";
    let prlimit = format!("--nofile={limit}:{limit}");
    let mut command = scene.node(
        &["prlimit", &prlimit],
        &dir,
        &["--set", "limits.connections=64", "--set", "limits.matches=16"],
    )?;
    let mut server = match Server::start(&mut command, &dir, PATIENCE)? {
        Started::Ready(server) => server,
        Started::Ended(code) => {
            table.add(Row::new(
                "descriptors",
                done,
                expected,
                format!("the start is refused with {code:?}"),
                code != Some(0),
            ));
            return Ok(());
        }
        Started::Hangs => {
            table.add(Row::new("descriptors", done, expected, "the start hangs", false));
            return Ok(());
        }
    };
    let matches = scene.matches(&dir, 2, 0)?;
    let early = Witness::start(
        scene.programs,
        &dir,
        server.card.listen,
        "player",
        &scene.tickets(&dir, 1, 4, &matches)?,
    )?;
    let (late, last) =
        (scene.tickets(&dir, 11, 2, &matches)?, scene.tickets(&dir, 21, 2, &matches)?);
    ensure!(
        early.wait(0, ENTER, |notes| playing(notes, 4) == 4),
        "the first players do not get in"
    );
    let mut taken = Vec::new();
    // Those that the node has no descriptor for wait in the kernel's queue, which ends as well.
    while taken.len() < limit + 200 {
        match TcpStream::connect_timeout(&server.card.admin, CONNECT) {
            Ok(stream) => taken.push(stream),
            Err(_) => break,
        }
    }
    std::thread::sleep(WATCH);
    let stay = all_play(&early, 4, WATCH);
    let newcomers = Witness::start(scene.programs, &dir, server.card.listen, "player", &late)?;
    let enter = newcomers.wait(0, ENTER, |notes| playing(notes, 2) == 2);
    let connections = taken.len();
    drop(taken);
    let still = server.alive()?;
    let again = Witness::start(scene.programs, &dir, server.card.listen, "player", &last)?;
    let back = still && again.wait(0, ENTER, |notes| playing(notes, 2) == 2);
    let ready = if still {
        server
            .get("/readyz")
            .map_or_else(|error| format!("{error:#}"), |(status, _)| status.to_string())
    } else {
        "-".to_owned()
    };
    let seen = format!(
        "{connections} connections: players {}, newcomers {}; afterwards: {}, readyz {ready}, \
         players {}",
        if stay { "stay" } else { "drop" },
        if enter { "get in" } else { "do not get in" },
        if still { "alive" } else { "ended" },
        if back { "get in" } else { "do not get in" }
    );
    let held = if still {
        stay && enter && back && ready == "200"
    } else {
        server.exit_code(Duration::ZERO)? != Some(0)
    };
    table.add(Row::new("descriptors", done, expected, seen, held));
    drop((early, newcomers, again));
    server.kill()
}

fn slots(scene: &Scene<'_>, table: &mut Table) -> Result<()> {
    let dir = scene.path("slots");
    let server = scene.up(&dir, &["--set", "limits.connections=40"])?;
    let matches = scene.matches(&dir, 1, 0)?;
    let early = Witness::start(
        scene.programs,
        &dir,
        server.card.listen,
        "player",
        &scene.tickets(&dir, 1, 2, &matches)?,
    )?;
    ensure!(
        early.wait(0, ENTER, |notes| playing(notes, 2) == 2),
        "the first players do not get in"
    );
    let ticket = scene.ticket(&dir, &["--player", "900", "--spectator"])?;
    let match_id = matches.first().context("no match")?.clone();
    let crowd = vec![(ticket, match_id); 60];
    let spectators = Witness::start(scene.programs, &dir, server.card.listen, "spectator", &crowd)?;
    spectators.wait(0, PATIENCE * 2, |notes| playing(notes, 60) > 0);
    spectators.wait(0, WATCH * 2, |notes| playing(notes, 60) >= 38);
    let inside = playing(&spectators.since(0), 60);
    ensure!(inside > 0, "no spectator gets in");
    let newcomers = Witness::start(
        scene.programs,
        &dir,
        server.card.listen,
        "player",
        &scene.tickets(&dir, 11, 4, &matches)?,
    )?;
    let enter = newcomers.wait(0, ENTER, |notes| playing(notes, 4) == 4);
    let stay = all_play(&early, 2, WATCH);
    let gone = early
        .since(0)
        .iter()
        .filter(|note| matches!(note, Note::Gone { .. } | Note::Closed { .. }))
        .count();
    let why = newcomers.since(0).into_iter().find_map(|note| match note {
        Note::Gone { reason, .. } | Note::Closed { reason, .. } => Some(reason),
        _ => None,
    });
    let seen = format!(
        "{inside} of 60 watch; players in the match {} ({gone} interruptions), new ones {}",
        if stay { "stay" } else { "drop" },
        if enter {
            "get in".to_owned()
        } else {
            format!("do not get in: {}", why.unwrap_or_default())
        }
    );
    table.add(Row::new(
        "slots",
        "one spectator ticket, 60 connections of 40",
        "players stay and get in",
        seen,
        stay && enter,
    ));
    drop((early, spectators, newcomers));
    server.kill()
}

/// Admin requests that do not end.
pub(super) fn slow(scene: &Scene<'_>, table: &mut Table) {
    table.play("slow admin client", |table| {
        let server = scene.up(&scene.path("slow"), &[])?;
        let mut clients = Vec::new();
        for (name, head, drip) in [
            ("connects and says nothing", "", ""),
            ("a header that never ends", "GET /readyz HTTP/1.1\r\nHost: localhost\r\n", "X: y\r\n"),
            (
                "a body that never ends",
                "POST /v1/matches HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                 application/json\r\nContent-Length: 4096\r\n\r\n{",
                " ",
            ),
        ] {
            let mut stream = server.knock()?;
            stream.write_all(head.as_bytes())?;
            clients.push((name, std::thread::spawn(move || closed(&mut stream, drip))));
        }
        // Whether it is ready yet is another question.
        let answer = server.get("/livez").map(|(status, _)| status);
        let held = matches!(answer, Ok(200));
        table.add(Row::new(
            "slow admin client",
            "another request beside them",
            "answered",
            format!("{answer:?}"),
            held,
        ));
        for (name, client) in clients {
            let (seen, held) = match client.join() {
                Ok(Some(after)) => (format!("closed after {:.0} s", after.as_secs_f64()), true),
                Ok(None) => (format!("open after {} s", SLOW.as_secs()), false),
                Err(_) => ("the client died".to_owned(), false),
            };
            table.add(Row::new("slow admin client", name, "closed within 75 s", seen, held));
        }
        server.kill()
    });
}

/// When the server closed the connection, if it did; now and then the client says a little more.
fn closed(stream: &mut TcpStream, drip: &str) -> Option<Duration> {
    let begun = Instant::now();
    let mut bytes = [0; 512];
    let mut told = Instant::now();
    while begun.elapsed() < SLOW {
        // Reading waits for two seconds at most.
        match stream.read(&mut bytes) {
            Ok(0) => return Some(begun.elapsed()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return Some(begun.elapsed()),
        }
        if told.elapsed() > Duration::from_secs(2) && !drip.is_empty() {
            told = Instant::now();
            if stream.write_all(drip.as_bytes()).is_err() {
                return Some(begun.elapsed());
            }
        }
    }
    None
}
