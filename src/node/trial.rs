//! Replays a match in a process of its own before this node does, so that one whose replay ends its
//! process (an abort, an overflown stack, no memory) ends that one and not the node with all its
//! matches.
//!
//! Tried are the matches that are *suspect*: their last owner died before they had run healthily
//! for `recovery.healthy_ms`, be it by their fault or by somebody's `kill -9`. Only a trial tells
//! the two apart. A match that comes through is recovered as any other, however often its owners
//! died; one that ends so many trials as `recovery.attempts` says, in a row, is parked with what
//! they said last.
//!
//! The process is this same executable with a hidden subcommand ([`COMMAND`]). It gets histories on
//! its standard input, one after the other, and says on its standard output how far it is; it opens
//! no store, no socket and no configuration. It replays to the end of the journal and makes the
//! ticks of `recovery.healthy_ms` behind it, with the inputs of house bots alone. A panic is no
//! death: the node survives it, too.
//!
//! `rekindle preflight` has the same processes make whole histories again and compare them
//! ([`comparison`]), so that a match whose replay ends its process ends no command either.
//!
//! Here is the node's side; [`process`] is the trial process's own, `request.rs` what goes from one
//! to the other.

pub mod comparison;
pub mod process;
mod request;

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BuildId, Tick};
use rekindle_store::history::History;
use request::Task;
use rustix::process::Signal;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use crate::config::Config;
use comparison::{Compared, NotCompared};

/// The hidden subcommand that makes this executable a trial process.
pub const COMMAND: &str = "try-replay";
/// This executable, even after another one has been put in its place.
const EXECUTABLE: &str = "/proc/self/exe";
/// What a trial process says begins with this: a game may print, too.
const SAYS: &str = "rekindle-trial ";
/// Of what a trial process says on standard error, so many bytes are kept: the last ones.
const KEPT: usize = 2_048;
/// A trial process says no longer word, in bytes.
const LONGEST: u64 = 1 << 20;
/// In front of what a comparison found out.
const FOUND: &str = "found ";
/// A process of this host that has no time for its ticks is given so many watchdog times.
const PATIENCE: u32 = 4;

/// How matches are tried.
#[derive(Debug, Clone, Copy)]
pub struct TrialOptions {
    /// The build that computes the games.
    pub build: BuildId,
    /// So many deaths in a row are a verdict.
    pub deaths: u32,
    /// For how long a match must run to count as healthy.
    pub healthy_after: Duration,
    /// A tick that takes longer ends a node; zero: never.
    pub watchdog: Duration,
}

impl TrialOptions {
    /// As a node of this configuration and build tries matches.
    pub fn of(config: &Config, build: BuildId) -> Self {
        Self {
            build,
            deaths: config.recovery_attempts,
            healthy_after: config.healthy_after,
            watchdog: config.watchdog,
        }
    }
}

/// What a trial showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The process lives.
    Survived,
    /// So many processes in a row died of it: how the last one did.
    Died(u32, String),
    /// There was no trial: why.
    Untried(String),
}

/// Tries matches, a few at once.
pub struct Trials {
    options: TrialOptions,
    slots: Semaphore,
    /// Processes that wait for the next match.
    idle: Mutex<Vec<Runner>>,
}

impl Trials {
    /// As many at once as this host has cores. Starts no process yet.
    pub fn new(options: TrialOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::at_once(cores, options)
    }

    /// So many at once.
    pub fn at_once(most: usize, options: TrialOptions) -> Self {
        Self { options, slots: Semaphore::new(most), idle: Mutex::default() }
    }

    /// Ends the processes that wait.
    pub fn rest(&self) {
        self.idle.lock().clear();
    }

    /// Tries one match.
    pub async fn of(&self, row: &MatchLease, history: &History) -> Verdict {
        let Ok(_slot) = self.slots.acquire().await else {
            return Verdict::Untried("this node ends".to_owned());
        };
        let ticks = self.options.healthy_after.as_secs_f64() * f64::from(row.spec.tick_rate);
        let task = Task::Play { ticks: (ticks.ceil() as u64).clamp(1, request::MOST_TICKS) };
        let request = match request::encode(row, history, self.options.build, task) {
            Ok(request) => request,
            Err(problem) => return Verdict::Untried(problem),
        };
        let mut deaths = 0;
        loop {
            match self.run(&request, &|_| {}).await {
                Ran::Through(_) => return Verdict::Survived,
                Ran::Not(problem) => return Verdict::Untried(problem),
                Ran::Ended(how) => return Verdict::Untried(how),
                Ran::Died(how) => {
                    deaths += 1;
                    tracing::warn!(
                        code = "RK-NODE-134", match_id = %row.match_id, deaths, how,
                        "a process died of replaying this match"
                    );
                    if deaths >= self.options.deaths {
                        return Verdict::Died(deaths, how);
                    }
                }
            }
        }
    }

    /// Makes a history again in a process of its own and compares it with what was recorded;
    /// `progress` is told ticks. What it counts is for a backtest, if one is wanted.
    pub async fn compare(
        &self,
        row: &MatchLease,
        history: &History,
        backtest: bool,
        progress: &(dyn Fn(Tick) + Sync),
    ) -> Result<Compared, NotCompared> {
        let untried = |problem: &str| NotCompared::Untried(problem.to_owned());
        let _slot = self.slots.acquire().await.map_err(|_| untried("this command ends"))?;
        let task = Task::Compare { backtest };
        let request = request::encode(row, history, self.options.build, task)
            .map_err(NotCompared::Untried)?;
        match self.run(&request, progress).await {
            Ran::Through(Some(found)) => serde_json::from_str(&found)
                .map_err(|error| untried(&format!("its trial process says: {error}"))),
            Ran::Through(None) => Err(untried("its trial process said nothing")),
            Ran::Not(problem) => Err(NotCompared::Untried(problem)),
            Ran::Ended(how) => Err(NotCompared::Untried(how)),
            Ran::Died(how) => Err(NotCompared::Died(how)),
        }
    }

    /// Has one process do what is asked: one that waits, or a new one.
    async fn run(&self, request: &[Bytes], progress: &(dyn Fn(Tick) + Sync)) -> Ran {
        loop {
            let idle = self.idle.lock().pop();
            let runner = match idle {
                Some(runner) => Ok(runner),
                None => Runner::start().await,
            };
            let mut runner = match runner {
                Ok(runner) => runner,
                Err(problem) => return Ran::Not(problem),
            };
            match runner.run(request, self.options.watchdog * PATIENCE, progress).await {
                // One that had waited for long may be gone: that says nothing of this match.
                Ran::Not(_) if !runner.fresh => {}
                Ran::Through(found) => {
                    runner.fresh = false;
                    self.idle.lock().push(runner);
                    return Ran::Through(found);
                }
                other => return other,
            }
        }
    }
}

/// How one replay in a trial process went.
enum Ran {
    /// To its end, and what was found out.
    Through(Option<String>),
    /// It did not even begin: why.
    Not(String),
    /// The process was told to end: the words.
    Ended(String),
    /// The process died: how.
    Died(String),
}

/// A trial process, seen from the node.
struct Runner {
    child: Child,
    /// Requests go there.
    stdin: ChildStdin,
    /// What it says comes from there.
    lines: BufReader<ChildStdout>,
    /// The last bytes that it wrote to standard error.
    errors: Arc<Mutex<VecDeque<u8>>>,
    /// It has not replayed anything yet.
    fresh: bool,
}

impl Runner {
    async fn start() -> Result<Self, String> {
        let mut command = Command::new(EXECUTABLE);
        // In a process group of its own: a Ctrl-C in the node's terminal is meant for the node.
        command
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| format!("no trial process could be started: {error}"))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("a trial process without pipes".to_owned());
        };
        let errors = Arc::<Mutex<VecDeque<u8>>>::default();
        tokio::spawn(keep_last(stderr, Arc::clone(&errors)));
        let mut runner = Self { child, stdin, lines: BufReader::new(stdout), errors, fresh: true };
        match tokio::time::timeout(Duration::from_secs(30), runner.hear()).await {
            Ok(Some(word)) if word == "ready" => Ok(runner),
            _ => Err("this executable does not answer as a trial process".to_owned()),
        }
    }

    /// What the process says next; `None` if it says nothing more.
    async fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match (&mut self.lines).take(LONGEST).read_line(&mut line).await {
                Ok(1..) => {
                    // Behind what a game may have printed without an end of the line.
                    if let Some((_, word)) = line.trim_end().rsplit_once(SAYS) {
                        return Some(word.to_owned());
                    }
                }
                // Bytes that are no text are none of ours.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    async fn run(
        &mut self,
        request: &[Bytes],
        patience: Duration,
        progress: &(dyn Fn(Tick) + Sync),
    ) -> Ran {
        let patience = if patience.is_zero() { Duration::MAX } else { patience };
        for part in request {
            if self.stdin.write_all(part).await.is_err() {
                return self.end(false, "").await;
            }
        }
        if self.stdin.flush().await.is_err() {
            return self.end(false, "").await;
        }
        let mut begun = false;
        let mut found = None;
        let mut at = String::from("before its first tick");
        loop {
            match tokio::time::timeout(patience, self.hear()).await {
                Ok(Some(word)) if word == "done" => return Ran::Through(found),
                Ok(Some(word)) => {
                    begun = true;
                    if let Some(tick) = word.strip_prefix("at ") {
                        at = format!("after tick {tick}");
                        tick.parse().map(Tick).iter().for_each(|&tick| progress(tick));
                    }
                    found = word.strip_prefix(FOUND).map(str::to_owned).or(found);
                }
                Ok(None) => return self.end(begun, &at).await,
                Err(_) => {
                    // It is ours, and it is stopped with the runner.
                    let _ = self.child.start_kill();
                    return Ran::Died(format!(
                        "{at}: it made no tick for {} seconds",
                        patience.as_secs()
                    ));
                }
            }
        }
    }

    /// The process is gone, or will be in a moment.
    async fn end(&mut self, begun: bool, at: &str) -> Ran {
        let status = self.child.wait().await;
        if !begun {
            return Ran::Not("the trial process did not begin".to_owned());
        }
        let how = status.as_ref().map_or_else(ToString::to_string, |&status| in_words(status));
        let told = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT]
            .map(|signal| Some(signal.as_raw()));
        if status.is_ok_and(|status| told.contains(&status.signal())) {
            return Ran::Ended(how);
        }
        let said: Vec<u8> = self.errors.lock().iter().copied().collect();
        let said = String::from_utf8_lossy(&said);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = said.get(said.len().saturating_sub(3)..).unwrap_or_default().join("; ");
        Ran::Died(if last.is_empty() {
            format!("{at}: {how}")
        } else {
            format!("{at}: {how}: {last}")
        })
    }
}

fn in_words(status: ExitStatus) -> String {
    let name = |signal: i32| match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL, as by the kernel when memory is short)",
        11 => " (SIGSEGV)",
        _ => "",
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was ended by signal {signal}{}", name(signal)),
        (None, Some(code)) => format!("it ended with exit code {code}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// Reads to the end and keeps the last bytes.
async fn keep_last(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; 512];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut kept = kept.lock();
        kept.extend(&buffer[..read]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
}
