//! A private Postgres server from the system's packages.
//!
//! It listens on loopback alone and believes everybody there. Durability is as in production: a
//! test that kills it must find what was committed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rekindle_testservers::{PostgresServer, Process};
use rustix::process::Signal;

use super::host::{RunAs, find_or_install, program, run, versions};
use super::{ports, processes};

const USER: &str = "rekindle";
const DATABASE: &str = "rekindle";
/// A Unix socket's path must not be longer than 107 bytes, `.s.PGSQL.12345` included.
const MAX_SOCKET_FOLDER: usize = 107 - "/.s.PGSQL.12345".len();
const STOP_TIME: Duration = Duration::from_secs(30);

const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
max_connections = 200
cluster_name = 'rekindle-test'

# What a commit promises: tests kill this server and look.
fsync = on
synchronous_commit = on
full_page_writes = on
";

/// Programs and places of the server.
pub(super) struct Postgres {
    bin: PathBuf,
    run_as: RunAs,
    home: PathBuf,
}

impl Postgres {
    /// Finds or installs Postgres, and a place that it can work in: below `dir`, or below the
    /// folder for temporary files when the user that it must run as cannot get at `dir`.
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        let bin = find_or_install(
            "PostgreSQL 14 or newer (initdb, pg_ctl, postgres, psql)",
            &["postgresql"],
            programs,
        )?;
        let run_as = RunAs::unprivileged()?;
        let mut tried = Vec::new();
        for home in homes(dir) {
            if home.join("socket").as_os_str().len() <= MAX_SOCKET_FOLDER && run_as.owns(&home)? {
                return Ok(Self { bin, run_as, home });
            }
            tried.push(home.display().to_string());
        }
        bail!(
            "Postgres cannot work in {}: it may not enter a folder above, or the path is too long \
             for a socket",
            tried.join(" nor in ")
        );
    }

    /// Starts the server on `port` if that is free, else, unless `keep_port`, on another one.
    pub(super) fn start(&self, port: Option<u16>, keep_port: bool) -> Result<PostgresServer> {
        self.initialise()?;
        let data = self.data();
        // No process of this server is left. The pids in these are of nobody, of somebody else, or
        // of a postmaster that was killed and that its parent has not noticed yet: Postgres would
        // take that one for a living server.
        remove_if_there(&data.join("postmaster.pid"))?;
        remove_if_there(&self.socket())?;
        if !self.run_as.owns(&self.socket())? {
            bail!("Postgres may not write to {}", self.socket().display());
        }
        let port = match port {
            Some(port) if keep_port || ports::is_free(&[Ipv4Addr::LOCALHOST], port) => port,
            _ => ports::free(&[Ipv4Addr::LOCALHOST])?,
        };
        let log = self.home.join("server.log");
        let mut command = self.command("pg_ctl");
        command
            .args(["start", "--wait", "--silent", "--timeout=120", "--options"])
            .arg(format!("-p {port}"));
        let started = run(command.arg("--log").arg(&log).arg("--pgdata").arg(&data));
        started.with_context(|| {
            format!(
                "Postgres does not start; the end of {}:\n{}",
                log.display(),
                super::tail(&log, |_| true)
            )
        })?;
        let server = PostgresServer {
            url: format!("postgres://{USER}@127.0.0.1:{port}/{DATABASE}"),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            home: self.home.clone(),
            process: Some(self.postmaster()?),
        };
        self.check(port)?;
        Ok(server)
    }

    /// `pg_ctl restart`: immediately is without a checkpoint, as after a crash.
    pub(super) fn restart(
        &self,
        server: &PostgresServer,
        immediately: bool,
    ) -> Result<PostgresServer> {
        let mut command = self.command("pg_ctl");
        command.args([
            "restart",
            "--wait",
            "--silent",
            "--timeout=120",
            "--mode",
            if immediately { "immediate" } else { "fast" },
        ]);
        run(command
            .arg("--log")
            .arg(self.home.join("server.log"))
            .arg("--pgdata")
            .arg(self.data()))?;
        self.check(server.address.port())?;
        Ok(PostgresServer { process: Some(self.postmaster()?), ..server.clone() })
    }

    fn initialise(&self) -> Result<()> {
        let data = self.data();
        let version = run(self.command("postgres").arg("--version"))?;
        if let Ok(major) = std::fs::read_to_string(data.join("PG_VERSION")) {
            if version.split_whitespace().any(|word| word.split('.').next() == Some(major.trim())) {
                return Ok(());
            }
            eprintln!(
                "services: {} is of Postgres {}, this is {version}: starting afresh",
                data.display(),
                major.trim()
            );
            std::fs::remove_dir_all(&data)
                .with_context(|| format!("cannot remove {}", data.display()))?;
        }
        // Renamed when it is whole: an initdb that was interrupted leaves nothing that looks like
        // data.
        let new = self.home.join("data.new");
        remove_if_there(&new)?;
        let mut initdb = self.command("initdb");
        initdb
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--username",
                USER,
                "--pgdata",
            ])
            .arg(&new);
        run(&mut initdb).context("cannot make a Postgres data directory")?;
        let settings = format!(
            "{SETTINGS}unix_socket_directories = '{}'\n",
            self.socket().display().to_string().replace('\'', "''")
        );
        let path = new.join("postgresql.conf");
        let packaged = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        std::fs::write(&path, packaged + "\n" + &settings)
            .with_context(|| format!("cannot write {}", path.display()))?;
        std::fs::rename(&new, &data).with_context(|| format!("cannot rename {}", new.display()))
    }

    /// Makes the database if there is none, and refuses a server that would lose what it committed.
    fn check(&self, port: u16) -> Result<()> {
        if psql(
            &self.bin,
            port,
            "postgres",
            &format!("SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'"),
        )? == "0"
        {
            psql(&self.bin, port, "postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        }
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value = psql(&self.bin, port, DATABASE, &format!("SHOW {setting}"))?;
            if value != "on" {
                bail!(
                    "{setting} is {value} in {}: tests of durability would prove nothing",
                    self.data().display()
                );
            }
        }
        Ok(())
    }

    fn postmaster(&self) -> Result<Process> {
        let path = self.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok())
            .with_context(|| format!("no pid in {}", path.display()))?;
        Process::of(pid)?.with_context(|| {
            format!(
                "Postgres ended right after its start; see {}",
                self.home.join("server.log").display()
            )
        })
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn socket(&self) -> PathBuf {
        self.home.join("socket")
    }

    fn command(&self, name: &str) -> Command {
        self.run_as.command(&self.bin.join(name), &self.home)
    }
}

/// The folder of the programs: links to them from elsewhere do not find their parts.
fn programs() -> Option<PathBuf> {
    let initdb =
        program("initdb", &versions("/usr/lib/postgresql", "", "bin"))?.canonicalize().ok()?;
    let bin = initdb.parent()?;
    ["pg_ctl", "postgres", "psql"]
        .iter()
        .all(|name| bin.join(name).is_file())
        .then(|| bin.to_owned())
}

/// Where the server of `dir` may have been put.
fn homes(dir: &Path) -> [PathBuf; 2] {
    let name =
        format!("rekindle-services-{:08x}", crc32c::crc32c(dir.as_os_str().as_encoded_bytes()));
    [dir.join("postgres"), std::env::temp_dir().join(name)]
}

/// Everything that runs for the server of `dir`.
pub(super) fn processes(dir: &Path) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for home in homes(dir) {
        found.extend(processes::of_postgres(&home.join("data"))?);
    }
    Ok(found)
}

/// SIGKILL to the postmaster and its children. The postmaster is stopped first, so that it forks no
/// more.
pub(super) fn kill(dir: &Path) -> Result<()> {
    for process in processes(dir)? {
        processes::signal(&process, Signal::STOP)?;
    }
    processes::kill_all(|| processes(dir))
}

/// An orderly end: sessions are cut, a checkpoint is written.
pub(super) fn stop(dir: &Path, server: Option<&PostgresServer>) -> Result<()> {
    if let Some(postmaster) = server.and_then(|server| server.process.as_ref()) {
        let all = processes(dir)?;
        if all.contains(postmaster) {
            processes::signal(postmaster, Signal::INT)?;
            if !processes::wait_gone(&all, STOP_TIME) {
                eprintln!("services: Postgres did not stop within {STOP_TIME:?} and is killed");
            }
        }
    }
    kill(dir)
}

/// Removes all data.
pub(super) fn wipe(dir: &Path) -> Result<()> {
    homes(dir).iter().try_for_each(|home| remove_if_there(home))
}

fn remove_if_there(path: &Path) -> Result<()> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Does it accept connections? Says in how long.
pub(super) fn ping(server: &PostgresServer) -> Result<Duration> {
    let bin = programs().context("psql, which asks, is missing")?;
    let before = Instant::now();
    psql(&bin, server.address.port(), DATABASE, "SELECT 1")?;
    Ok(before.elapsed())
}

/// What a statement gives, as bare text.
fn psql(bin: &Path, port: u16, database: &str, statement: &str) -> Result<String> {
    let mut psql = Command::new(bin.join("psql"));
    psql.args([
        "--no-psqlrc",
        "--no-align",
        "--tuples-only",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--no-password",
    ]);
    psql.args([
        "--host=127.0.0.1",
        &format!("--port={port}"),
        "--username",
        USER,
        "--dbname",
        database,
        "--command",
        statement,
    ]);
    run(psql.env("PGCONNECT_TIMEOUT", "10"))
}
