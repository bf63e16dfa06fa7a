//! `cargo xtask test`: every test there is, the database servers they need included.
//!
//! The servers start while the tests compile. They are stopped by a process of its own that waits
//! for the end of a pipe we hold: whatever becomes of us, Ctrl-C and SIGKILL included, the pipe
//! ends.
//!
//! The whole suite runs several test programs at a time ([`programs`]); what is asked for with
//! options of `cargo test` runs as cargo runs it.

mod programs;
mod unstable;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use self::programs::Job;
use anyhow::{Context, Result, bail};
use clap::Args;
use rekindle_testservers::{CQL, NONE, POSTGRES, Process, SERVICES, SKIPPED, State};

use crate::{browser, layers, run};

/// `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Suite {
    /// Leave out the tests that need a Postgres or a CQL server
    #[arg(long)]
    without_services: bool,
    /// Lint and build the documentation too, at the lowest priority, while the tests wait
    #[arg(long, conflicts_with = "rest")]
    lints: bool,
    /// Passed on to `cargo test`: `--package rekindle-store-local`, `-- name_of_a_test`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The layer rules, then every test of every crate, doc tests included.
pub(crate) fn test(wanted: &Suite) -> Result<()> {
    layers::check()?;
    let dir = rekindle_testservers::default_dir(std::env::var_os("CARGO_TARGET_DIR"));
    let skipped = dir.with_file_name("skipped.txt");
    if let Some(target) = skipped.parent() {
        std::fs::create_dir_all(target)
            .with_context(|| format!("cannot create {}", target.display()))?;
    }
    std::fs::write(&skipped, "").with_context(|| format!("cannot write {}", skipped.display()))?;
    let told = (SKIPPED, skipped.display().to_string());
    let outcome = if wanted.without_services {
        // An empty address is none.
        let none = [(SERVICES, NONE), (POSTGRES, ""), (CQL, "")];
        let none = none.map(|(name, value)| (name, value.to_owned()));
        run_tests(wanted, || Ok(none.into_iter().chain([told]).collect()))
    } else {
        with_servers(&dir, wanted, told)
    };
    say_skipped(wanted.without_services, &skipped)?;
    let browsers = if wanted.rest.is_empty() { browser::in_suite() } else { Ok(()) };
    outcome.and(browsers)
}

fn cargo_test(rest: &[String]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--no-fail-fast"]);
    // cargo would run everything for `--workspace --package x`.
    let options = rest.split(|argument| argument == "--").next().unwrap_or_default();
    if !options.iter().any(|option| option.starts_with("-p") || option.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(rest);
    command
}

/// What must hold of the sources besides their tests. Both only read what cargo has built for the
/// tests, so they are begun when that is done.
fn lints() -> Vec<Job> {
    let idle = |name: &str, arguments: &[&str]| {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "cargo"]).args(arguments);
        Job::new(name, command)
    };
    let clippy = "clippy --workspace --all-targets --locked --quiet -- -D warnings";
    let clippy = idle("the lints", &clippy.split(' ').collect::<Vec<_>>());
    let doc = "doc --workspace --no-deps --locked --quiet";
    let mut doc = idle("the documentation", &doc.split(' ').collect::<Vec<_>>());
    doc.command.env("RUSTDOCFLAGS", "-D warnings");
    vec![clippy, doc]
}

fn with_servers(dir: &Path, wanted: &Suite, told: Variable) -> Result<()> {
    let missing = missing(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let mut servers = Servers::start(dir, missing)?;
    let outcome = run_tests(wanted, || {
        servers.wait()?;
        Ok(addresses(dir, missing)?.into_iter().chain([told]).collect())
    });
    let stopped = servers.stop();
    outcome.and(stopped)
}

/// A variable of the surroundings of tests, and its value.
type Variable = (&'static str, String);

/// Builds the tests, asks for the variables that they run with, and runs them.
fn run_tests(wanted: &Suite, variables: impl FnOnce() -> Result<Vec<Variable>>) -> Result<()> {
    let rest = &wanted.rest;
    if !rest.is_empty() {
        let options = rest.split(|argument| argument == "--").next().unwrap_or_default();
        run(cargo_test(options).arg("--no-run"))?;
        return run(cargo_test(rest).envs(variables()?));
    }
    let programs = programs::build(&mut cargo_test(&[]))?;
    let variables = variables()?;
    let logs = rekindle_testservers::default_dir(std::env::var_os("CARGO_TARGET_DIR"))
        .with_file_name("test-output");
    let doc_tests = Job::new("the doc tests", cargo_test(&["--doc".to_owned()]));
    let beside = if wanted.lints { lints() } else { Vec::new() };
    programs::run_all(programs, (doc_tests, beside), &variables, &logs)
}

/// What has to be started: none, one of the two (its name for `services up --only`), or both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Missing {
    Nothing,
    One(&'static str),
    Both,
}

/// Servers that a variable names are used as they are.
fn missing(is_set: impl Fn(&str) -> bool) -> Missing {
    match (is_set(SERVICES), is_set(POSTGRES), is_set(CQL)) {
        (true, _, _) | (_, true, true) => Missing::Nothing,
        (_, true, false) => Missing::One("cql"),
        (_, false, true) => Missing::One("postgres"),
        (_, false, false) => Missing::Both,
    }
}

/// The variables that tell tests where the servers are which we have started.
fn addresses(dir: &Path, missing: Missing) -> Result<Vec<Variable>> {
    if missing == Missing::Nothing {
        return Ok(Vec::new());
    }
    let path = dir.join(State::FILE);
    let state = State::load(&path)?.with_context(|| format!("{} is gone", path.display()))?;
    let mut found = vec![(SERVICES, path.display().to_string())];
    if let (Some(server), Missing::Both | Missing::One("postgres")) = (&state.postgres, missing) {
        found.push((POSTGRES, server.url.clone()));
    }
    if let Missing::Both | Missing::One("cql") = missing {
        let nodes: Vec<_> = state
            .cql
            .iter()
            .filter(|node| node.process.is_some())
            .map(|node| node.address.to_string())
            .collect();
        found.push((CQL, nodes.join(",")));
    }
    Ok(found)
}

/// The servers of a run.
struct Servers {
    /// `services up`, while it works.
    starting: Option<Child>,
    /// `services down`, which waits for the end of its stdin; none when the servers ran before us.
    stopping: Option<Child>,
}

impl Servers {
    fn start(dir: &Path, missing: Missing) -> Result<Self> {
        if missing == Missing::Nothing {
            return Ok(Self { starting: None, stopping: None });
        }
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let stopping = if runs(dir)? {
            eprintln!(
                "services: those in {} run already; they are used, and left running",
                dir.display()
            );
            None
        } else {
            // What an earlier run left in the databases is nobody's concern.
            run(Command::new(&program).args(["services", "down", "--wipe"]))?;
            let mut command = Command::new("setsid");
            command
                .arg(&program)
                .args(["services", "down", "--when-stdin-ends"])
                .stdin(Stdio::piped());
            Some(command.spawn().context("cannot start setsid (package util-linux)")?)
        };
        let mut up = Command::new(&program);
        up.args(["services", "up", "--datacenters", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Missing::One(name) = missing {
            up.args(["--only", name]);
        }
        Ok(Self { starting: Some(up.spawn().context("cannot start the services")?), stopping })
    }

    /// Waits until they answer.
    fn wait(&mut self) -> Result<()> {
        let Some(mut starting) = self.starting.take() else { return Ok(()) };
        if !starting.wait().context("cannot wait for the services")?.success() {
            bail!(
                "the servers for tests do not start, see above; `cargo xtask test \
                 --without-services` runs what does without them"
            );
        }
        Ok(())
    }

    /// Stops them, and says whether that worked.
    fn stop(mut self) -> Result<()> {
        if let Some(mut starting) = self.starting.take() {
            // Its servers are found without it.
            starting.kill().context("cannot stop the start of the services")?;
            starting.wait().context("cannot wait for the services")?;
        }
        let Some(mut stopping) = self.stopping.take() else { return Ok(()) };
        drop(stopping.stdin.take());
        let status = stopping.wait().context("cannot wait for the end of the services")?;
        if !status.success() {
            bail!("the services are not stopped, see above: `cargo xtask services down`");
        }
        Ok(())
    }
}

fn runs(dir: &Path) -> Result<bool> {
    let Some(state) = State::load(&dir.join(State::FILE))? else { return Ok(false) };
    let processes = state
        .postgres
        .iter()
        .map(|server| &server.process)
        .chain(state.cql.iter().map(|node| &node.process));
    Ok(processes.flatten().any(Process::is_alive))
}

/// Nothing is left out in silence.
fn say_skipped(without_services: bool, list: &PathBuf) -> Result<()> {
    if without_services {
        eprintln!(
            "SKIPPED: every test that needs a Postgres or a CQL server (--without-services):"
        );
    }
    let text =
        std::fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    eprint!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_narrow_the_run() {
        let arguments = |rest: &[&str]| {
            let rest: Vec<String> = rest.iter().map(|argument| (*argument).to_owned()).collect();
            cargo_test(&rest)
                .get_args()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(arguments(&[]), "test --locked --no-fail-fast --workspace");
        assert_eq!(
            arguments(&["--package=xtask", "--", "ports"]),
            "test --locked --no-fail-fast --package=xtask -- ports"
        );
        assert_eq!(arguments(&["--", "-p"]), "test --locked --no-fail-fast --workspace -- -p");
    }

    #[test]
    fn what_is_named_is_not_started() {
        let with = |set: &[&str]| missing(|name| set.contains(&name));
        assert_eq!(with(&[]), Missing::Both);
        assert_eq!(with(&[POSTGRES]), Missing::One("cql"));
        assert_eq!(with(&[CQL]), Missing::One("postgres"));
        assert_eq!(with(&[CQL, POSTGRES]), Missing::Nothing);
        assert_eq!(with(&[SERVICES]), Missing::Nothing);
    }
}
