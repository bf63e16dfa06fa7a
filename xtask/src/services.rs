//! `cargo xtask services`: a private Postgres and a private CQL server for tests, on loopback.
//!
//! Where they are and who they are is in `services.json` ([`rekindle_testservers::State`]), which
//! tests read. What *runs* is asked of the system (`processes.rs`): the file may be stale, or gone.
//! One of us at a time works on a directory. `postgres.rs` and `cassandra.rs` know their servers,
//! `host.rs` the machine.

mod cassandra;
mod cql_wire;
mod host;
mod ports;
mod postgres;
mod processes;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cassandra::{Cassandra, DATACENTERS};
use clap::{Args, Subcommand, ValueEnum};
use postgres::Postgres;
use rekindle_testservers::{CqlServer, FORMAT, PostgresServer, State};

/// `cargo xtask services`.
#[derive(Args)]
pub(crate) struct Services {
    /// Where data, logs and `services.json` go [default: `services` in the target directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start what does not run, and wait until it answers
    Up {
        /// How many datacentres the CQL cluster has: `eu` on 127.0.0.1, `us` on 127.0.0.2
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
        datacenters: u8,
        /// Start only this
        #[arg(long)]
        only: Option<Kind>,
        /// Let the CQL server compile itself fully: slower to start, faster later. For measurements
        #[arg(long)]
        full_jit: bool,
    },
    /// Stop everything
    Down {
        /// Remove the data as well
        #[arg(long)]
        wipe: bool,
        /// Wait until stdin ends first
        #[arg(long, hide = true)]
        when_stdin_ends: bool,
    },
    /// Print addresses, and whether the servers answer
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// SIGKILL a server and all its processes
    Kill {
        /// Which
        server: Server,
    },
    /// Start a server that was killed: same address, same data
    Start {
        /// Which
        server: Server,
    },
    /// Stop a server and start it again
    Restart {
        /// Which
        server: Server,
        /// Without a shutdown: `pg_ctl restart -m immediate`, SIGKILL for CQL
        #[arg(long)]
        immediate: bool,
    },
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    Postgres,
    Cql,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Server {
    Postgres,
    /// All nodes
    Cql,
    CqlEu,
    CqlUs,
}

impl Server {
    /// Does it mean the node of this datacentre?
    fn is_node(self, datacenter: &str) -> bool {
        match self {
            Self::Postgres => false,
            Self::Cql => true,
            Self::CqlEu => datacenter == "eu",
            Self::CqlUs => datacenter == "us",
        }
    }
}

pub(crate) fn services(wanted: &Services) -> Result<()> {
    let dir = directory(wanted.dir.as_deref())?;
    match wanted.verb {
        Verb::Status { json } => status(&dir, json),
        Verb::Up { datacenters, only, full_jit } => {
            let mut work = Work::on(dir)?;
            work.up(datacenters.into(), only, full_jit)?;
            report(&work.state);
            Ok(())
        }
        Verb::Down { wipe, when_stdin_ends } => {
            if when_stdin_ends {
                std::io::stdin()
                    .read_to_end(&mut Vec::new())
                    .context("cannot wait for the end of stdin")?;
            }
            if !dir.is_dir() {
                return stop_all(&dir, None);
            }
            let mut work = Work::on(dir)?;
            work.down(wipe)?;
            // A test that outlives its run must not start a server again.
            if when_stdin_ends { work.remove_file() } else { Ok(()) }
        }
        Verb::Kill { server } => Work::on(dir)?.kill(server),
        Verb::Start { server } => Work::on(dir)?.start(server),
        Verb::Restart { server, immediate } => Work::on(dir)?.restart(server, immediate),
    }
}

/// The directory of the services, absolute, since it is what tells their processes from others.
fn directory(wanted: Option<&Path>) -> Result<PathBuf> {
    let dir = wanted.map_or_else(
        || rekindle_testservers::default_dir(std::env::var_os("CARGO_TARGET_DIR")),
        Path::to_owned,
    );
    let dir = std::path::absolute(&dir)
        .with_context(|| format!("cannot tell where {} is", dir.display()))?;
    // Processes see their directory without symbolic links. Of a directory that is gone, what is
    // above it still counts.
    let mut above = dir.as_path();
    loop {
        match (above.canonicalize(), above.parent()) {
            (Ok(real), _) => {
                let rest = dir.strip_prefix(above).unwrap_or(Path::new(""));
                // Joining nothing would add a slash.
                return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
            }
            (Err(_), Some(parent)) => above = parent,
            (Err(error), None) => bail!("cannot tell where {} is: {error}", dir.display()),
        }
    }
}

/// The right to change what runs in a directory.
struct Work {
    state: State,
    /// Held as long as this lives.
    _lock: File,
}

impl Work {
    fn on(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        let before = State::load(&dir.join(State::FILE))?.filter(|state| state.dir == dir);
        let (postgres, cql) =
            before.map_or((None, Vec::new()), |state| (state.postgres, state.cql));
        let state = State { format: FORMAT, dir, xtask: this_program()?, postgres, cql };
        Ok(Self { state, _lock: lock })
    }

    fn save(&self) -> Result<()> {
        self.state.save().with_context(|| {
            format!("cannot write {} to {}", State::FILE, self.state.dir.display())
        })
    }

    fn up(&mut self, datacenters: usize, only: Option<Kind>, full_jit: bool) -> Result<()> {
        let wanted = |kind| only.is_none_or(|only| only == kind);
        let (dir, before) = (&self.state.dir, &self.state);
        let (postgres, cql) = std::thread::scope(|scope| {
            let postgres = scope.spawn(|| {
                if wanted(Kind::Postgres) {
                    up_postgres(dir, before.postgres.as_ref()).map(Some)
                } else {
                    Ok(before.postgres.clone())
                }
            });
            let cql = if wanted(Kind::Cql) {
                up_cql(dir, &before.cql, datacenters, full_jit)
            } else {
                Ok(before.cql.clone())
            };
            (postgres.join(), cql)
        });
        let postgres = postgres.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What did start is written down, whatever the other one did.
        if let Ok(postgres) = &postgres {
            self.state.postgres.clone_from(postgres);
        }
        if let Ok(cql) = &cql {
            self.state.cql.clone_from(cql);
        }
        self.save()?;
        match (postgres, cql) {
            (Ok(_), Ok(_)) => Ok(()),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(postgres), Err(cql)) => bail!("{postgres:#}\nand {cql:#}"),
        }
    }

    fn down(&mut self, wipe: bool) -> Result<()> {
        let dir = self.state.dir.clone();
        stop_all(&dir, self.state.postgres.as_ref())?;
        if wipe {
            postgres::wipe(&dir)?;
            cassandra::wipe(&dir)?;
            let file = dir.join(State::FILE);
            return if file.exists() {
                std::fs::remove_file(&file)
                    .with_context(|| format!("cannot remove {}", file.display()))
            } else {
                Ok(())
            };
        }
        self.forget(|_| true);
        self.save()
    }

    fn remove_file(&self) -> Result<()> {
        let file = self.state.dir.join(State::FILE);
        if file.exists() {
            std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
        } else {
            Ok(())
        }
    }

    fn kill(&mut self, server: Server) -> Result<()> {
        let dir = self.state.dir.clone();
        if server == Server::Postgres {
            self.postgres()?;
            postgres::kill(&dir)?;
        } else {
            for node in self.nodes(server)? {
                cassandra::kill(&dir, &node.datacenter)?;
            }
        }
        self.forget(|killed| {
            killed.map_or(server == Server::Postgres, |datacenter| server.is_node(datacenter))
        });
        self.save()
    }

    fn start(&mut self, server: Server) -> Result<()> {
        let dir = self.state.dir.clone();
        if server == Server::Postgres {
            let before = self.postgres()?.clone();
            if !is_up(before.process.as_ref(), || postgres::ping(&before)) {
                postgres::kill(&dir)?;
                self.state.postgres =
                    Some(Postgres::prepare(&dir)?.start(Some(before.address.port()), true)?);
            }
        } else {
            for node in self.nodes(server)? {
                if !is_up(node.process.as_ref(), || cassandra::ping(&node)) {
                    cassandra::kill(&dir, &node.datacenter)?;
                    let started = Cassandra::prepare(&dir, false)?.start(&node)?;
                    self.state
                        .cql
                        .iter_mut()
                        .filter(|known| known.name == node.name)
                        .for_each(|known| known.clone_from(&started));
                    self.save()?;
                }
            }
            let running: Vec<_> =
                self.state.cql.iter().filter(|node| node.process.is_some()).cloned().collect();
            cassandra::wait_joined(&running)?;
        }
        self.save()
    }

    fn restart(&mut self, server: Server, immediately: bool) -> Result<()> {
        let dir = self.state.dir.clone();
        if server == Server::Postgres {
            let before = self.postgres()?.clone();
            if before.process.as_ref().is_some_and(rekindle_testservers::Process::is_alive) {
                self.state.postgres = Some(Postgres::prepare(&dir)?.restart(&before, immediately)?);
                return self.save();
            }
        } else if immediately {
            self.kill(server)?;
        } else {
            for node in self.nodes(server)? {
                cassandra::stop(&dir, &node.datacenter)?;
            }
            self.forget(|stopped| stopped.is_some_and(|datacenter| server.is_node(datacenter)));
        }
        self.start(server)
    }

    fn postgres(&self) -> Result<&PostgresServer> {
        self.state.postgres.as_ref().with_context(|| self.never_started("Postgres"))
    }

    fn nodes(&self, server: Server) -> Result<Vec<CqlServer>> {
        let nodes: Vec<_> = self
            .state
            .cql
            .iter()
            .filter(|node| server.is_node(&node.datacenter))
            .cloned()
            .collect();
        if nodes.is_empty() {
            bail!("{}", self.never_started("such a CQL server"));
        }
        Ok(nodes)
    }

    fn never_started(&self, what: &str) -> String {
        format!("{what} was not started in {}: `cargo xtask services up`", self.state.dir.display())
    }

    /// Marks as stopped: Postgres (none) and nodes (their datacentre) for which `is_stopped` holds.
    fn forget(&mut self, is_stopped: impl Fn(Option<&str>) -> bool) {
        if is_stopped(None) {
            self.state.postgres.iter_mut().for_each(|server| server.process = None);
        }
        self.state
            .cql
            .iter_mut()
            .filter(|node| is_stopped(Some(&node.datacenter)))
            .for_each(|node| node.process = None);
    }
}

fn up_postgres(dir: &Path, before: Option<&PostgresServer>) -> Result<PostgresServer> {
    if let Some(before) =
        before.filter(|before| is_up(before.process.as_ref(), || postgres::ping(before)))
    {
        return Ok(before.clone());
    }
    // Left over from a start that was interrupted, or from a state file that is gone.
    postgres::kill(dir)?;
    Postgres::prepare(dir)?.start(before.map(|before| before.address.port()), false)
}

fn up_cql(
    dir: &Path,
    before: &[CqlServer],
    datacenters: usize,
    full_jit: bool,
) -> Result<Vec<CqlServer>> {
    let runs = |datacenter: &str| {
        let before = before.iter().find(|node| node.datacenter == datacenter)?;
        is_up(before.process.as_ref(), || cassandra::ping(before)).then(|| before.clone())
    };
    let mut up: Vec<_> = DATACENTERS.iter().map_while(|(datacenter, _)| runs(datacenter)).collect();
    if up.len() >= datacenters {
        return Ok(up);
    }
    // Nodes find each other through the first one: those behind a dead one start again with it.
    for (datacenter, _) in &DATACENTERS[up.len()..] {
        cassandra::kill(dir, datacenter)?;
    }
    let cassandra = Cassandra::prepare(dir, full_jit)?;
    for (datacenter, host) in &DATACENTERS[up.len()..datacenters] {
        let before = before.iter().find(|node| node.datacenter == *datacenter);
        let placed = cassandra.place(datacenter, *host, before, up.first())?;
        up.push(cassandra.start(&placed)?);
    }
    cassandra::wait_joined(&up)?;
    Ok(up)
}

/// Does it run, and answer?
fn is_up(
    process: Option<&rekindle_testservers::Process>,
    ping: impl Fn() -> Result<Duration>,
) -> bool {
    process.is_some_and(rekindle_testservers::Process::is_alive) && ping().is_ok()
}

/// Ends all servers of a directory, also those that no file knows of.
fn stop_all(dir: &Path, postgres: Option<&PostgresServer>) -> Result<()> {
    std::thread::scope(|scope| {
        let nodes: Vec<_> = DATACENTERS
            .iter()
            .map(|(datacenter, _)| scope.spawn(|| cassandra::stop(dir, datacenter)))
            .collect();
        let postgres = postgres::stop(dir, postgres);
        nodes
            .into_iter()
            .map(|node| node.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .fold(postgres, Result::and)
    })
}

fn report(state: &State) {
    if let Some(server) = state.postgres.as_ref().filter(|server| server.process.is_some()) {
        println!("{}={}", rekindle_testservers::POSTGRES, server.url);
    }
    let nodes: Vec<_> = state
        .cql
        .iter()
        .filter(|node| node.process.is_some())
        .map(|node| node.address.to_string())
        .collect();
    if !nodes.is_empty() {
        println!("{}={}", rekindle_testservers::CQL, nodes.join(","));
    }
    println!("{}={}", rekindle_testservers::SERVICES, state.dir.join(State::FILE).display());
}

/// One line of `services status`.
#[derive(serde::Serialize)]
struct Line {
    server: String,
    address: String,
    pid: Option<u32>,
    /// `up`, `down`, or why it does not answer.
    status: String,
    answered_in_ms: Option<f64>,
}

impl Line {
    fn of(
        server: &str,
        address: &str,
        process: Option<&rekindle_testservers::Process>,
        ping: impl FnOnce() -> Result<Duration>,
    ) -> Self {
        let process = process.filter(|process| process.is_alive());
        let (status, answered) = match process.map(|_| ping()) {
            None => ("down".to_owned(), None),
            Some(Ok(time)) => ("up".to_owned(), Some(time)),
            Some(Err(error)) => (format!("runs, but does not answer: {error:#}"), None),
        };
        let answered_in_ms = answered.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0);
        Self {
            server: server.to_owned(),
            address: address.to_owned(),
            pid: process.map(|process| process.pid),
            status,
            answered_in_ms,
        }
    }
}

fn status(dir: &Path, json: bool) -> Result<()> {
    let mut lines = Vec::new();
    if let Some(state) = State::load(&dir.join(State::FILE))? {
        if let Some(server) = &state.postgres {
            lines.push(Line::of("postgres", &server.url, server.process.as_ref(), || {
                postgres::ping(server)
            }));
        }
        lines.extend(state.cql.iter().map(|node| {
            Line::of(&node.name, &node.address.to_string(), node.process.as_ref(), || {
                cassandra::ping(node)
            })
        }));
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    if lines.is_empty() {
        println!("no services in {}", dir.display());
    }
    for Line { server, address, pid, status, answered_in_ms } in lines {
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let time =
            answered_in_ms.map_or_else(String::new, |time| format!(" (answered in {time} ms)"));
        println!("{server:<9} {address:<48} pid {pid:<8} {status}{time}");
    }
    Ok(())
}

/// This program, under the name that lasts: a build replaces the file while it runs.
fn this_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot tell which program this is")?;
    Ok(path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"))
        .map_or_else(|| path.clone(), PathBuf::from))
}

/// The last lines of a log that matter.
fn tail(log: &Path, matters: impl Fn(&str) -> bool) -> String {
    const LINES: usize = 15;
    let Ok(file) = File::open(log) else { return String::from("(no log)") };
    let mut last = VecDeque::with_capacity(LINES);
    for line in BufReader::new(file).lines().map_while(Result::ok).filter(|line| matters(line)) {
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}
