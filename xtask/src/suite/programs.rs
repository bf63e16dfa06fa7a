//! Test programs, several at a time.
//!
//! `cargo test` runs one test program after the other. Most of those here wait (for processes,
//! disks, servers), so the cores stand idle for most of that time. [`build`] lets cargo make the
//! programs, [`run_all`] runs as many at once as there are cores, each with the directory and
//! the variables that cargo would give it. What a program prints is shown in one piece when it has
//! ended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::unstable::{self, Failed};

/// Programs that take longest are begun first, so that none of them is left over at the end.
const FIRST: [&str; 8] =
    ["it", "race", "suite", "simulation", "regions", "faults", "fence", "model"];
/// Programs that kill the servers which the others use run one by one, at the end.
const ALONE: [&str; 1] = ["kill"];
/// So many programs are named at the end as those that took longest.
const SLOWEST: usize = 8;

/// One test program that cargo has built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Program {
    /// The target's name: `it`, `rekindle_sim`.
    name: String,
    /// The package's name.
    package: String,
    /// Where the package's `Cargo.toml` lies: a test runs in this directory.
    dir: PathBuf,
    path: PathBuf,
}

/// A line of `cargo test --message-format=json`, as far as it is used here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    profile: Option<Profile>,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    package_id: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl Message {
    /// The test program that this line tells of, if it tells of one.
    fn program(self) -> Option<Program> {
        let is_test = self.reason == "compiler-artifact" && self.profile?.test;
        Some(Program {
            name: self.target?.name,
            package: package(&self.package_id, &self.manifest_path),
            dir: self.manifest_path.parent()?.to_path_buf(),
            path: self.executable.filter(|_| is_test)?,
        })
    }
}

/// `path+file:///dir/crates/sim#rekindle-sim@0.1.0` and `path+file:///dir/sim#0.1.0` name packages.
fn package(id: &str, manifest: &Path) -> String {
    let after = id.rsplit_once('#').map_or("", |(_, after)| after);
    match after.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => manifest
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

/// Builds every test program and says which there are.
///
/// # Errors
/// Something does not compile (cargo has printed what), or cargo's answer cannot be read.
pub(super) fn build(cargo_test: &mut Command) -> Result<Vec<Program>> {
    cargo_test.args(["--no-run", "--message-format=json-render-diagnostics"]);
    eprintln!("> {cargo_test:?}");
    let mut cargo = cargo_test
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {cargo_test:?}"))?;
    let lines = cargo.stdout.take().context("cargo has no stdout")?;
    let mut programs = Vec::new();
    for line in BufReader::new(lines).lines() {
        let line = line.context("cannot read what cargo says")?;
        let message: Message = serde_json::from_str(&line)
            .with_context(|| format!("cannot understand what cargo says: {line}"))?;
        programs.extend(message.program());
    }
    let status = cargo.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("{cargo_test:?} ended with {status}");
    }
    Ok(programs)
}

/// Programs in the order in which they are begun, and those that run alone behind them.
fn order(programs: Vec<Program>) -> (VecDeque<Program>, Vec<Program>) {
    let (alone, mut together): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|program| ALONE.contains(&program.name.as_str()));
    together.sort_by_key(|program| {
        FIRST.iter().position(|name| *name == program.name).unwrap_or(FIRST.len())
    });
    (together.into(), alone)
}

/// Something that checks: one of the programs, the doc tests, lints.
pub(super) struct Job {
    /// For people.
    pub(super) name: String,
    pub(super) command: Command,
}

impl Job {
    /// `name`: for people.
    pub(super) fn new(name: impl Into<String>, command: Command) -> Self {
        Self { name: name.into(), command }
    }
}

impl Program {
    /// How it is run: as cargo does, with `variables` besides.
    pub(super) fn job(&self, variables: &[(&str, String)]) -> Job {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.dir)
            .env("CARGO_MANIFEST_DIR", &self.dir)
            .env("CARGO_PKG_NAME", &self.package)
            .envs(variables.iter().map(|(name, value)| (name, value)));
        Job::new(format!("{} of {}", self.name, self.package), command)
    }
}

/// What has run so far.
#[derive(Default)]
struct Ran {
    took: Vec<(Duration, String)>,
    /// What failed, and how.
    failed: Vec<String>,
    /// Test programs among them that name the tests that failed.
    named: Vec<Failed>,
}

/// Runs `programs` with `variables` added to their surroundings, the doc tests beside the last of
/// them, and what else there is, one after the other, beside all of them; output goes to files in
/// `dir` and from there to stdout. A few tests that failed are run again when all else has ended:
/// see [`unstable`].
///
/// # Errors
/// Names what failed.
pub(super) fn run_all(
    programs: Vec<Program>,
    (doc_tests, beside): (Job, Vec<Job>),
    variables: &[(&str, String)],
    dir: &Path,
) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let began = Instant::now();
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let (together, alone) = order(programs);
    let together = Mutex::new(together);
    let ran = Mutex::new(Ran::default());
    let next = || together.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let log = |lane: usize| dir.join(format!("{lane}.log"));
    let run_test = |program: &Program, lane: usize| {
        run_one(program.job(variables), Some(program), &log(lane), &ran);
    };
    thread::scope(|scope| {
        scope.spawn(|| beside.into_iter().for_each(|job| run_one(job, None, &log(cores), &ran)));
        thread::scope(|scope| {
            for lane in 0..cores {
                let (next, run_test) = (&next, &run_test);
                scope.spawn(move || {
                    while let Some(program) = next() {
                        run_test(&program, lane);
                    }
                });
            }
        });
        // Doc tests need no server.
        scope.spawn(|| run_one(doc_tests, None, &log(0), &ran));
        for program in &alone {
            run_test(program, 1);
        }
    });
    let Ran { took, failed, named } = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    say_slowest(took, began.elapsed());
    if failed.is_empty() {
        return Ok(());
    }
    let failures = format!("{} failed:\n{}", failed.len(), failed.join("\n"));
    if !unstable::few(&named, failed.len()) {
        bail!("{failures}");
    }
    match unstable::again(&named, variables, |job| watch(job, &log(0)).0.is_ok()) {
        Ok(tests) => {
            eprintln!(
                "UNSTABLE: {}: failed beside other tests (see above) and passed alone; to be \
                 mended all the same",
                tests.join(", ")
            );
            Ok(())
        }
        Err(test) => bail!("{failures}\n{test} fails alone, too"),
    }
}

/// Runs `job` with its output in `log`, prints that, and notes the outcome; `program` is what it
/// runs, if that is a test program.
fn run_one(job: Job, program: Option<&Program>, log: &Path, ran: &Mutex<Ran>) {
    let began = Instant::now();
    let name = job.name.clone();
    let (outcome, said) = watch(job, log);
    let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
    ran.took.push((began.elapsed(), name));
    if let Err(error) = outcome {
        ran.failed.push(format!("{error:#}"));
        ran.named.extend(program.and_then(|program| Failed::new(program, &said)));
    }
}

/// Whether a job passes, and what it says, which is printed.
fn watch(job: Job, log: &Path) -> (Result<()>, String) {
    match run_logged(job, log) {
        Ok((outcome, said)) => (outcome, said),
        Err(error) => (Err(error), String::new()),
    }
}

fn run_logged(mut job: Job, log: &Path) -> Result<(Result<()>, String)> {
    let began = Instant::now();
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().context("cannot duplicate a file")?;
    let status = job
        .command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .with_context(|| format!("cannot start {:?}", job.command))?;
    let said = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut out = std::io::stdout().lock();
    let took = began.elapsed().as_secs_f64();
    writeln!(out, "\n     Ran {} in {took:.1} s", job.name)
        .and_then(|()| out.write_all(&said))
        .and_then(|()| out.flush())
        .context("cannot print what a test said")?;
    let outcome = if status.success() {
        Ok(())
    } else {
        Err(anyhow!("{}: {status} ({})", job.name, job.command.get_program().display()))
    };
    Ok((outcome, String::from_utf8_lossy(&said).into_owned()))
}

/// So that whoever makes a test knows what it costs.
fn say_slowest(mut took: Vec<(Duration, String)>, all: Duration) {
    took.sort_unstable_by(|one, other| other.cmp(one));
    let slowest: Vec<_> = took
        .iter()
        .take(SLOWEST)
        .map(|(took, name)| format!("{name} {} s", took.as_secs()))
        .collect();
    eprintln!("{} programs ran in {} s: {}", took.len(), all.as_secs(), slowest.join(", "));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(name: &str) -> Program {
        let path = PathBuf::from(name);
        Program { name: name.to_owned(), package: "p".to_owned(), dir: path.clone(), path }
    }

    #[test]
    fn cargo_names_its_test_programs() {
        let read = |text: &str| serde_json::from_str::<Message>(text).unwrap().program();
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///w/tests#it-tests@0.1.0",
            "manifest_path":"/w/tests/Cargo.toml","target":{"name":"it"},
            "profile":{"test":true},"executable":"/w/target/it-1"}"#;
        let found = read(line).unwrap();
        assert_eq!((found.name.as_str(), found.package.as_str()), ("it", "it-tests"));
        assert_eq!(found.dir, Path::new("/w/tests"));
        assert_eq!(found.path, Path::new("/w/target/it-1"));
        assert_eq!(read(&line.replace("true", "false")), None, "a library");
        assert_eq!(read(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(
            package("path+file:///w/crates/door#0.1.0", Path::new("/w/door/Cargo.toml")),
            "door"
        );
    }

    #[test]
    fn long_programs_are_begun_first_and_those_that_kill_servers_run_last() {
        let names = ["a", "kill", "simulation", "b", "it"];
        let (together, alone) = order(names.map(program).to_vec());
        assert_eq!(Vec::from(together), ["it", "simulation", "a", "b"].map(program));
        assert_eq!(alone, [program("kill")]);
    }

    #[test]
    fn a_program_that_fails_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let shell = |name: &str, path: &str| Program {
            name: name.to_owned(),
            package: "p".to_owned(),
            dir: dir.path().to_path_buf(),
            path: PathBuf::from(path),
        };
        let logs = dir.path().join("logs");
        let run = |programs: &[&str], doc_tests: &str, lints: &str| {
            let programs = programs.iter().map(|name| shell(name, &format!("/bin/{name}")));
            let doc_tests = Job::new("the doc tests", Command::new(doc_tests));
            let lints = Job::new("the lints", Command::new(lints));
            run_all(programs.collect(), (doc_tests, vec![lints]), &[], &logs)
        };
        run(&["true"], "/bin/true", "/bin/true").unwrap();
        for (programs, doc_tests, lints, named) in [
            (&["true", "false"][..], "/bin/true", "/bin/true", "false of p"),
            (&["true"], "/bin/false", "/bin/true", "the doc tests"),
            (&["true"], "/bin/true", "/bin/false", "the lints"),
        ] {
            let error = run(programs, doc_tests, lints).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("true of p"), "{error}");
        }
    }

    /// A test program whose tests fail the first so many times that they run.
    fn shaky(dir: &Path, name: &str, times: usize, tests: &[&str]) -> Program {
        let lines: Vec<_> = tests.iter().map(|test| format!("    {test}")).collect();
        let list = lines.join("\n");
        let script = format!(
            "#!/bin/sh\necho x >> {name}.runs\n[ $(wc -l < {name}.runs) -gt {times} ] && exit 0\n\
             printf '\\nfailures:\\n\\nfailures:\\n%s\\n\\ntest result: FAILED' '{list}'\nexit 101\n"
        );
        let path = dir.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Program { path, dir: dir.to_path_buf(), ..program(name) }
    }

    #[test]
    fn a_few_tests_that_pass_alone_fail_no_suite_and_all_others_do() {
        let run = |times: usize, tests: &[&str], besides: &str| {
            let dir = tempfile::tempdir().unwrap();
            let shaky = shaky(dir.path(), "shaky", times, tests);
            let doc_tests = Job::new("the doc tests", Command::new(besides));
            run_all(vec![shaky], (doc_tests, Vec::new()), &[], &dir.path().join("logs"))
                .map_err(|error| error.to_string())
        };
        run(0, &[], "/bin/true").unwrap();
        run(1, &["made_to_fail::one"], "/bin/true").unwrap();
        run(1, &["made_to_fail::one", "made_to_fail::two"], "/bin/true").unwrap();
        for (times, tests, besides, words) in [
            (2, &["made_to_fail::one"][..], "/bin/true", "one fails alone, too"),
            (
                1,
                &["made_to_fail::one", "made_to_fail::two", "made_to_fail::three"],
                "/bin/true",
                "1 failed",
            ),
            (1, &[], "/bin/true", "1 failed"),
            (1, &["made_to_fail::one"], "/bin/false", "2 failed"),
        ] {
            let error = run(times, tests, besides).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
