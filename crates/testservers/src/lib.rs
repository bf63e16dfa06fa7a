//! Where a test finds its database servers.
//!
//! [`postgres`] and [`cql`] answer with the servers that `cargo xtask services up` has started, or
//! with none: a test that gets none calls [`skipped`] and returns. In order of precedence:
//!
//! 1. `REKINDLE_TEST_POSTGRES` (a `postgres://` URL) and `REKINDLE_TEST_CQL`
//!    (`host:port[,host:port]`) name servers of your own. A test cannot kill those:
//!    [`Postgres::control`] and [`Cql::control`] are none.
//! 2. `REKINDLE_TEST_SERVICES` names a [`services.json`](State); `none` says that there are none.
//! 3. `target/services/services.json` of this workspace, when what it names still runs.
//!
//! [`Proxy`] stands in front of one and makes it slow, silent or absent, without touching it for
//! other tests.
//!
//! `cargo xtask test` sets all three variables; servers that are named by address *and* are in the
//! file can be killed. The program behind [`Control`] is the one that started them. Format of the
//! file: [`State`].

mod process;
mod proxy;
mod state;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use process::Process;
pub use proxy::Proxy;
pub use state::{CqlServer, FORMAT, PostgresServer, State};

/// Names a Postgres server by its URL.
pub const POSTGRES: &str = "REKINDLE_TEST_POSTGRES";
/// Names CQL nodes, `host:port[,host:port]`, of the first datacentre first.
pub const CQL: &str = "REKINDLE_TEST_CQL";
/// Names the state file, or is [`NONE`].
pub const SERVICES: &str = "REKINDLE_TEST_SERVICES";
/// Instead of a state file: there are no services, wherever they may run.
pub const NONE: &str = "none";
/// Names a file that collects what was left out.
pub const SKIPPED: &str = "REKINDLE_TEST_SKIPPED";

/// A Postgres server for tests, shared by all of them: a test makes a schema or a database of its
/// own in it.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `postgres://USER@HOST:PORT/DATABASE`.
    pub url: String,
    /// Kills and starts it, when it is ours.
    pub control: Option<Control>,
}

/// A CQL cluster for tests, shared by all of them: a test makes a keyspace of its own in it.
#[derive(Clone, Debug)]
pub struct Cql {
    /// Its nodes, at least one.
    pub nodes: Vec<CqlNode>,
    /// Kills and starts all its nodes, when they are ours.
    pub control: Option<Control>,
}

/// One node of a CQL cluster.
#[derive(Clone, Debug)]
pub struct CqlNode {
    /// `host:port`.
    pub address: String,
    /// Its datacentre, when the node is ours: `eu` for the first, `us` for the second.
    pub datacenter: Option<String>,
    /// Kills and starts this node, when it is ours.
    pub control: Option<Control>,
}

/// Kills and starts one server. Every call waits until it is true: after `kill` the processes are
/// gone, after `start` the server answers.
#[derive(Clone, Debug)]
pub struct Control {
    xtask: PathBuf,
    dir: PathBuf,
    server: String,
}

impl Control {
    /// SIGKILL to the server and all its processes.
    ///
    /// # Panics
    /// When that fails; so do the others.
    pub fn kill(&self) {
        self.run("kill", &[]);
    }

    /// Starts it again, on the same address with the same data. Nothing happens when it runs.
    pub fn start(&self) {
        self.run("start", &[]);
    }

    /// Ends it without a shutdown (`pg_ctl restart -m immediate`; SIGKILL for CQL) and starts it
    /// again.
    pub fn restart_immediately(&self) {
        self.run("restart", &["--immediate"]);
    }

    fn run(&self, verb: &str, rest: &[&str]) {
        let mut command = Command::new(&self.xtask);
        command
            .args(["services", "--dir"])
            .arg(&self.dir)
            .args([verb, &self.server])
            .args(rest)
            .stdin(Stdio::null());
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.xtask.display()));
        assert!(
            output.status.success(),
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The Postgres server for tests.
///
/// # Panics
/// When a variable names something that is not there: that is a mistake, not a reason to skip.
pub fn postgres() -> Option<Postgres> {
    let settings = Settings::from_env();
    settings.postgres().unwrap_or_else(|error| panic!("{error}"))
}

/// The CQL cluster for tests.
///
/// # Panics
/// As [`postgres`].
pub fn cql() -> Option<Cql> {
    let settings = Settings::from_env();
    settings.cql().unwrap_or_else(|error| panic!("{error}"))
}

/// Says that something was left out and why: on the terminal, past the capture of the test harness,
/// and in the list that `cargo xtask test` prints at its end.
pub fn skipped(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}\n");
    let reported = std::io::stderr().write_all(line.as_bytes());
    let listed = std::env::var_os(SKIPPED).map_or(Ok(()), |path| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
    });
    reported
        .and(listed)
        .unwrap_or_else(|error| panic!("cannot report what is skipped ({line:?}): {error}"));
}

/// What the environment says.
#[derive(Default)]
struct Settings {
    postgres: Option<String>,
    cql: Option<String>,
    /// The state file that a variable names.
    services: Option<PathBuf>,
    /// Where it is when none does.
    default: PathBuf,
}

impl Settings {
    fn from_env() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            postgres: text(POSTGRES),
            cql: text(CQL),
            services: std::env::var_os(SERVICES).filter(|path| !path.is_empty()).map(PathBuf::from),
            default: default_dir(std::env::var_os("CARGO_TARGET_DIR")).join(State::FILE),
        }
    }

    /// What was started, and whether it counts when it does not run: it does for a file that was
    /// named, since a test may be about to start it.
    fn state(&self) -> Result<(Option<State>, bool), String> {
        if self.services.as_ref().is_some_and(|path| path == Path::new(NONE)) {
            return Ok((None, true));
        }
        let path = self.services.as_ref().unwrap_or(&self.default);
        let state = State::load(path).map_err(|error| error.to_string())?;
        match &self.services {
            Some(path) if state.is_none() => Err(format!(
                "{SERVICES} names {}, which is not there: run `cargo xtask services up`, or unset \
                 it",
                path.display()
            )),
            named => Ok((state, named.is_some())),
        }
    }

    fn postgres(&self) -> Result<Option<Postgres>, String> {
        let (state, named) = self.state()?;
        let ours = state.as_ref().and_then(|state| {
            let server =
                state.postgres.as_ref().filter(|server| named || runs(server.process.as_ref()))?;
            Some(Postgres { url: server.url.clone(), control: Some(control(state, "postgres")) })
        });
        Ok(match &self.postgres {
            Some(url) if ours.as_ref().is_some_and(|ours| ours.url == *url) => ours,
            Some(url) => Some(Postgres { url: url.clone(), control: None }),
            None => ours,
        })
    }

    fn cql(&self) -> Result<Option<Cql>, String> {
        let (state, named) = self.state()?;
        let ours = state.as_ref().and_then(|state| {
            let servers = state.cql.iter().filter(|server| named || runs(server.process.as_ref()));
            let nodes: Vec<_> = servers
                .map(|server| CqlNode {
                    address: server.address.to_string(),
                    datacenter: Some(server.datacenter.clone()),
                    control: Some(control(state, &server.name)),
                })
                .collect();
            (!nodes.is_empty()).then(|| Cql { nodes, control: Some(control(state, "cql")) })
        });
        let Some(text) = &self.cql else { return Ok(ours) };
        let addresses: Vec<&str> = text.split(',').map(str::trim).collect();
        if let Some(wrong) = addresses.iter().find(|address| {
            address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err())
        }) {
            return Err(format!("{CQL}: {wrong:?} is not host:port"));
        }
        let is_ours = |ours: &Cql| {
            ours.nodes.iter().map(|node| node.address.as_str()).eq(addresses.iter().copied())
        };
        Ok(ours.filter(is_ours).or_else(|| {
            let node = |address: &&str| CqlNode {
                address: (*address).to_owned(),
                datacenter: None,
                control: None,
            };
            Some(Cql { nodes: addresses.iter().map(node).collect(), control: None })
        }))
    }
}

/// Where the services of this workspace are; `target` is `CARGO_TARGET_DIR`.
pub fn default_dir(target: Option<OsString>) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap_or(root);
    // A relative CARGO_TARGET_DIR is relative to where cargo was called, which is the workspace in
    // all but odd cases; tests run elsewhere.
    root.join(target.filter(|path| !path.is_empty()).unwrap_or_else(|| "target".into()))
        .join("services")
}

fn runs(process: Option<&Process>) -> bool {
    process.is_some_and(Process::is_alive)
}

fn control(state: &State, server: &str) -> Control {
    Control { xtask: state.xtask.clone(), dir: state.dir.clone(), server: server.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "postgres://rekindle@127.0.0.1:20000/rekindle";

    /// A state with one Postgres and two CQL nodes, all run by this very process.
    fn saved(dir: &Path, process: Option<Process>) -> PathBuf {
        let node = |name: &str, address: &str| CqlServer {
            name: format!("cql-{name}"),
            datacenter: name.into(),
            address: address.parse().unwrap(),
            storage_port: 20002,
            home: dir.join(name),
            process: process.clone(),
        };
        let state = State {
            format: FORMAT,
            dir: dir.to_owned(),
            xtask: "/bin/false".into(),
            postgres: Some(PostgresServer {
                url: URL.into(),
                address: "127.0.0.1:20000".parse().unwrap(),
                home: dir.join("postgres"),
                process: process.clone(),
            }),
            cql: vec![node("eu", "127.0.0.1:20001"), node("us", "127.0.0.2:20001")],
        };
        state.save().unwrap();
        dir.join(State::FILE)
    }

    fn me() -> Option<Process> {
        Process::of(std::process::id()).unwrap()
    }

    #[test]
    fn nothing_runs_nothing_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { default: dir.path().join(State::FILE), ..Settings::default() };
        assert!(settings.postgres().unwrap().is_none() && settings.cql().unwrap().is_none());
        saved(dir.path(), None);
        assert!(
            settings.postgres().unwrap().is_none() && settings.cql().unwrap().is_none(),
            "killed or stopped servers do not count"
        );
        saved(dir.path(), me());
        assert_eq!(settings.postgres().unwrap().unwrap().url, URL);
        let none = Settings {
            services: Some(NONE.into()),
            default: settings.default.clone(),
            ..Settings::default()
        };
        assert!(none.postgres().unwrap().is_none() && none.cql().unwrap().is_none(), "not wanted");
        assert_eq!(settings.cql().unwrap().unwrap().nodes.len(), 2);
    }

    #[test]
    fn a_named_file_counts_while_its_servers_are_down_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let services = Some(dir.path().join(State::FILE));
        let settings = Settings { services, ..Settings::default() };
        assert!(settings.postgres().unwrap_err().contains("services up"));
        saved(dir.path(), None);
        let cql = settings.cql().unwrap().unwrap();
        let seen: Vec<_> = cql
            .nodes
            .iter()
            .map(|node| (node.address.as_str(), node.datacenter.as_deref(), node.control.is_some()))
            .collect();
        assert_eq!(
            seen,
            [("127.0.0.1:20001", Some("eu"), true), ("127.0.0.2:20001", Some("us"), true)]
        );
        assert!(settings.postgres().unwrap().unwrap().control.is_some());
    }

    #[test]
    fn an_address_wins_and_is_only_killed_when_it_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let services = Some(saved(dir.path(), me()));
        let with = |postgres: &str, cql: &str| Settings {
            postgres: Some(postgres.into()),
            cql: Some(cql.into()),
            services: services.clone(),
            ..Settings::default()
        };
        let foreign = with("postgres://me@db/x", "db1:9042, db2:9042");
        let postgres = foreign.postgres().unwrap().unwrap();
        assert!(postgres.url == "postgres://me@db/x" && postgres.control.is_none());
        let cql = foreign.cql().unwrap().unwrap();
        assert!(
            cql.control.is_none()
                && cql.nodes.iter().all(|node| node.control.is_none() && node.datacenter.is_none())
        );
        assert_eq!(
            cql.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>(),
            ["db1:9042", "db2:9042"]
        );
        let ours = with(URL, "127.0.0.1:20001,127.0.0.2:20001");
        assert!(ours.postgres().unwrap().unwrap().control.is_some());
        assert!(ours.cql().unwrap().unwrap().nodes.iter().all(|node| node.control.is_some()));
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        for text in ["db", "db:", "db:http", "db:1,,db:2"] {
            let dir = tempfile::tempdir().unwrap();
            let settings = Settings {
                cql: Some(text.into()),
                default: dir.path().join(State::FILE),
                ..Settings::default()
            };
            assert!(settings.cql().unwrap_err().contains("is not host:port"), "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "kill")]
    fn a_kill_that_failed_does_not_pass_for_one() {
        Control { xtask: "/bin/false".into(), dir: "/nowhere".into(), server: "postgres".into() }
            .kill();
    }
}
