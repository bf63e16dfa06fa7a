//! A private Apache Cassandra, the server whose protocol `ScyllaDB` speaks, assembled from its
//! published jars.
//!
//! One node per datacentre, each on its own loopback address and with one token, so that a second
//! one joins at once and takes nothing over. Joining is what a CQL test must not wait for:
//! keyspaces are made after both are up, or name their datacentres.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rekindle_testservers::{CqlServer, Process};
use rustix::process::Signal;

use super::cql_wire::Connection;
use super::host::{find_or_install, program, run, versions};
use super::{ports, processes};

const POM: &str = include_str!("../../services/cassandra/pom.xml");
const CONFIG: &str = include_str!("../../services/cassandra/cassandra.yaml");
const JVM: &str = include_str!("../../services/cassandra/jvm.args");
const LOGBACK: &str = include_str!("../../services/cassandra/logback.xml");

/// The datacentres there can be.
pub(super) const DATACENTERS: [(&str, Ipv4Addr); 2] =
    [("eu", Ipv4Addr::LOCALHOST), ("us", Ipv4Addr::new(127, 0, 0, 2))];
/// A machine that compiles on all cores meanwhile starts it in half a minute.
const START_TIME: Duration = Duration::from_mins(3);
const STOP_TIME: Duration = Duration::from_secs(30);

/// Programs and places of the cluster.
pub(super) struct Cassandra {
    java: PathBuf,
    dir: PathBuf,
    /// Compiles what is hot as well as it can, which costs seconds of a start.
    full_jit: bool,
}

impl Cassandra {
    /// Finds or installs Java and, for the first start, Maven, and fetches the jars.
    pub(super) fn prepare(dir: &Path, full_jit: bool) -> Result<Self> {
        let dir = dir.join("cassandra");
        let java = find_or_install(
            "Java 17 (for Apache Cassandra)",
            &["openjdk-17-jre-headless"],
            java_17,
        )?;
        let cassandra = Self { java, dir, full_jit };
        cassandra.fetch()?;
        Ok(cassandra)
    }

    fn lib(&self) -> PathBuf {
        self.dir.join("lib")
    }

    fn fetch(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot create {}", self.dir.display()))?;
        let pom = self.dir.join("pom.xml");
        if self.lib().is_dir() && std::fs::read_to_string(&pom).is_ok_and(|fetched| fetched == POM)
        {
            return Ok(());
        }
        let mvn = find_or_install("Maven (`mvn`, to fetch Apache Cassandra)", &["maven"], || {
            program("mvn", &[])
        })?;
        // The pom is the sign that the jars are whole.
        let new = self.dir.join("pom.xml.new");
        std::fs::write(&new, POM).with_context(|| format!("cannot write {}", new.display()))?;
        for stale in [self.lib(), self.dir.join("lib.new")] {
            if stale.exists() {
                std::fs::remove_dir_all(&stale)
                    .with_context(|| format!("cannot remove {}", stale.display()))?;
            }
        }
        let mut command = Command::new(mvn);
        command.args([
            "--batch-mode",
            "--quiet",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ]);
        command
            .arg(format!("-DoutputDirectory={}", self.dir.join("lib.new").display()))
            .arg("--file")
            .arg(&new)
            .current_dir(&self.dir);
        run(&mut command).context("cannot fetch Apache Cassandra from Maven Central")?;
        std::fs::rename(self.dir.join("lib.new"), self.lib())
            .context("cannot name the folder of the jars")?;
        std::fs::rename(&new, &pom).context("cannot name the pom")
    }

    /// Chooses where a node will listen: on the ports of the first datacentre's node, if there is
    /// one, or on those it had `before`.
    pub(super) fn place(
        &self,
        datacenter: &str,
        host: Ipv4Addr,
        before: Option<&CqlServer>,
        first: Option<&CqlServer>,
    ) -> Result<CqlServer> {
        let hosts = DATACENTERS.map(|(_, host)| host);
        let home = self.dir.join(datacenter);
        let (port, storage_port) = match (first, before) {
            (Some(first), _) => (first.address.port(), first.storage_port),
            (None, Some(before))
                if [before.address.port(), before.storage_port]
                    .iter()
                    .all(|port| ports::is_free(&hosts, *port)) =>
            {
                (before.address.port(), before.storage_port)
            }
            (None, before) => {
                if before.is_some() {
                    eprintln!(
                        "services: the ports of the CQL servers are taken: starting afresh on \
                         others"
                    );
                    wipe_data(&self.dir)?;
                }
                let port = ports::free(&hosts)?;
                let storage_port = loop {
                    let candidate = ports::free(&hosts)?;
                    if candidate != port {
                        break candidate;
                    }
                };
                (port, storage_port)
            }
        };
        let address = SocketAddr::from((host, port));
        Ok(CqlServer {
            name: format!("cql-{datacenter}"),
            datacenter: datacenter.to_owned(),
            address,
            storage_port,
            home,
            process: None,
        })
    }

    /// Starts a node and waits until it accepts connections.
    pub(super) fn start(&self, server: &CqlServer) -> Result<CqlServer> {
        let home = &server.home;
        Self::configure(server)?;
        let log_path = home.join("server.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot open {}", log_path.display()))?;
        let lib = self.lib();
        let agent = std::fs::read_dir(&lib)
            .with_context(|| format!("cannot list {}", lib.display()))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("jamm-"))
            })
            .with_context(|| {
                format!("no jamm jar in {}: remove that folder and start again", lib.display())
            })?;
        let conf = home.join("conf");
        let tmp = home.join("tmp").display().to_string();
        // In a session of its own: it outlives this program, and Ctrl-C does not reach it.
        let mut command = Command::new("setsid");
        command.arg(&self.java).arg(format!("@{}", conf.join("jvm.args").display()));
        if !self.full_jit {
            command.arg("-XX:TieredStopAtLevel=1");
        }
        command.arg(format!("-javaagent:{}", agent.display()));
        command.arg("-classpath").arg(format!("{}:{}/*", conf.display(), lib.display()));
        command
            .arg(argument(home))
            .arg(format!("-Dcassandra.config=file://{}", conf.join("cassandra.yaml").display()));
        command.arg(format!("-Dcassandra.logdir={}", home.join("log").display()));
        command.arg(format!("-Dlogback.configurationFile={}", conf.join("logback.xml").display()));
        command.args([
            format!("-Djava.io.tmpdir={tmp}"),
            format!("-Djna.tmpdir={tmp}"),
            format!("-XX:ErrorFile={tmp}/jvm-crash.log"),
        ]);
        command.arg("org.apache.cassandra.service.CassandraDaemon").current_dir(home);
        // The options of the machine's user are for other programs.
        command.env_remove("JDK_JAVA_OPTIONS").env_remove("JAVA_TOOL_OPTIONS");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log);
        let mut child = command.spawn().context("cannot start setsid (package util-linux)")?;
        let died = || {
            let wrong = |line: &str| {
                line.starts_with("ERROR") || line.contains("Exception") || line.contains("rror:")
            };
            format!(
                "the CQL server {} ended; from {}:\n{}",
                server.name,
                log_path.display(),
                super::tail(&log_path, wrong)
            )
        };
        let process = Process::of(child.id())?.with_context(died)?;
        let deadline = Instant::now() + START_TIME;
        loop {
            if Connection::open(server.address).is_ok() {
                break;
            }
            if child.try_wait().context("cannot look after the CQL server")?.is_some() {
                bail!("{}", died());
            }
            if Instant::now() > deadline {
                processes::signal(&process, Signal::KILL)?;
                bail!(
                    "the CQL server {} did not answer within {START_TIME:?}; see {}",
                    server.name,
                    log_path.display()
                );
            }
            std::thread::sleep(processes::POLL);
        }
        if Process::of(child.id())?.as_ref() != Some(&process) {
            bail!(
                "something else than the CQL server that was started answers on {}; {}",
                server.address,
                died()
            );
        }
        let server = CqlServer { process: Some(process), ..server.clone() };
        check(&server)?;
        Ok(server)
    }

    fn configure(server: &CqlServer) -> Result<()> {
        let conf = server.home.join("conf");
        let tmp = server.home.join("tmp");
        if tmp.exists() {
            // What a killed server has unpacked.
            std::fs::remove_dir_all(&tmp)
                .with_context(|| format!("cannot remove {}", tmp.display()))?;
        }
        for folder in [&conf, &tmp, &server.home.join("log")] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let index = DATACENTERS
            .iter()
            .position(|(name, _)| *name == server.datacenter)
            .context("a datacentre that is not known")?;
        let config = CONFIG
            .replace("@HOME@", &server.home.display().to_string())
            .replace("@ADDRESS@", &server.address.ip().to_string())
            .replace("@SEED@", &DATACENTERS[0].1.to_string())
            .replace("@NATIVE_PORT@", &server.address.port().to_string())
            .replace("@STORAGE_PORT@", &server.storage_port.to_string())
            .replace("@TOKEN@", &((index + 1) * 1_000).to_string());
        let rack = format!("dc={}\nrack=r1\n", server.datacenter);
        let files = [
            ("cassandra.yaml", config.as_str()),
            ("jvm.args", JVM),
            ("logback.xml", LOGBACK),
            ("cassandra-rackdc.properties", &rack),
        ];
        for (name, text) in files {
            std::fs::write(conf.join(name), text)
                .with_context(|| format!("cannot write {name} to {}", conf.display()))?;
        }
        Ok(())
    }
}

/// Refuses a node that would lose what it acknowledged.
fn check(server: &CqlServer) -> Result<()> {
    let setting = Connection::open(server.address)?
        .column("SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'")?;
    if !matches!(setting.as_slice(), [sync] if sync == "batch" || sync == "group") {
        bail!(
            "commitlog_sync is {setting:?} on {}: tests of durability would prove nothing",
            server.address
        );
    }
    Ok(())
}

/// Waits until every node knows the datacentres of all others: before, a keyspace that names them
/// is refused.
pub(super) fn wait_joined(servers: &[CqlServer]) -> Result<()> {
    let deadline = Instant::now() + START_TIME;
    for server in servers {
        let others = || -> Result<Vec<String>> {
            Connection::open(server.address)?.column("SELECT data_center FROM system.peers_v2")
        };
        while servers.iter().any(|other| {
            other.name != server.name
                && !others().is_ok_and(|known| known.contains(&other.datacenter))
        }) {
            if Instant::now() > deadline {
                bail!(
                    "{} does not see the other datacentres after {START_TIME:?}; see its \
                     server.log in {}",
                    server.name,
                    server.home.display()
                );
            }
            std::thread::sleep(processes::POLL);
        }
    }
    Ok(())
}

/// What tells a node's process from all others.
fn argument(home: &Path) -> String {
    format!("-Dcassandra.storagedir={}", home.display())
}

/// Everything that runs for one node of `dir`.
pub(super) fn processes(dir: &Path, datacenter: &str) -> Result<Vec<Process>> {
    processes::with_argument(&argument(&dir.join("cassandra").join(datacenter)))
}

/// SIGKILL to a node.
pub(super) fn kill(dir: &Path, datacenter: &str) -> Result<()> {
    processes::kill_all(|| processes(dir, datacenter))
}

/// An orderly end of a node.
pub(super) fn stop(dir: &Path, datacenter: &str) -> Result<()> {
    let all = processes(dir, datacenter)?;
    for process in &all {
        processes::signal(process, Signal::TERM)?;
    }
    if !processes::wait_gone(&all, STOP_TIME) {
        eprintln!("services: cql-{datacenter} did not stop within {STOP_TIME:?} and is killed");
    }
    kill(dir, datacenter)
}

/// Removes all data; the jars stay.
pub(super) fn wipe(dir: &Path) -> Result<()> {
    wipe_data(&dir.join("cassandra"))
}

fn wipe_data(dir: &Path) -> Result<()> {
    for (datacenter, _) in DATACENTERS {
        let home = dir.join(datacenter);
        if home.exists() {
            std::fs::remove_dir_all(&home)
                .with_context(|| format!("cannot remove {}", home.display()))?;
        }
    }
    Ok(())
}

/// Does it accept connections? Says in how long.
pub(super) fn ping(server: &CqlServer) -> Result<Duration> {
    let before = Instant::now();
    Connection::open(server.address)?.column("SELECT release_version FROM system.local")?;
    Ok(before.elapsed())
}

/// A Java of the one version that Cassandra 5.0 wants.
fn java_17() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin"));
    let folders: Vec<_> = home.into_iter().chain(versions("/usr/lib/jvm", "17", "bin")).collect();
    let in_path = program("java", &[]);
    let candidates = folders.iter().map(|folder| folder.join("java")).chain(in_path);
    candidates.into_iter().find(|java| {
        let output = Command::new(java).arg("-version").stdin(Stdio::null()).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("version \"17."))
    })
}
